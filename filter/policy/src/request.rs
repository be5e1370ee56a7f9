//! The facts about one request.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::forward::is_reserved;

/// The facts that a shell hands in at a request's headers, as bytes
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All headers in the order in which they came, `:method`, `:path` and `:authority` among
    /// them, names in lower case as Envoy gives them
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The client's address, or `None` where the shell has not looked: see
    /// [`Policy::wants_client`](crate::Policy::wants_client)
    pub client: Option<Option<IpAddr>>,
    /// Whether nothing follows the headers
    pub end_of_stream: bool,
}

/// When a decision is made, and the id that it gets
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    /// Nanoseconds of a clock that never steps, common to all workers
    pub monotonic: u64,
    /// Nanoseconds since the Unix epoch: for key expiry and for what clients read
    pub wall: u64,
    /// The id of the decision: see [`DecisionId`](crate::DecisionId)
    pub decision: u128,
}

/// The headers that decide, found in one pass
#[derive(Debug, Default)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) path: Option<&'a [u8]>,
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) authorization: One<'a>,
    pub(crate) content_encoding: One<'a>,
    pub(crate) content_length: One<'a>,
    pub(crate) content_type: One<'a>,
    pub(crate) upgrade: One<'a>,
    pub(crate) origin: One<'a>,
    pub(crate) requested_method: One<'a>,
    pub(crate) traceparent: One<'a>,
    /// Names under our own prefix, which no client may send
    pub(crate) reserved: Vec<Vec<u8>>,
}

/// A header that should come once at the most
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum One<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Head<'a> {
    pub(crate) fn scan(headers: &[(&'a [u8], &'a [u8])]) -> Self {
        let mut head = Self::default();
        for &(name, value) in headers {
            // Most headers are none of ours, and their first letter says so.
            match name.first() {
                Some(b':' | b'h') => head.take_pseudo(name, value),
                Some(b'a' | b'c' | b'o' | b't' | b'u') => head.take_field(name, value),
                Some(b'x' | b'X') if is_reserved(name) => head.reserve(name),
                _ => {}
            }
        }
        head
    }

    /// Whether a header is one that decides, the credential apart
    pub(crate) fn keeps(name: &[u8]) -> bool {
        const READ: [&[u8]; 11] = [
            b":method",
            b":path",
            b":authority",
            b"host",
            b"content-encoding",
            b"content-length",
            b"content-type",
            b"upgrade",
            b"origin",
            b"access-control-request-method",
            b"traceparent",
        ];
        READ.contains(&name) || is_reserved(name)
    }

    fn take_pseudo(&mut self, name: &[u8], value: &'a [u8]) {
        match name {
            b":method" => self.method = value,
            b":path" => self.path = Some(value),
            b":authority" => self.authority = Some(value),
            b"host" if self.authority.is_none() => self.authority = Some(value),
            _ => {}
        }
    }

    fn take_field(&mut self, name: &[u8], value: &'a [u8]) {
        let field = match name {
            b"authorization" => &mut self.authorization,
            b"content-encoding" => &mut self.content_encoding,
            b"content-length" => &mut self.content_length,
            b"content-type" => &mut self.content_type,
            b"upgrade" => &mut self.upgrade,
            b"origin" => &mut self.origin,
            b"access-control-request-method" => &mut self.requested_method,
            b"traceparent" => &mut self.traceparent,
            _ => return,
        };
        field.take(value);
    }

    /// Notes a name once: one removal takes every header of it.
    fn reserve(&mut self, name: &[u8]) {
        if !self.reserved.iter().any(|known| known == name) {
            self.reserved.push(name.into());
        }
    }
}

impl<'a> One<'a> {
    fn take(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    pub(crate) fn is_absent(self) -> bool {
        self == Self::Absent
    }
}
