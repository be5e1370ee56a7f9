//! `portcullis feed`, run as people and pipelines run it.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-feed-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("feed")
            .args(line.split(' '))
            .env("SOURCE_DATE_EPOCH", "1795219200")
            .current_dir(&self.0)
            .output()
            .unwrap()
    }

    /// Checks the exit status; what was printed is returned.
    #[track_caller]
    fn told(&self, line: &str, status: i32) -> String {
        let output = self.run(line);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{line}\n{stdout}\n{stderr}"
        );
        stdout + &stderr
    }

    #[track_caller]
    fn json(&self, line: &str, status: i32) -> Value {
        serde_json::from_str(&self.told(line, status)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// RFC 8410, section 10.3, and the public half of it.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

#[test]
fn from_a_manifest_to_a_bundle_that_is_verified() {
    let folder = Folder::new();
    folder.write("bad.txt", "evil.example\n192.0.2.7\ngithub.io\n10.0.0.1\n");
    folder.write("good.csv", "1,good.example\n2,vercel.app\n");
    folder.write(
        "feeds.yaml",
        "version: 1\nfeeds:\n- {path: bad.txt, name: ours, licence: CC0-1.0, category: phishing, confidence: 90, block_from: 90}\n- {path: good.csv, licence: MIT}\n",
    );
    folder.write("key.pem", PRIVATE);
    folder.write("key.pub", PUBLIC);
    let report = folder.json(
        "compile --manifest feeds.yaml -o b --sign-with key.pem --json",
        0,
    );
    let ours = &report["feeds"][0];
    assert_eq!(
        (&ours["indicators"], &ours["block"]),
        (&Value::from(2), &Value::from(2))
    );
    assert_eq!(
        ours["rejected"].to_string(),
        r#"{"bogon":1,"public_suffix":1}"#
    );
    assert_eq!(
        report["feeds"][1]["rejected"].to_string(),
        r#"{"public_suffix":1}"#
    );
    let digest = report["sha256"].as_str().unwrap();

    let verified = folder.json(
        "verify b --key key.pub --licence CC0-1.0 --licence MIT --json",
        0,
    );
    assert_eq!(verified["sha256"], digest);
    folder.told(&format!("verify b --sha256 {digest}"), 0);
    folder.told("verify b --sha256 00", 1);
    let refused = folder.told("verify b --licence MIT", 1);
    assert!(
        refused.contains("the licence of ours is CC0-1.0"),
        "{refused}"
    );
    assert!(
        folder
            .told("verify b --at 2027-11-22", 1)
            .contains("out of date since")
    );

    let seen = folder.json("inspect b --json", 0);
    assert_eq!(
        seen["signed_by"],
        "ed25519:19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    );
    assert_eq!(
        (&seen["deny"]["domains"], &seen["allow"]["domains"]),
        (&Value::from(1), &Value::from(1))
    );
    assert_eq!(seen["rows"][0]["category"], "phishing");

    let mut bytes = fs::read(folder.0.join("b")).unwrap();
    bytes[200] ^= 1;
    fs::write(folder.0.join("flipped"), bytes).unwrap();
    assert!(
        folder
            .told("verify flipped", 1)
            .contains("not those that were sealed")
    );
    assert!(
        folder
            .told("inspect bad.txt", 1)
            .contains("no threat bundle")
    );
}

#[test]
fn a_bundle_is_not_replaced_by_one_that_has_lost_half_of_a_feed() {
    let folder = Folder::new();
    let names = |count: u32| {
        (0..count)
            .map(|number| format!("n{number}.example\n"))
            .collect::<String>()
    };
    folder.write("secret", "ours");
    folder.write("list.txt", &names(40));
    folder.told("compile list.txt -o b --secret-file secret", 0);
    folder.told("compile list.txt -o old --secret-file secret", 0);
    let whole = fs::read(folder.0.join("b")).unwrap();
    folder.write("list.txt", &names(10));
    let refused = folder.json("compile list.txt -o b --secret-file secret --json", 1);
    assert_eq!(refused["written"], false);
    assert_eq!(fs::read(folder.0.join("b")).unwrap(), whole);
    folder.told("compile list.txt -o b --secret-file secret --force", 0);
    let differs = folder.json("diff old b --json", 0);
    assert_eq!(differs["keys"].to_string(), r#"{"came":0,"went":30}"#);
    assert!(
        folder
            .told("diff old b", 0)
            .contains("0 keys came, 30 went")
    );
}

#[test]
fn what_is_no_feed_replaces_no_bundle() {
    let folder = Folder::new();
    folder.write("list.txt", "one.example\ntwo.example\n");
    folder.told("compile list.txt -o b", 0);
    let whole = fs::read(folder.0.join("b")).unwrap();
    let page = "<!DOCTYPE html>\n<html><head><title>Log in</title></head>\n<body>\n<p>Please log in.</p>\n</body></html>\n";
    folder.write("list.txt", page);
    let told = folder.told("compile list.txt -o b", 1);
    assert!(told.contains("unlike a feed: list, "), "{told}");
    let refused = folder.json("compile list.txt -o b --json", 1);
    assert_eq!(refused["written"], false);
    assert_eq!(refused["unlike"].as_array().unwrap().len(), 1);
    assert_eq!(fs::read(folder.0.join("b")).unwrap(), whole);
    // What is empty, or out of date as a whole, is a feed all the same.
    folder.write("list.txt", "# nothing today\n");
    folder.told("compile list.txt -o empty", 0);
    fs::write(folder.0.join("list.gz"), b"\x1f\x8b\x08\0").unwrap();
    let told = folder.told("compile list.gz -o b", 1);
    assert!(
        told.contains("list.gz: is compressed: unpack it first"),
        "{told}"
    );
}

#[test]
fn a_format_overrides_what_a_content_looks_like() {
    let folder = Folder::new();
    // Rows of a blocklist that also look like those of a hosts file.
    folder.write("list.txt", "0.0.0.0 one.example\n0.0.0.0 two.example\n");
    let format = |line: &str| folder.json(line, 0)["feeds"][0]["format"].clone();
    assert_eq!(format("compile list.txt -o b --json"), "hosts");
    let report = folder.json("compile list.txt -o c --json --format plain --force", 0);
    assert_eq!(report["feeds"][0]["format"], "plain");
    let own = "compile FORMAT=hosts:list.txt -o b --json --format plain";
    assert_eq!(format(own), "hosts");
    let told = folder.told("compile list.txt -o b --format host", 2);
    assert!(told.contains("`host` is none of: adblock, "), "{told}");
}

#[test]
fn what_makes_no_sense_is_named() {
    let folder = Folder::new();
    folder.write("a.txt", "evil.example\n");
    for (line, status, message) in [
        ("compile a.txt", 2, "name what to read, and what to write"),
        ("compile -o b", 2, "name what to read, and what to write"),
        ("compile a.txt -o", 2, "-o needs a value"),
        ("compile a.txt --outptu b", 2, "unknown argument `--outptu`"),
        ("melt", 2, "unknown argument `melt`"),
        ("diff a", 2, "name what to read"),
        ("verify a --at yesterday", 2, "`yesterday` is no time"),
        ("compile none.txt -o b", 1, "none.txt: "),
        (
            "compile CONFIDENCE=high:a.txt -o b",
            1,
            "confidence: `high`",
        ),
        (
            "compile FORMAT=stix:a.txt -o b",
            1,
            "a.txt: not a STIX bundle",
        ),
        (
            "compile a.txt -o b --sign-with a.txt",
            1,
            "not a private key",
        ),
        ("help", 0, "usage: portcullis feed compile"),
        ("verify --help", 0, "usage: portcullis feed compile"),
    ] {
        let told = folder.told(line, status);
        assert!(told.contains(message), "{line}: {told}");
    }
    assert!(!folder.0.join("b").exists());
}
