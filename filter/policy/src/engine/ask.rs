//! Requests whose decision waits for another service's answer.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::draft::Draft;
use super::{AwaitClient, Client, Engine, Step};
use crate::account::AccountStore;
use crate::asks::{Joined, Topic};
use crate::callout::{Answer, Query};
use crate::client::ClientCharge;
use crate::key::Key;
use crate::key::lookup::{Inquiry, Known, Lookup, Resolution};
use crate::limiter::Charged;
use crate::listing::{self, Listing, Page, Progress};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::replica::Came;
use crate::request::{Head, Moment, Request};

/// A request that waits for another service's answer
///
/// It holds what its headers say, but for the credential.
#[derive(Debug)]
pub struct Waiting {
    policy: Rc<Policy>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    client: Option<Option<IpAddr>>,
    end_of_stream: bool,
    about: Question,
    /// Cells that its client has paid for its questions
    paid: u64,
    resolution: Option<Resolution>,
}

/// What has to be asked
#[derive(Debug)]
pub(super) enum Question {
    /// Whether there is such a key; callers of one that was good a while ago pay nothing for it
    Key(Rc<Lookup>, Inquiry),
    /// Which domains a caller has access to
    Domains(Box<Listing>),
}

impl Waiting {
    pub(super) fn new(policy: &Rc<Policy>, request: &Request<'_>, question: Question) -> Self {
        let kept = request.headers.iter().filter(|(name, _)| {
            let mut more = policy.apis.iter().flat_map(|api| &api.kept_headers);
            Head::keeps(name) || more.any(|kept| kept.as_bytes() == *name)
        });
        Self {
            policy: Rc::clone(policy),
            headers: kept
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
            client: request.client,
            end_of_stream: request.end_of_stream,
            about: question,
            paid: 0,
            resolution: None,
        }
    }

    /// About what it takes up, in bytes
    pub(crate) fn bytes(&self) -> usize {
        let pairs = self.headers.iter();
        pairs.fold(256, |bytes, (name, value)| {
            bytes
                .saturating_add(64)
                .saturating_add(name.len())
                .saturating_add(value.len())
        })
    }

    pub(crate) fn topic(&self) -> Topic {
        match &self.about {
            Question::Key(lookup, inquiry) => Topic::Key(Rc::clone(lookup), inquiry.digest),
            Question::Domains(listing) => {
                let Listing {
                    access, key, place, ..
                } = &**listing;
                Topic::Domains(Rc::clone(access), key.account, place.clone())
            }
        }
    }

    /// How long a call may take, in milliseconds
    fn timeout(&self) -> u32 {
        match &self.about {
            Question::Key(lookup, _) => lookup.timeout,
            Question::Domains(listing) => listing.list().map_or(0, |list| list.timeout),
        }
    }

    /// Runs with the request as it came
    fn request<T>(&self, run: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&[u8], &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        run(&Request {
            headers: &headers,
            client: self.client,
            end_of_stream: self.end_of_stream,
        })
    }

    fn client_charge(&self, cells: u64) -> ClientCharge<'_> {
        ClientCharge {
            table: self.policy.clients,
            client: self.client.flatten(),
            bucket: &self.policy.unauthenticated,
            cells,
        }
    }
}

impl Engine {
    /// Keeps a request until its question is answered
    ///
    /// Returns the call that a shell has to make, and its number, unless another request asks the same
    /// already. The shell makes it for itself, not for the stream, tells its number by
    /// [`dispatched`](Self::dispatched), and whatever comes of it by [`answered`](Self::answered).
    pub fn ask(&mut self, stream: u32, waiting: Waiting, now: u64) -> Option<(u32, Query)> {
        let (topic, timeout) = (waiting.topic(), waiting.timeout());
        let Joined::Call(call) = self.asks.join(stream, waiting, timeout, now) else {
            return None;
        };
        match topic {
            Topic::Key(lookup, digest) => {
                self.lookups.begin(&lookup);
                Some((call, lookup.query(&digest)))
            }
            Topic::Domains(access, _, place) => {
                let list = access.list.as_ref()?;
                self.listings.begin(list);
                Some((call, list.query(&place)))
            }
            // No request waits for a page of a file.
            Topic::Page(..) => None,
        }
    }

