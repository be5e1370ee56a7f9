//! The corpus of cases: one format, one [`check`], and the rings that need no wasm host.
//!
//! A case is a policy, requests, and what must come of them. A [`Ring`] carries the requests
//! through the policy: this crate has the core natively ([`native::Native`]) and real Envoy
//! ([`envoy::Envoy`]); the wasmtime host brings its own. What one ring does, all must do: that is
//! the differential test between the shells.
//!
//! The format of the case files is described in `examples/cases/README.md`.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code: codecs by hand, where a panic is a failed test"
)]

mod case;
mod check;
mod corpus;
mod document;
mod expect;
mod fields;
mod json;
mod law;
mod octets;
mod pattern;
mod ring;
mod run;
mod source;
mod time;

pub mod envoy;
pub mod native;
pub mod wire;

pub use case::{Answer, Body, Case, Fault, Outage, Profile, Protocol, Request, Run, Service, Step};
pub use check::{Mismatch, check};
pub use corpus::Corpus;
pub use document::{Document, ENVIRONMENT, environment, variable};
pub use expect::{Expect, ExpectBody, ExpectEnvoy, ExpectUpstream};
pub use octets::Octets;
pub use pattern::Pattern;
pub use ring::{Exchange, Record, Response, Ring, Seen, Session};
pub use run::run;
