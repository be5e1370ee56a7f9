//! What the corpus must be, besides green: complete, and without repetition.

#![expect(clippy::panic, clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Encoding};
use portcullis_corpus::{Case, Corpus, Document, ENVIRONMENT, Profile, Protocol, Step, variable};
use portcullis_policy::{Policy, RuleKind, key_digest};
use serde_json::Value;

fn corpus() -> Corpus {
    Corpus::load().unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
}

/// Each expected step with its case.
fn steps(corpus: &Corpus) -> impl Iterator<Item = (&Case, &Step)> {
    corpus
        .cases
        .iter()
        .flat_map(|case| case.steps.iter().map(move |step| (case, step)))
}

fn rule(step: &Step) -> &str {
    step.expect.rule.as_ref().unwrap().as_str()
}

fn reason(step: &Step) -> &str {
    step.expect.reason.as_ref().unwrap().as_str()
}

#[test]
fn names_are_unique() {
    let corpus = corpus();
    let mut seen = BTreeMap::new();
    for case in &corpus.cases {
        if let Some(other) = seen.insert(&case.name, &case.file) {
            panic!("`{}` is in {other} and in {}", case.name, case.file);
        }
    }
}

#[test]
fn every_reason_is_produced() {
    let (produced, missing) = corpus().reasons();
    assert!(
        missing.is_empty(),
        "{produced} reasons are produced, not by any case: {missing:?}"
    );
}

#[test]
fn expected_reasons_exist() {
    let words: BTreeSet<&str> = portcullis_policy::Reason::ALL
        .iter()
        .map(|r| r.word())
        .collect();
    for (case, step) in steps(&corpus()) {
        assert!(
            words.contains(reason(step)),
            "{}: `{}` is no reason",
            case.name,
            reason(step)
        );
    }
}

#[test]
fn every_kind_of_rule_is_hit() {
    let hit: BTreeSet<RuleKind> = steps(&corpus())
        .map(|(case, step)| {
            kind(rule(step)).unwrap_or_else(|| {
                panic!(
                    "{}: `{}` is the path of no kind of rule",
                    case.name,
                    rule(step)
                )
            })
        })
        .collect();
    let missing: Vec<_> = RuleKind::ALL
        .iter()
        .filter(|kind| !hit.contains(kind))
        .collect();
    assert!(missing.is_empty(), "no case hits {missing:?}");
}

/// The kind of the rule with this path.
fn kind(path: &str) -> Option<RuleKind> {
    let parts: Vec<&str> = path.split('.').collect();
    Some(match parts.as_slice() {
        ["builtin", _] => RuleKind::Builtin,
        ["clients", "deny" | "exempt" | "screen"] => RuleKind::Clients,
        ["probes", _] => RuleKind::Probes,
        ["revoked"] => RuleKind::Key,
        ["unauthenticated"] => RuleKind::Unauthenticated,
        ["apis", _, "keys"] | ["apis", _, "keys", "lookup"] => RuleKind::Credential,
        ["apis", _, "keys", key] if key.starts_with("inline[") => RuleKind::Key,
        ["apis", _, key] if key.starts_with("keys[") => RuleKind::Key,
        ["apis", _, "keys", "bundle"] => RuleKind::Key,
        ["apis", _, "keys", key] if key.starts_with("inline[") => RuleKind::Key,
        ["apis", _, "preflight"] => RuleKind::Preflight,
        ["apis", _, "domain_access", ..]
        | ["apis", _, "routes", _, "domain" | "grants" | "revokes"] => RuleKind::Domain,
        ["apis", _, "limits", _] => RuleKind::Limit,
        ["apis", _, "tiers", _, "quotas"] => RuleKind::Quota,
        ["apis", _, "tiers", _, "rate"] => RuleKind::Tier,
        ["apis", _, "unmatched"] => RuleKind::Unmatched,
        ["apis", _, "routes", _] => RuleKind::Route,
        ["apis", _, "routes", _, "body"] => RuleKind::Body,
        ["apis", _, "routes", _, "class", "from"]
        | ["apis", _, "routes", _, "fields", _]
        | ["apis", _, "routes", _, "fields", _, "tiers"] => RuleKind::Field,
        ["apis", _, "routes", _, "page"]
        | ["apis", _, "routes", _, "query", _]
        | ["apis", _, "routes", _, "query", _, "tiers"] => RuleKind::Query,
        ["apis", _, "routes", _, "idempotency"] => RuleKind::Idempotency,
        ["apis", _, "routes", _, "scope"] => RuleKind::Scope,
        ["apis", _, "routes", _, "screen", _] => RuleKind::Screen,
        ["apis", _, "routes", _, "upgrade"] => RuleKind::Upgrade,
        ["apis", _, "routes", _, "verdict"] => RuleKind::Verdict,
        _ => return None,
    })
}

