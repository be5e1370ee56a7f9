//! STIX 2.1 bundles: indicators whose pattern is a list of values.
//!
//! The subset: observations joined by OR; within one, comparisons joined by OR; each `=` or `IN` of a URL, a domain name,
//! an address or a file's MD5, SHA-1 or SHA-256, or ISSUBSET of an address. AND, NOT, FOLLOWEDBY, LIKE, MATCHES and
//! qualifiers say something that can't be looked up. Format: STIX 2.1, section 9.

use portcullis_threat::bundle::Scope;
use serde_json::{Map, Value};

use super::misp::category_of;
use super::{Rows, json};
use crate::indicator::{self, Indicator, Row};
use crate::{Error, Reason, day};

pub(super) fn read(bytes: &[u8], rows: &mut dyn Rows) -> Result<(), Error> {
    let document: Map<String, Value> = json(bytes, "a STIX bundle")?;
    let objects = document.get("objects").and_then(Value::as_array);
    for object in objects.into_iter().flatten() {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("type") != "indicator" {
            continue;
        }
        if object.get("revoked").and_then(Value::as_bool) == Some(true) {
            rows.row(Err(Reason::Revoked));
            continue;
        }
        let pattern_type = text("pattern_type");
        if !matches!(pattern_type, "stix" | "") {
            rows.row(Err(Reason::UnsupportedType));
            continue;
        }
        let mut said = String::from(text("name"));
        for key in ["indicator_types", "labels"] {
            let words = object
                .get(key)
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            for word in words.filter_map(Value::as_str) {
                if word == "benign" {
                    said.clear();
                    said.push_str("benign");
                }
                said.push(' ');
                said.push_str(word);
            }
        }
        if said.starts_with("benign ") {
            rows.row(Err(Reason::NotAnIndicator));
            continue;
        }
        match values(text("pattern")) {
            Err(reason) => rows.row(Err(reason)),
            Ok(indicators) => {
                for found in indicators {
                    let confidence = object.get("confidence").and_then(Value::as_u64);
                    rows.row(found.map(|indicator| Row {
                        category: category_of(&said),
                        confidence: confidence.and_then(|number| u8::try_from(number).ok()),
                        first_seen: day::of(text("valid_from")),
                        last_seen: day::of(text("modified")),
                        valid_until: day::of(text("valid_until")),
                        ..Row::of(indicator)
                    }));
                }
            }
        }
    }
    Ok(())
}

