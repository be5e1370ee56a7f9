//! The record of one decision.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;
use portcullis_threat::Classification;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::comparison::Opinion;
use crate::counter::{Counted, Counter, Effect, Series};
use crate::id::DecisionId;
use crate::key::Key;
use crate::name::Name;
use crate::policy::{Api, Mode, Policy};
use crate::protobuf::StructWriter;
use crate::reason::Reason;
use crate::recording::{ClientForm, DEFAULT, Recording, Told};
use crate::route::Route;
use crate::trace::TraceId;

/// Everything that is known of one decision; never holds a credential
///
/// It is one structure wherever it goes, as JSON and as a `google.protobuf.Struct`: `v` (1, and
/// another number when a field changes its meaning), `decision`, `mode` (`enforce`, `observe`), `reason`,
/// `rule`, `policy` (its revision), `bundle` (the revision of the key's bundle; null for a key of the policy itself); where
/// they are known `api`, `route`, `principal`, `tier`, `key`, `exception` (why the tier is another for a while),
/// `class`, `remaining`, `limit_status` (of a rate
/// with a queue: `PASSED`, `DELAYED` or `REJECTED`), `wait_ms`, `over` (limits that it is over and that only
/// tag), `shadow` (what rules would have done that don't bind), `screen` (what screens found), `exempt`, `expired` (slots that nobody gave
/// back), `verdict`, `score`, `upstream_verdict` and `upstream_score` (what the upstream's answer says of the same
/// target, where nothing came of the verdict), `threat_bundle` (when the bundle of feeds was made, and its digest), `quota` and `quota_remaining`, `trace_id`; and where the policy's `record` asks for them `target` and `client`.
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
    pub(crate) policy: Option<Rc<Policy>>,
    pub(crate) api: Option<Rc<Api>>,
    pub(crate) route: Option<Rc<Route>>,
    pub(crate) key: Option<Rc<Key>>,
    pub(crate) class: Option<Rc<str>>,
    pub(crate) remaining: Option<u64>,
    /// Nanoseconds for which the request is held
    pub(crate) wait: Option<u64>,
    pub(crate) limit_status: Option<LimitStatus>,
    /// What the target, or the worst value that was screened, was found to be, and its score
    pub(crate) verdict: Option<(Classification, u8)>,
    pub(crate) extras: Option<Box<Extras>>,
}

/// What few decisions have: the others need not carry it
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// What screens found that block or tag it, whether they bind or not: a dictionary (RFC 9651)
    pub(crate) screens: String,
    /// What the upstream is told of that
    pub(crate) tags: String,
    /// The first screen that tags the request
    pub(crate) tagged: Option<Rc<Rule>>,
    /// The target in the form that the policy asks for
    pub(crate) target: Option<String>,
    /// What the threat bundle is called that the target was judged by
    pub(crate) feeds: Option<String>,
    /// The quota that the request spends, and what is left of it
    pub(crate) quota: Option<(Name, u64)>,
    /// The client's address, where the policy asks for it
    pub(crate) client: Option<IpAddr>,
    pub(crate) trace: Option<TraceId>,
    /// The verdict of which nothing came, and what the upstream says of the same target
    pub(crate) compared: Option<(Classification, Opinion)>,
    /// Limits that the request is over and goes on all the same, by name
    pub(crate) over: String,
    /// What rules found that don't bind
    pub(crate) shadows: Vec<(Reason, Rc<Rule>)>,
    /// The rule that exempts the client from limits
    pub(crate) exempt: Option<Rc<Rule>>,
    /// Slots of other requests that nobody gave back
    pub(crate) expired: u64,
    /// What a caller who asked why, and may, is told
    pub(crate) explanation: Option<String>,
}

/// What became of a request at a rate that has a queue, in the words of nginx's `$limit_req_status`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LimitStatus {
    /// It went at once
    Passed,
    /// It was held
    Delayed,
    /// It was refused
    Rejected,
}

