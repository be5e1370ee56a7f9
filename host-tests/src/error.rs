//! What can go wrong, each with its name.

use std::{fmt, io, path::PathBuf};

use crate::{callback::Callback, log::LogLine};

/// A module that this host does not take.
#[derive(Debug)]
pub enum LoadError {
    /// The file can't be read.
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The bytes are no WebAssembly module, or one that can't be compiled.
    Compile {
        /// Which module.
        module: String,
        /// Why.
        error: String,
    },
    /// The module imports functions that this host does not provide.
    UnknownImports {
        /// Which module.
        module: String,
        /// The imports, as `module.name`.
        imports: Vec<String>,
    },
    /// The module lacks an export without which no proxy-wasm host can run it.
    MissingExport {
        /// Which module.
        module: String,
        /// What it lacks.
        export: &'static str,
    },
    /// An import or export has another signature than the ABI gives it.
    Signature {
        /// Which module.
        module: String,
        /// Which function, and how it differs.
        error: String,
    },
    /// The module could not be started.
    Start {
        /// Which module.
        module: String,
        /// How it failed.
        error: String,
    },
    /// The machine can't run compiled WebAssembly as configured.
    Engine {
        /// Why.
        error: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(f, "can't read {}: {error}", path.display()),
            Self::Compile { module, error } => write!(f, "can't compile {module}: {error}"),
            Self::UnknownImports { module, imports } => {
                let what = if imports.len() == 1 {
                    "which this host does not provide"
                } else {
                    "none of which this host provides"
                };
                write!(f, "{module} imports `{}`, {what}", imports.join("`, `"))
            }
            Self::MissingExport { module, export } => {
                write!(
                    f,
                    "{module} does not export `{export}`: it is no proxy-wasm 0.2 module"
                )
            }
            Self::Signature { module, error } => {
                write!(f, "{module} disagrees with the proxy-wasm ABI: {error}")
            }
            Self::Start { module, error } => write!(f, "can't start {module}: {error}"),
            Self::Engine { error } => write!(f, "can't set up wasmtime: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// How a VM died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// The callback ran longer than the settings allow.
    Deadline,
    /// The guest wanted more memory than the settings allow.
    Memory {
        /// The size that it asked for, in bytes.
        wanted: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The fuel of one callback was used up.
    Fuel,
    /// The guest called `proc_exit` with this code and did not survive it.
    Exit(u32),
    /// The guest recursed too deep.
    Stack,
    /// Anything else: a panic, an access out of bounds, a division by zero.
    Guest,
}

/// The death of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrapReport {
    /// The callback in which it happened.
    pub callback: Callback,
    /// The context for which that callback ran.
    pub context: u32,
    /// What happened.
    pub kind: TrapKind,
    /// What wasmtime says of it, with the guest's call stack.
    pub text: String,
}

impl fmt::Display for TrapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the VM died in {} of context {}: ",
            self.callback, self.context
        )?;
        match &self.kind {
            TrapKind::Deadline => f.write_str("it ran longer than the settings allow"),
            TrapKind::Memory { wanted, limit } => {
                write!(f, "it wanted {wanted} bytes of memory and may have {limit}")
            }
            TrapKind::Fuel => f.write_str("it used up its fuel"),
            TrapKind::Exit(code) => write!(f, "it exited with code {code}"),
            TrapKind::Stack => f.write_str("its call stack is exhausted"),
            TrapKind::Guest => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for TrapReport {}

/// Why a plugin was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `proxy_on_vm_start` returned false.
    VmStart,
    /// `proxy_on_configure` returned false.
    Configure,
    /// The VM died over it.
    Trap(TrapReport),
    /// The VM had died before.
    Dead,
}

/// A configuration that the module refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigureError {
    /// How it was refused.
    pub refusal: Refusal,
    /// All that the module logged meanwhile.
    pub logs: Vec<LogLine>,
}

impl fmt::Display for ConfigureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Refusal::VmStart => f.write_str("the module refused to start (proxy_on_vm_start)")?,
            Refusal::Configure => f.write_str("the module refused the configuration")?,
            Refusal::Trap(trap) => write!(f, "{trap}")?,
            Refusal::Dead => f.write_str("the VM has died and can't be configured")?,
        }
        self.logs
            .iter()
            .try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for ConfigureError {}

/// A request to the host that names something that is not there, or comes at the wrong time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// No worker has this number.
    NoSuchWorker,
    /// The worker has no such root.
    NoSuchRoot,
    /// The worker has no such stream, or its result was taken.
    NoSuchStream,
    /// The request's headers were not forwarded, so nothing upstream can answer.
    NotForwarded,
    /// The response has begun, or the stream is over.
    AlreadyAnswered,
    /// The request is complete: nothing can follow.
    RequestComplete,
    /// No callout has this number, or it was answered.
    NoSuchCallout,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchWorker => "no such worker",
            Self::NoSuchRoot => "no such root context",
            Self::NoSuchStream => "no such stream",
            Self::NotForwarded => "the request was not forwarded: no upstream to answer it",
            Self::AlreadyAnswered => "the stream has an answer already",
            Self::RequestComplete => "the request is complete already",
            Self::NoSuchCallout => "no such callout is under way",
        })
    }
}

impl std::error::Error for HostError {}