/// Every row of the status table in every dialect.
#[test]
fn every_status_is_refused_in_every_dialect() {
    const ROWS: &[&str] = &[
        "body_malformed",
        "field_missing",
        "field_invalid",
        "path_invalid",
        "credential_missing",
        "credential_malformed",
        "key_unknown",
        "key_expired",
        "key_revoked",
        "scope_missing",
        "route_unknown",
        "method_not_allowed",
        "body_too_large",
        "body_encoded",
        "media_type_unsupported",
        "rate_limited",
        "unauthenticated_limited",
        "store_contended",
        "store_failed",
    ];
    let corpus = corpus();
    for dialect in ["cybervault", "cyborux", "shop"] {
        let produced: BTreeSet<&str> = steps(&corpus)
            .filter(|(case, step)| case.policy == dialect && step.expect.body.is_some())
            .map(|(_, step)| reason(step))
            .collect();
        for row in ROWS {
            assert!(
                produced.contains(row),
                "no case has the body of `{row}` in the dialect of `{dialect}`"
            );
        }
    }
}

/// Two cases that send the same to the same policy in the same state say nothing more than one; nor
/// does a case that is only the beginning of another.
#[test]
fn no_case_repeats_another() {
    let corpus = corpus();
    let mut repeated = Vec::new();
    for (index, case) in corpus.cases.iter().enumerate() {
        for other in corpus.cases.iter().skip(index + 1) {
            let (short, long) = if case.steps.len() <= other.steps.len() {
                (case, other)
            } else {
                (other, case)
            };
            let same_world = short.policy == long.policy && short.starts == long.starts;
            let same_way = ways(short).intersection(&ways(long)).next().is_some();
            let same_start = short.steps.iter().zip(&long.steps).all(|(a, b)| {
                (a.at, &a.request, &a.answer, &a.clusters, a.fault)
                    == (b.at, &b.request, &b.answer, &b.clusters, b.fault)
            });
            if same_world && same_way && same_start {
                repeated.push(format!(
                    "`{}` is the beginning of `{}`",
                    short.name, long.name
                ));
            }
        }
    }
    assert!(repeated.is_empty(), "{}", repeated.join("\n"));
}

fn ways(case: &Case) -> BTreeSet<(Profile, Protocol)> {
    case.runs().map(|run| (run.profile, run.protocol)).collect()
}

#[test]
fn most_cases_run_in_real_envoy() {
    let corpus = corpus();
    let simulated = corpus
        .cases
        .iter()
        .filter(|case| case.is_simulated())
        .count();
    let all = corpus.cases.len();
    assert!(
        simulated * 100 <= all * 15,
        "{simulated} of {all} cases are not for Envoy: at most 15 % may be"
    );
    assert!(
        all - simulated >= 150,
        "only {} cases run in all three rings",
        all - simulated
    );
}

/// Nothing that Envoy does before the filter is taken for granted elsewhere.
#[test]
fn codec_expectations_are_only_for_what_envoy_runs() {
    for case in corpus().cases.iter().filter(|case| case.is_simulated()) {
        assert!(
            case.steps.iter().all(|step| step.expect.envoy.is_empty()),
            "{}",
            case.name
        );
    }
}

