//! One virtual machine: a module's instance, its exports, and how it is called.

use std::{collections::BTreeMap, fmt, mem, sync::Arc, time::Duration};

use wasmtime::{Store, Trap};

use crate::{
    call::Calls,
    callback::{Callback, Invocation},
    callout::Answer,
    engine::{EPOCH, Metering, Module},
    entropy::Generator,
    error::{ConfigureError, LoadError, Refusal, TrapKind, TrapReport},
    exports::{self, Export},
    fault::Faults,
    host::{Context, Deferred, Host, Limiter, OutOfMemory, RootContext, Timer},
    metrics::MetricIds,
    settings::Plugin,
    shared::Shared,
};

/// What came of calling a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// The module does not export it.
    Missing,
    /// It returned; what returns nothing returns zero.
    Returned(u32),
    /// The VM died of it, or was dead.
    Dead,
}

/// A callback as it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// Which callback, with which arguments.
    pub invocation: Invocation,
    /// What it returned, zero if it returns nothing; `None` if the VM died.
    pub returned: Option<u32>,
    /// The fuel that it used, if fuel is metered.
    pub fuel: u64,
}

/// A virtual machine.
pub(crate) struct Vm {
    store: Store<Host>,
    exports: BTreeMap<Callback, Export>,
    metering: Metering,
    /// Its number in the world.
    pub(crate) number: u64,
    /// Why it is dead, if it is.
    pub(crate) trap: Option<TrapReport>,
    pub(crate) trace: Vec<TraceEvent>,
    pub(crate) fuel: u64,
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm")
            .field("number", &self.number)
            .field("trap", &self.trap)
            .finish_non_exhaustive()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Nobody is left to be told of an answer.
        self.host().shared.callouts.cancel_all(self.number);
    }
}

/// What a VM takes over from the one that it replaces: what belongs to the worker.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) faults: Faults,
    pub(crate) calls: Calls,
}

impl Vm {
    /// Starts a VM and initialises it.
    pub(crate) fn start(
        module: &Module,
        shared: &Arc<Shared>,
        worker: u32,
        carried: Carried,
    ) -> Result<Self, LoadError> {
        let number = shared.vm_number();
        let host = Host {
            shared: Arc::clone(shared),
            worker,
            vm: number,
            memory: None,
            allocate: None,
            limiter: Limiter {
                limit: shared.settings.memory_limit,
                used: 0,
            },
            contexts: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            fresh: Default::default(),
            next_context: 1,
            callback: Callback::Initialize,
            current: 0,
            effective: 0,
            stop_iteration: false,
            deferred: Default::default(),
            timers: BTreeMap::new(),
            metric_ids: MetricIds::default(),
            next_callout: [0, 1, 2],
            random: Generator::new(shared.settings.entropy, number),
            faults: carried.faults,
            calls: carried.calls,
            call_numbers: BTreeMap::new(),
            exit_code: None,
            captured: None,
        };
        let mut vm = Self {
            store: Store::new(module.pre().module().engine(), host),
            exports: BTreeMap::new(),
            metering: module.metering(),
            number,
            trap: None,
            trace: Vec::new(),
            fuel: 0,
        };
        vm.store.limiter(|host| &mut host.limiter);
        vm.store.epoch_deadline_trap();
        let failed = |error: &wasmtime::Error| LoadError::Start {
            module: module.name().to_owned(),
            error: format!("{error:#}"),
        };
        vm.refuel().map_err(|error| failed(&error))?;
        let instance = module
            .pre()
            .instantiate(&mut vm.store)
            .map_err(|error| failed(&error))?;
        vm.exports = exports::bind(&mut vm.store, &instance).map_err(|error| failed(&error))?;
        for callback in [Callback::Initialize, Callback::Start] {
            if vm.exports.contains_key(&callback) {
                vm.call(Invocation::new(callback, &[]));
                vm.settle();
                break;
            }
        }
        match vm.trap.take() {
            None => Ok(vm),
            Some(trap) => Err(LoadError::Start {
                module: module.name().to_owned(),
                error: trap.to_string(),
            }),
        }
    }

    pub(crate) fn host(&self) -> &Host {
        self.store.data()
    }

    pub(crate) fn host_mut(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.trap.is_some()
    }

    /// Calls into the guest. What it puts off is done by [`Vm::settle`].
    pub(crate) fn call(&mut self, invocation: Invocation) -> Called {
        if self.is_dead() {
            return Called::Dead;
        }
        let Some(export) = self.exports.get(&invocation.callback).cloned() else {
            return Called::Missing;
        };
        let host = self.store.data_mut();
        host.callback = invocation.callback;
        host.current = invocation.context();
        host.effective = 0;
        host.stop_iteration = false;
        host.exit_code = None;
        let before = self.refuel();
        let result = before
            .and_then(|before| Ok((before, export.call(&mut self.store, invocation.arguments)?)));
        let (fuel, result) = match result {
            Ok((before, returned)) => (before.saturating_sub(self.fuel_left()), Ok(returned)),
            Err(error) => (0, Err(error)),
        };
        self.account(invocation, fuel);
        match result {
            Ok(returned) => {
                self.remember(TraceEvent {
                    invocation,
                    returned: Some(returned),
                    fuel,
                });
                Called::Returned(returned)
            }
            Err(error) => {
                self.remember(TraceEvent {
                    invocation,
                    returned: None,
                    fuel,
                });
                self.trap = Some(self.report(invocation, &error));
                self.host().shared.callouts.cancel_all(self.number);
                Called::Dead
            }
        }
    }

