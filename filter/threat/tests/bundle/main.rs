//! Laws of the compiled bundle: what was written is found, what wasn't is not, and no bytes do harm.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod adopting;
mod finding;
mod sample;
mod signing;
