//! What a stream has reserved of a quota, until its response is known.

use portcullis_policy::{Ending, Leases};

use crate::hostcall::{self, Map};
use crate::metrics;
use crate::shared_data::SharedData;
use crate::vm;

/// Settles what a request has reserved by the response whose headers are there
pub(crate) fn respond(leases: &mut Leases) {
    if leases.has_quota() {
        end(leases, ending());
    }
}

/// Settles what a request has reserved
pub(crate) fn end(leases: &mut Leases, ending: Ending) {
    let Some(reservation) = leases.take_quota() else {
        return;
    };
    // A VM that is busy charges.
    let settled =
        vm::decide(|engine, moment| engine.settle(*reservation, ending, moment, &mut SharedData));
    if let Some(settled) = settled {
        metrics::count_settled(settled);
    }
}

/// What the host says of the response
fn ending() -> Ending {
    match status() {
        Some(504) if !is_of_upstream() => Ending::TimedOut,
        Some(status) => Ending::Response(status),
        None => Ending::Unknown,
    }
}

fn status() -> Option<u16> {
    let pairs = hostcall::map_pairs(Map::ResponseHeaders).ok()?;
    let headers = pairs.decode().ok()?;
    let (_, status) = headers.iter().find(|(name, _)| *name == b":status")?;
    core::str::from_utf8(status).ok()?.parse().ok()
}

/// Whether the upstream has made the response itself
fn is_of_upstream() -> bool {
    hostcall::property(&["response", "code_details"])
        .is_ok_and(|details| details == b"via_upstream")
}
