//! What a request spends: all of it or nothing.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::draft::Draft;
use super::{Engine, Outcome};
use crate::account::{AccountKey, AccountStore, Change, StoreError};
use crate::client::{self, ClientCharge};
use crate::key::Key;
use crate::limit::{Limit, Spent, Subject};
use crate::limiter::Charged;
use crate::reason::Reason;
use crate::request::Moment;
use crate::route::Route;

/// What a request costs
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Cells of each rate that it spends
    pub(super) cells: u64,
    /// Whether its principal's tier is one of them
    pub(super) spends_tier: bool,
}

/// Who pays
#[derive(Clone, Copy, Debug)]
struct Payer {
    account: Option<AccountKey>,
    client: Option<IpAddr>,
    cells: u64,
}

/// What a request has spent of its route's limits
///
/// INVARIANT: it is given back by [`Engine::give_back`], or its slots become the outcome's leases.
#[derive(Default)]
struct Spending(Vec<(Rc<Limit>, Spent)>);

impl Cost {
    pub(super) fn of(route: &Route, cells: u64) -> Self {
        Self {
            cells,
            spends_tier: route.spends_tier,
        }
    }
}

impl Engine {
    /// Charges the principal, whatever was found: abuse is not free
    pub(super) fn settle_principal(
        &mut self,
        mut draft: Draft,
        key: &Rc<Key>,
        cost: Cost,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        let cells = if cost.spends_tier && !draft.is_exempt {
            cost.cells
        } else {
            0
        };
        let Some(route) = limited(&draft) else {
            return self.settle_quota(draft, key, cells, moment, store);
        };
        let payer = Payer {
            account: Some(key.account),
            client: draft.client,
            cells: cost.cells,
        };
        let spending = self.spend(&mut draft, &route, payer, moment, store);
        let outcome = match spending {
            Ok(_) => {
                draft.spends_limit = draft.tightest.is_some();
                self.settle_quota(draft, key, cells, moment, store)
            }
            Err(_) => draft.finish_limited(),
        };
        settled(outcome, spending, moment, store)
    }

    /// Charges the tier's bucket
    pub(super) fn settle_tier(
        &mut self,
        mut draft: Draft,
        key: &Rc<Key>,
        cells: u64,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        let Some(bucket) = &key.tier.bucket else {
            return draft.finish_limited();
        };
        if let Some(table) = key.anonymous {
            let charge = ClientCharge {
                table,
                client: draft.client,
                bucket,
                cells,
            };
            let charged = self.clients.charge(charge, moment.monotonic, store);
            return draft.charged(key, moment.monotonic, charged);
        }
        // A burst may wait; what is refused anyway does not, nor what another rate has let pass now.
        let binds = key.tier.enforcement.binds(draft.who) && !draft.is_observed;
        let waits = binds && !draft.is_refusal() && !draft.spends_limit && !self.queue.is_full();
        let bucket = if waits {
            *bucket
        } else {
            bucket.without_queue()
        };
        let mut charge = draft.charge(key, &bucket, cells);
        let now = moment.monotonic;
        if !key.tier.enforcement.binds(draft.who) {
            charge.account = charge.account.shadow();
            // What a rule that does not bind can't find out changes nothing.
            let charged = (cells > 0).then(|| self.limiter.charge(&charge, now, store));
            if let Some(Ok(Charged { result: Err(_), .. })) = charged {
                draft.would(Reason::RateLimited, &key.tier.rule);
            }
            return draft.finish_limited();
        }
        let charged = if cells == 0 {
            self.limiter
                .peek(&charge, now, store)
                .map(|peeked| Charged {
                    result: Ok(()),
                    ..peeked
                })
        } else {
            self.limiter.charge(&charge, now, store)
        };
        draft.charged(key, now, charged)
    }

    /// Charges the client's address, or only shows how it stands
    pub(super) fn settle_client(
        &mut self,
        mut draft: Draft,
        charged: bool,
        client: Option<IpAddr>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        // A probe asks the gate itself.
        let limited = limited(&draft);
        let is_asked = draft.policy.rollout.is_partial() || limited.is_some();
        if is_asked && draft.reason != Reason::Ready {
            draft.identify(client::number(client));
        }
        let Some(route) = limited else {
            return self.settle_unkeyed(draft, charged, client, moment, store);
        };
        let payer = Payer {
            account: None,
            client,
            cells: 1,
        };
        let spending = self.spend(&mut draft, &route, payer, moment, store);
        let outcome = match spending {
            Ok(_) => self.settle_unkeyed(draft, charged, client, moment, store),
            Err(_) => draft.finish_limited(),
        };
        settled(outcome, spending, moment, store)
    }

    fn settle_unkeyed(
        &mut self,
        mut draft: Draft,
        charged: bool,
        client: Option<IpAddr>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        let charged = charged && !draft.is_exempt;
        let policy = Rc::clone(&draft.policy);
        let charge = ClientCharge {
            table: policy.clients,
            client,
            bucket: &policy.unauthenticated,
            cells: u64::from(charged),
        };
        match self.clients.charge(charge, moment.monotonic, store) {
            Ok(Charged {
                standing, result, ..
            }) => {
                if let Err(refused) = result {
                    draft.refuse(
                        Reason::UnauthenticatedLimited,
                        &policy.rules.unauthenticated,
                        refused.retry_after,
                    );
                }
                let rate = match &draft.tightest {
                    Some((tightest, name))
                        if result.is_ok() && tightest.remaining <= standing.remaining =>
                    {
                        draft.rate(*tightest, name)
                    }
                    _ => draft.rate(standing, &policy.unauthenticated_name),
                };
                draft.finish(Some(rate))
            }
            // What is only shown is not worth a refusal.
            Err(_) if !charged => draft.finish(None),
            Err(error) => draft.store_error(error),
        }
    }

