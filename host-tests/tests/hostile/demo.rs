//! The demo policy in a world of one worker, and the requests that the tests of single calls send.

use std::sync::LazyLock;

use portcullis_corpus::{Corpus, Profile};
use portcullis_host::{
    Plugin, RequestScript, ResponseScript, Root, Settings, StreamResult, Worker, World,
};

use serde_json::Value;

use crate::shipped;

pub(crate) const ROOT: &str = "portcullis";
pub(crate) const ACME: &str = "demo-acme-standard";
pub(crate) const GLOBEX: &str = "demo-globex-enterprise";

/// A world with a configured worker.
pub(crate) struct Demo {
    pub(crate) world: World,
    pub(crate) root: Root,
}

/// The demo policy as a plugin, its queues left out: who waits is looked at in `queue`, and met by
/// the fuzzer.
pub(crate) fn plugin(profile: Profile) -> Plugin {
    Plugin::new(ROOT, policy(profile).to_string())
}

fn policy(profile: Profile) -> Value {
    let mut policy = corpus().documents["demo"].in_profile(profile);
    for api in policy["apis"].as_object_mut().unwrap().values_mut() {
        for tier in api["tiers"].as_object_mut().unwrap().values_mut() {
            tier.as_object_mut().unwrap().remove("queue");
        }
    }
    policy
}

/// The demo policy as a plugin, with this rule `record`; none: the default.
pub(crate) fn recording(record: Option<Value>) -> Plugin {
    let mut policy = policy(Profile::Headers);
    let fields = policy.as_object_mut().unwrap();
    fields.remove("record");
    fields.extend(record.map(|record| ("record".to_owned(), record)));
    Plugin::new(ROOT, policy.to_string())
}

/// The corpus, read once.
pub(crate) fn corpus() -> &'static Corpus {
    static CORPUS: LazyLock<Corpus> = LazyLock::new(|| Corpus::load().unwrap());
    &CORPUS
}

impl Demo {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with(settings, &plugin(Profile::Headers))
    }

    pub(crate) fn with(settings: Settings, plugin: &Plugin) -> Self {
        let mut world = World::new(settings);
        world.add_worker(&shipped::module().unwrap()).unwrap();
        let root = world.worker(0).unwrap().configure(plugin).unwrap();
        Self { world, root }
    }

    pub(crate) fn worker(&mut self) -> &mut Worker {
        self.world.worker(0).unwrap()
    }

    /// A request and the upstream's answer, after which the stream is forgotten.
    pub(crate) fn send(&mut self, request: &RequestScript) -> StreamResult {
        let root = self.root;
        let worker = self.worker();
        let (id, result) = worker
            .request(root, request, &ResponseScript::default())
            .unwrap();
        worker.forget(id).unwrap();
        result
    }
}

/// A request to the API with keys, scopes and an analysis.
pub(crate) fn request(method: &str, path: &str, key: &str) -> RequestScript {
    let mut script = RequestScript::new(method, path);
    script.headers[0].1 = b"api.cybervault.io".to_vec();
    if key.is_empty() {
        script
    } else {
        script.header("authorization", format!("Bearer {key}"))
    }
}

pub(crate) fn get(key: &str) -> RequestScript {
    request("GET", "/v1/threats/t1", key)
}

/// An analysis in this mode; `quick` is answered by the filter, `deep` goes on.
pub(crate) fn analyze(key: &str, mode: &str) -> RequestScript {
    request("POST", "/v1/threats/analyze", key)
        .header("content-type", "application/json")
        .piece(format!(
            r#"{{"target":"http://malware.example/dropper.exe","mode":"{mode}"}}"#
        ))
}
