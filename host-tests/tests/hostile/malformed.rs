//! A host that hands over nonsense: maps, buffers, properties and records that are none.

use portcullis_corpus::Profile;
use portcullis_host::{
    CallSite, HostCall, Refusal, RequestScript, ResponseScript, Settings, StreamResult, Worker,
    headers,
};

use crate::{
    demo::{ACME, Demo, GLOBEX, analyze, get, plugin},
    random::Random,
};

/// The demo with a host that changes the bytes that one function hands over.
fn tampered(
    call: HostCall,
    mut change: impl FnMut(&mut Vec<u8>) + Send + 'static,
    request: &RequestScript,
) -> StreamResult {
    let mut demo = Demo::new(Settings::default());
    demo.worker().tamper(move |site: &CallSite, bytes| {
        if site.call == call {
            change(bytes);
        }
    });
    let result = demo.send(request);
    assert_eq!(demo.worker().traps(), []);
    result
}

/// Refused, and nothing went to the upstream.
fn assert_refused(result: &StreamResult, status: u16, what: &str) {
    assert_eq!(result.status(), status, "{what}: {result:?}");
    assert_eq!(result.forwarded, None, "{what}");
}

#[test]
fn a_map_that_ends_too_early_is_refused() {
    let size = {
        let pairs = get(ACME).headers;
        4 + pairs
            .iter()
            .map(|(name, value)| 8 + name.len() + value.len() + 2)
            .sum::<usize>()
    };
    let mut demo = Demo::new(Settings::default());
    for cut in 1..size {
        demo.worker().tamper(move |site, bytes| {
            if site.call == HostCall::GetHeaderMapPairs {
                assert_eq!(bytes.len(), size);
                bytes.truncate(cut);
            }
        });
        assert_refused(&demo.send(&get(ACME)), 503, &format!("cut at {cut}"));
    }
    assert_eq!(demo.worker().traps(), []);
}

#[test]
fn a_map_whose_numbers_are_wrong_is_refused() {
    for place in 0..12 {
        for number in [0x7f_u8, 0x80, 0xff] {
            let change = move |bytes: &mut Vec<u8>| bytes[place] = number;
            let result = tampered(HostCall::GetHeaderMapPairs, change, &get(ACME));
            let what = format!("{number} at {place}");
            assert_refused(&result, 503, &what);
        }
    }
    // No header at all is a request that can't be.
    let nothing = |bytes: &mut Vec<u8>| bytes.clear();
    let result = tampered(HostCall::GetHeaderMapPairs, nothing, &get(ACME));
    assert_refused(&result, 400, "nothing");
    let none = |bytes: &mut Vec<u8>| *bytes = vec![0; 4];
    let result = tampered(HostCall::GetHeaderMapPairs, none, &get(ACME));
    assert_refused(&result, 400, "no headers");
}

#[test]
fn trailers_that_cannot_be_read_do_not_pass() {
    let trailers = headers([("a", "b"), ("x-portcullis-key", "c")]);
    for mode in ["deep", "quick"] {
        let request = analyze(ACME, mode).trailers(trailers.clone());
        let mut maps = 0;
        let change = move |bytes: &mut Vec<u8>| {
            maps += 1;
            if maps == 2 {
                bytes.pop();
            }
        };
        let result = tampered(HostCall::GetHeaderMapPairs, change, &request);
        assert_refused(&result, 503, mode);
    }
}

