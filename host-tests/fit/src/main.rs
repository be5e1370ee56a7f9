//! Fits the model of structural evidence and says how well it does on URLs that it hasn't seen.
//!
//! `portcullis-fit DATA.csv.gz [--benign NAME=FILE]... [--other-benign|--other-phish NAME=FILE]... [--write FILE]`
//!
//! DATA has the columns `label,source,first_seen,url`; the other files hold one URL a line. `--benign` is fitted on
//! too, with less weight; `--other-...` is only scored. `filter/threat/MODEL.md` tells the procedure and its results.

mod baseline;
mod build;
mod data;
mod items;
mod report;
mod train;

use std::collections::HashSet;
use std::process::ExitCode;

use build::build;
use data::{Data, Source};
use items::{FOLDS, Item, indices};
use portcullis_fit::{BRANDS, PUBLIC_SUFFIX_LIST, SHARED_HOSTS, brands, confusables, suffixes};
use portcullis_threat::structure::Tables;
use portcullis_threat::structure::model::GREATEST;
use portcullis_threat::structure::model::write::{Draft, dimension, sum};
use report::{Scored, Table, bands, score, thresholds};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-fit: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The tables that aren't fitted
struct Tools {
    suffixes: Vec<u8>,
    brands: Vec<u8>,
    confusables: Vec<u8>,
}

impl Tools {
    fn tables<'a>(&'a self, model: &'a [u8]) -> Result<Tables<'a>, String> {
        Tables::new(&self.suffixes, &self.brands, &self.confusables, model)
            .ok_or_else(|| String::from("the tables don't fit together"))
    }
}

#[derive(Default)]
struct Arguments {
    data: Data,
    others: Data,
    out: Option<String>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or(format!("{argument}: no value; give one"))
            };
            match argument.as_str() {
                "--benign" | "--other-phish" | "--other-benign" => {
                    let value = value()?;
                    let (name, file) = value
                        .split_once('=')
                        .ok_or(format!("{argument} {value}: no `=`; write NAME=FILE"))?;
                    let data = match argument.as_str() {
                        "--benign" => &mut parsed.data,
                        _ => &mut parsed.others,
                    };
                    data.read_plain(file, name, argument.ends_with("phish"))?;
                }
                "--write" => parsed.out = Some(value()?),
                file => parsed.data.read(file)?,
            }
        }
        parsed.data.deduplicate();
        parsed.others.deduplicate();
        Ok(parsed)
    }
}

fn run() -> Result<(), String> {
    let Arguments { data, others, out } = Arguments::parse(std::env::args().skip(1))?;
    let tools = Tools {
        suffixes: suffixes(PUBLIC_SUFFIX_LIST, SHARED_HOSTS)?,
        brands: brands(BRANDS)?,
        confusables: confusables(),
    };
    let (sources, items) = (data.sources, items::items(data.rows, &tools)?);
    counts(&sources, &items);

    let (fitted, untuned) = cross_validate(&items, &sources, &tools)?;
    for full in [false, true] {
        println!("\n== {}, cross-validated by registrable domain", kind(full));
        for additional in [false, true] {
            let table = |scored| Table {
                sources: &sources,
                scored,
                full,
                additional,
            };
            table(&fitted).print("model");
            if !additional {
                table(&untuned).print("untuned");
            }
        }
    }

    println!("\n== held out in time, and by source");
    held_out(&items, &sources, &tools)?;

    let thresholds = [false, true].map(|full| thresholds(&sources, &fitted, full));
    let calibrated: Vec<Scored> = fitted
        .iter()
        .map(|row| Scored {
            score: score(&thresholds, row.full, row.score),
            ..*row
        })
        .collect();
    println!("\n== the score 0..={GREATEST}, cross-validated");
    bands(&sources, &calibrated);
    highest(&sources, &items, &calibrated);

    let mut draft = build(&items, &indices(&items, |_| true), &sources, &tools)?;
    draft.thresholds = thresholds;
    let model = draft.write().ok_or("more suffixes than a model holds")?;
    println!(
        "\n== the model: {} bytes, {} suffixes",
        model.len(),
        draft.suffixes.len()
    );
    weights(&draft);
    let tables = tools.tables(&model)?;
    let other_items = items::items(others.rows, &tools)?;
    if !other_items.is_empty() {
        println!("\n== sources that the model never sees");
        let scored: Vec<Scored> = other_items
            .iter()
            .map(|item| {
                let sum = sum(&item.row.view(), &tables);
                item.scored(score(&thresholds, item.full, sum))
            })
            .collect();
        bands(&others.sources, &scored);
    }
    match out {
        Some(out) => std::fs::write(&out, &model).map_err(|error| format!("{out}: {error}")),
        None => Ok(()),
    }
}

fn kind(full: bool) -> &'static str {
    if full {
        "URLs with a path"
    } else {
        "bare hosts"
    }
}

