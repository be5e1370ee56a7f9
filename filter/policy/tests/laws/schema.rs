//! The fields and words of the document.

use std::collections::BTreeSet;

use portcullis_policy::Policy;
use serde_json::{Value, json};

use crate::configuration::everything;

/// The places of all maps in a document, as JSON pointers
fn maps(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.push(pointer.to_owned());
            for (key, value) in map {
                maps(value, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                maps(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The places of all strings
fn strings(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                strings(value, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                strings(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::String(_) => found.push(pointer.to_owned()),
        _ => {}
    }
}

/// A pointer as the dotted path of an error
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        if step.bytes().all(|byte| byte.is_ascii_digit()) {
            path += &format!("[{step}]");
        } else {
            path += if path.is_empty() { "" } else { "." };
            path += step;
        }
    }
    path
}

fn messages(document: &Value, path: &str) -> Vec<String> {
    let Err(errors) = Policy::parse(&serde_json::to_vec(document).unwrap(), "main") else {
        return Vec::new();
    };
    errors
        .into_iter()
        .filter(|error| error.path == path)
        .map(|error| error.message)
        .collect()
}

#[test]
fn an_unknown_field_is_refused_with_its_path_wherever_it_stands() {
    let document = everything();
    let mut places = Vec::new();
    maps(&document, "", &mut places);
    assert!(places.len() > 25);
    for place in places {
        let mut document = document.clone();
        document.pointer_mut(&place).unwrap()["zzz"] = Value::Null;
        let at = path(&format!("{place}/zzz"));
        assert!(!messages(&document, &at).is_empty(), "{at}");
    }
}

#[test]
fn what_is_not_built_yet_is_refused_with_its_path() {
    let shop = "/apis/shop";
    for (place, field, value) in [
        ("", "exceptions", json!([])),
        ("", "share", json!({ "replicas": 4 })),
        ("", "record", json!({ "target": "hash" })),
        ("", "explain", json!({ "header": "x-portcullis-explain" })),
        ("/clients", "exempt", json!(["10.0.0.0/8"])),
        (
            "/threat",
            "bundle",
            json!({ "cluster": "feeds", "path": "/threat.bundle" }),
        ),
        ("/threat", "licences", json!(["CC0-1.0"])),
        ("/threat", "reveal", json!("category")),
        (shop, "domain_access", json!({ "unknown": "ask" })),
        (
            "/apis/shop/tiers/metered",
            "quotas",
            json!({ "reports": 5 }),
        ),
        ("/apis/shop/routes/items", "spend", json!("reports")),
        ("/apis/shop/routes/items", "grants", json!("body.domain")),
        ("/apis/shop/routes/items", "domain", json!("path.domain")),
        ("/apis/shop/routes/items", "mode", json!("shadow")),
        (
            "/apis/shop/routes/analyze/verdict",
            "stale",
            json!("forward"),
        ),
        (
            "/apis/shop/routes/analyze/fields/target",
            "default",
            json!("x"),
        ),
        (
            "/apis/shop/routes/analyze/fields/metadata",
            "fields",
            json!({}),
        ),
    ] {
        let mut document = everything();
        document.pointer_mut(place).unwrap()[field] = value;
        let at = path(&format!("{place}/{field}"));
        let messages = messages(&document, &at);
        assert!(
            messages
                .iter()
                .any(|message| message.starts_with("unknown field")),
            "{at}: {messages:?}"
        );
    }
    for (place, value) in [
        (
            "/apis/shop/keys",
            json!({ "bundle": { "cluster": "keys", "path": "/b" } }),
        ),
        (
            "/apis/shop/routes/analyze/body/larger",
            json!({ "forward_as": "deep" }),
        ),
        (
            "/apis/shop/routes/analyze/fields/target/type",
            json!("number"),
        ),
        (
            "/apis/shop/routes/items/limits",
            json!(["tier", "checkout"]),
        ),
    ] {
        let mut document = everything();
        *document.pointer_mut(place).unwrap() = value;
        let text = serde_json::to_vec(&document).unwrap();
        let errors = Policy::parse(&text, "main").unwrap_err();
        assert!(
            errors
                .iter()
                .any(|error| error.path.starts_with(&path(place))),
            "{place}: {errors:?}"
        );
    }
}

/// YAML 1.1 reads `on`, `no`, `y` and others as booleans, so nothing of ours may be called that
#[test]
fn no_field_and_no_word_is_a_boolean_of_yaml() {
    let document = everything();
    let mut vocabulary = BTreeSet::new();
    let mut learn = |message: &str, before: &str| {
        if let Some((_, list)) = message.split_once(before) {
            vocabulary.extend(list.split(", ").map(str::to_owned));
        }
    };
    let mut places = Vec::new();
    maps(&document, "", &mut places);
    for place in places {
        let mut document = document.clone();
        document.pointer_mut(&place).unwrap()["zzz"] = Value::Null;
        for message in messages(&document, &path(&format!("{place}/zzz"))) {
            learn(&message, "known here: ");
        }
    }
    let mut places = Vec::new();
    strings(&document, "", &mut places);
    for place in places {
        let mut document = document.clone();
        *document.pointer_mut(&place).unwrap() = "zzz".into();
        for message in messages(&document, &path(&place)) {
            learn(&message, "must be one of: ");
        }
    }
    for known in [
        "version",
        "on_unknown",
        "larger",
        "refuse",
        "none",
        "cyborux",
        "malware",
        "disabled",
    ] {
        assert!(vocabulary.contains(known), "{known} was not found");
    }
    assert!(vocabulary.len() > 70, "{vocabulary:?}");
    for word in vocabulary {
        let lower = word.to_lowercase();
        let booleans = [
            "y", "n", "yes", "no", "true", "false", "on", "off", "null", "~",
        ];
        assert!(!booleans.contains(&lower.as_str()), "{word}");
        assert!(word.parse::<f64>().is_err(), "{word} is a number");
    }
}