    /// Whether a limit that a route names refuses a request of so many cells, as limits stand now
    ///
    /// Nothing is spent; the draft says what refused.
    pub(super) fn is_over(
        &mut self,
        draft: &mut Draft,
        account: AccountKey,
        cells: u64,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> bool {
        let Some(route) = draft.route.clone().filter(|_| !draft.is_exempt) else {
            return false;
        };
        let seed = self.clients.seed();
        let subject = Subject {
            account: Some(account),
            client: draft.client,
            seed: &seed,
            max_accounts: draft.policy.max_accounts,
            id: slot_id(moment.decision),
            cells,
            is_shadow: false,
        };
        let binding = |limit: &&Rc<Limit>| !limit.tags && limit.enforcement.binds(draft.who);
        let mut store = Unwritten(store);
        let (born, now) = (self.limiter.born(), moment.monotonic);
        let refused = route.limits.iter().filter(binding).find_map(|limit| {
            match limit.charge(&subject, born, now, &mut store) {
                Ok(met) => Some((limit, Ok((met.standing, met.result.err()?)))),
                Err(error) => Some((limit, Err(error))),
            }
        });
        match refused {
            None => return false,
            Some((_, Err(error))) => draft.store_failed(error),
            Some((limit, Ok((standing, refused)))) => {
                draft.refuse(limit.reason(), &limit.rule, refused.retry_after);
                draft.tightest = Some((standing, limit.name.clone()));
            }
        }
        true
    }

    /// Spends the limits that a route names, until one refuses
    ///
    /// What was spent is `Err` when one did: the draft says which and why.
    fn spend(
        &mut self,
        draft: &mut Draft,
        route: &Route,
        payer: Payer,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Result<Spending, Spending> {
        let seed = self.clients.seed();
        let subject = Subject {
            account: payer.account,
            client: payer.client,
            seed: &seed,
            max_accounts: draft.policy.max_accounts,
            id: slot_id(moment.decision),
            cells: payer.cells,
            is_shadow: false,
        };
        let mut spending = Spending::default();
        for limit in &route.limits {
            let binds = limit.enforcement.binds(draft.who);
            let subject = Subject {
                is_shadow: !binds,
                ..subject
            };
            let met = match limit.charge(&subject, self.limiter.born(), moment.monotonic, store) {
                Ok(met) => met,
                // What a rule that does not bind can't find out changes nothing.
                Err(_) if !binds => continue,
                Err(error) => {
                    draft.store_failed(error);
                    return Err(spending);
                }
            };
            draft.expired(met.expired);
            if !binds {
                match met.result {
                    Ok(spent) => spending.0.push((Rc::clone(limit), spent)),
                    Err(_) => draft.would(limit.reason(), &limit.rule),
                }
                continue;
            }
            if limit.is_told() || (met.result.is_err() && !limit.tags) {
                draft.tighten(met.standing, &limit.name);
            }
            match met.result {
                Ok(spent) => spending.0.push((Rc::clone(limit), spent)),
                Err(_) if limit.tags => draft.over(limit),
                Err(refused) => {
                    draft.refuse(limit.reason(), &limit.rule, refused.retry_after);
                    draft.tightest = Some((met.standing, limit.name.clone()));
                    return Err(spending);
                }
            }
        }
        Ok(spending)
    }
}

/// A store that is read as if it were changed, and isn't
struct Unwritten<'s>(&'s mut dyn AccountStore);

impl AccountStore for Unwritten<'_> {
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError> {
        self.0.update(key, &mut |record, fresh| {
            change(record, fresh);
            false
        })
    }
}

/// The route whose limits a request spends: what is refused spends none
fn limited(draft: &Draft) -> Option<Rc<Route>> {
    let route = draft.route.as_ref()?;
    let spends = !route.limits.is_empty() && !draft.is_exempt && !draft.is_refusal();
    spends.then(|| Rc::clone(route))
}

/// The outcome with the slots that its request holds, or after everything was taken back
fn settled(
    mut outcome: Outcome,
    spending: Result<Spending, Spending>,
    moment: Moment,
    store: &mut dyn AccountStore,
) -> Outcome {
    let (Ok(Spending(spent)) | Err(Spending(spent))) = spending;
    if outcome.record.reason.is_refusal() {
        for (limit, spent) in &spent {
            limit.take_back(spent, moment.monotonic, store);
        }
        return outcome;
    }
    for (_, spent) in spent {
        if let Spent::Slot(slot) = spent {
            outcome.leases.push(slot);
        }
    }
    outcome
}

/// A number for a request's slots: the random half of its decision's id
fn slot_id(decision: u128) -> u64 {
    u64::try_from(decision & u128::from(u64::MAX)).unwrap_or_default()
}

impl Draft {
    fn store_failed(&mut self, error: StoreError) {
        let reason = match error {
            StoreError::Contended => Reason::StoreContended,
            StoreError::Failed => Reason::StoreFailed,
        };
        let rule = Rc::clone(&self.policy.rules.store);
        self.refuse(reason, &rule, 0);
        self.tightest = None;
    }

    /// The outcome of a request whose tightest limit is one of the named
    pub(super) fn finish_limited(self) -> Outcome {
        let rate = self
            .tightest
            .as_ref()
            .map(|(standing, name)| self.rate(*standing, name));
        self.finish(rate)
    }

    /// The outcome of a request that the store could not charge
    pub(super) fn store_error(mut self, error: StoreError) -> Outcome {
        self.store_failed(error);
        self.finish(None)
    }
}
