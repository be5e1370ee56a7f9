//! What a quick verdict costs grows with its target and no faster, however the target is spelled: escapes of escapes,
//! URLs in payloads, and what parsers stumble over. Measured in wasmtime's fuel over the whole request, so in the module
//! that is shipped, with lists, feeds and all tables.

use std::env;
use std::iter::repeat_n;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use portcullis_host::{Engine, Metering, Root, Settings, World};
use serde_json::json;

use crate::feeds::{bundle_with_tables, check, plugin};
use crate::random::Random;

/// Fuel of a request beside its target's, and of each byte of its body. The worst that was measured: 3,022 a byte of 4 KB
/// (names in escaped letters that are none of ASCII), 2,119 of 64 KiB (ports without end).
const BASE: u64 = 300_000;
const PER_BYTE: u64 = 4_000;

/// Lengths of targets, in bytes.
const LENGTHS: [usize; 5] = [16, 1 << 9, 1 << 12, 1 << 14, 1 << 16];

/// What targets are made of.
const PIECES: &[&str] = &[
    "%25",
    "25",
    "%",
    "%2",
    "%25%32%35",
    "%%%25",
    "%2525",
    "%u0025",
    "&#37;",
    "%00",
    "%0a",
    "%c3%a9",
    "%ff",
    "%2e%2e%2f",
    "http://",
    "hxxp://",
    "https://a.example/",
    "//",
    "/../",
    "/./",
    "///",
    "\\",
    "?",
    "&a=b",
    "#",
    ";",
    ".",
    "..",
    "[.]",
    "(.)",
    "[:]",
    "[dot]",
    "@",
    "@@",
    "a@b",
    ":",
    "::",
    ":80",
    "[",
    "]",
    "[[",
    "[::1]",
    "1.2.3.4",
    "0x7f.1",
    "017700000001",
    "2130706433",
    "1.",
    "0",
    "ffff:",
    "::ffff:1.2.3.4",
    "a",
    "a.",
    "xn--",
    "xn--a.",
    "é",
    "ß.",
    "аррӏе",
    "paypal",
    "paypal.com.",
    "-",
    "--",
    "_",
    "*",
    ".example",
    " ",
    "\n",
    "\t",
    "\"",
    "'",
    "<",
    "(",
    ")",
    ",",
    "\u{200b}",
    "\u{feff}",
    "\u{3002}",
    "\u{ff0e}",
];

/// What targets begin with.
const STARTS: &[&str] = &[
    "",
    "http://",
    "http://a.example/",
    "http://a.example/?",
    "http://u@",
    "hxxp://",
    "text http://a.example/ ",
    "[",
    "%",
];

/// A worker that counts its fuel, with its root.
fn world() -> (World, Root) {
    let path = env::var_os("PORTCULLIS_WASM").unwrap();
    let module = Engine::shared(Metering::Fuel)
        .and_then(|engine| engine.load(path.as_ref()))
        .unwrap();
    let mut world = World::new(Settings {
        trace: false,
        callback_deadline: Duration::from_secs(60),
        ..Settings::default()
    });
    world.add_worker(&module).unwrap();
    let seed = bundle_with_tables(&["phish.example"]);
    let plugin = plugin(&json!({ "seed": Base64::encode_string(&seed) }));
    let roots = world.configure(&plugin).unwrap();
    // A turn a page, until the bundle is adopted.
    world.advance(Duration::from_secs(5));
    (world, roots[0])
}

/// Fuel of a request with this target, and the length of its body.
fn measure(world: &mut World, root: Root, target: &str) -> (u64, u64) {
    let request = check(target);
    let length = request.body.iter().map(Vec::len).sum::<usize>();
    let worker = world.worker(0).unwrap();
    let (id, result) = worker.request(root, &request, &<_>::default()).unwrap();
    worker.forget(id).unwrap();
    assert_eq!(result.status(), 200, "{result:?}");
    (result.total_fuel(), u64::try_from(length).unwrap())
}

fn of_length(start: &str, unit: &str, length: usize) -> String {
    let times = length.saturating_sub(start.len()).div_ceil(unit.len());
    start
        .chars()
        .chain(repeat_n(unit, times).flat_map(str::chars))
        .collect()
}

#[test]
fn the_fuel_of_a_verdict_is_linear_in_its_target() {
    let (mut world, root) = world();
    assert!(
        measure(&mut world, root, "http://phish.example/").0 > 0,
        "fuel is not counted"
    );
    let mut random = Random::new(5);
    let mut units: Vec<String> = PIECES.iter().map(|piece| (*piece).to_owned()).collect();
    units.extend((0..120).map(|_| {
        let pieces = 2 + random.below(6);
        (0..pieces).map(|_| *random.pick(PIECES)).collect()
    }));
    let mut worst = 0;
    for unit in &units {
        let start = *random.pick(STARTS);
        for length in LENGTHS {
            let target = of_length(start, unit, length);
            let (fuel, length) = measure(&mut world, root, &target);
            let most = BASE + PER_BYTE * length;
            assert!(
                fuel <= most,
                "{fuel} for {start:?} and {unit:?}, {length} bytes"
            );
            worst = worst.max(fuel * 100 / most);
        }
    }
    // A bound that nothing comes near says nothing.
    assert!(
        worst >= 50,
        "at most {worst} per cent of the bound: lower it"
    );
    assert_eq!(world.worker(0).unwrap().traps(), []);
}
