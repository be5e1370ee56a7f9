//! Files that are fetched while a policy is in force.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use lru::LruCache;

use portcullis_threat::{Delivery, Refusal};

use super::Engine;
use crate::account::{AccountKey, AccountStore};
use crate::asks::Topic;
use crate::callout::Query;
use crate::feeds::{self, Feeds};
use crate::key::{Adoption, KeyBundle};
use crate::policy::{Api, Policy};
use crate::replica::{Came, Intake, Replica, Source, Time, Turn};
use crate::request::Moment;

/// What a worker knows of files
pub(super) type Replicas = LruCache<AccountKey, Replica<Inbound>>;

/// A file on its way in
pub(super) enum Inbound {
    Keys(Box<Adoption>),
    Threats(Box<Delivery>),
}

/// Files that are known at the same time, those of former policies among them
pub(super) const MAX_REPLICAS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// What is to be done for the files of a policy
#[derive(Debug, Default)]
#[must_use]
pub struct Supply {
    /// Calls to be made, each with its number: as those of [`Engine::ask`](crate::Engine::ask)
    pub calls: Vec<(u32, Query)>,
    /// What the operator is to read
    pub notices: Vec<Notice>,
    /// Whether there is more to do soon: a page a turn
    pub is_busy: bool,
}

/// A line for the host's log
#[derive(Debug)]
pub struct Notice {
    /// What it says
    pub text: String,
    /// Whether something is wrong
    pub is_warning: bool,
}

/// How the keys of an API stand that come as a bundle, for gauges
#[derive(Clone, Copy, Debug)]
pub struct BundleState<'a> {
    /// The API's name
    pub api: &'a str,
    /// When the bundle in force was made, in seconds since the Unix epoch; 0 without one
    pub generated_at: u64,
    /// How many keys it holds
    pub keys: u64,
    /// Seconds since there was word of where it comes from
    pub age: u64,
}

/// How the threat bundle stands, for gauges; all zero without one
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedsState {
    /// When the bundle in force was made, in seconds since the Unix epoch
    pub created_at: u64,
    /// Seconds since then
    pub age: u64,
    /// The first 48 bits of its digest
    pub version: u64,
    /// Its length
    pub bytes: u64,
    /// Whether its feeds still count
    pub is_current: bool,
}

