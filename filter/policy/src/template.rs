//! Path templates, and the one that fits a path best.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::path;
use crate::route::Route;

/// A method and a path template, such as `GET /api/domains/{domain}/**`
///
/// `{name}` stands for one segment, `{name:encoded}` also for one with ambiguous escapes, `**` at
/// the end for any number of segments, none included. The method `ANY` stands for every one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Template {
    method: String,
    segments: Vec<Segment>,
    /// Its parameters, each with the number of its segment
    names: Vec<(String, usize)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Literal(String),
    Parameter { encoded: bool },
    Tail,
}

const ANY: &str = "ANY";
const MAX_SEGMENTS: usize = 32;

impl Template {
    /// # Errors
    ///
    /// The message, when the text is not a method and a template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (method, template) = text
            .split_once(' ')
            .ok_or_else(|| "must be a method and a path, such as `GET /items/{id}`".to_owned())?;
        if method.is_empty()
            || !method
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            return Err(format!(
                "`{}` is not a method: write it in capitals, or ANY",
                method.escape_default()
            ));
        }
        if method == "CONNECT" {
            return Err("CONNECT has no path to match and is always refused".to_owned());
        }
        let Some(path) = template.strip_prefix('/') else {
            return Err("the path must begin with `/`".to_owned());
        };
        let mut segments = Vec::new();
        let mut names = Vec::new();
        for text in path.split('/') {
            if segments.last() == Some(&Segment::Tail) {
                return Err("`**` can only be the last segment".to_owned());
            }
            segments.push(Segment::parse(text, segments.len(), &mut names)?);
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("a path has at most {MAX_SEGMENTS} segments"));
        }
        let plain: Vec<_> = segments.iter().map(Segment::sample).collect();
        if path::check(format!("/{}", plain.join("/")).as_bytes())
            .is_none_or(|path| path.encoded != 0)
        {
            return Err("no request can have this path: the path guards refuse it".to_owned());
        }
        Ok(Self {
            method: method.to_owned(),
            segments,
            names,
        })
    }

    /// The number of the segment that a parameter stands for
    pub(crate) fn segment_of(&self, name: &str) -> Option<usize> {
        let found = self.names.iter().find(|(other, _)| other == name);
        found.map(|(_, segment)| *segment)
    }

    /// The template as it is when case and a trailing slash don't matter
    fn folded(&self) -> Self {
        let mut segments = self.segments.clone();
        for segment in &mut segments {
            if let Segment::Literal(literal) = segment {
                // Literals are ASCII.
                *literal = literal.to_ascii_lowercase();
            }
        }
        if segments.len() > 1 && segments.last() == Some(&Segment::Literal(String::new())) {
            segments.pop();
        }
        Self {
            method: self.method.clone(),
            segments,
            names: self.names.clone(),
        }
    }

    fn encoded(&self) -> u64 {
        let mut bits = 0;
        for (segment, bit) in self.segments.iter().zip(0u32..) {
            if *segment == (Segment::Parameter { encoded: true }) {
                bits |= 1u64.checked_shl(bit).unwrap_or_default();
            }
        }
        bits
    }
}

impl Segment {
    fn parse(text: &str, index: usize, names: &mut Vec<(String, usize)>) -> Result<Self, String> {
        if text == "**" {
            return Ok(Self::Tail);
        }
        let Some(name) = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
        else {
            if text.contains(['{', '}', '*', '?', '%']) {
                return Err(format!(
                    "`{}` is not a segment: write text, {{name}}, {{name:encoded}} or **",
                    text.escape_default()
                ));
            }
            return Ok(Self::Literal(text.to_owned()));
        };
        let (name, encoded) = match name.strip_suffix(":encoded") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || !name.bytes().all(good) {
            return Err(format!(
                "`{{{}}}` is not a parameter: name it with a-z, 0-9 and _",
                name.escape_default()
            ));
        }
        if names.iter().any(|(other, _)| other == name) {
            return Err(format!("the parameter `{name}` appears twice"));
        }
        names.push((name.to_owned(), index));
        Ok(Self::Parameter { encoded })
    }

    fn sample(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Parameter { .. } | Self::Tail => "x",
        }
    }
}

/// The routes of an API
///
/// The most specific template wins: segment by segment from the left, text before a parameter
/// before `**`, a method before `ANY`. The order in which routes are written never matters.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: Branch,
    folded: Branch,
    has_capitals: bool,
}

