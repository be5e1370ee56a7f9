//! A policy: valid by construction, read by everybody, changed by nobody.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hashbrown::HashMap;
use ipnet::IpNet;
use portcullis_threat::{Bundle, Judge, Lists, Model};

use crate::account::AccountKey;
use crate::bucket::Bucket;
use crate::compile;
use crate::counter::Series;
use crate::enforcement::Enforcement;
use crate::entitlement::{Allowances, Entitlement};
use crate::error::ConfigError;
use crate::feeds::{self, Feeds, Shelves};
use crate::host;
use crate::key::lookup::Lookup;
use crate::key::{Key, KeyBundle, KeyRing, KeyTerms};
use crate::name::Name;
use crate::node::Node;
use crate::protobuf;
use crate::rate::Telling;
use crate::record::Rule;
use crate::recording::{ClientForm, Recording};
use crate::replica::Source;
use crate::reply::Dialect;
use crate::screen::Screen;
use crate::template::Router;
use crate::verdicts::Keeping;

/// A valid policy
#[derive(Debug)]
pub struct Policy {
    /// Where the buckets of client addresses lie
    pub(crate) clients: AccountKey,
    pub(crate) revision: Box<str>,
    pub(crate) mode: Mode,
    /// For whom `mode: enforce` is that; the others are observed
    pub(crate) rollout: Enforcement,
    pub(crate) pause: Pause,
    pub(crate) max_accounts: u64,
    pub(crate) probes: Probes,
    pub(crate) denied_clients: Vec<IpNet>,
    /// For whom the denial binds
    pub(crate) denial: Enforcement,
    /// Addresses that no limit counts
    pub(crate) exempt_clients: Vec<IpNet>,
    /// What every client's address is screened for: one at the most
    pub(crate) client_screens: Vec<Screen>,
    /// Whether a limit or a screen is by client's address
    pub(crate) counts_clients: bool,
    pub(crate) unauthenticated: Bucket,
    /// How the unauthenticated bucket is called where limits are told by name
    pub(crate) unauthenticated_name: Name,
    pub(crate) apis: Vec<Rc<Api>>,
    /// APIs by host; the empty host stands for every other one
    pub(crate) hosts: HashMap<String, usize>,
    pub(crate) threat: Threat,
    pub(crate) recording: Recording,
    /// The document's digest, as it is shown
    pub(crate) digest: [u8; 6],
    pub(crate) rules: Rules,
}

/// What targets are judged by
#[derive(Debug, Default)]
pub(crate) struct Threat {
    pub(crate) lists: Lists,
    pub(crate) model: Model,
    pub(crate) reveal: Reveal,
    pub(crate) feeds: Option<Feeds>,
    pub(crate) keeping: Keeping,
}

/// What callers see of the feeds behind a verdict
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Reveal {
    /// That there is a match
    None,
    /// What is listed, and what as
    #[default]
    Category,
    /// Also by whom
    Source,
}

impl Threat {
    /// Who judges by it, at this time (seconds since 1970)
    pub(crate) fn judge<'a>(&'a self, shelves: &'a Shelves, now: u64) -> Judge<'a> {
        let bundle = self.feeds.as_ref().and_then(|feeds| shelves.live(feeds));
        self.judge_by(bundle, now)
    }

    fn judge_by<'a>(&'a self, bundle: Option<&'a Bundle>, now: u64) -> Judge<'a> {
        let judge = Judge::new(self.model, now).with_lists(&self.lists);
        let Some(feeds) = &self.feeds else {
            return judge;
        };
        let Some(bundle) = bundle else {
            return judge.without_bundle();
        };
        let judge = judge.with_bundle_until(bundle, feeds.until(bundle));
        match feeds::tables(bundle) {
            Some(tables) => judge.with_tables(tables),
            None => judge,
        }
    }
}

/// What becomes of decisions
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// They are carried out
    Enforce,
    /// They are made, charged and recorded, and nothing else: not one byte of a request or a response
    /// changes
    Observe,
    /// None is made: every request passes
    Disabled,
}

