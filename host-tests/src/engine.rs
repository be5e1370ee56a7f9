//! Compiling modules, once: wasmtime's engine and the cache of compiled modules.
//!
//! A module that comes from a file is compiled the first time only; the machine code is kept
//! beside it as `NAME.HASH.cwasm`. The hash covers the module and all that wasmtime knows to matter
//! for the code (its own version, the CPU, the settings), so another wasmtime or another machine
//! compiles anew.

use std::{
    collections::BTreeSet,
    fmt, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};
use wasmtime::{Config, EngineWeak, ExternType, InstancePre, Linker};

use crate::{call::HostCall, error::LoadError, exports, host::Host, imports};

/// How often the deadline of a running callback is looked at.
pub(crate) const EPOCH: Duration = Duration::from_millis(10);

/// Whether a VM's work is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metering {
    /// Fastest.
    Off,
    /// Every callback is measured in wasmtime's fuel: about one unit for an instruction, the
    /// same number in every run and on every machine.
    Fuel,
}

/// Wasmtime, set up. Cloning is cheap; modules compiled by clones of one engine are shared.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    metering: Metering,
    linker: Arc<Linker<Host>>,
    modules: Arc<Mutex<Vec<Module>>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("metering", &self.metering)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine of its own.
    ///
    /// # Errors
    /// If wasmtime can't run on this machine.
    pub fn new(metering: Metering) -> Result<Self, LoadError> {
        let failed = |error: wasmtime::Error| LoadError::Engine {
            error: format!("{error:#}"),
        };
        let mut config = Config::new();
        config.consume_fuel(metering == Metering::Fuel);
        config.epoch_interruption(true);
        let inner = wasmtime::Engine::new(&config).map_err(failed)?;
        let linker = imports::linker(&inner).map_err(failed)?;
        tick(inner.weak());
        Ok(Self {
            inner,
            metering,
            linker: Arc::new(linker),
            modules: Arc::default(),
        })
    }

    /// The engine that everyone in this process shares, so that a module is loaded once.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn shared(metering: Metering) -> Result<Self, LoadError> {
        static SHARED: Mutex<Vec<Engine>> = Mutex::new(Vec::new());
        let mut engines = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.iter().find(|engine| engine.metering == metering) {
            return Ok(engine.clone());
        }
        let engine = Self::new(metering)?;
        engines.push(engine.clone());
        Ok(engine)
    }

    /// Whether VMs of this engine count their fuel.
    #[must_use]
    pub const fn metering(&self) -> Metering {
        self.metering
    }

    /// Loads a module from a file, from the cache if it was compiled before.
    ///
    /// # Errors
    /// If the file can't be read, or is no module that this host can run: the error names the
    /// imports that are unknown.
    pub fn load(&self, path: &Path) -> Result<Module, LoadError> {
        let wasm = fs::read(path).map_err(|error| LoadError::Read {
            path: path.to_owned(),
            error,
        })?;
        self.module(&path.display().to_string(), &wasm, Some(path))
    }

    /// Compiles a module that is in memory.
    ///
    /// # Errors
    /// As [`Engine::load`]. `name` is what messages call it.
    pub fn compile(&self, name: &str, wasm: &[u8]) -> Result<Module, LoadError> {
        self.module(name, wasm, None)
    }

    fn module(&self, name: &str, wasm: &[u8], path: Option<&Path>) -> Result<Module, LoadError> {
        let sha256: [u8; 32] = Sha256::digest(wasm).into();
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = modules.iter().find(|module| module.inner.sha256 == sha256) {
            return Ok(known.clone());
        }
        let failed = |error: wasmtime::Error| LoadError::Compile {
            module: name.to_owned(),
            error: format!("{error:#}"),
        };
        let compiled = match path.map(|path| self.cache_file(path, &sha256)) {
            None => wasmtime::Module::from_binary(&self.inner, wasm).map_err(failed)?,
            Some(cache) => match self.read_cache(&cache) {
                Some(module) => module,
                None => {
                    let code = self.inner.precompile_module(wasm).map_err(failed)?;
                    keep(&cache, &code);
                    self.load_machine_code(&code).map_err(failed)?
                }
            },
        };
        let module = Module::new(self, name, sha256, &compiled)?;
        modules.push(module.clone());
        Ok(module)
    }

    fn cache_file(&self, wasm: &Path, sha256: &[u8; 32]) -> CacheFile {
        let mut compatibility = DefaultHasher::new();
        self.inner
            .precompile_compatibility_hash()
            .hash(&mut compatibility);
        let mut key = Sha256::new();
        key.update(sha256);
        key.update(compatibility.finish().to_le_bytes());
        let digest: [u8; 32] = key.finalize().into();
        let kind = match self.metering {
            Metering::Off => "plain",
            Metering::Fuel => "fuel",
        };
        let stem = wasm.file_stem().unwrap_or_default().to_string_lossy();
        let prefix = format!("{stem}.{kind}-");
        let hash: String = digest
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        CacheFile {
            path: wasm.with_file_name(format!("{prefix}{hash}.cwasm")),
            prefix,
        }
    }

    fn read_cache(&self, cache: &CacheFile) -> Option<wasmtime::Module> {
        let kept = fs::read(&cache.path).ok()?;
        let (code, checksum) = kept.split_at_checked(kept.len().checked_sub(32)?)?;
        if !ours_alone(&cache.path) || Sha256::digest(code).as_slice() != checksum {
            return None;
        }
        self.load_machine_code(code).ok()
    }

    #[expect(
        unsafe_code,
        reason = "machine code that wasmtime made can't be loaded otherwise"
    )]
    fn load_machine_code(&self, code: &[u8]) -> wasmtime::Result<wasmtime::Module> {
        // SAFETY: the bytes are what `precompile_module` returned a moment ago, or what it
        // returned earlier to a process of the same user: nobody else may write to the file, its
        // checksum proves that it is whole, and wasmtime checks that its version, its settings
        // and the CPU are those that the code was made for.
        unsafe { wasmtime::Module::deserialize(&self.inner, code) }
    }
}

