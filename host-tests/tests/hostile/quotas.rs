//! What is reserved of a quota, when its stream ends in whatever way.

use portcullis_host::{
    Fault, HostCall, MapType, Plugin, ResponseScript, Settings, Status, StreamId, StreamState,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::demo::{Demo, ROOT, request};

const ALLOWANCE: u64 = 9;
const KEY: &str = "quota-key";

/// A worker whose one key has a quota, and a bucket in which it waits from the second request on
fn demo(mode: &str) -> Demo {
    let digest: String = Sha256::digest(KEY)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let policy = json!({
        "version": 1,
        "mode": mode,
        "quotas": { "store": "local" },
        "apis": { "api": {
            "hosts": ["*"],
            "tiers": { "plan": {
                "rate": "60/min", "burst": 2, "queue": { "max_wait": "60s" }, "quotas": { "items": ALLOWANCE },
            } },
            "keys": [{ "id": "k", "principal": "p", "tier": "plan", "sha256": digest }],
            "routes": {
                "items": { "match": "GET /items", "spend": "items", "limits": [] },
                "waits": { "match": "GET /waits", "spend": "items" },
            },
        } },
    });
    Demo::with(Settings::default(), &Plugin::new(ROOT, policy.to_string()))
}

impl Demo {
    fn begin(&mut self, path: &str) -> StreamId {
        let root = self.root;
        self.worker()
            .send(root, &request("GET", path, KEY))
            .unwrap()
    }

    fn finish(&mut self, id: StreamId, status: u16) {
        self.worker()
            .respond(id, &ResponseScript::new(status))
            .unwrap();
        self.worker().forget(id).unwrap();
    }

    /// What is left, by a request that is given back
    fn left(&mut self) -> u64 {
        let id = self.begin("/items");
        let logs = self.worker().result(id).unwrap().logs;
        self.finish(id, 400);
        let record = logs
            .iter()
            .find_map(|line| line.text.strip_prefix("decision "));
        let record: Value = serde_json::from_str(record.unwrap()).unwrap();
        record["quota_remaining"].as_u64().unwrap() + 1
    }

    fn settled(&mut self, word: &str) -> u64 {
        let name = format!("portcullis.quota.{word}");
        self.world.metrics().counter(&name).unwrap_or_default()
    }
}

#[test]
fn the_response_decides() {
    for mode in ["enforce", "observe"] {
        let mut demo = demo(mode);
        for (status, charged) in [(200, 1), (302, 2), (404, 2), (500, 2), (503, 2), (202, 3)] {
            let id = demo.begin("/items");
            demo.finish(id, status);
            assert_eq!(demo.left(), ALLOWANCE - charged, "{mode} {status}");
        }
        assert_eq!(demo.settled("committed"), 3);
        assert_eq!(demo.settled("released"), 3 + 6);
    }
}

/// Who went on and did not wait is charged, and so is what took too long: it may have been done.
#[test]
fn what_may_have_been_done_is_charged() {
    for mode in ["enforce", "observe"] {
        let mut demo = demo(mode);
        let id = demo.begin("/items");
        demo.worker().disconnect(id).unwrap();
        demo.worker().forget(id).unwrap();
        assert_eq!(demo.left(), ALLOWANCE - 1);
        let id = demo.begin("/items");
        demo.worker().time_out(id).unwrap();
        demo.worker().forget(id).unwrap();
        assert_eq!(demo.left(), ALLOWANCE - 2);
        // A host that says nothing of the response.
        let id = demo.begin("/items");
        let silent = Fault::new(HostCall::GetHeaderMapPairs, Status::NOT_FOUND);
        demo.worker().fault(silent.on_map(MapType::ResponseHeaders));
        demo.finish(id, 500);
        demo.worker().clear_faults();
        assert_eq!(demo.left(), ALLOWANCE - 3);
        assert_eq!(demo.settled("committed"), 3);
        let id = demo.begin("/items");
        demo.worker().upstream_reset(id).unwrap();
        demo.worker().forget(id).unwrap();
        assert_eq!(demo.left(), ALLOWANCE - 3, "an upstream that breaks off");
    }
}

/// Who never went on is charged nothing: not who leaves the queue, nor whom the host answers there.
#[test]
fn what_was_held_is_given_back() {
    let mut demo = demo("enforce");
    let first = demo.begin("/waits");
    demo.finish(first, 200);
    let held = [
        demo.begin("/waits"),
        demo.begin("/waits"),
        demo.begin("/waits"),
    ];
    for id in held {
        assert_eq!(demo.worker().state(id), Ok(StreamState::Held));
    }
    assert_eq!(demo.left(), ALLOWANCE - 4);
    demo.worker().disconnect(held[0]).unwrap();
    demo.worker().forget(held[0]).unwrap();
    assert_eq!(demo.left(), ALLOWANCE - 3);
    demo.worker().time_out(held[1]).unwrap();
    demo.worker().forget(held[1]).unwrap();
    assert_eq!(demo.left(), ALLOWANCE - 2);
    // Let go, and left alone by its client without another event.
    while demo.worker().state(held[2]) == Ok(StreamState::Held) {
        demo.world.advance(std::time::Duration::from_millis(5));
    }
    demo.worker().disconnect(held[2]).unwrap();
    demo.worker().forget(held[2]).unwrap();
    assert_eq!(demo.left(), ALLOWANCE - 2);
    assert_eq!(demo.settled("committed"), 2);
}

/// A store that does not take a release keeps the charge, and that is counted.
#[test]
fn what_the_store_does_not_take_stays_charged() {
    let mut demo = demo("enforce");
    let id = demo.begin("/items");
    demo.worker().fault(Fault::new(
        HostCall::SetSharedData,
        Status::INTERNAL_FAILURE,
    ));
    demo.finish(id, 500);
    demo.worker().clear_faults();
    assert_eq!(demo.left(), ALLOWANCE - 1);
    assert_eq!((demo.settled("kept"), demo.settled("committed")), (1, 0));
}

/// What can't be edited never goes on, and is charged nothing.
#[test]
fn what_could_not_be_edited_is_given_back() {
    let mut demo = demo("enforce");
    demo.worker().fault(Fault::new(
        HostCall::AddHeaderMapValue,
        Status::INTERNAL_FAILURE,
    ));
    let id = demo.begin("/items");
    assert_eq!(demo.worker().state(id), Ok(StreamState::Answered));
    demo.worker().clear_faults();
    demo.worker().forget(id).unwrap();
    assert_eq!(demo.left(), ALLOWANCE);
}
