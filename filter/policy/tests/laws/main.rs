//! The laws of the policy core, as anybody sees it from outside.
#![recursion_limit = "256"]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "test code"
)]

mod charging;
mod configuration;
mod denial;
mod domain;
mod entitlement;
mod feeds;
mod gate;
mod keys;
mod limits;
mod path;
mod quota;
mod reply;
mod router;
mod schema;
mod screening;
mod shadow;
mod store;
mod target;
mod validation;
mod wire;
