//! HTTP/1.1 as a client reads it.

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
    time::Duration,
};

use crate::scenario::{GENERATED, Got};

/// Reads a response as a client that closes its connection afterwards.
pub(crate) fn response(stream: &mut TcpStream, method: &str, patience: Duration) -> Got {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut bytes = Vec::new();
    loop {
        if let Some(got) = parse(&bytes, method, false) {
            return got;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return parse(&bytes, method, true).unwrap_or(Got::Broken),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Got::Nothing;
            }
            Err(_) => return Got::Broken,
        }
    }
}

/// The response, if it is complete.
fn parse(bytes: &[u8], method: &str, closed: bool) -> Option<Got> {
    let text = String::from_utf8_lossy(bytes);
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let find = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    let length = find("content-length").and_then(|length| length.parse().ok());
    let body = if method == "HEAD" || status == 204 || status == 304 {
        String::new()
    } else if find("transfer-encoding").is_some() {
        dechunk(rest)?
    } else {
        match length {
            Some(length) => rest.get(..length)?.to_owned(),
            None if closed => rest.to_owned(),
            None => return None,
        }
    };
    // A message without a body gets this one on the wire, not in the filter chain.
    headers.retain(|(n, value)| {
        !GENERATED.contains(&n.as_str()) && (n != "content-length" || value != "0")
    });
    headers.sort();
    Some(Got::Response {
        status,
        headers,
        body,
    })
}

pub(crate) fn dechunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return (after == "\r\n" || after.ends_with("\r\n\r\n")).then_some(body);
        }
        body += after.get(..size)?;
        rest = after.get(size + 2..)?;
    }
}
