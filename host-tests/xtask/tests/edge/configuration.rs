//! What the configuration opens and what it refuses.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use portcullis_upstream::Upstream;
use xtask::capabilities;
use xtask::certificate::Certificate;
use xtask::demo::{self, Subject};
use xtask::edge::Edge;
use xtask::failure::Failure;
use xtask::http;
use xtask::template::{self, Policy, Settings};
use xtask::workspace::{self, Workspace};

use crate::stand::{KEY, Stand, config, demo_policy, envoy, folder, module};

#[test]
fn the_allow_list_is_exactly_what_the_module_imports_and_exports() {
    let workspace = Workspace::find().unwrap();
    let shipped = template::block(
        &workspace::read(&workspace.envoy_yaml()).unwrap(),
        "capabilities",
    )
    .unwrap();
    let module = capabilities::read(&fs::read(module()).unwrap()).unwrap();
    assert_eq!(
        shipped,
        capabilities::block(&module),
        "run `cargo xtask sync`"
    );
}

#[test]
fn the_admin_interface_only_tells() {
    let stand = Stand::start();
    let admin = stand.edge.admin();
    assert!(admin.ip().is_loopback());
    for (path, status) in [
        ("/ready", 200),
        ("/server_info", 200),
        ("/stats?filter=wasm", 200),
        ("/stats/prometheus", 200),
        ("/clusters", 200),
        ("/listeners?format=json", 200),
        ("/config_dump", 200),
        ("/", 403),
        ("/quitquitquit", 403),
        ("/logging", 403),
        ("/runtime_modify", 403),
        ("/cpuprofiler", 403),
        ("/drain_listeners", 403),
        ("/stats/recentlookups/clear", 403),
    ] {
        for method in ["GET", "POST"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let answer = http::ask(admin, request.as_bytes(), Duration::from_secs(20)).unwrap();
            assert_eq!(answer.status, status, "{method} {path}");
        }
    }
}

/// HTTPS only: what `up` gives to try, HTTP/2 and HTTP/1.1 by agreement, nothing older than TLS 1.2,
/// and no answer to plain HTTP.
#[test]
fn clients_come_by_tls() {
    let stand = Stand::start();
    let tls = stand.edge.tls();
    let trial = demo::trial_over_tls(Subject::Demo, &format!("https://{tls}"));
    let output = Command::new("sh").args(["-c", &trial.command]).output();
    let answer = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(
        answer.starts_with("HTTP/2 200 ") && answer.contains(r#"["x-forwarded-proto","https"]"#),
        "{answer}"
    );

    let certificate = Certificate::obtain(&Workspace::find().unwrap()).unwrap();
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let output = Command::new("curl")
            .args([flag, "--silent", "--show-error", "--max-time", "20"])
            .arg("--cacert")
            .arg(certificate.path())
            .args(["--write-out", "\n%{http_version} %{http_code}"])
            .args([
                "--resolve",
                &format!("api.cybervault.io:{}:127.0.0.1", tls.port()),
            ])
            .args(["--header", "authorization: Bearer demo-globex-enterprise"])
            .arg(format!(
                "https://api.cybervault.io:{}/v1/threats",
                tls.port()
            ))
            .output()
            .unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(
            answer.ends_with(&format!("\n{version} 200")) && answer.contains("globex"),
            "{answer} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    let handshake = |version: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &tls.to_string(), version])
            // This client's own minimum is no proof of the server's.
            .args(["-cipher", "DEFAULT:@SECLEVEL=0"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    assert!(handshake("-tls1_2").0, "{}", handshake("-tls1_2").1);
    let (agreed, said) = handshake("-tls1_1");
    assert!(!agreed && said.contains("alert protocol version"), "{said}");

    let plain = format!("GET /v1/threats HTTP/1.1\r\n{KEY}\r\n");
    let answer = http::ask(tls, plain.as_bytes(), Duration::from_secs(20));
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(stand.upstream.requests(), 3);
}

/// As text and as a Struct, an invalid policy does not start, and what is told is what to change.
#[test]
fn an_invalid_policy_is_refused_with_its_errors() {
    let yaml = demo_policy()
        .replace("1000/min", "1000/fortnight")
        .replace("unauthenticated:", "unauthenticatd:");
    let json = r#"{ "version": 1, "apis": { "a": { "hosts": ["a.example"], "tiers": { "t": { "rate": "1000/fortnight" } }, "keys": [], "routes": {} } }, "unauthenticatd": {} }"#;
    for policy in [Policy::Yaml(&yaml), Policy::Json(json)] {
        let config = config(Settings {
            policy: Some(policy),
            ..Settings::default()
        });
        let folder = folder();
        let Err(Failure::Told { what, .. }) = Edge::start(&envoy(), &config, &folder, Some(1))
        else {
            panic!("an invalid policy was taken");
        };
        assert!(
            what.contains(".rate") && what.contains("unauthenticatd"),
            "{what}"
        );
        assert_eq!(what.matches("unauthenticatd").count(), 1, "{what}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_policy_may_be_json_text() {
    let json = "{\n\t\"version\": 1,\n\t\"revision\": \"json-1\",\n\t\"apis\": { \"a\": { \"hosts\": [\"a.example\"],\n\t\t\"tiers\": { \"t\": { \"rate\": \"1000/min\" } }, \"keys\": [],\n\t\t\"routes\": { \"open\": { \"match\": \"GET /**\", \"auth\": \"none\", \"limits\": [] } } } }\n}\n";
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).unwrap();
    let settings = Settings {
        upstream_port: Some(upstream.address().port()),
        policy: Some(Policy::Json(json)),
        ..Settings::default()
    };
    let folder = folder();
    let edge = Edge::start(&envoy(), &config(settings), &folder, Some(1)).unwrap();
    let answer = http::ask(
        edge.address(),
        b"GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n",
        Duration::from_secs(20),
    )
    .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(edge);
    fs::remove_dir_all(folder).unwrap();
}
