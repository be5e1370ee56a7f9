//! Domains in the order of checks, and what is learned of them from responses.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;

use super::Engine;
use super::draft::Draft;
use crate::access::{DomainAccess, DomainFrom, DomainPlace, Source, Unknown};
use crate::account::{AccountKey, AccountStore, StoreError};
use crate::grants::{Grants, Lives, Mark};
use crate::key::Key;
use crate::listing::{Listing, Progress};
use crate::reason::Reason;
use crate::record::Rule;
use crate::request::Moment;
use crate::route::Route;
use crate::schema::Fault;

/// What a success of a request that went on teaches: hand it to [`Engine::learn`] with the status of
/// its response
#[derive(Clone, Debug)]
#[must_use = "what is not handed back is not learned"]
pub struct Lesson {
    account: AccountKey,
    lives: Lives,
    max_accounts: u64,
    /// Monotonic nanoseconds: when the request was decided
    at: u64,
    granted: Option<String>,
    revoked: Option<String>,
}

/// What was found of a request's domains
#[derive(Debug, Default)]
pub(super) struct Domains {
    /// How far the upstream's list is read
    listed: Listed,
    /// What lets the request go on that nothing is known for
    unknown: Option<Rc<Rule>>,
    granted: Option<String>,
    revoked: Option<String>,
    /// When they were found, in monotonic nanoseconds
    at: u64,
}

/// How far the upstream's list is read for a request
#[derive(Clone, Debug, Default)]
enum Listed {
    /// It was not asked for
    #[default]
    Unasked,
    More(Box<Listing>),
    Whole,
    Away,
}

/// Why a request does not go on
#[derive(Debug)]
pub(super) enum Stop {
    Refused(Reason, Rc<Rule>),
    /// The upstream's list has to be read first
    Ask(Box<Listing>),
}

impl Engine {
    /// Learns from the status of a request's response
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it could not be kept: a revocation that is lost leaves a domain open until its
    /// grant ends, so a shell says so.
    pub fn learn(
        &mut self,
        lesson: &Lesson,
        status: u16,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Result<(), StoreError> {
        if !(200..300).contains(&status) {
            return Ok(());
        }
        let grants = Grants::new(lesson.account, lesson.lives);
        let mut learn = |mark, domain: &Option<String>, at| {
            let marks = domain.iter().map(|domain| (mark, domain.as_str()));
            match domain {
                Some(_) => grants.learn(marks, at, lesson.max_accounts, moment.monotonic, store),
                None => Ok(()),
            }
        };
        // What is taken was there until now, what is given was asked for before.
        let revoked = learn(Mark::Revoked, &lesson.revoked, moment.monotonic);
        learn(Mark::Granted, &lesson.granted, lesson.at).and(revoked)
    }
}

impl Draft {
    /// Goes on with what was read of the upstream's list
    pub(super) fn take_up(&mut self, progress: &Progress) {
        self.domains.get_or_insert_default().listed = match progress {
            Progress::More(listing) => Listed::More(Box::new(listing.clone())),
            Progress::Whole => Listed::Whole,
            Progress::Away => Listed::Away,
        };
    }

    /// Judges the domains that a part of a request names
    ///
    /// # Errors
    ///
    /// Why the request does not go on.
    pub(super) fn judge_domains(
        &mut self,
        route: &Route,
        key: &Rc<Key>,
        source: Source<'_>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<(), Stop> {
        let Some(domains) = &route.domains else {
            return Ok(());
        };
        let access = &domains.access;
        let read = |place: &Option<DomainPlace>| match place {
            Some(place) => place.read(source, access),
            None => Ok(None),
        };
        let all = read(&domains.needed)
            .and_then(|needed| Ok((needed, read(&domains.granted)?, read(&domains.revoked)?)));
        let (needed, granted, revoked) = all.map_err(|fault| self.faulty(fault))?;
        if let (Some(place), Some(domain)) = (&domains.needed, needed) {
            self.enter(access, place, key, Some(&domain), now, store)?;
        } else if let (Some(place), Source::Head { .. }, Unknown::Ask) =
            (&domains.needed, source, access.unknown)
        {
            // What the body will name has to be known by then.
            self.enter(access, place, key, None, now, store)?;
        }
        if granted.is_some() || revoked.is_some() {
            // A gRPC call may have failed under a status of 200.
            let granted = granted.filter(|_| self.grpc.is_none());
            let found = self.domains.get_or_insert_default();
            found.at = now;
            found.granted = found.granted.take().or(granted);
            found.revoked = found.revoked.take().or(revoked);
        }
        Ok(())
    }