    /// Notes the host's number of a call
    pub fn dispatched(&mut self, call: u32, token: u32) {
        self.asks.dispatched(call, token);
    }

    /// The call that the host knows by this number, and how many bytes its answer may have; `None`
    /// when nobody waits for it any more
    #[must_use]
    pub fn call_of(&self, token: u32) -> Option<(u32, usize)> {
        let (call, topic) = self.asks.of_token(token)?;
        let max = match topic {
            Topic::Key(lookup, _) => lookup.max_body(),
            Topic::Page(_, max) => *max,
            Topic::Domains(..) => listing::MAX_BODY,
        };
        Some((call, max))
    }

    /// Learns from what came of a call; the requests that waited for it are there to be
    /// [taken](Self::take_answered)
    pub fn answered(&mut self, call: u32, answer: &Answer<'_>, now: u64) {
        let Some((topic, mut waiting)) = self.asks.end(call) else {
            return;
        };
        match &topic {
            Topic::Page(file, _) => {
                if let Some(replica) = self.replicas.get_mut(file) {
                    replica.answered(Came::of(answer));
                }
            }
            Topic::Key(lookup, digest) => {
                let resolution = self.lookups.end(lookup, digest, answer, now);
                for (_, waiting) in &mut waiting {
                    waiting.resolution = Some(resolution.clone());
                }
            }
            Topic::Domains(access, _, place) => {
                let came = Rc::new(Page::read(access, place, answer));
                if let Some(list) = &access.list {
                    self.listings.end(list, &came, now);
                }
                for (_, waiting) in &mut waiting {
                    if let Question::Domains(listing) = &mut waiting.about {
                        listing.came = Some(Rc::clone(&came));
                    }
                }
            }
        }
        self.asks.keep(waiting);
    }

    /// Takes a request whose question is answered, by its stream, for [`with_answer`](Self::with_answer)
    ///
    /// Until then it counts as waiting: a shell may take them a few at a time.
    pub fn take_answered(&mut self) -> Option<(u32, Waiting)> {
        self.asks.take()
    }

