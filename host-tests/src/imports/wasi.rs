//! WASI preview 1, as far as a proxy-wasm host has it: time, randomness, environment, output.

use wasmtime::{Linker, Result};

use super::{Guest, read, write};
use crate::{
    abi::{LogLevel, Status},
    call::HostCall,
    host::Host,
};

/// The numbers of errors, where they are not success (0).
const BAD_FILE: Status = Status(8);
const FAULT: Status = Status(21);
const IO: Status = Status(29);
const NO_SYSTEM_CALL: Status = Status(52);
const NOT_SUPPORTED: Status = Status(58);

/// Most bytes that one write takes; the guest is told how many were taken.
const LONGEST_LINE: usize = 1 << 16;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

pub(super) fn define(linker: &mut Linker<Host>, module: &str) -> Result<()> {
    linker.func_wrap(module, "clock_time_get", clock_time_get)?;
    linker.func_wrap(module, "random_get", random_get)?;
    linker.func_wrap(module, "environ_sizes_get", environ_sizes_get)?;
    linker.func_wrap(module, "environ_get", environ_get)?;
    linker.func_wrap(module, "args_sizes_get", args_sizes_get)?;
    linker.func_wrap(module, "args_get", args_get)?;
    linker.func_wrap(module, "fd_write", fd_write)?;
    linker.func_wrap(
        module,
        "fd_read",
        |guest: Guest<'_>, _: u32, _: u32, _: u32, _: u32| {
            answer(guest, HostCall::FdRead, NO_SYSTEM_CALL)
        },
    )?;
    linker.func_wrap(
        module,
        "fd_seek",
        |guest: Guest<'_>, _: u32, _: i64, _: u32, _: u32| {
            answer(guest, HostCall::FdSeek, Status::OK)
        },
    )?;
    linker.func_wrap(module, "fd_close", |guest: Guest<'_>, _: u32| {
        answer(guest, HostCall::FdClose, Status::OK)
    })?;
    linker.func_wrap(module, "fd_fdstat_get", fd_fdstat_get)?;
    linker.func_wrap(
        module,
        "fd_prestat_get",
        |guest: Guest<'_>, _: u32, _: u32| answer(guest, HostCall::FdPrestatGet, BAD_FILE),
    )?;
    linker.func_wrap(
        module,
        "fd_prestat_dir_name",
        |guest: Guest<'_>, _: u32, _: u32, _: u32| {
            answer(guest, HostCall::FdPrestatDirName, BAD_FILE)
        },
    )?;
    linker.func_wrap(module, "sched_yield", |guest: Guest<'_>| {
        answer(guest, HostCall::SchedYield, Status::OK)
    })?;
    linker.func_wrap(module, "proc_exit", proc_exit)?;
    Ok(())
}

