//! Keys are said nowhere: not when all goes well (the ring looks at that), and not when the host
//! fails in any way that it can.

use std::{collections::BTreeSet, time::Duration};

use portcullis_corpus::{Protocol, Step, wire::Arrival};
use portcullis_host::{
    Callback, CalloutReply, HostCall, Plugin, RequestScript, ResponseScript, Root, Settings,
    StreamId, Worker, World,
};

use crate::{demo::corpus, random::Random, shipped, statuses};

/// Rounds through the corpus, each with other faults.
const ROUNDS: u64 = 2;

#[test]
fn no_key_is_said_or_kept_whatever_fails() {
    let corpus = corpus();
    let module = shipped::module().unwrap();
    let secrets = corpus.secrets();
    let mut random = Random::new(5);
    let mut made = BTreeSet::new();
    let (mut lines, mut kept, mut counters, mut recorded) = (0, 0, 0, 0);
    for run in corpus.cases.iter().flat_map(|case| case.runs()) {
        let mut world = World::new(Settings {
            environment: portcullis_corpus::environment(),
            trace: false,
            ..Settings::default()
        });
        world.add_worker(&module).unwrap();
        for cluster in corpus.clusters() {
            world.replace(&cluster, CalloutReply::http(404, ""), Duration::ZERO);
        }
        let configuration = corpus.documents[&run.case.policy].configuration(run.profile);
        let plugin = Plugin::new(run.to_string(), configuration);
        let mut records = Vec::new();
        for round in 0..ROUNDS {
            let worker = world.worker(0).unwrap();
            let root = worker.configure(&plugin).unwrap();
            break_some(worker, &mut random, round);
            for step in &run.case.steps {
                let arrival = Arrival::new(&step.request, run.protocol);
                records.extend(send(worker, root, &arrival));
            }
            let ids = waiting(worker, root, &run.case.steps[0], run.protocol);
            for _ in 0..20 {
                world.advance(Duration::from_millis(50));
            }
            let worker = world.worker(0).unwrap();
            for id in ids {
                worker.forget(id).unwrap();
            }
            // A refused update says why, and the policy has digests in it.
            let _: Result<Root, _> = worker.configure(&plugin);
            worker.clear_faults();
        }
        let worker = world.worker(0).unwrap();
        assert_eq!(worker.traps(), [], "{run}");
        made.extend(
            worker
                .calls()
                .iter()
                .map(|(callback, call, _)| (callback, call)),
        );

        let logs = world.logs().into_iter().map(|line| line.text.into_bytes());
        let logs: Vec<_> = logs.collect();
        let data = world.shared_data().dump(&world.settings().vm_id);
        let data: Vec<_> = data
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .collect();
        (lines, kept) = (lines + logs.len(), kept + data.len());
        recorded += records.len();
        let metrics = world.metrics().numbers().into_iter();
        let metrics: Vec<_> = metrics.map(|(_, name, _)| name.into_bytes()).collect();
        counters += metrics.len();
        for secret in &secrets {
            for bytes in logs.iter().chain(&data).chain(&metrics).chain(&records) {
                let found = bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes());
                assert!(!found, "{run}: {}", bytes.escape_ascii());
            }
        }
    }
    assert!(
        lines > 1000 && kept > 1000,
        "{lines} lines, {kept} accounts"
    );
    assert!(
        counters > 500 && recorded > 300,
        "{counters} counters, {recorded} records"
    );

    // All that the filter ever asks of its host.
    let running: BTreeSet<HostCall> = made
        .iter()
        .filter(|(callback, _)| *callback != Callback::Initialize)
        // Peppers, where a policy names some.
        .filter(|(_, call)| !matches!(call, HostCall::EnvironGet | HostCall::EnvironSizesGet))
        .map(|(_, call)| *call)
        .collect();
    assert_eq!(running, statuses::MADE.iter().copied().collect());
}

/// Requests that may have to wait, all at once.
fn waiting(worker: &mut Worker, root: Root, step: &Step, protocol: Protocol) -> Vec<StreamId> {
    let arrival = Arrival::new(&step.request, protocol);
    let script = RequestScript::from_headers(arrival.headers);
    let send = |_| worker.send(root, &script).unwrap();
    (0..5).map(send).collect()
}

fn break_some(worker: &mut Worker, random: &mut Random, round: u64) {
    let seldom = if round == 0 { 30 } else { 4 };
    let mut random = Random::new(random.next());
    let all = statuses::all();
    worker.decide(move |_| random.once_in(seldom).then(|| *random.pick(&all)));
}

/// Sends a request; returns what other filters and the access log may read of it.
fn send(worker: &mut Worker, root: Root, arrival: &Arrival) -> Vec<Vec<u8>> {
    let mut script = RequestScript::from_headers(arrival.headers.clone());
    script.body.clone_from(&arrival.body);
    if !arrival.trailers.is_empty() {
        script = script.trailers(arrival.trailers.clone());
    }
    if let Some(address) = arrival.source_address() {
        script = script.source(address);
    }
    let (id, result) = worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    worker.forget(id).unwrap();
    result.properties.into_values().collect()
}
