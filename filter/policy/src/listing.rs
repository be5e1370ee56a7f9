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
use crate::name::Name;
use crate::node::Node;
use crate::pointer::Pointer;
use crate::record::Rule;

/// Where an API's upstream lists the domains of a caller
#[derive(Debug)]
pub(crate) struct List {
    /// What is known of the service belongs to it: it outlives policies
    pub(crate) id: AccountKey,
    pub(crate) cluster: Rc<str>,
    pub(crate) authority: Box<str>,
    pub(crate) path: Box<str>,
    /// How a page names the one behind it; by their number unless this says so
    pub(crate) next: Option<Next>,
    /// Milliseconds, of each page
    pub(crate) timeout: u32,
    /// Whether requests go on while there is no list
    pub(crate) forwards_without: bool,
    /// What decides while there is no list
    pub(crate) unavailable_rule: Rc<Rule>,
}

/// Where a page has the cursor of the one behind it, and how that is handed back
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) pointer: Pointer,
    /// The parameter of the query
    pub(crate) parameter: Name,
}

/// Which page of a list is asked for
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// From 1
    number: u32,
    /// What the page before has said, where pages say how to go on
    cursor: Option<Rc<str>>,
}

/// Longest cursor, in bytes
const MAX_CURSOR: usize = 512;

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
    /// The page that is asked for
    pub(crate) place: Place,
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
        /// Where the list goes on
        next: Option<Place>,
    },
    /// The upstream does not give a list to this caller
    Refused,
    /// The upstream is away, or what it says can't be read
    Away,
}

impl List {
    pub(crate) fn query(&self, place: &Place) -> Query {
        let mut path = format!("{}?per_page={PER_PAGE}", self.path);
        match (&self.next, &place.cursor) {
            (None, _) => path.push_str(&format!("&page={}", place.number)),
            (Some(_), None) => {}
            (Some(next), Some(cursor)) => {
                for (mark, text) in [('&', next.parameter.as_str()), ('=', &**cursor)] {
                    path.push(mark);
                    escape(text, &mut path);
                }
            }
        }
        Query {
            cluster: Rc::clone(&self.cluster),
            headers: [
                (":method", "GET".into()),
                (":path", path),
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
            place: Place::FIRST,
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
        let Some(Page::Names { names, next }) = self.came.as_deref() else {
            return Ok(Progress::Away);
        };
        let grants = Grants::new(self.key.account, self.access.lives);
        let seen = self.seen.saturating_add(names.len());
        let whole = seen <= MAX_WHOLE;
        // Of a list that is too long to be known, what was asked for is known.
        let is_wanted = |name: &&String| whole || self.domain.as_deref() == Some(name.as_str());
        let listed = names.iter().filter(is_wanted);
        let listed = listed.map(|name| (Mark::Listed, name.as_str()));
        let end = next.is_none().then_some(match &self.domain {
            Some(domain) if !whole => (Mark::Denied, domain.as_str()),
            _ => (Mark::Denied, ""),
        });
        // Without a domain of its own, a list that is too long proves nothing.
        let end = end.filter(|_| whole || self.domain.is_some());
        let marks: Vec<_> = listed.chain(end).collect();
        if !marks.is_empty() {
            grants.learn(marks.into_iter(), self.at, max_accounts, now, store)?;
        }
        Ok(match next {
            None => Progress::Whole,
            Some(next) if next.number > MAX_PAGES => Progress::Away,
            Some(next) => Progress::More(Self {
                place: next.clone(),
                seen,
                came: None,
                ..self.clone()
            }),
        })
    }
}

impl Page {
    /// Reads an answer, which is hostile until parsed
    pub(crate) fn read(access: &DomainAccess, place: &Place, answer: &Answer<'_>) -> Self {
        match answer {
            Answer::Response(response) if response.status() == 200 => {
                Self::parse(access, place, response).unwrap_or(Self::Away)
            }
            Answer::Response(response) if (400..500).contains(&response.status()) => Self::Refused,
            Answer::Response(_) | Answer::Failed(_) => Self::Away,
        }
    }

    /// `{items, total_pages}` or with a cursor, or a list alone; an item is a name, or has it in `domain` or `name`
    fn parse(access: &DomainAccess, place: &Place, response: &Response<'_>) -> Option<Self> {
        let body = Node::parse_json(response.body).ok()?;
        let items = match &body {
            Node::List(_) => &body,
            _ => body.get("items")?,
        };
        let Node::List(items) = items else {
            return None;
        };
        let next = access.list.as_ref().and_then(|list| list.next.as_ref());
        let next = match next {
            Some(next) => place.behind_cursor(next.find(&body)?)?,
            None => place.behind_number(&body)?,
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
        Some(Self::Names { names, next })
    }
}

impl Place {
    pub(crate) const FIRST: Self = Self {
        number: 1,
        cursor: None,
    };

    /// The next place, where pages are numbered; `None` when their number can't be read
    fn behind_number(&self, page: &Node) -> Option<Option<Self>> {
        let pages = match page.get("total_pages") {
            None => 1,
            Some(Node::Number(pages)) => pages.as_u64()?,
            Some(_) => return None,
        };
        let next = (u64::from(self.number) < pages).then(|| self.behind(None));
        Some(next)
    }

    /// The next place, if there is a cursor; `None` when it leads back here
    fn behind_cursor(&self, cursor: Option<&str>) -> Option<Option<Self>> {
        match cursor {
            None => Some(None),
            Some(same) if self.cursor.as_deref() == Some(same) => None,
            Some(cursor) => Some(Some(self.behind(Some(cursor.into())))),
        }
    }

    fn behind(&self, cursor: Option<Rc<str>>) -> Self {
        Self {
            number: self.number.saturating_add(1),
            cursor,
        }
    }
}

impl Next {
    /// The cursor in a page, if it has one; `None` when that is none that could be handed back
    fn find<'n>(&self, page: &'n Node) -> Option<Option<&'n str>> {
        match self.pointer.of(page) {
            None | Some(Node::Null) => Some(None),
            Some(Node::String(text)) if text.is_empty() => Some(None),
            Some(Node::String(text))
                if text.len() <= MAX_CURSOR && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Some(Some(text))
            }
            _ => None,
        }
    }
}

