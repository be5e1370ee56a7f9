//! What a host did to a worker's guest, and what must follow from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use portcullis_host::{CallSite, HostCall, MapType, Status, Worker};

/// A host that misbehaves, and remembers how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<u32, Account>>>);

/// What was done in callbacks of one context.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// To read or edit the request's headers was refused.
    pub(crate) headers_refused: bool,
    /// To read or edit its trailers was refused.
    pub(crate) trailers_refused: bool,
    /// The request's headers were handed over.
    pub(crate) headers_read: bool,
    /// An edit was said to be done and was not, or a map was not what the host said that it was: no
    /// guest can know.
    pub(crate) lied: bool,
    /// A buffer, such as the configuration, was handed over other than it is.
    pub(crate) misread: bool,
}

impl Ledger {
    pub(crate) fn of(&self, context: u32) -> Account {
        let accounts = self.0.lock().unwrap();
        accounts.get(&context).copied().unwrap_or_default()
    }

    /// Has a function choose the status of each host call of a worker, and notes what it chose.
    pub(crate) fn force(
        &self,
        worker: &mut Worker,
        mut choose: impl FnMut(&CallSite) -> Option<Status> + Send + 'static,
    ) {
        let ledger = self.clone();
        worker.decide(move |site| {
            let status = choose(site);
            match status {
                Some(status) => ledger.note(site, status),
                None if site.call == HostCall::GetHeaderMapPairs => {
                    let headers = site.subject == Some(MapType::RequestHeaders.raw());
                    ledger.account(site.context, |account| account.headers_read |= headers);
                }
                None => {}
            }
            status
        });
    }

    /// Has a function change the bytes that host calls of a worker hand over.
    pub(crate) fn tamper(
        &self,
        worker: &mut Worker,
        mut change: impl FnMut(&CallSite, &mut Vec<u8>) + Send + 'static,
    ) {
        let ledger = self.clone();
        worker.tamper(move |site, bytes| {
            let before = bytes.clone();
            change(site, bytes);
            if *bytes != before {
                ledger.account(site.context, |account| match site.call {
                    HostCall::GetHeaderMapPairs => account.lied = true,
                    HostCall::GetBufferBytes => account.misread = true,
                    _ => {}
                });
            }
        });
    }

    fn note(&self, site: &CallSite, status: Status) {
        let is = |map: MapType| site.subject == Some(map.raw());
        let headers = is(MapType::RequestHeaders);
        let trailers = is(MapType::RequestTrailers);
        let edits = [HostCall::RemoveHeaderMapValue, HostCall::AddHeaderMapValue];
        self.account(site.context, |account| {
            let edits = edits.contains(&site.call);
            let reads = site.call == HostCall::GetHeaderMapPairs;
            account.lied |= (edits || reads) && status == Status::OK;
            let refused = (edits || reads) && status != Status::OK;
            // Who has read them may read them again, for the credential of a call, and do without.
            let known = reads && account.headers_read;
            account.headers_refused |= refused && headers && !known;
            account.trailers_refused |= refused && trailers;
        });
    }

    fn account(&self, context: u32, change: impl FnOnce(&mut Account)) {
        change(self.0.lock().unwrap().entry(context).or_default());
    }
}
