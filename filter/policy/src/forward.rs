//! What changes in a request that is forwarded.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::DecisionId;
use crate::key::Key;

/// The prefix of every header that is ours alone
pub const RESERVED_PREFIX: &str = "x-portcullis-";

/// Whether a header or trailer name is under our prefix, in whatever case and with `_` for `-`
///
/// A shell removes every such header and trailer from every request, so that what an upstream
/// reads there was written by the gate: many upstreams take `_` for `-`.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    let fold = |byte: &u8| {
        if *byte == b'_' {
            b'-'
        } else {
            byte.to_ascii_lowercase()
        }
    };
    name.get(..RESERVED_PREFIX.len())
        .is_some_and(|start| start.iter().map(fold).eq(RESERVED_PREFIX.bytes()))
}

/// The edits of a request's headers
#[derive(Clone, Debug)]
pub struct Edits {
    pub(crate) decision: Option<DecisionId>,
    pub(crate) reserved: Vec<Vec<u8>>,
    pub(crate) identity: Option<Rc<Key>>,
    pub(crate) strip_credential: bool,
    pub(crate) class: Option<Rc<str>>,
    pub(crate) verdict: Option<String>,
    /// What screens tag the request with
    pub(crate) screen: Option<String>,
    /// Limits that the request is over, by name
    pub(crate) over: Option<String>,
}

/// One edit of a request's headers
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Edit<'a> {
    /// Remove every header of that name
    Remove(&'a [u8]),
    /// Add a header
    Add(&'static str, &'a str),
}

impl Edits {
    pub(crate) fn new(decision: Option<DecisionId>, reserved: Vec<Vec<u8>>) -> Self {
        Self {
            decision,
            reserved,
            identity: None,
            strip_credential: false,
            class: None,
            verdict: None,
            screen: None,
            over: None,
        }
    }

    /// No edit at all
    pub(crate) fn none() -> Self {
        Self::new(None, Vec::new())
    }

    /// Hands out each edit, in the order in which they are to be made
    pub fn each(&self, mut edit: impl FnMut(Edit<'_>)) {
        for name in &self.reserved {
            edit(Edit::Remove(name));
        }
        if self.strip_credential {
            edit(Edit::Remove(b"authorization"));
        }
        if let Some(decision) = &self.decision {
            edit(Edit::Add("x-portcullis-decision", decision.text().as_str()));
        }
        if let Some(key) = &self.identity {
            edit(Edit::Add("x-portcullis-principal", key.principal.as_str()));
            edit(Edit::Add("x-portcullis-tier", key.tier.name.as_str()));
            edit(Edit::Add("x-portcullis-key", key.id.as_str()));
        }
        if let Some(class) = &self.class {
            edit(Edit::Add("x-portcullis-class", class));
        }
        if let Some(verdict) = &self.verdict {
            edit(Edit::Add("x-portcullis-verdict", verdict));
        }
        if let Some(screen) = &self.screen {
            edit(Edit::Add("x-portcullis-screen", screen));
        }
        if let Some(over) = &self.over {
            edit(Edit::Add("x-portcullis-over-limit", over));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names() {
        let check =
            |name: &str, reserved| assert_eq!(is_reserved(name.as_bytes()), reserved, "{name}");
        check("x-portcullis-principal", true);
        check("x_portcullis_principal", true);
        check("X-Portcullis_Key", true);
        check("x-portcullis-", true);
        check("x-portcullis", false);
        check("x-portcullisx", false);
        check("y-portcullis-key", false);
        check("", false);
    }
}
