//! A limit of an API by its own name, which routes spend besides the tier's rate.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::account::{Account, AccountKey, AccountStore, StoreError};
use crate::bucket::{Bucket, Refused};
use crate::enforcement::Enforcement;
use crate::name::Name;
use crate::place::Place;
use crate::quota::QuotaReservation;
use crate::rate::Standing;
use crate::reason::Reason;
use crate::record::Rule;
use crate::slots::{Slot, Slots};
use crate::window::{Passed, Window};

/// A limit of an API
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) name: Name,
    pub(crate) per: Per,
    pub(crate) kind: Kind,
    /// Whether a request goes on that is over the limit, and only says so
    pub(crate) tags: bool,
    pub(crate) enforcement: Enforcement,
    /// Where the limit's records begin that belong to no principal
    pub(crate) table: AccountKey,
    pub(crate) rule: Rc<Rule>,
}

/// Whose requests are counted together
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Per {
    Principal,
    /// The client's address: all of IPv4, the /64 of IPv6
    Client,
    /// All requests of the API that spend the limit
    Api,
}

/// What is limited
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Requests in any span of time
    Window(Window),
    /// Cells: a request spends what its class costs
    Rate(Bucket),
    /// Requests at the same time
    Slots(Slots),
}

/// Who spends a limit
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The principal's account, where there is one
    pub(crate) account: Option<AccountKey>,
    pub(crate) client: Option<IpAddr>,
    /// Bytes that nobody can guess, so that nobody can aim at another client's record
    pub(crate) seed: &'a [u8; 16],
    pub(crate) max_accounts: u64,
    /// The decision
    pub(crate) id: u64,
    /// What the request's class costs
    pub(crate) cells: u64,
    /// Whether the limit does not bind: it then has records of its own
    pub(crate) is_shadow: bool,
}

/// What became of a request at a limit
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub(crate) result: Result<Spent, Refused>,
    pub(crate) standing: Standing,
    /// Slots that nobody gave back
    pub(crate) expired: u64,
}

/// What a request has spent of a limit, so that it can be taken back
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spent {
    Window(Passed),
    Rate {
        key: AccountKey,
        emission: u64,
        cells: u64,
        end: u64,
    },
    Slot(Slot),
}

/// What a request holds until its stream ends, when a shell gives it back: slots, and what it has
/// reserved of a quota, which is settled as soon as its response is known
#[derive(Debug, Default)]
#[must_use]
pub struct Leases {
    slots: Vec<Slot>,
    quota: Option<Box<QuotaReservation>>,
}

impl Leases {
    /// Whether there are no slots to give back
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Gives the slots back; those that the store does not take expire
    pub fn give_back(self, store: &mut dyn AccountStore) {
        for slot in self.slots {
            slot.give_back(store);
        }
    }

    /// Adds what another outcome of the same stream holds
    pub fn extend(&mut self, other: Self) {
        self.slots.extend(other.slots);
        self.quota = self.quota.take().or(other.quota);
    }

    /// Whether something of a quota is reserved
    #[must_use]
    pub fn has_quota(&self) -> bool {
        self.quota.is_some()
    }

    /// Takes what was reserved of a quota: hand it to [`Engine::settle`](crate::Engine::settle) when the
    /// response is known, or the stream is gone; what is dropped without is charged
    pub fn take_quota(&mut self) -> Option<Box<QuotaReservation>> {
        self.quota.take()
    }

    pub(crate) fn reserve(&mut self, reservation: Option<Box<QuotaReservation>>) {
        self.quota = reservation;
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        self.slots.push(slot);
    }
}

