//! The command, run as people and pipelines run it.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-check-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::write(self.0.join(name), text).unwrap();
        self
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(arguments)
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may be gone.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Checks standard output and the exit status.
    #[track_caller]
    fn check(&self, arguments: &[&str], stdout: &str, status: i32) {
        let output = self.run(arguments, "");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), stdout);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(output.status.code(), Some(status));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const POLICY: &str = r#"version: 1
revision: r1
apis:
  shop:
    hosts: [shop.example]
    tiers:
      basic: { rate: 100/min }
    keys:
      - { id: k1, sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b, principal: acme, tier: basic }
    routes:
      items: { match: "GET /items/**" }
"#;

#[test]
fn a_good_policy_is_said_to_be_good() {
    let folder = Folder::new().with("p.yaml", POLICY);
    folder.check(
        &["check", "--strict", "p.yaml"],
        "p.yaml: valid, revision r1, apis: shop\n",
        0,
    );
}

#[test]
fn every_error_is_underlined() {
    let bad = POLICY
        .replace("100/min", "100/fortnight")
        .replace("tier: basic", "tiers: basic")
        .replace("    hosts: [shop.example]\n", "")
        .replace("routes:", "rootes:");
    let folder = Folder::new().with("p.yaml", &bad);
    let expected = "\
error: apis.shop.hosts: is required
 --> p.yaml:4:3
  |
4 | shop
  | ^^^^

error: apis.shop.keys[0].tier: is required
 --> p.yaml:8:9

error: apis.shop.keys[0].tiers: unknown field; known here: anchor, domains, expires, id, networks, not_before, packs, period, plan, principal, quotas, scopes, sha256, state, tier
 --> p.yaml:8:110
  |
8 | tiers
  | ^^^^^

error: apis.shop.rootes: unknown field; known here: anonymous, credential, dialect, domain_access, hosts, identity, keys, limits, preflight, rate_headers, routes, tiers, unmatched
 --> p.yaml:9:5
  |
9 | rootes
  | ^^^^^^

error: apis.shop.routes: is required
 --> p.yaml:4:3
  |
4 | shop
  | ^^^^

error: apis.shop.tiers.basic.rate: `100/fortnight` is not a rate: write `1000/min`, `5/60s` or `unlimited`
 --> p.yaml:6:22
  |
6 | rate: 100/fortnight
  |       ^^^^^^^^^^^^^

";
    let output = folder.run(&["check", "p.yaml"], "");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with(expected), "{said}");
    assert!(said.contains("p.yaml: refused; 6 errors"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn warnings_fail_only_when_asked_to_and_notes_never() {
    let opened = format!(
        "{POLICY}      webhook: {{ match: POST /webhook, auth: none, limits: [unauthenticated] }}\n"
    );
    let note = "\
note: apis.shop.routes.webhook: open to everybody, spends the unauthenticated bucket
  --> p.yaml:12:7
   |
12 | webhook
   | ^^^^^^^

";
    let folder = Folder::new().with("p.yaml", &opened);
    let said = format!("{note}p.yaml: valid, revision r1, apis: shop; 1 note\n");
    folder.check(&["check", "--strict", "p.yaml"], &said, 0);

    let folder = Folder::new().with("p.yaml", &format!("{POLICY}revoked: [k2]\n"));
    let said = "\
warning: revoked[0]: no key has the id `k2`
  --> p.yaml:12:11
   |
12 | k2
   | ^^

p.yaml: valid, revision r1, apis: shop; 1 warning
";
    folder.check(&["check", "p.yaml"], said, 0);
    folder.check(&["check", "--strict", "p.yaml"], said, 1);
}

#[test]
fn words_that_envoy_reads_as_booleans_are_named() {
    let folder = Folder::new().with("p.yaml", &POLICY.replace("acme", "off"));
    let output = folder.run(&["check", "p.yaml"], "");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains(
            "warning: apis.shop.keys[0].principal: is true or false for other YAML readers"
        ),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_no_document_is_placed() {
    let folder = Folder::new()
        .with("p.yaml", "version: 1\nversion: 2\n")
        .with("p.json", "{\n  \"version\": 1,\n  \"version\": 2\n}\n");
    for (file, message, place) in [
        (
            "p.yaml",
            "error: the policy is not valid YAML: ",
            "--> p.yaml:2:1\n",
        ),
        (
            "p.json",
            "error: the policy is not valid JSON: the key `version` appears twice",
            "--> p.json:3:11\n",
        ),
        ("gone.yaml", "error: can't be read: ", "--> gone.yaml\n"),
    ] {
        let output = folder.run(&["check", file], "");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with(message) && said.contains(place), "{said}");
        assert!(
            said.ends_with(&format!("{file}: refused; 1 error\n")),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}

#[test]
fn machines_get_json_of_all_files() {
    let folder = Folder::new().with("p.yaml", POLICY);
    let bad = r#"{ "version": 2, "apis": {} }"#;
    let output = folder.run(&["check", "--json", "p.yaml", "-"], bad);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        said,
        json!([
            { "file": "p.yaml", "valid": true, "revision": "r1", "findings": [] },
            { "file": "-", "valid": false, "revision": null, "findings": [{
                "severity": "error",
                "path": "version",
                "message": "must be a whole number from 1 to 1, not a number",
                "line": 1,
                "column": 14,
            }] },
        ])
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Whoever writes a key where its digest belongs does not read it in a build's log.
#[test]
fn a_key_is_never_shown() {
    const SECRET: &str = "sk-live-canary";
    let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let yaml = [
        POLICY.replace(digest, SECRET),
        POLICY.replace("sha256:", &format!("secret: {SECRET}, sha256:")),
        POLICY.replace("    keys:\n", &format!("    key: {SECRET}\n    keys:\n")),
        POLICY.replace("- { id: k1", &format!("- {SECRET}\n      - {{ id: k1")),
        POLICY.replace("tier: basic }", &format!("tier: basic }} {SECRET}")),
    ];
    for text in &yaml {
        let folder = Folder::new().with("p.yaml", text);
        for arguments in [&["check", "p.yaml"][..], &["check", "--json", "p.yaml"]] {
            let output = folder.run(arguments, "");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(!said.contains(SECRET), "{said}");
        }
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_told() {
    let output = Folder::new().run(&["check"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("portcullis: check: name at least one policy\n\nusage: "),
        "{said}"
    );
}

/// The shipped policies are good, and say of themselves what they open.
#[test]
fn the_demo_is_valid() {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policy.yaml");
    let output = Folder::new().run(&["check", "--json", policy.to_str().unwrap()], "");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = said.pointer("/0/findings").unwrap().as_array().unwrap();
    let found: Vec<&str> = findings
        .iter()
        .map(|finding| finding.get("path").unwrap().as_str().unwrap())
        .collect();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        found,
        [
            "apis.cybervault.keys[3]",
            "apis.cyborux.tiers.basic",
            "apis.cyborux.tiers.vigilant",
            "apis.cyborux.routes.webhook",
            "probes.exempt[0]",
            "quotas.store",
        ]
    );
}