#[test]
fn a_body_that_is_another_than_was_promised_is_judged_as_it_is() {
    for (what, status, body) in [
        ("nothing", 400, Vec::new()),
        ("half of it", 400, br#"{"target":"#.to_vec()),
        ("no text", 400, vec![0xff; 9]),
        ("too much", 413, vec![b' '; (64 << 10) + 1]),
        ("far too much", 413, vec![b'{'; 5 << 20]),
    ] {
        let change = move |bytes: &mut Vec<u8>| bytes.clone_from(&body);
        let result = tampered(HostCall::GetBufferBytes, change, &analyze(ACME, "deep"));
        assert_refused(&result, status, what);
    }
}

#[test]
fn an_address_that_is_none_is_nobodys() {
    let mut random = Random::new(1);
    for _ in 0..200 {
        let bytes = random.bytes(300);
        let change = move |address: &mut Vec<u8>| address.clone_from(&bytes);
        let result = tampered(HostCall::GetProperty, change, &get("unknown"));
        assert_refused(&result, 401, "an address");
    }
}

/// A policy with any byte of it gone, or another, is refused or it is some policy; then it decides.
#[test]
fn a_policy_with_a_broken_byte_is_refused_or_decides() {
    let mut demo = Demo::new(Settings {
        trace: false,
        ..Settings::default()
    });
    let mut random = Random::new(2);
    let (mut taken, mut refused) = (0, 0);
    for profile in [Profile::Headers, Profile::Body] {
        let good = plugin(profile);
        let length = good.configuration.len();
        for place in (0..length).step_by(7) {
            let mut broken = good.clone();
            if random.once_in(4) {
                broken.configuration.truncate(place);
            } else {
                broken.configuration[place] ^= 1 << random.below(8);
            }
            match demo.worker().configure(&broken) {
                Ok(root) => {
                    taken += 1;
                    demo.root = root;
                    demo.send(&get(ACME));
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.refusal, Refusal::Configure);
                    assert!(!error.logs.is_empty());
                }
            }
        }
    }
    assert_eq!(demo.worker().traps(), []);
    assert!(
        taken > 50 && refused > 50,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn records_that_others_wrote_never_open_anything() {
    let vm_id = Settings::default().vm_id;
    let mut random = Random::new(3);
    for _ in 0..300 {
        let mut demo = Demo::new(Settings::default());
        demo.send(&get(ACME));
        demo.send(&get("unknown"));
        for (key, value) in demo.world.shared_data().dump(&vm_id) {
            let mut value = value;
            match random.below(3) {
                0 => value.truncate(random.below(value.len())),
                1 => value = random.bytes(600),
                _ => {
                    let place = random.below(value.len());
                    value[place] ^= 1 << random.below(8);
                }
            }
            let data = demo.world.shared_data();
            data.set(&vm_id, &key, &value, 0).unwrap();
        }
        // A new worker finds them, the old one meets them again: what it knew may still serve it.
        let foreign = [demo.send(&get(ACME)), demo.send(&get(GLOBEX))];
        for result in foreign {
            assert!([200, 429, 503].contains(&result.status()), "{result:?}");
        }
        let unknown = demo.send(&get("unknown")).status();
        assert!([401, 429, 503].contains(&unknown), "{unknown}");
        let number = demo
            .world
            .add_worker(&crate::shipped::module().unwrap())
            .unwrap();
        let worker = demo.world.worker(number).unwrap();
        match worker.configure(&plugin(Profile::Headers)) {
            // The spoiled account is an empty bucket.
            Ok(root) => {
                let script = ResponseScript::default();
                let (_, result) = worker.request(root, &get(ACME), &script).unwrap();
                assert_refused(&result, 429, "a foreign record");
            }
            Err(error) => {
                let hint = error.to_string();
                assert!(hint.contains("give this one a vm_id of its own"), "{hint}");
            }
        }
        for worker in demo.world.workers() {
            assert_eq!(Worker::traps(worker), []);
        }
    }
}

#[test]
fn numbers_of_shared_values_wrap() {
    for last in [u32::MAX - 3, u32::MAX - 1, u32::MAX, 0] {
        let mut demo = Demo::new(Settings::default());
        demo.world.shared_data().set_last_cas(last);
        for _ in 0..6 {
            for request in [get(ACME), get(GLOBEX)] {
                assert_eq!(demo.send(&request).status(), 200, "after {last}");
            }
            assert_eq!(demo.send(&get("unknown")).status(), 401, "after {last}");
        }
    }
}

#[test]
fn a_clock_may_show_anything() {
    let mut random = Random::new(4);
    let mut demo = Demo::new(Settings::default());
    for round in 0..3000 {
        let far = match random.below(3) {
            0 => random.next(),
            1 => random.next() >> random.below(64),
            _ => u64::MAX - (random.next() >> random.below(64)),
        };
        if random.once_in(2) {
            demo.world.clock().set_wall(far);
        } else {
            demo.world.clock().set_monotonic(far);
        }
        for request in [get(ACME), get("unknown"), analyze(GLOBEX, "quick")] {
            let result = demo.send(&request);
            assert_eq!(result.trap, None, "{round}: {far}");
            let status = result.status();
            assert!([200, 401, 429].contains(&status), "{round}: {status}");
        }
    }
}
