//! Access to domains: what an API says of it, and which domain a request is about.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::grants::Lives;
use crate::listing::List;
use crate::node::Node;
use crate::reader::{Errors, Map};
use crate::record::Rule;
use crate::schema::{Fault, Field};
use crate::spelling::decode;
use crate::{domain, query, suffix};

/// What an API says of access to domains
#[derive(Debug)]
pub(crate) struct DomainAccess {
    /// Whether a domain includes all below it
    pub(crate) includes_subdomains: bool,
    pub(crate) unknown: Unknown,
    /// Whether a refusal says that there is no such resource
    pub(crate) hides: bool,
    pub(crate) lives: Lives,
    /// Public suffixes besides the known ones, in their ASCII form
    pub(crate) suffixes: Vec<String>,
    /// What decides on domains of which nothing is known
    pub(crate) unknown_rule: Rc<Rule>,
    /// Present where the upstream is asked
    pub(crate) list: Option<List>,
}

/// What becomes of a request for a domain of which nothing is known
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unknown {
    /// The upstream's own list decides
    Ask,
    /// It goes on, and the record says so
    Forward,
    Refuse,
}

/// Domains that a key gives access to by its own record
#[derive(Clone, Debug)]
pub(crate) struct KeyDomain {
    /// In its ASCII form; the empty one stands for every domain
    pub(crate) name: String,
    pub(crate) itself: bool,
    pub(crate) below: bool,
}

/// What a route has to do with domains
#[derive(Debug)]
pub(crate) struct RouteDomains {
    pub(crate) access: Rc<DomainAccess>,
    /// Which domain the caller needs access to
    pub(crate) needed: Option<DomainPlace>,
    /// To which domain a success gives access
    pub(crate) granted: Option<DomainPlace>,
    /// From which domain a success takes access
    pub(crate) revoked: Option<DomainPlace>,
}

/// Where a request names a domain
#[derive(Debug)]
pub(crate) struct DomainPlace {
    pub(crate) from: DomainFrom,
    /// As the policy names it, such as `path.domain`
    pub(crate) name: Rc<str>,
    pub(crate) rule: Rc<Rule>,
}

#[derive(Debug)]
pub(crate) enum DomainFrom {
    /// The number of a segment
    Path(usize),
    Query(Box<Field>),
    Body(String),
}

/// What a request offers to read domains from
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'r> {
    Head {
        /// Checked
        path: &'r str,
        query: Option<&'r [u8]>,
    },
    /// Checked against the route's fields
    Body(&'r Node),
}

impl DomainAccess {
    /// The ASCII form of a domain that somebody can have access to
    ///
    /// # Errors
    ///
    /// What is wrong: it is no domain name, or a public suffix.
    pub(crate) fn parse(&self, text: &str) -> Result<String, &'static str> {
        let name = domain::parse(text)?;
        if suffix::is_public(&name) || self.suffixes.contains(&name) {
            return Err("is a public suffix, not a domain of anybody's");
        }
        Ok(name)
    }

    /// A domain, and those that include it
    pub(crate) fn chain<'d>(&self, domain: &'d str) -> impl Iterator<Item = &'d str> {
        let above = |name: &&'d str| {
            let (_, above) = name.split_once('.')?;
            (!suffix::is_public(above) && !self.suffixes.iter().any(|known| known == above))
                .then_some(above)
        };
        // Nobody registers names as deep as names can be: who asks for one is asked nothing more.
        let most = if self.includes_subdomains {
            MAX_DEPTH
        } else {
            1
        };
        core::iter::successors(Some(domain), above).take(most)
    }
}

/// Domains of a chain that are looked up
const MAX_DEPTH: usize = 8;

/// What is wrong with naming a domain where nothing is said of them
pub(crate) const NO_ACCESS: &str = "the API has no domain_access: write it there";

impl KeyDomain {
    /// Reads `domains` of a key
    pub(crate) fn read(
        map: &mut Map<'_>,
        access: Option<&DomainAccess>,
        errors: &mut Errors,
    ) -> Vec<Self> {
        let mut domains = Vec::new();
        let Some(at) = map.take("domains") else {
            return domains;
        };
        let Some(access) = access else {
            errors.push(&at.path, NO_ACCESS);
            return domains;
        };
        for at in at.strings(errors).unwrap_or_default() {
            let Some(text) = at.string(errors) else {
                continue;
            };
            let below = text.strip_prefix("*.");
            let name = if text == "*" {
                Ok(String::new())
            } else {
                access.parse(below.unwrap_or(text))
            };
            match name {
                Ok(name) => domains.push(Self {
                    name,
                    itself: below.is_none(),
                    below: below.is_some() || access.includes_subdomains,
                }),
                Err(problem) => {
                    let message =
                        "write acme.example, *.acme.example for all below it, or * for every one";
                    errors.push(&at.path, format!("{problem}: {message}"));
                }
            }
        }
        domains
    }

