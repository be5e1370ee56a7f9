//! `portcullis-host serve`: a local edge proxy. The same workers as in tests, each on a thread of its
//! own, with the machine's clock and hyper in front; nothing but loopback is listened on.

mod convert;
mod policy;
mod stream;
mod thread;
mod upstream;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::watch;

pub use self::{policy::load_policy, upstream::UpstreamUrl};
use crate::{
    abi::LogLevel,
    clock::SystemClock,
    engine::{Engine, Metering, Module},
    entropy::Entropy,
    error::{ConfigureError, LoadError},
    log::LogSink,
    settings::{Plugin, Settings},
    shared::Shared,
    worker::Worker,
    world::CANARY,
};

/// Name and root id of the plugin, as in `envoy/envoy.yaml`.
const PLUGIN: &str = "portcullis";

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The module.
    pub module: Module,
    /// The plugin's configuration.
    pub policy: Vec<u8>,
    /// Port on 127.0.0.1; zero for any free one.
    pub port: u16,
    /// Number of threads, each with a VM.
    pub workers: usize,
    /// Where requests go that the filter lets pass.
    pub upstream: UpstreamUrl,
    /// How long a stream may stand still before it is answered with 504.
    pub idle_timeout: Duration,
    /// Settings of the VMs.
    pub settings: Settings,
}

impl Options {
    /// The settings for serving: system clocks and randomness, log lines to standard error, and
    /// a buffer that is larger than any body that a policy should allow.
    #[must_use]
    pub fn new(module: Module, policy: Vec<u8>, upstream: UpstreamUrl) -> Self {
        let settings = Settings {
            entropy: Entropy::System,
            log_level: LogLevel::Info,
            log_sink: LogSink::Print(LogLevel::Info),
            buffer_limit: 8 << 20,
            trace: false,
            ..Settings::default()
        };
        let idle_timeout = Duration::from_secs(60);
        Self {
            module,
            policy,
            port: 0,
            workers: 1,
            upstream,
            idle_timeout,
            settings,
        }
    }
}

/// Why serving could not begin.
#[derive(Debug)]
pub enum ServeError {
    /// The port can't be had.
    Bind {
        /// Which port.
        port: u16,
        /// Why.
        error: io::Error,
    },
    /// The module can't be started.
    Load(LoadError),
    /// The module refuses the policy.
    Configure(ConfigureError),
    /// A thread or its runtime can't be started.
    Thread(io::Error),
    /// The policy file can't be read or is neither YAML nor JSON.
    Policy {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        error: String,
    },
    /// The upstream's address is not one.
    Upstream(String),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { port, error } => {
                write!(
                    f,
                    "can't listen on 127.0.0.1:{port}: {error}; try another --port, or 0"
                )
            }
            Self::Load(error) => error.fmt(f),
            Self::Configure(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "can't start a worker: {error}"),
            Self::Policy { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Upstream(url) => {
                write!(f, "upstream `{url}` is not of the form http://HOST:PORT")
            }
        }
    }
}

impl std::error::Error for ServeError {}

impl From<LoadError> for ServeError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<ConfigureError> for ServeError {
    fn from(error: ConfigureError) -> Self {
        Self::Configure(error)
    }
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve. When this returns, connections are taken.
    ///
    /// # Errors
    /// If the port can't be had, or the module can't be started or refuses the policy.
    pub fn start(options: &Options) -> Result<Self, ServeError> {
        let shared = Arc::new(Shared::new(
            options.settings.clone(),
            Arc::new(SystemClock::new()),
        ));
        let plugin = Plugin::new(PLUGIN, options.policy.clone());
        Worker::start(&options.module, &shared, CANARY)?.configure(&plugin)?;

        let bind = |error| ServeError::Bind {
            port: options.port,
            error,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let (stop, stopped) = watch::channel(false);
        let mut server = Self {
            address,
            stop,
            threads: Vec::new(),
        };
        let (report, started) = mpsc::channel();
        for number in 0..u32::try_from(options.workers.max(1)).unwrap_or(1) {
            let task = thread::Task {
                number,
                module: options.module.clone(),
                plugin: plugin.clone(),
                shared: Arc::clone(&shared),
                listener: listener.try_clone().map_err(bind)?,
                upstream: options.upstream.clone(),
                idle_timeout: options.idle_timeout,
                stopped: stopped.clone(),
                started: report.clone(),
            };
            let name = format!("worker {number}");
            let thread = std::thread::Builder::new()
                .name(name)
                .spawn(move || task.run());
            server.threads.push(thread.map_err(ServeError::Thread)?);
        }
        drop(report);
        for _ in &server.threads {
            let gone = || ServeError::Thread(io::Error::other("it ended before it had begun"));
            started.recv().map_err(|_| gone())??;
        }
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Loads a module for serving.
///
/// # Errors
/// As [`Engine::load`].
pub fn load_module(path: &std::path::Path) -> Result<Module, ServeError> {
    Ok(Engine::shared(Metering::Off)?.load(path)?)
}
