//! Logging, time, timers, attributes, foreign functions.

use wasmtime::{Linker, Result};

use super::{Guest, give, host_call, put, put_bytes, read, read_all};
use crate::{
    abi::{LogLevel, Status},
    call::HostCall,
    host::{Host, Timer},
    property,
};

pub(super) fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_log", log)?;
    linker.func_wrap("env", "proxy_get_log_level", get_log_level)?;
    linker.func_wrap(
        "env",
        "proxy_get_current_time_nanoseconds",
        get_current_time,
    )?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", set_tick_period)?;
    linker.func_wrap("env", "proxy_get_property", get_property)?;
    linker.func_wrap("env", "proxy_set_property", set_property)?;
    linker.func_wrap("env", "proxy_call_foreign_function", call_foreign_function)?;
    Ok(())
}

fn log(mut guest: Guest<'_>, level: u32, pointer: u32, size: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::Log, None, |guest| {
        let Some(level) = LogLevel::from_raw(level) else {
            return Ok(Status::BAD_ARGUMENT);
        };
        let Some(text) = read(guest, pointer, size) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        guest.data_mut().log(level, &text);
        Ok(Status::OK)
    })
}

fn get_log_level(mut guest: Guest<'_>, level_at: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::GetLogLevel, None, |guest| {
        let level = guest.data().shared.settings.log_level;
        Ok(put(guest, level_at, level.raw()))
    })
}

fn get_current_time(mut guest: Guest<'_>, time_at: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::GetCurrentTime, None, |guest| {
        let now = guest.data().shared.clock.wall();
        Ok(put_bytes(guest, time_at, &now.to_le_bytes()))
    })
}

fn set_tick_period(mut guest: Guest<'_>, milliseconds: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::SetTickPeriod, None, |guest| {
        let host = guest.data_mut();
        let now = host.shared.clock.monotonic();
        let Some(root) = host.root_of(host.acting()) else {
            return Ok(Status::OK);
        };
        let period = u64::from(milliseconds).saturating_mul(1_000_000);
        if period == 0 {
            host.timers.remove(&root);
        } else {
            host.timers.insert(
                root,
                Timer {
                    period,
                    due: now.saturating_add(period),
                },
            );
        }
        Ok(Status::OK)
    })
}

fn get_property(
    mut guest: Guest<'_>,
    path: u32,
    path_size: u32,
    value_at: u32,
    size_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::GetProperty, None, |guest| {
        let Some(path) = read(guest, path, path_size) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        if path.is_empty() {
            return Ok(Status::SERIALIZATION_FAILURE);
        }
        let host = guest.data();
        match property::lookup(host, host.acting(), &path) {
            Some(value) => give(guest, &value, value_at, size_at),
            None => Ok(Status::NOT_FOUND),
        }
    })
}

fn set_property(
    mut guest: Guest<'_>,
    path: u32,
    path_size: u32,
    value: u32,
    value_size: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::SetProperty, None, |guest| {
        let pieces = [(path, path_size), (value, value_size)];
        let Some([path, value]) = read_all(guest, pieces) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let host = guest.data_mut();
        let context = host.acting();
        Ok(match host.exchange_mut(context) {
            Some(exchange) => {
                exchange.filter_state.insert(path, value);
                Status::OK
            }
            None => Status::NOT_FOUND,
        })
    })
}

fn call_foreign_function(
    mut guest: Guest<'_>,
    name: u32,
    name_size: u32,
    arguments: u32,
    arguments_size: u32,
    _results_at: u32,
    _results_size_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::CallForeignFunction, None, |guest| {
        let pieces = [(name, name_size), (arguments, arguments_size)];
        // Envoy's foreign functions are its own; this host has none.
        Ok(match read_all(guest, pieces) {
            Some(_) => Status::NOT_FOUND,
            None => Status::INVALID_MEMORY_ACCESS,
        })
    })
}
