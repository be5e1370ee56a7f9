//! Access to domains.

use portcullis_policy::{Decision, Lesson, MapStore, Moment, Reason};
use proptest::prelude::*;
use serde_json::json;

use crate::gate::{Ask, FULL, Gate, SECOND, key, policy};

/// Two workers with one store, under one policy
struct House {
    workers: [Gate; 2],
    store: MapStore,
    now: Moment,
}

/// A request that is on its way, or a response
#[derive(Clone, Debug)]
enum Event {
    /// Worker, principal, domain, spelling
    Visit(usize, bool, u8, u8),
    /// Worker, whether it gives or takes, domain, and the status; answered so many events later
    Change(usize, bool, u8, u16, usize),
    Pause(u64),
    /// A new configuration of the same content
    Reload,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let status = prop_oneof![3 => Just(200u16), 1 => Just(204), 1 => Just(302), 1 => Just(500)];
    let event = prop_oneof![
        4 => (0..2usize, any::<bool>(), 0..4u8, 0..4u8).prop_map(|(w, p, d, s)| Event::Visit(w, p, d, s)),
        4 => (0..2usize, any::<bool>(), 0..4u8, status, 0..6usize)
            .prop_map(|(w, gives, d, s, later)| Event::Change(w, gives, d, s, later)),
        2 => (1..40u64).prop_map(Event::Pause),
        1 => Just(Event::Reload),
    ];
    proptest::collection::vec(event, 1..120)
}

fn spelled(domain: u8, spelling: u8) -> String {
    let name = format!("d{domain}.acme.example");
    match spelling {
        0 => name,
        1 => name.to_uppercase(),
        2 => format!("{name}."),
        _ => name.replace('d', "D"),
    }
}

fn document() -> serde_json::Value {
    let mut document = policy(json!({
        "visit": { "match": "GET /sites/{domain}", "domain": "path.domain" },
        "add": { "match": "PUT /sites/{domain}", "grants": "path.domain" },
        "drop": { "match": "DELETE /sites/{domain}", "revokes": "path.domain" },
    }));
    let api = document.pointer_mut("/apis/api").unwrap();
    api["domain_access"] = json!({ "keep": "100s" });
    api["keys"] = json!([key("basic", "unlimited"), key("other", "unlimited")]);
    document
}

impl House {
    fn new() -> Self {
        let document = document();
        Self {
            workers: [Gate::new(&document), Gate::new(&document)],
            store: MapStore::default(),
            now: FULL,
        }
    }
}

/// A lesson that is on its way, with what the law needs of it
type Pending = (usize, usize, Box<Lesson>, u16, bool, usize, u64);

proptest! {
    /// On whichever worker, under whichever reload, in whichever spelling: a request for a domain goes on
    /// only if a success gave access to it that was asked for after the last success that took it was
    /// answered, and not too long ago; nobody else's does
    #[test]
    fn a_domain_without_a_grant_is_never_forwarded(events in events()) {
        let mut house = House::new();
        // Granted (asked for at) and revoked (answered at), by domain.
        let mut granted = [None::<u64>; 4];
        let mut revoked = [None::<u64>; 4];
        let mut pending: Vec<Pending> = Vec::new();
        for (number, event) in events.into_iter().enumerate() {
            house.now.monotonic += 1;
            let now = house.now;
            let due: Vec<_> = pending.extract_if(.., |(at, ..)| *at <= number).collect();
            for (_, worker, lesson, status, gives, domain, asked) in due {
                let gate: &mut Gate = &mut house.workers[worker];
                gate.engine.learn(&lesson, status, now, &mut house.store).unwrap();
                if (200..300).contains(&status) {
                    let seen: &mut Option<u64> = if gives { &mut granted[domain] } else { &mut revoked[domain] };
                    *seen = (*seen).max(Some(if gives { asked } else { now.monotonic }));
                }
            }
            match event {
                Event::Visit(worker, owner, domain, spelling) => {
                    let token = if owner { "basic" } else { "other" };
                    let path = format!("/sites/{}", spelled(domain, spelling));
                    let ask = Ask::new("GET", &path).key(token);
                    let outcome = house.workers[worker].ask(&ask, now, &mut house.store);
                    let (given, taken) = (granted[usize::from(domain)], revoked[usize::from(domain)]);
                    let lives = given.is_some_and(|at| now.monotonic - at < 100 * SECOND);
                    let expected = owner && lives && given > taken;
                    let forwarded = matches!(outcome.decision, Decision::Forward(_));
                    prop_assert_eq!(forwarded, expected, "{:?}", outcome.record.reason);
                    prop_assert_eq!(outcome.record.reason == Reason::DomainDenied, !expected);
                }
                Event::Change(worker, gives, domain, status, later) => {
                    let method = if gives { "PUT" } else { "DELETE" };
                    let ask = Ask::new(method, &format!("/sites/{}", spelled(domain, 0))).key("basic");
                    let outcome = house.workers[worker].ask(&ask, now, &mut house.store);
                    let lesson = outcome.lesson.expect("a success teaches");
                    let domain = usize::from(domain);
                    pending.push((number + later, worker, lesson, status, gives, domain, now.monotonic));
                }
                Event::Pause(seconds) => house.now.monotonic += seconds * SECOND,
                Event::Reload => house.workers[0].policy = crate::gate::parse(&document()).into(),
            }
        }
    }

    /// Whatever stands where the domain stands: it is judged, or refused as none
    #[test]
    fn nothing_that_is_named_slips_by(text in "\\PC{0,40}|[a-zA-Z0-9.%-]{0,40}") {
        let mut gate = Gate::new(&document());
        let ask = Ask::new("GET", &format!("/sites/{text}")).key("basic");
        let outcome = gate.ask(&ask, FULL, &mut MapStore::default());
        prop_assert!(!matches!(outcome.decision, Decision::Forward(_)), "{:?}", outcome.record);
    }
}
