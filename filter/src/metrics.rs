//! The host's metrics, by numbers that it gives out once a name and VM.

use core::cell::RefCell;

use portcullis_policy::{Counter, Policy};

use crate::hostcall::{self, HostError, MetricKind};

/// The host's numbers for what this VM has counted so far, sorted by [`Counter::key`]
///
/// A name that is defined twice takes the host's memory twice, so they outlive configurations. The
/// policies bound how many there are.
type Numbers = Vec<(u64, u32)>;

thread_local! {
    static DECISIONS: RefCell<Numbers> = const { RefCell::new(Vec::new()) };
    static WAIT: RefCell<Option<u32>> = const { RefCell::new(None) };
}

/// Counts a decision
///
/// One that the host does not take is lost, and so is one that is made while the host calls back.
pub(crate) fn count(counter: &Counter<'_>) {
    DECISIONS.with(|numbers| {
        if let Ok(mut numbers) = numbers.try_borrow_mut()
            && let Ok(number) = number_of(counter, &mut numbers)
        {
            let _: Result<(), HostError> = hostcall::increment_metric(number, 1);
        }
    });
}

fn number_of(counter: &Counter<'_>, numbers: &mut Numbers) -> Result<u32, HostError> {
    let key = counter.key();
    let at = numbers.partition_point(|(other, _)| *other < key);
    if let Some((other, number)) = numbers.get(at)
        && *other == key
    {
        return Ok(*number);
    }
    let number = hostcall::define_metric(MetricKind::Counter, &counter.name())?;
    numbers.insert(at, (key, number));
    Ok(number)
}

/// Notes for how many milliseconds a request is held
pub(crate) fn held(milliseconds: u64) {
    WAIT.with(|number| {
        let Ok(mut number) = number.try_borrow_mut() else {
            return;
        };
        let known = *number;
        let define = || hostcall::define_metric(MetricKind::Histogram, "portcullis.wait_ms");
        if let Ok(defined) = known.map_or_else(define, Ok) {
            *number = Some(defined);
            let _: Result<(), HostError> = hostcall::record_metric(defined, milliseconds);
        }
    });
}

/// Notes which policy is in force
pub(crate) fn in_force(policy: &Policy) {
    note(
        MetricKind::Gauge,
        "portcullis.policy.fingerprint",
        policy.fingerprint(),
    );
}

/// Counts a policy that was refused
pub(crate) fn refused() {
    note(MetricKind::Counter, "portcullis.policy.refused", 1);
}

/// What changes with a policy only is defined each time.
fn note(kind: MetricKind, name: &str, value: u64) {
    if let Ok(number) = hostcall::define_metric(kind, name) {
        let _: Result<(), HostError> = hostcall::record_metric(number, value);
    }
}
