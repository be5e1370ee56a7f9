//! What all workers of a world have in common.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    callout::Callouts, clock::Clock, log::Logs, metrics::Metrics, settings::Settings,
    shared_data::SharedData, shared_queue::SharedQueues,
};

/// Called when a worker has something to do that another one gave it.
type Wake = Box<dyn Fn() + Send + Sync>;

/// The common state.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) data: SharedData,
    pub(crate) queues: SharedQueues,
    pub(crate) metrics: Metrics,
    pub(crate) logs: Logs,
    pub(crate) callouts: Callouts,
    next_vm: AtomicU64,
    next_connection: AtomicU64,
    wakers: Mutex<BTreeMap<u32, Wake>>,
}

impl Shared {
    pub(crate) fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            logs: Logs::new(settings.log_sink),
            settings,
            clock,
            data: SharedData::default(),
            queues: SharedQueues::default(),
            metrics: Metrics::default(),
            callouts: Callouts::default(),
            next_vm: AtomicU64::new(0),
            next_connection: AtomicU64::new(0),
            wakers: Mutex::default(),
        }
    }

    /// A number that no other VM of this world has.
    pub(crate) fn vm_number(&self) -> u64 {
        self.next_vm.fetch_add(1, Ordering::SeqCst)
    }

    /// A number that no other connection of this world has.
    pub(crate) fn connection_number(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn on_wake(&self, worker: u32, wake: Wake) {
        self.wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(worker, wake);
    }

    pub(crate) fn wake(&self, worker: u32) {
        if let Some(wake) = self
            .wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&worker)
        {
            wake();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