/// Where a request is held until its body has been judged
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pause {
    /// Before its body: the headers go on only with it. Needs Envoy's
    /// `allow_on_headers_stop_iteration`
    Headers,
    /// In its body: the headers go on before, so nothing that is learned from the body can be
    /// added to them
    Body,
}

#[derive(Debug, Default)]
pub(crate) struct Probes {
    pub(crate) ready: Option<String>,
    /// Method and path
    pub(crate) exempt: Vec<(String, String)>,
}

/// One API of a policy
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) name: Name,
    pub(crate) series: Series,
    pub(crate) telling: Telling,
    /// Whether one of its limits or screens is by client's address
    pub(crate) counts_clients: bool,
    pub(crate) dialect: Dialect,
    /// The keys that stand in the policy itself
    pub(crate) keys: KeyRing,
    /// The keys that the policy brings along as a bundle
    pub(crate) seed: Option<Rc<KeyBundle>>,
    /// What callers without a key have, on routes that let them
    pub(crate) anonymous: Option<Rc<Key>>,
    /// What its keys are read against
    pub(crate) terms: Rc<KeyTerms>,
    /// Where its bundle of keys comes from
    pub(crate) source: Option<Rc<Source>>,
    /// Who knows keys that are not among `keys`
    pub(crate) lookup: Option<Rc<Lookup>>,
    pub(crate) strips_credential: bool,
    /// Whether the upstream is told who calls, and under which decision
    pub(crate) tells_identity: bool,
    pub(crate) forwards_preflight: bool,
    pub(crate) forwards_unmatched: bool,
    pub(crate) router: Router,
    /// Whether a route spends a quota
    pub(crate) spends_quotas: bool,
    /// Headers that rules read besides those that decide, in lower case
    pub(crate) kept_headers: Vec<String>,
    pub(crate) credential_rule: Rc<Rule>,
    pub(crate) preflight_rule: Rc<Rule>,
    pub(crate) unmatched_rule: Rc<Rule>,
}

/// A tier: what its principals may spend
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) name: Name,
    /// `None`: unlimited
    pub(crate) bucket: Option<Bucket>,
    pub(crate) enforcement: Enforcement,
    pub(crate) rule: Rc<Rule>,
    pub(crate) quotas: Option<Quotas>,
}

/// The quotas of a tier
#[derive(Debug)]
pub(crate) struct Quotas {
    pub(crate) allowances: Allowances,
    /// What a key of the tier may spend that says nothing of its own
    pub(crate) common: Rc<Entitlement>,
}

/// The rules that belong to no API
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) clients: Rc<Rule>,
    pub(crate) exempt_clients: Rc<Rule>,
    pub(crate) exempt: Rc<Rule>,
    pub(crate) guard: Rc<Rule>,
    pub(crate) hosts: Rc<Rule>,
    pub(crate) ready: Rc<Rule>,
    pub(crate) store: Rc<Rule>,
    pub(crate) unauthenticated: Rc<Rule>,
}

impl Policy {
    /// The indicators that the policy lists itself
    #[must_use]
    pub fn threat_lists(&self) -> &Lists {
        &self.threat.lists
    }

    /// The threat bundle that the policy brings along
    #[must_use]
    pub fn threat_seed(&self) -> Option<&Bundle> {
        self.threat.feeds.as_ref()?.seed.as_ref()
    }

