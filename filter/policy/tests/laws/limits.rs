//! Limits by name: what is spent, by whom, and that all of them are spent or none.

use portcullis_policy::{Leases, MapStore, Reason, Step};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, SECOND, key, policy};

const PRINCIPALS: [&str; 2] = ["acme", "globex"];
/// Bursts of the tier and of each limit
const BURSTS: [u64; 4] = [12, 9, 7, 5];
const CAP: usize = 2;
const EXPIRES: u64 = 5 * SECOND;

fn document() -> Value {
    let said = json!({ "word": { "type": "string" } });
    let mut document = policy(json!({
        "all": { "match": "GET /all", "limits": ["tier", "mine", "address", "everybody", "slots"] },
        "few": { "match": "GET /few", "limits": ["mine", "address"] },
        "all_said": { "match": "POST /all", "limits": ["tier", "mine", "address", "everybody", "slots"], "fields": said },
        "few_said": { "match": "POST /few", "limits": ["mine", "address"], "fields": said },
        "open": { "match": "GET /open", "auth": "none", "limits": ["everybody", "address"] },
    }));
    let [tier, everybody, address, mine] = BURSTS;
    let rate = |burst: u64, per: &str| json!({ "rate": "60/min", "burst": burst, "per": per });
    let api = &mut document["apis"]["api"];
    api["tiers"] = json!({ "metered": { "rate": "60/min", "burst": tier } });
    api["keys"] = json!([key("acme", "metered"), key("globex", "metered")]);
    api["limits"] = json!({
        "everybody": rate(everybody, "api"),
        "address": rate(address, "client"),
        "mine": rate(mine, "principal"),
        "slots": { "concurrency": CAP, "expires": "5s", "per": "principal" },
    });
    document
}

/// Nanoseconds until each bucket is full
#[derive(Clone, Default)]
struct Model {
    tier: [u64; 2],
    everybody: u64,
    address: [u64; 2],
    mine: [u64; 2],
}

impl Model {
    fn pass(&mut self, time: u64) {
        let all = self.tier.iter_mut().chain(&mut self.address);
        for owed in all.chain(&mut self.mine).chain([&mut self.everybody]) {
            *owed = owed.saturating_sub(time);
        }
    }
}

fn spend(owed: &mut u64, burst: u64) -> bool {
    let passes = *owed + SECOND <= burst * SECOND;
    if passes {
        *owed += SECOND;
    }
    passes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever limits a route names and whichever worker decides: a request passes if all of them bear
    /// it, spends each once if it passes, and none if it doesn't; then its body is not read
    #[test]
    fn a_request_spends_all_its_limits_or_none(
        events in proptest::collection::vec(
            (0..3usize, 0..2usize, 0..2usize, 0..SECOND, any::<[bool; 2]>(), 0..2usize),
            1..80,
        ),
    ) {
        let mut workers = [Gate::new(&document()), Gate::new(&document())];
        let mut store = MapStore::default();
        let mut model = Model::default();
        let mut open: Vec<(usize, u64, Leases)> = Vec::new();
        let mut moment = FULL;
        for (route, principal, client, after, [stays_open, says], worker) in events {
            moment.monotonic += after;
            moment.decision += 1;
            model.pass(after);
            let mut next = model.clone();
            let [tier, everybody, address, mine] = BURSTS;
            let path = ["/all", "/few", "/open"][route];
            let says = says && path != "/open";
            let ask = Ask::new(if says { "POST" } else { "GET" }, path);
            let ask = if says { ask.json(&json!({ "word": "x" })) } else { ask };
            let ask = ask.from([192, 0, 2, u8::try_from(client).unwrap()]);
            let ask = if path == "/open" { ask } else { ask.key(PRINCIPALS[principal]) };
            let under_way = open
                .iter()
                .filter(|(who, until, _)| *who == principal && *until > moment.monotonic)
                .count();
            let address = spend(&mut next.address[client], address);
            let mut passes = address;
            let mut refused = Reason::RateLimited;
            match path {
                "/open" => passes &= spend(&mut next.everybody, everybody),
                "/few" => passes &= spend(&mut next.mine[principal], mine),
                _ => {
                    let rates = spend(&mut next.everybody, everybody)
                        & address
                        & spend(&mut next.mine[principal], mine);
                    let seated = under_way < CAP;
                    passes = rates & seated & spend(&mut next.tier[principal], tier);
                    if rates && !seated {
                        refused = Reason::ConcurrencyLimited;
                    }
                }
            }
            if passes {
                model = next;
            }
            if says {
                let mut looked_at = store.clone();
                let step = workers[worker].at_headers(&ask, moment, &mut looked_at);
                prop_assert_eq!(matches!(step, Step::AwaitBody(_)), passes);
                prop_assert_eq!(&looked_at.records, &store.records);
            }
            let outcome = workers[worker].ask(&ask, moment, &mut store);
            let allowed = if path == "/open" { Reason::Public } else { Reason::Allowed };
            let expected = if passes { allowed } else { refused };
            prop_assert_eq!(outcome.record.reason, expected, "{}", path);
            prop_assert_eq!(outcome.leases.is_empty(), !passes || path != "/all");
            if stays_open && !outcome.leases.is_empty() {
                open.push((principal, moment.monotonic + EXPIRES, outcome.leases));
            } else {
                outcome.leases.give_back(&mut store);
            }
            if open.len() > 3 {
                open.remove(0).2.give_back(&mut store);
            }
        }
    }
}
