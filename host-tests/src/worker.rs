//! One worker: a VM, the plugins in it, and the streams that pass it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    abi::Status,
    call::Calls,
    callback::Invocation,
    callout::{Answer, Callout, CalloutReply, CalloutRequest},
    clock::nanoseconds,
    engine::Module,
    error::{ConfigureError, HostError, LoadError, TrapReport},
    exchange::{Event, Exchange, Side},
    fault::{CallSite, Fault},
    headers::Headers,
    script::{StreamResult, StreamState, messages, state},
    settings::{FailurePolicy, Plugin},
    shared::Shared,
    vm::{Called, Carried, TraceEvent, Vm},
};

/// A configured plugin of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(u32);

/// A stream of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// A worker. It owns one VM at a time; after a VM's death the next stream may start another (see
/// [`FailurePolicy`]), while streams of the dead one stay as they are.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    number: u32,
    module: Module,
    vm: Vm,
    /// VMs that died and still have streams.
    dead: Vec<Vm>,
    roots: BTreeMap<Root, RootSlot>,
    next_root: u32,
    streams: BTreeMap<StreamId, Slot>,
    /// The same, by VM and context.
    ids: BTreeMap<(u64, u32), StreamId>,
    next_stream: u64,
    loaded_at: u64,
    traps: Vec<TrapReport>,
    /// The last VM whose death is among `traps`.
    mourned: Option<u64>,
    reloads: u32,
}

#[derive(Debug)]
struct RootSlot {
    plugin: Arc<Plugin>,
    context: u32,
    /// Another has taken its place; it ends with its last stream.
    superseded: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    vm: u64,
    context: u32,
}

impl Worker {
    pub(crate) fn start(
        module: &Module,
        shared: &Arc<Shared>,
        number: u32,
    ) -> Result<Self, LoadError> {
        let vm = Vm::start(module, shared, number, Carried::default())?;
        Ok(Self {
            shared: Arc::clone(shared),
            number,
            module: module.clone(),
            vm,
            dead: Vec::new(),
            roots: BTreeMap::new(),
            next_root: 0,
            streams: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_stream: 0,
            loaded_at: shared.clock.monotonic(),
            traps: Vec::new(),
            mourned: None,
            reloads: 0,
        })
    }

    /// Its number in the world; log lines carry it.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Configures a plugin: a new root context in the VM that runs.
    ///
    /// A plugin of the same name and root id that is configured already is superseded, as in an
    /// update of Envoy's configuration: its streams keep it, and it ends with the last of them.
    ///
    /// # Errors
    /// If the module refuses, with what it logged. What was configured before stays.
    pub fn configure(&mut self, plugin: &Plugin) -> Result<Root, ConfigureError> {
        let plugin = Arc::new(plugin.clone());
        let result = self.vm.add_root(&plugin);
        self.after();
        Ok(self.install(plugin, result?))
    }

    /// Configures a plugin and keeps it even if the module refuses, as no proxy does: for tests of
    /// what streams meet then. The second value says why it was refused.
    pub fn configure_regardless(&mut self, plugin: &Plugin) -> (Root, Option<ConfigureError>) {
        let plugin = Arc::new(plugin.clone());
        let (context, refused) = self.vm.keep_root(&plugin);
        self.after();
        (self.install(plugin, context), refused)
    }

    /// Gives a root context that was configured the streams of its plugin.
    fn install(&mut self, plugin: Arc<Plugin>, context: u32) -> Root {
        for slot in self.roots.values_mut() {
            slot.superseded |=
                slot.plugin.name == plugin.name && slot.plugin.root_id == plugin.root_id;
        }
        let root = Root(self.next_root);
        self.next_root = self.next_root.saturating_add(1);
        self.roots.insert(
            root,
            RootSlot {
                plugin,
                context,
                superseded: false,
            },
        );
        self.end_superseded();
        root
    }

    /// The plugin of this name that takes new streams.
    #[must_use]
    pub fn root(&self, name: &[u8]) -> Option<Root> {
        let mut live = self.roots.iter().filter(|(_, slot)| !slot.superseded);
        live.find(|(_, slot)| slot.plugin.name == name)
            .map(|(root, _)| *root)
    }