#[test]
fn every_policy_is_used_and_valid_in_both_profiles() {
    let corpus = corpus();
    let used: BTreeSet<&String> = corpus.cases.iter().map(|case| &case.policy).collect();
    for (name, document) in &corpus.documents {
        assert!(used.contains(name), "no case uses the policy `{name}`");
        for profile in [Profile::Headers, Profile::Body] {
            if let Err(errors) =
                Policy::parse_with(&document.configuration(profile), "test", &variable)
            {
                let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
                panic!("{name} ({profile:?}): {}", lines.join("\n"));
            }
        }
    }
}

/// Both forms of one document are one policy: the revision that is made of the content is the same.
#[test]
fn both_forms_of_a_document_are_one_policy() {
    for document in corpus().documents.values() {
        let text = document.in_profile(Profile::Headers).to_string();
        let from_text = Policy::parse_with(text.as_bytes(), "test", &variable).unwrap();
        let from_struct =
            Policy::parse_with(&document.configuration(Profile::Headers), "test", &variable)
                .unwrap();
        assert_eq!(
            from_text.revision(),
            from_struct.revision(),
            "{}",
            document.name()
        );
    }
}

#[test]
fn policies_know_the_keys_of_the_cases() {
    let corpus = corpus();
    let mut known = BTreeSet::new();
    for (id, digest) in corpus.documents.values().flat_map(digests) {
        // The demo's keys are the README's, not ours.
        if let Some(key) = corpus.keys.get(&id) {
            let fits = digests_of(key).contains(&digest);
            assert!(fits, "{id} has the digest of another key");
            known.insert(id);
        }
    }
    let seeds: Vec<String> = corpus.documents.values().flat_map(seeds).collect();
    for (id, key) in &corpus.keys {
        let digests = digests_of(key);
        let has = |text: &str| digests.iter().any(|digest| text.contains(digest));
        // What no policy has, some service is asked for.
        let is_asked = || {
            let asked = steps(&corpus).flat_map(|(_, step)| step.expect.asked.values().flatten());
            asked.into_iter().any(|question| has(question.as_str()))
        };
        let is_seeded = || seeds.iter().any(|seed| has(seed));
        // Or it stands in a bundle, and opens.
        let opens = || {
            steps(&corpus).any(|(_, step)| {
                let mut headers = step.request.headers.iter();
                reason(step) == "allowed"
                    && headers.any(|(_, value)| value.as_bytes().ends_with(key.as_bytes()))
            })
        };
        assert!(
            known.contains(id) || is_seeded() || is_asked() || opens(),
            "no policy has the key `{id}`, and no service is asked for it"
        );
    }
}

/// All digests of a key: without a pepper, and with each.
fn digests_of(key: &str) -> Vec<String> {
    let peppers = ENVIRONMENT
        .iter()
        .map(|(_, pepper)| Some(pepper.as_bytes()));
    [None]
        .into_iter()
        .chain(peppers)
        .filter_map(|pepper| key_digest(key.as_bytes(), pepper))
        .collect()
}

/// What each API of a document says of its keys.
fn sources(document: &Document) -> impl Iterator<Item = &Value> {
    let apis = document.value().get("apis").and_then(Value::as_object);
    let apis = apis.into_iter().flatten();
    apis.filter_map(|(_, api)| api.get("keys"))
}

/// The bundles that a document brings along, in hexadecimal digits.
fn seeds(document: &Document) -> Vec<String> {
    let seeds = sources(document).filter_map(|keys| keys.pointer("/bundle/seed")?.as_str());
    seeds
        .map(|seed| {
            let bytes = Base64::decode_vec(seed).unwrap();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        })
        .collect()
}

fn digests(document: &Document) -> Vec<(String, String)> {
    let keys = sources(document).flat_map(|keys| {
        let inline = keys.get("inline").unwrap_or(keys);
        inline.as_array().into_iter().flatten()
    });
    keys.filter_map(|key| {
        let text = |name: &str| key.get(name)?.as_str().map(ToOwned::to_owned);
        Some((text("id")?, text("sha256").or_else(|| text("hmac_sha256"))?))
    })
    .collect()
}
