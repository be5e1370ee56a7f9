//! The one check of the corpus: a run against a ring.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use crate::case::{Run, Step};
use crate::document::Document;
use crate::expect::{self, Expect, ExpectBody, ExpectEnvoy, ExpectUpstream};
use crate::json::{self, Extent};
use crate::law::hold_laws;
use crate::octets::printable;
use crate::pattern::Pattern;
use crate::ring::{Exchange, Record, Response, Ring, Seen};

/// Runs a case on a ring.
///
/// `secrets` are texts that must appear nowhere in what the filter says: the keys.
///
/// # Errors
/// The first step that did not go as expected, with every difference.
pub fn check<R: Ring>(
    run: Run<'_>,
    document: &Document,
    secrets: &[&str],
    ring: &mut R,
) -> Result<(), Box<Mismatch>> {
    let mismatch = |step: usize, differences: Vec<String>, exchange: Option<&Exchange>| {
        Box::new(Mismatch {
            run: run.to_string(),
            file: run.case.file.clone(),
            step,
            request: run
                .case
                .steps
                .get(step)
                .map(describe_request)
                .unwrap_or_default(),
            differences,
            found: exchange.map(describe).unwrap_or_default(),
        })
    };
    let mut session = ring
        .begin(run, document)
        .map_err(|e| mismatch(0, vec![e], None))?;
    for (index, step) in run.case.steps.iter().enumerate() {
        let exchange = session
            .exchange(step)
            .map_err(|e| mismatch(index, vec![e], None))?;
        let differences = compare(step, &exchange, codec_end::<R>(run, step), secrets);
        if !differences.is_empty() {
            return Err(mismatch(index, differences, Some(&exchange)));
        }
    }
    Ok(())
}

/// A step that did not go as expected.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Which run.
    pub run: String,
    /// The file of its case.
    pub file: String,
    /// Index of the step.
    pub step: usize,
    /// Its request in one line.
    pub request: String,
    /// What, expected, found; one line each.
    pub differences: Vec<String>,
    /// All that came of it, in lines; empty if the ring itself failed.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.saturating_add(1);
        writeln!(
            f,
            "{} ({}), step {step}: {}",
            self.run, self.file, self.request
        )?;
        for difference in &self.differences {
            writeln!(f, "  {difference}")?;
        }
        for line in self.found.lines() {
            writeln!(f, "    | {line}")?;
        }
        Ok(())
    }
}

/// What a real codec must do to the request before the filter sees it.
fn codec_end<R: Ring>(run: Run<'_>, step: &Step) -> Option<ExpectEnvoy> {
    step.expect
        .envoy
        .get(&run.protocol)
        .filter(|_| R::IS_REAL)
        .copied()
}

fn compare(
    step: &Step,
    exchange: &Exchange,
    codec_end: Option<ExpectEnvoy>,
    secrets: &[&str],
) -> Vec<String> {
    let mut found = Differences(Vec::new());
    match codec_end {
        Some(end) => found.of_codec(end, exchange),
        None => found.of_filter(step, exchange),
    }
    let mut sent = step.request.headers.iter();
    let credential = sent.find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(b"authorization"));
    let credential = credential.map(|(_, value)| value.as_bytes());
    found.of_secrets(exchange, secrets, credential);
    hold_laws(exchange, &mut found);
    found.0
}

/// The differences found so far, one line each.
pub(crate) struct Differences(Vec<String>);

impl Differences {
    pub(crate) fn add(
        &mut self,
        what: &str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.0
            .push(format!("{what}: expected {expected}, found {found}"));
    }

    fn of_codec(&mut self, expected: ExpectEnvoy, exchange: &Exchange) {
        match (expected, &exchange.response) {
            (ExpectEnvoy::Closed, None) => {}
            (ExpectEnvoy::Closed, Some(response)) => {
                self.add("envoy", "a closed connection", response.status);
            }
            (ExpectEnvoy::Status(status), Some(response)) if response.status == status => {}
            (ExpectEnvoy::Status(status), Some(response)) => {
                self.add("envoy", status, response.status);
            }
            (ExpectEnvoy::Status(status), None) => self.add("envoy", status, "a closed connection"),
        }
        if let Some(record) = &exchange.record {
            self.add("envoy", "a refusal before the filter", record);
        }
        if exchange.upstream.is_some() {
            self.add("upstream", "not to be reached", "that it was");
        }
    }

