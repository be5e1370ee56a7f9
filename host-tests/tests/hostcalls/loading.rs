//! What is loaded, what is refused, and how it starts.

use std::{fs, path::PathBuf, process};

use portcullis_host::{
    Callback as C, Engine, HostCall, LoadError, Metering, Module, Plugin, Refusal, Settings,
    TrapKind, World,
};

use crate::{
    guest::{Guest, Op},
    logs, module, world,
};

fn compile(guest: &Guest) -> Result<Module, LoadError> {
    Engine::shared(Metering::Off)
        .unwrap()
        .compile("guest", &guest.build())
}

#[test]
fn unknown_imports_are_named_at_load() {
    let error = compile(&Guest::new().import("env", "proxy_launch")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest imports `env.proxy_launch`, which this host does not provide"
    );
    let two = Guest::new()
        .import("env", "foo")
        .import("wasi_snapshot_preview1", "sock_open");
    assert_eq!(
        compile(&two).unwrap_err().to_string(),
        "guest imports `env.foo`, `wasi_snapshot_preview1.sock_open`, none of which this host \
         provides"
    );
}

#[test]
fn an_import_with_another_signature_is_named_at_load() {
    let error = compile(&Guest::new().import("wasi_snapshot_preview1", "fd_close")).unwrap_err();
    assert!(matches!(error, LoadError::Signature { .. }), "{error}");
    assert!(error.to_string().contains("fd_close"), "{error}");
}

#[test]
fn a_module_that_is_no_proxy_wasm_module_is_refused() {
    for export in [
        "memory",
        "proxy_on_memory_allocate",
        "proxy_abi_version_0_2_1",
    ] {
        let error = compile(&Guest::new().without(export)).unwrap_err();
        let text = format!("guest does not export `{export}`: it is no proxy-wasm 0.2 module");
        assert_eq!(error.to_string(), text);
    }
    let engine = Engine::shared(Metering::Off).unwrap();
    let error = engine.compile("noise", b"not wasm at all").unwrap_err();
    assert!(
        error.to_string().starts_with("can't compile noise: "),
        "{error}"
    );
}

#[test]
fn a_module_that_dies_when_it_is_started_is_refused() {
    let guest = Guest::new().on(C::Initialize, [Op::Trap]);
    let error = World::new(Settings::default())
        .add_worker(&module(&guest))
        .unwrap_err();
    assert!(
        error.to_string().contains("the VM died in _initialize"),
        "{error}"
    );
}

#[test]
fn a_module_tells_its_imports() {
    let module = module(&Guest::new());
    assert!(module.imports().contains(&HostCall::SendLocalResponse));
    assert!(module.imports().contains(&HostCall::RandomGet));
    assert!(!module.imports().contains(&HostCall::FdSeek));
}

#[test]
fn a_plugin_is_created_started_and_configured() {
    let guest = Guest::new().on(
        C::Configure,
        [
            Op::GetBody(portcullis_host::BufferType::PluginConfiguration, 0, 100),
            Op::GetBody(portcullis_host::BufferType::VmConfiguration, 0, 100),
        ],
    );
    let settings = Settings {
        vm_configuration: b"vm".to_vec(),
        ..Settings::default()
    };
    let mut world = World::new(settings);
    world.add_worker(&module(&guest)).unwrap();
    world
        .worker(0)
        .unwrap()
        .configure(&Plugin::new("root", "abc"))
        .unwrap();
    assert_eq!(
        logs(&world),
        [
            "on_context_create 1 0",
            "on_vm_start 1 2",
            "on_configure 1 3",
            "get_buffer_bytes 0 abc",
            "get_buffer_bytes 0 vm",
        ]
    );
}

#[test]
fn a_refused_configuration_comes_with_what_was_logged() {
    let guest = Guest::new().on(
        C::Configure,
        [Op::Log("routes: no such thing"), Op::Return(0)],
    );
    let mut world = World::new(Settings::default());
    world.add_worker(&module(&guest)).unwrap();
    let error = world
        .worker(0)
        .unwrap()
        .configure(&Plugin::new("root", ""))
        .unwrap_err();
    assert_eq!(error.refusal, Refusal::Configure);
    assert!(
        error
            .to_string()
            .ends_with("\n  info: routes: no such thing"),
        "{error}"
    );
    assert_eq!(world.worker(0).unwrap().contexts(), 0);

    let guest = Guest::new().on(C::VmStart, [Op::Return(0)]);
    let (mut world, plugin) = (World::new(Settings::default()), Plugin::new("root", ""));
    world.add_worker(&module(&guest)).unwrap();
    let error = world.worker(0).unwrap().configure(&plugin).unwrap_err();
    assert_eq!(error.refusal, Refusal::VmStart);
}

