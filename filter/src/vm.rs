//! What a VM keeps between requests and over configurations.
//!
//! Envoy gives a new configuration a new root context in the same VM, while the streams of the
//! old one run on: so the engine belongs to neither.

use core::cell::RefCell;
use core::num::NonZeroU64;

use portcullis_policy::{Engine, Moment, Release, Settings};

use crate::clock::{self, Now};

struct Vm {
    engine: Engine,
    ids: Ids,
}

thread_local! {
    static VM: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

/// Sets the VM up, unless it is
///
/// # Errors
///
/// What the operator is to read.
pub(crate) fn start(join: impl FnOnce(Now) -> Result<Settings, String>) -> Result<(), String> {
    VM.with(|vm| {
        let mut vm = vm
            .try_borrow_mut()
            .map_err(|_| "the host called back too early")?;
        if vm.is_some() {
            return Ok(());
        }
        let now = clock::now().map_err(|_| "the host has no clocks: allow clock_time_get")?;
        let settings = join(now)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)
            .map_err(|error| format!("the host has no random numbers: {error}"))?;
        *vm = Some(Vm {
            engine: Engine::new(settings),
            ids: Ids::new(u64::from_le_bytes(seed)),
        });
        Ok(())
    })
}

/// Runs the engine at this moment
///
/// `None` when the host has no clock, or calls back while the engine runs: the caller refuses.
pub(crate) fn decide<T>(decide: impl FnOnce(&mut Engine, Moment) -> T) -> Option<T> {
    VM.with(|vm| {
        let mut vm = vm.try_borrow_mut().ok()?;
        let Vm { engine, ids } = vm.as_mut()?;
        let now = clock::now().ok()?;
        let moment = Moment {
            monotonic: now.monotonic,
            wall: now.wall,
            decision: ids.next(now.wall),
        };
        Some(decide(engine, moment))
    })
}

/// Looks at the engine; `None` while it runs, and where there is none
pub(crate) fn with<T>(look: impl FnOnce(&mut Engine) -> T) -> Option<T> {
    VM.with(|vm| {
        let mut vm = vm.try_borrow_mut().ok()?;
        Some(look(&mut vm.as_mut()?.engine))
    })
}

/// Takes a request out of the queue whose time has come
pub(crate) fn release() -> Option<(u32, Release)> {
    let now = clock::now().ok()?.monotonic;
    with(|engine| engine.release(now)).flatten()
}

/// Decision ids: 48 bits of time, 80 bits that look random
///
/// They need to differ, not to be secret: a generator of 64 bits (SplitMix64) seeded per VM does.
struct Ids(NonZeroU64);

impl Ids {
    fn new(seed: u64) -> Self {
        Self(NonZeroU64::new(seed).unwrap_or(NonZeroU64::MIN))
    }

    fn next(&mut self, wall: u64) -> u128 {
        let milliseconds =
            u128::from(wall.checked_div(1_000_000).unwrap_or_default() & 0xffff_ffff_ffff);
        let low = u128::from(self.random());
        let high = u128::from(self.random() & 0xffff);
        milliseconds.wrapping_shl(80) | high.wrapping_shl(64) | low
    }

    fn random(&mut self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0 = NonZeroU64::new(state).unwrap_or(NonZeroU64::MIN);
        let z = (state ^ state.wrapping_shr(30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z.wrapping_shr(27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z.wrapping_shr(31)
    }
}
