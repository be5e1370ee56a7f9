//! Buffers: bodies, configurations, answers.

use wasmtime::{Linker, Result};

use super::{Guest, give, host_call, put, read};
use crate::{
    abi::{BufferType, Status},
    call::HostCall,
    exchange::Side,
    host::Host,
};

pub(super) fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_buffer_bytes", get_bytes)?;
    linker.func_wrap("env", "proxy_get_buffer_status", get_status)?;
    linker.func_wrap("env", "proxy_set_buffer_bytes", set_bytes)?;
    Ok(())
}

/// The buffer's bytes; `None` if there is no such buffer now.
fn view(host: &Host, buffer: BufferType) -> Option<&[u8]> {
    let context = host.acting();
    let root = host.root_context(context);
    let body = |side: Side| {
        host.exchange(context)
            .map_or([].as_slice(), |exchange| exchange.side(side).visible_body())
    };
    let answer = |grpc: bool| {
        let answer = root.and_then(|root| root.answer.as_ref());
        answer
            .filter(|answer| answer.grpc == grpc)
            .map(|answer| answer.body.as_slice())
    };
    match buffer {
        BufferType::HttpRequestBody => Some(body(Side::Request)),
        BufferType::HttpResponseBody => Some(body(Side::Response)),
        BufferType::HttpCallResponseBody => answer(false),
        BufferType::GrpcReceiveBuffer => Some(answer(true).unwrap_or_default()),
        BufferType::VmConfiguration => Some(&host.shared.settings.vm_configuration),
        BufferType::PluginConfiguration => root
            .filter(|root| root.configuring)
            .map(|root| root.plugin.configuration.as_slice()),
        BufferType::DownstreamData | BufferType::UpstreamData | BufferType::CallData => Some(&[]),
    }
}

fn get_bytes(
    mut guest: Guest<'_>,
    buffer: u32,
    start: u32,
    size: u32,
    bytes_at: u32,
    size_at: u32,
) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::GetBufferBytes,
        Some(buffer),
        |guest| {
            let Some(buffer) = BufferType::from_raw(buffer) else {
                return Ok(Status::BAD_ARGUMENT);
            };
            let Some(bytes) = view(guest.data(), buffer) else {
                return Ok(Status::NOT_FOUND);
            };
            let index = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
            let from_start = bytes.get(index(start)..).unwrap_or_default();
            let part = from_start.get(..index(size)).unwrap_or(from_start).to_vec();
            // Like Envoy: no bytes, no answer; the guest's pointers stay as they were.
            if part.is_empty() {
                Ok(Status::OK)
            } else {
                give(guest, &part, bytes_at, size_at)
            }
        },
    )
}

fn get_status(mut guest: Guest<'_>, buffer: u32, size_at: u32, flags_at: u32) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::GetBufferStatus,
        Some(buffer),
        |guest| {
            let Some(buffer) = BufferType::from_raw(buffer) else {
                return Ok(Status::BAD_ARGUMENT);
            };
            let Some(bytes) = view(guest.data(), buffer) else {
                return Ok(Status::NOT_FOUND);
            };
            let size = crate::vm::length(bytes);
            let placed = put(guest, size_at, size);
            Ok(if placed == Status::OK {
                put(guest, flags_at, 0)
            } else {
                placed
            })
        },
    )
}

fn set_bytes(
    mut guest: Guest<'_>,
    buffer: u32,
    start: u32,
    size: u32,
    data: u32,
    data_size: u32,
) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::SetBufferBytes,
        Some(buffer),
        |guest| {
            let Some(buffer) = BufferType::from_raw(buffer) else {
                return Ok(Status::BAD_ARGUMENT);
            };
            if view(guest.data(), buffer).is_none() {
                return Ok(Status::NOT_FOUND);
            }
            let Some(data) = read(guest, data, data_size) else {
                return Ok(Status::INVALID_MEMORY_ACCESS);
            };
            let side = match buffer {
                BufferType::HttpRequestBody => Side::Request,
                BufferType::HttpResponseBody => Side::Response,
                _ => return Ok(Status::BAD_ARGUMENT),
            };
            let host = guest.data_mut();
            let context = host.acting();
            let body = host
                .exchange_mut(context)
                .and_then(|e| e.side_mut(side).visible_body_mut());
            Ok(body.map_or(Status::BAD_ARGUMENT, |body| {
                replace(body, start, size, data)
            }))
        },
    )
}

/// Envoy can replace the beginning of a body, or all of it, and add to its end; nothing else.
fn replace(body: &mut Vec<u8>, start: u32, size: u32, data: Vec<u8>) -> Status {
    let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).min(body.len());
    if start == 0 {
        body.splice(..at(size), data);
    } else if at(start) == body.len() {
        body.extend(data);
    } else {
        return Status::BAD_ARGUMENT;
    }
    Status::OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_changes_at_its_ends() {
        let replaced = |start, size| {
            let mut body = b"body".to_vec();
            let status = replace(&mut body, start, size, b"++".to_vec());
            (status, String::from_utf8(body).unwrap())
        };
        assert_eq!(replaced(0, 0), (Status::OK, "++body".to_owned()));
        assert_eq!(replaced(4, 0), (Status::OK, "body++".to_owned()));
        assert_eq!(replaced(0, 4), (Status::OK, "++".to_owned()));
        assert_eq!(replaced(0, u32::MAX), (Status::OK, "++".to_owned()));
        assert_eq!(replaced(0, 3), (Status::OK, "++y".to_owned()));
        assert_eq!(replaced(1, 1), (Status::BAD_ARGUMENT, "body".to_owned()));
    }
}
