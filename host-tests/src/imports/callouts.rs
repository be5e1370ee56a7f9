//! Calls to other services. They are made by root contexts, whoever asks for them.

use std::time::Duration;

use wasmtime::{Linker, Result};

use super::{Guest, give, host_call, maps::read_pairs, put, read, read_all};
use crate::{
    abi::Status,
    call::HostCall,
    callout::{Callout, CalloutRequest},
    headers,
    host::{Context, Host},
};

pub(super) fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_http_call", http_call)?;
    linker.func_wrap("env", "proxy_grpc_call", grpc_call)?;
    linker.func_wrap("env", "proxy_grpc_stream", grpc_stream)?;
    linker.func_wrap("env", "proxy_grpc_send", grpc_send)?;
    linker.func_wrap("env", "proxy_grpc_cancel", grpc_cancel)?;
    linker.func_wrap("env", "proxy_grpc_close", grpc_close)?;
    linker.func_wrap("env", "proxy_get_status", get_status)?;
    Ok(())
}

/// The kinds of callouts; a token holds its kind in its two low bits.
#[derive(Clone, Copy)]
enum Kind {
    Http,
    Grpc,
    GrpcStream,
}

const TOKEN_STEP: u32 = 4;

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
fn http_call(
    mut guest: Guest<'_>,
    cluster: u32,
    cluster_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    trailers: u32,
    trailers_size: u32,
    timeout: u32,
    token_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::HttpCall, None, |guest| {
        let pieces = [
            (cluster, cluster_size),
            (headers, headers_size),
            (body, body_size),
            (trailers, trailers_size),
        ];
        let Some([cluster, headers, body, trailers]) = read_all(guest, pieces) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        if put(guest, token_at, 0) != Status::OK {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        }
        let host = guest.data_mut();
        let headers = read_pairs(host, &headers);
        let trailers = read_pairs(host, &trailers);
        let required = [":path", ":method", ":authority"];
        if i32::try_from(timeout).is_err()
            || required
                .iter()
                .any(|name| headers::header(&headers, name).is_none())
        {
            return Ok(Status::BAD_ARGUMENT);
        }
        let request = CalloutRequest::Http {
            headers,
            body,
            trailers,
        };
        match dispatch(host, Kind::Http, cluster, request, timeout) {
            Ok(token) => Ok(put(guest, token_at, token)),
            Err(status) => Ok(status),
        }
    })
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
fn grpc_call(
    mut guest: Guest<'_>,
    cluster: u32,
    cluster_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    message: u32,
    message_size: u32,
    timeout: u32,
    token_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::GrpcCall, None, |guest| {
        let pieces = [
            (cluster, cluster_size),
            (service, service_size),
            (method, method_size),
            (metadata, metadata_size),
            (message, message_size),
        ];
        let Some([cluster, service, method, metadata, message]) = read_all(guest, pieces) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let host = guest.data_mut();
        let metadata = read_pairs(host, &metadata);
        let request = CalloutRequest::Grpc {
            service,
            method,
            metadata,
            message,
        };
        match dispatch(host, Kind::Grpc, cluster, request, timeout) {
            Ok(token) => Ok(put(guest, token_at, token)),
            Err(status) => Ok(status),
        }
    })
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
fn grpc_stream(
    mut guest: Guest<'_>,
    cluster: u32,
    cluster_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    token_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::GrpcStream, None, |guest| {
        let pieces = [
            (cluster, cluster_size),
            (service, service_size),
            (method, method_size),
            (metadata, metadata_size),
        ];
        let Some([cluster, service, method, metadata]) = read_all(guest, pieces) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let host = guest.data_mut();
        let metadata = read_pairs(host, &metadata);
        let sent = Vec::new();
        let request = CalloutRequest::GrpcStream {
            service,
            method,
            metadata,
            sent,
            ended: false,
        };
        match dispatch(host, Kind::GrpcStream, cluster, request, 0) {
            Ok(token) => Ok(put(guest, token_at, token)),
            Err(status) => Ok(status),
        }
    })
}

