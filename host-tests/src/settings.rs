//! How a world behaves: the knobs of Envoy's that matter to a filter, and the limits of the VMs.

use std::time::Duration;

use crate::{abi::LogLevel, entropy::Entropy, log::LogSink};

/// Settings of a world and all its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `vm_id`: the name space of shared data and queues.
    pub vm_id: Vec<u8>,
    /// Configuration of the VM, which every plugin in it can read.
    pub vm_configuration: Vec<u8>,
    /// Environment variables that the guest can read.
    pub environment: Vec<(String, String)>,
    /// Whether a filter that pauses in the header callback gets the body (Envoy >= 1.35 with
    /// `allow_on_headers_stop_iteration`), or nothing until it resumes.
    pub allow_on_headers_stop_iteration: bool,
    /// Most bytes of a body that are held for a pausing filter; past it Envoy answers 413 itself.
    pub buffer_limit: usize,
    /// Whether Envoy's codec for the upstream looks at the values of headers, and refuses a
    /// request that has a line break or a zero byte in one. No codec lets such a request in: a
    /// test that shows it to the filter sees here whether the filter let it pass.
    pub upstream_codec: bool,
    /// What becomes of streams when their VM has died.
    pub failure: FailurePolicy,
    /// Most linear memory of a VM, in bytes.
    pub memory_limit: usize,
    /// Longest time of one callback, measured by the machine's clock; it is looked at every ten
    /// milliseconds.
    pub callback_deadline: Duration,
    /// Fuel of one callback, where fuel is metered.
    pub callback_fuel: u64,
    /// Where the guests' random bytes come from.
    pub entropy: Entropy,
    /// The level that `proxy_get_log_level` answers.
    pub log_level: LogLevel,
    /// What becomes of the guests' log lines.
    pub log_sink: LogSink,
    /// Whether every callback is remembered (see [`crate::Worker::trace`]).
    pub trace: bool,
    /// The only `proxy_*` functions that answer (Envoy's `capability_restriction_config`); all
    /// others fail with `InternalFailure`. `None` restricts nothing.
    pub capabilities: Option<Vec<crate::HostCall>>,
}

impl Default for Settings {
    /// What `envoy/envoy.yaml` sets, with everything deterministic and kept for inspection.
    fn default() -> Self {
        Self {
            vm_id: b"portcullis".to_vec(),
            vm_configuration: Vec::new(),
            environment: Vec::new(),
            allow_on_headers_stop_iteration: true,
            buffer_limit: 1 << 20,
            upstream_codec: true,
            failure: FailurePolicy::Reload {
                backoff: Duration::from_secs(1),
            },
            memory_limit: 256 << 20,
            callback_deadline: Duration::from_secs(10),
            callback_fuel: u64::MAX,
            entropy: Entropy::Seeded(0),
            log_level: LogLevel::Trace,
            log_sink: LogSink::Keep,
            trace: true,
            capabilities: None,
        }
    }
}

/// What becomes of streams when their VM has died (Envoy's `failure_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Every one gets 503, until the worker is made anew.
    Closed,
    /// They pass as if there were no filter.
    Open,
    /// The next stream starts a new VM, unless the last one was started less than `backoff` ago;
    /// until then 503.
    Reload {
        /// Least time between two starts. Envoy adds jitter; here there is none.
        backoff: Duration,
    },
}

/// A plugin: one root context in a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Name of the plugin, as it is in Envoy's configuration.
    pub name: Vec<u8>,
    /// `root_id`, by which a module tells its plugins apart.
    pub root_id: Vec<u8>,
    /// The configuration that `proxy_on_configure` reads.
    pub configuration: Vec<u8>,
}

impl Plugin {
    /// A plugin named like its root id.
    pub fn new(root_id: impl Into<Vec<u8>>, configuration: impl Into<Vec<u8>>) -> Self {
        let root_id = root_id.into();
        Self {
            name: root_id.clone(),
            root_id,
            configuration: configuration.into(),
        }
    }
}
