//! What the upstream's answer says of a target, beside the verdict that was made of it and of which nothing came.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;

use portcullis_threat::Classification;

use crate::body::is_json;
use crate::callout::Response;
use crate::gzip;
use crate::node::Node;
use crate::pointer::Pointer;

/// A verdict that the upstream's answer to the same request is to be compared with
///
/// A shell hands the answer to it: its headers to [`begin`](Self::begin), then its body to [`read`](Self::read). What
/// comes of it belongs in the record ([`Record::compare`](crate::Record::compare)).
#[derive(Clone, Debug)]
#[must_use = "a verdict that is compared with nothing is nowhere counted"]
pub struct Comparison {
    compare: Rc<Compare>,
    coding: Coding,
}

/// How the body of an answer is encoded
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Coding {
    Identity,
    Gzip,
}

/// How an upstream tells its verdict
#[derive(Debug)]
pub(crate) struct Compare {
    pub(crate) classification: Pointer,
    pub(crate) risk_score: Pointer,
    /// Its own words, in lower case
    pub(crate) words: Vec<(Box<str>, Classification)>,
    /// Longest answer that is read, in bytes
    pub(crate) max: usize,
}

/// What an upstream says of a target
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opinion {
    /// A verdict: its classification, and its score of 0 to 100 where it tells one
    Verdict(Classification, Option<u8>),
    /// A success of which the verdict can't be read: no JSON, encoded, too long, without the field, or with a word
    /// that is none
    Unreadable,
    /// No success, or not the whole of one
    Absent,
}

/// RFC 9110, section 8.4.1
const CODINGS: [(&[u8], Coding); 3] = [
    (b"gzip", Coding::Gzip),
    (b"x-gzip", Coding::Gzip),
    (b"identity", Coding::Identity),
];

impl Comparison {
    pub(crate) fn new(compare: &Rc<Compare>) -> Self {
        Self {
            compare: Rc::clone(compare),
            coding: Coding::Identity,
        }
    }

    /// Longest body of an answer that is read, in bytes
    #[must_use]
    pub fn max(&self) -> usize {
        self.compare.max
    }

    /// Whether the body of an answer with these headers is to be kept
    ///
    /// # Errors
    ///
    /// What is known without it.
    pub fn begin(&mut self, headers: &[(&[u8], &[u8])]) -> Result<(), Opinion> {
        let response = Response { headers, body: &[] };
        if !(200..300).contains(&response.status()) {
            return Err(Opinion::Absent);
        }
        let has = |name: &[u8]| headers.iter().any(|(other, _)| *other == name);
        let coding = match response.header(b"content-encoding") {
            None if !has(b"content-encoding") => Some(Coding::Identity),
            None => None,
            Some(name) => {
                let known = CODINGS.iter();
                let mut known = known.filter(|(known, _)| name.eq_ignore_ascii_case(known));
                known.next().map(|(_, coding)| *coding)
            }
        };
        self.coding = coding.ok_or(Opinion::Unreadable)?;
        let is_json = response.header(b"content-type").is_some_and(is_json);
        is_json.then_some(()).ok_or(Opinion::Unreadable)
    }

    /// What the whole body of an answer says
    #[must_use]
    pub fn read(&self, body: &[u8]) -> Opinion {
        self.verdict(body).unwrap_or(Opinion::Unreadable)
    }

    fn verdict(&self, body: &[u8]) -> Option<Opinion> {
        let compare = &self.compare;
        if body.len() > compare.max {
            return None;
        }
        let answer = match self.coding {
            Coding::Identity => Node::parse_json(body),
            Coding::Gzip => Node::parse_json(&gzip::read(body, compare.max)?),
        };
        let answer = answer.ok()?;
        let Node::String(word) = compare.classification.of(&answer)? else {
            return None;
        };
        let own = word.to_ascii_lowercase();
        let known = compare.words.iter().find(|(known, _)| **known == *own);
        let found = known.map(|(_, found)| *found);
        let found = found.or_else(|| Classification::parse(&own))?;
        let score = compare.risk_score.of(&answer).and_then(score);
        Some(Opinion::Verdict(found, score))
    }
}

impl Opinion {
    /// The word that records and counters use
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Verdict(found, _) => found.word(),
            Self::Unreadable => "unreadable",
            Self::Absent => "absent",
        }
    }

    /// Whether one of the two warns of the target and the other does not
    pub(crate) fn contradicts(self, verdict: Classification) -> bool {
        match self {
            Self::Verdict(found, _) => found.warns() != verdict.warns(),
            Self::Unreadable | Self::Absent => false,
        }
    }

    /// A number below eight for the word
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Verdict(found, _) => found as u64,
            Self::Unreadable => 6,
            Self::Absent => 7,
        }
    }
}

/// The words of an upstream, as they are compared
pub(crate) fn fold(word: &str) -> Box<str> {
    word.to_owned().to_ascii_lowercase().into()
}

