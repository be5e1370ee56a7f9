//! Runs a list of cases on a ring and says how it went.

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::case::{Case, Run};
use crate::check::check;
use crate::corpus::Corpus;
use crate::ring::Ring;

/// What a test target does that is nothing but a ring: runs the corpus, prints each failure and the
/// closing line `ring NAME: N cases passed, M failed`.
///
/// `start` gets every run that there will be, so that a ring can prepare them at once. The
/// environment variable `CASE` (or the first argument that is no option) keeps the cases whose name
/// contains it.
pub fn run<R: Ring>(
    corpus: &Corpus,
    start: impl FnOnce(&Corpus, &[Run<'_>]) -> Result<R, String>,
) -> ExitCode {
    let name = R::NAME;
    let filter = filter();
    let chosen: Vec<&Case> = corpus
        .cases
        .iter()
        .filter(|case| case.name.contains(&filter))
        .filter(|case| !(R::IS_REAL && case.is_simulated()))
        .collect();
    let runs: Vec<Run<'_>> = chosen.iter().flat_map(|case| case.runs()).collect();
    let secrets = corpus.secrets();
    let mut failed: BTreeSet<&str> = BTreeSet::new();
    let mut complaints = 0_usize;
    match start(corpus, &runs) {
        Err(error) => {
            println!("ring {name} did not start: {error}");
            failed.extend(chosen.iter().map(|case| case.name.as_str()));
            complaints += 1;
        }
        Ok(mut ring) => {
            for run in &runs {
                let Some(document) = corpus.documents.get(&run.case.policy) else {
                    continue;
                };
                if let Err(mismatch) = check(*run, document, &secrets, &mut ring) {
                    // One way in which a case fails mostly explains the others.
                    if failed.insert(&run.case.name) {
                        println!("{name}: {mismatch}");
                    } else {
                        println!("{name}: {run} fails too");
                    }
                }
            }
            if let Err(error) = ring.finish() {
                println!("{name}: {error}");
                complaints += 1;
            }
        }
    }
    if (1..chosen.len()).contains(&failed.len()) {
        println!(
            "failed: {}",
            failed.iter().copied().collect::<Vec<_>>().join(" ")
        );
    }
    let moved = chosen.iter().filter(|case| case.is_simulated()).count();
    if moved > 0 {
        println!("{moved} of them move the clock or break the store: not for Envoy");
    }
    println!("{} runs: profiles and protocols counted apart", runs.len());
    println!(
        "ring {name}: {} cases passed, {} failed",
        chosen.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() && complaints == 0 && !chosen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the names of the cases to run must contain.
pub(crate) fn filter() -> String {
    let argument = || {
        std::env::args()
            .skip(1)
            .find(|argument| !argument.starts_with('-'))
    };
    std::env::var("CASE")
        .ok()
        .or_else(argument)
        .unwrap_or_default()
}
