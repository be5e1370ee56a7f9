//! Requests as they go over the wire, and as a filter behind Envoy is shown them.

use std::net::{IpAddr, SocketAddr};

use crate::case::{Protocol, Request};

pub mod h1;
pub mod h2;
pub mod hpack;
mod huffman;
pub mod stream;

/// A header field: name and value.
pub type Field = (Vec<u8>, Vec<u8>);

/// A request as our clients write it: everything is spelled out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message {
    /// `:method`.
    pub method: Option<Vec<u8>>,
    /// `:path`, or the target of the request line.
    pub path: Option<Vec<u8>>,
    /// `:authority`, or `Host`.
    pub host: Option<Vec<u8>>,
    /// All other fields with their framing (Content-Length, Transfer-Encoding), in order.
    pub headers: Vec<Field>,
    /// The body in pieces; `None`: there is none, and no framing.
    pub body: Option<Vec<Vec<u8>>>,
    /// Trailers.
    pub trailers: Vec<Field>,
}

impl Message {
    /// What our client for that protocol writes for a request.
    ///
    /// HTTP/1.1 frames a body by Content-Length, or by chunks where the case says so, unless the
    /// case brings a framing of its own; HTTP/2 needs neither.
    pub fn new(request: &Request, protocol: Protocol) -> Self {
        let bytes = |octets: &Option<crate::Octets>| octets.as_ref().map(|o| o.as_bytes().to_vec());
        let fields = |pairs: &[(crate::Octets, crate::Octets)]| -> Vec<Field> {
            let field = |(name, value): &(crate::Octets, crate::Octets)| {
                (name.as_bytes().to_vec(), value.as_bytes().to_vec())
            };
            pairs.iter().map(field).collect()
        };
        let mut message = Self {
            method: bytes(&request.method),
            path: bytes(&request.path),
            host: bytes(&request.host),
            headers: fields(&request.headers),
            body: request.body.as_ref().map(|body| {
                body.pieces
                    .iter()
                    .map(|piece| piece.as_bytes().to_vec())
                    .collect()
            }),
            trailers: fields(&request.trailers),
        };
        if let Some(body) = &request.body
            && protocol == Protocol::H1
            && !message.has("content-length")
            && !message.has("transfer-encoding")
        {
            let (name, value) = if body.chunked {
                ("transfer-encoding", "chunked".to_owned())
            } else {
                ("content-length", body.concat().len().to_string())
            };
            message.headers.push((name.into(), value.into()));
        }
        message
    }

    /// Whether a field has this name, in whatever case.
    pub fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether HTTP/1.1 writes the body in chunks.
    pub fn is_chunked(&self) -> bool {
        self.has("transfer-encoding")
    }
}

/// A request as Envoy shows it to its first filter.
///
/// It models what the Envoy of the Envoy ring does with requests that it accepts: names in lower
/// case, outer blanks of values trimmed, several values of one of Envoy's inline headers joined,
/// hop-by-hop fields taken out, an upgrade in the one form of HTTP/1.1, and no address but that in
/// `x-forwarded-for`. The Envoy ring proves it: there the same expectations hold without the model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// Pseudo-headers first.
    pub headers: Vec<Field>,
    /// The body in pieces.
    pub body: Vec<Vec<u8>>,
    /// Trailers.
    pub trailers: Vec<Field>,
    /// Whether nothing follows the headers.
    pub end_of_stream: bool,
    client: Option<IpAddr>,
}

