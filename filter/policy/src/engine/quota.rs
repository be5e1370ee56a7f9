//! What a request spends of its principal's quotas.

use alloc::rc::Rc;

use super::draft::Draft;
use super::{Decision, Engine, Outcome};
use crate::account::AccountStore;
use crate::key::Key;
use crate::quota::{Asked, Ending, Granted, QuotaReservation, Settled, find_key};
use crate::quota::{digest_of_body, digest_of_key};
use crate::reason::Reason;
use crate::reply::Particulars;
use crate::request::{Moment, Request};
use crate::route::Route;
use crate::schema::Fault;

/// What makes a request known again: digests of its idempotency key with its route, and of its body
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Replay {
    key: [u8; 16],
    body: [u8; 16],
}

impl Engine {
    /// Commits or releases what a request has reserved of a quota
    ///
    /// A shell calls it when the response's headers are there, or the stream is gone without.
    pub fn settle(
        &mut self,
        reservation: QuotaReservation,
        ending: Ending,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Settled {
        reservation.settle(ending, moment.monotonic, store)
    }

    /// Reserves one of the quota that the route spends, and charges the tier's bucket; both or none
    pub(super) fn settle_quota(
        &mut self,
        mut draft: Draft,
        key: &Rc<Key>,
        cells: u64,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        let route = match &draft.route {
            Some(route) if route.spend.is_some() && !draft.is_refusal() => Rc::clone(route),
            _ => return self.settle_tier(draft, key, cells, moment, store),
        };
        let Some(spend) = &route.spend else {
            return self.settle_tier(draft, key, cells, moment, store);
        };
        let Some(entitlement) = &key.entitlement else {
            // In doubt, refuse: who is entitled to nothing has no quota.
            draft.found(Reason::QuotaNone, Rc::clone(&route.rule));
            return draft.finish(None);
        };
        let asked = Asked {
            account: key.account,
            entitlement,
            spend,
            replay: draft.replay.map(|replay| (replay.key, replay.body)),
            max_accounts: draft.policy.max_accounts,
            wall: moment.wall,
            now: moment.monotonic,
        };
        let reservation = match asked.reserve(store) {
            Err(error) => return draft.store_error(error),
            Ok(Granted::Unlimited) => None,
            Ok(Granted::Replayed(reservation, standing)) => {
                if let Some(standing) = standing {
                    draft.spends(&spend.quota.name, standing);
                }
                reservation
            }
            Ok(Granted::Reserved(reservation, standing)) => {
                draft.spends(&spend.quota.name, standing);
                Some(reservation)
            }
            Ok(Granted::Refused {
                reason,
                standing,
                retry_after,
            }) => {
                let rule = match (reason, &spend.idempotency) {
                    (Reason::QuotaUnavailable, _) => &draft.policy.rules.store,
                    (Reason::QuotaNone | Reason::QuotaSpent, _) | (_, None) => &entitlement.rule,
                    (_, Some(idempotency)) => &idempotency.rule,
                };
                let rule = Rc::clone(rule);
                draft.found(reason, rule);
                draft.particulars = Particulars {
                    retry_after,
                    ..Particulars::default()
                };
                let Some(standing) = standing else {
                    // A key that is used wrongly is abuse, which is not free.
                    let cells = match reason {
                        Reason::QuotaUnavailable => 0,
                        _ => cells.min(1),
                    };
                    return self.settle_tier(draft, key, cells, moment, store);
                };
                draft.tells(&spend.quota.name, standing);
                draft.tightest = Some((standing, spend.quota.name.clone()));
                return draft.finish_limited();
            }
        };
        let mut outcome = self.settle_tier(draft, key, cells, moment, store);
        match (&outcome.decision, reservation) {
            (Decision::Forward(_), reservation) => outcome.leases.reserve(reservation),
            (Decision::Reply(_), Some(reservation)) => {
                let ending = Ending::Response(outcome.record.reason.status());
                if self.settle(*reservation, ending, moment, store) == Settled::Released {
                    outcome.record.gives_back();
                }
            }
            (Decision::Reply(_), None) => {}
        }
        outcome
    }
}

const KEY_FORM: &str = "must be 1 to 255 visible characters, once";

/// The digest of a request's idempotency key, where its route wants to know it
///
/// # Errors
///
/// [`Reason::FieldInvalid`], when there is no one key in the header.
pub(super) fn key_of(route: &Route, request: &Request<'_>) -> Result<Option<[u8; 16]>, Fault> {
    let spend = route.spend.as_ref();
    let Some(idempotency) = spend.and_then(|spend| spend.idempotency.as_ref()) else {
        return Ok(None);
    };
    match find_key(request.headers, &idempotency.header) {
        Ok(key) => Ok(key.map(|key| digest_of_key(route.name.as_str().as_bytes(), key))),
        Err(()) => Err(Fault {
            reason: Reason::FieldInvalid,
            rule: Rc::clone(&idempotency.rule),
            field: Some((idempotency.header.clone(), KEY_FORM.into())),
        }),
    }
}

impl Replay {
    /// What is known of a request when its body is in
    pub(super) fn of(key: Option<[u8; 16]>, body: &[u8]) -> Option<Self> {
        let body = |key| Self {
            key,
            body: digest_of_body(body),
        };
        key.map(body)
    }
}
