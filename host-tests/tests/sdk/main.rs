//! What the SDK keeps to itself: its dispatcher owns the exported callbacks, and panics when a host
//! breaks its word. `ARCHITECTURE.md` lists when; here is shown that the filter never gives cause,
//! that our host doesn't either, and what happens on one that does.
//!
//! Needs `PORTCULLIS_WASM` (the module); `cargo xtask test` sets it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code"
)]

mod allocator;
mod callouts;
mod contexts;
mod logging;
mod policy;
mod reentry;
mod text;

#[path = "../shipped/mod.rs"]
mod shipped;

use portcullis_host::{
    Callback, Invocation, Plugin, RequestScript, ResponseScript, Root, Settings, StreamResult,
    TrapReport, Worker, World,
};

const SECRET: &str = "secret";

/// One key that may read everything; an analysis whose body is judged.
const POLICY: &str = r#"{
  "version": 1,
  "apis": { "shop": {
    "hosts": ["localhost"],
    "keys": [{ "id": "k1", "principal": "acme", "tier": "basic",
      "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" }],
    "tiers": { "basic": { "rate": "100/min" } },
    "routes": {
      "read": { "match": "GET /**" },
      "write": { "match": "POST /write", "body": { "max": "1KiB" },
        "fields": { "a": { "type": "string" } } }
    }
  } }
}"#;

fn world(settings: Settings) -> (World, Root) {
    let mut world = World::new(settings);
    world.add_worker(&shipped::module().unwrap()).unwrap();
    let root = world.configure(&Plugin::new("gate", POLICY)).unwrap()[0];
    (world, root)
}

fn get() -> RequestScript {
    RequestScript::new("GET", "/items").header("authorization", format!("Bearer {SECRET}"))
}

fn send(worker: &mut Worker, root: Root, request: &RequestScript) -> StreamResult {
    let script = ResponseScript::default();
    worker.request(root, request, &script).unwrap().1
}

fn raw(
    worker: &mut Worker,
    callback: Callback,
    arguments: &[u32],
) -> Result<Option<u32>, TrapReport> {
    worker.call_raw(Invocation::new(callback, arguments))
}

/// The VM died in the SDK, and of what it panicked it said the place alone: a message could hold a
/// key.
fn assert_dead_of(world: &mut World, file: &str) {
    let logs = world.logs();
    let last = &logs.last().unwrap().text;
    assert!(
        last.starts_with("panic at ") && last.contains(file),
        "{last}"
    );
    assert_eq!(last.lines().count(), 1);
    assert!(
        last.rsplit(':').next().unwrap().parse::<u32>().is_ok(),
        "{last}"
    );
    assert!(logs.iter().all(|line| !line.text.contains(SECRET)));
    assert_eq!(world.worker(0).unwrap().traps().len(), 1);
}
