//! Messages between hyper's types and those of the filter chain.

use std::net::SocketAddr;

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    header::{HeaderName, HeaderValue},
    http::{request, response},
};

use crate::headers::{Headers, header};

/// Headers that belong to one connection and not to the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// A request's headers as Envoy hands them to its filters: pseudo headers, those of the client,
/// and those that an edge proxy adds.
pub(super) fn request_headers(parts: &request::Parts, client: SocketAddr, id: &str) -> Headers {
    let mut headers: Headers = Vec::with_capacity(parts.headers.len().saturating_add(8));
    let mut add = |name: &str, value: &[u8]| {
        headers.push((name.as_bytes().to_vec(), value.to_vec()));
    };
    // A target with an authority overrides the header that names one (RFC 9112, section 3.2.2).
    let authority = parts.uri.authority();
    if let Some(authority) = authority {
        add(":authority", authority.as_str().as_bytes());
    }
    if parts.method != Method::CONNECT {
        add(":path", target(&parts.uri).as_bytes());
    }
    add(":method", parts.method.as_str().as_bytes());
    add(":scheme", b"http");
    let nominated = nominated(&parts.headers);
    let upgrade = nominated.iter().any(|name| name == "upgrade");
    for (name, value) in &parts.headers {
        let overridden = name == "host" && authority.is_some();
        let ours = name == "x-request-id" || name == "x-forwarded-proto";
        // An upgrade is the filter's to judge; what else belongs to the connection ends here.
        let asks_upgrade = upgrade && (name == "connection" || name == "upgrade");
        let hop = is_hop_by_hop(name.as_str()) || nominated.iter().any(|n| name == n.as_str());
        if !overridden && !ours && (!hop || asks_upgrade) {
            add(name.as_str(), value.as_bytes());
        }
    }
    add("x-forwarded-for", client.ip().to_string().as_bytes());
    add("x-forwarded-proto", b"http");
    add("x-request-id", id.as_bytes());
    headers
}

/// The headers that `Connection` names as belonging to it (RFC 9110, section 7.6.1).
fn nominated(headers: &HeaderMap) -> Vec<String> {
    let values = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.map(|name| name.trim().to_ascii_lowercase()).collect()
}

fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// A request for an HTTP/1.1 upstream; `None` if its headers can't be sent.
pub(super) fn upstream_request<B>(headers: &Headers, body: B) -> Option<Request<B>> {
    let text = |name: &str| str::from_utf8(header(headers, name)?).ok();
    let mut request = Request::new(body);
    *request.version_mut() = Version::HTTP_11;
    *request.method_mut() = text(":method")?.parse().ok()?;
    *request.uri_mut() = text(":path")?.parse().ok()?;
    let host = HeaderValue::from_bytes(header(headers, ":authority").unwrap_or_default()).ok()?;
    request.headers_mut().insert("host", host);
    add_all(request.headers_mut(), headers)?;
    Some(request)
}

/// A response's headers as they enter the filter chain.
pub(super) fn response_headers(parts: &response::Parts) -> Headers {
    let status = (
        b":status".to_vec(),
        parts.status.as_str().as_bytes().to_vec(),
    );
    let rest = parts
        .headers
        .iter()
        .filter(|(name, _)| !is_hop_by_hop(name.as_str()));
    let rest =
        rest.map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()));
    std::iter::once(status).chain(rest).collect()
}

/// A response for the client; `None` if its headers can't be sent.
pub(super) fn client_response<B>(headers: &Headers, body: B) -> Option<Response<B>> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_bytes(header(headers, ":status")?).ok()?;
    add_all(response.headers_mut(), headers)?;
    Some(response)
}

/// Trailers; those that can't be sent are left out.
pub(super) fn trailers(trailers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
    map
}

/// Trailers as they enter the filter chain.
pub(super) fn from_trailers(map: &HeaderMap) -> Headers {
    let pairs = map.iter();
    pairs
        .map(|(n, v)| (n.as_str().as_bytes().to_vec(), v.as_bytes().to_vec()))
        .collect()
}

fn add_all(map: &mut HeaderMap, headers: &Headers) -> Option<()> {
    for (name, value) in headers
        .iter()
        .filter(|(name, _)| name.first() != Some(&b':'))
    {
        let name = HeaderName::from_bytes(name).ok()?;
        if !is_hop_by_hop(name.as_str()) {
            map.append(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    Some(())
}

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::headers;

    fn received(request: Request<()>) -> Headers {
        request_headers(&request.into_parts().0, ([127, 0, 0, 1], 5).into(), "id")
    }

    #[test]
    fn a_request_gets_pseudo_headers_and_what_an_edge_adds() {
        let request = Request::get("/a?b")
            .header("host", "h")
            .header("x", "1")
            .header("x-request-id", "mine")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-for", "1.2.3.4")
            .body(())
            .unwrap();
        assert_eq!(
            received(request),
            headers([
                (":path", "/a?b"),
                (":method", "GET"),
                (":scheme", "http"),
                ("host", "h"),
                ("x", "1"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-proto", "http"),
                ("x-request-id", "id"),
            ])
        );
    }

    #[test]
    fn a_target_with_an_authority_overrides_host() {
        let request = Request::get("http://real/x")
            .header("host", "fake")
            .body(())
            .unwrap();
        let got = received(request);
        assert_eq!(header(&got, ":authority"), Some(b"real".as_slice()));
        assert_eq!(header(&got, "host"), None);
        assert_eq!(header(&got, ":path"), Some(b"/x".as_slice()));
    }

    #[test]
    fn what_belongs_to_the_connection_stays_there() {
        let request = Request::get("/")
            .header("connection", "keep-alive, X-Mine, authorization")
            .header("keep-alive", "5")
            .header("x-mine", "1")
            .header("authorization", "Bearer x")
            .header("upgrade", "websocket")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let got = received(request);
        for name in [
            "connection",
            "keep-alive",
            "x-mine",
            "authorization",
            "upgrade",
            "te",
        ] {
            assert_eq!(header(&got, name), None, "{name}");
        }
        let request = Request::get("/")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .body(())
            .unwrap();
        let got = received(request);
        assert_eq!(header(&got, "upgrade"), Some(b"websocket".as_slice()));
        assert_eq!(header(&got, "connection"), Some(b"Upgrade".as_slice()));
    }

    #[test]
    fn connect_has_no_path() {
        let request = Request::connect("h:443").body(()).unwrap();
        let got = received(request);
        assert_eq!(header(&got, ":path"), None);
        assert_eq!(header(&got, ":authority"), Some(b"h:443".as_slice()));
    }

    #[test]
    fn what_belongs_to_a_connection_does_not_pass() {
        let pairs = headers([
            (":method", "POST"),
            (":path", "/"),
            (":authority", "h"),
            ("transfer-encoding", "chunked"),
            ("x", "1"),
        ]);
        let request = upstream_request(&pairs, ()).unwrap();
        assert_eq!(request.headers().len(), 2);
        assert_eq!(request.headers()["host"], "h");
        assert!(upstream_request(&headers([(":path", "/")]), ()).is_none());
        let split = headers([(":status", "200"), ("x", "a\r\nb: c")]);
        assert!(client_response(&split, ()).is_none());
    }
}
