//! The one place that reads clocks.

use crate::hostcall::{self, ClockId, HostError};

/// Two clocks, read together
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Nanoseconds of a clock that never steps, the same for all workers
    pub(crate) monotonic: u64,
    /// Nanoseconds since the Unix epoch
    pub(crate) wall: u64,
}

/// Reads both clocks
pub(crate) fn now() -> Result<Now, HostError> {
    Ok(Now {
        monotonic: hostcall::clock(ClockId::Monotonic)?,
        wall: hostcall::clock(ClockId::Wall)?,
    })
}
