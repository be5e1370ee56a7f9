//! Replies that do not come from the upstream, shaped as Envoy shapes them (`Utility::
//! prepareLocalReply`).

use crate::headers::{HeaderMap, Headers, Kind};

/// A reply before it is shaped for the request that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    /// What the filter says of it to the proxy's log (Envoy's response code details).
    pub(crate) details: Vec<u8>,
    /// For a gRPC request, in place of the code that the HTTP status maps to.
    pub(crate) grpc_status: Option<u32>,
}

impl LocalReply {
    pub(crate) fn new(status: u32, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            details: Vec::new(),
            grpc_status: None,
        }
    }

    /// Headers and body of the response; no body is `None`.
    pub(crate) fn shape(
        &self,
        grpc_request: bool,
        head_request: bool,
    ) -> (HeaderMap, Option<Vec<u8>>) {
        let mut map = HeaderMap::new(Kind::Response, Vec::new());
        map.add(b":status", self.status.to_string().as_bytes());
        for (name, value) in &self.headers {
            map.add(name, value);
        }
        if grpc_request {
            self.shape_for_grpc(&mut map, head_request);
            return (map, None);
        }
        if self.body.is_empty() {
            map.remove(b"content-length");
            map.remove(b"content-type");
            return (map, None);
        }
        map.replace(b"content-length", self.body.len().to_string().as_bytes());
        if map.get(b"content-type").is_none() {
            map.add(b"content-type", b"text/plain");
        }
        (map, (!head_request).then(|| self.body.clone()))
    }

    /// A gRPC client gets a trailers-only response: status 200, the error in its headers.
    fn shape_for_grpc(&self, map: &mut HeaderMap, head_request: bool) {
        map.replace(b":status", b"200");
        map.replace(b"content-type", b"application/grpc");
        if map.get(b"grpc-status").is_none() {
            let status = self.grpc_status.unwrap_or_else(|| grpc_status(self.status));
            map.add(b"grpc-status", status.to_string().as_bytes());
        }
        if !self.body.is_empty() && !head_request {
            map.replace(b"grpc-message", &percent_encode(&self.body));
        }
        map.remove(b"content-length");
    }
}

/// The gRPC code for an HTTP status (grpc/doc/http-grpc-status-mapping.md).
const fn grpc_status(http: u32) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Percent-encoding of a gRPC message (gRPC over HTTP/2, `Status-Message`).
fn percent_encode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        if (b' '..b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

/// Whether a request is gRPC by its content type.
pub(crate) fn is_grpc(content_type: Option<&[u8]>) -> bool {
    content_type
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

/// Whether a response with this status has no body by its nature (RFC 9110, section 6.4.1).
pub(crate) fn is_bodyless(status: &[u8]) -> bool {
    status.starts_with(b"1") || status == b"204" || status == b"304"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::headers;

    #[test]
    fn a_body_brings_its_length_and_a_content_type() {
        let (map, body) = LocalReply::new(403, "no").shape(false, false);
        assert_eq!(
            map.entries(),
            &headers([
                (":status", "403"),
                ("content-length", "2"),
                ("content-type", "text/plain")
            ])
        );
        assert_eq!(body.as_deref(), Some(b"no".as_slice()));
    }

    #[test]
    fn a_content_type_is_kept_with_a_body_and_removed_without_one() {
        let mut reply = LocalReply::new(401, "{}");
        reply.headers = headers([
            ("Content-Type", "application/json"),
            ("content-length", "9"),
        ]);
        let (map, _) = reply.shape(false, false);
        assert_eq!(
            map.get(b"content-type"),
            Some(b"application/json".as_slice())
        );
        assert_eq!(map.get(b"content-length"), Some(b"2".as_slice()));
        reply.body.clear();
        let (map, body) = reply.shape(false, false);
        assert_eq!(map.entries(), &headers([(":status", "401")]));
        assert_eq!(body, None);
    }

    #[test]
    fn head_gets_the_length_and_no_body() {
        let (map, body) = LocalReply::new(404, "gone").shape(false, true);
        assert_eq!(map.get(b"content-length"), Some(b"4".as_slice()));
        assert_eq!(body, None);
    }

    #[test]
    fn grpc_gets_trailers_only() {
        let (map, body) = LocalReply::new(401, "who? 100%\n").shape(true, false);
        assert_eq!(
            map.entries(),
            &headers([
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", "16"),
                ("grpc-message", "who? 100%25%0A"),
            ])
        );
        assert_eq!(body, None);
        assert!(is_grpc(Some(b"application/grpc+proto")));
        assert!(!is_grpc(Some(b"application/grpc-web")));
    }
}
