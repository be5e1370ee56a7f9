//! A gate that judges targets by a threat bundle that it fetches.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_corpus::envoy::config::named_cluster;
use serde_json::{Value, json};
use xtask::clock::Start;
use xtask::failure::{Failure, Result};
use xtask::process;

use crate::bootstrap;
use crate::bundle;
use crate::client::Connection;
use crate::key_service::{FILE, digest};
use crate::policy::{GOOD, HOST, key};

/// Where a target is taken to the upstream, unjudged.
pub(crate) const FORWARDED: &str = "/v1/forwarded";
/// Where the same is judged before it goes there.
pub(crate) const SCREENED: &str = "/v1/screened";
/// Where it is judged and answered.
pub(crate) const ANSWERED: &str = "/v1/answered";
/// The same as the first two of a list of targets.
pub(crate) const MANY: &str = "/v1/many";
pub(crate) const MANY_SCREENED: &str = "/v1/many-screened";

/// A million indicators are here within seconds, or do not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// The policy: routes that differ in nothing but what is judged. Without `refresh` there is no bundle.
pub(crate) fn policy(refresh: Option<&str>) -> Value {
    let known = json!({
        "id": "k_1",
        "sha256": digest(&the_key()),
        "principal": "acme",
        "tier": "basic",
    });
    let target = json!({ "target": { "type": "string", "required": true } });
    // So that the body is read on either route; it never comes.
    let other = json!({ "note": { "type": "string" } });
    // In shadow it is judged, and changes nothing of what becomes of the request.
    let screen = |field: &str| json!({ "judged": { "of": format!("body.{field}"), "block": "malicious", "mode": "shadow" } });
    let largest = json!({ "max": "1MiB" });
    let mut threat = json!({ "model": "quick/2" });
    if let (Some(refresh), Some(threat)) = (refresh, threat.as_object_mut()) {
        let source = json!({
            "cluster": "feeds",
            "path": FILE,
            "refresh": refresh,
            "signed_by": bundle::signer(),
        });
        threat.insert("licences".to_owned(), json!([bundle::LICENCE]));
        threat.insert("bundle".to_owned(), source);
    }
    json!({
        "version": 1,
        "revision": "bench",
        "apis": { "shop": {
            "hosts": [HOST],
            "keys": [known],
            "tiers": { "basic": { "rate": "unlimited" } },
            "routes": {
                "forwarded": { "match": format!("POST {FORWARDED}"), "body": largest, "fields": target },
                "screened": {
                    "match": format!("POST {SCREENED}"),
                    "body": largest,
                    "fields": target,
                    "screen": screen("target"),
                },
                "answered": {
                    "match": format!("POST {ANSWERED}"),
                    "body": largest,
                    "fields": target,
                    "verdict": { "of": "body.target", "on_unknown": "answer" },
                },
                "many": { "match": format!("POST {MANY}"), "body": largest, "fields": other },
                "many-screened": {
                    "match": format!("POST {MANY_SCREENED}"),
                    "body": largest,
                    "fields": other,
                    "screen": screen("targets"),
                },
            },
        } },
        "threat": threat,
    })
}

/// Envoy's configuration: the gate, and the service that has the bundle.
pub(crate) fn bootstrap(name: &str, module: &Path, policy: &Value, service: &Path) -> Value {
    let mut bootstrap = bootstrap::of(&[bootstrap::gate(name, module, policy)]);
    let clusters = json!([named_cluster("feeds", service)]);
    if let Some(resources) = bootstrap
        .pointer_mut("/static_resources")
        .and_then(Value::as_object_mut)
    {
        resources.insert("clusters".to_owned(), clusters);
    }
    bootstrap
}

/// The key that the policy knows.
pub(crate) fn the_key() -> String {
    key(GOOD, 1)
}

/// A body with one target.
pub(crate) fn body(target: &str) -> String {
    json!({ "target": target }).to_string()
}

/// Waits until a target is judged by feeds, and found to be this, so many times in a row: each time on a
/// connection of its own, so on every worker.
///
/// # Errors
///
/// When that takes too long.
pub(crate) fn wait_until(address: SocketAddr, target: &str, word: &str, times: u32) -> Result<()> {
    let start = Start::now();
    let mut in_a_row = 0_u32;
    let mut last = String::new();
    while in_a_row < times {
        if start.elapsed() > PATIENCE {
            return Err(Failure::new(
                format!("the gate does not find that {target} is {word}: {last}"),
                "read Envoy's log",
            ));
        }
        if process::stopped() {
            return Err(Failure::Stopped);
        }
        let verdict = Connection::open(address)
            .and_then(|mut connection| connection.post(HOST, ANSWERED, &the_key(), &body(target)))
            .map_err(|error| Failure::new(format!("a request: {error}"), "read Envoy's log"))?;
        last = String::from_utf8_lossy(&verdict.body).into_owned();
        let verdict: Value = serde_json::from_slice(&verdict.body).unwrap_or_default();
        let at = |place: &str| verdict.pointer(place);
        let is_found = at("/classification").is_some_and(|found| found == word)
            && at("/analysis/stale") == Some(&false.into());
        in_a_row = if is_found {
            in_a_row.saturating_add(1)
        } else {
            thread::sleep(Duration::from_millis(20));
            0
        };
    }
    Ok(())
}

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "a bundle is made at some time, and feeds are current until another"
)]
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