fn grpc_send(
    mut guest: Guest<'_>,
    token: u32,
    message: u32,
    message_size: u32,
    end: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::GrpcSend, None, |guest| {
        let Some(message) = read(guest, message, message_size) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        if token % TOKEN_STEP != kind_bits(Kind::GrpcStream) {
            return Ok(Status::BAD_ARGUMENT);
        }
        let host = guest.data();
        let sent = host.shared.callouts.with(host.vm, token, |call| {
            if let CalloutRequest::GrpcStream { sent, ended, .. } = &mut call.request {
                sent.push(message);
                *ended |= end != 0;
            }
        });
        Ok(sent.map_or(Status::NOT_FOUND, |()| Status::OK))
    })
}

fn grpc_cancel(mut guest: Guest<'_>, token: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::GrpcCancel, None, |guest| {
        Ok(give_up(guest, token))
    })
}

fn grpc_close(mut guest: Guest<'_>, token: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::GrpcClose, None, |guest| {
        if token % TOKEN_STEP != kind_bits(Kind::GrpcStream) {
            return Ok(give_up(guest, token));
        }
        // Only our side of a stream is closed; the other one may still speak.
        let host = guest.data();
        let closed = host.shared.callouts.with(host.vm, token, |call| {
            if let CalloutRequest::GrpcStream { ended, .. } = &mut call.request {
                *ended = true;
            }
        });
        Ok(closed.map_or(Status::NOT_FOUND, |()| Status::OK))
    })
}

fn give_up(guest: &Guest<'_>, token: u32) -> Status {
    let kind = token % TOKEN_STEP;
    if kind != kind_bits(Kind::Grpc) && kind != kind_bits(Kind::GrpcStream) {
        return Status::BAD_ARGUMENT;
    }
    let host = guest.data();
    if host.shared.callouts.cancel(host.vm, token) {
        Status::OK
    } else {
        Status::NOT_FOUND
    }
}

fn get_status(mut guest: Guest<'_>, code_at: u32, message_at: u32, size_at: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::GetStatus, None, |guest| {
        let host = guest.data();
        // A stream's context has none of its own: callouts are the root's.
        let (code, message) = match host.contexts.get(&host.acting()) {
            Some(Context::Root(root)) => root.status.clone(),
            _ => (0, Vec::new()),
        };
        let placed = put(guest, code_at, code);
        if placed == Status::OK {
            give(guest, &message, message_at, size_at)
        } else {
            Ok(placed)
        }
    })
}

fn dispatch(
    host: &mut Host,
    kind: Kind,
    cluster: Vec<u8>,
    request: CalloutRequest,
    timeout: u32,
) -> std::result::Result<u32, Status> {
    let acting = host.acting();
    let root_context = host.root_of(acting).unwrap_or(acting);
    let [http, grpc, stream] = &mut host.next_callout;
    let (last, unknown) = match kind {
        Kind::Http => (http, Status::BAD_ARGUMENT),
        Kind::Grpc => (grpc, Status::PARSE_FAILURE),
        Kind::GrpcStream => (stream, Status::PARSE_FAILURE),
    };
    let token = last.wrapping_add(TOKEN_STEP);
    let callout = Callout {
        id: 0,
        worker: host.worker,
        root_context,
        token,
        cluster,
        request,
        timeout: Duration::from_millis(timeout.into()),
        made_at: host.shared.clock.monotonic(),
        vm: host.vm,
        scripted: None,
    };
    host.shared.callouts.dispatch(callout, unknown)?;
    *last = token;
    host.shared.wake(host.worker);
    Ok(token)
}

const fn kind_bits(kind: Kind) -> u32 {
    match kind {
        Kind::Http => 0,
        Kind::Grpc => 1,
        Kind::GrpcStream => 2,
    }
}
