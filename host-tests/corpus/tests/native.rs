//! Ring 1: the corpus on the core natively. `CASE=name` keeps the cases whose name contains it.

use std::process::ExitCode;

use portcullis_corpus::native::Native;
use portcullis_corpus::{Corpus, run};
use portcullis_policy::Reason;

fn main() -> ExitCode {
    match Corpus::load() {
        Ok(corpus) => {
            let (produced, _) = corpus.reasons();
            println!("reasons {produced} of {}", Reason::ALL.len());
            run(&corpus, |corpus, _| Ok(Native::new(corpus)))
        }
        Err(errors) => {
            println!("{}", errors.join("\n"));
            ExitCode::FAILURE
        }
    }
}