/// Where a compiled module is kept, and how those of older versions of it are called.
struct CacheFile {
    path: PathBuf,
    prefix: String,
}

/// Writes the compiled module beside the module. Failing to do so costs time, nothing else.
fn keep(cache: &CacheFile, code: &[u8]) {
    let scratch = cache.path.with_extension(format!("{}.tmp", process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&scratch)?;
        file.write_all(code)?;
        file.write_all(&Sha256::digest(code))?;
        fs::rename(&scratch, &cache.path)
    };
    if write().is_err() {
        let _ = fs::remove_file(&scratch);
        return;
    }
    let Some(siblings) = cache
        .path
        .parent()
        .and_then(|folder| fs::read_dir(folder).ok())
    else {
        return;
    };
    for sibling in siblings.flatten().map(|entry| entry.path()) {
        let name = sibling.file_name().unwrap_or_default().to_string_lossy();
        if sibling != cache.path && name.starts_with(&cache.prefix) && name.ends_with(".cwasm") {
            let _ = fs::remove_file(&sibling);
        }
    }
}

/// Whether only the file's owner can write to it.
fn ours_alone(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o022 == 0)
    }
    #[cfg(not(unix))]
    {
        path.exists()
    }
}

/// Lets the engine's epoch advance for as long as the engine exists.
fn tick(engine: EngineWeak) {
    thread::spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(EPOCH);
        }
    });
}

/// A compiled module, its imports resolved: a VM is made of it in some 20 microseconds.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    sha256: [u8; 32],
    metering: Metering,
    imports: BTreeSet<HostCall>,
    pre: InstancePre<Host>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

impl Module {
    fn new(
        engine: &Engine,
        name: &str,
        sha256: [u8; 32],
        compiled: &wasmtime::Module,
    ) -> Result<Self, LoadError> {
        let mut imports = BTreeSet::new();
        let mut unknown = Vec::new();
        for import in compiled.imports() {
            match HostCall::from_import(import.module(), import.name()) {
                Some(call) if matches!(import.ty(), ExternType::Func(_)) => {
                    imports.insert(call);
                }
                _ => unknown.push(format!("{}.{}", import.module(), import.name())),
            }
        }
        if !unknown.is_empty() {
            return Err(LoadError::UnknownImports {
                module: name.to_owned(),
                imports: unknown,
            });
        }
        exports::check(name, compiled)?;
        let pre =
            engine
                .linker
                .instantiate_pre(compiled)
                .map_err(|error| LoadError::Signature {
                    module: name.to_owned(),
                    error: format!("{error:#}"),
                })?;
        let (name, metering) = (name.to_owned(), engine.metering);
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                sha256,
                metering,
                imports,
                pre,
            }),
        })
    }

    /// What messages call it: its path, or the name it was compiled under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// SHA-256 of the module's bytes.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.inner.sha256
    }

    /// Every function that the module imports.
    #[must_use]
    pub fn imports(&self) -> &BTreeSet<HostCall> {
        &self.inner.imports
    }

    /// Whether its VMs count their fuel.
    #[must_use]
    pub fn metering(&self) -> Metering {
        self.inner.metering
    }

    pub(crate) fn pre(&self) -> &InstancePre<Host> {
        &self.inner.pre
    }
}
