//! Header maps with the semantics of Envoy's: names lower-cased, pseudo headers first, duplicates
//! of the headers that Envoy keeps in one slot joined by a comma.

use std::mem::size_of;

/// Headers as they travel: name and value, both bytes, in order.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// Builds [`Headers`] from text, for tests and scripts.
///
/// ```
/// let headers = portcullis_host::headers([(":method", "GET"), (":path", "/")]);
/// assert_eq!(headers[0], (b":method".to_vec(), b"GET".to_vec()));
/// ```
pub fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Headers {
    pairs
        .into_iter()
        .map(|(n, v)| (n.as_ref().to_vec(), v.as_ref().to_vec()))
        .collect()
}

/// The first value under a name; names are compared without case.
#[must_use]
pub fn header<'a>(headers: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
}

/// Which table of single-slot headers applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Trailers,
}

/// Request headers that Envoy 1.40 keeps in one slot, so that a second one is joined to the first
/// (measured by sending each of 130 common headers twice; those it removes are added from its
/// header_map.h).
const REQUEST_SLOTS: &[&str] = &[
    ":authority",
    ":method",
    ":path",
    ":protocol",
    ":scheme",
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "proxy-connection",
    "proxy-status",
    "referer",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-is-timeout-retry",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// Response headers that Envoy 1.40 keeps in one slot, measured likewise.
const RESPONSE_SLOTS: &[&str] = &[
    ":status",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "keep-alive",
    "last-modified",
    "location",
    "proxy-connection",
    "proxy-status",
    "server",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-upstream-canary",
    "x-envoy-upstream-healthchecked-cluster",
    "x-envoy-upstream-service-time",
    "x-request-id",
];

impl Kind {
    fn single_slot(self, name: &[u8]) -> bool {
        let slots = match self {
            Self::Request => REQUEST_SLOTS,
            Self::Response => RESPONSE_SLOTS,
            Self::Trailers => return false,
        };
        slots
            .binary_search_by(|slot| slot.as_bytes().cmp(name))
            .is_ok()
    }
}

/// A map of headers or trailers.
#[derive(Clone, Debug)]
pub(crate) struct HeaderMap {
    kind: Kind,
    // INVARIANT: names are lower case, all pseudo headers come before all others, and a
    // single-slot name occurs at most once.
    entries: Headers,
}

impl HeaderMap {
    pub(crate) fn new(kind: Kind, headers: Headers) -> Self {
        let mut map = Self {
            kind,
            entries: Vec::with_capacity(headers.len()),
        };
        for (name, value) in headers {
            map.add(&name, &value);
        }
        map
    }

    pub(crate) fn entries(&self) -> &Headers {
        &self.entries
    }

    /// First value under the name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let name = self.canonical(name);
        self.entries
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value.as_slice())
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        let name = self.canonical(name);
        if self.kind.single_slot(&name)
            && let Some((_, present)) = self.entries.iter_mut().find(|(n, _)| *n == name)
        {
            if !value.is_empty() {
                if !present.is_empty() {
                    present.push(b',');
                }
                present.extend_from_slice(value);
            }
            return;
        }
        let at = if name.first() == Some(&b':') {
            self.entries
                .iter()
                .take_while(|(n, _)| n.first() == Some(&b':'))
                .count()
        } else {
            self.entries.len()
        };
        self.entries.insert(at, (name, value.to_vec()));
    }

    /// Removes every value under the name and adds this one at the end.
    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        let name = self.canonical(name);
        self.entries.retain(|(n, _)| *n != name);
    }

    pub(crate) fn replace_all(&mut self, headers: Headers) {
        *self = Self::new(self.kind, headers);
    }

    /// Sum of the lengths of all names and values.
    pub(crate) fn byte_size(&self) -> usize {
        self.entries
            .iter()
            .map(|(n, v)| n.len().saturating_add(v.len()))
            .sum()
    }

    fn canonical(&self, name: &[u8]) -> Vec<u8> {
        let name = name.to_ascii_lowercase();
        if self.kind == Kind::Request && name == b"host" {
            b":authority".to_vec()
        } else {
            name
        }
    }
}

