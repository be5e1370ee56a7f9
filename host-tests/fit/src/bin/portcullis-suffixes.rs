//! Writes the public suffixes that the gate itself knows, from the list in `host-tests/fit/data`.
//!
//! `portcullis-suffixes FILE`, where FILE is `filter/policy/src/suffix/list.bin`

use std::process::ExitCode;

use portcullis_fit::{PUBLIC_SUFFIX_LIST, suffix_table};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-suffixes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let file = std::env::args().nth(1).ok_or("name the file to write")?;
    let table = suffix_table(PUBLIC_SUFFIX_LIST)?;
    std::fs::write(&file, &table).map_err(|error| format!("{file}: {error}"))?;
    println!("{file}: {} bytes", table.len());
    Ok(())
}
