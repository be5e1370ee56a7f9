//! Another tier for a while.

use alloc::boxed::Box;
use alloc::rc::Rc;

use super::{EARLIEST_NOW, Key};
use crate::name::Name;
use crate::policy::Tier;

/// What `exceptions` say: a principal has another tier until an instant
#[derive(Debug)]
pub(crate) struct Exception {
    pub(crate) principal: Name,
    pub(crate) tier: Name,
    /// Seconds since the Unix epoch: from here on it is over
    pub(crate) until: u64,
    /// Who agreed to it, or in what ticket
    pub(crate) reason: Name,
    pub(crate) path: Box<str>,
}

/// An exception in an API that has its tier
#[derive(Debug)]
pub(crate) struct Exempted {
    pub(crate) exception: Rc<Exception>,
    pub(crate) tier: Rc<Tier>,
}

impl Exempted {
    /// The key under the exception, where it has one at `wall` nanoseconds since the Unix epoch
    ///
    /// A clock that can't be right ends all exceptions.
    pub(crate) fn apply(all: &[Self], key: Rc<Key>, wall: u64) -> Rc<Key> {
        let now = wall.checked_div(1_000_000_000).unwrap_or_default();
        let applies = |one: &&Self| {
            let Exception {
                principal, until, ..
            } = &*one.exception;
            *principal == key.principal && (EARLIEST_NOW..*until).contains(&now)
        };
        let Some(found) = all.iter().find(applies) else {
            return key;
        };
        Rc::new(Key {
            tier: Rc::clone(&found.tier),
            exception: Some(Rc::clone(&found.exception)),
            ..(*key).clone()
        })
    }
}
