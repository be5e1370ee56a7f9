//! The policy decision point of Portcullis: facts and a time in, one decision out.
//!
//! This crate does no I/O, reads no clock, draws no random number and writes no log. A shell
//! (the proxy-wasm filter, a test, a command line) obtains facts, calls the [`Engine`], and
//! carries out what the returned [`Step`] says. The crate is `no_std`, so the compiler guards
//! that boundary.
//!
//! ```
//! use portcullis_policy::{
//!     Decision, Engine, MapStore, Moment, Policy, Reason, Request, Settings, Step,
//! };
//! use std::rc::Rc;
//!
//! let policy = br#"{
//!   "version": 1,
//!   "apis": { "shop": {
//!     "hosts": ["shop.example"],
//!     "keys": [{ "id": "k1", "principal": "acme", "tier": "basic",
//!       "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" }],
//!     "tiers": { "basic": { "rate": "10/min" } },
//!     "routes": { "list": { "match": "GET /items" } }
//!   } }
//! }"#;
//! let policy = Rc::new(Policy::parse(policy, "main").expect("a valid policy"));
//! let mut engine = Engine::new(Settings { seed: [7; 16], born: 0 });
//! let mut store = MapStore::default();
//!
//! let request = Request {
//!     headers: &[
//!         (b":method", b"GET"),
//!         (b":path", b"/items"),
//!         (b":authority", b"shop.example"),
//!         (b"authorization", b"Bearer secret"),
//!     ],
//!     client: None,
//!     end_of_stream: true,
//! };
//! let now = Moment { monotonic: 1_000_000_000, wall: 1_800_000_000_000_000_000, decision: 42 };
//! let Step::Decided(outcome) = engine.on_headers(&policy, &request, now, &mut store) else {
//!     panic!("a known key on a route without a body is decided at once");
//! };
//! assert_eq!(outcome.record.reason, Reason::Allowed);
//! assert!(matches!(outcome.decision, Decision::Forward(_)));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod access;
mod account;
mod arn;
mod asks;
mod body;
mod book;
mod bucket;
mod callout;
mod civil;
mod client;
mod comparison;
mod compile;
mod counter;
mod credential;
mod domain;
mod enforcement;
mod engine;
mod entitlement;
mod error;
mod feeds;
mod format;
mod forward;
mod grants;
mod grpc;
mod gzip;
mod host;
mod id;
mod key;
mod limit;
mod limiter;
mod listing;
mod name;
mod network;
mod node;
mod path;
mod period;
mod place;
mod pointer;
mod policy;
mod protobuf;
mod query;
mod queue;
mod quota;
mod rate;
mod reader;
mod reason;
mod record;
mod recording;
mod replica;
mod reply;
mod request;
mod route;
mod schema;
mod screen;
mod slots;
mod spelling;
mod suffix;
mod template;
mod trace;
mod verdict;
mod verdicts;
mod window;

pub use account::{AccountStore, Change, MapStore, StoreError};
pub use bucket::{Bucket, Refused};
pub use callout::{Answer, Failure, Query, Response};
pub use civil::format_instant;
#[cfg(any(test, feature = "bundle-writer"))]
pub use civil::read_instant;
pub use client::parse_client;
pub use comparison::{Comparison, Opinion};
#[cfg(feature = "advice")]
pub use compile::advice::{Advice, Level};
pub use counter::Counter;
pub use engine::{
    AwaitBody, AwaitClient, Body, BundleState, Decision, Engine, FeedsState, Lesson, Notice,
    Outcome, Settings, Step, Supply, Waiting,
};
pub use error::ConfigError;
pub use forward::{Edit, Edits, RESERVED_PREFIX, is_reserved};
pub use id::{DecisionId, DecisionText};
pub use key::{Adoption, BundleError, DigestScheme, KeyBundle};
#[cfg(any(test, feature = "bundle-writer"))]
pub use key::{BundleContents, BundleWriter, KeyLabelError, key_digest, new_key};
pub use limit::Leases;
pub use limiter::Limiter;
pub use policy::{Mode, Pause, Policy};
pub use queue::{Hold, Release};
pub use quota::{Ending, QuotaReservation, Settled};
pub use rate::{RateHeaders, WAIT};
pub use reason::Reason;
pub use record::{EXPLANATION, LimitStatus, Record, Rule, RuleKind};
pub use recording::Told;
pub use reply::{Dialect, Reply};
pub use request::{Moment, Request};
