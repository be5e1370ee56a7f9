//! Public test vectors of the parsers that the crate stands on and follows.

mod idna;
mod safe_browsing;
mod whatwg;
