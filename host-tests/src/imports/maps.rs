//! Header maps.

use wasmtime::{Linker, Result};

use super::{Guest, give, host_call, put, read, read_all};
use crate::{
    abi::{MapType, Status},
    call::HostCall,
    headers::{self, HeaderMap, Headers},
    host::{Context, Host},
};

pub(super) fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_header_map_pairs", get_pairs)?;
    linker.func_wrap("env", "proxy_set_header_map_pairs", set_pairs)?;
    linker.func_wrap("env", "proxy_get_header_map_value", get_value)?;
    linker.func_wrap("env", "proxy_add_header_map_value", add_value)?;
    linker.func_wrap("env", "proxy_replace_header_map_value", replace_value)?;
    linker.func_wrap("env", "proxy_remove_header_map_value", remove_value)?;
    linker.func_wrap("env", "proxy_get_header_map_size", get_size)?;
    Ok(())
}

/// What the guest finds when it asks for a map.
enum View<'a> {
    Stream(&'a HeaderMap),
    /// Of the answer to a callout: a plain list.
    Answer(&'a Headers),
    /// There is no such map now.
    Nothing,
}

fn view(host: &Host, map: MapType) -> View<'_> {
    let context = host.acting();
    let answer = host
        .root_context(context)
        .and_then(|root| root.answer.as_ref());
    let http = answer.filter(|answer| !answer.grpc);
    match map {
        MapType::HttpCallResponseHeaders => {
            http.map_or(View::Nothing, |answer| View::Answer(&answer.headers))
        }
        MapType::HttpCallResponseTrailers => http
            .filter(|answer| !answer.trailers.is_empty())
            .map_or(View::Nothing, |answer| View::Answer(&answer.trailers)),
        MapType::GrpcReceiveInitialMetadata | MapType::GrpcReceiveTrailingMetadata => View::Nothing,
        _ => host
            .exchange(context)
            .and_then(|exchange| exchange.visible_map(map))
            .map_or(View::Nothing, View::Stream),
    }
}

fn get_pairs(mut guest: Guest<'_>, map: u32, pairs_at: u32, size_at: u32) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::GetHeaderMapPairs,
        Some(map),
        |guest| {
            let Some(map) = MapType::from_raw(map) else {
                return Ok(Status::BAD_ARGUMENT);
            };
            // A map that is not there now is an empty one, and not an error.
            let pairs = match view(guest.data(), map) {
                View::Stream(map) => headers::serialize(map.entries()),
                View::Answer(list) => headers::serialize(list),
                View::Nothing => Vec::new(),
            };
            give(guest, &pairs, pairs_at, size_at)
        },
    )
}

fn set_pairs(mut guest: Guest<'_>, map: u32, pairs: u32, size: u32) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::SetHeaderMapPairs,
        Some(map),
        |guest| {
            let Some(map) = MapType::from_raw(map) else {
                return Ok(Status::BAD_ARGUMENT);
            };
            let Some(bytes) = read(guest, pairs, size) else {
                return Ok(Status::INVALID_MEMORY_ACCESS);
            };
            let pairs = read_pairs(guest.data_mut(), &bytes);
            Ok(change(guest, map, |map| map.replace_all(pairs)))
        },
    )
}

fn get_value(
    mut guest: Guest<'_>,
    map: u32,
    name: u32,
    name_size: u32,
    value_at: u32,
    size_at: u32,
) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::GetHeaderMapValue,
        Some(map),
        |guest| {
            let Some(map) = MapType::from_raw(map) else {
                return Ok(Status::BAD_ARGUMENT);
            };
            let Some(name) = read(guest, name, name_size) else {
                return Ok(Status::INVALID_MEMORY_ACCESS);
            };
            let host = guest.data();
            let value = match view(host, map) {
                View::Stream(map) => map.get(&name).map(<[u8]>::to_vec),
                View::Answer(list) => {
                    let found = list.iter().find(|(n, _)| n.eq_ignore_ascii_case(&name));
                    found.map(|(_, value)| value.clone())
                }
                View::Nothing => {
                    let logging = host.exchange(host.acting()).is_some_and(|e| e.logging);
                    let status = if logging {
                        Status::NOT_FOUND
                    } else {
                        Status::BAD_ARGUMENT
                    };
                    return Ok(status);
                }
            };
            match value {
                Some(value) => give(guest, &value, value_at, size_at),
                None => Ok(Status::NOT_FOUND),
            }
        },
    )
}

