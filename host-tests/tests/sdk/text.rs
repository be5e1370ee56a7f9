//! The SDK's getters panic on bytes that are no UTF-8 and on statuses that they don't expect. The
//! filter has its own of all of them, and its own do neither (statuses: see `hostile`).

use std::time::Duration;

use portcullis_host::{RequestScript, ResponseScript, Settings, headers};

use crate::{SECRET, get, send, world};

const BYTES: [&[u8]; 5] = [b"\xff\xfe", b"\x80", b"\xc3\x28", b"\x00", b"\xed\xa0\x80"];

#[test]
fn headers_that_are_no_text_are_headers() {
    let settings = Settings {
        upstream_codec: false,
        ..Settings::default()
    };
    let (mut world, root) = world(settings);
    for bytes in BYTES {
        world.advance(Duration::from_secs(60));
        let worker = world.worker(0).unwrap();
        let named = [b"x-".as_slice(), bytes].concat();
        let ours = [b"x-portcullis-".as_slice(), bytes].concat();
        let request = get()
            .header("x-a", bytes)
            .header(&named, "b")
            .header(&ours, bytes);
        let result = send(worker, root, &request);
        assert_eq!(result.status(), 200);
        let forwarded = result.forwarded.unwrap().headers;
        assert!(forwarded.contains(&(b"x-a".to_vec(), bytes.to_vec())));
        assert!(forwarded.contains(&(named.to_ascii_lowercase(), b"b".to_vec())));
        assert!(forwarded.iter().all(|(name, _)| *name != ours));

        // A zero byte is text, of a method that nobody knows.
        let method = if str::from_utf8(bytes).is_ok() {
            405
        } else {
            400
        };
        for (place, status) in [(":path", 400), (":method", method), (":authority", 400)] {
            let mut request = get();
            for (name, value) in &mut request.headers {
                if name == place.as_bytes() {
                    value.extend(bytes);
                }
            }
            let result = send(worker, root, &request);
            assert_eq!(result.status(), status, "{place} {}", bytes.escape_ascii());
            assert_eq!(result.forwarded, None);
        }
        let credential = [b"Bearer ".as_slice(), SECRET.as_bytes(), bytes].concat();
        let request = RequestScript::new("GET", "/items").header("authorization", credential);
        assert_eq!(send(worker, root, &request).status(), 401);
    }
    assert_eq!(world.worker(0).unwrap().traps(), []);
}

#[test]
fn bodies_and_trailers_that_are_no_text_are_refused_or_passed_on() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    for bytes in BYTES {
        let write = RequestScript::new("POST", "/write")
            .header("authorization", format!("Bearer {SECRET}"))
            .header("content-type", "application/json");
        let trailers = headers([(bytes, bytes), (b"x-portcullis-a", bytes)]);
        let result = send(worker, root, &write.clone().piece(bytes));
        assert_eq!(result.status(), 400);
        let good = write.piece(br#"{"a":"b"}"#).trailers(trailers);
        let result = send(worker, root, &good);
        assert_eq!(result.status(), 200);
        let passed = result.forwarded.unwrap().trailers.unwrap();
        assert_eq!(passed, [(bytes.to_ascii_lowercase(), bytes.to_vec())]);
    }
    assert_eq!(worker.traps(), []);
}

#[test]
fn responses_that_are_no_text_get_their_rate_headers() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    for bytes in BYTES {
        let id = worker.send(root, &get()).unwrap();
        let response = ResponseScript::new(200)
            .header("x-ratelimit-limit", bytes)
            .header(bytes, bytes)
            .trailers(headers([(bytes, bytes)]));
        worker.respond(id, &response).unwrap();
        let result = worker.result(id).unwrap();
        let limits: Vec<_> = result
            .response
            .as_ref()
            .unwrap()
            .all("x-ratelimit-limit")
            .collect();
        assert_eq!(limits, [b"100"]);
    }
    assert_eq!(worker.traps(), []);
}
