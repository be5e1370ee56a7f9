//! Documents on the wire, their keys in any order.

use serde_json::Value;

/// The entries of a map, in an order that the seed decides
fn shuffled(map: &serde_json::Map<String, Value>, seed: u64) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| {
        key.bytes().fold(seed | 1, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    });
    entries
}

/// JSON text
pub(crate) fn json(value: &Value, seed: u64) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<_> = shuffled(map, seed)
                .into_iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), json(value, seed)))
                .collect();
            format!("{{\n{}\t}}", entries.join(",\r\n"))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| json(item, seed)).collect();
            format!("[{}]", items.join(" ,"))
        }
        other => other.to_string(),
    }
}

/// The bytes of a `google.protobuf.Struct`, as Envoy writes them
pub(crate) fn structure(value: &Value, seed: u64) -> Vec<u8> {
    let Value::Object(map) = value else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    for (key, value) in shuffled(map, seed) {
        let mut entry = Vec::new();
        delimited(&mut entry, 1, key.as_bytes());
        delimited(&mut entry, 2, &encode(value, seed));
        delimited(&mut bytes, 1, &entry);
    }
    bytes
}

fn encode(value: &Value, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    match value {
        Value::Null => bytes.extend([1 << 3, 0]),
        Value::Number(number) => {
            bytes.push(2 << 3 | 1);
            bytes.extend(number.as_f64().unwrap().to_le_bytes());
        }
        Value::String(text) => delimited(&mut bytes, 3, text.as_bytes()),
        Value::Bool(value) => bytes.extend([4 << 3, u8::from(*value)]),
        Value::Object(_) => delimited(&mut bytes, 5, &structure(value, seed)),
        Value::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                delimited(&mut list, 1, &encode(item, seed));
            }
            delimited(&mut bytes, 6, &list);
        }
    }
    bytes
}

fn delimited(bytes: &mut Vec<u8>, field: u8, content: &[u8]) {
    bytes.push(field << 3 | 2);
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(content);
}
