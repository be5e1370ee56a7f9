//! Streams and contexts: replies, resuming, closing, acting for another.

use wasmtime::{Linker, Result};

use super::{Guest, host_call, maps::read_pairs, read_all};
use crate::{
    abi::{Status, StreamType},
    call::HostCall,
    exchange::Side,
    host::{Context, Deferred, Host},
    local_reply::LocalReply,
};

/// The highest gRPC status code; a filter that wants none says a higher one.
const LAST_GRPC_STATUS: u32 = 16;

pub(super) fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_send_local_response", send_local_response)?;
    linker.func_wrap("env", "proxy_continue_stream", continue_stream)?;
    linker.func_wrap("env", "proxy_close_stream", close_stream)?;
    linker.func_wrap("env", "proxy_set_effective_context", set_effective_context)?;
    linker.func_wrap("env", "proxy_done", done)?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
fn send_local_response(
    mut guest: Guest<'_>,
    response_status: u32,
    details: u32,
    details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    grpc_status: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::SendLocalResponse, None, |guest| {
        let pieces = [
            (details, details_size),
            (body, body_size),
            (headers, headers_size),
        ];
        let Some([details, body, headers]) = read_all(guest, pieces) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let host = guest.data_mut();
        let headers = read_pairs(host, &headers);
        let grpc_status = Some(grpc_status).filter(|&code| code <= LAST_GRPC_STATUS);
        let reply = LocalReply {
            status: response_status,
            headers,
            body,
            details,
            grpc_status,
        };
        let context = host.acting();
        // A root context has no stream to reply to, and is not told so.
        match host.exchange(context).map(|exchange| exchange.destroyed) {
            Some(false) => host.deferred.push_back(Deferred::Reply { context, reply }),
            Some(true) => {
                let what = format!("it replied in {}: that crashes Envoy", host.callback);
                host.violation(context, what);
            }
            None => {}
        }
        host.stop_iteration = true;
        Ok(Status::OK)
    })
}

fn continue_stream(mut guest: Guest<'_>, stream: u32) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::ContinueStream,
        Some(stream),
        |guest| {
            let host = guest.data_mut();
            let context = host.acting();
            let side = match StreamType::from_raw(stream) {
                Some(StreamType::Request) => Side::Request,
                Some(StreamType::Response) => Side::Response,
                // There is no TCP stream here to continue.
                Some(StreamType::Downstream) => return Ok(Status::OK),
                Some(StreamType::Upstream) => return Ok(Status::UNIMPLEMENTED),
                None => return Ok(Status::BAD_ARGUMENT),
            };
            if let Some(exchange) = host.exchange_mut(context) {
                // Envoy forgets the request's maps at once, whichever direction is meant.
                exchange.request.headers_open = false;
                exchange.request.trailers_open = false;
                host.deferred.push_back(Deferred::Resume { context, side });
            }
            Ok(Status::OK)
        },
    )
}

fn close_stream(mut guest: Guest<'_>, stream: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::CloseStream, Some(stream), |guest| {
        let host = guest.data_mut();
        let context = host.acting();
        match StreamType::from_raw(stream) {
            Some(StreamType::Request | StreamType::Response) => {
                if host.exchange(context).is_some() {
                    host.deferred.push_back(Deferred::Close { context });
                }
                Ok(Status::OK)
            }
            Some(StreamType::Downstream | StreamType::Upstream) => Ok(Status::OK),
            None => Ok(Status::BAD_ARGUMENT),
        }
    })
}

fn set_effective_context(mut guest: Guest<'_>, context: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::SetEffectiveContext, None, |guest| {
        let host = guest.data_mut();
        // Zero is the VM's own context, in whose name nothing can be done.
        if context != 0 && !host.contexts.contains_key(&context) {
            return Ok(Status::BAD_ARGUMENT);
        }
        host.effective = context;
        Ok(Status::OK)
    })
}

fn done(mut guest: Guest<'_>) -> Result<u32> {
    host_call(&mut guest, HostCall::Done, None, |guest| {
        let host = guest.data_mut();
        let context = host.acting();
        match host.contexts.get_mut(&context) {
            Some(Context::Root(root)) if root.ending => {
                root.ending = false;
                host.deferred.push_back(Deferred::DeleteRoot { context });
                Ok(Status::OK)
            }
            _ => Ok(Status::NOT_FOUND),
        }
    })
}