/// Headers of which Envoy 1.40 keeps one field, joining further values by a comma.
const INLINE: &[&str] = &[
    ":authority",
    "accept",
    "accept-encoding",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "if-none-match",
    "origin",
    "referer",
    "upgrade",
    "user-agent",
    "via",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Fields between two hops, which no filter sees.
const HOP_BY_HOP: &[&str] = &["connection", "keep-alive", "te", "transfer-encoding"];

const REQUEST_ID: &str = "5f0a3b5e-4f63-4f8e-9a6e-0d9a7a1c2b3d";

impl Arrival {
    /// What becomes of a request on its way through Envoy's codec and connection manager.
    pub fn new(request: &Request, protocol: Protocol) -> Self {
        let mut message = Message::new(request, protocol);
        to_h1_upgrade(&mut message);
        let upgrades = message.has("upgrade");
        let nominated = nominated(&message.headers);
        let mut headers: Vec<Field> = Vec::new();
        let pseudo = [
            (":authority", &message.host),
            (":path", &message.path),
            (":method", &message.method),
        ];
        for (name, value) in pseudo {
            if let Some(value) = value {
                headers.push((name.into(), value.clone()));
            }
        }
        headers.push((":scheme".into(), "http".into()));
        for (name, value) in &message.headers {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let value = value.trim_ascii();
            let dropped = match name.as_str() {
                "connection" => !upgrades,
                "expect" => value.eq_ignore_ascii_case(b"100-continue"),
                "host" => protocol == Protocol::H2 && message.host.is_some(),
                name => HOP_BY_HOP.contains(&name) || nominated.iter().any(|n| n == name),
            };
            if !dropped {
                let name = if name == "host" { ":authority" } else { &name };
                append(&mut headers, name, value);
            }
        }
        for (name, value) in [("x-forwarded-proto", "http"), ("x-request-id", REQUEST_ID)] {
            if !headers.iter().any(|(n, _)| n == name.as_bytes()) {
                headers.push((name.into(), value.into()));
            }
        }
        // Over HTTP/1.1 a tunnel has no end that could be seen.
        let tunnel =
            protocol == Protocol::H1 && (upgrades || message.method.as_deref() == Some(b"CONNECT"));
        let no_body = match &message.body {
            None => true,
            // HTTP/1.1 can say that nothing follows, HTTP/2 says so by an empty frame.
            Some(_) => message
                .headers
                .iter()
                .any(|(name, value)| name.eq_ignore_ascii_case(b"content-length") && value == b"0"),
        };
        Self {
            client: client(&headers),
            headers,
            body: message.body.unwrap_or_default(),
            trailers: message.trailers,
            end_of_stream: no_body && !tunnel,
        }
    }
}

impl Arrival {
    /// What Envoy's attribute `source.address` says; `None` where it names no address but a Unix
    /// socket.
    pub fn source_address(&self) -> Option<String> {
        self.client
            .map(|address| SocketAddr::new(address, 0).to_string())
    }
}

/// Adds a field as Envoy's header map does.
fn append(headers: &mut Vec<Field>, name: &str, value: &[u8]) {
    let first = headers.iter_mut().find(|(n, _)| n == name.as_bytes());
    match first.filter(|_| INLINE.contains(&name)) {
        Some((_, first)) => {
            first.push(b',');
            first.extend_from_slice(value);
        }
        None => headers.push((name.into(), value.to_vec())),
    }
}

/// The fields that `Connection` names: they end at this hop (RFC 9110, 7.6.1).
fn nominated(headers: &[Field]) -> Vec<String> {
    let named = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    named
        .map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase())
        .collect::<Vec<_>>()
        .join(",")
        .split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| name != "upgrade")
        .collect()
}

/// Extended CONNECT (RFC 8441) in the form of HTTP/1.1, which is what Envoy's filters see.
fn to_h1_upgrade(message: &mut Message) {
    let at = message
        .headers
        .iter()
        .position(|(name, _)| name == b":protocol");
    if let Some(at) = at
        && message.method.as_deref() == Some(b"CONNECT")
    {
        let (_, protocol) = message.headers.remove(at);
        message.method = Some(b"GET".to_vec());
        message.headers.push(("upgrade".into(), protocol));
        message
            .headers
            .push(("connection".into(), "upgrade".into()));
    }
}

