//! The upstream's own list of a caller's domains, asked for page by page with the caller's credential.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::access::DomainAccess;
use crate::account::{AccountKey, AccountStore, StoreError};
use crate::callout::{Answer, Query, Response};
use crate::grants::{Grants, Mark};
use crate::key::Key;
use crate::key::breaker::{Breaker, BreakerRule};
use crate::node::Node;
use crate::record::Rule;

/// Where an API's upstream lists the domains of a caller
#[derive(Debug)]
pub(crate) struct List {
    /// What is known of the service belongs to it: it outlives policies
    pub(crate) id: AccountKey,
    pub(crate) cluster: Rc<str>,
    pub(crate) authority: Box<str>,
    pub(crate) path: Box<str>,
    /// Milliseconds, of each page
    pub(crate) timeout: u32,
    /// Whether requests go on while there is no list
    pub(crate) forwards_without: bool,
    /// What decides while there is no list
    pub(crate) unavailable_rule: Rc<Rule>,
}

/// Pages of a list that are read at the most
const MAX_PAGES: u32 = 10;

/// Items of a page that are asked for
const PER_PAGE: u32 = 100;

/// Domains of a list up to which it is known as a whole: they all have room in a record of grants
const MAX_WHOLE: usize = 200;

/// Longest page, in bytes
pub(crate) const MAX_BODY: usize = 256 * 1024;

const BREAKER: BreakerRule = BreakerRule {
    failures: 5,
    pause: 5_000_000_000,
};

/// A list that is being read for one request
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) access: Rc<DomainAccess>,
    pub(crate) key: Rc<Key>,
    /// What the request is about; `None` where that stands in its body
    pub(crate) domain: Option<String>,
    /// The page that is asked for, from 1
    pub(crate) page: u32,
    /// Domains on the pages before
    seen: usize,
    /// When the first page was asked for, in monotonic nanoseconds
    at: u64,
    pub(crate) came: Option<Rc<Page>>,
}

/// How far the reading of a list has come
#[derive(Debug)]
pub(crate) enum Progress {
    /// There are more pages: go on with this
    More(Listing),
    /// That was all
    Whole,
    /// There is none, or no end of it
    Away,
}

/// A page of a list
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Page {
    Names {
        names: Vec<String>,
        more: bool,
    },
    /// The upstream does not give a list to this caller
    Refused,
    /// The upstream is away, or what it says can't be read
    Away,
}

impl List {
    pub(crate) fn query(&self, page: u32) -> Query {
        Query {
            cluster: Rc::clone(&self.cluster),
            headers: [
                (":method", "GET".into()),
                (
                    ":path",
                    format!("{}?per_page={PER_PAGE}&page={page}", self.path),
                ),
                (":authority", String::from(&*self.authority)),
                ("accept", "application/json".into()),
            ]
            .into(),
            body: Vec::new(),
            timeout: self.timeout,
            as_caller: true,
        }
    }
}

impl Listing {
    pub(crate) fn new(
        access: &Rc<DomainAccess>,
        key: &Rc<Key>,
        domain: Option<&str>,
        now: u64,
    ) -> Self {
        Self {
            access: Rc::clone(access),
            key: Rc::clone(key),
            domain: domain.map(Into::into),
            page: 1,
            seen: 0,
            at: now,
            came: None,
        }
    }

    pub(crate) fn list(&self) -> Option<&List> {
        self.access.list.as_ref()
    }

    /// Learns from the page that came, and says how to go on
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it could not be kept.
    pub(crate) fn learn(
        &self,
        max_accounts: u64,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Progress, StoreError> {
        let Some(Page::Names { names, more }) = self.came.as_deref() else {
            return Ok(Progress::Away);
        };
        let grants = Grants::new(self.key.account, self.access.lives);
        let seen = self.seen.saturating_add(names.len());
        let whole = seen <= MAX_WHOLE;
        // Of a list that is too long to be known, what was asked for is known.
        let is_wanted = |name: &&String| whole || self.domain.as_deref() == Some(name.as_str());
        let listed = names.iter().filter(is_wanted);
        let listed = listed.map(|name| (Mark::Listed, name.as_str()));
        let end = (!more).then_some(match &self.domain {
            Some(domain) if !whole => (Mark::Denied, domain.as_str()),
            _ => (Mark::Denied, ""),
        });
        // Without a domain of its own, a list that is too long proves nothing.
        let end = end.filter(|_| whole || self.domain.is_some());
        let marks: Vec<_> = listed.chain(end).collect();
        if !marks.is_empty() {
            grants.learn(marks.into_iter(), self.at, max_accounts, now, store)?;
        }
        Ok(match more {
            false => Progress::Whole,
            true if self.page >= MAX_PAGES => Progress::Away,
            true => Progress::More(Self {
                page: self.page.saturating_add(1),
                seen,
                came: None,
                ..self.clone()
            }),
        })
    }
}

impl Page {
    /// Reads an answer, which is hostile until parsed
    pub(crate) fn read(access: &DomainAccess, number: u32, answer: &Answer<'_>) -> Self {
        match answer {
            Answer::Response(response) if response.status() == 200 => {
                Self::parse(access, number, response).unwrap_or(Self::Away)
            }
            Answer::Response(response) if (400..500).contains(&response.status()) => Self::Refused,
            Answer::Response(_) | Answer::Failed(_) => Self::Away,
        }
    }