/// What the routes say of a method and a path
#[derive(Debug)]
pub(crate) enum Match<'r> {
    Route(&'r Rc<Route>),
    /// The path is known, the method isn't: the methods that are
    Methods(BTreeSet<&'r str>),
    /// The path is that of another route but for its case or a trailing slash
    NearMiss(&'r Rc<Route>),
    /// A segment has an ambiguous escape where the route takes none
    Ambiguous,
    None,
}

#[derive(Debug, Default)]
struct Branch {
    literals: Vec<(Box<str>, Self)>,
    parameter: Option<Box<Self>>,
    here: Vec<Leaf>,
    tail: Vec<Leaf>,
}

#[derive(Clone, Debug)]
struct Leaf {
    method: String,
    encoded: u64,
    route: Rc<Route>,
}

impl Router {
    /// Adds a template of a route
    ///
    /// # Errors
    ///
    /// The message, when another route's template matches the same requests, or does so when
    /// case and a trailing slash don't matter.
    pub(crate) fn insert(&mut self, template: &Template, route: &Rc<Route>) -> Result<(), String> {
        let folded = template.folded();
        let leaf = Leaf {
            method: template.method.clone(),
            encoded: template.encoded(),
            route: Rc::clone(route),
        };
        let other = self.exact.insert(&template.segments, leaf.clone());
        if let Some(other) = other {
            return Err(format!(
                "matches the same requests as the route `{}`",
                other.name
            ));
        }
        if let Some(other) = self.folded.insert(&folded.segments, leaf)
            && !Rc::ptr_eq(&other, route)
        {
            return Err(format!(
                "differs from the route `{}` in case or a trailing slash only",
                other.name
            ));
        }
        self.has_capitals |= folded != *template;
        Ok(())
    }

    /// Finds the route of a request
    pub(crate) fn find(&self, method: &str, checked: &path::CheckedPath<'_>) -> Match<'_> {
        let path = checked.path.strip_prefix('/');
        let exact = self.exact.find(path, method);
        // INVARIANT: before anything is made of the path: nobody but a route that says so takes
        // an ambiguous escape, an API that forwards what it doesn't know least of all.
        if checked.encoded & !exact.map_or(0, |leaf| leaf.encoded) != 0 {
            return Match::Ambiguous;
        }
        let folds = self.has_capitals
            || checked.has_capitals
            || (checked.path.len() > 1 && checked.path.ends_with('/'));
        if folds {
            let lower = checked.path.to_ascii_lowercase();
            let lower = lower
                .strip_prefix('/')
                .map(|path| path.strip_suffix('/').unwrap_or(path));
            if let Some(near) = self.folded.find(lower, method)
                && !exact.is_some_and(|exact| Rc::ptr_eq(&exact.route, &near.route))
            {
                return Match::NearMiss(&near.route);
            }
        }
        let Some(leaf) = exact else {
            let mut methods = BTreeSet::new();
            self.exact.methods(path, &mut methods);
            if methods.contains("GET") {
                methods.insert("HEAD");
            }
            return if methods.is_empty() {
                Match::None
            } else {
                Match::Methods(methods)
            };
        };
        Match::Route(&leaf.route)
    }
}

impl Branch {
    fn insert(&mut self, segments: &[Segment], leaf: Leaf) -> Option<Rc<Route>> {
        let (leaves, rest) = match segments.split_first() {
            None => (&mut self.here, None),
            Some((Segment::Tail, _)) => (&mut self.tail, None),
            Some((Segment::Parameter { .. }, rest)) => {
                return self.parameter.get_or_insert_default().insert(rest, leaf);
            }
            Some((Segment::Literal(literal), rest)) => (&mut self.here, Some((literal, rest))),
        };
        let Some((literal, rest)) = rest else {
            let other = leaves.iter().find(|other| other.method == leaf.method);
            if let Some(other) = other {
                return Some(Rc::clone(&other.route));
            }
            leaves.push(leaf);
            return None;
        };
        match self
            .literals
            .binary_search_by(|(other, _)| (**other).cmp(literal))
        {
            Ok(index) => self
                .literals
                .get_mut(index)
                .and_then(|(_, branch)| branch.insert(rest, leaf)),
            Err(index) => {
                let mut branch = Self::default();
                let other = branch.insert(rest, leaf);
                self.literals
                    .insert(index, (literal.as_str().into(), branch));
                other
            }
        }
    }

    /// The best leaf for the segments that are left
    fn find(&self, rest: Option<&str>, method: &str) -> Option<&Leaf> {
        let Some(rest) = rest else {
            return leaf_of(&self.here, method).or_else(|| leaf_of(&self.tail, method));
        };
        self.children(rest)
            .into_iter()
            .flatten()
            .find_map(|(branch, rest)| branch.find(rest, method))
            .or_else(|| leaf_of(&self.tail, method))
    }

    fn methods<'r>(&'r self, rest: Option<&str>, methods: &mut BTreeSet<&'r str>) {
        methods.extend(self.tail.iter().map(|leaf| leaf.method.as_str()));
        let Some(rest) = rest else {
            methods.extend(self.here.iter().map(|leaf| leaf.method.as_str()));
            return;
        };
        for (branch, rest) in self.children(rest).into_iter().flatten() {
            branch.methods(rest, methods);
        }
    }

    /// The branches of the next segment, the more specific one first
    fn children<'a>(&self, rest: &'a str) -> [Option<(&Self, Option<&'a str>)>; 2] {
        // Segments are short: a search that is made for long texts takes longer to begin.
        let end = rest.bytes().position(|byte| byte == b'/');
        let (segment, rest) = match end.and_then(|end| rest.split_at_checked(end)) {
            Some((segment, rest)) => (segment, rest.get(1..)),
            None => (rest, None),
        };
        let literal = self
            .literals
            .binary_search_by(|(literal, _)| (**literal).cmp(segment));
        let literal = literal.ok().and_then(|index| self.literals.get(index));
        let parameter = self.parameter.as_deref().filter(|_| !segment.is_empty());
        [
            literal.map(|(_, branch)| (branch, rest)),
            parameter.map(|branch| (branch, rest)),
        ]
    }
}

/// The leaf of a method; HEAD is served as GET (RFC 9110, section 9.3.2)
fn leaf_of<'l>(leaves: &'l [Leaf], method: &str) -> Option<&'l Leaf> {
    let of = |wanted: &str| leaves.iter().find(|leaf| leaf.method == wanted);
    of(method)
        .or_else(|| if method == "HEAD" { of("GET") } else { None })
        .or_else(|| of(ANY))
}
