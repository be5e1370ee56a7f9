//! A small proxy-wasm host on wasmtime. It runs the very same module as Envoy does, with Envoy's
//! semantics, on a virtual clock and with everything in a fixed order:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use portcullis_host::{Engine, Metering, Plugin, RequestScript, ResponseScript, Settings, World};
//!
//! let engine = Engine::shared(Metering::Off)?;
//! let module = engine.load("target/portcullis.wasm".as_ref())?;
//! let mut world = World::new(Settings::default());
//! world.add_worker(&module)?;
//! let roots = world.configure(&Plugin::new("portcullis", r#"{"version":1}"#))?;
//! let request = RequestScript::new("GET", "/v1/threats").header("authorization", "Bearer x");
//! let (_, result) = world.worker(0)?.request(roots[0], &request, &ResponseScript::default())?;
//! assert_eq!(result.status(), 401);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Engine`] compiles modules, once; [`Module`] is one of them.
//! - [`World`] has the clock, the shared data, queues and metrics, and the workers. Time passes
//!   only in [`World::advance`].
//! - [`Worker`] has one VM. Streams pass it whole ([`Worker::request`]) or piece by piece
//!   ([`Worker::open`], [`Worker::headers`], [`Worker::data`], ...).
//! - [`Fault`] forces a status on a host call; [`Calls`] counts them.
//! - [`serve`] is a proxy on top: the same workers, with the machine's clock.

mod abi;
mod call;
mod callback;
mod callout;
mod clock;
mod drive;
mod engine;
mod entropy;
mod error;
mod exchange;
mod exports;
mod fault;
mod filter_chain;
mod headers;
mod host;
mod imports;
mod local_reply;
mod log;
mod metrics;
mod property;
mod script;
pub mod serve;
mod settings;
mod shared;
mod shared_data;
mod shared_queue;
mod vm;
mod worker;
mod world;

pub use crate::{
    abi::{BufferType, LogLevel, MapType, MetricType, Status, StreamType},
    call::{Calls, HostCall},
    callback::{Callback, Invocation},
    callout::{Callout, CalloutReply, CalloutRequest},
    clock::{Clock, SystemClock, VirtualClock},
    engine::{Engine, Metering, Module},
    entropy::Entropy,
    error::{ConfigureError, HostError, LoadError, Refusal, TrapKind, TrapReport},
    exchange::{Event, Origin, Side},
    fault::{CallSite, Fault},
    headers::{Headers, header, headers},
    log::{LogLine, LogSink},
    metrics::Metrics,
    script::{
        Disconnect, Message, RequestScript, ResponseScript, StreamResult, StreamState, Verdict,
    },
    settings::{FailurePolicy, Plugin, Settings},
    shared_data::SharedData,
    vm::TraceEvent,
    worker::{Root, StreamId, Worker},
    world::{CANARY, World},
};
