//! Every function that this host offers to a module, by name, and how often it was called.

use std::{collections::BTreeMap, fmt};

use crate::callback::Callback;

macro_rules! host_calls {
    ($($variant:ident $module:ident $name:literal $data:literal,)*) => {
        /// A function that a module can import.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum HostCall { $(#[doc = concat!("`", $name, "`")] $variant,)* }

        impl HostCall {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name of the import.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it belongs to WASI; all others are `env`.
            #[must_use]
            pub const fn is_wasi(self) -> bool {
                match self { $(Self::$variant => matches!(Kind::$module, Kind::Wasi),)* }
            }

            /// Whether its answer is bytes that the host copies into memory which it lets the
            /// guest allocate: the dear half of the calls.
            #[must_use]
            pub const fn returns_data(self) -> bool {
                match self { $(Self::$variant => $data,)* }
            }
        }
    };
}

#[derive(Clone, Copy)]
enum Kind {
    Env,
    Wasi,
}

host_calls! {
    Log Env "proxy_log" false,
    GetLogLevel Env "proxy_get_log_level" false,
    GetCurrentTime Env "proxy_get_current_time_nanoseconds" false,
    SetTickPeriod Env "proxy_set_tick_period_milliseconds" false,
    GetBufferBytes Env "proxy_get_buffer_bytes" true,
    GetBufferStatus Env "proxy_get_buffer_status" false,
    SetBufferBytes Env "proxy_set_buffer_bytes" false,
    GetHeaderMapPairs Env "proxy_get_header_map_pairs" true,
    SetHeaderMapPairs Env "proxy_set_header_map_pairs" false,
    GetHeaderMapValue Env "proxy_get_header_map_value" true,
    AddHeaderMapValue Env "proxy_add_header_map_value" false,
    ReplaceHeaderMapValue Env "proxy_replace_header_map_value" false,
    RemoveHeaderMapValue Env "proxy_remove_header_map_value" false,
    GetHeaderMapSize Env "proxy_get_header_map_size" false,
    GetProperty Env "proxy_get_property" true,
    SetProperty Env "proxy_set_property" false,
    GetSharedData Env "proxy_get_shared_data" true,
    SetSharedData Env "proxy_set_shared_data" false,
    RegisterSharedQueue Env "proxy_register_shared_queue" false,
    ResolveSharedQueue Env "proxy_resolve_shared_queue" false,
    DequeueSharedQueue Env "proxy_dequeue_shared_queue" true,
    EnqueueSharedQueue Env "proxy_enqueue_shared_queue" false,
    DefineMetric Env "proxy_define_metric" false,
    IncrementMetric Env "proxy_increment_metric" false,
    RecordMetric Env "proxy_record_metric" false,
    GetMetric Env "proxy_get_metric" false,
    HttpCall Env "proxy_http_call" false,
    GrpcCall Env "proxy_grpc_call" false,
    GrpcStream Env "proxy_grpc_stream" false,
    GrpcSend Env "proxy_grpc_send" false,
    GrpcCancel Env "proxy_grpc_cancel" false,
    GrpcClose Env "proxy_grpc_close" false,
    GetStatus Env "proxy_get_status" true,
    SendLocalResponse Env "proxy_send_local_response" false,
    ContinueStream Env "proxy_continue_stream" false,
    CloseStream Env "proxy_close_stream" false,
    SetEffectiveContext Env "proxy_set_effective_context" false,
    Done Env "proxy_done" false,
    CallForeignFunction Env "proxy_call_foreign_function" true,
    RandomGet Wasi "random_get" false,
    ClockTimeGet Wasi "clock_time_get" false,
    EnvironGet Wasi "environ_get" false,
    EnvironSizesGet Wasi "environ_sizes_get" false,
    ArgsGet Wasi "args_get" false,
    ArgsSizesGet Wasi "args_sizes_get" false,
    FdWrite Wasi "fd_write" false,
    FdRead Wasi "fd_read" false,
    FdSeek Wasi "fd_seek" false,
    FdClose Wasi "fd_close" false,
    FdFdstatGet Wasi "fd_fdstat_get" false,
    FdPrestatGet Wasi "fd_prestat_get" false,
    FdPrestatDirName Wasi "fd_prestat_dir_name" false,
    SchedYield Wasi "sched_yield" false,
    ProcExit Wasi "proc_exit" false,
}

/// The module names under which WASI is imported.
pub(crate) const WASI_MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

impl HostCall {
    /// The function behind an import, if this host has it.
    #[must_use]
    pub fn from_import(module: &str, name: &str) -> Option<Self> {
        let wasi = WASI_MODULES.contains(&module);
        Self::ALL.iter().copied().find(|call| {
            call.name() == name && (call.is_wasi() == wasi) && (wasi || module == "env")
        })
    }
}

impl fmt::Display for HostCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each host call was made, by the callback in which it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<(Callback, HostCall), u64>);

impl Calls {
    /// Number of calls of one function, in all callbacks.
    #[must_use]
    pub fn of(&self, call: HostCall) -> u64 {
        self.iter()
            .filter(|(_, made, _)| *made == call)
            .map(|(_, _, n)| n)
            .sum()
    }

    /// The calls made in one callback, with their numbers.
    pub fn during(&self, callback: Callback) -> impl Iterator<Item = (HostCall, u64)> + '_ {
        self.iter()
            .filter(move |(made_in, _, _)| *made_in == callback)
            .map(|(_, call, n)| (call, n))
    }

    /// Number of calls in one callback whose answer is bytes (see [`HostCall::returns_data`]).
    #[must_use]
    pub fn returning_data_during(&self, callback: Callback) -> u64 {
        self.during(callback)
            .filter(|(call, _)| call.returns_data())
            .map(|(_, n)| n)
            .sum()
    }

    /// All of them, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Callback, HostCall, u64)> + '_ {
        self.0
            .iter()
            .map(|(&(callback, call), &n)| (callback, call, n))
    }

    /// Number of all calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn count(&mut self, callback: Callback, call: HostCall) {
        let n = self.0.entry((callback, call)).or_default();
        *n = n.saturating_add(1);
    }
}
