//! Path guards.

use portcullis_policy::Reason;
use proptest::prelude::*;
use serde_json::json;

use crate::gate::{Ask, Gate, policy};

/// Bits of paths, of which most are dangerous
fn bits() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop_oneof![
        4 => Just(b"/".to_vec()),
        4 => "[a-zA-Z0-9_~!$&'()*+,=:@-]{1,3}".prop_map(String::into_bytes),
        2 => Just(b".".to_vec()),
        2 => proptest::sample::select(vec![
            "%2e", "%2E", "%2f", "%2F", "%5c", "%3b", "%25", "%252e", "%41", "%7e", "%20", "%c3%a9",
            "%C0%AE", "%ff", "%00", "%0a", "%7F", "%", "%4", "%zz", "%u002f",
        ])
        .prop_map(|escape| escape.as_bytes().to_vec()),
        1 => proptest::sample::select(b"\\;#\" <>^`{|}?\x00\x09\x7f\x80\xff".to_vec())
            .prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(bit, 0..12).prop_map(|bits| [b"/".to_vec(), bits.concat()].concat())
}

/// Decodes every escape that can be, as a careless reader does
pub(crate) fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .and_then(|digits| str::from_utf8(digits).ok());
        let value = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) if byte == b'%' => {
                decoded.push(value);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(byte);
                rest = behind;
            }
        }
    }
    decoded
}

fn segments(path: &[u8]) -> Vec<Vec<u8>> {
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    path.split(is_separator)
        .skip(1)
        .map(<[u8]>::to_vec)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// A path that is let through is split into the same segments by a reader that decodes it not
    /// at all, once or twice, and none of them is a dot segment, empty or dangerous
    #[test]
    fn an_accepted_path_is_split_alike_by_every_reader(path in bits()) {
        let everything = json!({ "all": { "match": "ANY /**", "auth": "none", "limits": [] } });
        let mut gate = Gate::new(&policy(everything));
        let ask = Ask::new("GET", "").with(":path", &path);
        let reason = gate.reason(&ask);
        if reason != Reason::Public {
            prop_assert_eq!(reason, Reason::PathInvalid);
            return Ok(());
        }
        let path = path.split(|byte| *byte == b'?').next().unwrap();
        let plain = segments(path);
        let once: Vec<_> = plain.iter().map(|segment| decode(segment)).collect();
        prop_assert_eq!(&segments(&decode(path)), &once);
        prop_assert_eq!(&segments(&decode(&decode(path))), &once);
        for (index, segment) in once.iter().enumerate() {
            prop_assert!(segment != b"." && segment != b"..");
            prop_assert!(!segment.is_empty() || index + 1 == once.len());
            let text = str::from_utf8(segment);
            prop_assert!(text.is_ok_and(|text| !text.contains(|c: char| c.is_ascii_control() || c == ';')));
        }
    }

    /// What guards refuse an escape for is let through by `{name:encoded}` alone, and only there
    #[test]
    fn only_an_encoded_parameter_takes_an_ambiguous_escape(
        before in "[a-z]{1,3}",
        escape in proptest::sample::select(vec!["%2f", "%2F", "%5C", "%25", "%41", "%7e", "%3b", "%ff"]),
        behind in "[a-z]{1,3}",
        template in proptest::sample::select(vec![
            "GET /f/{x:encoded}", "GET /f/{x}", "GET /f/**", "GET /{y:encoded}/{x}", "ANY /**",
        ]),
        at_front: bool,
    ) {
        let odd = format!("{before}{escape}{behind}");
        let (front, back) = if at_front { (odd.as_str(), "x") } else { ("f", odd.as_str()) };
        let route = json!({ "it": { "match": template, "auth": "none", "limits": [] } });
        let reason = Gate::new(&policy(route)).reason(&Ask::new("GET", &format!("/{front}/{back}")));
        let takes = match template {
            "GET /f/{x:encoded}" => !at_front,
            "GET /{y:encoded}/{x}" => at_front,
            _ => false,
        };
        prop_assert_eq!(reason, if takes { Reason::Public } else { Reason::PathInvalid });
    }
}
