//! The functions that a module imports: the `env.proxy_*` of ABI 0.2.1 and the part of WASI that
//! Envoy has. Statuses and quirks are Envoy's (proxy-wasm-cpp-host, `exports.cc`).

mod bodies;
mod callouts;
mod contexts;
mod maps;
mod shared;
mod system;
mod wasi;

use wasmtime::{Caller, Engine, Linker, Result};

use crate::{abi::Status, call::HostCall, host::Host};

/// What a host function works with.
type Guest<'a> = Caller<'a, Host>;

/// A linker that has every function.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    system::define(&mut linker)?;
    maps::define(&mut linker)?;
    bodies::define(&mut linker)?;
    shared::define(&mut linker)?;
    contexts::define(&mut linker)?;
    callouts::define(&mut linker)?;
    for module in crate::call::WASI_MODULES {
        wasi::define(&mut linker, module)?;
    }
    Ok(linker)
}

/// Runs the body of a host function, unless a status is forced on the call.
fn host_call(
    guest: &mut Guest<'_>,
    call: HostCall,
    subject: Option<u32>,
    body: impl FnOnce(&mut Guest<'_>) -> Result<Status>,
) -> Result<u32> {
    let status = match guest.data_mut().enter(call, subject) {
        Some(forced) => forced,
        None => body(guest)?,
    };
    Ok(status.0)
}

/// Turns a lookup's error into the status that it is.
fn status(result: std::result::Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::OK)
}

/// Reads the guest's memory.
fn read(guest: &Guest<'_>, pointer: u32, size: u32) -> Option<Vec<u8>> {
    let start = usize::try_from(pointer).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    guest
        .data()
        .memory?
        .data(guest)
        .get(start..end)
        .map(<[u8]>::to_vec)
}

/// Reads several pieces of the guest's memory; `None` if one of them lies outside.
fn read_all<const N: usize>(guest: &Guest<'_>, pieces: [(u32, u32); N]) -> Option<[Vec<u8>; N]> {
    let mut out = [const { Vec::new() }; N];
    for (to, (pointer, size)) in out.iter_mut().zip(pieces) {
        *to = read(guest, pointer, size)?;
    }
    Some(out)
}

/// Writes to the guest's memory; false if that lies outside.
fn write(guest: &mut Guest<'_>, pointer: u32, bytes: &[u8]) -> bool {
    let Some(memory) = guest.data().memory else {
        return false;
    };
    let Ok(start) = usize::try_from(pointer) else {
        return false;
    };
    let Some(end) = start.checked_add(bytes.len()) else {
        return false;
    };
    match memory.data_mut(guest).get_mut(start..end) {
        Some(place) => {
            place.copy_from_slice(bytes);
            true
        }
        None => false,
    }
}

/// Writes a number where the guest wants it.
fn put(guest: &mut Guest<'_>, pointer: u32, number: u32) -> Status {
    put_bytes(guest, pointer, &number.to_le_bytes())
}

/// Writes bytes of a known length where the guest wants them.
fn put_bytes(guest: &mut Guest<'_>, pointer: u32, bytes: &[u8]) -> Status {
    if write(guest, pointer, bytes) {
        Status::OK
    } else {
        Status::INVALID_MEMORY_ACCESS
    }
}

/// Hands bytes to the guest: in memory that it allocates, with pointer and length where it wants
/// them. No bytes are a null pointer.
fn give(guest: &mut Guest<'_>, bytes: &[u8], pointer_at: u32, size_at: u32) -> Result<Status> {
    let tampered = guest.data_mut().faults.tampered(bytes);
    let bytes = tampered.as_deref().unwrap_or(bytes);
    let pointer = if bytes.is_empty() {
        0
    } else {
        let Some(pointer) = allocate(guest, bytes.len())? else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        if !write(guest, pointer, bytes) {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        }
        pointer
    };
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let placed = put(guest, pointer_at, pointer);
    Ok(if placed == Status::OK {
        put(guest, size_at, size)
    } else {
        placed
    })
}

fn allocate(guest: &mut Guest<'_>, size: usize) -> Result<Option<u32>> {
    let Some(allocate) = guest.data().allocate.clone() else {
        return Ok(None);
    };
    let Ok(size) = u32::try_from(size) else {
        return Ok(None);
    };
    let pointer = allocate.call(&mut *guest, size)?;
    Ok((pointer != 0).then_some(pointer))
}