fn errno(
    guest: &mut Guest<'_>,
    call: HostCall,
    body: impl FnOnce(&mut Guest<'_>) -> Status,
) -> u32 {
    match guest.data_mut().enter(call, None) {
        Some(forced) => forced.0,
        None => body(guest).0,
    }
}

fn answer(mut guest: Guest<'_>, call: HostCall, status: Status) -> u32 {
    errno(&mut guest, call, |_| status)
}

fn put(guest: &mut Guest<'_>, pointer: u32, bytes: &[u8]) -> Status {
    if write(guest, pointer, bytes) {
        Status::OK
    } else {
        FAULT
    }
}

fn clock_time_get(mut guest: Guest<'_>, clock: u32, _precision: u64, time_at: u32) -> u32 {
    errno(&mut guest, HostCall::ClockTimeGet, |guest| {
        let source = &guest.data().shared.clock;
        let now = match clock {
            0 => source.wall(),
            1 => source.monotonic(),
            _ => return NOT_SUPPORTED,
        };
        put(guest, time_at, &now.to_le_bytes())
    })
}

fn random_get(mut guest: Guest<'_>, pointer: u32, size: u32) -> u32 {
    errno(&mut guest, HostCall::RandomGet, |guest| {
        // Measured against the guest's memory before anything of that size is made.
        let Some(mut bytes) = read(guest, pointer, size) else {
            return FAULT;
        };
        if !guest.data_mut().random.fill(&mut bytes) {
            return IO;
        }
        put(guest, pointer, &bytes)
    })
}

fn environ_sizes_get(mut guest: Guest<'_>, count_at: u32, size_at: u32) -> u32 {
    errno(&mut guest, HostCall::EnvironSizesGet, |guest| {
        let entries = environment(guest);
        let size: usize = entries.iter().map(Vec::len).sum();
        let words = [count_at, size_at].into_iter().zip([entries.len(), size]);
        for (at, number) in words {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if put(guest, at, &number.to_le_bytes()) != Status::OK {
                return FAULT;
            }
        }
        Status::OK
    })
}

fn environ_get(mut guest: Guest<'_>, pointers_at: u32, text_at: u32) -> u32 {
    errno(&mut guest, HostCall::EnvironGet, |guest| {
        let (mut pointer, mut text) = (pointers_at, text_at);
        for entry in environment(guest) {
            if put(guest, pointer, &text.to_le_bytes()) != Status::OK
                || put(guest, text, &entry) != Status::OK
            {
                return FAULT;
            }
            pointer = pointer.saturating_add(4);
            text = text.saturating_add(crate::vm::length(&entry));
        }
        Status::OK
    })
}

/// The environment as C has it: `NAME=value` and a zero byte.
fn environment(guest: &Guest<'_>) -> Vec<Vec<u8>> {
    let variables = &guest.data().shared.settings.environment;
    variables
        .iter()
        .map(|(name, value)| format!("{name}={value}\0").into_bytes())
        .collect()
}

fn args_sizes_get(mut guest: Guest<'_>, count_at: u32, size_at: u32) -> u32 {
    errno(&mut guest, HostCall::ArgsSizesGet, |guest| {
        match put(guest, count_at, &[0; 4]) {
            Status::OK => put(guest, size_at, &[0; 4]),
            fault => fault,
        }
    })
}

fn args_get(guest: Guest<'_>, _pointers_at: u32, _text_at: u32) -> u32 {
    answer(guest, HostCall::ArgsGet, Status::OK)
}

fn fd_write(mut guest: Guest<'_>, file: u32, pieces: u32, count: u32, written_at: u32) -> u32 {
    errno(&mut guest, HostCall::FdWrite, |guest| {
        let level = match file {
            STDOUT => LogLevel::Info,
            STDERR => LogLevel::Error,
            _ => return BAD_FILE,
        };
        let Some(text) = gather(guest, pieces, count) else {
            return FAULT;
        };
        if !text.is_empty() {
            let line = text.strip_suffix(b"\n").unwrap_or(&text);
            guest.data_mut().log(level, line);
        }
        let written = crate::vm::length(&text);
        put(guest, written_at, &written.to_le_bytes())
    })
}

/// The bytes that a list of (pointer, length) pairs in the guest's memory names.
fn gather(guest: &Guest<'_>, pieces: u32, count: u32) -> Option<Vec<u8>> {
    let list = read(guest, pieces, count.checked_mul(8)?)?;
    let (words, _) = list.as_chunks::<4>();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    let mut text = Vec::new();
    while text.len() <= LONGEST_LINE
        && let (Some(pointer), Some(size)) = (words.next(), words.next())
    {
        text.extend(read(guest, pointer, size)?);
    }
    text.truncate(LONGEST_LINE);
    Some(text)
}

fn fd_fdstat_get(mut guest: Guest<'_>, file: u32, stat_at: u32) -> u32 {
    errno(&mut guest, HostCall::FdFdstatGet, |guest| {
        if file != STDOUT && file != STDERR {
            return BAD_FILE;
        }
        // A file of unknown type that can be written to.
        const RIGHT_TO_WRITE: u8 = 64;
        let mut stat = [0; 24];
        if let Some(rights) = stat.get_mut(8) {
            *rights = RIGHT_TO_WRITE;
        }
        put(guest, stat_at, &stat)
    })
}

/// Envoy lets the guest run on. A compiler puts a trap behind the call, so that this is the VM's
/// death all the same: the code goes into the report.
fn proc_exit(mut guest: Guest<'_>, code: u32) {
    let host = guest.data_mut();
    if host.enter(HostCall::ProcExit, None).is_none() {
        host.exit_code = Some(code);
    }
}
