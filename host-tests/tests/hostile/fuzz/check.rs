//! What must hold after each event.

use std::collections::BTreeSet;

use portcullis_corpus::Profile;
use portcullis_host::{Event, Headers, Side};
use portcullis_policy::is_reserved;

use super::play::{Play, Stream};
use crate::traffic::SPOOF;

impl Play<'_> {
    /// Looks at all that has left the filter chain.
    pub(super) fn examine(&mut self) {
        for number in 0..self.ledgers.len() {
            let traps = self.worker(number).traps().to_vec();
            assert!(traps.is_empty(), "{traps:?}");
        }
        for index in 0..self.streams.len() {
            let Stream {
                plug, id, context, ..
            } = self.streams[index];
            let account = self.ledgers[plug.worker].of(context);
            // Under a policy that is rolled out, some principals are only observed: theirs stays as it came.
            let observes = plug.policy.is_some_and(|policy| {
                let document = &self.stage.policies[policy].0;
                let document = document.in_profile(Profile::Headers);
                document.get("rollout").is_some() || document.get("mode") == Some(&"observe".into())
            });
            for event in self.worker(plug.worker).take_events(id).unwrap() {
                match event {
                    Event::Headers {
                        side: Side::Request,
                        headers,
                        ..
                    } => {
                        self.tally.forwarded += 1;
                        self.streams[index].forwarded = true;
                        assert!(plug.policy.is_some(), "{context} passed without a policy");
                        if account.lied || observes {
                            continue;
                        }
                        assert!(
                            !account.headers_refused,
                            "{context} passed, though the host refused its edits: {}",
                            shown(&headers)
                        );
                        check_claims(&headers);
                        let known = plug.policy.filter(|_| !plug.garbled);
                        let stripping = known.map(|policy| &self.stage.policies[policy].1);
                        let leaked = stripping.and_then(|stripping| stripping.leaked(&headers));
                        assert_eq!(leaked, None, "{}", shown(&headers));
                    }
                    Event::Trailers {
                        side: Side::Request,
                        trailers,
                    } => {
                        self.tally.trailers += 1;
                        if !account.lied && !observes {
                            let shown = shown(&trailers);
                            assert!(!account.trailers_refused, "{context} passed: {shown}");
                            assert!(
                                !trailers.iter().any(|(name, _)| is_reserved(name)),
                                "{shown}"
                            );
                        }
                    }
                    Event::Headers { .. } => self.tally.answered += 1,
                    _ => {}
                }
            }
        }
    }
}

/// What goes to the upstream under our prefix is ours, and there once.
fn check_claims(headers: &Headers) {
    const OURS: &[&[u8]] = &[
        b"x-portcullis-class",
        b"x-portcullis-decision",
        b"x-portcullis-key",
        b"x-portcullis-over-limit",
        b"x-portcullis-principal",
        b"x-portcullis-screen",
        b"x-portcullis-tier",
        b"x-portcullis-verdict",
    ];
    let mut seen = BTreeSet::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_reserved(name)) {
        let ours = OURS.contains(&name.as_slice()) && !value.starts_with(SPOOF);
        assert!(ours && seen.insert(name), "{}", shown(headers));
    }
    assert!(
        seen.contains(&b"x-portcullis-decision".to_vec()),
        "{}",
        shown(headers)
    );
}

pub(super) fn shown(headers: &Headers) -> String {
    let all: Vec<String> = headers
        .iter()
        .map(|(name, value)| {
            let value = &value[..value.len().min(80)];
            format!("{}: {}", name.escape_ascii(), value.escape_ascii())
        })
        .collect();
    format!("[{}]", all.join(", "))
}
