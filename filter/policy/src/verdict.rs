//! A verdict, as callers and upstreams are told of it.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use portcullis_threat::{Action, Code, Evidence, Hit, Host, Target, Verdict};
use serde::Serialize;

use crate::id::DecisionId;
use crate::node::Node;
use crate::policy::Reveal;
use crate::trace::TraceId;

/// What a verdict answers
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a Target<'a>,
    /// Where the registrable domain of its host begins
    pub(crate) registrable: Option<usize>,
    pub(crate) mode: &'a str,
    pub(crate) metadata: Option<&'a Node>,
    pub(crate) decision: &'a DecisionId,
    pub(crate) trace: Option<&'a TraceId>,
    pub(crate) snapshot: &'a str,
    /// Seconds since it was made, where it has an age
    pub(crate) snapshot_age: Option<u64>,
    pub(crate) reveal: Reveal,
    pub(crate) engine: &'static str,
    pub(crate) stale: bool,
}

/// The verdict as a header's value: a structured item with parameters (RFC 9651)
pub(crate) fn to_header(verdict: &Verdict<'_>, target: &Target<'_>, stale: bool) -> String {
    let (word, kind) = (verdict.classification.word(), target.kind().word());
    let stale = if stale { ";stale" } else { "" };
    format!("{word};type={kind};score={}{stale}", verdict.score.get())
}

/// The answer to the caller
pub(crate) fn to_json(verdict: &Verdict<'_>, asked: &Asked<'_>) -> Vec<u8> {
    let Asked {
        target,
        registrable,
        mode,
        metadata,
        decision,
        trace,
        snapshot,
        snapshot_age,
        reveal,
        engine,
        stale,
    } = *asked;
    let is_told = reveal != Reveal::None;
    // What isn't told is not said another way.
    let told = if is_told { &*verdict.hits } else { &[] };
    let decision_text = decision.text();
    let registrable_domain = match target.host() {
        Some(Host::Domain(name)) => registrable.and_then(|at| name.get(at..)),
        _ => None,
    };
    let action = |action: &Action| match action {
        Action::Block => ActionJson {
            scope: verdict.hits.first().map(|hit| hit.kind),
            ttl_s: Some(verdict.max_age),
            ..ActionJson::of(*action)
        },
        Action::Escalate => ActionJson {
            to: Some("deep"),
            ..ActionJson::of(*action)
        },
        Action::Refuse | Action::Warn => ActionJson {
            scope: Some("target"),
            ..ActionJson::of(*action)
        },
    };
    let answer = Answer {
        id: format!("qa_{decision}"),
        target: TargetJson {
            input: target.text(),
            r#type: target.kind().word(),
            canonical: target.canonical(),
            defanged: target.is_defanged(),
            host: target.host().map(ToString::to_string),
            registrable_domain,
            sha256: target.sha256().to_hex(),
        },
        mode,
        analysis: Analysis {
            origin: "edge",
            complete: false,
            engine,
            snapshot,
            snapshot_age_s: snapshot_age,
            stale,
        },
        risk_score: verdict.score.get(),
        confidence: f32::from(verdict.confidence()) / 100.0,
        classification: verdict.classification.word(),
        categories: verdict
            .categories()
            .filter(|_| is_told)
            .map(|category| category.word())
            .collect(),
        indicators: told
            .iter()
            .map(|hit| IndicatorJson::new(hit, reveal))
            .collect(),
        evidence: verdict
            .evidence
            .iter()
            .map(|found| EvidenceJson::new(found, told))
            .collect(),
        recommended_actions: verdict.actions().iter().map(action).collect(),
        cache: Cache {
            max_age_s: verdict.max_age,
        },
        metadata,
        trace_id: trace.map_or(decision_text.as_str(), TraceId::as_str),
    };
    serde_json::to_vec(&answer).unwrap_or_default()
}

#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    target: TargetJson<'a>,
    mode: &'a str,
    analysis: Analysis<'a>,
    risk_score: u8,
    confidence: f32,
    classification: &'a str,
    categories: Vec<&'a str>,
    indicators: Vec<IndicatorJson<'a>>,
    evidence: Vec<EvidenceJson>,
    recommended_actions: Vec<ActionJson>,
    cache: Cache,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Node>,
    trace_id: &'a str,
}

#[derive(Serialize)]
struct TargetJson<'a> {
    input: &'a str,
    r#type: &'a str,
    canonical: &'a str,
    defanged: bool,
    host: Option<String>,
    registrable_domain: Option<&'a str>,
    sha256: String,
}

#[derive(Serialize)]
struct Analysis<'a> {
    origin: &'a str,
    complete: bool,
    engine: &'a str,
    snapshot: &'a str,
    snapshot_age_s: Option<u64>,
    stale: bool,
}

#[derive(Serialize)]
struct IndicatorJson<'a> {
    r#type: &'a str,
    value: &'a str,
    r#match: &'a str,
    /// Never of another than the policy itself, unless sources are revealed
    #[serde(skip_serializing_if = "Option::is_none")]
    feed: Option<&'a str>,
}

impl<'a> IndicatorJson<'a> {
    fn new(hit: &'a Hit<'a>, reveal: Reveal) -> Self {
        Self {
            r#type: hit.kind,
            value: &hit.value,
            r#match: hit.how.word(),
            feed: match hit.feed {
                None => Some("policy"),
                Some(feed) => Some(feed.name).filter(|_| reveal == Reveal::Source),
            },
        }
    }
}

#[derive(Serialize)]
struct EvidenceJson {
    code: &'static str,
    points: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
}

impl EvidenceJson {
    fn new(evidence: &Evidence, hits: &[Hit<'_>]) -> Self {
        let detail = match evidence.code {
            Code::FeedMatch => {
                let hit = hits.iter().find(|hit| !hit.embedded);
                hit.map(|hit| format!("listed: {} ({})", hit.value, hit.how.word()).into())
            }
            Code::AddressInternal => Some("the address is private, local or reserved".into()),
            Code::BundleStale => Some("the feeds are too old, or not there".into()),
            Code::UrlInvalid => Some("the URL has no host that a browser would open".into()),
            _ => None,
        };
        Self {
            code: evidence.code.word(),
            points: evidence.points.get(),
            detail,
        }
    }
}

#[derive(Serialize)]
struct ActionJson {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
}

impl ActionJson {
    fn of(action: Action) -> Self {
        Self {
            action: action.word(),
            scope: None,
            ttl_s: None,
            to: None,
        }
    }
}

#[derive(Serialize)]
struct Cache {
    max_age_s: u32,
}
