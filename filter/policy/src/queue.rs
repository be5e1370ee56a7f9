//! The burst queue: requests that wait until their slot has come.
//!
//! A request that comes too early for its bucket reserves its slot on arrival, so when it may go is
//! known at once; it is held that long, and refused only where that would be too long. A worker lets
//! go what it holds in the order in which slots come.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::engine::Outcome;
use crate::limiter::Reservation;
use crate::reason::Reason;
use crate::reply::Reply;

/// A request that is to be held
#[derive(Debug)]
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
#[derive(Debug)]
pub enum Release {
    /// It goes on as it is: its edits were made before
    Continue,
    /// It is answered
    Reply(Reply, Reason),
    /// It waited too long for its slot, in a worker that stood still
    Late(Box<Outcome>),
}

/// Requests that a worker holds
///
/// Bounded by [`MAX_HELD`](Self::MAX_HELD): past it nothing is held, and what comes too early is
/// refused.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By time of release, the first one last; of the same time, by arrival
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    /// What the shell calls it
    stream: u32,
    hold: Box<Hold>,
}

impl Queue {
    /// A held stream takes about 20 KB of Envoy's memory, its connection included
    pub(crate) const MAX_HELD: usize = 2048;

    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= Self::MAX_HELD
    }

    pub(crate) fn holds(&self, stream: u32) -> bool {
        self.held.iter().any(|held| held.stream == stream)
    }

    /// When the next request may go
    pub(crate) fn next(&self) -> Option<u64> {
        self.held.last().map(|held| held.hold.until())
    }

    pub(crate) fn push(&mut self, stream: u32, hold: Hold) {
        let place = self.place(hold.until());
        let hold = Box::new(hold);
        self.held.insert(place, Held { stream, hold });
    }

    /// Takes the first request whose time has come
    pub(crate) fn pop(&mut self, now: u64) -> Option<(u32, Release)> {
        let Held { stream, hold } = self.held.pop_if(|held| held.hold.until() <= now)?;
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
        let place = self.held.iter().position(|held| held.stream == stream)?;
        let left = *self.held.remove(place).hold;
        let mut free = left.reservation;
        let mut behind = place;
        while let Some(next) = self
            .held
            .iter()
            .take(behind)
            .rposition(|held| held.hold.reservation.suits(&free))
        {
            let mut held = self.held.remove(next);
            core::mem::swap(&mut held.hold.reservation, &mut free);
            let place = self.place(held.hold.until());
            self.held.insert(place, held);
            behind = next;
        }
        Some((left, free))
    }

    /// Where a request belongs: behind those of the same time
    fn place(&self, until: u64) -> usize {
        self.held.partition_point(|held| held.hold.until() > until)
    }
}
