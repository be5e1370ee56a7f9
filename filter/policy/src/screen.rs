//! Screens: which values of a request are judged, and what comes of it.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_threat::{Action, Classification, Verdict};

use crate::enforcement::Enforcement;
use crate::name::Name;
use crate::node::Node;
use crate::query;
use crate::reason::Reason;
use crate::record::Rule;
use crate::schema::Field;
use crate::spelling::is_variant;

/// One screen of a route, or that of all clients
#[derive(Debug)]
pub(crate) struct Screen {
    /// A key of RFC 9651, section 3.1.2
    pub(crate) name: Name,
    pub(crate) of: Screened,
    /// What is refused
    pub(crate) blocks: Classes,
    /// What the upstream is told
    pub(crate) tags: Classes,
    /// What becomes of a request whose value the feeds know nothing of, because they are too old or away
    pub(crate) stale: Doubt,
    /// The same where the value can't be read as one that everybody reads alike
    pub(crate) unreadable: Doubt,
    pub(crate) enforcement: Enforcement,
    pub(crate) rule: Rc<Rule>,
}

/// What is screened
#[derive(Debug)]
pub(crate) enum Screened {
    /// The strings at a path of keys, in lists too
    Body {
        keys: Vec<String>,
        /// Whether the route says what a parameter of the query by that name is: another value then
        is_apart: bool,
    },
    /// The client's address
    Client,
    /// Each header by that name, in lower case
    Header(String),
    Query(Box<Field>),
}

/// What becomes of a request of which a screen can't say what it is
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Doubt {
    Forward,
    Refuse,
}

/// Some of what a target can be
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Classes(u8);

/// What a request offers to be screened
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'r> {
    Head {
        headers: &'r [(&'r [u8], &'r [u8])],
        query: Option<&'r [u8]>,
        client: Option<IpAddr>,
    },
    Body(&'r Node),
}

/// The values that a screen has to judge
#[derive(Debug)]
pub(crate) struct Texts<'r> {
    pub(crate) texts: Vec<Cow<'r, str>>,
    /// Whether that is all, whoever reads it
    pub(crate) is_whole: bool,
}

/// What a screen makes of a value, the lesser first
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Effect {
    None,
    Tag,
    Stale,
    Block,
}

/// Values that one screen judges in a request at the most
pub(crate) const MAX_VALUES: usize = 32;

impl Screen {
    /// The values in a part of a request; `None` where the screen is of another part
    pub(crate) fn texts<'r>(&self, source: Source<'r>) -> Option<Texts<'r>> {
        let mut found = Texts {
            texts: Vec::new(),
            is_whole: true,
        };
        match (&self.of, source) {
            (Screened::Body { keys, .. }, Source::Body(body)) => found.collect(body, keys),
            (Screened::Body { keys, is_apart }, Source::Head { query, .. }) => {
                // Some frameworks read it as the field (Rails' `params`), and its value is not looked at.
                let first = keys.first().filter(|_| !is_apart)?;
                if !query.is_some_and(|query| query::stands_for(query, first)) {
                    return None;
                }
                found.is_whole = false;
            }
            (Screened::Client, Source::Head { client, .. }) => match client {
                Some(client) => found.take(client.to_canonical().to_string().into()),
                None => found.is_whole = false,
            },
            (Screened::Header(name), Source::Head { headers, .. }) => {
                for (_, value) in headers
                    .iter()
                    .filter(|(other, _)| *other == name.as_bytes())
                {
                    match core::str::from_utf8(value) {
                        Ok(value) => found.take_header(value),
                        Err(_) => found.is_whole = false,
                    }
                }
            }
            (Screened::Query(field), Source::Head { query, .. }) => {
                match query::read_one(field, query) {
                    Ok(value) => found.take(value.into()),
                    Err(_) => found.is_whole = false,
                }
            }
            (_, Source::Body(_)) => return None,
        }
        Some(found)
    }

    /// What comes of a verdict
    pub(crate) fn effect(&self, verdict: &Verdict<'_>, is_stale: bool) -> Effect {
        let class = verdict.classification;
        // Feeds that nobody vouches for only warn.
        let may_block = verdict.actions().contains(&Action::Block);
        let counts_as = match class {
            Classification::Malicious if !may_block => Classification::Suspicious,
            class => class,
        };
        let is_unjudged = is_stale && class == Classification::Unknown;
        if is_unjudged && self.stale == Doubt::Refuse {
            Effect::Stale
        } else if !is_unjudged && self.blocks.has(counts_as) {
            Effect::Block
        } else if self.tags.has(class) || self.tags.has(counts_as) {
            Effect::Tag
        } else {
            Effect::None
        }
    }

    /// Why a request is refused for what came of its values, or because they can't be read
    pub(crate) fn refusal(&self, effect: Option<Effect>) -> Option<Reason> {
        let is_client = matches!(self.of, Screened::Client);
        match effect {
            Some(Effect::None | Effect::Tag) => None,
            Some(Effect::Stale) => Some(Reason::FeedsStale),
            Some(Effect::Block) | None if is_client => Some(Reason::ClientDenied),
            Some(Effect::Block) => Some(Reason::TargetBlocked),
            None => Some(Reason::TargetUnreadable),
        }
    }

    /// What the caller calls the value; `None` for the client's own address
    pub(crate) fn place(&self) -> Option<String> {
        match &self.of {
            Screened::Body { keys, .. } => Some(keys.join(".")),
            Screened::Client => None,
            Screened::Header(name) => Some(["header.", name].concat()),
            Screened::Query(field) => Some(["query.", &field.name].concat()),
        }
    }
}

impl Classes {
    pub(crate) fn with(self, class: Classification) -> Self {
        Self(self.0 | bit(class))
    }

    pub(crate) fn has(self, class: Classification) -> bool {
        self.0 & bit(class) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of them is among the others
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

fn bit(class: Classification) -> u8 {
    match class {
        Classification::Benign => 1,
        Classification::Internal => 2,
        Classification::Invalid => 4,
        Classification::Malicious => 8,
        Classification::Suspicious => 16,
        Classification::Unknown => 32,
    }
}

impl<'r> Texts<'r> {
    fn take(&mut self, text: Cow<'r, str>) {
        if text.is_empty() {
            return;
        }
        if self.texts.len() < MAX_VALUES {
            self.texts.push(text);
        } else {
            self.is_whole = false;
        }
    }

    /// Takes a header's value, and each part of it where it may be a list: proxies join headers of one name
    /// (RFC 9110, section 5.3)
    fn take_header(&mut self, value: &'r str) {
        self.take(value.into());
        if value.contains(',') {
            for part in value.split(',') {
                self.take(part.trim().into());
            }
        }
    }

    /// Takes the strings at the end of the keys; what is absent or null is nothing, and what else
    /// stands there may be a target to others
    fn collect(&mut self, node: &'r Node, keys: &[String]) {
        match (node, keys.split_first()) {
            (Node::Null, _) => {}
            (Node::List(items), _) => {
                for item in items {
                    self.collect(item, keys);
                }
            }
            (Node::String(text), None) => self.take(text.as_str().into()),
            (Node::Map(entries), Some((key, behind))) => {
                for (name, node) in entries {
                    if name == key {
                        self.collect(node, behind);
                    } else if is_variant(name, key) {
                        self.is_whole = false;
                    }
                }
            }
            _ => self.is_whole = false,
        }
    }
}