impl Engine {
    /// Does the next small thing for each file that a policy names
    ///
    /// A shell calls it on its timer: every half second or so, and every few milliseconds while it says
    /// that it is busy. A turn costs a page at the most.
    pub fn supply(
        &mut self,
        policy: &Policy,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Supply {
        let mut supply = Supply::default();
        for api in &policy.apis {
            if let Some(source) = &api.source {
                self.supply_keys(api, source, moment, store, &mut supply);
            }
        }
        if let Some(feeds) = &policy.threat.feeds
            && let Some(source) = &feeds.source
        {
            self.supply_threats(feeds, source, moment, store, &mut supply);
        }
        supply
    }

    /// How the threat bundle of a policy stands; `None` where it wants none
    #[must_use]
    pub fn feeds(&self, policy: &Policy, moment: Moment) -> Option<FeedsState> {
        let feeds = policy.threat.feeds.as_ref()?;
        let now = seconds(moment.wall);
        let Some(bundle) = self.shelves.live(feeds) else {
            return Some(FeedsState::default());
        };
        let [a, b, c, d, e, f, ..] = *bundle.digest();
        Some(FeedsState {
            created_at: bundle.created(),
            age: now.saturating_sub(bundle.created()),
            version: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
            bytes: u64::try_from(bundle.len()).unwrap_or(u64::MAX),
            is_current: now <= feeds.until(bundle).min(bundle.current_until()),
        })
    }

    /// How the bundles of a policy's APIs stand
    pub fn bundles<'a>(
        &'a self,
        policy: &'a Policy,
        now: u64,
    ) -> impl Iterator<Item = BundleState<'a>> {
        policy.apis.iter().filter_map(move |api| {
            let source = api.source.as_deref()?;
            let bundle = self.keys.bundle(api);
            let replica = self.replicas.peek(&source.id);
            let age = replica.map_or(0, |replica| replica.age(now));
            Some(BundleState {
                api: api.name.as_str(),
                generated_at: bundle.map_or(0, |bundle| bundle.generated_at()),
                keys: bundle.map_or(0, |bundle| bundle.count().into()),
                age: age.checked_div(1_000_000_000).unwrap_or_default(),
            })
        })
    }

    fn supply_keys(
        &mut self,
        api: &Api,
        source: &Source,
        moment: Moment,
        store: &mut dyn AccountStore,
        supply: &mut Supply,
    ) {
        let intake = || {
            let adoption = Adoption::against(Rc::clone(&api.terms), source.max_bytes);
            Inbound::Keys(Box::new(adoption))
        };
        let what = || format!("key bundle of {}", api.name);
        let came = match self.turn(source, moment, &intake, store, supply) {
            Ok(None) => return,
            Ok(Some(inbound)) => inbound,
            Err(error) => return supply.say(&what(), true, &error),
        };
        let before = self.keys.bundle(api).map(|bundle| bundle.generated_at());
        let finished = match came {
            Inbound::Keys(adoption) => adoption.finish().map_err(|error| error.to_string()),
            Inbound::Threats(_) => Err(String::new()),
        };
        let good = match finished.and_then(|bundle| not_older(bundle, before)) {
            Ok(bundle) => {
                let (revision, keys) = (bundle.revision(), bundle.count());
                supply.say(
                    &what(),
                    false,
                    &format!("{keys} keys of revision {revision}"),
                );
                self.keys.adopt(bundle);
                Ok(())
            }
            Err(error) => {
                supply.say(&what(), true, &error);
                Err(error)
            }
        };
        self.adopted(source, moment, good, store);
    }

    fn supply_threats(
        &mut self,
        feeds: &Feeds,
        source: &Source,
        moment: Moment,
        store: &mut dyn AccountStore,
        supply: &mut Supply,
    ) {
        if self.shelves.supplies(source.id) {
            // Whatever was known of it has lost what it had adopted.
            self.replicas.pop(&source.id);
        }
        let Some(awaited) = self
            .shelves
            .of(source.id)
            .map(|shelf| shelf.expect(source.max_bytes))
        else {
            return;
        };
        let intake = || Inbound::Threats(Box::new(awaited.afresh()));
        let what = "threat bundle";
        let came = match self.turn(source, moment, &intake, store, supply) {
            Ok(None) => return,
            Ok(Some(inbound)) => inbound,
            Err(error) => return supply.say(what, true, &error),
        };
        let good = match (came, self.shelves.of(source.id)) {
            (Inbound::Threats(delivery), Some(shelf)) => {
                let terms = feeds.terms(seconds(moment.wall));
                let taken = shelf.take(*delivery, &terms);
                taken.map_err(said)
            }
            _ => Err(String::new()),
        };
        match (&good, self.shelves.live(feeds)) {
            (Ok(()), Some(bundle)) => {
                let (version, bytes) = (feeds::version(bundle), bundle.len());
                supply.say(what, false, &format!("{version}, {bytes} bytes"));
            }
            (Ok(()), None) => {}
            (Err(error), _) => supply.say(what, true, error),
        }
        self.adopted(source, moment, good, store);
    }

    /// Lets a file have its turn; it is to be [`adopted`](Self::adopted) when it is in whole
    ///
    /// # Errors
    ///
    /// What is wrong with its source, or with the file.
    fn turn(
        &mut self,
        source: &Source,
        moment: Moment,
        intake: &dyn Fn() -> Inbound,
        store: &mut dyn AccountStore,
        supply: &mut Supply,
    ) -> Result<Option<Inbound>, String> {
        let now = moment.monotonic;
        let replica = self
            .replicas
            .get_or_insert_mut(source.id, || Replica::new(now));
        let turn = replica.turn(source, time(moment), intake, store);
        let mut came = Ok(None);
        match turn {
            Turn::Nothing => {}
            Turn::Ask(query) => {
                let topic = Topic::Page(source.id, source.page);
                match self.asks.open(topic, source.timeout, now) {
                    Some(call) => supply.calls.push((call, query)),
                    None => replica.answered(Came::not_asked()),
                }
            }
            Turn::Whole(inbound) => came = Ok(Some(inbound)),
            Turn::Failed(error) => came = Err(error),
        }
        supply.is_busy |= replica.is_busy();
        came
    }

    /// Tells what became of a file that was in whole
    fn adopted(
        &mut self,
        source: &Source,
        moment: Moment,
        good: Result<(), String>,
        store: &mut dyn AccountStore,
    ) {
        if let Some(replica) = self.replicas.get_mut(&source.id) {
            replica.adopted(source, time(moment), good, store);
        }
    }
}

fn time(moment: Moment) -> Time {
    let [_, random] = halves(moment.decision);
    Time {
        now: moment.monotonic,
        random,
    }
}

impl Supply {
    fn say(&mut self, file: &str, is_warning: bool, what: &str) {
        let fate = if is_warning { "not loaded" } else { "loaded" };
        let text = format!("{file} {fate}: {what}");
        self.notices.push(Notice { text, is_warning });
    }
}

impl Intake for Inbound {
    fn feed(&mut self, page: &[u8]) -> Result<(), String> {
        match self {
            Self::Keys(adoption) => adoption.feed(page).map_err(|error| error.to_string()),
            Self::Threats(delivery) => delivery.push(page).map_err(said),
        }
    }
}

/// Why a threat bundle is refused: the word by which it is looked for, and what it means
fn said(refusal: Refusal) -> String {
    let word = refusal.word();
    match refusal {
        Refusal::Licence(feed) => format!("{word}: {refusal}: that of feed {feed}"),
        _ => format!("{word}: {refusal}"),
    }
}

fn seconds(wall: u64) -> u64 {
    wall.checked_div(1_000_000_000).unwrap_or_default()
}

/// Refuses to go back: who can make a service tell what it told before could bring back revoked keys
fn not_older(bundle: KeyBundle, before: Option<u64>) -> Result<KeyBundle, String> {
    match before {
        Some(before) if bundle.generated_at() < before => {
            Err("it is older than the one in force: make it anew".to_string())
        }
        _ => Ok(bundle),
    }
}

fn halves(number: u128) -> [u64; 2] {
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    let high = u64::try_from(number.wrapping_shr(64)).unwrap_or_default();
    [high, low]
}

#[cfg(test)]
mod tests;