    /// Says that the request may go on, and why
    pub(super) fn found_good(&mut self, route: &Route) {
        let unknown = self
            .domains
            .as_ref()
            .and_then(|found| found.unknown.clone());
        match unknown {
            Some(rule) => self.found(Reason::DomainUnknown, rule),
            None => {
                let (reason, rule) = self.or_tagged(Reason::Allowed, &route.rule);
                self.found(reason, rule);
            }
        }
    }

    /// What a success teaches
    pub(super) fn lesson(&mut self) -> Option<Box<Lesson>> {
        let Domains {
            granted,
            revoked,
            at,
            ..
        } = *self.domains.take()?;
        if granted.is_none() && revoked.is_none() {
            return None;
        }
        let domains = self.route.as_ref()?.domains.as_ref()?;
        Some(Box::new(Lesson {
            account: self.key.as_ref()?.account,
            lives: domains.access.lives,
            max_accounts: self.policy.max_accounts,
            at,
            granted,
            revoked,
        }))
    }

    fn faulty(&mut self, fault: Fault) -> Stop {
        self.particulars.field = fault.field;
        Stop::Refused(fault.reason, fault.rule)
    }

    /// Looks whether the caller has access to a domain, or can be told so when the body names it
    fn enter(
        &mut self,
        access: &Rc<DomainAccess>,
        place: &DomainPlace,
        key: &Rc<Key>,
        domain: Option<&str>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<(), Stop> {
        if domain.is_some_and(|domain| key.domains.iter().any(|known| known.covers(domain))) {
            return Ok(());
        }
        let denied = |rule: &Rc<Rule>| {
            let reason = if access.hides {
                Reason::DomainHidden
            } else {
                Reason::DomainDenied
            };
            Err(Stop::Refused(reason, Rc::clone(rule)))
        };
        let chain = domain.into_iter().flat_map(|domain| access.chain(domain));
        let known = Grants::new(key.account, access.lives).look(chain, now, store);
        let known = known.map_err(|error| {
            self.particulars.retry_after = Some(0);
            Stop::Refused(error.into(), Rc::clone(&self.policy.rules.store))
        })?;
        match (known, access.unknown) {
            (Some(true), _) => return Ok(()),
            (Some(false), _) if domain.is_some() => return denied(&place.rule),
            // The list is known; what it does not name will be denied.
            (Some(false), _) => return Ok(()),
            (None, Unknown::Refuse) => return denied(&access.unknown_rule),
            (None, Unknown::Forward) => {
                self.go_on(&access.unknown_rule);
                return Ok(());
            }
            (None, Unknown::Ask) => {}
        }
        let found = self.domains.get_or_insert_default();
        match (core::mem::take(&mut found.listed), domain) {
            (Listed::Unasked, None) => {
                return Err(Stop::Ask(Listing::new(access, key, None, now).into()));
            }
            (Listed::Unasked, Some(_)) if matches!(place.from, DomainFrom::Body(_)) => {}
            (Listed::Unasked, Some(domain)) => {
                let listing = Listing::new(access, key, Some(domain), now);
                return Err(Stop::Ask(listing.into()));
            }
            (Listed::More(listing), _) => return Err(Stop::Ask(listing)),
            (Listed::Whole, Some(_)) => return denied(&place.rule),
            // The body's turn comes; what is away now is away then.
            (Listed::Whole | Listed::Away, None) => return Ok(()),
            (Listed::Away, Some(_)) => {}
        }
        match &access.list {
            Some(list) if list.forwards_without => {
                self.go_on(&list.unavailable_rule);
                Ok(())
            }
            list => {
                let rule = list
                    .as_ref()
                    .map_or(&place.rule, |list| &list.unavailable_rule);
                self.particulars.retry_after = Some(0);
                Err(Stop::Refused(Reason::DomainUnavailable, Rc::clone(rule)))
            }
        }
    }

    /// Lets the request go on in doubt
    fn go_on(&mut self, rule: &Rc<Rule>) {
        self.domains.get_or_insert_default().unknown = Some(Rc::clone(rule));
    }
}
