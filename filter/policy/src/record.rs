//! The record of one decision.

use alloc::borrow::ToOwned;
use alloc::rc::Rc;
use alloc::string::String;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::id::DecisionId;
use crate::key::Key;
use crate::policy::Mode;
use crate::reason::Reason;
use crate::route::Route;

/// Everything that is known of one decision; never holds a credential
///
/// Serialises to one JSON object with the fields `decision`, `reason`, `rule` and, where it is
/// `observe`, `mode`, and where they are known, `api`, `route`, `principal`, `tier`, `key`, `class`, `remaining` and `wait_ms`.
#[derive(Clone, Debug)]
pub struct Record {
    /// The decision's id
    pub decision: DecisionId,
    /// Why
    pub reason: Reason,
    /// Whether it was carried out
    pub mode: Mode,
    /// The rule that made the decision
    pub rule: Rc<Rule>,
    pub(crate) route: Option<Rc<Route>>,
    pub(crate) key: Option<Rc<Key>>,
    pub(crate) class: Option<Rc<str>>,
    pub(crate) remaining: Option<u64>,
    /// Nanoseconds for which the request is held
    pub(crate) wait: Option<u64>,
}

impl Record {
    /// The record as one line of JSON
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Record", 12)?;
        record.serialize_field("decision", self.decision.text().as_str())?;
        record.serialize_field("reason", self.reason.word())?;
        record.serialize_field("rule", &self.rule.path)?;
        if self.mode == Mode::Observe {
            record.serialize_field("mode", "observe")?;
        }
        if let Some(route) = &self.route {
            record.serialize_field("api", route.api.as_str())?;
            record.serialize_field("route", route.name.as_str())?;
        }
        if let Some(key) = &self.key {
            record.serialize_field("principal", key.principal.as_str())?;
            record.serialize_field("tier", key.tier.name.as_str())?;
            record.serialize_field("key", key.id.as_str())?;
        }
        if let Some(class) = &self.class {
            record.serialize_field("class", &**class)?;
        }
        if let Some(remaining) = self.remaining {
            record.serialize_field("remaining", &remaining)?;
        }
        if let Some(wait) = self.wait {
            record.serialize_field("wait_ms", &wait.div_ceil(1_000_000))?;
        }
        record.end()
    }
}

/// A rule of the policy, by its place in the document
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// What kind of rule it is
    pub kind: RuleKind,
    /// Its path in the document, such as `apis.shop.tiers.basic.rate`; for rules that no document
    /// can change a path under `builtin`
    pub path: String,
}

impl Rule {
    pub(crate) fn new(kind: RuleKind, path: &str) -> Rc<Self> {
        Rc::new(Self {
            kind,
            path: path.to_owned(),
        })
    }
}

/// The kinds of rules
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RuleKind {
    /// How a route's body is read: `apis.*.routes.*.body`
    Body,
    /// What holds for every policy: `builtin.*`
    Builtin,
    /// Which addresses may call: `clients.deny`
    Clients,
    /// How an API's key is to be sent: `apis.*.keys`
    Credential,
    /// A field of a route's body: `apis.*.routes.*.fields.*`, and `.tiers` of it
    Field,
    /// A key: `apis.*.keys[*]`, or `revoked`
    Key,
    /// CORS preflight: `apis.*.preflight`
    Preflight,
    /// Readiness and exemptions: `probes.*`
    Probes,
    /// A parameter of a route's query: `apis.*.routes.*.query.*` and `.tiers` of it, or `.page`
    Query,
    /// A route: `apis.*.routes.*`
    Route,
    /// A route's scopes: `apis.*.routes.*.scope`
    Scope,
    /// A tier's rate: `apis.*.tiers.*.rate`
    Tier,
    /// The unauthenticated bucket: `unauthenticated`
    Unauthenticated,
    /// Paths that no route has: `apis.*.unmatched`
    Unmatched,
    /// A route's upgrades: `apis.*.routes.*.upgrade`
    Upgrade,
    /// A route's inline verdict: `apis.*.routes.*.verdict`
    Verdict,
    /// An exact limit of an API: `apis.*.limits.*`
    Window,
}

impl RuleKind {
    /// Every kind there is
    pub const ALL: &'static [Self] = &[
        Self::Body,
        Self::Builtin,
        Self::Clients,
        Self::Credential,
        Self::Field,
        Self::Key,
        Self::Preflight,
        Self::Probes,
        Self::Query,
        Self::Route,
        Self::Scope,
        Self::Tier,
        Self::Unauthenticated,
        Self::Unmatched,
        Self::Upgrade,
        Self::Verdict,
        Self::Window,
    ];
}
