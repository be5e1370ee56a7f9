//! Quick threat verdicts: a target and a bundle in, a verdict out.
//!
//! A target (URL, domain, address, hash, payload) is classified and canonicalised, once as browsers read
//! it (WHATWG) and once as feeds write it (Safe Browsing). It is looked up in a compiled bundle, which is
//! adopted and not parsed, and judged by its structure. This crate does no I/O and reads no clock: the bundle
//! is bytes and the time is a number handed in.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod bundle;
mod case;
mod effort;
pub mod escape;
pub mod evidence;
pub mod expression;
pub mod extract;
mod hash;
mod judge;
mod kept;
mod lists;
mod look_up;
mod refang;
pub mod safe_browsing;
pub mod score;
pub mod structure;
mod target;
mod verdict;
mod web;

pub use bundle::{Adoption, Bundle, Delivery, Refusal, Row, Shelf, Terms};
pub use effort::Effort;
pub use evidence::{Category, Code, Evidence, EvidenceList, Points};
pub use hash::Digest;
pub use judge::{Judge, Model};
pub use kept::Kept;
pub use lists::{ListKind, Lists};
pub use safe_browsing::SafeBrowsing;
pub use target::{Host, Target, TargetKind};
pub use verdict::{Action, Classification, Hit, Match, Verdict};
pub use web::Web;