    fn of_filter(&mut self, step: &Step, exchange: &Exchange) {
        let expect = &step.expect;
        match &exchange.response {
            Some(response) => self.of_response(expect, step.answer.status, response, exchange.wall),
            None => self.add("answer", "one", "a closed connection"),
        }
        self.of_record(expect, exchange);
        match (&expect.upstream, &exchange.upstream) {
            (Some(expected), Some(seen)) => self.of_upstream(expected, seen, exchange.wall),
            (None, None) => {}
            (Some(_), None) => self.add("upstream", "to be reached", "that it wasn't"),
            (None, Some(_)) => self.add("upstream", "not to be reached", "that it was"),
        }
        self.of_asked(expect, exchange);
    }

    fn of_asked(&mut self, expect: &Expect, exchange: &Exchange) {
        let nothing = Vec::new();
        let clusters: BTreeSet<&String> =
            expect.asked.keys().chain(exchange.asked.keys()).collect();
        for cluster in clusters {
            let asked = exchange.asked.get(cluster).into_iter().flatten();
            let found: Vec<Vec<u8>> = asked
                .map(|asked| [asked.method.as_slice(), b" ", asked.path.as_slice()].concat())
                .collect();
            let expected = expect.asked.get(cluster).unwrap_or(&nothing);
            let same = expected.len() == found.len()
                && expected
                    .iter()
                    .zip(&found)
                    .all(|(pattern, found)| text_matches(pattern, found, exchange.wall));
            if !same {
                let found: Vec<_> = found.iter().map(|line| quoted(line)).collect();
                let what = format!("cluster {cluster}");
                self.add(&what, format!("to be asked {expected:?}"), found.join(", "));
            }
        }
    }

    fn of_response(&mut self, expect: &Expect, answered: u16, response: &Response, wall: u64) {
        let status = expect.status.unwrap_or(answered);
        if response.status != status {
            self.add("status", status, response.status);
        }
        for (name, expected) in &expect.headers {
            let found = joined(&response.headers, name);
            self.of_text(
                &format!("header {name}"),
                expected.as_ref(),
                found.as_deref(),
                wall,
            );
        }
        match &expect.body {
            None => {}
            Some(ExpectBody::Text(pattern)) => {
                self.of_text("body", Some(pattern), Some(&response.body), wall);
            }
            Some(ExpectBody::Octets(octets)) if octets.as_bytes() == response.body => {}
            Some(ExpectBody::Octets(octets)) => {
                self.add("body", format!("{octets:?}"), quoted(&response.body));
            }
            Some(ExpectBody::Json(expected)) => {
                self.of_json(expected, &response.body, Extent::All, wall);
            }
            Some(ExpectBody::Contains(expected)) => {
                self.of_json(expected, &response.body, Extent::Some, wall);
            }
        }
    }

    fn of_json(&mut self, expected: &serde_json::Value, body: &[u8], extent: Extent, wall: u64) {
        match serde_json::from_slice(body) {
            Ok(found) => self
                .0
                .extend(json::differences(expected, &found, extent, wall)),
            Err(_) => self.add("body", "JSON", quoted(body)),
        }
    }

    fn of_record(&mut self, expect: &Expect, exchange: &Exchange) {
        let Some(record) = &exchange.record else {
            if expect.reason.is_some() {
                self.add("record", "a decision", "none");
            }
            return;
        };
        if expect.reason.is_none() {
            self.add("record", "no decision", record);
        }
        let stated = [("reason", &expect.reason), ("rule", &expect.rule)];
        for (name, expected) in stated {
            if let Some(expected) = expected {
                self.of_field(record, name, Some(expected), exchange.wall);
            }
        }
        for (name, expected) in &expect.record {
            self.of_field(record, name, expected.as_ref(), exchange.wall);
        }
    }

    fn of_field(&mut self, record: &Record, name: &str, expected: Option<&Pattern>, wall: u64) {
        let found = record.get(name);
        self.of_text(name, expected, found.as_deref().map(str::as_bytes), wall);
    }

    fn of_upstream(&mut self, expected: &ExpectUpstream, seen: &Seen, wall: u64) {
        let whole = [
            ("upstream method", &expected.method, &seen.method),
            ("upstream path", &expected.path, &seen.path),
            ("upstream body", &expected.body, &seen.body),
        ];
        for (what, expected, found) in whole {
            if let Some(expected) = expected
                && expected.as_bytes() != found
            {
                self.add(what, format!("{expected:?}"), quoted(found));
            }
        }
        let maps = [
            ("upstream header", &expected.headers, &seen.headers),
            ("upstream trailer", &expected.trailers, &seen.trailers),
        ];
        for (kind, expected, found) in maps {
            for (name, expected) in expected {
                let found = joined(found, name);
                let what = format!("{kind} {name}");
                match expected {
                    Some(expect::Seen::Octets(octets)) => {
                        if found.as_deref() != Some(octets.as_bytes()) {
                            self.add(&what, format!("{octets:?}"), maybe(found.as_deref()));
                        }
                    }
                    Some(expect::Seen::Pattern(pattern)) => {
                        self.of_text(&what, Some(pattern), found.as_deref(), wall);
                    }
                    None => self.of_text(&what, None, found.as_deref(), wall),
                }
            }
        }
    }

