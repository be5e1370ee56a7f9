//! The filter under a hostile host: events in any order, host calls that answer with any status and
//! any bytes, a flood of streams, keys and addresses. It must never trap, never let a request pass
//! that it could not edit, never say a key, and never need more memory.
//!
//! Needs `PORTCULLIS_WASM` (the module); `cargo xtask test` sets it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod bent;
mod canary;
mod counts;
mod demo;
mod feeds;
mod fuzz;
mod ledger;
mod linear;
mod malformed;
mod memory;
mod observe;
mod poisoned;
mod queue;
mod quotas;
mod random;
mod services;
mod statuses;
mod traffic;

#[path = "../shipped/mod.rs"]
mod shipped;