    /// Who judges by what the policy brings along itself, at this time (seconds since 1970); `None` where it brings no bundle
    #[must_use]
    pub fn threat_judge(&self, now: u64) -> Option<Judge<'_>> {
        let seed = self.threat_seed()?;
        Some(self.threat.judge_by(Some(seed), now))
    }

    /// How targets are judged under it
    #[must_use]
    pub fn threat_model(&self) -> Model {
        self.threat.model
    }

    /// Reads a policy from JSON text or from the bytes of a `google.protobuf.Struct`
    ///
    /// `namespace` keeps the accounts of filters apart that share a store; filters with the same
    /// one share accounts.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with its path, sorted by path.
    pub fn parse(configuration: &[u8], namespace: &str) -> Result<Self, Vec<ConfigError>> {
        Self::parse_with(configuration, namespace, &|_| None)
    }

    /// The same in an environment: `variable` hands out the variables that the policy names
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and variables that are not there.
    pub fn parse_with(
        configuration: &[u8],
        namespace: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let document = document(configuration).map_err(|message| {
            [ConfigError {
                path: String::new(),
                message,
            }]
        })?;
        compile::compile(&document, namespace, variable)
    }

    /// What is legal in a configuration and yet worth a look, sorted by path
    ///
    /// Independent of [`Self::parse`]: a configuration that is refused may have advice too, and one
    /// that is no document at all has none.
    #[cfg(feature = "advice")]
    #[must_use]
    pub fn advise(configuration: &[u8]) -> Vec<crate::Advice> {
        document(configuration)
            .map(|document| compile::advice::advise(&document))
            .unwrap_or_default()
    }

    /// The policy's revision, as written or else made of its digest
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What becomes of decisions
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where requests are held
    #[must_use]
    pub fn pause(&self) -> Pause {
        self.pause
    }

    /// Whether the client's address is needed for every request
    ///
    /// Where it isn't, a shell leaves [`Request::client`](crate::Request::client) `None` and looks
    /// only when a step asks: it is one of the dearer facts.
    #[must_use]
    pub fn wants_client(&self) -> bool {
        !self.denied_clients.is_empty()
            || !self.exempt_clients.is_empty()
            || !self.client_screens.is_empty()
            || self.counts_clients
            || self.recording.client != ClientForm::None
    }

    /// Whether there are files to be fetched: then a shell calls
    /// [`Engine::supply`](crate::Engine::supply) again and again
    #[must_use]
    pub fn wants_supply(&self) -> bool {
        let fetches_keys = || self.apis.iter().any(|api| api.source.is_some());
        // A bundle that comes with the policy alone has an age to be told too.
        self.mode != Mode::Disabled && (self.threat.feeds.is_some() || fetches_keys())
    }

    /// A number for the document, below 2^48: another one under every change, for a gauge
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let [a, b, c, d, e, f] = self.digest;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// What the policy holds, in one line for a log
    #[must_use]
    pub fn summary(&self) -> String {
        let names: Vec<_> = self.apis.iter().map(|api| api.name.to_string()).collect();
        format!("revision {}, apis: {}", self.revision, names.join(", "))
    }

    pub(crate) fn api_of(&self, authority: &[u8]) -> Option<&Rc<Api>> {
        let known = core::str::from_utf8(authority)
            .ok()
            .and_then(|host| self.hosts.get(host));
        let index = match known {
            Some(index) => Some(index),
            None => host::normalise(authority)
                .and_then(|host| self.hosts.get(&host).or_else(|| self.hosts.get(""))),
        };
        index.and_then(|index| self.apis.get(*index))
    }
}

/// The tree of a configuration, its maps sorted
///
/// # Errors
///
/// The message, when it is neither JSON text nor a `Struct`.
fn document(configuration: &[u8]) -> Result<Node, String> {
    let mut document = if is_text(configuration) {
        Node::parse_json(configuration)
            .map_err(|error| format!("the policy is not valid JSON: {error}"))
    } else {
        protobuf::parse_struct(configuration)
    }?;
    document.sort();
    Ok(document)
}

/// Whether a configuration is JSON text rather than the bytes of a `Struct`
///
/// INVARIANT: JSON text holds no control characters but tab, line feed and carriage return; a
/// policy as a `Struct` holds the key `version`, whose length is the byte 7. Both may begin with
/// 0x0a, so the first byte tells nothing.
fn is_text(configuration: &[u8]) -> bool {
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    !configuration.iter().any(is_control)
}
