//! The second list: cases against the edge settings of `envoy/envoy.yaml` as it is shipped.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

use std::process::ExitCode;

use portcullis_corpus::envoy::Tools;
use portcullis_corpus::envoy::edge::Edge;
use portcullis_corpus::{Corpus, run};

fn main() -> ExitCode {
    if !Tools::is_supported() {
        println!("ring edge: unsupported here, there is no Envoy for this machine");
        return ExitCode::SUCCESS;
    }
    match Corpus::load_edge() {
        Ok(corpus) => run(&corpus, Edge::start),
        Err(errors) => {
            println!("{}", errors.join("\n"));
            ExitCode::FAILURE
        }
    }
}
