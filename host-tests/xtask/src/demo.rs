//! The commands that `up` gives to try.

/// A command on one line, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What to expect, in a few words.
    pub about: &'static str,
    /// Starts with `curl `.
    pub command: String,
}

/// Whose policy is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// examples/policy.yaml, whose keys are known.
    Demo,
    /// One that nothing is known of here.
    Other,
}

/// Commands to `address`, such as `http://127.0.0.1:10000`; at least three.
#[must_use]
pub fn trials(subject: Subject, address: &str) -> Vec<Trial> {
    let table = match subject {
        Subject::Demo => DEMO,
        Subject::Other => OTHER,
    };
    let trial = |(about, arguments): &(&'static str, &str)| Trial {
        about,
        command: format!("curl -i {address}{arguments}"),
    };
    table.iter().map(trial).collect()
}

/// The first command over TLS, to `address`, such as `https://127.0.0.1:10443`.
#[must_use]
pub fn trial_over_tls(subject: Subject, address: &str) -> Trial {
    let table = match subject {
        Subject::Demo => DEMO,
        Subject::Other => OTHER,
    };
    let arguments = table.first().map_or("/", |(_, arguments)| arguments);
    Trial {
        about: "over TLS; -k because nobody vouches for the demo's certificate",
        command: format!("curl -ik {address}{arguments}"),
    }
}

// The first three are the README's, to the letter.
const DEMO: &[(&str, &str)] = &[
    (
        "allowed: the demo upstream answers with what reached it",
        "/v1/threats -H 'Host: api.cybervault.io' -H 'Authorization: Bearer demo-acme-standard'",
    ),
    (
        "refused: no such key",
        "/v1/threats -H 'Host: api.cybervault.io' -H 'Authorization: Bearer wrong'",
    ),
    (
        "a malicious URL, judged inline",
        "/v1/threats/analyze -H 'Host: api.cybervault.io' -H 'Authorization: Bearer demo-acme-standard' -H 'Content-Type: application/json' -d '{\"target\":\"hxxp://malware[.]example/dropper.exe\"}'",
    ),
    (
        "refused: this key lacks the scope",
        "/v1/threats -H 'Host: api.cybervault.io' -H 'Authorization: Bearer demo-initech-readonly'",
    ),
    (
        "refused by the other API, in its own words: a key belongs to one API",
        "/api/user/domains -H 'Host: api.cyborux.com' -H 'Authorization: Bearer demo-acme-standard'",
    ),
];

const OTHER: &[(&str, &str)] = &[
    ("no key", "/ -H 'Host: HOST'"),
    (
        "a key of yours",
        "/ -H 'Host: HOST' -H 'Authorization: Bearer KEY'",
    ),
    (
        "a target to judge, where the policy has such a route",
        "/v1/threats/analyze -H 'Host: HOST' -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d '{\"target\":\"http://malware.example/\"}'",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_three_each_on_one_line() {
        for subject in [Subject::Demo, Subject::Other] {
            let trials = trials(subject, "http://127.0.0.1:7");
            assert!(trials.len() >= 3);
            for Trial { about, command } in trials {
                assert!(
                    command.starts_with("curl -i http://127.0.0.1:7/"),
                    "{command}"
                );
                assert!(!about.is_empty() && !about.contains('\n') && !command.contains('\n'));
            }
        }
    }

    #[test]
    fn one_goes_over_tls() {
        for subject in [Subject::Demo, Subject::Other] {
            let Trial { command, .. } = trial_over_tls(subject, "https://127.0.0.1:7");
            assert!(
                command.starts_with("curl -ik https://127.0.0.1:7/") && !command.contains('\n'),
                "{command}"
            );
        }
    }

    /// The demo policy holds digests only; its comment names the keys.
    #[test]
    fn the_demo_policy_knows_the_keys() {
        let policy = include_str!("../../../examples/policy.yaml");
        for trial in trials(Subject::Demo, "http://127.0.0.1:7") {
            for credential in trial.command.split("Bearer ").skip(1) {
                let (key, _) = credential.split_once('\'').unwrap();
                assert!(
                    key == "wrong" || policy.contains(&format!("\"{key}\"")),
                    "{key}"
                );
            }
        }
    }
}
