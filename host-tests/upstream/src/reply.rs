//! What a request is answered with.

use std::time::Duration;

use crate::json;
use crate::request::{Request, is_token};

/// What happens on the connection next.
#[derive(Debug)]
pub(crate) enum Answer {
    /// These bytes, then whatever the client sends.
    Echo(Vec<u8>),
    Reply(Reply),
    Reset,
}

#[derive(Debug)]
pub(crate) struct Reply {
    /// How long to wait first.
    pub(crate) after: Duration,
    pub(crate) bytes: Vec<u8>,
    /// Whether the connection ends with it.
    pub(crate) close: bool,
}

pub(crate) fn answer(request: &Request) -> Answer {
    let wishes = match Wishes::read(request) {
        Ok(Some(wishes)) => wishes,
        Ok(None) => return Answer::Reset,
        Err(why) => {
            return Answer::Reply(Reply {
                after: Duration::ZERO,
                bytes: refusal(400, why),
                close: true,
            });
        }
    };
    if let Some(protocol) = upgrade(request) {
        let head = format!(
            "HTTP/1.1 101 {}\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n",
            phrase(101)
        );
        return Answer::Echo(head.into_bytes());
    }
    let close = request.head.closes();
    let mut bytes =
        format!("HTTP/1.1 {} {}\r\n", wishes.status, phrase(wishes.status)).into_bytes();
    for (name, value) in wishes.headers {
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    if close {
        bytes.extend_from_slice(b"connection: close\r\n");
    }
    // RFC 9110 section 6.4.1: these never have content; a HEAD has the fields of its GET.
    if matches!(wishes.status, 204 | 304) {
        bytes.extend_from_slice(b"\r\n");
    } else {
        let body = seen(request);
        bytes.extend_from_slice(
            format!(
                "content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        if request.head.method != "HEAD" {
            bytes.extend_from_slice(body.as_bytes());
        }
    }
    Answer::Reply(Reply {
        after: wishes.delay,
        bytes,
        close,
    })
}

/// The reply to what is no request; the connection ends with it.
pub(crate) fn refusal(status: u16, why: &str) -> Vec<u8> {
    let mut body = String::from(r#"{"upstream":"portcullis-demo","error":"#);
    json::push_string(&mut body, why.as_bytes());
    body.push('}');
    format!(
        "HTTP/1.1 {status} {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        phrase(status),
        body.len(),
    )
    .into_bytes()
}

/// What the `x-upstream-*` headers ask for.
struct Wishes<'a> {
    status: u16,
    delay: Duration,
    headers: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Wishes<'a> {
    /// `None` for a reset; the error says which header is wrong.
    fn read(request: &'a Request) -> Result<Option<Self>, &'static str> {
        let mut status = 200;
        if let Some(value) = request.head.all("x-upstream-reply").last() {
            if value == b"reset" {
                return Ok(None);
            }
            status = decimal(value)
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| value.len() == 3 && (200..600).contains(number))
                .ok_or("x-upstream-reply takes a status from 200 to 599, or `reset`")?;
        }
        let mut delay = Duration::ZERO;
        if let Some(value) = request.head.all("x-upstream-delay").last() {
            let milliseconds = decimal(value)
                .filter(|number| *number <= 60_000)
                .ok_or("x-upstream-delay takes milliseconds, at most 60000")?;
            delay = Duration::from_millis(milliseconds);
        }
        let mut headers = Vec::new();
        for pair in request.head.all("x-upstream-header") {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
                return Err("x-upstream-header takes name=value");
            };
            if !is_token(name)
                || FRAMING
                    .iter()
                    .any(|framing| name.eq_ignore_ascii_case(framing))
            {
                return Err(
                    "x-upstream-header takes the name of a header that does not frame the message",
                );
            }
            headers.push((name, value));
        }
        Ok(Some(Self {
            status,
            delay,
            headers,
        }))
    }
}

/// Setting one of these would break the message that they describe.
const FRAMING: [&[u8]; 4] = [
    b"connection",
    b"content-length",
    b"transfer-encoding",
    b"upgrade",
];

fn upgrade(request: &Request) -> Option<&'static str> {
    ["echo", "websocket"].into_iter().find(|protocol| {
        request.head.lists("connection", "upgrade") && request.head.lists("upgrade", protocol)
    })
}

