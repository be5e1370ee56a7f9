//! Files that are fetched while a policy is in force.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use lru::LruCache;

use super::Engine;
use crate::account::{AccountKey, AccountStore};
use crate::asks::Topic;
use crate::callout::Query;
use crate::key::{Adoption, KeyBundle};
use crate::policy::{Api, Policy};
use crate::replica::{Came, Intake, Replica, Source, Time, Turn};
use crate::request::Moment;

/// What a worker knows of files
pub(super) type Replicas = LruCache<AccountKey, Replica<Box<Adoption>>>;

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
        supply
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
        let now = moment.monotonic;
        let [_, random] = halves(moment.decision);
        let time = Time { now, random };
        let replica = self
            .replicas
            .get_or_insert_mut(source.id, || Replica::new(now));
        let intake = || Box::new(Adoption::against(Rc::clone(&api.terms), source.max_bytes));
        match replica.turn(source, time, intake, store) {
            Turn::Nothing => {}
            Turn::Ask(query) => {
                let topic = Topic::Page(source.id, source.page);
                match self.asks.open(topic, source.timeout, now) {
                    Some(call) => supply.calls.push((call, query)),
                    None => replica.answered(Came::not_asked()),
                }
            }
            Turn::Whole(adoption) => {
                let before = self.keys.bundle(api).map(|bundle| bundle.generated_at());
                let finished = adoption.finish().map_err(|error| error.to_string());
                let good = finished.and_then(|bundle| not_older(bundle, before));
                match good {
                    Ok(bundle) => {
                        let (revision, keys) = (bundle.revision(), bundle.count());
                        supply.say(api, false, &format!("{keys} keys of revision {revision}"));
                        self.keys.adopt(bundle);
                        replica.adopted(source, time, Ok(()), store);
                    }
                    Err(error) => {
                        supply.say(api, true, &error);
                        replica.adopted(source, time, Err(error), store);
                    }
                }
            }
            Turn::Failed(error) => supply.say(api, true, &error),
        }
        supply.is_busy |= replica.is_busy();
    }
}

impl Supply {
    fn say(&mut self, api: &Api, is_warning: bool, what: &str) {
        let fate = if is_warning { "not loaded" } else { "loaded" };
        let text = format!("key bundle of {} {fate}: {what}", api.name);
        self.notices.push(Notice { text, is_warning });
    }
}

impl Intake for Box<Adoption> {
    fn feed(&mut self, page: &[u8]) -> Result<(), String> {
        Adoption::feed(self, page).map_err(|error| error.to_string())
    }
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
