//! Keys, made and told on the command line.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// A folder that goes with the test.
struct Folder(PathBuf);

/// What a command has said, and how it ended.
#[derive(Debug)]
struct Said {
    out: Vec<u8>,
    error: String,
    code: Option<i32>,
}

impl Folder {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-keys-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, value: &Value) -> Self {
        fs::write(self.0.join(name), value.to_string()).unwrap();
        self
    }

    fn run(&self, line: &str, input: &str) -> Said {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("keys")
            .args(line.split_whitespace())
            .env("PEPPER", "a pepper of the tests")
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may be gone.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            out: output.stdout,
            error: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }

    fn good(&self, line: &str, input: &str) -> Vec<u8> {
        let said = self.run(line, input);
        assert_eq!((said.error.as_str(), said.code), ("", Some(0)), "{line}");
        said.out
    }

    /// Checks that a command fails, and that this is in what it says.
    #[track_caller]
    fn bad(&self, line: &str, input: &str, code: i32, part: &str) {
        let said = self.run(line, input);
        assert_eq!((said.out.len(), said.code), (0, Some(code)), "{said:?}");
        assert!(said.error.contains(part), "{}", said.error);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// SHA-256 of `abc` (FIPS 180-4).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn a_digest_is_made_of_standard_input() {
    let folder = Folder::new();
    for input in ["abc", "abc\n", "abc\r\n"] {
        let said = folder.good("hash", input);
        assert_eq!(String::from_utf8(said).unwrap(), format!("sha256: {ABC}\n"));
    }
    let said: Value = serde_json::from_slice(&folder.good("hash --json", "abc")).unwrap();
    assert_eq!(said, json!({ "sha256": ABC }));
    let peppered = folder.good("hash --json --pepper-env PEPPER", "abc");
    let said: Value = serde_json::from_slice(&peppered).unwrap();
    let digest = said["hmac_sha256"].as_str().unwrap();
    assert!(digest.len() == 64 && digest != ABC, "{digest}");
    folder.bad("hash", "", 1, "must be one key");
    folder.bad("hash", "a b", 1, "must be one key");
    folder.bad("hash", &"a".repeat(257), 1, "at most 256 bytes");
    folder.bad(
        "hash --pepper-env NO_SUCH_PEPPER",
        "abc",
        1,
        "no environment variable `NO_SUCH_PEPPER`",
    );
}

/// Who writes a key where it does not belong must not read it in a build's log.
#[test]
fn a_key_among_the_arguments_is_not_echoed() {
    let said = Folder::new().run("hash tk_secret", "");
    assert_eq!(said.code, Some(2));
    assert!(!said.error.contains("tk_secret"), "{}", said.error);
    assert!(said.error.contains("standard input"), "{}", said.error);
}

#[test]
fn a_new_key_is_another_one_each_time_and_fits_its_digest() {
    let folder = Folder::new();
    let new = || {
        let said = folder.good("new --label shop-live --json", "");
        let said: Value = serde_json::from_slice(&said).unwrap();
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        (text("key"), text("sha256"))
    };
    let (key, digest) = new();
    assert!(
        key.starts_with("pck_shop-live_") && key.len() == 53,
        "{key}"
    );
    assert_ne!(new().0, key);
    let hashed = String::from_utf8(folder.good("hash", &key)).unwrap();
    assert_eq!(hashed, format!("sha256: {digest}\n"));
    folder.bad("new --label Shop", "", 1, "a label is");
    folder.bad("new", "", 2, "--label is missing");
}

fn document() -> Value {
    json!({
        "api": "shop",
        "revision": "r7",
        "generated_at": "2026-11-22T06:00:00Z",
        "keys": [
            { "id": "k1", "sha256": ABC, "principal": "acme", "tier": "gold", "scopes": ["read"] },
            { "id": "k2", "sha256": ABC.replace("ba", "bb"), "principal": "globex", "tier": "gold", "expires": "2027-01-01T00:00:00Z" },
        ],
    })
}

fn policy() -> Value {
    json!({ "version": 1, "apis": { "shop": {
        "hosts": ["shop.example"],
        "keys": [],
        "tiers": { "gold": { "rate": "10/min" } },
        "routes": { "list": { "match": "GET /", "scope": "read" } },
    } } })
}

#[test]
fn the_same_keys_make_the_same_bundle() {
    let mut turned = document();
    turned["keys"].as_array_mut().unwrap().reverse();
    let folder = Folder::new()
        .with("keys.json", &document())
        .with("turned.json", &turned)
        .with("policy.json", &policy());
    let bundle = folder.good("bundle keys.json", "");
    assert_eq!(folder.good("bundle turned.json", ""), bundle);
    assert_eq!(
        folder.good("bundle --policy policy.json keys.json", ""),
        bundle
    );
    let later = folder.good("bundle --generated-at 2026-11-22T06:00:01Z keys.json", "");
    assert_ne!(later, bundle);
    folder.good("bundle --output out.pck keys.json", "");
    assert_eq!(fs::read(folder.0.join("out.pck")).unwrap(), bundle);

    let said = String::from_utf8(folder.good("inspect out.pck", "")).unwrap();
    assert_eq!(
        said,
        format!(
            "api shop, revision r7, generated at 2026-11-22T06:00:00Z, 2 keys by sha256, {} bytes\nk1  acme  gold\nk2  globex  gold\n",
            bundle.len()
        )
    );
    let said = folder.good("inspect --json out.pck", "");
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["revision"], "r7");
    assert_eq!(said["keys"][0]["scopes"], json!(["read"]));
    assert!(!said.to_string().contains(ABC));
    fs::write(folder.0.join("cut.pck"), &bundle[..bundle.len() - 1]).unwrap();
    folder.bad("inspect cut.pck", "", 1, "cut_short");
}

#[test]
fn what_a_policy_would_refuse_makes_no_bundle() {
    let check = |change: &dyn Fn(&mut Value), line: &str, part: &str| {
        let mut document = document();
        change(&mut document);
        let folder = Folder::new()
            .with("keys.json", &document)
            .with("policy.json", &policy());
        folder.bad(line, "", 1, part);
    };
    let (alone, with_policy) = ("bundle keys.json", "bundle --policy policy.json keys.json");
    check(
        &|d| d["keys"][1]["sha256"] = ABC.into(),
        alone,
        "keys[1]: the key `k1` has the same digest",
    );
    check(
        &|d| d["keys"][1]["id"] = "k1".into(),
        alone,
        "keys[1]: another key has the id `k1`",
    );
    check(
        &|d| d["keys"][0]["expires"] = "soon".into(),
        alone,
        "keys[0].expires: must be an instant",
    );
    check(
        &|d| d["keys"][0]["tires"] = "x".into(),
        alone,
        "keys[0].tires: unknown field",
    );
    check(&|d| d["kyes"] = json!([]), alone, "kyes: unknown field");
    check(
        &|d| d["api"] = "chop".into(),
        with_policy,
        "the policy has no API `chop`",
    );
    check(
        &|d| d["keys"][0]["tier"] = "silver".into(),
        with_policy,
        "keys[0].tier: there is no such tier",
    );
    check(
        &|d| d["keys"][0]["scopes"] = "write".into(),
        with_policy,
        "records[0].scopes: no route",
    );
}
