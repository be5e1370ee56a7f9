//! Ring 2: the corpus on the .wasm that is shipped, in our own host: virtual clocks, and faults that
//! are a host's. `CASE=name` keeps the cases whose name contains it.
//!
//! Needs `PORTCULLIS_WASM` (the module); `cargo xtask test` sets it.

mod ring;
mod shipped;

use std::process::ExitCode;

use portcullis_corpus::{Corpus, run};

fn main() -> ExitCode {
    match Corpus::load() {
        Ok(corpus) => run(&corpus, |corpus, _| {
            Ok(ring::Wasmtime::new(shipped::module()?, corpus))
        }),
        Err(errors) => {
            println!("{}", errors.join("\n"));
            ExitCode::FAILURE
        }
    }
}
