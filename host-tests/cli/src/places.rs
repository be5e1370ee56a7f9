//! Where in a document's text each path stands.
//!
//! JSON is read as the YAML that it nearly is. What can't be read has no places: then a finding has its
//! path alone, as in Envoy's log.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

/// Where a value stands, and the key in front of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Of the key; `None` for an item of a list.
    pub(crate) key: Option<Extent>,
    /// Of the value.
    pub(crate) value: Extent,
    /// Whether the value is neither a list nor a map.
    pub(crate) is_scalar: bool,
    /// Whether the value is a word without quotes that YAML 1.1 reads as true or false.
    pub(crate) is_doubtful: bool,
}

/// A stretch of the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// Bytes of the text.
    start: usize,
    end: usize,
}

impl Extent {
    fn of(span: Span) -> Self {
        let range = span.byte_range().unwrap_or_default();
        Self {
            line: span.start.line(),
            column: span.start.col().saturating_add(1),
            start: range.start,
            end: range.end,
        }
    }

    /// Its first line.
    pub(crate) fn text<'t>(&self, document: &'t str) -> &'t str {
        let text = document.get(self.start..self.end).unwrap_or_default();
        text.lines().next().unwrap_or_default()
    }
}

/// The places of a document by path, as the filter spells paths.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, Place>);

impl Places {
    /// Reads a document.
    pub(crate) fn of(text: &str) -> Self {
        let mut walk = Walk {
            events: Parser::new_from_str(text),
            places: Self::default(),
        };
        match walk.document() {
            Some(()) => walk.places,
            None => Self::default(),
        }
    }

    /// The place of a path, or else of the nearest one above it: a field that is missing is missing
    /// there.
    pub(crate) fn find(&self, path: &str) -> Option<(Place, bool)> {
        let mut path = path;
        let mut is_exact = true;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some((*place, is_exact));
            }
            is_exact = false;
            let end = path.rfind(['.', '['])?;
            path = path.get(..end)?;
        }
    }

    /// Words without quotes that another YAML reader, Envoy's above all, takes for true or false.
    pub(crate) fn doubtful(&self) -> impl Iterator<Item = &str> {
        let doubtful = self.0.iter().filter(|(_, place)| place.is_doubtful);
        doubtful.map(|(path, _)| path.as_str())
    }
}

/// Deeper than any policy may nest.
const MAX_DEPTH: usize = 64;

struct Walk<'t, T: serde_saphyr::granit_parser::BorrowedInput<'t>> {
    events: Parser<'t, T>,
    places: Places,
}

impl<'t, T: serde_saphyr::granit_parser::BorrowedInput<'t>> Walk<'t, T> {
    fn document(&mut self) -> Option<()> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                event => return self.value(String::new(), None, &event, span, 0),
            }
        }
    }

    /// The next event that is more than a comment.
    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        loop {
            match self.events.next()? {
                Ok((Event::Comment(..), _)) => {}
                Ok((Event::StreamEnd, _)) | Err(_) => return None,
                Ok(next) => return Some(next),
            }
        }
    }

    fn value(
        &mut self,
        path: String,
        key: Option<Extent>,
        event: &Event<'t>,
        span: Span,
        depth: usize,
    ) -> Option<()> {
        let below = depth.checked_add(1).filter(|depth| *depth < MAX_DEPTH)?;
        let mut place = Place {
            key,
            value: Extent::of(span),
            is_scalar: false,
            is_doubtful: false,
        };
        match event {
            Event::MappingStart(..) => {
                self.places.0.insert(path.clone(), place);
                loop {
                    let (event, span) = self.next()?;
                    let name = match event {
                        Event::MappingEnd => return Some(()),
                        Event::Scalar(name, ..) => name,
                        // A policy has no other keys.
                        _ => return None,
                    };
                    let path = join(&path, &name);
                    let (event, value) = self.next()?;
                    self.value(path, Some(Extent::of(span)), &event, value, below)?;
                }
            }
            Event::SequenceStart(..) => {
                self.places.0.insert(path.clone(), place);
                let mut index = 0_usize;
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        return Some(());
                    }
                    self.value(format!("{path}[{index}]"), None, &event, span, below)?;
                    index = index.saturating_add(1);
                }
            }
            Event::Scalar(text, style, ..) => {
                place.is_scalar = true;
                place.is_doubtful = *style == ScalarStyle::Plain && is_boolean_elsewhere(text);
                self.places.0.insert(path, place);
                Some(())
            }
            // What it stands for has its places where it is written.
            Event::Alias(..) => {
                self.places.0.insert(path, place);
                Some(())
            }
            _ => None,
        }
    }
}