fn counts(sources: &[Source], items: &[Item]) {
    for (index, source) in sources.iter().enumerate() {
        let of = |full| {
            let those = items
                .iter()
                .filter(|item| item.row.source == index && item.full == full);
            those.count()
        };
        println!(
            "{}: {} bare hosts, {} with a path",
            source.name,
            of(false),
            of(true)
        );
    }
}

/// Every URL scored by a model that has seen nothing of its registrable domain; and by the untuned score
fn cross_validate(
    items: &[Item],
    sources: &[Source],
    tools: &Tools,
) -> Result<(Vec<Scored>, Vec<Scored>), String> {
    let mut scores = vec![(0, 0); items.len()];
    for fold in 0..FOLDS {
        let training = indices(items, |item| item.fold != fold);
        let draft = build(items, &training, sources, tools)?;
        let model = draft.write().ok_or("more suffixes than a model holds")?;
        let tables = tools.tables(&model)?;
        let left_out = items
            .iter()
            .zip(&mut scores)
            .filter(|(item, _)| item.fold == fold);
        for (item, scores) in left_out {
            let view = item.row.view();
            *scores = (sum(&view, &tables), baseline::score(&view, &tables));
        }
    }
    let of = |(item, (fitted, untuned)): (&Item, &(i32, i32))| {
        (item.scored(*fitted), item.scored(*untuned))
    };
    Ok(items.iter().zip(&scores).map(of).unzip())
}

/// Models that haven't seen the newest third of the phishing URLs, or a source of them at all
fn held_out(items: &[Item], sources: &[Source], tools: &Tools) -> Result<(), String> {
    let phish: Vec<usize> = (0..sources.len())
        .filter(|index| sources.get(*index).is_some_and(|source| source.phish))
        .collect();
    let mut newest = Vec::new();
    for source in &phish {
        let mut seen: Vec<&str> = items
            .iter()
            .filter(|item| item.row.source == *source)
            .map(|item| item.row.seen.as_str())
            .collect();
        seen.sort_unstable();
        let from = seen
            .get(seen.len().saturating_mul(2) / 3)
            .copied()
            .unwrap_or_default();
        newest.push((*source, from.to_owned()));
    }
    let late = |item: &Item| {
        newest
            .iter()
            .any(|(source, from)| item.row.source == *source && item.row.seen >= *from)
    };
    println!("newest thirds: {newest:?}");
    hold_out("the newest third of each", &late, items, sources, tools)?;
    for source in phish {
        let name = sources.get(source).map_or("", |source| &source.name);
        let of = |item: &Item| item.row.source == source;
        hold_out(&format!("all of {name}"), &of, items, sources, tools)?;
    }
    Ok(())
}

fn hold_out(
    name: &str,
    test: &dyn Fn(&Item) -> bool,
    items: &[Item],
    sources: &[Source],
    tools: &Tools,
) -> Result<(), String> {
    // Neither may a domain of the test set be trained on because another source or an earlier day has it.
    let tested: HashSet<&str> = items
        .iter()
        .filter(|item| test(item))
        .map(|item| item.group.as_str())
        .collect();
    let training = indices(items, |item| {
        if item.row.phish {
            !test(item) && !tested.contains(item.group.as_str())
        } else {
            item.fold > 1
        }
    });
    let draft = build(items, &training, sources, tools)?;
    let model = draft.write().ok_or("more suffixes than a model holds")?;
    let tables = tools.tables(&model)?;
    let scored: Vec<Scored> = items
        .iter()
        .filter(|item| {
            if item.row.phish {
                test(item)
            } else {
                item.fold <= 1
            }
        })
        .map(|item| item.scored(sum(&item.row.view(), &tables)))
        .collect();
    for full in [false, true] {
        println!("-- {name}, {}", kind(full));
        Table {
            sources,
            scored: &scored,
            full,
            additional: false,
        }
        .print("model");
    }
    Ok(())
}

fn weights(draft: &Draft) {
    let scale = f32::from(draft.scales.first().copied().unwrap_or(0)) / 1024.0;
    for (index, row) in draft.weights.chunks(16).enumerate() {
        let Some((name, group)) = dimension(index) else {
            break;
        };
        let row: Vec<String> = row
            .iter()
            .map(|weight| format!("{:5.2}", f32::from(*weight) * scale))
            .collect();
        println!("{name:>15} {group:<12?} {}", row.join(" "));
    }
}

/// The benign URLs that score highest, for people to look at
fn highest(sources: &[Source], items: &[Item], scored: &[Scored]) {
    let mut highest: Vec<(i32, &Item)> = items
        .iter()
        .zip(scored)
        .filter(|(item, _)| !item.row.phish)
        .map(|(item, scored)| (scored.score, item))
        .collect();
    highest.sort_by_key(|(score, item)| (std::cmp::Reverse(*score), item.group.clone()));
    for (score, item) in highest.iter().take(30) {
        let source = sources
            .get(item.row.source)
            .map_or("", |source| &source.name);
        println!(
            "  {score:3} {source} {}{} {}",
            item.row.name(),
            item.row.path,
            item.row.query
        );
    }
}