impl Limit {
    /// Charges the limit, or says why not
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is charged then.
    pub(crate) fn charge(
        &self,
        subject: &Subject<'_>,
        born: u64,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Met, StoreError> {
        let place = self.place(subject);
        match &self.kind {
            Kind::Window(window) => {
                let (charged, passed) = window.charge(place, now, store)?;
                Ok(Met {
                    result: charged.result.map(|()| Spent::Window(passed)),
                    standing: charged.standing,
                    expired: 0,
                })
            }
            Kind::Rate(bucket) => charge_bucket(bucket, place, subject.cells, born, now, store),
            Kind::Slots(slots) => {
                let seated = slots.take(place, subject.id, now, store)?;
                let standing = Standing {
                    limit: slots.cap,
                    remaining: seated.free,
                    window: slots.expires,
                    full_in: seated.free_in,
                };
                Ok(Met {
                    result: seated.result.map(Spent::Slot),
                    standing,
                    expired: seated.expired,
                })
            }
        }
    }

    /// Takes back what a request has spent that did not pass another limit
    ///
    /// What can't be taken back counts: a limit is then stricter, never looser.
    pub(crate) fn take_back(&self, spent: &Spent, now: u64, store: &mut dyn AccountStore) {
        match (spent, &self.kind) {
            (Spent::Window(passed), Kind::Window(window)) => window.take_back(passed, now, store),
            (Spent::Slot(slot), _) => slot.give_back(store),
            (
                Spent::Rate {
                    key,
                    emission,
                    cells,
                    end,
                },
                _,
            ) => {
                let taken = store.update(&key.bytes(), &mut |record, fresh| {
                    Account::take_back(*key, record, fresh, *end, *emission, *cells)
                });
                let _: Result<(), StoreError> = taken;
            }
            (Spent::Window(_), _) => {}
        }
    }

    /// Why a request is refused that is over the limit
    pub(crate) fn reason(&self) -> Reason {
        match self.kind {
            Kind::Slots(_) => Reason::ConcurrencyLimited,
            Kind::Rate(_) | Kind::Window(_) => Reason::RateLimited,
        }
    }

    /// Whether what is left of the limit is told to clients: slots are no rate
    pub(crate) fn is_told(&self) -> bool {
        !matches!(self.kind, Kind::Slots(_))
    }

    fn place(&self, subject: &Subject<'_>) -> Place {
        let place = self.bound_place(subject);
        if subject.is_shadow {
            place.shadow()
        } else {
            place
        }
    }

    fn bound_place(&self, subject: &Subject<'_>) -> Place {
        match (self.per, subject.account) {
            (Per::Principal, Some(account)) => {
                let kind: &[u8] = match &self.kind {
                    Kind::Window(_) => b"window",
                    Kind::Rate(_) => b"rate",
                    Kind::Slots(_) => b"slots",
                };
                let name = self.name.as_str().as_bytes();
                let key = AccountKey::hash(&[kind, name, &account.bytes()]);
                Place::counted(key, subject.max_accounts)
            }
            // INVARIANT: 65,536 records a limit, however many addresses call. Those that share one can
            // only make it stricter.
            (Per::Client, _) => {
                let prefix = crate::client::prefix(subject.client);
                let hash = AccountKey::hash(&[subject.seed, &prefix]);
                let [a, b, ..] = hash.bytes();
                Place::fixed(self.table.part(u16::from_le_bytes([a, b])))
            }
            (Per::Api | Per::Principal, _) => Place::fixed(self.table),
        }
    }
}

/// Charges a bucket cell by cell: what is charged exactly can be taken back exactly
fn charge_bucket(
    bucket: &Bucket,
    place: Place,
    cells: u64,
    born: u64,
    now: u64,
    store: &mut dyn AccountStore,
) -> Result<Met, StoreError> {
    let emission = bucket.emission();
    let (mut tat, mut result) = (0, Ok(()));
    let key = place.update(store, &mut |key, record, fresh| {
        tat = Account::decode(key, record).tat(bucket, born, now);
        match bucket.charge(tat, now, cells) {
            Ok(charged) => {
                (tat, result) = (charged, Ok(()));
                Account { tat, emission }.encode(key, record, fresh);
                true
            }
            Err(refused) => {
                result = Err(refused);
                false
            }
        }
    })?;
    let standing = Standing {
        limit: bucket.count(),
        remaining: bucket.remaining(tat, now),
        window: bucket.window(),
        full_in: bucket.full_in(tat, now),
    };
    let end = tat;
    let spent = Spent::Rate {
        key,
        emission,
        cells,
        end,
    };
    Ok(Met {
        result: result.map(|()| spent),
        standing,
        expired: 0,
    })
}