    /// The id of a root's context in the VM that runs.
    #[must_use]
    pub fn root_context(&self, root: Root) -> Option<u32> {
        self.roots.get(&root).map(|slot| slot.context)
    }

    /// A client opens a stream; nothing of its request has arrived yet.
    ///
    /// # Errors
    /// If there is no such root.
    pub fn open(
        &mut self,
        root: Root,
        properties: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<StreamId, HostError> {
        self.reload_if_due();
        let slot = self.roots.get(&root).ok_or(HostError::NoSuchRoot)?;
        let context = self.vm.open(slot.context, self.shared.connection_number());
        if let Some(exchange) = self.vm.host_mut().exchanges.get_mut(&context) {
            exchange.properties.extend(properties.iter().cloned());
        }
        let id = StreamId(self.next_stream);
        self.next_stream = self.next_stream.saturating_add(1);
        let vm = self.vm.number;
        self.streams.insert(id, Slot { vm, context });
        self.ids.insert((vm, context), id);
        Ok(id)
    }

    /// Headers arrive: the request's from the client, the response's from the upstream.
    ///
    /// # Errors
    /// If there is no such stream, headers came before, or nothing was forwarded.
    pub fn headers(
        &mut self,
        id: StreamId,
        side: Side,
        headers: Headers,
        end: bool,
    ) -> Result<(), HostError> {
        let (vm, context) = self.find(id)?;
        let exchange = exchange(vm, context)?;
        match side {
            Side::Request if exchange.request.headers.is_some() => {
                return Err(HostError::RequestComplete);
            }
            Side::Response if exchange.destroyed || exchange.response.headers.is_some() => {
                return Err(HostError::AlreadyAnswered);
            }
            Side::Response if !exchange.request_sent => return Err(HostError::NotForwarded),
            Side::Request => vm.request_headers(context, headers, end),
            Side::Response => vm.response_headers(context, headers, end),
        }
        self.after();
        Ok(())
    }

    /// A piece of body arrives.
    ///
    /// # Errors
    /// If there is no such stream, or no body can arrive in this direction now. A piece for a
    /// stream that is over is dropped, which is no error: sender and proxy are not in step.
    pub fn data(
        &mut self,
        id: StreamId,
        side: Side,
        data: Vec<u8>,
        end: bool,
    ) -> Result<(), HostError> {
        let vm = self.expecting(id, side)?;
        if let Some((vm, context)) = vm {
            vm.data(context, side, data, end);
            self.after();
        }
        Ok(())
    }

    /// Trailers arrive, and with them the message's end.
    ///
    /// # Errors
    /// As [`Worker::data`].
    pub fn trailers(
        &mut self,
        id: StreamId,
        side: Side,
        trailers: Headers,
    ) -> Result<(), HostError> {
        let vm = self.expecting(id, side)?;
        if let Some((vm, context)) = vm {
            vm.trailers(context, side, trailers);
            self.after();
        }
        Ok(())
    }

    /// The client goes away.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn disconnect(&mut self, id: StreamId) -> Result<(), HostError> {
        let (vm, context) = self.find(id)?;
        if !exchange(vm, context)?.destroyed {
            vm.disconnect(context);
            self.after();
        }
        Ok(())
    }

    /// The upstream can't be reached or breaks off; the client gets Envoy's 503 for that, or a
    /// broken response.
    ///
    /// # Errors
    /// If there is no such stream or nothing was forwarded.
    pub fn upstream_reset(&mut self, id: StreamId) -> Result<(), HostError> {
        const TEXT: &str = "upstream connect error or disconnect/reset before headers. \
                            reset reason: connection termination";
        let (vm, context) = self.find(id)?;
        if !exchange(vm, context)?.request_sent {
            return Err(HostError::NotForwarded);
        }
        vm.upstream_reset(context, TEXT, "upstream_reset_before_response_started");
        self.after();
        Ok(())
    }

