//! Faults: a status forced on a host call, so that a test sees what the guest makes of it.

use std::fmt;

use crate::{
    abi::Status,
    abi::{BufferType, MapType},
    call::HostCall,
    callback::Callback,
};

/// One host call that is about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// Which function.
    pub call: HostCall,
    /// The number of the map, buffer, stream or metric type that it names, if it names one.
    pub subject: Option<u32>,
    /// The callback that makes it.
    pub callback: Callback,
    /// The context for which that callback runs.
    pub context: u32,
    /// How often this VM has made this call, this time included.
    pub nth: u64,
}

/// A status forced on some host calls. The call has no effect then.
#[derive(Clone, Debug)]
pub struct Fault {
    call: HostCall,
    status: Status,
    subject: Option<u32>,
    callback: Option<Callback>,
    context: Option<u32>,
    nth: Option<u64>,
}

impl Fault {
    /// Every call of this function answers `status`.
    ///
    /// For a WASI function the number is an errno.
    #[must_use]
    pub const fn new(call: HostCall, status: Status) -> Self {
        Self {
            call,
            status,
            subject: None,
            callback: None,
            context: None,
            nth: None,
        }
    }

    /// Only for this map.
    #[must_use]
    pub const fn on_map(mut self, map: MapType) -> Self {
        self.subject = Some(map.raw());
        self
    }

    /// Only for this buffer.
    #[must_use]
    pub const fn on_buffer(mut self, buffer: BufferType) -> Self {
        self.subject = Some(buffer.raw());
        self
    }

    /// Only while this callback runs.
    #[must_use]
    pub const fn during(mut self, callback: Callback) -> Self {
        self.callback = Some(callback);
        self
    }

    /// Only for callbacks of this context.
    #[must_use]
    pub const fn in_context(mut self, context: u32) -> Self {
        self.context = Some(context);
        self
    }

    /// Only the nth time that the VM makes this call; the first is 1.
    #[must_use]
    pub const fn nth(mut self, nth: u64) -> Self {
        self.nth = Some(nth);
        self
    }

    fn matches(&self, site: &CallSite) -> bool {
        fn allows<T: PartialEq>(wanted: Option<T>, seen: Option<T>) -> bool {
            wanted.is_none() || wanted == seen
        }
        self.call == site.call
            && allows(self.subject, site.subject)
            && allows(self.callback, Some(site.callback))
            && allows(self.context, Some(site.context))
            && allows(self.nth, Some(site.nth))
    }
}

/// Answers each host call: `None` lets it happen.
type Decide = Box<dyn FnMut(&CallSite) -> Option<Status> + Send>;

/// Changes the bytes that a host call hands to the guest.
type Tamper = Box<dyn FnMut(&CallSite, &mut Vec<u8>) + Send>;

/// The faults of a worker.
#[derive(Default)]
pub(crate) struct Faults {
    rules: Vec<Fault>,
    decide: Option<Decide>,
    tamper: Option<Tamper>,
    /// The call that is being made.
    site: Option<CallSite>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.rules.push(fault);
    }

    pub(crate) fn decide_by(&mut self, decide: Decide) {
        self.decide = Some(decide);
    }

    pub(crate) fn tamper_by(&mut self, tamper: Tamper) {
        self.tamper = Some(tamper);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The status forced on this call: by the first rule that matches, else by the function.
    pub(crate) fn forced(&mut self, site: &CallSite) -> Option<Status> {
        self.site = Some(*site);
        let by_rule = self
            .rules
            .iter()
            .find(|fault| fault.matches(site))
            .map(|fault| fault.status);
        by_rule.or_else(|| self.decide.as_mut().and_then(|decide| decide(site)))
    }

    /// What the call that is being made hands over in place of these bytes, if that is changed.
    pub(crate) fn tampered(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (tamper, site) = (self.tamper.as_mut()?, self.site?);
        let mut bytes = bytes.to_vec();
        tamper(&site, &mut bytes);
        Some(bytes)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("rules", &self.rules)
            .field("decide", &self.decide.is_some())
            .field("tamper", &self.tamper.is_some())
            .finish()
    }
}