/// As `portcullis-policy` spells paths.
fn join(path: &str, name: &str) -> String {
    let name = name.escape_debug();
    if path.is_empty() {
        format!("{name}")
    } else {
        format!("{path}.{name}")
    }
}

/// The words of YAML 1.1 that are strings in YAML 1.2.
fn is_boolean_elsewhere(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    matches!(word.as_str(), "n" | "no" | "off" | "on" | "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks line, column and text of the key and of the value at a path.
    #[track_caller]
    fn check(
        document: &str,
        path: &str,
        key: Option<(usize, usize, &str)>,
        value: (usize, usize, &str),
    ) {
        let (place, is_exact) = Places::of(document).find(path).unwrap();
        assert!(is_exact, "{path}");
        let read = |extent: Extent| (extent.line, extent.column, extent.text(document));
        assert_eq!(place.key.map(read), key, "{path}");
        assert_eq!(read(place.value), value, "{path}");
    }

    const YAML: &str = "# é\nversion: 1\napis:\n  shop: # c\n    hosts: [a.example, 'b.example']\n    \"é.x\": { rate: 10/min }\n    keys:\n      - id: k1\n        state: on\n";

    #[test]
    fn yaml_is_placed() {
        check(YAML, "version", Some((2, 1, "version")), (2, 10, "1"));
        check(YAML, "apis.shop.hosts[1]", None, (5, 24, "'b.example'"));
        check(
            YAML,
            "apis.shop.é.x.rate",
            Some((6, 14, "rate")),
            (6, 20, "10/min"),
        );
        check(
            YAML,
            "apis.shop.keys[0].id",
            Some((8, 9, "id")),
            (8, 13, "k1"),
        );
    }

    #[test]
    fn json_is_placed() {
        let json = "{\n\t\"version\": 1,\n\t\"apis\": {\"shop\": {\"hosts\": [\"a\\u0041\"]}}\n}\n";
        check(json, "version", Some((2, 2, "\"version\"")), (2, 13, "1"));
        check(json, "apis.shop.hosts[0]", None, (3, 30, "\"a\\u0041\""));
    }

    #[test]
    fn what_is_missing_is_missing_above() {
        let places = Places::of(YAML);
        let line = |path: &str| {
            places
                .find(path)
                .map(|(place, exact)| (place.value.line, exact))
        };
        assert_eq!(line("apis.shop.keys[0].tier"), Some((8, false)));
        assert_eq!(line("apis.shop.keys[7].tier"), Some((8, false)));
        assert_eq!(line("apis.shop.routes"), Some((5, false)));
        assert_eq!(line("revision"), None);
    }

    #[test]
    fn words_that_others_read_as_booleans() {
        let doubtful = |yaml: &str| {
            Places::of(yaml)
                .doubtful()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(doubtful(YAML), ["apis.shop.keys[0].state"]);
        assert_eq!(
            doubtful("a: \"on\"\nb: [Yes, true, 'no', yesterday]\n"),
            ["b[0]"]
        );
    }

    #[test]
    fn what_can_not_be_read_has_no_places() {
        let deep = "[".repeat(100);
        for text in ["", "a: [", "? [a]\n: b\n", &deep] {
            assert!(Places::of(text).find("a").is_none(), "{text}");
        }
    }
}
