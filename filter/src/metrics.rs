//! The host's metrics, by numbers that it gives out once a name and VM.

use core::cell::RefCell;

use portcullis_policy::{BundleState, Counter, FeedsState, LimitStatus, Policy, Settled};

use crate::hostcall::{self, HostError, MetricKind};

/// The host's numbers for what this VM has counted so far, sorted by [`Counter::key`]
///
/// A name that is defined twice takes the host's memory twice, so they outlive configurations. The
/// policies bound how many there are.
type Numbers = Vec<(u64, u32)>;

/// The host's numbers of the gauges of an API's bundle, by the API
type Bundles = Vec<(Box<str>, [Option<u32>; 3])>;

thread_local! {
    static DECISIONS: RefCell<Numbers> = const { RefCell::new(Vec::new()) };
    /// By name: a handful
    static OTHERS: RefCell<Vec<(&'static str, u32)>> = const { RefCell::new(Vec::new()) };
    /// The gauges of APIs' bundles
    static BUNDLES: RefCell<Bundles> = const { RefCell::new(Vec::new()) };
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
    note_known(MetricKind::Histogram, "portcullis.wait_ms", milliseconds);
}

/// Counts a request at a rate that has a queue
pub(crate) fn count_status(status: LimitStatus) {
    let name = match status {
        LimitStatus::Passed => "portcullis.limit_status.PASSED",
        LimitStatus::Delayed => "portcullis.limit_status.DELAYED",
        LimitStatus::Rejected => "portcullis.limit_status.REJECTED",
    };
    note_known(MetricKind::Counter, name, 1);
}

/// Counts slots that nobody gave back
pub(crate) fn count_expired(slots: u64) {
    note_known(MetricKind::Counter, "portcullis.slots.expired", slots);
}

/// Counts what became of a reservation of a quota
pub(crate) fn count_settled(settled: Settled) {
    let name = match settled {
        Settled::Committed => "portcullis.quota.committed",
        Settled::Released => "portcullis.quota.released",
        Settled::Expired => "portcullis.quota.expired",
        Settled::Kept => "portcullis.quota.kept",
    };
    note_known(MetricKind::Counter, name, 1);
}

fn note_known(kind: MetricKind, name: &'static str, value: u64) {
    OTHERS.with(|numbers| {
        let Ok(mut numbers) = numbers.try_borrow_mut() else {
            return;
        };
        let known = numbers.iter().find(|(other, _)| *other == name);
        let number = match known {
            Some((_, number)) => *number,
            None => {
                let Ok(number) = hostcall::define_metric(kind, name) else {
                    return;
                };
                numbers.push((name, number));
                number
            }
        };
        let _: Result<(), HostError> = hostcall::record_metric(number, value);
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

/// Notes how an API's bundle of keys stands; a name is defined once a worker and API
pub(crate) fn bundle(bundle: &BundleState<'_>) {
    BUNDLES.with(|numbers| {
        let Ok(mut numbers) = numbers.try_borrow_mut() else {
            return;
        };
        let known = numbers.iter().find(|(api, _)| **api == *bundle.api);
        let numbers = match known {
            Some((_, numbers)) => *numbers,
            None => {
                let define = |what: &str| {
                    let name = format!("portcullis.keys.{}.{what}", bundle.api);
                    hostcall::define_metric(MetricKind::Gauge, &name).ok()
                };
                let defined = ["generated_at", "keys", "age_seconds"].map(define);
                numbers.push((bundle.api.into(), defined));
                defined
            }
        };
        let values = [bundle.generated_at, bundle.keys, bundle.age];
        for (number, value) in numbers.into_iter().zip(values) {
            if let Some(number) = number {
                let _: Result<(), HostError> = hostcall::record_metric(number, value);
            }
        }
    });
}

/// Notes how the threat bundle stands
pub(crate) fn feeds(feeds: &FeedsState) {
    for (name, value) in [
        ("portcullis.threat.created_at", feeds.created_at),
        ("portcullis.threat.age_seconds", feeds.age),
        ("portcullis.threat.version", feeds.version),
        ("portcullis.threat.bytes", feeds.bytes),
        ("portcullis.threat.is_current", feeds.is_current.into()),
    ] {
        note_known(MetricKind::Gauge, name, value);
    }
}

/// What changes with a policy only is defined each time.
fn note(kind: MetricKind, name: &str, value: u64) {
    if let Ok(number) = hostcall::define_metric(kind, name) {
        let _: Result<(), HostError> = hostcall::record_metric(number, value);
    }
}
