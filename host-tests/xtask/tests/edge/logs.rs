//! What the access log and the statistics tell.

use std::fs;
use std::time::Duration;

use xtask::edge;
use xtask::http;
use xtask::template::Settings;

use crate::stand::{Stand, config, envoy, folder};

/// A client can't write its own name into the log, nor its key.
#[test]
fn the_access_log_believes_the_gate_only() {
    let mut stand = Stand::start();
    let forged = "x-portcullis-principal: forged\r\nx-portcullis-decision: forged\r\n";
    assert_eq!(stand.get("/v1/a?token=secret", forged).status, 200);
    let refused = format!("GET /v1/a HTTP/1.1\r\nhost: api.cybervault.io\r\n{forged}\r\n");
    let refused = stand.ask(refused);
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(stand.get("/v1/a%2fb", forged).status, 400);

    let log = stand.access_log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    for word in ["forged", "secret", "demo-globex"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    let decision = format!(
        r#""decision":"{}""#,
        refused.header("x-portcullis-decision").unwrap()
    );
    for (line, words) in lines.iter().zip([
        [
            r#""principal":"globex""#,
            r#""path":"/v1/a""#,
            r#""status":200"#,
        ],
        [&decision, r#""principal":"""#, r#""status":401"#],
        [
            r#""details":"path_normalization_failed""#,
            r#""principal":"""#,
            r#""status":400"#,
        ],
    ]) {
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
    // The gate's record is an object in the line; what Envoy refused has none.
    let [forwarded, refused, early] = lines.try_into().unwrap();
    for (line, record) in [
        (forwarded, r#""reason":"allowed","remaining":"#),
        (refused, r#""reason":"credential_missing","remaining":"#),
        (early, r#""gate":null"#),
    ] {
        assert!(line.contains(record), "{record}: {line}");
    }
    for word in [
        r#""gate":{"api":"cybervault""#,
        r#""key":"k_globex_1""#,
        r#""rule":"apis.cybervault.routes.read""#,
        r#""policy":"demo-1""#,
        r#""v":1"#,
    ] {
        assert!(forwarded.contains(word), "{word}: {forwarded}");
    }
}

#[test]
fn the_gates_counters_are_labelled() {
    let stand = Stand::start();
    assert_eq!(stand.get("/v1/a", "").status, 200);
    assert_eq!(
        stand
            .ask("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")
            .status,
        404
    );
    let request = b"GET /stats/prometheus HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let stats = http::ask(stand.edge.admin(), request, Duration::from_secs(20)).unwrap();
    let mut ours = stats
        .body
        .lines()
        .filter(|line| line.starts_with("portcullis_decisions{"));
    for labels in [
        &[
            r#"api="cybervault""#,
            r#"route="read""#,
            r#"reason="allowed""#,
        ][..],
        &[r#"reason="host_unknown""#],
    ] {
        let has_all =
            |line: &str| line.ends_with(" 1") && labels.iter().all(|label| line.contains(label));
        assert!(
            ours.clone().any(has_all),
            "{labels:?}: {:?}",
            ours.collect::<Vec<_>>()
        );
    }
    assert_eq!(ours.by_ref().count(), 2);
}

/// The access log over gRPC is shipped as comments: without them Envoy takes it.
#[test]
fn the_access_log_over_grpc_is_valid_when_it_is_switched_on() {
    let mut switched = String::new();
    let (mut inside, mut lines) = (false, 0);
    for line in config(Settings::default()).lines() {
        match line.trim() {
            "# @als-begin" => inside = true,
            "# @als-end" => inside = false,
            _ if inside => {
                switched.push_str(&line.replacen("# ", "", 1));
                lines += 1;
            }
            _ => switched.push_str(line),
        }
        switched.push('\n');
    }
    assert!(lines > 15 && !inside, "{lines} lines");
    let folder = folder();
    edge::validate(&envoy(), &switched, &folder).unwrap();
    fs::remove_dir_all(folder).unwrap();
}