    fn of_text(&mut self, what: &str, expected: Option<&Pattern>, found: Option<&[u8]>, wall: u64) {
        match (expected, found) {
            (None, None) => {}
            (Some(pattern), Some(found)) if text_matches(pattern, found, wall) => {}
            (Some(pattern), found) => self.add(what, format!("{pattern:?}"), maybe(found)),
            (None, Some(found)) => self.add(what, "nothing", quoted(found)),
        }
    }

    pub(crate) fn of_law(&mut self, what: &str, expected: Option<&str>, found: Option<Vec<u8>>) {
        if expected.map(str::as_bytes) != found.as_deref() {
            self.add(
                what,
                maybe(expected.map(str::as_bytes)),
                maybe(found.as_deref()),
            );
        }
    }

    /// A key is for the filter's eyes alone: it is in no log line and in no answer, and in no question but one in its
    /// owner's name.
    fn of_secrets(&mut self, exchange: &Exchange, secrets: &[&str], credential: Option<&[u8]>) {
        let contains = |bytes: &[u8], secret: &str| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        };
        for secret in secrets {
            if let Some(line) = exchange.log.iter().find(|line| line.contains(secret)) {
                self.add("log", "no key in it", line);
            }
            if let Some(response) = &exchange.response {
                let in_header = response
                    .headers
                    .iter()
                    .any(|(_, value)| contains(value, secret));
                if in_header || contains(&response.body, secret) {
                    self.add("answer", "no key in it", "one");
                }
            }
            for asked in exchange.asked.values().flatten() {
                // But for the caller's own, asked for in its name.
                let is_own = |(name, value): &&(String, Vec<u8>)| {
                    name == "authorization" && credential.is_some_and(|own| own == value)
                };
                let mut others = asked.headers.iter().filter(|header| !is_own(header));
                if others.any(|(_, value)| contains(value, secret))
                    || contains(&asked.path, secret)
                    || contains(&asked.body, secret)
                {
                    self.add("a question to a service", "no key in it", "one");
                }
            }
        }
    }
}

fn text_matches(pattern: &Pattern, bytes: &[u8], wall: u64) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| pattern.matches(text, wall))
}

/// All values of a name in one, as RFC 9110 section 5.3 has it; `None`: the name is absent.
pub(crate) fn joined(headers: &[(String, Vec<u8>)], name: &str) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = headers
        .iter()
        .filter(|(n, _)| n == name)
        .map(|(_, value)| value.as_slice())
        .collect();
    if values.is_empty() {
        None
    } else {
        Some(values.join(b", ".as_slice()))
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("`{}`", printable(bytes))
}

pub(crate) fn maybe(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "nothing".to_owned(), quoted)
}

fn describe_request(step: &Step) -> String {
    let text = |octets: &Option<crate::octets::Octets>| {
        octets
            .as_ref()
            .map_or_else(String::new, |octets| printable(octets.as_bytes()))
    };
    format!(
        "{} {}",
        text(&step.request.method),
        text(&step.request.path)
    )
}

fn describe(exchange: &Exchange) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // INVARIANT: writing into a String can't fail.
        let _ = writeln!(out, "{text}");
    };
    match &exchange.response {
        Some(response) => {
            line(format!("answer {}", response.status));
            for (name, value) in &response.headers {
                line(format!("  {name}: {}", printable(value)));
            }
            line(format!("  {}", printable(&response.body)));
        }
        None => line("answer none: the connection was closed".to_owned()),
    }
    match &exchange.record {
        Some(record) => line(format!("record {record}")),
        None => line("record none".to_owned()),
    }
    match &exchange.upstream {
        Some(seen) => {
            line(format!(
                "upstream {} {}",
                printable(&seen.method),
                printable(&seen.path)
            ));
            for (name, value) in seen.headers.iter().chain(&seen.trailers) {
                line(format!("  {name}: {}", printable(value)));
            }
            line(format!("  {}", printable(&seen.body)));
        }
        None => line("upstream not reached".to_owned()),
    }
    for text in exchange
        .log
        .iter()
        .filter(|text| !text.starts_with("decision "))
    {
        line(format!("log {text}"));
    }
    out
}
