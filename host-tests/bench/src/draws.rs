//! `--draws`: whether what feeds list is found, and what is benign is not.
//!
//! The feeds of a folder become one bundle. Of each so many rows are drawn, as they stand in the file and read by nothing
//! of the compiler's, and judged; then every line of a list of benign targets. What is missed and what is hit is told row by
//! row, so that each can be explained.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_feed::{Options, Source};
use portcullis_threat::{Bundle, Code, Judge, Model, Target, Terms};
use serde_json::{Value, json};
use xtask::failure::{Failure, Result};

use crate::options::Draws;
use crate::random::Random;

/// Benign targets that feeds may list, out of some ten thousand
const MOST_FALSE_HITS: usize = 5;

/// A feed, and what became of what was drawn of it
#[derive(Debug)]
struct Row {
    feed: String,
    rows: usize,
    drawn: usize,
    missed: Vec<String>,
}

/// Runs the benchmark and prints what it found.
///
/// # Errors
///
/// When a feed can't be read or compiled.
pub(crate) fn run(draws: &Draws) -> Result<()> {
    let mut paths = files(&draws.folder)?;
    paths.sort();
    let now = now();
    let bundle = bundle(&paths, now)?;
    let judge = Judge::new(Model::Quick1, now).with_bundle(&bundle);
    let hit = |text: &str| {
        let verdict = judge.judge(&Target::classify(text));
        verdict.evidence.has(Code::FeedMatch).then(|| {
            let hits = verdict.hits.iter().map(|hit| {
                let feed = hit.feed.map_or("", |feed| feed.name);
                format!("{} {} of {feed}", hit.kind, hit.value)
            });
            hits.collect::<Vec<_>>().join(", ")
        })
    };
    let mut rows = Vec::new();
    for (number, path) in (0..).zip(&paths) {
        let mut listed = listed(&read(path)?);
        let all = listed.len();
        Random::new(draws.seed, number).shuffle(&mut listed);
        listed.truncate(draws.count);
        let missed = listed.iter().filter(|text| hit(text).is_none());
        rows.push(Row {
            feed: path.file_name().unwrap_or_default().display().to_string(),
            rows: all,
            drawn: listed.len(),
            missed: missed.cloned().collect(),
        });
    }
    let benign = draws.benign.as_deref().map(read).transpose()?;
    let benign: Option<Vec<&str>> = benign
        .as_deref()
        .map(|text| text.lines().filter(|line| !line.is_empty()).collect());
    let hits = benign.as_ref().map(|benign| {
        let hits = benign.iter().filter_map(|text| Some((*text, hit(text)?)));
        hits.collect::<Vec<_>>()
    });
    let missed: usize = rows.iter().map(|row| row.missed.len()).sum();
    let false_hits = hits.as_ref().map_or(0, Vec::len);
    print(draws, &rows, benign.map(|benign| benign.len()).zip(hits));
    if missed > 0 || false_hits > MOST_FALSE_HITS {
        return Err(Failure::new(
            format!(
                "{missed} rows are missed, and {false_hits} benign targets are hit, of which {MOST_FALSE_HITS} may be"
            ),
            "see what was missed and what lists the hits above",
        ));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is a shell: it reads the clock"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn print(draws: &Draws, rows: &[Row], benign: Option<(usize, Vec<(&str, String)>)>) {
    if draws.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "feed": row.feed,
                    "rows": row.rows,
                    "drawn": row.drawn,
                    "missed": row.missed,
                })
            })
            .collect();
        let benign = benign.map(|(count, hits)| {
            let hits = hits
                .iter()
                .map(|(text, hit)| json!({ "target": text, "hit": hit }));
            json!({ "targets": count, "hits": hits.collect::<Vec<_>>() })
        });
        println!(
            "{}",
            json!({ "seed": draws.seed, "feeds": rows, "benign": benign })
        );
        return;
    }
    println!("seed {}", draws.seed);
    for row in rows {
        let Row { feed, rows, .. } = row;
        let (drawn, missed) = (row.drawn, row.missed.len());
        println!("{feed}: {drawn} of {rows} drawn, {missed} missed");
        for text in &row.missed {
            println!("  missed {}", text.escape_default());
        }
    }
    if let Some((count, hits)) = benign {
        println!("benign: {} hits among {count}", hits.len());
        for (text, hit) in hits {
            println!("  hit {}: {}", text.escape_default(), hit.escape_default());
        }
    }
}

fn bundle(paths: &[PathBuf], now: u64) -> Result<Bundle> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(
            format!("the feeds make no bundle: {why}"),
            "try `cargo portcullis feed compile` with each",
        )
    };
    let sources: Vec<Source> = paths
        .iter()
        .map(|path| Source {
            path: path.clone(),
            licence: Some("CC0-1.0".to_owned()),
            // However old the file is: the question is what is found, not whether it still counts.
            fetched_at: Some(now),
            ..Source::default()
        })
        .collect();
    let sections = portcullis_fit::sections().map_err(|error| failed(&error))?;
    let options = Options {
        at: now,
        sections: Some(&sections),
        ..Options::default()
    };
    let compiled = portcullis_feed::compile(&sources, &options).map_err(|error| failed(&error))?;
    Bundle::open(compiled.bytes, &Terms::default()).map_err(|error| failed(&error.word()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: &std::io::Error| Failure::file(folder, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|error| Failure::file(path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a feed lists, as simply as it can be read: the texts under `deny` of a document, or the first word of each line,
/// without an ad blocker's marks and options
fn listed(text: &str) -> Vec<String> {
    if let Ok(document) = serde_json::from_str::<Value>(text) {
        let listed = document.get("deny").and_then(Value::as_array);
        let listed = listed.into_iter().flatten().filter_map(Value::as_str);
        return listed.map(str::to_owned).collect();
    }
    let lines = text
        .lines()
        .filter(|line| !line.starts_with(['#', '!', ';', '[']));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words
        .map(|word| {
            let word = word.strip_prefix("||").unwrap_or(word);
            let word = word.rsplit_once('$').map_or(word, |(rule, _)| rule);
            word.strip_suffix('^').unwrap_or(word).to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_as_they_stand() {
        let check = |text: &str, expected: &[&str]| assert_eq!(listed(text), expected, "{text}");
        check("# a\n192.0.2.1\t7\n", &["192.0.2.1"]);
        check(
            "! a\n||a.example^$all\n||b.example/x^\n",
            &["a.example", "b.example/x"],
        );
        check(
            r#"{"allow":["c.example"],"deny":["a.example"]}"#,
            &["a.example"],
        );
    }
}
