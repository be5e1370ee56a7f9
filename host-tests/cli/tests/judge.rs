//! `portcullis judge`, run as people and pipelines run it.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("judge")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The objects of standard output, a line each
fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_line_of_input_is_a_target() {
    let input = "http://127.0.0.1/\r\n\nhttp://a.test\\@b.test/\"x\nplain text";
    let output = run(&["--json"], input);
    let objects = objects(&output);
    let internal =
        json!({ "target": "http://127.0.0.1/", "type": "url", "classification": "internal" });
    for (key, value) in internal.as_object().unwrap() {
        assert_eq!(&objects[0][key], value);
    }
    assert_eq!(objects[1]["target"], "http://a.test\\@b.test/\"x");
    let differential = json!({ "code": "PARSER_DIFFERENTIAL", "points": 45 });
    assert!(
        objects[1]["evidence"]
            .as_array()
            .unwrap()
            .contains(&differential)
    );
    assert_eq!(
        objects[2],
        json!({ "target": "plain text", "type": "payload", "classification": "unknown", "risk_score": 0,
            "categories": [], "evidence": [], "bundle": null })
    );
    assert_eq!((objects.len(), output.status.code()), (3, Some(0)));
}

#[test]
fn people_read_columns() {
    let output = run(&["10.0.0.1", "a\u{1b}[31mb"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = "internal     0  ipv4     10.0.0.1  ADDRESS_INTERNAL=0\n\
                    unknown      0  payload  a\\u{1b}[31mb\n";
    assert_eq!(text, expected);
}

#[test]
fn a_policy_has_its_lists_and_its_model() {
    let policy = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/cases/policies/threat.yaml"
    );
    let output = run(
        &[
            "--json",
            "--policy",
            policy,
            "http://evil.example/kit/a.php?id=1",
        ],
        "",
    );
    let object = &objects(&output)[0];
    assert_eq!(object["classification"], "malicious");
    assert_eq!(
        object["evidence"][0],
        json!({ "code": "FEED_MATCH", "points": 90 })
    );
    // Lists alone, where a policy names no model.
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/policy.yaml");
    let output = run(
        &["--json", "--policy", policy, "http://a.test\\@b.test/"],
        "",
    );
    assert_eq!(objects(&output)[0]["evidence"], json!([]));
}

#[test]
fn a_policy_has_the_feeds_that_come_with_it() {
    let judged = |name: &str, more: &[&str]| {
        let policies = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/cases/policies/"
        );
        let policy = format!("{policies}{name}.yaml");
        let output = run(&[&["--json", "--policy", &policy], more].concat(), "");
        objects(&output).remove(0)
    };
    let listed = judged("feeds", &["http://login.phish.example/"]);
    assert_eq!(
        (&listed["classification"], &listed["categories"]),
        (&json!("malicious"), &json!(["phishing"]))
    );
    let digest = listed["bundle"].as_str().unwrap();
    assert!(digest.starts_with("5c4a3e64"), "{digest}");
    // Too old to say anything, as in the gate.
    let aged = judged("feeds-aged", &["http://login.phish.example/"]);
    assert_eq!(
        (&aged["classification"], &aged["evidence"]),
        (
            &json!("unknown"),
            &json!([{ "code": "BUNDLE_STALE", "points": 0 }])
        )
    );
}

#[test]
fn what_cannot_be_used_is_named() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for flag in ["--bundle", "--policy"] {
        let output = run(&[flag, manifest, "x"], "");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.starts_with(&format!("portcullis: {manifest}: ")),
            "{error}"
        );
        assert_eq!((output.stdout.len(), output.status.code()), (0, Some(1)));
    }
}