    /// `{items, total_pages}`, or a list alone; an item is a name, or has it in `domain` or `name`
    fn parse(access: &DomainAccess, number: u32, response: &Response<'_>) -> Option<Self> {
        let body = Node::parse_json(response.body).ok()?;
        let (items, pages) = match &body {
            Node::List(items) => (items, 1),
            _ => {
                let pages = match body.get("total_pages") {
                    None => 1,
                    Some(Node::Number(pages)) => pages.as_u64()?,
                    Some(_) => return None,
                };
                match body.get("items")? {
                    Node::List(items) => (items, pages),
                    _ => return None,
                }
            }
        };
        let mut names = Vec::new();
        for item in items {
            let name = match item {
                Node::String(_) => Some(item),
                _ => item.get("domain").or_else(|| item.get("name")),
            };
            let Some(Node::String(name)) = name else {
                return None;
            };
            // What is no domain gives access to none.
            names.extend(access.parse(name).ok());
        }
        let more = u64::from(number) < pages;
        Some(Self::Names { names, more })
    }
}

/// What a worker knows of the services that have lists
#[derive(Debug, Default)]
pub(crate) struct Listings(Vec<(AccountKey, Breaker)>);

/// Services that are known at the same time
const MAX_SERVICES: usize = 64;

impl Listings {
    /// Whether a call may be made
    pub(crate) fn admits(&self, list: &List, now: u64) -> bool {
        self.breaker(list).admits(now)
    }

    pub(crate) fn begin(&mut self, list: &List) {
        self.change(list, Breaker::begin);
    }

    /// Notes what came of a call. That a caller is refused is no fault of the service's.
    pub(crate) fn end(&mut self, list: &List, page: &Page, now: u64) {
        let good = *page != Page::Away;
        self.change(list, |breaker| breaker.end(BREAKER, good, now));
    }

    fn breaker(&self, list: &List) -> Breaker {
        let known = self.0.iter().find(|(id, _)| *id == list.id);
        known.map_or(Breaker::Closed { failures: 0 }, |(_, breaker)| *breaker)
    }

    fn change(&mut self, list: &List, change: impl FnOnce(&mut Breaker)) {
        let mut breaker = self.breaker(list);
        change(&mut breaker);
        self.0.retain(|(id, _)| *id != list.id);
        if self.0.len() >= MAX_SERVICES {
            self.0.remove(0);
        }
        self.0.push((list.id, breaker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callout::Failure;

    fn access() -> Rc<DomainAccess> {
        use crate::access::Unknown;
        use crate::grants::Lives;
        use crate::record::RuleKind;
        Rc::new(DomainAccess {
            includes_subdomains: false,
            unknown: Unknown::Ask,
            hides: false,
            lives: Lives {
                granted: 1,
                listed: 1,
                denied: 1,
                asks: true,
            },
            suffixes: Vec::new(),
            unknown_rule: Rule::new(RuleKind::Domain, "apis.a.domain_access.unknown"),
            list: None,
        })
    }

    #[track_caller]
    fn check(status: &str, body: &str, expected: Option<(&[&str], bool)>) {
        let headers: &[(&[u8], &[u8])] = &[(b":status", status.as_bytes())];
        let body = body.as_bytes();
        let came = Page::read(&access(), 2, &Answer::Response(Response { headers, body }));
        let expected = expected.map(|(names, more)| Page::Names {
            names: names.iter().map(|name| String::from(*name)).collect(),
            more,
        });
        assert_eq!(came, expected.unwrap_or(Page::Away), "{body:?}");
    }

    #[test]
    fn pages() {
        check("200", "[]", Some((&[], false)));
        check(
            "200",
            r#"["A.example.", {"domain": "b.example"}, {"name": "c.example", "risk": 1}, "com", "10.0.0.1"]"#,
            Some((&["a.example", "b.example", "c.example"], false)),
        );
        let paged =
            |pages: &str| std::format!(r#"{{"items": ["a.example"], "total_pages": {pages}}}"#);
        check("200", &paged("2"), Some((&["a.example"], false)));
        check("200", &paged("3"), Some((&["a.example"], true)));
        for pages in ["-1", "2.5", "\"3\"", "null", "[]"] {
            check("200", &paged(pages), None);
        }
        for body in [
            "",
            "{",
            "7",
            "{}",
            r#"{"items": 1}"#,
            "[1]",
            "[[]]",
            "[{}]",
            r#"[{"domain": 1}]"#,
        ] {
            check("200", body, None);
        }
        for status in ["204", "302", "500", "0", "abc"] {
            check(status, r#"["a.example"]"#, None);
        }
        let failed = Page::read(&access(), 1, &Answer::Failed(Failure::Broken));
        assert_eq!(failed, Page::Away);
    }

    #[test]
    fn services_that_fail_are_left_alone_for_a_while() {
        let list = |number: u8| List {
            id: AccountKey::hash(&[&[number]]),
            cluster: "c".into(),
            authority: "c".into(),
            path: "/".into(),
            timeout: 1,
            forwards_without: false,
            unavailable_rule: Rule::new(crate::record::RuleKind::Domain, "r"),
        };
        let (one, mut listings) = (list(0), Listings::default());
        for _ in 0..5 {
            assert!(listings.admits(&one, 1));
            listings.begin(&one);
            listings.end(&one, &Page::Refused, 1);
        }
        for _ in 0..5 {
            assert!(listings.admits(&one, 1));
            listings.begin(&one);
            listings.end(&one, &Page::Away, 1);
        }
        assert!(!listings.admits(&one, 1));
        assert!(listings.admits(&one, 1 + BREAKER.pause));
        for number in 1..200 {
            listings.begin(&list(number));
        }
        assert!(listings.0.len() <= MAX_SERVICES);
    }
}