/// The last address of `x-forwarded-for`, which is whom an Envoy without trusted hops believes.
fn client(headers: &[Field]) -> Option<IpAddr> {
    let (_, value) = headers
        .iter()
        .find(|(name, _)| name == b"x-forwarded-for")?;
    str::from_utf8(value)
        .ok()?
        .rsplit(',')
        .next()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::Octets;

    fn request(method: &str, path: Option<&str>, headers: &[(&str, &str)]) -> Request {
        Request {
            method: Some(method.into()),
            path: path.map(Octets::from),
            host: Some("a.example".into()),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            body: None,
            trailers: Vec::new(),
            raw: None,
        }
    }

    fn values(arrival: &Arrival, name: &str) -> Vec<String> {
        let named = arrival.headers.iter().filter(|(n, _)| n == name.as_bytes());
        named
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    #[test]
    fn inline_headers_are_joined_and_others_are_not() {
        let headers = [
            ("Authorization", " a "),
            ("authorization", "b"),
            ("x-a", "1"),
            ("X-A", "2"),
        ];
        let arrival = Arrival::new(&request("GET", Some("/"), &headers), Protocol::H1);
        assert_eq!(values(&arrival, "authorization"), ["a,b"]);
        assert_eq!(values(&arrival, "x-a"), ["1", "2"]);
        assert_eq!(values(&arrival, ":authority"), ["a.example"]);
        assert!(arrival.end_of_stream);
    }

    #[test]
    fn hop_by_hop_fields_end() {
        let headers = [
            ("connection", "Authorization, x-a"),
            ("authorization", "a"),
            ("x-a", "1"),
            ("te", "x"),
        ];
        let arrival = Arrival::new(&request("GET", Some("/"), &headers), Protocol::H1);
        for name in ["connection", "authorization", "x-a", "te"] {
            assert_eq!(values(&arrival, name), [""; 0], "{name}");
        }
    }

    #[test]
    fn an_upgrade_has_one_form() {
        let h1 = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let h1 = Arrival::new(&request("GET", Some("/"), &h1), Protocol::H1);
        let h2 = [(":protocol", "websocket")];
        let h2 = Arrival::new(&request("CONNECT", Some("/"), &h2), Protocol::H2);
        for arrival in [&h1, &h2] {
            assert_eq!(values(arrival, ":method"), ["GET"]);
            assert_eq!(values(arrival, "upgrade"), ["websocket"]);
        }
        assert!(!h1.end_of_stream && h2.end_of_stream);
        assert!(!Arrival::new(&request("CONNECT", None, &[]), Protocol::H1).end_of_stream);
    }

    #[test]
    fn the_last_forwarded_address_is_the_clients() {
        let source = |value: &str| {
            let request = request("GET", Some("/"), &[("x-forwarded-for", value)]);
            Arrival::new(&request, Protocol::H1).source_address()
        };
        assert_eq!(
            source("192.0.2.1, 198.51.100.4").as_deref(),
            Some("198.51.100.4:0")
        );
        assert_eq!(source("2001:db8::1").as_deref(), Some("[2001:db8::1]:0"));
        assert_eq!(source("nonsense"), None);
        assert_eq!(source("192.0.2.1:80"), None);
    }

    #[test]
    fn bodies_are_framed_where_the_protocol_needs_it() {
        let mut request = request("POST", Some("/"), &[]);
        request.body = Some(crate::Body {
            pieces: vec!["ab".into(), "c".into()],
            chunked: false,
        });
        let message = Message::new(&request, Protocol::H1);
        assert_eq!(
            message.headers,
            [(b"content-length".to_vec(), b"3".to_vec())]
        );
        assert_eq!(Message::new(&request, Protocol::H2).headers, []);
        assert!(!Arrival::new(&request, Protocol::H1).end_of_stream);
        request.body = Some(crate::Body {
            pieces: vec!["".into()],
            chunked: false,
        });
        assert!(
            Arrival::new(&request, Protocol::H1).end_of_stream,
            "Content-Length: 0"
        );
        assert!(
            !Arrival::new(&request, Protocol::H2).end_of_stream,
            "an empty DATA frame"
        );
    }
}
