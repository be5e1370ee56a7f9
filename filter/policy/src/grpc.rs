//! What a refusal is to a caller that speaks gRPC.
//!
//! A gRPC client takes no HTTP status for an answer: a refusal is a response with status 200 whose
//! headers are its trailers ("Trailers-Only" in gRPC over HTTP/2). gRPC-Web, made for clients that
//! can't read trailers, has them at the end of the body.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::request::{Head, One};

/// Which of the gRPC protocols a request speaks, by its content type
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Grpc {
    /// gRPC over HTTP/2: `application/grpc`
    Http2,
    /// gRPC-Web: `application/grpc-web`
    Web,
    /// gRPC-Web whose bodies are in Base64: `application/grpc-web-text`
    WebText,
}

impl Grpc {
    /// The protocol of a request; `None`: it is not gRPC
    ///
    /// As Envoy tells, which makes trailers-only replies of its own for the same requests: by the
    /// type alone or with a `+` behind it, whatever the method, and never for CONNECT, where 200
    /// would open a tunnel.
    pub(crate) fn of(head: &Head<'_>) -> Option<Self> {
        let One::Once(media) = head.content_type else {
            return None;
        };
        let rest = media.strip_prefix(b"application/grpc")?;
        let (protocol, rest) = if let Some(rest) = rest.strip_prefix(b"-web-text") {
            (Self::WebText, rest)
        } else if let Some(rest) = rest.strip_prefix(b"-web") {
            (Self::Web, rest)
        } else {
            (Self::Http2, rest)
        };
        let has_type = matches!(rest.first(), None | Some(b'+'));
        let is_call = head.path.is_some() && head.method != b"CONNECT";
        (has_type && is_call).then_some(protocol)
    }

    /// The content type of a reply
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Http2 => "application/grpc",
            Self::Web => "application/grpc-web+proto",
            Self::WebText => "application/grpc-web-text+proto",
        }
    }

    /// The body of a reply that holds nothing but its trailers
    ///
    /// In gRPC-Web that is one frame (PROTOCOL-WEB.md): a byte 0x80, the length in four bytes, and
    /// the trailers as lines of HTTP/1.1.
    pub(crate) fn body(self, code: u8, message: &str) -> Vec<u8> {
        if self == Self::Http2 {
            return Vec::new();
        }
        let mut digits = itoa::Buffer::new();
        let lines = [
            "grpc-status:",
            digits.format(code),
            "\r\ngrpc-message:",
            &percent_encode(message),
            "\r\n",
        ]
        .concat();
        let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let frame = [&[0x80], &length.to_be_bytes()[..], lines.as_bytes()].concat();
        if self == Self::WebText {
            base64(&frame)
        } else {
            frame
        }
    }
}

/// The gRPC code for a reply with this HTTP status
///
/// gRPC's `http-grpc-status-mapping.md` says what a client makes of an answer that is no gRPC. It
/// holds here for 401, 403, 404 and 503. Elsewhere our statuses mean something that gRPC has a better word
/// for: 400 is the caller's fault (`INVALID_ARGUMENT`, not `INTERNAL`), 405 and 415 are what no
/// service here does (`UNIMPLEMENTED`, not `UNKNOWN`), 413 and 429 are a limit that is met
/// (`RESOURCE_EXHAUSTED`; `UNAVAILABLE` would have clients try again at once).
pub(crate) fn code(status: u16) -> u8 {
    match status {
        200 => 0,
        400 | 422 => 3,
        401 => 16,
        403 => 7,
        404 | 405 | 415 => 12,
        413 | 429 => 8,
        _ => 14,
    }
}

/// Percent-encoding of a `grpc-message` (gRPC over HTTP/2, "Responses")
pub(crate) fn percent_encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |&d| d.into());
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(byte.into());
        } else {
            encoded.push('%');
            encoded.push(digit(byte >> 4));
            encoded.push(digit(byte & 15));
        }
    }
    encoded
}

/// Milliseconds for `grpc-retry-pushback-ms` (gRPC proposal A6), from whole seconds
pub(crate) fn pushback(seconds: u64) -> String {
    seconds.saturating_mul(1000).to_string()
}

/// Base64 with padding (RFC 4648, section 4)
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = Vec::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for group in bytes.chunks(3) {
        let byte = |at: usize| group.get(at).copied().unwrap_or_default();
        let bits = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::try_from(bits >> shift & 63).unwrap_or_default();
            // A group of n bytes has n + 1 digits.
            let padded = at > group.len();
            encoded.push(if padded {
                b'='
            } else {
                DIGITS.get(digit).copied().unwrap_or(b'=')
            });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grpc(method: &str, path: Option<&str>, media: &[&str]) -> Option<Grpc> {
        let mut headers = std::vec![(b":method".as_slice(), method.as_bytes())];
        headers.extend(path.map(|path| (b":path".as_slice(), path.as_bytes())));
        headers.extend(
            media
                .iter()
                .map(|media| (b"content-type".as_slice(), media.as_bytes())),
        );
        Grpc::of(&Head::scan(&headers))
    }

    #[test]
    fn the_content_type_tells() {
        for (media, expected) in [
            ("application/grpc", Some(Grpc::Http2)),
            ("application/grpc+proto", Some(Grpc::Http2)),
            ("application/grpc-web", Some(Grpc::Web)),
            ("application/grpc-web+json", Some(Grpc::Web)),
            ("application/grpc-web-text", Some(Grpc::WebText)),
            ("application/grpc-web-text+proto", Some(Grpc::WebText)),
            ("application/grpcs", None),
            ("application/grpc-", None),
            ("application/grpc-webs", None),
            ("application/grpc;a=b", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(grpc("POST", Some("/a.B/C"), &[media]), expected, "{media}");
        }
        assert_eq!(grpc("POST", Some("/"), &[]), None);
        assert_eq!(grpc("POST", Some("/"), &["application/grpc"; 2]), None);
        assert_eq!(grpc("POST", None, &["application/grpc"]), None);
        assert_eq!(grpc("CONNECT", Some("/"), &["application/grpc"]), None);
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encode("a `b` ~\"c\""), "a `b` ~\"c\"");
        assert_eq!(percent_encode("100%\r\né\u{7f}"), "100%25%0D%0A%C3%A9%7F");
    }

    #[test]
    fn grpc_web_has_its_trailers_in_the_body() {
        assert_eq!(Grpc::Http2.body(16, "no"), b"");
        assert_eq!(
            Grpc::Web.body(16, "no %"),
            b"\x80\0\0\0\x25grpc-status:16\r\ngrpc-message:no %25\r\n"
        );
        assert_eq!(
            Grpc::WebText.body(7, "no"),
            b"gAAAACBncnBjLXN0YXR1czo3DQpncnBjLW1lc3NhZ2U6bm8NCg=="
        );
    }

    #[test]
    fn base64_has_the_vectors_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded.as_bytes(), "{plain}");
        }
    }
}