impl LimitStatus {
    /// The word
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Delayed => "DELAYED",
            Self::Rejected => "REJECTED",
        }
    }
}

/// The header in which a caller asks why, and is told
pub const EXPLANATION: &str = "x-portcullis-explain";

/// The version of the structure
const VERSION: u64 = 1;

/// The value of a field
enum Value<'a> {
    Null,
    Number(u64),
    Text(&'a str),
}

impl Record {
    /// The record as one line of JSON
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The record as the bytes of a `google.protobuf.Struct`, which a host's access log takes
    /// apart
    #[must_use]
    pub fn to_struct(&self) -> Vec<u8> {
        let mut fields = StructWriter::with_capacity(512);
        self.each(&mut |name, value| match value {
            Value::Null => fields.null(name),
            Value::Number(number) => fields.number(name, number),
            Value::Text(text) => fields.text(name, text),
        });
        fields.into_bytes()
    }

    /// Where the policy wants the decision told
    #[must_use]
    pub fn told(&self) -> Told {
        let is_notable = self.extras.as_ref().is_some_and(|extras| {
            let compared = extras.compared;
            !extras.over.is_empty()
                || !extras.shadows.is_empty()
                || !extras.screens.is_empty()
                || compared.is_some_and(|(verdict, opinion)| opinion.contradicts(verdict))
        });
        // What goes on in doubt is not silent either.
        let is_doubtful = self.reason == Reason::DomainUnknown;
        let is_told = self.reason.is_refusal() || is_notable || is_doubtful;
        self.recording().told(is_told, self.decision.into())
    }

    /// What became of the request at a rate that has a queue
    #[must_use]
    pub fn limit_status(&self) -> Option<LimitStatus> {
        self.limit_status
    }

