//! Laws of the compiled bundle: what was written is found, what wasn't is not, and no bytes do harm.

mod adopting;
mod finding;
mod sample;
