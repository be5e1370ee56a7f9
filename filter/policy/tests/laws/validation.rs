//! What a policy says of parameters, against naive models of the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_policy::Reason;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, Gate, policy};

fn gate() -> Gate {
    Gate::new(&policy(json!({
        "refuse": {
            "match": "POST /refuse",
            "fields": { "target": { "format": ["address", "cidr", "domain", "arn"] } },
        },
        "allow": {
            "match": "POST /allow",
            "fields": { "target": { "format": ["address", "cidr", "domain", "arn"], "private_ranges": "allow" } },
        },
        "sum": {
            "match": "POST /sum",
            "fields": { "targets": { "each": ["address", "cidr"], "private_ranges": "allow", "max_addresses": 1000, "max_items": 8 } },
        },
        "number": {
            "match": "POST /number",
            "fields": { "n": { "type": "integer", "min": -50, "max": 1000 } },
        },
        "list": {
            "match": "GET /list",
            "page": { "per_page": 50, "max": 100, "sort_by": ["name", "size"] },
            "query": { "token": { "type": "opaque", "max_length": 20 } },
        },
    })))
}

/// Whether a target passes on a route; every refusal is one for its value
fn passes(gate: &mut Gate, path: &str, body: &Value) -> bool {
    let ask = Ask::new("POST", path).key("basic").json(body);
    match gate.reason(&ask) {
        Reason::FieldInvalid => false,
        // NUL in a string is no JSON to us.
        Reason::BodyMalformed if body.to_string().contains("\\u0000") => false,
        reason => {
            assert_eq!(reason, Reason::Allowed, "{body}");
            true
        }
    }
}

fn target(gate: &mut Gate, path: &str, text: &str) -> bool {
    passes(gate, path, &json!({ "target": text }))
}

/// What nobody outside may name, first and last address: written down a second time, as ranges
fn private(address: IpAddr) -> bool {
    let v4 = |address: Ipv4Addr| {
        let ranges = [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("168.63.129.16", "168.63.129.16"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "255.255.255.255"),
        ];
        ranges.iter().any(|(first, last)| {
            let range = first.parse::<Ipv4Addr>().unwrap()..=last.parse().unwrap();
            range.contains(&address)
        })
    };
    let v6 = match address {
        IpAddr::V4(address) => return v4(address),
        IpAddr::V6(address) => address,
    };
    let octets = v6.octets();
    let at = |index: usize| {
        Ipv4Addr::new(
            octets[index],
            octets[index + 1],
            octets[index + 2],
            octets[index + 3],
        )
    };
    if v6.to_ipv4_mapped().is_some() || octets.starts_with(b"\x00\x64\xff\x9b\0\0\0\0\0\0\0\0") {
        return v4(at(12));
    }
    if octets.starts_with(&[0x20, 0x02]) {
        return v4(at(2));
    }
    let open = "2000::".parse::<Ipv6Addr>().unwrap()
        ..="3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    let closed = [
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    !open.contains(&v6)
        || closed.iter().any(|(first, last)| {
            (first.parse::<Ipv6Addr>().unwrap()..=last.parse().unwrap()).contains(&v6)
        })
}