fn add_value(
    mut guest: Guest<'_>,
    map: u32,
    name: u32,
    name_size: u32,
    value: u32,
    value_size: u32,
) -> Result<u32> {
    let pieces = [(name, name_size), (value, value_size)];
    host_call(
        &mut guest,
        HostCall::AddHeaderMapValue,
        Some(map),
        |guest| {
            Ok(edit(guest, map, pieces, |map, [name, value]| {
                map.add(&name, &value)
            }))
        },
    )
}

fn replace_value(
    mut guest: Guest<'_>,
    map: u32,
    name: u32,
    name_size: u32,
    value: u32,
    value_size: u32,
) -> Result<u32> {
    let pieces = [(name, name_size), (value, value_size)];
    host_call(
        &mut guest,
        HostCall::ReplaceHeaderMapValue,
        Some(map),
        |guest| {
            Ok(edit(guest, map, pieces, |map, [name, value]| {
                map.replace(&name, &value)
            }))
        },
    )
}

fn remove_value(mut guest: Guest<'_>, map: u32, name: u32, name_size: u32) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::RemoveHeaderMapValue,
        Some(map),
        |guest| {
            Ok(edit(guest, map, [(name, name_size)], |map, [name]| {
                map.remove(&name)
            }))
        },
    )
}

fn get_size(mut guest: Guest<'_>, map: u32, size_at: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::GetHeaderMapSize, Some(map), |guest| {
        let Some(map) = MapType::from_raw(map) else {
            return Ok(Status::BAD_ARGUMENT);
        };
        let mut size = 0;
        let status = change(guest, map, |map| size = map.byte_size());
        if status != Status::OK {
            return Ok(status);
        }
        Ok(put(guest, size_at, u32::try_from(size).unwrap_or(u32::MAX)))
    })
}

/// Reads what the guest hands over and changes a map of the stream by it.
fn edit<const N: usize>(
    guest: &mut Guest<'_>,
    map: u32,
    pieces: [(u32, u32); N],
    edit: impl FnOnce(&mut HeaderMap, [Vec<u8>; N]),
) -> Status {
    let Some(map) = MapType::from_raw(map) else {
        return Status::BAD_ARGUMENT;
    };
    let Some(pieces) = read_all(guest, pieces) else {
        return Status::INVALID_MEMORY_ACCESS;
    };
    change(guest, map, |map| edit(map, pieces))
}

fn change(guest: &mut Guest<'_>, map: MapType, edit: impl FnOnce(&mut HeaderMap)) -> Status {
    let host = guest.data_mut();
    let context = host.acting();
    match host
        .exchange_mut(context)
        .and_then(|exchange| exchange.visible_map_mut(map))
    {
        Some(map) => {
            edit(map);
            Status::OK
        }
        None => Status::BAD_ARGUMENT,
    }
}

/// Header pairs that the guest wrote. Envoy takes what is not in the layout for no headers at
/// all; that it happened is noted.
pub(super) fn read_pairs(host: &mut Host, bytes: &[u8]) -> Headers {
    headers::deserialize(bytes).unwrap_or_else(|| {
        let context = match host.contexts.get(&host.acting()) {
            Some(Context::Stream { .. }) => host.acting(),
            _ => host.current,
        };
        host.violation(
            context,
            "it handed over header pairs that are not in the ABI's layout".to_owned(),
        );
        Vec::new()
    })
}
