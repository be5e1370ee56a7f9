//! The shipped edge settings, in real Envoy with the real module: `cargo xtask test` runs this with
//! `ENVOY` and `PORTCULLIS_WASM`. Each test starts an Envoy of its own on free ports.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod answers;
mod bounds;
mod configuration;
mod logs;
mod replies;
mod stand;
