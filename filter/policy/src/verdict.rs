//! The quick verdict on a target.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use crate::id::DecisionId;
use crate::indicator::{Hit, Indicators};
use crate::network::Network;
use crate::node::Node;
use crate::target::{Host, Target, TargetKind};
use crate::trace::TraceId;

/// A verdict: what the gate knows of a target, never more
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) classification: Classification,
    /// 0 to 100
    pub(crate) risk_score: u8,
    hit: Option<Hit>,
    evidence: Vec<Evidence>,
}

/// What a target is
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Classification {
    /// An address that no outsider should submit
    Internal,
    /// A URL that no browser opens
    Invalid,
    /// An indicator matches
    Malicious,
    /// Nothing is known; never "clean" by absence
    Unknown,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Evidence {
    code: &'static str,
    points: u8,
    detail: String,
}

impl Classification {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::Malicious => "malicious",
            Self::Unknown => "unknown",
        }
    }
}

impl Verdict {
    /// Judges a target
    pub(crate) fn judge(target: &Target, indicators: &Indicators) -> Self {
        let hit = indicators.look_up(target);
        let mut evidence = Vec::new();
        if let Some(hit) = &hit {
            let detail = format!("listed: {} ({})", hit.value, hit.how);
            evidence.push(Evidence {
                code: "FEED_MATCH",
                points: 90,
                detail,
            });
        }
        let internal = matches!(&target.host, Some(Host::Address(address)) if Network::from(*address).is_internal());
        if internal {
            let detail = "the address is private, local or reserved".into();
            evidence.push(Evidence {
                code: "ADDRESS_INTERNAL",
                points: 0,
                detail,
            });
        }
        let invalid = target.kind == TargetKind::Url && target.host.is_none();
        if invalid {
            let detail = "the URL has no host that a browser would open".into();
            evidence.push(Evidence {
                code: "URL_INVALID",
                points: 0,
                detail,
            });
        }
        let classification = if hit.is_some() {
            Classification::Malicious
        } else if internal {
            Classification::Internal
        } else if invalid {
            Classification::Invalid
        } else {
            Classification::Unknown
        };
        let risk_score = evidence
            .iter()
            .map(|evidence| evidence.points)
            .max()
            .unwrap_or_default();
        Self {
            classification,
            risk_score,
            hit,
            evidence,
        }
    }

    /// The verdict as a header's value: a structured item with parameters (RFC 9651)
    pub(crate) fn to_header(&self, target: &Target) -> String {
        let (word, kind) = (self.classification.word(), target.kind.word());
        format!("{word};type={kind};score={}", self.risk_score)
    }

    /// The answer to the caller
    pub(crate) fn to_json(&self, asked: &Asked<'_>) -> Vec<u8> {
        let Asked {
            input,
            target,
            mode,
            metadata,
            decision,
            trace,
            snapshot,
        } = *asked;
        let malicious = self.classification == Classification::Malicious;
        let mut actions = Vec::new();
        if malicious {
            let scope = self.hit.as_ref().map(|hit| hit.kind);
            actions.push(Action {
                action: "block",
                scope,
                ttl_s: Some(MALICIOUS_FOR),
                to: None,
            });
        }
        if self.classification == Classification::Internal {
            actions.push(Action {
                action: "refuse",
                scope: Some("target"),
                ttl_s: None,
                to: None,
            });
        }
        if malicious || self.classification == Classification::Unknown {
            actions.push(Action {
                action: "escalate",
                scope: None,
                ttl_s: None,
                to: Some("deep"),
            });
        }
        let decision_text = decision.text();
        let answer = Answer {
            id: format!("qa_{decision}"),
            target: TargetJson {
                input,
                r#type: target.kind.word(),
                canonical: &target.canonical,
                defanged: target.defanged,
                host: target.host.as_ref().map(ToString::to_string),
                registrable_domain: None,
                sha256: &target.sha256,
            },
            mode,
            analysis: Analysis {
                origin: "edge",
                complete: false,
                engine: "quick/1",
                snapshot,
                snapshot_age_s: None,
                stale: false,
            },
            risk_score: self.risk_score,
            confidence: if malicious { 0.95 } else { 0.0 },
            classification: self.classification.word(),
            categories: self.hit.iter().map(|hit| hit.category.word()).collect(),
            indicators: self.hit.iter().map(IndicatorJson::new).collect(),
            evidence: &self.evidence,
            recommended_actions: actions,
            cache: Cache {
                max_age_s: if malicious {
                    MALICIOUS_FOR
                } else {
                    UNKNOWN_FOR
                },
            },
            metadata,
            trace_id: trace.map_or(decision_text.as_str(), TraceId::as_str),
        };
        serde_json::to_vec(&answer).unwrap_or_default()
    }
}

/// What a verdict answers
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) input: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) mode: &'a str,
    pub(crate) metadata: Option<&'a Node>,
    pub(crate) decision: &'a DecisionId,
    pub(crate) trace: Option<&'a TraceId>,
    pub(crate) snapshot: &'a str,
}

/// Seconds that a caller may keep a verdict
const MALICIOUS_FOR: u32 = 3600;
const UNKNOWN_FOR: u32 = 300;

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
    evidence: &'a [Evidence],
    recommended_actions: Vec<Action<'a>>,
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
    sha256: &'a str,
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
    feed: &'a str,
}

impl<'a> IndicatorJson<'a> {
    fn new(hit: &'a Hit) -> Self {
        Self {
            r#type: hit.kind,
            value: &hit.value,
            r#match: hit.how,
            feed: "policy",
        }
    }
}

#[derive(Serialize)]
struct Action<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
}

#[derive(Serialize)]
struct Cache {
    max_age_s: u32,
}
