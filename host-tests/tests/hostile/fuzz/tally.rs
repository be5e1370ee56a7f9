//! What happened in all sequences.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
};

use portcullis_host::{Callback, HostCall, Status};

use super::play::{ROOT_CALLBACKS, STREAM_CALLBACKS};
use crate::statuses;

/// What happened in all sequences: a test in which nothing happens shows nothing.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) events: u64,
    pub(super) callbacks: BTreeSet<Callback>,
    pub(super) opened: u64,
    pub(super) forwarded: u64,
    pub(super) answered: u64,
    /// Streams whose edits the host refused, and which were not forwarded for that.
    pub(super) stopped: u64,
    pub(super) trailers: u64,
    pub(super) refused_policies: u64,
    pub(super) forced: Arc<Mutex<BTreeSet<(HostCall, Status)>>>,
}

impl Tally {
    fn numbers(&self) -> [(&'static str, u64); 7] {
        [
            ("events", self.events),
            ("streams", self.opened),
            ("forwarded", self.forwarded),
            ("trailers", self.trailers),
            ("answered", self.answered),
            ("stopped because the host refused an edit", self.stopped),
            ("policies refused", self.refused_policies),
        ]
    }

    pub(super) fn check(&self) {
        for (what, number) in self.numbers() {
            assert!(number >= 300, "{what}: only {number}");
        }

        for callback in STREAM_CALLBACKS.iter().chain(ROOT_CALLBACKS) {
            assert!(self.callbacks.contains(callback), "{callback} never came");
        }
        let forced = self.forced.lock().unwrap();
        for call in statuses::MADE {
            // Seldom made here: `queue` gives them every status.
            if [HostCall::ContinueStream, HostCall::SetEffectiveContext].contains(call) {
                continue;
            }
            let seen = forced.iter().filter(|(forced, _)| forced == call).count();
            let all = statuses::all().len();
            assert!(seen * 2 > all, "{call} gave {seen} statuses of {all}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, number) in self.numbers() {
            writeln!(f, "{number:8} {what}")?;
        }
        let forced = self.forced.lock().unwrap().len();
        write!(f, "{forced:8} kinds of calls with their statuses")
    }
}
