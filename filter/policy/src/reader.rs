//! Reading a tree field by field, so that every error is found and carries its path.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ipnet::IpNet;

use crate::error::ConfigError;
use crate::node::Node;

/// The errors found so far, sorted
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<ConfigError>);

impl Errors {
    pub(crate) fn push(&mut self, path: &str, message: impl Into<String>) {
        let error = ConfigError {
            path: path.to_owned(),
            message: message.into(),
        };
        let at = self.0.partition_point(|other| *other <= error);
        self.0.insert(at, error);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_sorted(self) -> Vec<ConfigError> {
        self.0
    }
}

/// A value and its path
#[derive(Clone, Debug)]
pub(crate) struct At<'n> {
    pub(crate) node: &'n Node,
    pub(crate) path: String,
}

impl<'n> At<'n> {
    pub(crate) fn bool(&self, errors: &mut Errors) -> Option<bool> {
        let Node::Bool(value) = self.node else {
            return self.mismatch("true or false", errors);
        };
        Some(*value)
    }

    pub(crate) fn integer(
        &self,
        range: core::ops::RangeInclusive<u64>,
        errors: &mut Errors,
    ) -> Option<u64> {
        let value = match self.node {
            Node::Number(number) => number.as_u64().filter(|value| range.contains(value)),
            _ => None,
        };
        if value.is_none() {
            let wanted = format!("a whole number from {} to {}", range.start(), range.end());
            return self.mismatch(&wanted, errors);
        }
        value
    }

    /// A whole number that may be negative
    pub(crate) fn signed(
        &self,
        range: core::ops::RangeInclusive<i64>,
        errors: &mut Errors,
    ) -> Option<i64> {
        let value = match self.node {
            Node::Number(number) => number.as_i64().filter(|value| range.contains(value)),
            _ => None,
        };
        if value.is_none() {
            let wanted = format!("a whole number from {} to {}", range.start(), range.end());
            return self.mismatch(&wanted, errors);
        }
        value
    }

    pub(crate) fn list(&self, errors: &mut Errors) -> Option<Vec<Self>> {
        let Node::List(items) = self.node else {
            return self.mismatch("a list", errors);
        };
        let at = |(index, node)| Self {
            node,
            path: format!("{}[{index}]", self.path),
        };
        Some(items.iter().enumerate().map(at).collect())
    }

    pub(crate) fn map(&self, errors: &mut Errors) -> Option<Map<'n>> {
        let Node::Map(entries) = self.node else {
            return self.mismatch("an object", errors);
        };
        Some(Map {
            entries,
            path: self.path.clone(),
            known: BTreeSet::new(),
        })
    }

    pub(crate) fn string(&self, errors: &mut Errors) -> Option<&'n str> {
        let Node::String(text) = self.node else {
            return self.mismatch("a string", errors);
        };
        Some(text)
    }

    /// One of a closed set of words
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)], errors: &mut Errors) -> Option<T> {
        let found = match self.node {
            Node::String(text) => words.iter().find(|(word, _)| word == text),
            _ => None,
        };
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            errors.push(&self.path, format!("must be one of: {}", words.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// A list of strings, or one string in place of a list of one
    pub(crate) fn strings(&self, errors: &mut Errors) -> Option<Vec<Self>> {
        match self.node {
            Node::String(_) => Some([self.clone()].into()),
            Node::List(_) => self.list(errors),
            _ => self.mismatch("a string or a list of strings", errors),
        }
    }

    /// Networks, each without bits behind its prefix
    pub(crate) fn networks(&self, errors: &mut Errors) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for at in self.strings(errors).unwrap_or_default() {
            match at.string(errors).map(str::parse::<IpNet>) {
                Some(Ok(network)) if network.trunc() == network => networks.push(network),
                Some(_) => errors.push(
                    &at.path,
                    "must be a network such as 203.0.113.0/24, without bits behind its prefix",
                ),
                None => {}
            }
        }
        networks
    }

    fn mismatch<T>(&self, wanted: &str, errors: &mut Errors) -> Option<T> {
        errors.push(
            &self.path,
            format!("must be {wanted}, not {}", self.node.kind()),
        );
        None
    }
}

/// A map that is being read
#[derive(Debug)]
pub(crate) struct Map<'n> {
    entries: &'n [(String, Node)],
    pub(crate) path: String,
    known: BTreeSet<&'static str>,
}

impl<'n> Map<'n> {
    /// The value of a field that may be left out
    pub(crate) fn take(&mut self, name: &'static str) -> Option<At<'n>> {
        self.known.insert(name);
        let (_, node) = self.entries.iter().find(|(key, _)| key == name)?;
        Some(At {
            node,
            path: join(&self.path, name),
        })
    }

    /// The value of a field that must be there
    pub(crate) fn require(&mut self, name: &'static str, errors: &mut Errors) -> Option<At<'n>> {
        let taken = self.take(name);
        if taken.is_none() {
            errors.push(&join(&self.path, name), "is required");
        }
        taken
    }

    /// All entries of a map whose keys are names of the writer's choice
    pub(crate) fn entries(self) -> impl Iterator<Item = (&'n str, At<'n>)> {
        let path = self.path;
        self.entries.iter().map(move |(key, node)| {
            (
                key.as_str(),
                At {
                    node,
                    path: join(&path, key),
                },
            )
        })
    }

    /// Reports the fields that nobody has taken
    pub(crate) fn finish(self, errors: &mut Errors) {
        for (key, _) in self.entries {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let known: Vec<_> = self.known.iter().copied().collect();
            let message = format!("unknown field; known here: {}", known.join(", "));
            errors.push(&join(&self.path, key), message);
        }
    }
}

/// The path of a field of what lies at a path
pub(crate) fn join(path: &str, name: &str) -> String {
    let name = name.escape_default();
    if path.is_empty() {
        format!("{name}")
    } else {
        format!("{path}.{name}")
    }
}
