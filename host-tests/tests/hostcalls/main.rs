//! The host's semantics, each shown by a little guest that logs what it sees.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod assembler;
mod bodies;
mod callouts;
mod envoy;
mod failures;
mod faults;
mod guest;
mod limits;
mod loading;
mod replies;
mod responses;
mod scenario;
mod serving;
mod statuses;
mod streams;
mod wire;
mod workers;

use guest::Guest;
use portcullis_host::{
    Engine, Metering, Module, Plugin, RequestScript, ResponseScript, Root, Settings, StreamResult,
    World,
};

/// A module of this guest.
fn module(guest: &Guest) -> Module {
    Engine::shared(Metering::Off)
        .unwrap()
        .compile("guest", &guest.build())
        .unwrap()
}

/// A world with one worker that runs this guest, configured with no text.
fn world_with(settings: Settings, guest: &Guest) -> (World, Root) {
    let mut world = World::new(settings);
    world.add_worker(&module(guest)).unwrap();
    let root = world
        .worker(0)
        .unwrap()
        .configure(&Plugin::new("root", ""))
        .unwrap();
    world.clear_logs();
    (world, root)
}

fn world(guest: &Guest) -> (World, Root) {
    world_with(Settings::default(), guest)
}

/// A request without a body that passes, or does not.
fn pass(world: &mut World, worker: usize, root: Root) -> StreamResult {
    let script = RequestScript::new("GET", "/");
    let worker = world.worker(worker).unwrap();
    let (_, result) = worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    result
}

/// The log's lines that are not the names of callbacks.
fn said(world: &World) -> Vec<String> {
    logs(world)
        .into_iter()
        .filter(|line| !line.starts_with("on_"))
        .collect()
}

/// All that was logged, without who said it.
fn logs(world: &World) -> Vec<String> {
    world.logs().into_iter().map(|line| line.text).collect()
}

/// Every scenario, for Envoy to play.
fn all_scenarios() -> Vec<scenario::Scenario> {
    [
        streams::all(),
        bodies::all(),
        responses::all(),
        replies::all(),
        failures::all(),
        statuses::all(),
    ]
    .concat()
}