/// A score of 0 to 100, rounded
fn score(node: &Node) -> Option<u8> {
    let Node::Number(number) = node else {
        return None;
    };
    let number = number.as_f64().filter(|n| (0.0..=100.0).contains(n))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 100"
    )]
    let rounded = (number + 0.5) as u8;
    Some(rounded)
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const MAX: usize = 200;

    fn comparison(classification: &str, words: &[(&str, Classification)]) -> Comparison {
        let words = words.iter().map(|(word, found)| (fold(word), *found));
        Comparison::new(&Rc::new(Compare {
            classification: Pointer::parse(classification).unwrap(),
            risk_score: Pointer::parse("/risk_score").unwrap(),
            words: words.collect(),
            max: MAX,
        }))
    }

    #[test]
    fn answers() {
        let check = |body: &str, opinion| {
            let found = comparison("/classification", &[]).read(body.as_bytes());
            assert_eq!(found, opinion, "{body}");
        };
        let verdict = Opinion::Verdict;
        for (score, read) in [
            ("0", Some(0)),
            ("87", Some(87)),
            ("99.5", Some(100)),
            ("0.49", Some(0)),
            ("100.1", None),
            ("-1", None),
            ("1e300", None),
            ("\"87\"", None),
            ("null", None),
        ] {
            check(
                &format!("{{\"classification\":\"malicious\",\"risk_score\":{score}}}"),
                verdict(Classification::Malicious, read),
            );
        }
        for word in ["benign", "internal", "invalid", "suspicious", "unknown"] {
            let found = Classification::parse(word).unwrap();
            check(
                &format!("{{\"classification\":\"{word}\"}}"),
                verdict(found, None),
            );
            let loud = word.to_ascii_uppercase();
            check(
                &format!("{{\"classification\":\"{loud}\"}}"),
                verdict(found, None),
            );
        }
        for unreadable in [
            "",
            "upstream",
            "[]",
            "{}",
            "{\"classification\":null}",
            "{\"classification\":\"clean\"}",
            "{\"classification\":\"benign\"",
            "{\"classification\":\"benign\",\"classification\":\"malicious\"}",
            "{\"result\":{\"classification\":\"benign\"}}",
        ] {
            check(unreadable, Opinion::Unreadable);
        }
        let long = format!("{{\"classification\":\"benign\",\"x\":\"{:MAX$}\"}}", "");
        check(&long, Opinion::Unreadable);
    }

    #[test]
    fn an_upstreams_own_words() {
        let words = [("Clean", Classification::Benign)];
        let nested = comparison("/data/0/verdict", &words);
        let read = |body: &str| nested.read(body.as_bytes());
        assert_eq!(
            read(r#"{"data":[{"verdict":"CLEAN"}]}"#),
            Opinion::Verdict(Classification::Benign, None)
        );
        assert_eq!(
            read(r#"{"data":[{"verdict":"malicious"}]}"#),
            Opinion::Verdict(Classification::Malicious, None)
        );
        assert_eq!(read(r#"{"data":[]}"#), Opinion::Unreadable);
    }

    #[test]
    fn headers() {
        let check = |status: &str, headers: &[(&str, &str)], begun| {
            let status = (b":status".as_slice(), status.as_bytes());
            let others = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
            let all: Vec<_> = core::iter::once(status).chain(others).collect();
            let mut comparison = comparison("/classification", &[]);
            let found = comparison.begin(&all);
            assert_eq!(found, begun, "{headers:?}");
        };
        let json = ("content-type", "application/json; charset=utf-8");
        check("200", &[json], Ok(()));
        check("202", &[json, ("content-encoding", "Identity")], Ok(()));
        let unreadable = Err(Opinion::Unreadable);
        check("200", &[], unreadable);
        check("200", &[("content-type", "text/html")], unreadable);
        check("200", &[json, json], unreadable);
        check("200", &[json, ("content-encoding", "br")], unreadable);
        let twice = ("content-encoding", "identity");
        check("200", &[json, twice, twice], unreadable);
        check("404", &[json], Err(Opinion::Absent));
        check("200", &[json, ("content-encoding", "X-GZip")], Ok(()));
        let both = ("content-encoding", "gzip, gzip");
        check("200", &[json, both], unreadable);
        check("503", &[json], Err(Opinion::Absent));
        check("", &[json], Err(Opinion::Absent));
    }

    #[test]
    fn compressed_answers() {
        let compressed = |text: &str| {
            let mut writer = GzEncoder::new(Vec::new(), Compression::best());
            writer.write_all(text.as_bytes()).unwrap();
            writer.finish().unwrap()
        };
        let check = |text: &str, coding: &[u8], opinion| {
            let mut comparison = comparison("/classification", &[]);
            let headers: [(&[u8], &[u8]); 3] = [
                (b":status", b"200"),
                (b"content-type", b"application/json"),
                (b"content-encoding", coding),
            ];
            comparison.begin(&headers).unwrap();
            assert_eq!(comparison.read(&compressed(text)), opinion, "{text}");
        };
        let answer = r#"{"classification":"suspicious","risk_score":40}"#;
        let said = Opinion::Verdict(Classification::Suspicious, Some(40));
        check(answer, b"gzip", said);
        check(answer, b"identity", Opinion::Unreadable);
        let long = format!("{answer}{:MAX$}", "");
        check(&long, b"gzip", Opinion::Unreadable);
    }

    #[test]
    fn contradictions() {
        let check = |opinion: Opinion, verdict, contradicts| {
            assert_eq!(opinion.contradicts(verdict), contradicts, "{opinion:?}");
        };
        let said = |found| Opinion::Verdict(found, Some(50));
        check(
            said(Classification::Malicious),
            Classification::Suspicious,
            false,
        );
        check(
            said(Classification::Malicious),
            Classification::Unknown,
            true,
        );
        check(
            said(Classification::Benign),
            Classification::Suspicious,
            true,
        );
        check(said(Classification::Benign), Classification::Unknown, false);
        check(Opinion::Unreadable, Classification::Malicious, false);
        check(Opinion::Absent, Classification::Malicious, false);
    }
}
