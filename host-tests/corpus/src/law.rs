//! What holds for every exchange, whatever its case expects.

use portcullis_policy::is_reserved;

use crate::check::{Differences, joined, maybe};
use crate::ring::Exchange;

/// Checks the laws of an exchange that the filter decided.
pub(crate) fn hold_laws(exchange: &Exchange, found: &mut Differences) {
    let Some(record) = &exchange.record else {
        return;
    };
    let decision = record.get("decision");
    if let Some(seen) = &exchange.upstream {
        // What the upstream reads under our prefix was written by the gate.
        let reserved = seen
            .headers
            .iter()
            .chain(&seen.trailers)
            .map(|(name, _)| name.as_str());
        for name in reserved.filter(|name| is_reserved(name.as_bytes())) {
            if !TO_UPSTREAM.contains(&name) {
                found.add("upstream header", "none that the gate didn't write", name);
            }
        }
        let id = joined(&seen.headers, "x-portcullis-decision");
        // Nothing comes of a decision that is only observed.
        let mode = exchange
            .record
            .as_ref()
            .and_then(|record| record.get("mode"));
        let told = decision
            .as_deref()
            .filter(|_| mode.as_deref() != Some("observe"));
        found.of_law("upstream header x-portcullis-decision", told, id);
    } else if let Some(response) = &exchange.response {
        let header = |name: &str| joined(&response.headers, name);
        let number =
            |name: &str| header(name).and_then(|v| str::from_utf8(&v).ok()?.parse::<u64>().ok());
        found.of_law(
            "header x-portcullis-decision",
            decision.as_deref(),
            header("x-portcullis-decision"),
        );
        found.of_law(
            "header cache-control",
            Some("no-store"),
            header("cache-control"),
        );
        // gRPC over HTTP/2, "Responses": what is refused ends with its headers.
        if header("grpc-status").is_some() {
            let told = (header("content-type"), response.status, response.body.len());
            if told != (Some(b"application/grpc".to_vec()), 200, 0) {
                found.add("a reply in gRPC", "trailers only", format!("{told:?}"));
            }
        }
        // RFC 9110, 15.5.2 and 15.5.6; RFC 6585, 4.
        let required: &[&str] = match response.status {
            401 => &["www-authenticate"],
            405 => &["allow"],
            429 => &[
                "retry-after",
                "x-ratelimit-limit",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
            ],
            503 => &["retry-after"],
            _ => &[],
        };
        for name in required.iter().filter(|name| header(name).is_none()) {
            found.add(
                &format!("header {name}"),
                format!("one with status {}", response.status),
                "nothing",
            );
        }
        if header("retry-after").is_some()
            && number("retry-after").is_none_or(|seconds| seconds == 0)
        {
            found.add(
                "header retry-after",
                "whole seconds, at least 1",
                maybe(header("retry-after").as_deref()),
            );
        }
    }
}

/// The headers that the gate writes for the upstream.
const TO_UPSTREAM: &[&str] = &[
    "x-portcullis-class",
    "x-portcullis-decision",
    "x-portcullis-key",
    "x-portcullis-over-limit",
    "x-portcullis-principal",
    "x-portcullis-screen",
    "x-portcullis-tier",
    "x-portcullis-verdict",
];
