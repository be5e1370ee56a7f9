//! Replies in the words of the API that they stand in for.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use crate::grpc::{self, Grpc};
use crate::id::DecisionId;
use crate::rate::RateHeaders;
use crate::reason::Reason;
use crate::record::EXPLANATION;
use crate::trace::TraceId;

/// A reply that the gate gives itself
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// HTTP status
    pub status: u16,
    /// Headers, names in lower case; values are visible ASCII and spaces
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty in answer to HEAD
    pub body: Vec<u8>,
    /// The gRPC code that it stands for, 0 to 16: for hosts that make gRPC of a reply themselves
    pub grpc_status: u8,
}

/// The words of an API: its error bodies and the unit of its `X-RateLimit-Reset`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// `{"error_code", "message", "details", "trace_id"}`; Reset is a Unix time. The trace is the one
    /// that `traceparent` names, or else the decision
    Cybervault,
    /// `{"detail"}`; Reset is in seconds from now
    Cyborux,
    /// Problem details (RFC 9457); Reset is in seconds from now
    Problem,
}

/// The unit of `X-RateLimit-Reset`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResetUnit {
    Seconds,
    UnixTime,
}

/// What a refusal says besides its reason
#[derive(Clone, Debug, Default)]
pub(crate) struct Particulars {
    /// Methods that are allowed, for 405
    pub(crate) allow: Option<String>,
    /// The value of `WWW-Authenticate`
    pub(crate) challenge: Option<String>,
    /// The field that is wrong, and how
    pub(crate) field: Option<(String, String)>,
    /// Nanoseconds until another try makes sense
    pub(crate) retry_after: Option<u64>,
}

impl Dialect {
    pub(crate) fn reset_unit(self) -> ResetUnit {
        match self {
            Self::Cybervault => ResetUnit::UnixTime,
            Self::Cyborux | Self::Problem => ResetUnit::Seconds,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Cybervault | Self::Cyborux => JSON,
            Self::Problem => "application/problem+json",
        }
    }

    fn body(
        self,
        reason: Reason,
        message: &str,
        decision: DecisionId,
        trace: Option<&TraceId>,
        particulars: &Particulars,
    ) -> Vec<u8> {
        let field = particulars.field.as_ref().map(|(name, _)| name.as_str());
        let code = reason.public_word();
        let retry_after = particulars.retry_after.map(retry_after);
        let body = match self {
            Self::Cybervault => {
                let details = (field.is_some() || retry_after.is_some())
                    .then_some(Details { field, retry_after });
                let decision = decision.text();
                let trace_id = trace.map_or(decision.as_str(), TraceId::as_str);
                serde_json::to_vec(&Cybervault {
                    error_code: code,
                    message,
                    details,
                    trace_id,
                })
            }
            Self::Cyborux => serde_json::to_vec(&Cyborux { detail: message }),
            Self::Problem => serde_json::to_vec(&Problem {
                r#type: "about:blank",
                title: title(reason.status()),
                status: reason.status(),
                detail: message,
                instance: format!("urn:ulid:{decision}"),
                code,
                field,
                retry_after,
            }),
        };
        body.unwrap_or_default()
    }
}

impl Particulars {
    /// One sentence for the caller, without its final period
    fn message(&self, reason: Reason) -> String {
        match &self.field {
            Some((name, problem)) => format!("The parameter `{name}` {problem}"),
            None => reason.message().to_string(),
        }
    }
}

impl Reply {
    /// A refusal: in the words of the API, or in gRPC to who speaks that
    pub(crate) fn refuse(
        reason: Reason,
        dialect: Dialect,
        grpc: Option<Grpc>,
        decision: DecisionId,
        trace: Option<&TraceId>,
        rate: Option<&RateHeaders>,
        particulars: Particulars,
    ) -> Self {
        let message = particulars.message(reason);
        let code = grpc::code(reason.status());
        let (status, content_type, body) = match grpc {
            None => (
                reason.status(),
                dialect.content_type(),
                dialect.body(reason, &message, decision, trace, &particulars),
            ),
            Some(grpc) => (200, grpc.content_type(), grpc.body(code, &message)),
        };
        let mut reply = Self::new(status, content_type, body, decision, rate);
        reply.grpc_status = code;
        if grpc == Some(Grpc::Http2) {
            reply.headers.push(("grpc-status", code.to_string()));
            let message = grpc::percent_encode(&message);
            reply.headers.push(("grpc-message", message));
            if let Some(wait) = particulars.retry_after {
                let wait = grpc::pushback(retry_after(wait));
                reply.headers.push(("grpc-retry-pushback-ms", wait));
            }
        }
        if let Some(allow) = particulars.allow {
            reply.headers.push(("allow", allow));
        }
        if let Some(challenge) = particulars.challenge {
            reply.headers.push(("www-authenticate", challenge));
        }
        if let Some(wait) = particulars.retry_after {
            reply
                .headers
                .push(("retry-after", retry_after(wait).to_string()));
        }
        reply
    }

    /// An answer that is no refusal: JSON, status 200
    pub(crate) fn answer(body: Vec<u8>, decision: DecisionId, rate: Option<&RateHeaders>) -> Self {
        Self::new(200, JSON, body, decision, rate)
    }

    /// The answer to a readiness probe
    pub(crate) fn ready(revision: &str, decision: DecisionId, rate: Option<&RateHeaders>) -> Self {
        let body = serde_json::to_vec(&Ready {
            ready: true,
            revision,
        })
        .unwrap_or_default();
        Self::answer(body, decision, rate)
    }

    /// Adds what a caller who asked why is told
    pub(crate) fn explained(mut self, explanation: Option<&str>) -> Self {
        if let Some(explanation) = explanation {
            self.headers.push((EXPLANATION, explanation.into()));
        }
        self
    }

    /// Takes the body away, for HEAD (RFC 9110, section 9.3.2)
    pub(crate) fn without_body(mut self) -> Self {
        self.body.clear();
        self
    }

    fn new(
        status: u16,
        content_type: &str,
        body: Vec<u8>,
        decision: DecisionId,
        rate: Option<&RateHeaders>,
    ) -> Self {
        let mut headers = Vec::with_capacity(8);
        headers.push(("content-type", content_type.into()));
        headers.push(("cache-control", "no-store".into()));
        headers.push(("x-portcullis-decision", decision.text().as_str().into()));
        if let Some(rate) = rate {
            rate.each(|name, value| headers.push((name, value.into())));
        }
        Self {
            status,
            headers,
            body,
            grpc_status: 0,
        }
    }
}

const JSON: &str = "application/json";

/// Whole seconds to wait, at least 1 (RFC 9110, section 10.2.3)
fn retry_after(nanoseconds: u64) -> u64 {
    crate::rate::seconds_up(nanoseconds).max(1)
}

#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    revision: &'a str,
}

#[derive(Serialize)]
struct Cybervault<'a> {
    error_code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    trace_id: &'a str,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Cyborux<'a> {
    detail: &'a str,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// The reason phrase of a status (RFC 9110, section 15)
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        _ => "Service Unavailable",
    }
}
