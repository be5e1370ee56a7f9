//! A module's exports: what must be there, and how each is called.

use std::collections::BTreeMap;

use wasmtime::{ExternType, Instance, Result, Store, TypedFunc};

use crate::{callback::Callback, error::LoadError, host::Host};

/// The exports that any one of is a promise to speak ABI 0.2.
const ABI_MARKS: [&str; 2] = ["proxy_abi_version_0_2_1", "proxy_abi_version_0_2_0"];
/// The functions by which the host gets memory from the guest; the first that exists is used.
const ALLOCATORS: [&str; 2] = ["proxy_on_memory_allocate", "malloc"];

/// How an export is called: with so many numbers, for a number or for nothing.
#[derive(Clone)]
pub(crate) enum Export {
    F0(TypedFunc<(), ()>),
    F1(TypedFunc<u32, ()>),
    R1(TypedFunc<u32, u32>),
    F2(TypedFunc<(u32, u32), ()>),
    R2(TypedFunc<(u32, u32), u32>),
    F3(TypedFunc<(u32, u32, u32), ()>),
    R3(TypedFunc<(u32, u32, u32), u32>),
    F5(TypedFunc<(u32, u32, u32, u32, u32), ()>),
}

/// Number of arguments of a callback, and whether it answers.
const fn shape(callback: Callback) -> (usize, bool) {
    match callback {
        Callback::Initialize | Callback::Start => (0, false),
        Callback::Tick | Callback::Log | Callback::Delete => (1, false),
        Callback::Done => (1, true),
        Callback::ContextCreate | Callback::QueueReady => (2, false),
        Callback::VmStart
        | Callback::Configure
        | Callback::RequestTrailers
        | Callback::ResponseTrailers => (2, true),
        Callback::RequestHeaders
        | Callback::RequestBody
        | Callback::ResponseHeaders
        | Callback::ResponseBody => (3, true),
        Callback::GrpcReceiveInitialMetadata
        | Callback::GrpcReceive
        | Callback::GrpcReceiveTrailingMetadata
        | Callback::GrpcClose
        | Callback::ForeignFunction => (3, false),
        Callback::HttpCallResponse => (5, false),
    }
}

impl Export {
    /// Calls it with as many of the numbers as it takes; what answers nothing answers zero.
    pub(crate) fn call(&self, store: &mut Store<Host>, arguments: [u32; 5]) -> Result<u32> {
        let [a, b, c, d, e] = arguments;
        let nothing = |()| 0;
        match self {
            Self::F0(f) => f.call(store, ()).map(nothing),
            Self::F1(f) => f.call(store, a).map(nothing),
            Self::R1(f) => f.call(store, a),
            Self::F2(f) => f.call(store, (a, b)).map(nothing),
            Self::R2(f) => f.call(store, (a, b)),
            Self::F3(f) => f.call(store, (a, b, c)).map(nothing),
            Self::R3(f) => f.call(store, (a, b, c)),
            Self::F5(f) => f.call(store, (a, b, c, d, e)).map(nothing),
        }
    }
}

/// Finds an instance's callbacks, and gives the host its memory and allocator.
pub(crate) fn bind(
    store: &mut Store<Host>,
    instance: &Instance,
) -> Result<BTreeMap<Callback, Export>> {
    let memory = instance.get_memory(&mut *store, "memory");
    let mut allocators = ALLOCATORS
        .iter()
        .filter_map(|name| instance.get_func(&mut *store, name));
    let allocator = allocators.next();
    let allocate = allocator
        .map(|function| function.typed(&*store))
        .transpose()?;
    store.data_mut().memory = memory;
    store.data_mut().allocate = allocate;
    let mut exports = BTreeMap::new();
    for &callback in Callback::ALL {
        let Some(function) = instance.get_func(&mut *store, callback.name()) else {
            continue;
        };
        let export = match shape(callback) {
            (0, _) => Export::F0(function.typed(&*store)?),
            (1, false) => Export::F1(function.typed(&*store)?),
            (1, true) => Export::R1(function.typed(&*store)?),
            (2, false) => Export::F2(function.typed(&*store)?),
            (2, true) => Export::R2(function.typed(&*store)?),
            (3, false) => Export::F3(function.typed(&*store)?),
            (3, true) => Export::R3(function.typed(&*store)?),
            _ => Export::F5(function.typed(&*store)?),
        };
        exports.insert(callback, export);
    }
    Ok(exports)
}

/// Checks that a module has what a proxy-wasm host needs.
pub(crate) fn check(name: &str, module: &wasmtime::Module) -> Result<(), LoadError> {
    let missing = |export| LoadError::MissingExport {
        module: name.to_owned(),
        export,
    };
    let has = |export: &str| module.get_export(export).is_some();
    let [mark, ..] = ABI_MARKS;
    let [preferred, ..] = ALLOCATORS;
    if !ABI_MARKS.into_iter().any(has) {
        return Err(missing(mark));
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err(missing("memory"));
    }
    let Some(allocator) = ALLOCATORS.into_iter().find(|name| has(name)) else {
        return Err(missing(preferred));
    };
    let expected = Callback::ALL
        .iter()
        .map(|&callback| (callback.name(), shape(callback)));
    for (export, (arguments, answers)) in expected.chain([(allocator, (1, true))]) {
        let Some(ty) = module.get_export(export) else {
            continue;
        };
        let fits = ty.func().is_some_and(|ty| {
            ty.params().len() == arguments
                && ty.results().len() == usize::from(answers)
                && ty
                    .params()
                    .chain(ty.results())
                    .all(|number| number.is_i32())
        });
        if !fits {
            let error = format!("it exports `{export}` with another signature");
            return Err(LoadError::Signature {
                module: name.to_owned(),
                error,
            });
        }
    }
    Ok(())
}