    /// Gives the next callback its time and its fuel; says how much fuel that is.
    fn refuel(&mut self) -> wasmtime::Result<u64> {
        self.store
            .set_epoch_deadline(epochs(self.host().shared.settings.callback_deadline));
        if self.metering == Metering::Off {
            return Ok(0);
        }
        let fuel = self.host().shared.settings.callback_fuel;
        self.store.set_fuel(fuel)?;
        Ok(fuel)
    }

    fn fuel_left(&self) -> u64 {
        if self.metering == Metering::Off {
            0
        } else {
            self.store.get_fuel().unwrap_or(0)
        }
    }

    fn account(&mut self, invocation: Invocation, fuel: u64) {
        self.fuel = self.fuel.saturating_add(fuel);
        let exchanges = &mut self.store.data_mut().exchanges;
        if let Some(exchange) = exchanges.get_mut(&invocation.context()) {
            let used = exchange.fuel.entry(invocation.callback).or_default();
            *used = used.saturating_add(fuel);
        }
    }

    fn remember(&mut self, event: TraceEvent) {
        if self.host().shared.settings.trace {
            self.trace.push(event);
        }
    }

    fn report(&self, invocation: Invocation, error: &wasmtime::Error) -> TrapReport {
        let kind = if let Some(&OutOfMemory { wanted, limit }) = error.downcast_ref() {
            TrapKind::Memory { wanted, limit }
        } else if let Some(code) = self.host().exit_code {
            TrapKind::Exit(code)
        } else {
            match error.downcast_ref() {
                Some(Trap::Interrupt) => TrapKind::Deadline,
                Some(Trap::OutOfFuel) => TrapKind::Fuel,
                Some(Trap::StackOverflow) => TrapKind::Stack,
                _ => TrapKind::Guest,
            }
        };
        let (callback, context) = (invocation.callback, invocation.context());
        TrapReport {
            callback,
            context,
            kind,
            text: format!("{error:?}"),
        }
    }

    /// Does what host calls put off until the callback had returned.
    pub(crate) fn settle(&mut self) {
        self.host_mut().stop_iteration = false;
        while let Some(action) = self.host_mut().deferred.pop_front() {
            match action {
                Deferred::Resume { context, side } => self.resume(context, side),
                Deferred::Reply { context, reply } => self.filter_reply(context, reply),
                Deferred::Close { context } => self.reset(context),
                Deferred::DeleteRoot { context } => self.delete_root(context),
            }
        }
    }

    /// Creates a root context and configures it. One that is refused is gone.
    pub(crate) fn add_root(&mut self, plugin: &Arc<Plugin>) -> Result<u32, ConfigureError> {
        let (context, refused) = self.keep_root(plugin);
        let Some(error) = refused else {
            return Ok(context);
        };
        let host = self.host_mut();
        host.contexts.remove(&context);
        host.timers.remove(&context);
        Err(error)
    }

    /// The same, but one that is refused stays.
    pub(crate) fn keep_root(&mut self, plugin: &Arc<Plugin>) -> (u32, Option<ConfigureError>) {
        if self.is_dead() {
            let dead = ConfigureError {
                refusal: Refusal::Dead,
                logs: Vec::new(),
            };
            return (0, Some(dead));
        }
        let host = self.host_mut();
        let context = host.allocate_context();
        let root = RootContext {
            plugin: Arc::clone(plugin),
            configuring: true,
            answer: None,
            status: (0, Vec::new()),
            ending: false,
        };
        host.contexts.insert(context, Context::Root(root));
        host.captured = Some(Vec::new());
        let refusal = self.introduce(context, plugin);
        let host = self.host_mut();
        let logs = host.captured.take().unwrap_or_default();
        if let Some(root) = host.root_context_mut(context) {
            root.configuring = false;
        }
        let refused = refusal.map(|refusal| ConfigureError { refusal, logs });
        (context, refused)
    }

    fn introduce(&mut self, context: u32, plugin: &Plugin) -> Option<Refusal> {
        self.call(Invocation::new(Callback::ContextCreate, &[context, 0]));
        self.settle();
        let vm_size = length(&self.host().shared.settings.vm_configuration);
        let steps = [
            (Callback::VmStart, vm_size, Refusal::VmStart),
            (
                Callback::Configure,
                length(&plugin.configuration),
                Refusal::Configure,
            ),
        ];
        for (callback, size, refusal) in steps {
            let called = self.call(Invocation::new(callback, &[context, size]));
            self.settle();
            if let Some(trap) = &self.trap {
                return Some(Refusal::Trap(trap.clone()));
            }
            if called == Called::Returned(0) {
                return Some(refusal);
            }
        }
        None
    }

