//! The memory for what a host hands over is the SDK's to allocate, and who can't is dead. What the
//! filter asks for has a size: a body has its route's `max`, Envoy bounds headers, records are short.
//! Only another plugin under the same `vm_id` could write a longer one.

use portcullis_host::{HostCall, Settings, TrapKind};

use crate::{get, send, world};

#[test]
fn more_than_the_memory_kills_the_vm() {
    const LIMIT: usize = 32 << 20;
    let (mut world, root) = world(Settings {
        memory_limit: LIMIT,
        ..Settings::default()
    });
    let worker = world.worker(0).unwrap();
    worker.tamper(|site, bytes| {
        if site.call == HostCall::GetSharedData {
            bytes.resize(LIMIT, 0);
        }
    });
    assert_eq!(
        send(worker, root, &get()).status(),
        200,
        "an account that is not there yet"
    );
    let result = send(worker, root, &get());
    assert_eq!((result.status(), result.forwarded), (503, None));
    let trap = result.trap.unwrap();
    assert!(matches!(trap.kind, TrapKind::Memory { .. }), "{trap}");
}

#[test]
fn a_long_record_is_a_foreign_one() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    worker.tamper(|site, bytes| {
        if site.call == HostCall::GetSharedData {
            *bytes = vec![0; 8 << 20];
        }
    });
    for expected in [200, 429, 429, 429] {
        assert_eq!(send(worker, root, &get()).status(), expected);
    }
    assert_eq!(worker.traps(), []);
}
