//! What the shipped Envoy configuration repeats of other files.

#![expect(clippy::unwrap_used, reason = "test code")]

use xtask::demo::{self, Subject};
use xtask::template;
use xtask::workspace::{self, Workspace};

fn files() -> (String, String) {
    let workspace = Workspace::find().unwrap();
    let read = |path| workspace::read(path).unwrap();
    (read(&workspace.envoy_yaml()), read(&workspace.policy()))
}

/// `cargo xtask sync` writes it.
#[test]
fn the_shipped_policy_is_the_demo_policy() {
    let (envoy, policy) = files();
    assert_eq!(
        template::policy(&envoy).unwrap(),
        policy,
        "run `cargo xtask sync`"
    );
}

/// Every host of the policy has a mapper of local replies (that for other hosts has none).
#[test]
fn local_replies_know_the_hosts_of_the_policy() {
    let (envoy, policy) = files();
    let hosts: Vec<&str> = policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("hosts: [")?.strip_suffix(']'))
        .flat_map(|hosts| hosts.split(", "))
        .collect();
    for host in &hosts {
        let regex = format!("'(?i){}\\.?(:\\d+)?'", host.replace('.', "\\."));
        assert_eq!(envoy.matches(&regex).count(), 1, "{regex}");
    }
    assert_eq!(envoy.matches("name: \":authority\"").count(), hosts.len());
    assert!(!hosts.is_empty());
}

/// The seed's timeout, wherever a client or the upstream keeps the other waiting.
#[test]
fn timeouts_are_thirty_seconds() {
    let (envoy, _) = files();
    for timer in ["request_timeout", "stream_idle_timeout", "timeout"] {
        let shipped = format!(" {timer}: 30s");
        assert_eq!(envoy.matches(&shipped).count(), 1, "{timer}");
    }
}

/// What `up` gives to try is what the README tells the answers of.
#[test]
fn the_readme_shows_the_demo() {
    let readme = workspace::read(&Workspace::find().unwrap().join("README.md")).unwrap();
    for trial in demo::trials(Subject::Demo, "http://127.0.0.1:10000")
        .iter()
        .take(3)
    {
        assert!(
            readme.lines().any(|line| line == trial.command),
            "{}",
            trial.command
        );
    }
}