fn seen(request: &Request) -> String {
    let mut out = String::from(r#"{"upstream":"portcullis-demo","method":"#);
    json::push_string(&mut out, request.head.method.as_bytes());
    out.push_str(",\"path\":");
    json::push_string(&mut out, &request.head.target);
    out.push_str(",\"headers\":");
    json::push_pairs(&mut out, &request.head.headers);
    out.push_str(",\"body\":");
    json::push_string(&mut out, &request.body);
    out.push_str(",\"trailers\":");
    json::push_pairs(&mut out, &request.trailers);
    out.push_str("}\n");
    out
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = str::from_utf8(digits).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

const fn phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // RFC 9112 section 4: a client ignores the phrase, and it may be empty.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Head;

    fn reply(text: &str) -> Reply {
        let mut bytes = text.as_bytes();
        let head = Head::read(&mut bytes).unwrap().unwrap();
        match answer(&head.read_body(&mut bytes).unwrap().unwrap()) {
            Answer::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn text(reply: &Reply) -> &str {
        str::from_utf8(&reply.bytes).unwrap()
    }

    #[test]
    fn tells_what_it_saw() {
        let reply = reply(
            "PUT /a?b=\"c\" HTTP/1.1\r\nX-A:  é\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: u\r\n\r\n",
        );
        let (_, body) = text(&reply).split_once("\r\n\r\n").unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"upstream":"portcullis-demo","method":"PUT","path":"/a?b=\"c\"","#,
                r#""headers":[["x-a","\u00c3\u00a9"],["transfer-encoding","chunked"]],"#,
                r#""body":"hi","trailers":[["x-t","u"]]}"#,
                "\n"
            )
        );
        assert!(!reply.close);
    }

    #[test]
    fn obeys_its_headers() {
        let reply = reply(
            "GET / HTTP/1.1\r\nx-upstream-reply: 503\r\nx-upstream-delay: 20\r\nx-upstream-header: retry-after=7\r\nx-upstream-header: x-a=b=c\r\nconnection: close\r\n\r\n",
        );
        assert!(text(&reply).starts_with(
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\nx-a: b=c\r\nconnection: close\r\n"
        ));
        assert_eq!(
            (reply.after, reply.close),
            (Duration::from_millis(20), true)
        );
    }

    #[test]
    fn says_which_wish_is_wrong() {
        for (header, word) in [
            ("x-upstream-reply: 99", "x-upstream-reply"),
            ("x-upstream-reply: +20", "x-upstream-reply"),
            ("x-upstream-reply: 0200", "x-upstream-reply"),
            ("x-upstream-delay: 60001", "x-upstream-delay"),
            ("x-upstream-delay: ", "x-upstream-delay"),
            ("x-upstream-header: a", "name=value"),
            ("x-upstream-header: content-length=1", "frame"),
            ("x-upstream-header: a b=1", "frame"),
        ] {
            let reply = reply(&format!("GET / HTTP/1.1\r\n{header}\r\n\r\n"));
            assert!(
                text(&reply).starts_with("HTTP/1.1 400 ") && text(&reply).contains(word),
                "{header}"
            );
            assert!(reply.close);
        }
    }

    #[test]
    fn head_204_and_304_have_no_body() {
        let head = reply("HEAD / HTTP/1.1\r\n\r\n");
        assert!(text(&head).contains("content-length: ") && text(&head).ends_with("\r\n\r\n"));
        for status in ["204", "304"] {
            let reply = reply(&format!(
                "GET / HTTP/1.1\r\nx-upstream-reply: {status}\r\n\r\n"
            ));
            assert!(!text(&reply).contains("content-") && text(&reply).ends_with("\r\n\r\n"));
        }
    }
}
