//! Another plugin of the same Envoy writes threat bundles into the shared data, in the gate's own layout. Where the policy
//! says who signs, no VM takes what another has signed, or nobody, and none loses what it has.

use std::time::Duration;

use portcullis_host::{CalloutReply, Root, Settings, Worker, World, headers};
use serde_json::{Value, json};

use crate::feeds::{bundle, check, named, plugin, signed, signer};
use crate::shipped;

const GOOD: u8 = 1;
const OTHER: u8 = 2;
/// What the good bundle lists, and what those that are planted do.
const LISTED: &str = "phish.example";
const PLANTED: &str = "planted.example";

/// A world with two workers; one has fetched the good bundle, the other has adopted it.
struct Fleet {
    world: World,
    plugin: portcullis_host::Plugin,
    roots: Vec<Root>,
    vm_id: Vec<u8>,
}

impl Fleet {
    fn new() -> Self {
        let settings = Settings::default();
        let vm_id = settings.vm_id.clone();
        let plugin = plugin(
            &json!({ "cluster": "feeds", "path": "/bundle", "refresh": "1s", "timeout": "500ms",
            "signed_by": named(&signer(GOOD)) }),
        );
        let mut world = World::new(settings);
        for _ in 0..2 {
            world.add_worker(&shipped::module().unwrap()).unwrap();
        }
        world.on(
            "feeds",
            whole(&signed(bundle(&[LISTED], 0), &signer(GOOD))),
            Duration::from_millis(1),
        );
        let roots = world.configure(&plugin).unwrap();
        let mut fleet = Self {
            world,
            plugin,
            roots,
            vm_id,
        };
        fleet.world.advance(Duration::from_secs(5));
        // From now on there is only what lies in the shared data.
        fleet
            .world
            .replace("feeds", CalloutReply::Unreachable, Duration::from_millis(1));
        fleet.world.advance(Duration::from_secs(20));
        fleet
    }

    /// What a worker says of a target.
    fn says(&mut self, worker: usize, target: &str) -> Value {
        let root = self.roots[worker];
        let worker = self.world.worker(worker).unwrap();
        let (id, result) = worker
            .request(root, &check(target), &<_>::default())
            .unwrap();
        worker.forget(id).unwrap();
        let response = result.response.unwrap();
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        answer["classification"].clone()
    }

    /// Whether a worker judges by a bundle that lists one and not the other.
    fn has(&mut self, worker: usize, listed: &str, other: &str) -> bool {
        self.says(worker, listed) == "malicious" && self.says(worker, other) != "malicious"
    }

    fn newcomer(&mut self) -> usize {
        let number = self.world.add_worker(&shipped::module().unwrap()).unwrap();
        let root = self.world.worker(number).unwrap().configure(&self.plugin);
        self.roots.push(root.unwrap());
        number
    }

    /// Puts bytes in the page's place, under another generation if there is one.
    fn plant(&self, bytes: &[u8], generation: Option<u64>) {
        let data = self.world.shared_data();
        let all = data.dump(&self.vm_id);
        let of = |kind: &[u8]| {
            let found = all.iter().filter(|(_, value)| value.starts_with(kind));
            let found: Vec<_> = found.cloned().collect();
            assert_eq!(found.len(), 1, "{kind:?}");
            found.into_iter().next().unwrap()
        };
        let (manifest_key, mut manifest) = of(b"PM\x01");
        let (page_key, page) = of(b"PP\x01");
        let mut page = page[..12].to_vec();
        if let Some(generation) = generation {
            page[4..].copy_from_slice(&generation.to_le_bytes());
            manifest[4..12].copy_from_slice(&generation.to_le_bytes());
            let end = manifest.len() - 4;
            let sum = checksum(&manifest[..end]);
            manifest[end..].copy_from_slice(&sum.to_le_bytes());
        }
        page.extend_from_slice(bytes);
        data.set(&self.vm_id, &page_key, &page, 0).unwrap();
        data.set(&self.vm_id, &manifest_key, &manifest, 0).unwrap();
    }
}

/// A file that is sent in one page.
fn whole(bytes: &[u8]) -> CalloutReply {
    let last = bytes.len() - 1;
    let range = format!("bytes 0-{last}/{}", bytes.len());
    CalloutReply::Http {
        headers: headers([
            (":status", "206"),
            ("etag", "\"1\""),
            ("content-range", &range),
        ]),
        body: bytes.to_vec(),
        trailers: Vec::new(),
    }
}