    /// Tells a root context that it is no longer needed. It may ask for time, and is then deleted
    /// when it calls `proxy_done`.
    pub(crate) fn end_root(&mut self, context: u32) {
        let called = self.call(Invocation::new(Callback::Done, &[context]));
        self.settle();
        if called == Called::Returned(0) {
            if let Some(root) = self.host_mut().root_context_mut(context) {
                root.ending = true;
            }
        } else {
            self.delete_root(context);
        }
    }

    fn delete_root(&mut self, context: u32) {
        self.call(Invocation::new(Callback::Delete, &[context]));
        let host = self.host_mut();
        host.contexts.remove(&context);
        host.timers.remove(&context);
        self.settle();
    }

    /// The time at which the next timer fires.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        if self.is_dead() {
            return None;
        }
        self.host().timers.values().map(|timer| timer.due).min()
    }

    /// Fires the timer that is due first, if one is due, and winds it up again.
    pub(crate) fn tick(&mut self, now: u64) -> bool {
        if self.is_dead() {
            return false;
        }
        let timers = &self.host().timers;
        let first = timers
            .iter()
            .min_by_key(|(context, timer)| (timer.due, **context));
        let Some((&context, _)) = first.filter(|(_, timer)| timer.due <= now) else {
            return false;
        };
        self.call(Invocation::new(Callback::Tick, &[context]));
        // Like Envoy's, the timer is wound up when the tick is over; one that the tick itself set
        // starts then, too.
        if let Some(timer) = self.host_mut().timers.get_mut(&context) {
            *timer = Timer {
                due: now.saturating_add(timer.period),
                ..*timer
            };
        }
        self.settle();
        true
    }

    /// Tells a root context that one of its queues holds something.
    pub(crate) fn queue_ready(&mut self, root: u32, token: u32) {
        if matches!(self.host().contexts.get(&root), Some(Context::Root(_))) {
            self.call(Invocation::new(Callback::QueueReady, &[root, token]));
            self.settle();
        }
    }

    /// Hands a root context the answer to an HTTP callout; `None` is a broken one.
    pub(crate) fn http_answer(&mut self, root: u32, token: u32, answer: Option<Answer>) {
        let Some(context) = self.host_mut().root_context_mut(root) else {
            return;
        };
        let sizes = answer.as_ref().map_or([0; 3], |answer| {
            [
                length(&answer.headers),
                length(&answer.body),
                length(&answer.trailers),
            ]
        });
        if answer.is_none() {
            context.status = (crate::abi::Status::BROKEN_CONNECTION.0, b"reset".to_vec());
        }
        context.answer = answer;
        let [headers, body, trailers] = sizes;
        let arguments = [root, token, headers, body, trailers];
        self.call(Invocation {
            callback: Callback::HttpCallResponse,
            arguments,
        });
        self.answered(root);
    }

    /// Hands a root context a gRPC message.
    pub(crate) fn grpc_message(&mut self, root: u32, token: u32, message: Vec<u8>) {
        let Some(context) = self.host_mut().root_context_mut(root) else {
            return;
        };
        let size = length(&message);
        let nothing = Vec::new;
        context.answer = Some(Answer {
            headers: nothing(),
            body: message,
            trailers: nothing(),
            grpc: true,
        });
        self.call(Invocation::new(Callback::GrpcReceive, &[root, token, size]));
        self.answered(root);
    }

    /// Tells a root context that a gRPC call or stream is over.
    pub(crate) fn grpc_close(&mut self, root: u32, token: u32, code: u32, message: Vec<u8>) {
        let Some(context) = self.host_mut().root_context_mut(root) else {
            return;
        };
        context.status = (code, message);
        self.call(Invocation::new(Callback::GrpcClose, &[root, token, code]));
        self.answered(root);
    }

    fn answered(&mut self, root: u32) {
        if let Some(context) = self.host_mut().root_context_mut(root) {
            context.answer = None;
            context.status.1.clear();
        }
        self.settle();
    }

    /// What the VM that replaces this one takes over.
    pub(crate) fn carry(&mut self) -> Carried {
        let host = self.host_mut();
        Carried {
            faults: mem::take(&mut host.faults),
            calls: mem::take(&mut host.calls),
        }
    }
}

/// A length as the guest gets it; none of ours is near the limit.
pub(crate) fn length<T>(bytes: &[T]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The epochs after which a callback is cut off: one more than the time takes, because the
/// current one has begun.
fn epochs(deadline: Duration) -> u64 {
    let whole = deadline
        .as_nanos()
        .checked_div(EPOCH.as_nanos())
        .unwrap_or_default();
    u64::try_from(whole)
        .unwrap_or(u64::MAX / 2)
        .min(u64::MAX / 2)
        .saturating_add(1)
}