    /// Whether there are requests to be [taken](Self::take_answered)
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.asks.has_answered()
    }

    /// A call whose time is over though its host has not said so: it is to be
    /// [`answered`](Self::answered) with [`Failure::TimedOut`](crate::Failure::TimedOut)
    #[must_use]
    pub fn overdue(&self, now: u64) -> Option<u32> {
        self.asks.overdue(now)
    }

    /// Whether calls are under way, or requests that waited for one are to be taken
    #[must_use]
    pub fn is_asking(&self) -> bool {
        !self.asks.is_empty()
    }

    /// Takes back a request that waits for an answer: its client has left, or its shell gives it up and
    /// decides it by [`with_answer`](Self::with_answer) as if there were none. Others wait on.
    pub fn leave_ask(&mut self, stream: u32) -> Option<Waiting> {
        self.asks.leave(stream)
    }

    /// Decides on a request whose question is answered
    pub fn with_answer(
        &mut self,
        mut waiting: Waiting,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        if self.asks_on(&mut waiting, moment.monotonic) {
            return self.ask_for_key(waiting, moment, store);
        }
        let away = Resolution::Away;
        let policy = &waiting.policy;
        let learned = match &waiting.about {
            Question::Key(..) => None,
            Question::Domains(listing) => {
                let learned = listing.learn(policy.max_accounts, moment.monotonic, store);
                match learned {
                    Ok(progress) => Some((&listing.key, progress)),
                    Err(error) => return Step::Decided(waiting.draft(moment).store_error(error)),
                }
            }
        };
        let resolved = Resolved {
            resolution: waiting.resolution.as_ref().unwrap_or(&away),
            listing: learned.as_ref().map(|(key, progress)| (*key, progress)),
            paid: waiting.paid,
        };
        let step =
            waiting.request(|request| self.decide(policy, request, Some(&resolved), moment, store));
        // A key that is none, or not good, has cost its client a cell a question.
        let is_wrong =
            matches!(&step, Step::Decided(outcome) if outcome.record.reason.status() == 401);
        if waiting.paid > 0 && !is_wrong {
            let charge = waiting.client_charge(waiting.paid);
            self.clients.give_back(charge, moment.monotonic, store);
        }
        step
    }

    /// Goes on from the digest under the newest pepper to the one under the pepper before it; whether
    /// that is to be asked for
    ///
    /// A service that is away is not asked again: a key that was known by either digest goes on.
    fn asks_on(&mut self, waiting: &mut Waiting, now: u64) -> bool {
        let Question::Key(lookup, inquiry) = &mut waiting.about else {
            return false;
        };
        let Some(older) = inquiry.older.take() else {
            return false;
        };
        waiting.resolution = match waiting.resolution.take() {
            Some(Resolution::Key(key)) => Some(Resolution::Key(key)),
            Some(Resolution::Unknown) => match self.lookups.find_one(lookup, &older, now) {
                Known::Resolved(resolution) => Some(resolution),
                Known::Ask(next) => {
                    *inquiry = next;
                    return true;
                }
            },
            Some(Resolution::Away) | None => {
                self.lookups.stale(lookup, &older, now).map(Resolution::Key)
            }
        };
        false
    }

    /// Has a digest asked for, or decides without
    pub(super) fn ask_for_key(
        &mut self,
        waiting: Waiting,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let is_free = matches!(&waiting.about, Question::Key(_, inquiry) if inquiry.was_key);
        match waiting.client {
            _ if is_free => self.ask_or_decide(waiting, moment, store),
            Some(client) => self.pay_and_ask(waiting, client, moment, store),
            None => Step::AwaitClient(AwaitClient(Client::Ask(waiting.into()))),
        }
    }

    /// Charges the client for the question: wrong keys are throttled before they cost a call
    pub(super) fn pay_and_ask(
        &mut self,
        mut waiting: Waiting,
        client: Option<IpAddr>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        waiting.client = Some(client);
        let charge = waiting.client_charge(1);
        match self.clients.charge(charge, moment.monotonic, store) {
            Ok(Charged { result: Ok(()), .. }) => {
                waiting.paid = waiting.paid.saturating_add(1);
                self.ask_or_decide(waiting, moment, store)
            }
            Ok(Charged {
                standing,
                result: Err(refused),
                ..
            }) => {
                let mut draft = waiting.draft(moment);
                let rule = Rc::clone(&waiting.policy.rules.unauthenticated);
                draft.refuse(Reason::UnauthenticatedLimited, &rule, refused.retry_after);
                let rate = draft.rate(standing, &waiting.policy.unauthenticated_name);
                Step::Decided(draft.finish(Some(rate)))
            }
            Err(error) => Step::Decided(waiting.draft(moment).store_error(error)),
        }
    }

    /// Has a question asked, or decides without
    pub(super) fn ask_or_decide(
        &mut self,
        waiting: Waiting,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let topic = waiting.topic();
        let now = moment.monotonic;
        let may_call = self.asks.is_asked(&topic)
            || match &waiting.about {
                Question::Key(lookup, _) => self.lookups.admits(lookup, now),
                Question::Domains(listing) => {
                    let list = listing.list();
                    list.is_some_and(|list| self.listings.admits(list, now))
                }
            };
        if may_call && self.asks.admits(&topic, waiting.bytes()) {
            Step::Ask(waiting.into())
        } else {
            self.with_answer(waiting, moment, store)
        }
    }
}

/// What came of a question, for the checks that go on with it
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved<'a> {
    pub(super) resolution: &'a Resolution,
    /// The key that is known, and how far the list of its domains is
    pub(super) listing: Option<(&'a Rc<Key>, &'a Progress)>,
    /// Cells of its client's bucket
    pub(super) paid: u64,
}

impl Waiting {
    /// A draft of a refusal
    fn draft(&self, moment: Moment) -> Draft {
        self.request(|request| {
            let head = Head::scan(request.headers);
            let api = head
                .authority
                .and_then(|authority| self.policy.api_of(authority));
            let mut draft = Draft::new(&self.policy, api, &head, moment);
            draft.note(&head, request);
            draft
        })
    }
}

#[cfg(test)]
mod tests;
