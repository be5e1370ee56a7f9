//! `mode: observe`, whatever comes: what passes, either way, is what would pass if the gate were switched off.

use portcullis_corpus::{Document, Profile, wire::Arrival};
use portcullis_host::{
    Module, Plugin, RequestScript, ResponseScript, Root, Settings, StreamResult, World,
};

use crate::{demo::corpus, random::Random, shipped, traffic::Traffic};

/// For each policy of the corpus.
const REQUESTS: usize = 100;

/// Requests of the corpus bent out of shape, in more pieces, with claims in headers and trailers; answers in pieces, with
/// headers that are the gate's where it binds.
#[test]
fn observing_changes_nothing_of_whatever_comes() {
    let corpus = corpus();
    let module = shipped::module().unwrap();
    let traffic = Traffic::new(corpus);
    let mut random = Random::new(11);
    let (mut forwarded, mut pieces, mut trailers) = (0, 0, 0);
    for (name, document) in &corpus.documents {
        let mut watching = stand(&module, document, "observe");
        let mut off = stand(&module, document, "disabled");
        for _ in 0..REQUESTS {
            let mut arrival = traffic.pick(name, &mut random);
            traffic.bend(&mut arrival.headers, &mut random);
            if random.once_in(2) {
                arrival.body.push(random.bytes(9000));
                arrival.body.insert(0, random.bytes(9000));
                pieces += 1;
            }
            if !arrival.body.is_empty() && random.once_in(2) {
                arrival.trailers = traffic.trailers(&mut random);
                trailers += 1;
            }
            let answer = answer(&mut random);
            let [seen, unseen] =
                [&mut watching, &mut off].map(|stand| exchange(stand, &arrival, &answer));
            let at = format!("{name}: {arrival:?}");
            assert_eq!(seen.forwarded, unseen.forwarded, "{at}");
            assert_eq!(seen.response, unseen.response, "{at}");
            assert_eq!(seen.violations, unseen.violations, "{at}");
            forwarded += usize::from(seen.forwarded.is_some());
        }
        assert_eq!(watching.0.worker(0).unwrap().traps(), [], "{name}");
    }
    let all = REQUESTS * corpus.documents.len();
    assert!(forwarded > all / 2, "{forwarded} of {all}");
    assert!(
        pieces > all / 3 && trailers > all / 5,
        "{pieces}, {trailers}"
    );
}

/// A world with one worker under a policy in this mode.
fn stand(module: &Module, document: &Document, mode: &str) -> (World, Root) {
    let mut world = World::new(Settings {
        upstream_codec: false,
        environment: portcullis_corpus::environment(),
        trace: false,
        ..Settings::default()
    });
    world.add_worker(module).unwrap();
    let mut policy = document.in_profile(Profile::Headers);
    policy["mode"] = mode.into();
    // It belongs to what is enforced.
    policy.as_object_mut().unwrap().remove("rollout");
    let plugin = Plugin::new("gate", policy.to_string());
    let root = world.worker(0).unwrap().configure(&plugin).unwrap();
    (world, root)
}

fn answer(random: &mut Random) -> ResponseScript {
    let status = *random.pick(&[200, 204, 207, 301, 404, 429, 503]);
    let mut answer = ResponseScript::new(status)
        .header("x-ratelimit-remaining", "the upstream's")
        .header("x-portcullis-decision", "the upstream's")
        .header("ratelimit", "\"x\";r=1")
        .header("content-type", "application/json");
    for _ in 0..random.below(3) {
        answer = answer.piece(random.bytes(3000));
    }
    answer
}

fn exchange(
    (world, root): &mut (World, Root),
    arrival: &Arrival,
    answer: &ResponseScript,
) -> StreamResult {
    let mut request = RequestScript::from_headers(arrival.headers.clone());
    request.body.clone_from(&arrival.body);
    if !arrival.trailers.is_empty() {
        request = request.trailers(arrival.trailers.clone());
    }
    if let Some(address) = arrival.source_address() {
        request = request.source(address);
    }
    let worker = world.worker(0).unwrap();
    let (id, result) = worker.request(*root, &request, answer).unwrap();
    worker.forget(id).unwrap();
    result
}