/// The checksum of the gate's records, which is no secret: whoever reads the source can write them.
fn checksum(bytes: &[u8]) -> u32 {
    let mix = |hash: u32, word: u32| (hash ^ word).wrapping_mul(0x0100_0193);
    let length = u32::try_from(bytes.len()).unwrap();
    let (words, rest) = bytes.as_chunks::<4>();
    let hash = words.iter().fold(mix(0x811c_9dc5, length), |hash, word| {
        mix(hash, u32::from_le_bytes(*word))
    });
    let hash = rest
        .iter()
        .fold(hash, |hash, byte| mix(hash, u32::from(*byte)));
    hash ^ (hash >> 15)
}

/// Bundles that list [`PLANTED`], with what a worker's log says of each.
fn forgeries() -> Vec<(&'static str, Vec<u8>)> {
    let newer = || bundle(&[PLANTED], 1);
    let mut of_another = newer();
    let seal = of_another.len() - 128;
    of_another[seal + 32..]
        .copy_from_slice(&signed(bundle(&[LISTED], 0), &signer(GOOD))[seal + 32..]);
    let mut renamed = signed(newer(), &signer(OTHER));
    renamed[seal + 32..seal + 64].copy_from_slice(&*signer(GOOD).pk);
    let mut flipped = signed(newer(), &signer(GOOD));
    flipped[200] ^= 1;
    let mut of_old = signed(newer(), &signer(GOOD));
    of_old[8] = 1;
    let mut cut = signed(newer(), &signer(GOOD));
    cut.pop();
    vec![
        ("unsigned", newer()),
        ("signer", signed(newer(), &signer(OTHER))),
        ("signature", of_another),
        ("signature", renamed),
        ("digest", flipped),
        ("version", of_old),
        ("length", cut),
        (
            "format",
            b"not a bundle at all, but as long as a header: ".repeat(3),
        ),
        ("format", Vec::new()),
    ]
}

#[test]
fn nobody_takes_a_bundle_that_another_plugin_has_planted() {
    let mut fleet = Fleet::new();
    assert!((0..2).all(|worker| fleet.has(worker, LISTED, PLANTED)));
    for (number, (word, forged)) in (10_u64..).zip(forgeries()) {
        fleet.world.clear_logs();
        fleet.plant(&forged, Some(number));
        fleet.world.advance(Duration::from_secs(5));
        for worker in 0..2 {
            assert!(
                fleet.has(worker, LISTED, PLANTED),
                "{word}: worker {worker}"
            );
        }
        // Each of them has looked at it, and says why it did not take it.
        let said = format!("threat bundle not loaded: {word}: ");
        let logs = fleet.world.logs();
        let refused = logs.iter().filter(|line| line.text.contains(&said)).count();
        assert_eq!(refused, 2, "{word}: {logs:?}");
    }
    // So does one that has nothing to lose: it does without.
    let newcomer = fleet.newcomer();
    fleet.world.advance(Duration::from_secs(5));
    for target in [LISTED, PLANTED] {
        assert_ne!(fleet.says(newcomer, target), "malicious", "{target}");
    }
    // The same, planted in the same way, of who may sign: all take it. It is the signature that they went by.
    fleet.plant(&signed(bundle(&[PLANTED], 2), &signer(GOOD)), Some(100));
    fleet.world.advance(Duration::from_secs(5));
    assert!((0..3).all(|worker| fleet.has(worker, PLANTED, LISTED)));
    assert!(
        fleet
            .world
            .workers()
            .iter()
            .all(|worker| Worker::traps(worker).is_empty())
    );
}

/// A page that is changed under the manifest that names it.
#[test]
fn a_page_that_is_swapped_is_taken_by_no_newcomer() {
    let mut fleet = Fleet::new();
    for (word, forged) in forgeries() {
        fleet.plant(&forged, None);
        let newcomer = fleet.newcomer();
        fleet.world.advance(Duration::from_secs(5));
        assert_ne!(fleet.says(newcomer, PLANTED), "malicious", "{word}");
        assert!(
            (0..2).all(|worker| fleet.has(worker, LISTED, PLANTED)),
            "{word}"
        );
    }
    // When the source is there again, newcomers have what it has.
    let good = signed(bundle(&[LISTED], 0), &signer(GOOD));
    fleet
        .world
        .replace("feeds", whole(&good), Duration::from_millis(1));
    fleet.world.advance(Duration::from_secs(300));
    let workers = fleet.roots.len();
    assert!((0..workers).all(|worker| fleet.has(worker, LISTED, PLANTED)));
}
