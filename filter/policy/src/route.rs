//! A route: what one kind of request needs, spends and has read of it.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::access::RouteDomains;
use crate::comparison::Compare;
use crate::counter::Series;
use crate::enforcement::Enforcement;
use crate::entitlement::Spend;
use crate::limit::Limit;
use crate::name::Name;
use crate::node::Node;
use crate::record::Rule;
use crate::schema::Field;
use crate::screen::Screen;

/// A route of an API
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Name,
    pub(crate) series: Series,
    pub(crate) rule: Rc<Rule>,
    pub(crate) access: Access,
    /// One bit a scope of the API; all of them are needed
    pub(crate) scopes: u64,
    pub(crate) scope_names: String,
    pub(crate) scope_enforcement: Enforcement,
    pub(crate) scope_rule: Rc<Rule>,
    /// Whether a request spends the rate of its principal's tier
    pub(crate) spends_tier: bool,
    /// Limits by name that a request spends besides, those of a principal last
    pub(crate) limits: Vec<Rc<Limit>>,
    /// What a request spends of its principal's quotas
    pub(crate) spend: Option<Spend>,
    /// Values of `Upgrade` that are let through, in lower case
    pub(crate) upgrades: Vec<String>,
    pub(crate) upgrade_rule: Rc<Rule>,
    /// The parameters of the query that are inspected, sorted by name
    pub(crate) query: Vec<Field>,
    /// What is screened of its headers, query and client, sorted by name
    pub(crate) screens: Vec<Screen>,
    pub(crate) body: Option<BodyRule>,
    pub(crate) domains: Option<Box<RouteDomains>>,
}

/// Who may use a route
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Holders of a good key
    Key,
    /// Holders of a good key, and who has no credential at all under the tier of the anonymous
    Optional,
    /// Everybody
    Public {
        /// Whether a request spends the unauthenticated bucket
        charged: bool,
    },
}

/// How a route's body is read
#[derive(Debug)]
pub(crate) struct BodyRule {
    /// Longest body, in bytes
    pub(crate) max: usize,
    pub(crate) rule: Rc<Rule>,
    pub(crate) fields: Vec<Field>,
    pub(crate) classes: Option<Classes>,
    pub(crate) verdict: Option<VerdictRule>,
    /// What is screened of it, sorted by name
    pub(crate) screens: Vec<Screen>,
    /// Whether what was found in it is written into request headers
    pub(crate) annotates: bool,
}

/// The classes of a route's requests, told apart by a field of the body
#[derive(Debug)]
pub(crate) struct Classes {
    pub(crate) field: String,
    /// The class of a request without the field
    pub(crate) absent: Class,
    pub(crate) classes: Vec<Class>,
    pub(crate) rule: Rc<Rule>,
}

/// One class of requests
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) name: Rc<str>,
    /// Cells of the tier's bucket that a request costs
    pub(crate) cost: u64,
}

/// When a request is answered with a quick verdict
#[derive(Debug)]
pub(crate) struct VerdictRule {
    /// The field that holds the target
    pub(crate) field: String,
    /// Classes that are answered here; all where there are none
    pub(crate) when: Vec<Rc<str>>,
    pub(crate) on_unknown: OnUnknown,
    /// The same where the feeds are too old to know, or missing
    pub(crate) stale: OnUnknown,
    /// How the upstream tells its own verdict of the same target
    pub(crate) compare: Option<Rc<Compare>>,
    pub(crate) enforcement: Enforcement,
    pub(crate) rule: Rc<Rule>,
}

/// What becomes of a request whose target nothing is known of
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnUnknown {
    Answer,
    Forward,
}

impl BodyRule {
    /// Whether what is wrong with the body as a whole binds who asks: not where only rules read it that
    /// don't
    pub(crate) fn binds(&self, who: u64) -> bool {
        let verdict = self.verdict.as_ref();
        self.classes.is_some()
            || verdict.is_some_and(|verdict| verdict.enforcement.binds(who))
            || self.fields.iter().any(|field| field.enforcement.binds(who))
            || self
                .screens
                .iter()
                .any(|screen| screen.enforcement.binds(who))
    }

    /// What the cheapest request costs
    pub(crate) fn least_cost(&self) -> u64 {
        let costs = self
            .classes
            .iter()
            .flat_map(|classes| &classes.classes)
            .map(|class| class.cost);
        costs.min().unwrap_or(1)
    }
}

impl Classes {
    /// The class of a body; `None` when its field names none
    pub(crate) fn of(&self, body: &Node) -> Option<&Class> {
        match body.get(&self.field) {
            None => Some(&self.absent),
            Some(Node::String(name)) => self.classes.iter().find(|class| *class.name == **name),
            Some(_) => None,
        }
    }
}

impl VerdictRule {
    /// Whether requests of a class are answered here
    pub(crate) fn answers(&self, class: Option<&Class>) -> bool {
        self.when.is_empty() || class.is_some_and(|class| self.when.contains(&class.name))
    }
}
