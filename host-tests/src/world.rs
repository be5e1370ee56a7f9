//! A world: some workers with what they share, on a clock that stands still until it is told to
//! move. Everything that happens is in one order, the same in every run.

use std::{sync::Arc, time::Duration};

use crate::{
    callout::{Callout, CalloutReply},
    clock::{Clock, VirtualClock, nanoseconds},
    engine::Module,
    error::{ConfigureError, HostError, LoadError},
    log::LogLine,
    metrics::Metrics,
    settings::{Plugin, Settings},
    shared::Shared,
    shared_data::SharedData,
    worker::{Root, Worker},
};

/// The number of the worker that tries a configuration before the others get it.
pub const CANARY: u32 = u32::MAX;

/// Rounds in which workers may give each other work before the world lets them rest. Guests that
/// wake each other for ever would otherwise never return.
const ROUNDS: usize = 10_000;

/// A world of workers.
#[derive(Debug)]
pub struct World {
    shared: Arc<Shared>,
    clock: Arc<VirtualClock>,
    workers: Vec<Worker>,
    module: Option<Module>,
}

impl World {
    /// A world without workers, at [`VirtualClock::START_WALL`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let clock = Arc::new(VirtualClock::default());
        let shared = Arc::new(Shared::new(settings, Arc::clone(&clock) as Arc<dyn Clock>));
        Self {
            shared,
            clock,
            workers: Vec::new(),
            module: None,
        }
    }

    /// Starts a worker; its number is that of the workers before it.
    ///
    /// # Errors
    /// If the module can't be started.
    pub fn add_worker(&mut self, module: &Module) -> Result<usize, LoadError> {
        let number = self.workers.len();
        let name = u32::try_from(number).unwrap_or(CANARY);
        self.workers
            .push(Worker::start(module, &self.shared, name)?);
        self.module = Some(module.clone());
        Ok(number)
    }

    /// The workers.
    pub fn workers(&mut self) -> &mut [Worker] {
        &mut self.workers
    }

    /// One worker.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn worker(&mut self, number: usize) -> Result<&mut Worker, HostError> {
        self.workers.get_mut(number).ok_or(HostError::NoSuchWorker)
    }

    /// Configures a plugin as Envoy does: a VM that is thrown away tries the configuration; if it
    /// takes it, every worker does. The result is one root for each worker.
    ///
    /// # Errors
    /// If the module refuses. No worker has noticed anything then, but for what the throw-away VM
    /// left in the shared data.
    pub fn configure(&mut self, plugin: &Plugin) -> Result<Vec<Root>, ConfigureError> {
        let canary = self
            .module
            .as_ref()
            .map(|m| Worker::start(m, &self.shared, CANARY));
        if let Some(Ok(mut canary)) = canary {
            canary.configure(plugin)?;
        }
        self.workers
            .iter_mut()
            .map(|worker| worker.configure(plugin))
            .collect()
    }

    /// The world's clock; setting it fires nothing, [`World::advance`] does.
    #[must_use]
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// Lets time pass. Ticks fire and callouts are answered when their time has come, one after
    /// the other, with the clock at that time.
    pub fn advance(&mut self, by: Duration) {
        self.settle();
        let end = self.clock.monotonic().saturating_add(nanoseconds(by));
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            let wait = next.saturating_sub(self.clock.monotonic());
            self.clock.advance(Duration::from_nanos(wait));
            self.settle();
            for worker in &mut self.workers {
                while worker.tick() {}
            }
            self.settle();
        }
        self.clock.advance(Duration::from_nanos(
            end.saturating_sub(self.clock.monotonic()),
        ));
    }

    /// Lets happen what is due now: answers to callouts, and word of filled queues.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let mut quiet = true;
            if let Some((call, reply)) = self.shared.callouts.take_due(self.clock.monotonic()) {
                self.deliver(call, reply);
                quiet = false;
            }
            for worker in &mut self.workers {
                quiet &= !worker.queue_ready();
            }
            if quiet {
                return;
            }
        }
    }

    /// Makes a cluster known, and what it answers to a callout `after` that time. Several
    /// answers are given one after the other; the last one is repeated.
    pub fn on(&mut self, cluster: &str, reply: CalloutReply, after: Duration) {
        self.shared
            .callouts
            .script(cluster.as_bytes(), reply, after);
    }

    /// Has a cluster answer this to everything from now on, `after` that time.
    pub fn replace(&mut self, cluster: &str, reply: CalloutReply, after: Duration) {
        let cluster = cluster.as_bytes();
        self.shared.callouts.replace(cluster, reply, after);
    }

    /// The callouts that were made since this was asked last, in order, answered or not; 1,024 at the
    /// most.
    pub fn take_made(&mut self) -> Vec<Callout> {
        self.shared.callouts.take_made()
    }

    /// The callouts under way, in the order in which they were made.
    #[must_use]
    pub fn callouts(&self) -> Vec<Callout> {
        self.shared.callouts.pending()
    }

    /// Answers a callout now.
    ///
    /// # Errors
    /// If no callout of this number is under way.
    pub fn answer(&mut self, callout: u64, reply: CalloutReply) -> Result<(), HostError> {
        let call = self
            .shared
            .callouts
            .take(callout)
            .ok_or(HostError::NoSuchCallout)?;
        self.deliver(call, reply);
        self.settle();
        Ok(())
    }

    /// Forgets a callout: nobody is ever told what came of it.
    ///
    /// # Errors
    /// If no callout of this number is under way.
    pub fn lose(&mut self, callout: u64) -> Result<Callout, HostError> {
        let lost = self.shared.callouts.take(callout);
        lost.ok_or(HostError::NoSuchCallout)
    }

    /// Answers a callout that may have been answered already, as no host should.
    pub fn answer_again(&mut self, callout: &Callout, reply: CalloutReply) {
        self.deliver(callout.clone(), reply);
        self.settle();
    }

    /// The data that the workers share.
    #[must_use]
    pub fn shared_data(&self) -> &SharedData {
        &self.shared.data
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// All that guests logged so far.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        self.shared.logs.lines()
    }

    /// Forgets what guests logged so far.
    pub fn clear_logs(&mut self) {
        self.shared.logs.clear();
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn next_event(&self) -> Option<u64> {
        let ticks = self.workers.iter().filter_map(Worker::next_tick);
        ticks.chain(self.shared.callouts.next_due()).min()
    }

    fn deliver(&mut self, call: Callout, reply: CalloutReply) {
        let number = usize::try_from(call.worker).unwrap_or(usize::MAX);
        if let Some(worker) = self.workers.get_mut(number) {
            worker.answer(call, reply);
        }
    }
}