/// Addresses everywhere, and more of them where something begins or ends
fn addresses() -> impl Strategy<Value = IpAddr> {
    let edges = vec![
        "0.255.255.255",
        "1.0.0.0",
        "9.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "127.0.0.1",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.16",
        "168.63.129.17",
        "169.253.255.255",
        "169.254.169.254",
        "169.255.0.0",
        "172.15.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "172.32.0.0",
        "192.0.0.255",
        "192.0.1.0",
        "192.0.2.255",
        "192.88.98.255",
        "192.88.99.0",
        "192.167.255.255",
        "192.168.0.0",
        "192.169.0.0",
        "198.17.255.255",
        "198.18.0.0",
        "198.20.0.0",
        "198.51.100.0",
        "203.0.113.255",
        "203.0.114.0",
        "223.255.255.255",
        "224.0.0.0",
        "255.255.255.255",
    ];
    let v4 = prop_oneof![
        any::<u32>().prop_map(Ipv4Addr::from),
        proptest::sample::select(edges).prop_map(|text| text.parse().unwrap()),
    ];
    let prefixes = vec![
        "::",
        "::ffff:0:0",
        "64:ff9b::",
        "64:ff9b:1::",
        "100::",
        "2000::",
        "2001::",
        "2001:1ff::",
        "2001:200::",
        "2001:db8::",
        "2001:db9::",
        "2002::",
        "2003::",
        "3fff::",
        "3fff:1000::",
        "4000::",
        "5f00::",
        "fc00::",
        "fe80::",
        "ff00::",
    ];
    let near = (
        proptest::sample::select(prefixes),
        any::<u128>(),
        32..128u32,
    )
        .prop_map(|(prefix, low, bits)| {
            let prefix: Ipv6Addr = prefix.parse().unwrap();
            Ipv6Addr::from_bits(prefix.to_bits() | (low >> bits))
        });
    let embedded = (v4.clone(), 0..3usize, any::<u64>()).prop_map(|(v4, form, low)| {
        let v4 = u128::from(v4.to_bits());
        Ipv6Addr::from_bits(match form {
            0 => (0xffff << 32) | v4,
            1 => (0x0064_ff9b << 96) | v4,
            _ => (0x2002 << 112) | (v4 << 80) | u128::from(low),
        })
    });
    prop_oneof![
        4 => v4.prop_map(IpAddr::from),
        1 => any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        2 => near.prop_map(IpAddr::from),
        2 => embedded.prop_map(IpAddr::from),
    ]
}

/// A network around an address, and its first and last one
fn network(address: IpAddr, length: u32) -> (String, IpAddr, IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let length = length % 33;
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            let first = Ipv4Addr::from(address.to_bits() & !host);
            let last = Ipv4Addr::from(address.to_bits() | host);
            (format!("{first}/{length}"), first.into(), last.into())
        }
        IpAddr::V6(address) => {
            let length = length % 129;
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            let first = Ipv6Addr::from(address.to_bits() & !host);
            let last = Ipv6Addr::from(address.to_bits() | host);
            (format!("{first}/{length}"), first.into(), last.into())
        }
    }
}

/// Texts that are nearly something
fn texts() -> impl Strategy<Value = String> {
    let parts = vec![
        "10",
        "8",
        "127",
        "255",
        "256",
        "0",
        "00",
        "010",
        "0x7f",
        "1",
        ".",
        ".",
        ":",
        "::",
        "/",
        "/8",
        "/24",
        "/32",
        "/128",
        "/0",
        "ffff",
        "2606",
        "a",
        "example",
        "com",
        "local",
        "localhost",
        "internal",
        "xn--",
        "xn--bcher-kva",
        "bücher",
        "-",
        "_",
        "*",
        " ",
        "%2e",
        "%",
        "[",
        "]",
        "arn:",
        "arn:aws:",
        "aws",
        "s3",
        ":::",
        "123456789012",
        "us-east-1",
        "１",
        "。",
        "\u{ad}",
        "\u{200d}",
        "ß",
        "ﬁ",
        "\0",
        "\n",
        "@",
        "http://",
    ];
    prop_oneof![
        4 => proptest::collection::vec(proptest::sample::select(parts), 0..9).prop_map(|parts| parts.concat()),
        1 => any::<String>(),
        1 => "[0-9a-fx.:/]{0,20}",
        1 => "[a-z0-9.-]{0,80}",
    ]
}

