//! Sequences of events that no proxy sends, on a host that answers what it likes.
//!
//! The same sequences in every run. `HOSTILE_SEQUENCES=n` plays another number of them,
//! `HOSTILE_SEED=n` one alone; a failure prints its seed and its events.

mod check;
mod play;
mod tally;

use std::env;

use portcullis_corpus::Document;
use portcullis_host::Module;

use crate::{
    demo::corpus,
    shipped,
    traffic::{Stripping, Traffic},
};
use play::Play;
use tally::Tally;

const SEQUENCES: u64 = 8000;

#[test]
fn whatever_comes_nothing_traps_and_nothing_unedited_passes() {
    let asked = |name: &str| env::var(name).ok().map(|value| value.parse().unwrap());
    let seeds = match asked("HOSTILE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("HOSTILE_SEQUENCES").unwrap_or(SEQUENCES),
    };
    let stage = Stage::new();
    let mut tally = Tally::default();
    let many = seeds.end - seeds.start >= SEQUENCES;
    for seed in seeds {
        Play::new(&stage, seed, &mut tally).run();
    }
    println!("{tally}");
    if many {
        tally.check();
    }
}

/// What all sequences share.
struct Stage {
    module: Module,
    traffic: Traffic,
    policies: Vec<(Document, Stripping)>,
}

impl Stage {
    fn new() -> Self {
        let corpus = corpus();
        let policy = |document: &Document| {
            let stripping = Stripping::new(corpus, document.name());
            (document.clone(), stripping)
        };
        Self {
            module: shipped::module().unwrap(),
            traffic: Traffic::new(corpus),
            policies: corpus.documents.values().map(policy).collect(),
        }
    }
}
