//! Questions to other services, and what comes back.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// An HTTP request that a shell is to make of a cluster
#[derive(Clone, Debug)]
pub struct Query {
    /// The cluster, as the host knows it
    pub cluster: Rc<str>,
    /// `:method`, `:path` and `:authority`, and then all others
    pub headers: Vec<(&'static str, String)>,
    /// The body
    pub body: Vec<u8>,
    /// Whether it is to have the `authorization` of the request that asks: a shell takes it from there,
    /// so that nobody else ever has it
    pub as_caller: bool,
    /// How long the host may wait, in milliseconds
    pub timeout: u32,
}

/// What came back
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// A response, whole
    Response(Response<'a>),
    /// Nothing that could be read
    Failed(Failure),
}

/// A response, hostile until parsed
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// All headers as bytes, `:status` among them
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The body, no longer than was asked for
    pub body: &'a [u8],
}

/// Why there is no response
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The host did not take the request: there is no such cluster, or it may not call
    Refused,
    /// The connection broke, or the host could not keep the answer
    Broken,
    /// The body is longer than was asked for
    TooLarge,
    /// The time is over
    TimedOut,
}

impl<'a> Response<'a> {
    /// The status; 0 where there is none, or more than one
    pub(crate) fn status(&self) -> u16 {
        self.header(b":status")
            .filter(|status| status.len() == 3)
            .and_then(|status| core::str::from_utf8(status).ok()?.parse().ok())
            .unwrap_or_default()
    }

    /// The value of a header that comes once
    pub(crate) fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut values = self.headers.iter().filter(|(other, _)| *other == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}
