//! The host that a request is for.

use alloc::string::String;

/// The host of an authority: without port and trailing dot, in lower case
///
/// `None` for an authority that names no single host: empty, with user information, or two
/// joined by a comma, as Envoy hands over two `Host` headers.
pub(crate) fn normalise(authority: &[u8]) -> Option<String> {
    let text = core::str::from_utf8(authority).ok()?;
    let host = if text.starts_with('[') {
        let (address, port) = text.split_once(']')?;
        let port = port.strip_prefix(':').or(port.is_empty().then_some(""))?;
        if !is_port(port) {
            return None;
        }
        address.strip_prefix('[')?
    } else {
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        if !is_port(port) {
            return None;
        }
        host.strip_suffix('.').unwrap_or(host)
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let valid = !host.is_empty() && host.len() <= 253 && host.bytes().all(good);
    valid.then(|| host.to_ascii_lowercase())
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |authority: &str, host: Option<&str>| {
            assert_eq!(
                normalise(authority.as_bytes()).as_deref(),
                host,
                "{authority}"
            );
        };
        check("api.example", Some("api.example"));
        check("API.Example.:8443", Some("api.example"));
        check("[::1]:80", Some("::1"));
        check("[::1]", Some("::1"));
        check("a,b", None);
        check("user@api.example", None);
        check("api.example:80:90", None);
        check("api.example:http", None);
        check("[::1", None);
        check("[::1]x", None);
        check("", None);
        check(".", None);
        assert_eq!(normalise(b"api\xff.example"), None);
    }
}
