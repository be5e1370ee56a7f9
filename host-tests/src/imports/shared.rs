//! What workers share: data, queues, metrics.

use wasmtime::{Linker, Result};

use super::{Guest, give, host_call, put, put_bytes, read, read_all, status};
use crate::{
    abi::{MetricType, Status},
    call::HostCall,
    host::Host,
    shared_queue::Listener,
};

pub(super) fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_get_shared_data", get_shared_data)?;
    linker.func_wrap("env", "proxy_set_shared_data", set_shared_data)?;
    linker.func_wrap("env", "proxy_register_shared_queue", register_shared_queue)?;
    linker.func_wrap("env", "proxy_resolve_shared_queue", resolve_shared_queue)?;
    linker.func_wrap("env", "proxy_dequeue_shared_queue", dequeue_shared_queue)?;
    linker.func_wrap("env", "proxy_enqueue_shared_queue", enqueue_shared_queue)?;
    linker.func_wrap("env", "proxy_define_metric", define_metric)?;
    linker.func_wrap("env", "proxy_increment_metric", increment_metric)?;
    linker.func_wrap("env", "proxy_record_metric", record_metric)?;
    linker.func_wrap("env", "proxy_get_metric", get_metric)?;
    Ok(())
}

fn get_shared_data(
    mut guest: Guest<'_>,
    key: u32,
    key_size: u32,
    value_at: u32,
    size_at: u32,
    cas_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::GetSharedData, None, |guest| {
        let Some(key) = read(guest, key, key_size) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let shared = &guest.data().shared;
        let Some((value, cas)) = shared.data.get(&shared.settings.vm_id, &key) else {
            return Ok(Status::NOT_FOUND);
        };
        let given = give(guest, &value, value_at, size_at)?;
        Ok(if given == Status::OK {
            put(guest, cas_at, cas)
        } else {
            given
        })
    })
}

fn set_shared_data(
    mut guest: Guest<'_>,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
    cas: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::SetSharedData, None, |guest| {
        let Some([key, value]) = read_all(guest, [(key, key_size), (value, value_size)]) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let shared = &guest.data().shared;
        Ok(status(shared.data.set(
            &shared.settings.vm_id,
            &key,
            &value,
            cas,
        )))
    })
}

fn register_shared_queue(
    mut guest: Guest<'_>,
    name: u32,
    name_size: u32,
    token_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::RegisterSharedQueue, None, |guest| {
        let Some(name) = read(guest, name, name_size) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let host = guest.data();
        let acting = host.acting();
        let root_context = host.root_of(acting).unwrap_or(acting);
        let listener = Listener {
            worker: host.worker,
            root_context,
        };
        let token = host
            .shared
            .queues
            .register(&host.shared.settings.vm_id, &name, listener);
        Ok(put(guest, token_at, token))
    })
}

fn resolve_shared_queue(
    mut guest: Guest<'_>,
    vm_id: u32,
    vm_id_size: u32,
    name: u32,
    name_size: u32,
    token_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::ResolveSharedQueue, None, |guest| {
        let Some([vm_id, name]) = read_all(guest, [(vm_id, vm_id_size), (name, name_size)]) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let shared = &guest.data().shared;
        let vm_id = if vm_id.is_empty() {
            &shared.settings.vm_id
        } else {
            &vm_id
        };
        match shared.queues.resolve(vm_id, &name) {
            Some(token) => Ok(put(guest, token_at, token)),
            None => Ok(Status::NOT_FOUND),
        }
    })
}

fn dequeue_shared_queue(
    mut guest: Guest<'_>,
    token: u32,
    value_at: u32,
    size_at: u32,
) -> Result<u32> {
    host_call(
        &mut guest,
        HostCall::DequeueSharedQueue,
        None,
        |guest| match guest.data().shared.queues.dequeue(token) {
            Ok(value) => give(guest, &value, value_at, size_at),
            Err(status) => Ok(status),
        },
    )
}

fn enqueue_shared_queue(
    mut guest: Guest<'_>,
    token: u32,
    value: u32,
    value_size: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::EnqueueSharedQueue, None, |guest| {
        let Some(value) = read(guest, value, value_size) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let shared = &guest.data().shared;
        Ok(match shared.queues.enqueue(token, &value) {
            Ok(listener) => {
                shared.wake(listener.worker);
                Status::OK
            }
            Err(status) => status,
        })
    })
}

fn define_metric(
    mut guest: Guest<'_>,
    kind: u32,
    name: u32,
    name_size: u32,
    id_at: u32,
) -> Result<u32> {
    host_call(&mut guest, HostCall::DefineMetric, Some(kind), |guest| {
        let Some(name) = read(guest, name, name_size) else {
            return Ok(Status::INVALID_MEMORY_ACCESS);
        };
        let Some(kind) = MetricType::from_raw(kind) else {
            return Ok(Status::BAD_ARGUMENT);
        };
        let Host {
            metric_ids, shared, ..
        } = guest.data_mut();
        let id = metric_ids.define(&shared.metrics, kind, &name);
        Ok(put(guest, id_at, id))
    })
}

fn increment_metric(mut guest: Guest<'_>, id: u32, offset: i64) -> Result<u32> {
    host_call(&mut guest, HostCall::IncrementMetric, None, |guest| {
        let host = guest.data();
        Ok(status(host.metric_ids.increment(
            &host.shared.metrics,
            id,
            offset,
        )))
    })
}

fn record_metric(mut guest: Guest<'_>, id: u32, value: u64) -> Result<u32> {
    host_call(&mut guest, HostCall::RecordMetric, None, |guest| {
        let host = guest.data();
        Ok(status(host.metric_ids.record(
            &host.shared.metrics,
            id,
            value,
        )))
    })
}

fn get_metric(mut guest: Guest<'_>, id: u32, value_at: u32) -> Result<u32> {
    host_call(&mut guest, HostCall::GetMetric, None, |guest| {
        let host = guest.data();
        match host.metric_ids.get(&host.shared.metrics, id) {
            Ok(value) => Ok(put_bytes(guest, value_at, &value.to_le_bytes())),
            Err(status) => Ok(status),
        }
    })
}
