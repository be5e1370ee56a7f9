//! A model's verdicts stay what they are: whoever names `quick/2` in a policy gets the same from every module.
//!
//! `golden/targets.txt` has a target a line, `golden/quick-N.txt` on the same line its type, classification, score and
//! evidence under that model, with the tables that come along.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

#[test]
fn the_verdicts_of_quick_1_stand() {
    check("quick-1");
}

#[test]
fn the_verdicts_of_quick_2_stand() {
    check("quick-2");
}

fn check(model: &str) {
    let targets = fs::read_to_string(golden("targets.txt")).unwrap();
    let expected = fs::read_to_string(golden(&format!("{model}.txt"))).unwrap();
    let found = judge(&golden(&format!("{model}.yaml")), &targets);
    let [targets, expected] = [&targets, &expected].map(|text| text.lines().collect::<Vec<_>>());
    assert_eq!(targets.len(), expected.len(), "a verdict a target");
    assert_eq!(found.len(), expected.len(), "a verdict a target");
    let changed: Vec<String> = targets
        .iter()
        .zip(expected.iter().zip(&found))
        .filter(|(_, (expected, found))| *expected != found)
        .map(|(target, (expected, found))| format!("{target}\n  {expected}\n  {found}"))
        .collect();
    assert!(
        changed.is_empty(),
        "verdicts under {model} have changed: mend that, or give the new ones a model of their own\n{}",
        changed.join("\n")
    );
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn judge(policy: &Path, targets: &str) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["judge", "--json", "--policy"])
        .arg(policy)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || input.write_all(targets.as_bytes()).unwrap());
        child.wait_with_output().unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(line).collect()
}

fn line(json: &str) -> String {
    let verdict: Value = serde_json::from_str(json).unwrap();
    let word = |name: &str| verdict[name].as_str().unwrap_or_default().to_owned();
    let mut words = vec![
        word("type"),
        word("classification"),
        verdict["risk_score"].to_string(),
    ];
    for evidence in verdict["evidence"].as_array().unwrap() {
        let code = evidence["code"].as_str().unwrap();
        words.push(format!("{code}={}", evidence["points"]));
    }
    words.join(" ")
}
