//! The SDK panics when the host calls a stream back while one of its callbacks runs. Envoy and our
//! host put local replies off until then; here is a host that doesn't.

use std::{env, sync::LazyLock};

use portcullis_host::{Callback, HostCall, Settings};
use wasmtime::{Caller, Engine, Instance, Linker, Memory, Module, Result, Store};

use crate::{POLICY, get, send, world};

#[test]
fn our_host_puts_replies_off() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    worker.clear_trace();
    let wrong = get().header("authorization", "Bearer wrong");
    let result = send(worker, root, &wrong);
    assert_eq!(result.status(), 401);
    assert_eq!(result.calls.of(HostCall::SendLocalResponse), 1);
    // A callback is noted when it returns: the one that replied returned first.
    let order: Vec<_> = worker
        .trace()
        .iter()
        .map(|event| event.invocation.callback)
        .take(3)
        .collect();
    let expected = [
        Callback::ContextCreate,
        Callback::RequestHeaders,
        Callback::ResponseHeaders,
    ];
    assert_eq!(order, expected);
}

/// A host that sends the response through the filter at once.
#[test]
fn a_host_that_calls_a_stream_back_kills_the_vm() {
    let (died, host) = play("proxy_send_local_response", |caller| {
        let callback = export::<(u32, u32, u32)>(caller, "proxy_on_response_headers")?;
        callback.call(caller, (STREAM, 1, 1)).map(drop)
    });
    assert!(died.is_err());
    let last = host.log.last().unwrap();
    assert!(
        last.starts_with("panic at ") && last.contains("dispatcher.rs"),
        "{last}"
    );
    assert_eq!(host.replies, 1);
}

/// A host that configures while the engine runs: the filter's own state is not there to take then,
/// and the filter says no.
#[test]
fn a_host_that_configures_in_between_is_refused() {
    let (decided, host) = play("proxy_get_shared_data", |caller| {
        let callback = export::<(u32, u32)>(caller, "proxy_on_configure")?;
        let taken = callback.call(&mut *caller, (ROOT, 1))?;
        caller.data_mut().reconfigured.push(taken);
        Ok(())
    });
    assert_eq!(decided.unwrap(), PAUSE);
    assert_eq!(host.reconfigured, [0]);
    assert_eq!(host.replies, 1);
    let hint = "the host called back too early";
    assert!(
        host.log.iter().any(|line| line.contains(hint)),
        "{:?}",
        host.log
    );
}

const ROOT: u32 = 1;
const STREAM: u32 = 2;
const PAUSE: u32 = 1;
const OK: u32 = 0;
const NOT_FOUND: u32 = 1;

/// A host that has nothing but a policy: no map has anything in it, all shared data is new.
#[derive(Default)]
struct Host {
    log: Vec<String>,
    replies: u32,
    /// What the callbacks in between answered.
    reconfigured: Vec<u32>,
    /// The stream's callback has begun.
    running: bool,
}

type Reenter = fn(&mut Caller<'_, Host>) -> Result<()>;

/// Configures the module and shows it a request without headers; `reenter` runs within the host call
/// of that name.
fn play(at: &'static str, reenter: Reenter) -> (Result<u32>, Host) {
    static MODULE: LazyLock<Module> = LazyLock::new(|| {
        let path = env::var_os("PORTCULLIS_WASM").unwrap();
        Module::from_file(&Engine::default(), path).unwrap()
    });
    let mut store = Store::new(MODULE.engine(), Host::default());
    let linker = linker(&mut store, &MODULE, at, reenter).unwrap();
    let instance = linker.instantiate(&mut store, &MODULE).unwrap();

    let decided = drive(&mut store, &instance);
    (decided, store.into_data())
}

fn drive(store: &mut Store<Host>, instance: &Instance) -> Result<u32> {
    let initialize = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")?;
    initialize.call(&mut *store, ())?;
    let create =
        instance.get_typed_func::<(u32, u32), ()>(&mut *store, "proxy_on_context_create")?;
    create.call(&mut *store, (ROOT, 0))?;
    let configure =
        instance.get_typed_func::<(u32, u32), u32>(&mut *store, "proxy_on_configure")?;
    let size = u32::try_from(POLICY.len())?;
    assert_eq!(configure.call(&mut *store, (ROOT, size))?, 1);
    create.call(&mut *store, (STREAM, ROOT))?;
    store.data_mut().running = true;
    let headers =
        instance.get_typed_func::<(u32, u32, u32), u32>(&mut *store, "proxy_on_request_headers")?;
    headers.call(store, (STREAM, 0, 1))
}

fn linker(
    store: &mut Store<Host>,
    module: &Module,
    at: &'static str,
    reenter: Reenter,
) -> Result<Linker<Host>> {
    let mut linker = Linker::new(module.engine());
    let pass = move |name: &str, caller: &mut Caller<'_, Host>| {
        if name == at && caller.data().running {
            reenter(caller)
        } else {
            Ok(())
        }
    };
    linker.func_wrap(
        "env",
        "proxy_log",
        |mut caller: Caller<'_, Host>, _level: u32, text: u32, size: u32| {
            let (start, size) = (
                usize::try_from(text).unwrap(),
                usize::try_from(size).unwrap(),
            );
            let bytes = memory(&mut caller).data(&caller)[start..start + size].to_vec();
            caller
                .data_mut()
                .log
                .push(String::from_utf8(bytes).unwrap());
            OK
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |mut caller: Caller<'_, Host>, _buffer: u32, _start: u32, _max: u32, at: u32, size: u32| {
            give(&mut caller, POLICY.as_bytes(), at, size)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_shared_data",
        move |mut caller: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32, _: u32| {
            pass("proxy_get_shared_data", &mut caller).map(|()| NOT_FOUND)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        move |mut caller: Caller<'_, Host>,
              _: u32,
              _: u32,
              _: u32,
              _: u32,
              _: u32,
              _: u32,
              _: u32,
              _: u32| {
            caller.data_mut().replies += 1;
            pass("proxy_send_local_response", &mut caller).map(|()| OK)
        },
    )?;
    // Everything else is done, says the host, and nothing of it is.
    linker.define_unknown_imports_as_default_values(store, module)?;
    Ok(linker)
}

fn give(caller: &mut Caller<'_, Host>, bytes: &[u8], at: u32, size_at: u32) -> Result<u32> {
    let allocate = caller.get_export("proxy_on_memory_allocate").unwrap();
    let allocate = allocate.into_func().unwrap().typed::<u32, u32>(&*caller)?;
    let size = u32::try_from(bytes.len())?;
    let pointer = allocate.call(&mut *caller, size)?;
    let memory = memory(caller);
    memory.write(&mut *caller, usize::try_from(pointer)?, bytes)?;
    memory.write(&mut *caller, usize::try_from(at)?, &pointer.to_le_bytes())?;
    memory.write(&mut *caller, usize::try_from(size_at)?, &size.to_le_bytes())?;
    Ok(OK)
}

fn memory(caller: &mut Caller<'_, Host>) -> Memory {
    caller.get_export("memory").unwrap().into_memory().unwrap()
}

fn export<Arguments: wasmtime::WasmParams>(
    caller: &mut Caller<'_, Host>,
    name: &str,
) -> Result<wasmtime::TypedFunc<Arguments, u32>> {
    caller
        .get_export(name)
        .unwrap()
        .into_func()
        .unwrap()
        .typed(&*caller)
}