    /// Slots of other requests that were found expired: nobody gave them back
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.extras.as_ref().map_or(0, |extras| extras.expired)
    }

    /// For how many milliseconds the request is held by a limit, rounded up; `None` for one that is
    /// not
    #[must_use]
    pub fn wait_ms(&self) -> Option<u64> {
        self.wait.map(|wait| wait.div_ceil(1_000_000))
    }

    /// The counter of the decision
    #[must_use]
    pub fn counter(&self) -> Counter<'_> {
        let effect = match self.mode {
            Mode::Observe => Effect::Observed,
            Mode::Enforce | Mode::Disabled => Effect::Enforced,
        };
        self.counter_of(self.reason, effect)
    }

    /// The counters of what rules would have done that don't bind
    pub fn shadow_counters(&self) -> impl Iterator<Item = Counter<'_>> {
        let shadows = self.extras.iter().flat_map(|extras| &extras.shadows);
        shadows.map(|(reason, _)| self.counter_of(*reason, Effect::Shadow))
    }

    /// Notes what the upstream says of the target that a verdict was made of
    pub fn compare(&mut self, opinion: Opinion) {
        if let Some((verdict, _)) = self.verdict {
            self.extras.get_or_insert_default().compared = Some((verdict, opinion));
        }
    }

    /// The counter of the verdict beside the upstream's; `None` where it was not compared, or the policy wants no counters
    #[must_use]
    pub fn comparison_counter(&self) -> Option<Counter<'_>> {
        let (verdict, opinion) = self.extras.as_ref()?.compared?;
        if !self.recording().refused.metrics {
            return None;
        }
        Some(self.counter_with(Counted::Comparison(verdict, opinion)))
    }

    fn counter_of(&self, reason: Reason, effect: Effect) -> Counter<'_> {
        self.counter_with(Counted::Decision(reason, effect))
    }

    fn counter_with(&self, counted: Counted) -> Counter<'_> {
        let (api, route) = (self.api.as_ref(), self.route.as_ref());
        let series = match (route, api) {
            (Some(route), _) => route.series,
            (None, Some(api)) => api.series,
            (None, None) => Series::default(),
        };
        Counter {
            series,
            api: api.map(|api| &api.name),
            route: route.map(|route| &route.name),
            counted,
        }
    }

    /// Reason, rule and what is left, as a structured item with parameters (RFC 9651)
    fn to_explanation(&self) -> String {
        let mut text = format!("{};rule=\"", self.reason.word());
        for c in self.rule.path.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                ' '..='~' => text.push(c),
                _ => text.push('?'),
            }
        }
        text.push('"');
        if let Some(remaining) = self.remaining {
            text.push_str(&format!(";remaining={remaining}"));
        }
        text
    }

    /// The value of the response's header [`EXPLANATION`], for a caller who asked why and may; a
    /// [`Reply`](crate::Reply) holds it already
    #[must_use]
    pub fn explanation(&self) -> Option<&str> {
        self.extras.as_ref()?.explanation.as_deref()
    }

    pub(crate) fn trace(&self) -> Option<&TraceId> {
        self.extras.as_ref()?.trace.as_ref()
    }

    /// Notes what a caller who asked why is told
    pub(crate) fn explain(&mut self) {
        let explanation = self.to_explanation();
        self.extras.get_or_insert_default().explanation = Some(explanation);
    }

    /// Notes that the request has spent nothing of its quota after all
    pub(crate) fn gives_back(&mut self) {
        let quota = self
            .extras
            .as_mut()
            .and_then(|extras| extras.quota.as_mut());
        if let Some((_, left)) = quota {
            *left = left.saturating_add(1);
        }
    }

    fn recording(&self) -> &Recording {
        self.policy
            .as_ref()
            .map_or(&DEFAULT, |policy| &policy.recording)
    }

    /// Hands out each field, in the order of the structure
    fn each(&self, field: &mut dyn FnMut(&'static str, Value<'_>)) {
        let mut text = |name, value: Option<&str>| {
            if let Some(value) = value {
                field(name, Value::Text(value));
            }
        };
        let (route, key) = (self.route.as_ref(), self.key.as_ref());
        let mode = match self.mode {
            Mode::Observe => "observe",
            Mode::Enforce | Mode::Disabled => "enforce",
        };
        text("decision", Some(self.decision.text().as_str()));
        text("mode", Some(mode));
        text("reason", Some(self.reason.word()));
        text("rule", Some(&self.rule.path));
        text("api", self.api.as_ref().map(|api| api.name.as_str()));
        text("route", route.map(|route| route.name.as_str()));
        text("principal", key.map(|key| key.principal.as_str()));
        text("tier", key.map(|key| key.tier.name.as_str()));
        text("key", key.map(|key| key.id.as_str()));
        let exception = key.and_then(|key| key.exception.as_ref());
        text(
            "exception",
            exception.map(|exception| exception.reason.as_str()),
        );
        text("class", self.class.as_deref());
        text("limit_status", self.limit_status.map(LimitStatus::word));
        text("verdict", self.verdict.map(|(found, _)| found.word()));
        if let Some(extras) = &self.extras {
            text("over", Some(&*extras.over).filter(|over| !over.is_empty()));
            text("shadow", extras.shadow().as_deref());
            let screens = Some(&*extras.screens);
            text("screen", screens.filter(|screens| !screens.is_empty()));
            text("exempt", extras.exempt.as_ref().map(|rule| &*rule.path));
            text("target", extras.target.as_deref());
            text(
                "upstream_verdict",
                extras.compared.map(|(_, opinion)| opinion.word()),
            );
            text("threat_bundle", extras.feeds.as_deref());
            text("client", self.client(extras).as_deref());
            text(
                "quota",
                extras.quota.as_ref().map(|(quota, _)| quota.as_str()),
            );
            text("trace_id", extras.trace.as_ref().map(TraceId::as_str));
        }
        text(
            "policy",
            self.policy.as_ref().map(|policy| policy.revision()),
        );
        field("v", Value::Number(VERSION));
        if let Some(remaining) = self.remaining {
            field("remaining", Value::Number(remaining));
        }
        if let Some(wait) = self.wait_ms() {
            field("wait_ms", Value::Number(wait));
        }
        if self.expired() > 0 {
            field("expired", Value::Number(self.expired()));
        }
        if let Some((_, left)) = self
            .extras
            .as_ref()
            .and_then(|extras| extras.quota.as_ref())
        {
            field("quota_remaining", Value::Number(*left));
        }
        if let Some((_, score)) = self.verdict {
            field("score", Value::Number(score.into()));
        }
        let compared = self.extras.as_ref().and_then(|extras| extras.compared);
        if let Some((_, Opinion::Verdict(_, Some(score)))) = compared {
            field("upstream_score", Value::Number(score.into()));
        }
        // Keys that stand in the policy itself are of no bundle.
        let bundle = key.and_then(|key| key.bundle.as_ref());
        field(
            "bundle",
            bundle.map_or(Value::Null, |revision| Value::Text(revision.as_str())),
        );
    }

    fn client(&self, extras: &Extras) -> Option<String> {
        let address = extras.client?;
        match self.recording().client {
            ClientForm::None => None,
            ClientForm::Full => Some(address.to_string()),
            ClientForm::Prefix => {
                let bits = if address.is_ipv4() { 24 } else { 48 };
                let network = IpNet::new(address, bits).ok()?;
                Some(network.trunc().to_string())
            }
        }
    }
}

