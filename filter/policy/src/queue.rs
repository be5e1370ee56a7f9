//! The burst queue: requests that wait until their slot has come.
//!
//! A request that comes too early for its bucket reserves its slot on arrival, so when it may go is
//! known at once; it is held that long, and refused only where that would be too long. A worker lets
//! go what it holds in the order in which slots come.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use hashbrown::HashMap;

use crate::engine::Outcome;
use crate::limiter::Reservation;
use crate::reason::Reason;
use crate::reply::Reply;

/// A request that is to be held
#[derive(Clone, Debug)]
pub struct Hold {
    pub(crate) reservation: Reservation,
    /// The answer that it waits for; a request that is forwarded has none
    pub(crate) reply: Option<(Reply, Reason)>,
    /// What becomes of it when it is not let go in time
    pub(crate) late: Box<Outcome>,
}

impl Hold {
    /// When the request may go, in monotonic nanoseconds
    #[must_use]
    pub fn until(&self) -> u64 {
        self.reservation.until
    }
}

/// What becomes of a request that was held
#[derive(Clone, Debug)]
pub enum Release {
    /// It goes on as it is: its edits were made before
    Continue,
    /// It is answered
    Reply(Reply, Reason),
    /// It waited too long for its slot, in a worker that stood still
    Late(Box<Outcome>),
}

/// Requests that a worker holds; `Id` is what the shell calls a stream
///
/// Bounded by [`MAX_HELD`](Self::MAX_HELD): past it nothing is held, and what comes too early is
/// refused.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By time of release, then by order of arrival
    held: BTreeMap<Place, Held>,
    places: HashMap<u32, Place>,
    arrivals: u64,
}

type Place = (u64, u64);

#[derive(Debug)]
struct Held {
    stream: u32,
    hold: Hold,
}

impl Queue {
    /// A held stream takes about 20 KB of Envoy's memory, its connection included
    pub(crate) const MAX_HELD: usize = 2048;

    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= Self::MAX_HELD
    }

    pub(crate) fn holds(&self, stream: u32) -> bool {
        self.places.contains_key(&stream)
    }

    /// When the next request may go
    pub(crate) fn next(&self) -> Option<u64> {
        self.held.first_key_value().map(|((until, _), _)| *until)
    }

    pub(crate) fn push(&mut self, stream: u32, hold: Hold) {
        self.arrivals = self.arrivals.saturating_add(1);
        let place = (hold.reservation.until, self.arrivals);
        self.places.insert(stream, place);
        self.held.insert(place, Held { stream, hold });
    }

    /// Takes the first request whose time has come
    pub(crate) fn pop(&mut self, now: u64) -> Option<(u32, Release)> {
        if self.next()? > now {
            return None;
        }
        let (_, Held { stream, hold }) = self.held.pop_first()?;
        self.places.remove(&stream);
        let release = if hold.reservation.is_over(now) {
            Release::Late(hold.late)
        } else {
            hold.reply.map_or(Release::Continue, |(reply, reason)| {
                Release::Reply(reply, reason)
            })
        };
        Some((stream, release))
    }

    /// Takes a request away that nobody waits for any more
    ///
    /// Those behind it in its bucket move up by one; the last place of them comes back, which is
    /// free now.
    pub(crate) fn leave(&mut self, stream: u32) -> Option<(Hold, Reservation)> {
        let place = self.places.remove(&stream)?;
        let Held { hold: left, .. } = self.held.remove(&place)?;
        let mut free = left.reservation;
        let behind: alloc::vec::Vec<_> = self
            .held
            .range(place..)
            .filter(|(_, held)| held.hold.reservation.suits(&free))
            .map(|(place, _)| *place)
            .collect();
        for place in behind {
            let Some(mut held) = self.held.remove(&place) else {
                continue;
            };
            core::mem::swap(&mut held.hold.reservation, &mut free);
            let place = (held.hold.reservation.until, place.1);
            self.places.insert(held.stream, place);
            self.held.insert(place, held);
        }
        Some((left, free))
    }
}
