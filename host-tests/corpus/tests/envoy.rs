//! Ring 3: the corpus on the .wasm in real Envoy. `CASE=name` keeps the cases whose name contains
//! it.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

use std::process::ExitCode;

use portcullis_corpus::envoy::{Envoy, Tools};
use portcullis_corpus::{Corpus, run};

fn main() -> ExitCode {
    if !Tools::is_supported() {
        println!("ring envoy: unsupported here, there is no Envoy for this machine");
        return ExitCode::SUCCESS;
    }
    match Corpus::load() {
        Ok(corpus) => run(&corpus, Envoy::start),
        Err(errors) => {
            println!("{}", errors.join("\n"));
            ExitCode::FAILURE
        }
    }
}