impl Extras {
    /// What rules would have done that don't bind, as `reason rule`, one behind the other with commas
    fn shadow(&self) -> Option<String> {
        let mut text = String::new();
        for (reason, rule) in &self.shadows {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(reason.word());
            text.push(' ');
            text.push_str(&rule.path);
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut result = Ok(());
        self.each(&mut |name, value| {
            if result.is_ok() {
                result = map.serialize_entry(name, &value);
            }
        });
        result?;
        map.end()
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
    /// Which addresses may call: `clients.deny`, `clients.screen`
    Clients,
    /// How an API's key is to be sent: `apis.*.keys`
    Credential,
    /// Access to domains: `apis.*.domain_access.*`, and `domain`, `grants` and `revokes` of a route
    Domain,
    /// A field of a route's body: `apis.*.routes.*.fields.*`, and `.tiers` of it
    Field,
    /// When a request that is sent again is not charged again: `apis.*.routes.*.idempotency`
    Idempotency,
    /// A key: `apis.*.keys[*]`, `apis.*.keys.inline[*]`, `apis.*.keys.bundle`, or `revoked`
    Key,
    /// A limit of an API by its own name: `apis.*.limits.*`
    Limit,
    /// CORS preflight: `apis.*.preflight`
    Preflight,
    /// Readiness and exemptions: `probes.*`
    Probes,
    /// A parameter of a route's query: `apis.*.routes.*.query.*` and `.tiers` of it, or `.page`
    Query,
    /// What a period includes: `apis.*.tiers.*.quotas`
    Quota,
    /// A route: `apis.*.routes.*`
    Route,
    /// A route's scopes: `apis.*.routes.*.scope`
    Scope,
    /// A value that a route screens: `apis.*.routes.*.screen.*`
    Screen,
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
}

impl RuleKind {
    /// Every kind there is
    pub const ALL: &'static [Self] = &[
        Self::Body,
        Self::Builtin,
        Self::Clients,
        Self::Credential,
        Self::Domain,
        Self::Field,
        Self::Idempotency,
        Self::Key,
        Self::Limit,
        Self::Preflight,
        Self::Probes,
        Self::Query,
        Self::Quota,
        Self::Route,
        Self::Scope,
        Self::Screen,
        Self::Tier,
        Self::Unauthenticated,
        Self::Unmatched,
        Self::Upgrade,
        Self::Verdict,
    ];
}