/// What a pattern names
fn values(pattern: &str) -> Result<Vec<Result<Indicator, Reason>>, Reason> {
    let mut tokens = tokens(pattern)?.into_iter().peekable();
    let mut found = Vec::new();
    loop {
        if tokens.next() != Some(Token::Open) {
            return Err(Reason::Malformed);
        }
        loop {
            comparison(&mut tokens, &mut found)?;
            match tokens.next() {
                Some(Token::Word(word)) if word == "OR" => {}
                Some(Token::Close) => break,
                Some(Token::Word(_)) => return Err(Reason::UnsupportedRule),
                _ => return Err(Reason::Malformed),
            }
        }
        match tokens.next() {
            None => return Ok(found),
            Some(Token::Word(word)) if word == "OR" => {}
            Some(Token::Word(_)) => return Err(Reason::UnsupportedRule),
            Some(_) => return Err(Reason::Malformed),
        }
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn comparison(
    tokens: &mut Tokens,
    found: &mut Vec<Result<Indicator, Reason>>,
) -> Result<(), Reason> {
    let (Some(Token::Word(path)), Some(Token::Word(operator))) = (tokens.next(), tokens.next())
    else {
        return Err(Reason::Malformed);
    };
    match (operator.as_str(), tokens.next()) {
        ("=" | "ISSUBSET", Some(Token::Text(value))) => found.push(value_of(&path, &value)),
        ("IN", Some(Token::OpenList)) => {
            while let Some(Token::Text(value)) = tokens.next() {
                found.push(value_of(&path, &value));
                if tokens.next_if_eq(&Token::Comma).is_none() {
                    break;
                }
            }
            if tokens.next() != Some(Token::CloseList) {
                return Err(Reason::Malformed);
            }
        }
        (_, Some(_)) => return Err(Reason::UnsupportedRule),
        (_, None) => return Err(Reason::Malformed),
    }
    Ok(())
}

fn value_of(path: &str, value: &str) -> Result<Indicator, Reason> {
    let path: String = path
        .chars()
        .filter(|c| !matches!(c, '\'' | '-' | '"'))
        .collect();
    match path.to_ascii_lowercase().as_str() {
        "url:value" => indicator::url(value.as_bytes(), Scope::EXACT),
        "domainname:value" => indicator::domain(value.as_bytes(), Scope::SUBDOMAINS),
        "ipv4addr:value" | "ipv6addr:value" => indicator::address_or_network(value),
        "file:hashes.md5" | "file:hashes.sha1" | "file:hashes.sha256" => indicator::hash(value),
        _ => Err(Reason::UnsupportedType),
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    Text(String),
    /// A path, an operator or a keyword
    Word(String),
}

fn tokens(pattern: &str) -> Result<Vec<Token>, Reason> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '[' => tokens.push(Token::Open),
            ']' => tokens.push(Token::Close),
            '(' => tokens.push(Token::OpenList),
            ')' => tokens.push(Token::CloseList),
            ',' => tokens.push(Token::Comma),
            '\'' => tokens.push(Token::Text(quoted(&mut rest)?)),
            '=' => tokens.push(Token::Word("=".to_owned())),
            _ => {
                let mut word = String::from(c);
                // A path may have quotes of its own: file:hashes.'SHA-256'.
                while let Some(c) = rest.next_if(|c| {
                    !matches!(
                        c,
                        ' ' | '\t' | '\n' | '\r' | '=' | '[' | ']' | '(' | ')' | ','
                    )
                }) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

fn quoted(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, Reason> {
    let mut text = String::new();
    loop {
        match rest.next() {
            Some('\'') => return Ok(text),
            Some('\\') => text.push(rest.next().ok_or(Reason::Malformed)?),
            Some(c) => text.push(c),
            None => return Err(Reason::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, shown) in [
            (
                "[url:value = 'http://evil.example/it\\'s']",
                &["evil.example/it's"][..],
            ),
            (
                "[ipv4-addr:value='192.0.2.7' OR domain-name:value = 'evil.example']",
                &["192.0.2.7", "evil.example"],
            ),
            (
                "[ipv4-addr:value ISSUBSET '192.0.2.0/24'] OR [ipv6-addr:value = '2001:db8::1']",
                &["192.0.2.0/24", "2001:db8::1"],
            ),
            (
                "[file:hashes.'SHA-256' = 'AAaa000000000000000000000000000000000000000000000000000000000000']",
                &["aaaa000000000000000000000000000000000000000000000000000000000000"],
            ),
            (
                "[file:hashes.MD5 IN ('44d88612fea8a8f36de82e1278abb02f', '44d88612fea8a8f36de82e1278abb020')]",
                &[
                    "44d88612fea8a8f36de82e1278abb02f",
                    "44d88612fea8a8f36de82e1278abb020",
                ],
            ),
        ] {
            let found: Vec<_> = values(pattern)
                .unwrap()
                .into_iter()
                .map(|found| found.unwrap().text())
                .collect();
            assert_eq!(found, shown, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_say_more() {
        for (pattern, reason) in [
            (
                "[url:value = 'http://a.example/' AND url:value = 'http://b.example/']",
                Reason::UnsupportedRule,
            ),
            ("[url:value LIKE 'http://%']", Reason::UnsupportedRule),
            ("[url:value MATCHES '^a']", Reason::UnsupportedRule),
            (
                "[domain-name:value = 'a.example'] FOLLOWEDBY [domain-name:value = 'b.example']",
                Reason::UnsupportedRule,
            ),
            (
                "[domain-name:value = 'a.example'] WITHIN 5 SECONDS",
                Reason::UnsupportedRule,
            ),
            (
                "[domain-name:value NOT = 'a.example']",
                Reason::UnsupportedRule,
            ),
            ("[domain-name:value = 'a.example", Reason::Malformed),
            ("domain-name:value = 'a.example'", Reason::Malformed),
            ("", Reason::Malformed),
        ] {
            assert_eq!(values(pattern), Err(reason), "{pattern}");
        }
    }
}
