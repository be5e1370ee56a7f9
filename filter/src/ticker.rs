//! The roots' timers: as fast as there is something to wait for, and no faster.

use core::cell::RefCell;

use crate::hostcall;
use crate::vm;

/// How often a root looks for requests to let go, while there are any, in milliseconds
///
/// Envoy's timers are some milliseconds coarse: it comes to about 8.
pub(crate) const QUEUE: u32 = 5;

/// Requests that go on in one turn of a root
///
/// Envoy carries a turn's answers out one within the other, each with the response's callback: hundreds of them
/// are more than a VM's stack holds.
pub(crate) const TURN: usize = 32;

/// How often a root looks for calls whose time is over, while there are any, in milliseconds
pub(crate) const ASKS: u32 = 50;

/// How often a root looks after files that its policy has fetched, in milliseconds
pub(crate) const SUPPLY: u32 = 500;

/// The same while one comes in, a page each time
pub(crate) const PAGES: u32 = 10;

thread_local! {
    /// Roots whose timer runs, and how often: to set it anew would put it off
    static TICKING: RefCell<Vec<(u32, u32)>> = const { RefCell::new(Vec::new()) };
}

/// Has a root ticked at least every so many milliseconds; `None` when it can't be
pub(crate) fn run(root: u32, period: u32) -> Option<()> {
    TICKING.with(|ticking| {
        let mut ticking = ticking.try_borrow_mut().ok()?;
        let known = ticking.iter_mut().find(|(other, _)| *other == root);
        match known {
            Some((_, faster)) if *faster <= period => {}
            Some((_, slower)) => {
                hostcall::set_tick_period(period).ok()?;
                *slower = period;
            }
            None => {
                hostcall::set_tick_period(period).ok()?;
                ticking.push((root, period));
            }
        }
        Some(())
    })
}

/// Slows a root's timer down after a tick, or stops it
///
/// `least` is what the root itself needs; 0 for nothing.
pub(crate) fn settle(root: u32, least: u32) {
    let needed = vm::with(|engine| {
        if engine.next_release().is_some() || engine.has_answered() {
            QUEUE
        } else if engine.is_asking() && !(1..ASKS).contains(&least) {
            ASKS
        } else {
            least
        }
    });
    let Some(needed) = needed else { return };
    TICKING.with(|ticking| {
        let Ok(mut ticking) = ticking.try_borrow_mut() else {
            return;
        };
        let now = ticking.iter().find(|(other, _)| *other == root);
        let now = now.map_or(u32::MAX, |(_, period)| *period);
        if now != needed && hostcall::set_tick_period(needed).is_ok() {
            ticking.retain(|(other, _)| *other != root);
            if needed > 0 {
                ticking.push((root, needed));
            }
        }
    });
}
