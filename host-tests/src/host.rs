//! The state of one VM that the functions it imports work on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
};

use wasmtime::{Memory, ResourceLimiter, TypedFunc};

use crate::{
    abi::{LogLevel, Status},
    call::{Calls, HostCall},
    callback::Callback,
    callout::Answer,
    entropy::Generator,
    exchange::{Exchange, Side},
    fault::{CallSite, Faults},
    local_reply::LocalReply,
    log::LogLine,
    metrics::MetricIds,
    settings::Plugin,
    shared::Shared,
};

/// One VM's state.
pub(crate) struct Host {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: u32,
    /// Its number in the world.
    pub(crate) vm: u64,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) limiter: Limiter,
    /// Every context that the guest may name.
    pub(crate) contexts: BTreeMap<u32, Context>,
    /// All exchanges whose results were not taken yet, by their context's id.
    pub(crate) exchanges: BTreeMap<u32, Exchange>,
    /// The exchanges for which something has left the chain since this was looked at.
    pub(crate) fresh: BTreeSet<u32>,
    pub(crate) next_context: u32,
    /// The callback that runs, and the context that it runs for.
    pub(crate) callback: Callback,
    pub(crate) current: u32,
    /// The context chosen by `proxy_set_effective_context`; zero for none.
    pub(crate) effective: u32,
    /// A local reply was asked for: whatever the callback returns, nothing passes.
    pub(crate) stop_iteration: bool,
    /// What is done when the running callback has returned.
    pub(crate) deferred: VecDeque<Deferred>,
    pub(crate) timers: BTreeMap<u32, Timer>,
    pub(crate) metric_ids: MetricIds,
    pub(crate) next_callout: [u32; 3],
    pub(crate) random: Generator,
    pub(crate) faults: Faults,
    pub(crate) calls: Calls,
    pub(crate) call_numbers: BTreeMap<HostCall, u64>,
    /// What the guest handed to `proc_exit` in the running callback.
    pub(crate) exit_code: Option<u32>,
    /// Log lines of a configuration that is under way.
    pub(crate) captured: Option<Vec<LogLine>>,
}

/// A context that the guest knows.
#[derive(Debug)]
pub(crate) enum Context {
    Root(RootContext),
    Stream { root: u32 },
}

/// A root context.
#[derive(Debug)]
pub(crate) struct RootContext {
    pub(crate) plugin: Arc<Plugin>,
    /// Its configuration can be read now.
    pub(crate) configuring: bool,
    /// The answer to a callout that is being delivered.
    pub(crate) answer: Option<Answer>,
    /// What `proxy_get_status` answers.
    pub(crate) status: (u32, Vec<u8>),
    /// It said "not yet" to `proxy_on_done` and owes a `proxy_done`.
    pub(crate) ending: bool,
}

/// A timer that `proxy_set_tick_period_milliseconds` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) period: u64,
    /// Monotonic time of the next tick, in nanoseconds.
    pub(crate) due: u64,
}

/// An effect of a host call that Envoy puts off until the callback has returned.
#[derive(Debug)]
pub(crate) enum Deferred {
    Resume { context: u32, side: Side },
    Reply { context: u32, reply: LocalReply },
    Close { context: u32 },
    DeleteRoot { context: u32 },
}

impl Host {
    /// Counts a host call and says what is forced on it, if anything.
    pub(crate) fn enter(&mut self, call: HostCall, subject: Option<u32>) -> Option<Status> {
        let (callback, context) = (self.callback, self.current);
        self.calls.count(callback, call);
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            exchange.calls.count(callback, call);
        }
        let nth = self.call_numbers.entry(call).or_default();
        *nth = nth.saturating_add(1);
        let site = CallSite {
            call,
            subject,
            callback,
            context,
            nth: *nth,
        };
        if let Some(forced) = self.faults.forced(&site) {
            return Some(forced);
        }
        let allowed = self.shared.settings.capabilities.as_ref();
        (!call.is_wasi() && allowed.is_some_and(|allowed| !allowed.contains(&call)))
            .then_some(Status::INTERNAL_FAILURE)
    }

    /// The context in whose name host calls are made now.
    pub(crate) fn acting(&self) -> u32 {
        if self.effective != 0 && self.contexts.contains_key(&self.effective) {
            self.effective
        } else {
            self.current
        }
    }

    /// The root of a context; a root is its own.
    pub(crate) fn root_of(&self, context: u32) -> Option<u32> {
        Some(match self.contexts.get(&context)? {
            Context::Root(_) => context,
            Context::Stream { root } => *root,
        })
    }

    pub(crate) fn root_context(&self, context: u32) -> Option<&RootContext> {
        match self.contexts.get(&self.root_of(context)?)? {
            Context::Root(root) => Some(root),
            Context::Stream { .. } => None,
        }
    }

    pub(crate) fn root_context_mut(&mut self, context: u32) -> Option<&mut RootContext> {
        let root = self.root_of(context)?;
        match self.contexts.get_mut(&root)? {
            Context::Root(root) => Some(root),
            Context::Stream { .. } => None,
        }
    }

    /// The exchange of a context that the guest can still reach.
    pub(crate) fn exchange(&self, context: u32) -> Option<&Exchange> {
        self.exchanges
            .get(&context)
            .filter(|exchange| !exchange.destroyed || exchange.logging)
    }

    pub(crate) fn exchange_mut(&mut self, context: u32) -> Option<&mut Exchange> {
        self.exchanges
            .get_mut(&context)
            .filter(|exchange| !exchange.destroyed || exchange.logging)
    }

    /// Notes that the guest did what is undefined in Envoy.
    pub(crate) fn violation(&mut self, context: u32, what: String) {
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            exchange.violations.push(what);
        }
    }

    pub(crate) fn log(&mut self, level: LogLevel, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        let line = LogLine {
            worker: self.worker,
            context: self.acting(),
            level,
            text,
        };
        if let Some(captured) = &mut self.captured {
            captured.push(line.clone());
        }
        self.shared.logs.write(line);
    }

    pub(crate) fn allocate_context(&mut self) -> u32 {
        loop {
            let id = self.next_context;
            self.next_context = self.next_context.wrapping_add(1).max(1);
            if !self.contexts.contains_key(&id) && !self.exchanges.contains_key(&id) {
                return id;
            }
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("worker", &self.worker)
            .field("contexts", &self.contexts)
            .field("exchanges", &self.exchanges)
            .finish_non_exhaustive()
    }
}

/// Keeps a VM's memory within its limit; asking for more is the VM's death, by name.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) limit: usize,
    pub(crate) used: usize,
}

/// The guest wanted more memory than it may have.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    pub(crate) wanted: usize,
    pub(crate) limit: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the guest wants {} bytes of memory and may have {}",
            self.wanted, self.limit
        )
    }
}

impl std::error::Error for OutOfMemory {}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.limit {
            return Err(OutOfMemory {
                wanted: desired,
                limit: self.limit,
            }
            .into());
        }
        self.used = desired;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        const ENTRIES: usize = 100_000;
        Ok(desired <= ENTRIES)
    }
}