/// Adds a text as a query has it (RFC 3986, section 2.1)
fn escape(text: &str, to: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
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
        let place = Place::FIRST.behind(None);
        let came = Page::read(
            &access(),
            &place,
            &Answer::Response(Response { headers, body }),
        );
        let expected = expected.map(|(names, more)| Page::Names {
            names: names.iter().map(|name| String::from(*name)).collect(),
            next: more.then(|| place.behind(None)),
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
        let failed = Page::read(&access(), &Place::FIRST, &Answer::Failed(Failure::Broken));
        assert_eq!(failed, Page::Away);
    }

    fn list(number: u8, next: Option<Next>) -> List {
        List {
            id: AccountKey::hash(&[&[number]]),
            cluster: "c".into(),
            authority: "c".into(),
            path: "/d".into(),
            next,
            timeout: 1,
            forwards_without: false,
            unavailable_rule: Rule::new(crate::record::RuleKind::Domain, "r"),
        }
    }

    fn next(pointer: &str) -> Option<Next> {
        Some(Next {
            pointer: Pointer::parse(pointer)?,
            parameter: Name::parse("after").ok()?,
        })
    }

    #[test]
    fn cursors() {
        let mut access = access();
        Rc::get_mut(&mut access).unwrap().list = Some(list(0, next("/page/next")));
        let asked = Place::FIRST.behind(Some("here".into()));
        let read = |cursor: &str| {
            let body = std::format!(r#"{{"items": ["a.example"], "total_pages": "x", {cursor}}}"#);
            let headers: &[(&[u8], &[u8])] = &[(b":status", b"200")];
            let body = body.as_bytes();
            let answer = Answer::Response(Response { headers, body });
            match Page::read(&access, &asked, &answer) {
                Page::Names { next, .. } => {
                    Some(next.map(|next| (next.number, next.cursor.unwrap())))
                }
                _ => None,
            }
        };
        assert_eq!(
            read(r#""page": {"next": "there"}"#),
            Some(Some((3, "there".into())))
        );
        for end in [
            r#""page": {"next": null}"#,
            r#""page": {"next": ""}"#,
            r#""page": {}"#,
            r#""page": 7"#,
            r#""x": 1"#,
        ] {
            assert_eq!(read(end), Some(None), "{end}");
        }
        let long = std::format!(r#""page": {{"next": "{}"}}"#, "x".repeat(MAX_CURSOR + 1));
        for odd in [
            r#""page": {"next": "here"}"#,
            r#""page": {"next": 7}"#,
            r#""page": {"next": false}"#,
            r#""page": {"next": ["x"]}"#,
            r#""page": {"next": "a b"}"#,
            r#""page": {"next": "\u00e9"}"#,
            r#""page": {"next": "a\nb"}"#,
            &long,
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
        let path = |place: &Place| {
            let query = access.list.as_ref().unwrap().query(place);
            query.headers[1].1.clone()
        };
        assert_eq!(path(&Place::FIRST), "/d?per_page=100");
        let odd = Place::FIRST.behind(Some("a+b/=&x#%~".into()));
        assert_eq!(path(&odd), "/d?per_page=100&after=a%2Bb%2F%3D%26x%23%25~");
    }

    #[test]
    fn services_that_fail_are_left_alone_for_a_while() {
        let list = |number: u8| list(number, None);
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