/// The value of a parameter of a query, every byte escaped as a form would
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..ProptestConfig::with_cases(4_000) })]

    /// An address is refused exactly if a list of ranges has it
    #[test]
    fn private_addresses_are_those_of_the_ranges(address in addresses()) {
        let mut gate = gate();
        prop_assert_eq!(target(&mut gate, "/refuse", &address.to_string()), !private(address), "{}", address);
        prop_assert!(target(&mut gate, "/allow", &address.to_string()));
    }

    /// A network that is let through holds no private address: not its first, not its last, none of
    /// those that lie between; and one of a single address is that address
    #[test]
    fn no_network_hides_a_private_address(address in addresses(), length in 0..129u32, others in proptest::collection::vec(addresses(), 8)) {
        let mut gate = gate();
        let (text, first, last) = network(address, length);
        let passed = target(&mut gate, "/refuse", &text);
        prop_assert!(target(&mut gate, "/allow", &text), "{}", text);
        if passed {
            for inside in others.into_iter().chain([first, address, last]) {
                let is_inside = first.is_ipv4() == inside.is_ipv4() && first <= inside && inside <= last;
                prop_assert!(!is_inside || !private(inside), "{} holds {}", text, inside);
            }
        }
        if first == last {
            prop_assert_eq!(passed, !private(first), "{}", text);
        }
    }

    /// Bits behind a prefix are refused, and nothing else is about a network that is written properly
    #[test]
    fn a_network_begins_where_it_says(address in addresses(), length in 0..129u32) {
        let (text, first, _) = network(address, length);
        let length = text.split_once('/').unwrap().1;
        let mut gate = gate();
        prop_assert_eq!(target(&mut gate, "/allow", &format!("{address}/{length}")), address == first);
    }

    /// Whatever passes is what the standard library, `ipnet` and `url` make of it
    #[test]
    fn what_passes_is_read_alike_by_others(text in texts()) {
        let mut gate = gate();
        let passed = target(&mut gate, "/allow", &text);
        prop_assert!(passed || !target(&mut gate, "/refuse", &text), "{}", text);
        if text.parse::<IpAddr>().is_ok() {
            prop_assert!(passed, "{}", text);
        } else if let Ok(network) = text.parse::<ipnet::IpNet>() {
            let plain = !text.split_once('/').unwrap().1.starts_with('0') || text.ends_with("/0");
            prop_assert_eq!(passed, network.trunc() == network && plain, "{}", text);
        } else if passed && !text.starts_with("arn:") {
            let url::Host::Domain(host) = url::Host::parse(&text).unwrap() else {
                return Err(TestCaseError::fail(text));
            };
            let name = host.strip_suffix('.').unwrap_or(&host);
            prop_assert!(name.len() <= 253);
            for label in name.split('.') {
                prop_assert!((1..=63).contains(&label.len()), "{}", text);
                prop_assert!(label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{}", text);
                prop_assert!(!label.starts_with('-') && !label.ends_with('-'), "{}", text);
            }
            // The canonical form is a name too, and its own.
            for form in [name.to_owned(), format!("{name}."), name.to_uppercase()] {
                prop_assert!(target(&mut gate, "/allow", &form), "{} {}", text, form);
            }
            prop_assert_eq!(url::Host::parse(name).unwrap().to_string(), name);
        }
    }

    /// Sums of networks are sums
    #[test]
    fn addresses_are_counted(lengths in proptest::collection::vec(20..33u32, 0..9)) {
        let sum: u64 = lengths.iter().map(|length| 1u64 << (32 - length)).sum();
        let targets: Vec<_> = lengths.iter().map(|length| format!("10.0.0.0/{length}")).collect();
        let mut gate = gate();
        let expected = sum <= 1000 && lengths.len() <= 8;
        prop_assert_eq!(passes(&mut gate, "/sum", &json!({ "targets": targets })), expected);
    }

    /// A number passes if it is whole, in its range, and written as a whole number
    #[test]
    fn whole_numbers(text in "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,2})?([eE][+-]?[0-9])?") {
        let body = format!("{{\"n\":{text}}}");
        let mut ask = Ask::new("POST", "/number").key("basic").with("content-type", "application/json");
        ask.body = Some(body.into_bytes());
        let expected = text.parse::<i64>().is_ok_and(|number| (-50..=1000).contains(&number)) && text != "-0";
        prop_assert_eq!(gate().reason(&ask) == Reason::Allowed, expected, "{}", text);
    }

    /// A query passes only if each reader, strict or lax, finds the same good values in it
    #[test]
    fn a_query_has_one_reading(
        parameters in proptest::collection::vec((
            proptest::sample::select(vec![
                "page", "page", "per_page", "per_page", "sort_by", "token", "Page", "PAGE", "page[]", "page[0]", "per.page", "per+page",
                "per%5Fpage", "%70age", "%2570age", "+page", "page%20", "page%00", "page%5b", "ſort_by", "tok%65n", "other", "x", "",
            ]),
            proptest::sample::select(vec!["", "=", "=0", "=1", "=2", "=100", "=101", "=name", "=size", "=a;page=3", "=%31", "=01", "=Name", "=%zz", "=1%00"]),
            proptest::sample::select(vec!["&", "&", "&", ";", "&&"]),
        ), 0..5),
    ) {
        let query: String = parameters.iter().map(|(name, value, end)| format!("{name}{value}{end}")).collect();
        let ask = Ask::new("GET", &format!("/list?{query}")).key("basic");
        let reason = gate().reason(&ask);
        prop_assert!(matches!(reason, Reason::Allowed | Reason::FieldInvalid | Reason::FieldAmbiguous), "{}", reason);
        if reason != Reason::Allowed {
            return Ok(());
        }
        let mut seen = Vec::new();
        for part in query.split(['&', ';']) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let lax = decode(&decode(name)).replace('ſ', "s").to_lowercase();
            let lax = lax.split(['[', '\0']).next().unwrap().trim().replace(['.', ' '], "_");
            if !["page", "per_page", "sort_by", "token"].contains(&&*lax) {
                continue;
            }
            prop_assert_eq!(&lax, name, "{}", query);
            prop_assert!(!seen.contains(&lax), "{}", query);
            let value = decode(value);
            let number = value.parse::<u32>().ok().filter(|number| number.to_string() == value);
            match name {
                "page" => prop_assert!(number.is_some_and(|number| number >= 1), "{}", query),
                "per_page" => prop_assert!(number.is_some_and(|number| (1..=100).contains(&number)), "{}", query),
                "sort_by" => prop_assert!(["name", "size"].contains(&&*value), "{}", query),
                _ => prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{}", query),
            }
            seen.push(lax);
        }
    }

    /// No bytes of a query make the gate panic, and an escaped token passes if it is plain
    #[test]
    fn any_query_gets_an_answer(raw in proptest::collection::vec(any::<u8>(), 0..60), text in any::<String>()) {
        let mut gate = gate();
        let mut ask = Ask::new("GET", "/list?").key("basic");
        ask.headers[1].1.extend(&raw);
        let reason = gate.reason(&ask);
        prop_assert!(matches!(reason, Reason::Allowed | Reason::FieldInvalid | Reason::FieldAmbiguous), "{}", reason);
        let ask = Ask::new("GET", &format!("/list?token={}", escaped(&text))).key("basic");
        let plain = text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(&byte));
        prop_assert_eq!(gate.reason(&ask) == Reason::Allowed, plain, "{}", text);
    }

    /// No other spelling of a field slips past its check
    #[test]
    fn a_field_has_one_spelling(flips in any::<u8>(), value in proptest::sample::select(vec![json!(7), json!(5000), json!("x")])) {
        let name: String = "n".chars().map(|c| if flips & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
        let ask = Ask::new("POST", "/number").key("basic").json(&json!({ name.clone(): value }));
        let expected = match (name.as_str(), value.as_u64()) {
            ("n", Some(7)) => Reason::Allowed,
            ("n", _) => Reason::FieldInvalid,
            _ => Reason::FieldAmbiguous,
        };
        prop_assert_eq!(gate().reason(&ask), expected);
    }
}

/// Escapes decoded once, plus signs too
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = behind;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