    /// The proxy loses patience with a stream (`stream_idle_timeout`): 504, or 408 if the request
    /// is not complete.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn time_out(&mut self, id: StreamId) -> Result<(), HostError> {
        let (vm, context) = self.find(id)?;
        vm.time_out(context);
        self.after();
        Ok(())
    }

    /// The id of a stream's context in its VM.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn context(&self, id: StreamId) -> Result<u32, HostError> {
        Ok(self.vm_of(id)?.1)
    }

    /// How a stream stands.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn state(&self, id: StreamId) -> Result<StreamState, HostError> {
        self.peek(id).map(state)
    }

    /// All that is known of a stream now.
    ///
    /// # Errors
    /// If there is no such stream, or its events were taken one by one.
    pub fn result(&self, id: StreamId) -> Result<StreamResult, HostError> {
        let (vm, context) = self.vm_of(id)?;
        let exchange = self.peek(id)?;
        let (forwarded, response) = messages(&exchange.events);
        let mut logs = self.shared.logs.since(exchange.log_start);
        logs.retain(|line| line.worker == self.number && line.context == context);
        Ok(StreamResult {
            context,
            state: state(exchange),
            forwarded,
            response,
            origin: exchange.origin,
            details: exchange.details.clone(),
            properties: exchange.filter_state.clone(),
            calls: exchange.calls.clone(),
            fuel: exchange.fuel.clone(),
            violations: exchange.violations.clone(),
            logs,
            trap: vm.trap.clone(),
        })
    }

    /// What has left the filter chain since the last time that this was asked, for a proxy that
    /// passes it on.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn take_events(&mut self, id: StreamId) -> Result<Vec<Event>, HostError> {
        let (vm, context) = self.find(id)?;
        Ok(exchange(vm, context)?.events.drain(..).collect())
    }

    /// The streams for which something has left the filter chain since the last time that this
    /// was asked.
    pub(crate) fn take_fresh(&mut self) -> Vec<StreamId> {
        let mut fresh = Vec::new();
        for vm in std::iter::once(&mut self.vm).chain(&mut self.dead) {
            let number = vm.number;
            let contexts = std::mem::take(&mut vm.host_mut().fresh);
            fresh.extend(
                contexts
                    .iter()
                    .filter_map(|context| self.ids.get(&(number, *context))),
            );
        }
        fresh
    }

    /// Bytes of the request that are held back.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn held_bytes(&self, id: StreamId) -> Result<usize, HostError> {
        let exchange = self.peek(id)?;
        Ok(exchange.request.buffered.as_ref().map_or(0, Vec::len))
    }

    /// Forgets a stream. One that is not over is closed first, as if its client had gone away.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn forget(&mut self, id: StreamId) -> Result<(), HostError> {
        self.disconnect(id)?;
        let (vm, context) = self.find(id)?;
        vm.host_mut().exchanges.remove(&context);
        let number = vm.number;
        self.ids.remove(&(number, context));
        self.streams.remove(&id);
        self.dead.retain(|vm| !vm.host().exchanges.is_empty());
        Ok(())
    }

    /// The streams that are known, in the order in which they were opened.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// Forces a status on host calls of this worker.
    pub fn fault(&mut self, fault: Fault) {
        self.vm.host_mut().faults.add(fault);
    }

    /// Lets a function decide on every host call of this worker; it is asked where no
    /// [`Fault`] matches.
    pub fn decide(&mut self, decide: impl FnMut(&CallSite) -> Option<Status> + Send + 'static) {
        self.vm.host_mut().faults.decide_by(Box::new(decide));
    }

    /// Lets a function change the bytes that host calls hand to the guest: for tests of a host
    /// that hands over nonsense.
    pub fn tamper(&mut self, tamper: impl FnMut(&CallSite, &mut Vec<u8>) + Send + 'static) {
        self.vm.host_mut().faults.tamper_by(Box::new(tamper));
    }

    /// Removes all faults.
    pub fn clear_faults(&mut self) {
        self.vm.host_mut().faults.clear();
    }

    /// Every host call that this worker's VMs made.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.vm.host().calls
    }

    /// Every callback of the VM that runs, in order; empty if the settings say so.
    #[must_use]
    pub fn trace(&self) -> &[TraceEvent] {
        &self.vm.trace
    }

    /// Forgets the callbacks so far.
    pub fn clear_trace(&mut self) {
        self.vm.trace.clear();
    }

    /// Fuel used by the VM that runs, in all its callbacks; zero if fuel is not metered.
    #[must_use]
    pub fn fuel(&self) -> u64 {
        self.vm.fuel
    }

    /// Size of the running VM's linear memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.vm.host().limiter.used
    }

    /// Contexts that the running VM knows, roots and streams.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.vm.host().contexts.len()
    }

    /// How this worker's VMs died.
    #[must_use]
    pub fn traps(&self) -> &[TrapReport] {
        &self.traps
    }

    /// How often a new VM was started in place of a dead one.
    #[must_use]
    pub const fn reloads(&self) -> u32 {
        self.reloads
    }

    /// Why the VM that runs does not run any more, if it died.
    #[must_use]
    pub fn trap(&self) -> Option<&TrapReport> {
        self.vm.trap.as_ref()
    }

    /// The monotonic time at which the next tick is due.
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        self.vm.next_tick()
    }

    /// Fires the tick that is due first, if one is due.
    pub fn tick(&mut self) -> bool {
        let fired = self.vm.tick(self.shared.clock.monotonic());
        if fired {
            self.after();
        }
        fired
    }

    /// Tells the guest of a queue that another worker put something into; false if there is
    /// nothing to tell.
    pub fn queue_ready(&mut self) -> bool {
        let Some(ready) = self.shared.queues.next_ready(self.number) else {
            return false;
        };
        self.vm
            .queue_ready(ready.listener.root_context, ready.token);
        self.after();
        true
    }

    /// Calls an export with any arguments, outside of all rules: for tests of what no proxy does.
    /// Whatever host calls put off (replies, resuming) is not done.
    ///
    /// A context that it creates is known as a stream of its second argument, and one that it
    /// deletes is forgotten.
    ///
    /// # Errors
    /// If the VM died of it, or was dead.
    pub fn call_raw(&mut self, invocation: Invocation) -> Result<Option<u32>, TrapReport> {
        use crate::{callback::Callback, host::Context};
        let [context, root, ..] = invocation.arguments;
        let host = self.vm.host_mut();
        if invocation.callback == Callback::ContextCreate && root != 0 {
            host.contexts.insert(context, Context::Stream { root });
            let start = host.shared.logs.len();
            let stream = Exchange::new(root, 0, start);
            host.exchanges.entry(context).or_insert(stream).created = true;
        }
        let called = self.vm.call(invocation);
        let host = self.vm.host_mut();
        host.deferred.clear();
        if invocation.callback == Callback::Delete {
            host.contexts.remove(&context);
            host.exchanges.remove(&context);
        }
        self.after();
        match called {
            Called::Missing => Ok(None),
            Called::Returned(value) => Ok(Some(value)),
            Called::Dead => Err(self.vm.trap.clone().unwrap_or(TrapReport {
                callback: invocation.callback,
                context,
                kind: crate::error::TrapKind::Guest,
                text: "the VM is dead".to_owned(),
            })),
        }
    }

    /// Hands the guest the answer to one of its callouts. A VM that died since is not told.
    pub(crate) fn answer(&mut self, call: Callout, reply: CalloutReply) {
        if call.vm != self.vm.number {
            return;
        }
        let (root, token) = (call.root_context, call.token);
        let stream = matches!(call.request, CalloutRequest::GrpcStream { .. });
        match reply.for_request(&call.request) {
            CalloutReply::Http {
                headers,
                body,
                trailers,
            } => {
                let answer = Answer {
                    headers,
                    body,
                    trailers,
                    grpc: false,
                };
                self.vm.http_answer(root, token, Some(answer));
            }
            CalloutReply::Broken => self.vm.http_answer(root, token, None),
            CalloutReply::GrpcMessage(message) => {
                if stream {
                    self.shared.callouts.put_back(Callout {
                        scripted: None,
                        ..call
                    });
                }
                self.vm.grpc_message(root, token, message);
            }
            CalloutReply::GrpcClose { code, message } => {
                self.vm.grpc_close(root, token, code, message);
            }
            CalloutReply::Silence
            | CalloutReply::Refused(_)
            | CalloutReply::Unreachable
            | CalloutReply::TimedOut => {
                self.shared.callouts.put_back(Callout {
                    scripted: None,
                    ..call
                });
            }
        }
        self.after();
    }

    /// The stream's VM, if a message in this direction is under way there; `None` if the stream
    /// is over.
    fn expecting(&mut self, id: StreamId, side: Side) -> Result<Option<(&mut Vm, u32)>, HostError> {
        let (vm, context) = self.find(id)?;
        let exchange = exchange(vm, context)?;
        if exchange.destroyed {
            return Ok(None);
        }
        let direction = exchange.side(side);
        if direction.headers.is_none() {
            return Err(HostError::NotForwarded);
        }
        if direction.complete {
            return Err(match side {
                Side::Request => HostError::RequestComplete,
                Side::Response => HostError::AlreadyAnswered,
            });
        }
        Ok(Some((vm, context)))
    }

    /// What follows whatever was done with the VM.
    fn after(&mut self) {
        if let Some(trap) = &self.vm.trap
            && self.mourned != Some(self.vm.number)
        {
            self.mourned = Some(self.vm.number);
            self.traps.push(trap.clone());
        }
        self.end_superseded();
    }

    fn end_superseded(&mut self) {
        let exchanges = &self.vm.host().exchanges;
        let busy = |context: u32| {
            exchanges
                .values()
                .any(|e| e.root == context && !e.destroyed)
        };
        let idle = |slot: &RootSlot| slot.superseded && !busy(slot.context);
        let ended: Vec<Root> = self
            .roots
            .iter()
            .filter(|(_, slot)| idle(slot))
            .map(|(root, _)| *root)
            .collect();
        for root in ended {
            if let Some(slot) = self.roots.remove(&root) {
                self.vm.end_root(slot.context);
            }
        }
    }

    fn reload_if_due(&mut self) {
        let FailurePolicy::Reload { backoff } = self.shared.settings.failure else {
            return;
        };
        let now = self.shared.clock.monotonic();
        if !self.vm.is_dead() || now.saturating_sub(self.loaded_at) < nanoseconds(backoff) {
            return;
        }
        self.loaded_at = now;
        let carried = self.vm.carry();
        let Ok(mut vm) = Vm::start(&self.module, &self.shared, self.number, carried) else {
            return;
        };
        let mut contexts = Vec::new();
        for (root, slot) in self.roots.iter().filter(|(_, slot)| !slot.superseded) {
            let Ok(context) = vm.add_root(&slot.plugin) else {
                return;
            };
            contexts.push((*root, context));
        }
        self.roots.retain(|_, slot| !slot.superseded);
        for (root, context) in contexts {
            if let Some(slot) = self.roots.get_mut(&root) {
                slot.context = context;
            }
        }
        self.reloads = self.reloads.saturating_add(1);
        let old = std::mem::replace(&mut self.vm, vm);
        if !old.host().exchanges.is_empty() {
            self.dead.push(old);
        }
    }

    fn find(&mut self, id: StreamId) -> Result<(&mut Vm, u32), HostError> {
        let slot = *self.streams.get(&id).ok_or(HostError::NoSuchStream)?;
        let mut vms = std::iter::once(&mut self.vm).chain(&mut self.dead);
        let vm = vms
            .find(|vm| vm.number == slot.vm)
            .ok_or(HostError::NoSuchStream)?;
        Ok((vm, slot.context))
    }

    fn vm_of(&self, id: StreamId) -> Result<(&Vm, u32), HostError> {
        let slot = self.streams.get(&id).ok_or(HostError::NoSuchStream)?;
        let mut vms = std::iter::once(&self.vm).chain(&self.dead);
        let vm = vms
            .find(|vm| vm.number == slot.vm)
            .ok_or(HostError::NoSuchStream)?;
        Ok((vm, slot.context))
    }

    pub(crate) fn peek(&self, id: StreamId) -> Result<&Exchange, HostError> {
        let (vm, context) = self.vm_of(id)?;
        vm.host()
            .exchanges
            .get(&context)
            .ok_or(HostError::NoSuchStream)
    }
}

fn exchange(vm: &mut Vm, context: u32) -> Result<&mut Exchange, HostError> {
    vm.host_mut()
        .exchanges
        .get_mut(&context)
        .ok_or(HostError::NoSuchStream)
}
