//! Metrics, shared by all workers and named by the guest.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::abi::{MetricType, Status};

/// The metrics of a world.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<BTreeMap<(MetricType, Vec<u8>), Value>>);

#[derive(Clone, Debug, Default)]
struct Value {
    number: u64,
    recorded: Vec<u64>,
}

impl Metrics {
    /// The counter's value; `None` if no guest defined it.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.number(MetricType::Counter, name)
    }

    /// The gauge's value.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.number(MetricType::Gauge, name)
    }

    /// All that was recorded in a histogram, in order.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Option<Vec<u64>> {
        let key = (MetricType::Histogram, name.as_bytes().to_vec());
        self.lock().get(&key).map(|value| value.recorded.clone())
    }

    /// Names and values of all counters and gauges, sorted.
    #[must_use]
    pub fn numbers(&self) -> Vec<(MetricType, String, u64)> {
        let all = self.lock();
        let numbers = all
            .iter()
            .filter(|((kind, _), _)| *kind != MetricType::Histogram);
        numbers
            .map(|((kind, name), value)| {
                (
                    *kind,
                    String::from_utf8_lossy(name).into_owned(),
                    value.number,
                )
            })
            .collect()
    }

    fn number(&self, kind: MetricType, name: &str) -> Option<u64> {
        self.lock()
            .get(&(kind, name.as_bytes().to_vec()))
            .map(|value| value.number)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(MetricType, Vec<u8>), Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One VM's numbers for the metrics that it defined. Like Envoy's, an id holds the kind in its
/// two low bits, and defining a name again gives a further id for the same metric.
#[derive(Debug)]
pub(crate) struct MetricIds {
    next: [u32; 3],
    names: BTreeMap<u32, Vec<u8>>,
}

const KIND_MASK: u32 = 0b11;
const STEP: u32 = 4;

impl Default for MetricIds {
    fn default() -> Self {
        Self {
            next: [0, 1, 2],
            names: BTreeMap::new(),
        }
    }
}

impl MetricIds {
    pub(crate) fn define(&mut self, metrics: &Metrics, kind: MetricType, name: &[u8]) -> u32 {
        let [counter, gauge, histogram] = &mut self.next;
        let last = match kind {
            MetricType::Counter => counter,
            MetricType::Gauge => gauge,
            MetricType::Histogram => histogram,
        };
        *last = last.wrapping_add(STEP);
        self.names.insert(*last, name.to_vec());
        metrics.lock().entry((kind, name.to_vec())).or_default();
        *last
    }

    /// Adds to a counter or a gauge; only a gauge can be lessened.
    pub(crate) fn increment(&self, metrics: &Metrics, id: u32, offset: i64) -> Result<(), Status> {
        match Self::kind(id)? {
            MetricType::Counter if offset <= 0 => {
                self.key(id)?;
                Err(Status::BAD_ARGUMENT)
            }
            MetricType::Histogram => Err(Status::BAD_ARGUMENT),
            MetricType::Counter | MetricType::Gauge => self.change(metrics, id, |value| {
                value.number = value.number.wrapping_add_signed(offset);
            }),
        }
    }

    /// Adds to a counter, sets a gauge, records in a histogram.
    pub(crate) fn record(&self, metrics: &Metrics, id: u32, number: u64) -> Result<(), Status> {
        let kind = Self::kind(id).map_err(|_| Status::NOT_FOUND)?;
        self.change(metrics, id, |value| match kind {
            MetricType::Counter => value.number = value.number.wrapping_add(number),
            MetricType::Gauge => value.number = number,
            MetricType::Histogram => value.recorded.push(number),
        })
    }

    pub(crate) fn get(&self, metrics: &Metrics, id: u32) -> Result<u64, Status> {
        if Self::kind(id)? == MetricType::Histogram {
            return Err(Status::BAD_ARGUMENT);
        }
        let key = self.key(id)?;
        metrics
            .lock()
            .get(&key)
            .map(|value| value.number)
            .ok_or(Status::NOT_FOUND)
    }

    fn change(
        &self,
        metrics: &Metrics,
        id: u32,
        edit: impl FnOnce(&mut Value),
    ) -> Result<(), Status> {
        let key = self.key(id)?;
        edit(metrics.lock().entry(key).or_default());
        Ok(())
    }

    fn key(&self, id: u32) -> Result<(MetricType, Vec<u8>), Status> {
        let name = self.names.get(&id).ok_or(Status::NOT_FOUND)?;
        Ok((Self::kind(id)?, name.clone()))
    }

    fn kind(id: u32) -> Result<MetricType, Status> {
        MetricType::from_raw(id & KIND_MASK).ok_or(Status::BAD_ARGUMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_and_gauges_go_both_ways() {
        let metrics = Metrics::default();
        let mut ids = MetricIds::default();
        let counter = ids.define(&metrics, MetricType::Counter, b"c");
        let gauge = ids.define(&metrics, MetricType::Gauge, b"g");
        assert_eq!((counter, gauge), (4, 5));
        ids.increment(&metrics, counter, 2).unwrap();
        assert_eq!(
            ids.increment(&metrics, counter, 0),
            Err(Status::BAD_ARGUMENT)
        );
        assert_eq!(
            ids.increment(&metrics, counter, -1),
            Err(Status::BAD_ARGUMENT)
        );
        ids.record(&metrics, counter, 3).unwrap();
        ids.increment(&metrics, gauge, 5).unwrap();
        ids.increment(&metrics, gauge, -2).unwrap();
        assert_eq!(ids.get(&metrics, counter), Ok(5));
        assert_eq!(ids.get(&metrics, gauge), Ok(3));
        ids.record(&metrics, gauge, 9).unwrap();
        assert_eq!(metrics.counter("c"), Some(5));
        assert_eq!(metrics.gauge("g"), Some(9));
        assert_eq!(metrics.gauge("c"), None);
    }

    #[test]
    fn two_vms_count_in_the_same_metric() {
        let metrics = Metrics::default();
        let (mut one, mut two) = (MetricIds::default(), MetricIds::default());
        let first = one.define(&metrics, MetricType::Counter, b"c");
        two.define(&metrics, MetricType::Counter, b"other");
        let second = two.define(&metrics, MetricType::Counter, b"c");
        assert_ne!(first, second);
        one.increment(&metrics, first, 1).unwrap();
        two.increment(&metrics, second, 1).unwrap();
        assert_eq!(metrics.counter("c"), Some(2));
    }

    #[test]
    fn an_id_that_was_never_given_is_not_found() {
        let (metrics, ids) = (Metrics::default(), MetricIds::default());
        assert_eq!(ids.increment(&metrics, 4, 1), Err(Status::NOT_FOUND));
        assert_eq!(ids.record(&metrics, 3, 1), Err(Status::NOT_FOUND));
        assert_eq!(ids.get(&metrics, 2), Err(Status::BAD_ARGUMENT));
        assert_eq!(ids.get(&metrics, 3), Err(Status::BAD_ARGUMENT));
    }
}