    pub(crate) fn covers(&self, domain: &str) -> bool {
        if self.name.is_empty() {
            return true;
        }
        match domain.strip_suffix(self.name.as_str()) {
            Some("") => self.itself,
            Some(below) => self.below && below.ends_with('.'),
            None => false,
        }
    }
}

impl DomainPlace {
    /// The domain that a request names, if it stands in that part of it
    ///
    /// # Errors
    ///
    /// [`Reason::FieldMissing`](crate::Reason::FieldMissing),
    /// [`Reason::FieldAmbiguous`](crate::Reason::FieldAmbiguous) or
    /// [`Reason::FieldInvalid`](crate::Reason::FieldInvalid).
    pub(crate) fn read(
        &self,
        source: Source<'_>,
        access: &DomainAccess,
    ) -> Result<Option<String>, Fault> {
        let text = match (&self.from, source) {
            (DomainFrom::Path(index), Source::Head { path, .. }) => {
                let segment = path.split('/').nth(index.saturating_add(1));
                let decoded = decode(segment.unwrap_or_default().as_bytes()).bytes;
                Some(String::from_utf8(decoded).unwrap_or_default())
            }
            (DomainFrom::Query(field), Source::Head { query, .. }) => {
                Some(query::read_one(field, query)?)
            }
            (DomainFrom::Body(field), Source::Body(body)) => match body.get(field) {
                Some(Node::String(text)) => Some(text.clone()),
                // The route's fields demand it.
                _ => Some(String::new()),
            },
            _ => None,
        };
        let parsed = text.map(|text| access.parse(&text)).transpose();
        parsed.map_err(|problem| Fault {
            reason: crate::reason::Reason::FieldInvalid,
            rule: Rc::clone(&self.rule),
            field: Some((self.name.as_ref().into(), problem.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RuleKind;

    fn access(includes_subdomains: bool) -> DomainAccess {
        DomainAccess {
            includes_subdomains,
            unknown: Unknown::Refuse,
            hides: false,
            lives: Lives {
                granted: 1,
                listed: 1,
                denied: 1,
                asks: false,
            },
            suffixes: ["paas.example".into()].into(),
            unknown_rule: Rule::new(RuleKind::Domain, "apis.a.domain_access.unknown"),
            list: None,
        }
    }

    #[test]
    fn domains_of_somebody() {
        let check = |text: &str, name: Option<&str>| {
            assert_eq!(access(false).parse(text).ok().as_deref(), name, "{text}");
        };
        check("Acme.Example.", Some("acme.example"));
        check("bücher.example", Some("xn--bcher-kva.example"));
        check("a.paas.example", Some("a.paas.example"));
        for text in [
            "",
            "example",
            "co.uk",
            "paas.example",
            "127.0.0.1",
            "[::1]",
            "a..example",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn chains_end_before_a_public_suffix() {
        let chain = |includes, domain| access(includes).chain(domain).collect::<Vec<_>>();
        assert_eq!(chain(false, "a.b.example"), ["a.b.example"]);
        assert_eq!(chain(true, "a.b.example"), ["a.b.example", "b.example"]);
        assert_eq!(chain(true, "a.b.co.uk"), ["a.b.co.uk", "b.co.uk"]);
        assert_eq!(
            chain(true, "a.b.paas.example"),
            ["a.b.paas.example", "b.paas.example"]
        );
        assert_eq!(chain(true, "a.b.c.d.e.f.g.h.i.example").len(), MAX_DEPTH);
    }

    #[test]
    fn what_a_key_covers() {
        let check = |name: &str, itself, below, domain: &str, covered| {
            let name = name.into();
            let key = KeyDomain {
                name,
                itself,
                below,
            };
            assert_eq!(key.covers(domain), covered, "{key:?} {domain}");
        };
        check("a.example", true, false, "a.example", true);
        check("a.example", true, false, "www.a.example", false);
        check("a.example", false, true, "a.example", false);
        check("a.example", false, true, "www.a.example", true);
        check("a.example", true, true, "nota.example", false);
        check("a.example", true, true, "b.example", false);
        check("", true, true, "b.example", true);
    }
}
