//! Memory is bounded: that of the VM, and the shared data, which no host ever frees.

use std::time::Duration;

use portcullis_corpus::Profile;
use portcullis_host::{
    Disconnect, LogLevel, Plugin, RequestScript, Root, Settings, Side, StreamState, Worker,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::demo::{ACME, Demo, analyze, get, plugin};

const MANY: u32 = 10_000;

fn demo() -> Demo {
    Demo::new(Settings {
        log_level: LogLevel::Warn,
        trace: false,
        ..Settings::default()
    })
}

fn entries(demo: &Demo) -> usize {
    demo.world.shared_data().len(&demo.world.settings().vm_id)
}

/// Plays a request so often that whatever grows with them shows.
fn plays(demo: &mut Demo, mut play: impl FnMut(&mut Demo, u32)) {
    // Half: what is remembered of clients fills up slowly.
    let warm = MANY / 2;
    for n in 0..warm {
        play(demo, n);
    }
    let (memory, contexts) = (demo.worker().memory(), demo.worker().contexts());
    for n in warm..MANY {
        play(demo, n);
    }
    assert_eq!(demo.worker().memory(), memory, "linear memory grew");
    assert_eq!(demo.worker().contexts(), contexts, "contexts stayed");
    assert_eq!(demo.worker().traps(), []);
}

#[test]
fn streams_leave_nothing_behind() {
    let mut demo = demo();
    let big = analyze(ACME, "deep").piece(vec![b' '; 60_000]);
    plays(&mut demo, |demo, n| {
        demo.world.advance(Duration::from_secs(1));
        let root = demo.root;
        let worker = demo.worker();
        match n % 5 {
            0 => drop(demo.send(&get(ACME))),
            1 => drop(demo.send(&big)),
            2 => drop(demo.send(&analyze(ACME, "quick"))),
            // Clients go away before, in and after a body.
            3 => gone(worker, root, &big, Disconnect::AfterHeaders),
            _ => gone(worker, root, &big, Disconnect::AfterPieces(1)),
        }
    });
    // The epoch, the directory of accounts, and an account.
    assert_eq!(entries(&demo), 3);
}

fn gone(worker: &mut Worker, root: Root, request: &RequestScript, when: Disconnect) {
    let id = worker
        .send(root, &request.clone().disconnect(when))
        .unwrap();
    assert_eq!(worker.state(id), Ok(StreamState::Disconnected));
    worker.forget(id).unwrap();
}

#[test]
fn held_streams_are_let_go() {
    let mut demo = demo();
    let root = demo.root;
    let worker = demo.worker();
    let request = analyze(ACME, "quick");
    let mut peaks = Vec::new();
    for _ in 0..4 {
        let held: Vec<_> = (0..2000)
            .map(|_| {
                let id = worker.open(root, &request.properties).unwrap();
                let headers = request.headers.clone();
                worker.headers(id, Side::Request, headers, false).unwrap();
                let piece = request.body[0].clone();
                worker.data(id, Side::Request, piece, false).unwrap();
                id
            })
            .collect();
        peaks.push(worker.memory());
        for id in held {
            assert_eq!(worker.state(id), Ok(StreamState::Receiving));
            worker.forget(id).unwrap();
        }
    }
    assert_eq!(peaks[1], peaks[3], "{peaks:?}");
}

#[test]
fn wrong_keys_and_strangers_share_what_there_is() {
    const TABLE: usize = 1024;
    let mut demo = demo();
    let mut refused = 0;
    plays(&mut demo, |demo, n| {
        demo.world.advance(Duration::from_millis(1));
        let source = match n % 3 {
            0 => format!("[2001:db8:{:x}:{:x}::1]:9", n >> 8, n & 0xff),
            _ => format!("{}.{}.{}.7:9", 11 + (n >> 16), (n >> 8) & 0xff, n & 0xff),
        };
        let request = get(&format!("wrong-key-{n}")).source(source);
        let status = demo.send(&request).status();
        assert!([401, 429].contains(&status), "{status}");
        refused += u32::from(status == 401);
    });
    assert!(
        refused > MANY / 2,
        "most strangers have a bucket of their own"
    );
    let kept = entries(&demo);
    assert!((TABLE..=TABLE + 2).contains(&kept), "{kept} entries");
    // And none of it is in the way of a known key.
    assert_eq!(demo.send(&get(ACME)).status(), 200);
}

#[test]
fn updates_leave_nothing_behind() {
    let mut demo = demo();
    let mut after = Vec::new();
    for n in 0..500 {
        let profile = if n % 2 == 0 {
            Profile::Headers
        } else {
            Profile::Body
        };
        demo.root = demo.worker().configure(&plugin(profile)).unwrap();
        demo.send(&get(ACME));
        after.push(demo.worker().memory());
    }
    assert_eq!(after[250], after[499]);
    assert_eq!(demo.worker().contexts(), 1);
    assert_eq!(entries(&demo), 3);
}

/// Past `max_accounts`, principals share what there is.
#[test]
fn principals_are_counted() {
    const KNOWN: u32 = 500;
    const COUNTED: usize = 40;
    const OVERFLOW: usize = 64;
    let token = |n: u32| format!("key-of-{n}");
    let keys: Vec<_> = (0..KNOWN)
        .map(|n| {
            let digest = Sha256::digest(token(n));
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "id": format!("k{n}"), "principal": format!("p{n}"), "tier": "t", "sha256": digest })
        })
        .collect();
    let policy = json!({
        "version": 1,
        "max_accounts": COUNTED,
        "apis": { "shop": {
            "hosts": ["api.cybervault.io"],
            "tiers": { "t": { "rate": "1000/min" } },
            "keys": keys,
            "routes": { "all": { "match": "GET /v1/**" } },
        } },
    });
    let mut demo = Demo::with(
        Settings {
            log_level: LogLevel::Warn,
            trace: false,
            ..Settings::default()
        },
        &Plugin::new("portcullis", policy.to_string()),
    );
    for round in 0..20 {
        demo.world.advance(Duration::from_secs(1));
        for n in 0..KNOWN {
            let status = demo.send(&get(&token(n))).status();
            assert!(status == 200 || status == 429, "{round}: {status}");
        }
        let kept = entries(&demo);
        assert!(kept <= COUNTED + OVERFLOW + 2, "{kept} entries");
        assert!(kept > COUNTED + OVERFLOW / 2, "{kept} entries");
    }
    assert_eq!(demo.worker().traps(), []);
}