/// Headers in the layout in which they cross the ABI: the count, the lengths of every name and
/// value, then names and values, each followed by a zero byte. No headers at all are no bytes.
pub(crate) fn serialize(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    if headers.is_empty() {
        return Vec::new();
    }
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = word(headers.len()).to_vec();
    for (name, value) in headers {
        out.extend_from_slice(&word(name.len()));
        out.extend_from_slice(&word(value.len()));
    }
    for (name, value) in headers {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
    out
}

/// Reads what [`serialize`] writes; `None` if the bytes are not in that layout.
pub(crate) fn deserialize(bytes: &[u8]) -> Option<Headers> {
    const WORD: usize = size_of::<u32>();
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (count, mut rest) = split_word(bytes)?;
    if rest.len() / WORD < count.checked_mul(2)? {
        return None;
    }
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, after_name) = split_word(rest)?;
        let (value, after_value) = split_word(after_name)?;
        lengths.push((name, value));
        rest = after_value;
    }
    let mut text = |length: usize| {
        let (bytes, after) = rest.split_at_checked(length)?;
        rest = after.strip_prefix(&[0])?;
        Some(bytes.to_vec())
    };
    lengths
        .into_iter()
        .map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect()
}

fn split_word(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*word)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(kind: Kind, pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let map = HeaderMap::new(kind, headers(pairs.iter().copied()));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        map.entries()
            .iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|&(n, v)| (n.to_owned(), v.to_owned()))
            .collect()
    }

    #[test]
    fn slots_are_sorted_as_the_binary_search_needs_them() {
        assert!(REQUEST_SLOTS.is_sorted());
        assert!(RESPONSE_SLOTS.is_sorted());
    }

    #[test]
    fn a_second_authorization_is_joined_and_a_second_cookie_is_not() {
        assert_eq!(
            map(
                Kind::Request,
                &[
                    ("Authorization", "Bearer A"),
                    ("cookie", "a"),
                    ("authorization", "Bearer B"),
                    ("Cookie", "b")
                ]
            ),
            owned(&[
                ("authorization", "Bearer A,Bearer B"),
                ("cookie", "a"),
                ("cookie", "b")
            ])
        );
    }

    #[test]
    fn host_is_authority_and_pseudo_headers_come_first() {
        assert_eq!(
            map(
                Kind::Request,
                &[("x-a", "1"), ("Host", "a"), (":path", "/"), ("host", "b")]
            ),
            owned(&[(":authority", "a,b"), (":path", "/"), ("x-a", "1")])
        );
        assert_eq!(
            map(Kind::Response, &[("host", "a")]),
            owned(&[("host", "a")])
        );
    }

    #[test]
    fn replace_leaves_one_value_at_the_end() {
        let mut map = HeaderMap::new(Kind::Request, headers([("a", "1"), ("b", "2"), ("A", "3")]));
        map.replace(b"a", b"4");
        assert_eq!(map.entries(), &headers([("b", "2"), ("a", "4")]));
    }

    #[test]
    fn serialized_headers_are_read_back() {
        for pairs in [
            vec![],
            headers([("", "")]),
            headers([(":path", "/"), ("x", "")]),
            vec![(vec![0, 255], vec![0])],
        ] {
            assert_eq!(deserialize(&serialize(&pairs)), Some(pairs));
        }
    }

    #[test]
    fn what_is_not_in_the_layout_is_refused() {
        let good = serialize(&headers([("a", "b")]));
        for cut in 1..good.len() {
            assert_eq!(deserialize(&good[..cut]), None, "cut at {cut}");
        }
        assert_eq!(deserialize(&u32::MAX.to_le_bytes()), None);
    }
}