#[test]
fn a_configuration_that_kills_is_a_named_error() {
    let guest = Guest::new().on(C::Configure, [Op::Log("hm"), Op::Trap]);
    let (mut world, plugin) = (World::new(Settings::default()), Plugin::new("root", ""));
    world.add_worker(&module(&guest)).unwrap();
    let error = world.worker(0).unwrap().configure(&plugin).unwrap_err();
    let Refusal::Trap(trap) = &error.refusal else {
        panic!("{error}")
    };
    assert_eq!(
        (trap.callback, trap.kind.clone()),
        (C::Configure, TrapKind::Guest)
    );
    assert!(trap.text.contains("unreachable"), "{}", trap.text);
    assert_eq!(error.logs.last().unwrap().text, "hm");
    let error = world.worker(0).unwrap().configure(&plugin).unwrap_err();
    assert_eq!(error.refusal, Refusal::Dead);
}

#[test]
fn a_guest_without_callbacks_lets_everything_pass() {
    let callbacks = C::ALL.iter().map(|callback| callback.name());
    let guest = callbacks.fold(Guest::new(), Guest::without);
    let (mut world, root) = world(&guest);
    let request = portcullis_host::RequestScript::new("POST", "/").piece("body");
    let worker = world.worker(0).unwrap();
    let (_, result) = worker.request(root, &request, &Default::default()).unwrap();
    assert_eq!(result.status(), 200);
    assert_eq!(result.forwarded.unwrap().body, b"body");
    assert_eq!(result.calls.total(), 0);
}

/// A folder that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn files(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut files: Vec<String> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| name(entry.unwrap()))
            .collect();
        files.sort();
        files
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Loads with an engine that remembers nothing.
fn load(path: &std::path::Path) -> Module {
    Engine::new(Metering::Off).unwrap().load(path).unwrap()
}

fn speaks(module: &Module) -> String {
    let mut world = World::new(Settings::default());
    world.add_worker(module).unwrap();
    world
        .worker(0)
        .unwrap()
        .configure(&Plugin::new("root", ""))
        .unwrap();
    logs(&world).pop().unwrap()
}

#[test]
fn a_compiled_module_is_kept_beside_the_module() {
    let folder = Scratch::new("cache");
    let path = folder.0.join("guest.wasm");
    let saying = |text| Guest::new().on(C::Configure, [Op::Log(text)]).build();
    fs::write(&path, saying("one")).unwrap();
    assert_eq!(speaks(&load(&path)), "one");
    let files = folder.files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(
        files[0].starts_with("guest.plain-") && files[0].ends_with(".cwasm"),
        "{files:?}"
    );

    // It is what the next one loads: with the right bytes in it, and only then.
    let kept = folder.0.join(&files[0]);
    let good = fs::read(&kept).unwrap();
    let modified = || fs::metadata(&kept).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(speaks(&load(&path)), "one");
    assert_eq!(modified(), before);
    for broken in [
        &good[..good.len() / 2],
        b"",
        &[good.as_slice(), b"x"].concat(),
    ] {
        fs::write(&kept, broken).unwrap();
        assert_eq!(speaks(&load(&path)), "one");
        assert_eq!(fs::read(&kept).unwrap(), good);
    }

    // Another module takes its place; that of another kind of engine stays beside it.
    fs::write(&path, saying("two")).unwrap();
    assert_eq!(speaks(&load(&path)), "two");
    assert_eq!(folder.files().len(), 2, "{:?}", folder.files());
    assert_ne!(folder.files(), files);
    Engine::new(Metering::Fuel).unwrap().load(&path).unwrap();
    assert_eq!(folder.files().len(), 3, "{:?}", folder.files());
}

#[cfg(unix)]
#[test]
fn machine_code_that_others_can_write_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Scratch::new("trust");
    let path = folder.0.join("guest.wasm");
    fs::write(
        &path,
        Guest::new().on(C::Configure, [Op::Log("ours")]).build(),
    )
    .unwrap();
    load(&path);
    let kept = folder.0.join(&folder.files()[0]);
    let mode = |file: &PathBuf| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept), 0o600);
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(speaks(&load(&path)), "ours");
    assert_eq!(mode(&kept), 0o600, "it was compiled anew");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Engine::shared(Metering::Off)
        .unwrap()
        .load("/nowhere/x.wasm".as_ref())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("can't read /nowhere/x.wasm: "),
        "{error}"
    );
}
