//! The engine: a target, lists and a bundle in, a verdict out.

use core::net::IpAddr;

use crate::address::{self, Reach};
use crate::bundle::Bundle;
use crate::case::Case;
use crate::effort::Effort;
use crate::evidence::{Code, Points};
use crate::extract::Candidates;
use crate::lists::Lists;
use crate::look_up::{self, Hosts};
use crate::score::{GREATEST_WITHOUT_PROOF, MALICIOUS, SUSPICIOUS};
use crate::structure::{self, Tables};
use crate::target::{Host, Target, TargetKind};
use crate::verdict::{Classification, Hit, Verdict};

/// How verdicts are made; named in the policy, so that a new module changes none by itself
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Model {
    /// Lists alone
    #[default]
    Quick1,
    /// Lists, the structure of URLs and domains, and what payloads carry
    Quick2,
}

impl Model {
    /// All, the newest last
    pub const WORDS: &'static [(&'static str, Self)] =
        &[("quick/1", Self::Quick1), ("quick/2", Self::Quick2)];

    /// Its name
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Quick1 => "quick/1",
            Self::Quick2 => "quick/2",
        }
    }
}

/// What targets are judged by
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    model: Model,
    lists: Option<&'a Lists>,
    /// With the time until which some feed of it is current
    bundle: Option<(&'a Bundle, u64)>,
    /// Whether there ought to be one that isn't there
    lacks_bundle: bool,
    tables: Option<Tables<'a>>,
    now: u64,
}

/// Most URLs and addresses that are taken from a payload
const MAX_EMBEDDED: usize = 32;

const DISAGREEMENT: Points = Points::new(45);
const ENCODING: Points = Points::new(35);
const SPELLING: Points = Points::new(35);
const EMBEDDED_ADDRESS: Points = Points::new(15);

/// The file of the European Institute for Computer Antivirus Research, in two parts so that this one is none
const TEST_FILE: (&str, &str) = (
    "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-",
    "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
);

impl<'a> Judge<'a> {
    /// Who judges by this model, at this time (seconds since 1970); with no lists, bundle or tables yet
    #[must_use]
    pub fn new(model: Model, now: u64) -> Self {
        Self {
            model,
            lists: None,
            bundle: None,
            lacks_bundle: false,
            tables: None,
            now,
        }
    }

    /// With the policy's own lists
    #[must_use]
    pub fn with_lists(self, lists: &'a Lists) -> Self {
        Self {
            lists: Some(lists).filter(|lists| !lists.is_empty()),
            ..self
        }
    }

    /// With feeds
    #[must_use]
    pub fn with_bundle(self, bundle: &'a Bundle) -> Self {
        Self {
            bundle: Some((bundle, bundle.current_until())),
            ..self
        }
    }

    /// With feeds that count until then (seconds since 1970), or as long as some feed of them is current
    #[must_use]
    pub fn with_bundle_until(self, bundle: &'a Bundle, until: u64) -> Self {
        Self {
            bundle: Some((bundle, bundle.current_until().min(until))),
            ..self
        }
    }

    /// Without the feeds that there ought to be: what no other list knows is as unknown as from stale feeds
    #[must_use]
    pub fn without_bundle(self) -> Self {
        Self {
            bundle: None,
            lacks_bundle: true,
            ..self
        }
    }

    /// With what structure is judged by; without it it isn't
    #[must_use]
    pub fn with_tables(self, tables: Tables<'a>) -> Self {
        Self {
            tables: Some(tables),
            ..self
        }
    }

    /// The model
    #[must_use]
    pub fn model(&self) -> Model {
        self.model
    }

    /// Judges a target
    #[must_use]
    pub fn judge(&self, target: &Target<'_>) -> Verdict<'a> {
        let (verdict, _) = self.judge_all(target, None);
        verdict
    }

    /// Judges a target as far as an effort goes; false where it carries more than that, `None` where it is itself too much
    pub fn judge_within(
        &self,
        target: &Target<'_>,
        effort: &mut Effort,
    ) -> Option<(Verdict<'a>, bool)> {
        let is_enough = effort.take(target);
        is_enough.then(|| self.judge_all(target, Some(effort)))
    }

    /// Whether no feed of the bundle is current any more, or it is missing
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.lacks_bundle || self.bundle.is_some_and(|(_, until)| until < self.now)
    }

    fn judge_all(&self, target: &Target<'_>, effort: Option<&mut Effort>) -> (Verdict<'a>, bool) {
        let mut case = Case::at(self.now);
        self.hear(target, &mut case);
        let carries = self.model == Model::Quick2 && target.kind() == TargetKind::Payload;
        let is_whole = !carries || self.hear_payload(target, effort, &mut case);
        (self.close(target, case), is_whole)
    }

    /// Collects what there is on a target itself
    fn hear(&self, target: &Target<'_>, case: &mut Case<'a>) {
        let hosts = Hosts::of(target);
        for address in hosts.addresses() {
            let reach = Reach::of(address);
            case.reach(reach);
            if self.model == Model::Quick2 && reach == Reach::Metadata {
                case.evidence.push(Code::AddressMetadata, Points::NONE);
            }
        }
        if hosts.names().any(address::is_internal_name) {
            case.evidence.push(Code::NameInternal, Points::NONE);
        }
        if let Some(lists) = self.lists {
            look_up::lists(lists, target, &hosts, case);
        }
        let bundle = self.bundle.filter(|_| !self.is_stale());
        if let Some((bundle, _)) = bundle {
            look_up::bundle(bundle, target, &hosts, case);
        }
        if self.model == Model::Quick2 {
            self.examine(target, case);
        }
    }

    /// Collects what the spelling of a target gives away
    fn examine(&self, target: &Target<'_>, case: &mut Case<'a>) {
        if target.is_oddly_spelled() {
            case.evidence.push(Code::AddressSpelling, SPELLING);
        }
        if let Some(Host::Address(IpAddr::V6(address))) = target.host()
            && address::embedded(*address).is_some()
        {
            case.evidence.push(Code::AddressEmbedded, EMBEDDED_ADDRESS);
        }
        let Some(web) = target.web() else {
            return;
        };
        if web.disagrees() {
            case.evidence.push(Code::ParserDifferential, DISAGREEMENT);
        }
        if web.safe_browsing().is_some_and(|url| url.passes() > 2) {
            case.evidence.push(Code::ExcessiveEncoding, ENCODING);
        }
        if let (Some(tables), true) = (&self.tables, web.opens()) {
            let findings = structure::examine(web, tables, &mut case.evidence);
            case.structure = case.structure.max(findings.total);
            case.brand = findings.brand;
        }
    }

    /// Collects what a payload carries, as far as an effort goes; false where that is not enough
    fn hear_payload(
        &self,
        target: &Target<'_>,
        mut effort: Option<&mut Effort>,
        case: &mut Case<'a>,
    ) -> bool {
        let text = target.text();
        let (start, end) = TEST_FILE;
        if text
            .trim_start()
            .strip_prefix(start)
            .is_some_and(|rest| rest.starts_with(end))
        {
            case.evidence.push(Code::TestFile, Points::new(100));
        }
        let mut candidates = Candidates::of(text);
        for piece in candidates.by_ref().take(MAX_EMBEDDED) {
            let piece = Target::classify(piece);
            if piece.kind() == TargetKind::Payload {
                continue;
            }
            if effort.as_mut().is_some_and(|effort| !effort.take(&piece)) {
                return false;
            }
            let mut inner = Case::at(self.now);
            self.hear(&piece, &mut inner);
            if inner.is_internal() {
                case.evidence.push(Code::EmbeddedInternal, Points::NONE);
            } else if let Some(points) = inner.matched() {
                case.evidence.push(Code::EmbeddedMatch, points);
                case.until = case.until.min(inner.until);
                case.hits.extend(inner.hits.into_iter().map(|hit| Hit {
                    embedded: true,
                    ..hit
                }));
            } else if inner.score() >= SUSPICIOUS {
                case.evidence.push(Code::EmbeddedSuspicious, inner.score());
            }
        }
        if candidates.next().is_some() {
            case.evidence.push(Code::EmbeddedMany, Points::NONE);
        }
        true
    }

    /// Says what all of it comes to
    fn close(&self, target: &Target<'_>, mut case: Case<'a>) -> Verdict<'a> {
        let is_invalid = target.kind() == TargetKind::Url && target.host().is_none();
        if is_invalid {
            case.evidence.push(Code::UrlInvalid, Points::NONE);
        }
        let listed = case.hits.iter().any(|hit| hit.own && !hit.embedded);
        // Documents' addresses are nobody's, so only a list makes something of them.
        let is_internal = case.is_internal() || (case.is_documentation && case.hits.is_empty());
        if case.is_documentation && case.hits.is_empty() {
            case.evidence.push(Code::AddressInternal, Points::NONE);
        }
        let is_allowed = case.allowed && target.web().is_none_or(|web| !web.disagrees());
        if is_allowed && case.hits.is_empty() {
            case.evidence.clear();
            case.structure = Points::NONE;
        }
        if is_allowed {
            case.evidence.push(Code::AllowListed, Points::NONE);
        }
        let is_stale = self.is_stale();
        if is_stale {
            case.evidence.push(Code::BundleStale, Points::NONE);
        }
        // Who allows a host knows that it has bad pages: a URL that is listed stays so.
        let own_url = case.hits.iter().any(|hit| hit.kind == "url");
        let proven = (case
            .evidence
            .iter()
            .any(|evidence| evidence.code.is_proof()))
            && (!is_allowed || own_url || listed);
        let mut score = case.score();
        if !proven {
            score = score.min(GREATEST_WITHOUT_PROOF);
        }
        let classification = if listed && score >= MALICIOUS {
            Classification::Malicious
        } else if is_internal {
            score = score.min(GREATEST_WITHOUT_PROOF);
            Classification::Internal
        } else if is_stale && !is_invalid {
            score = score.min(Points::new(SUSPICIOUS.get().saturating_sub(1)));
            Classification::Unknown
        } else if score >= MALICIOUS {
            Classification::Malicious
        } else if is_allowed && case.hits.is_empty() {
            Classification::Benign
        } else if is_invalid {
            Classification::Invalid
        } else if score >= SUSPICIOUS {
            Classification::Suspicious
        } else {
            Classification::Unknown
        };
        // A match lasts as long as what lists it, a miss as long as there is something to miss it.
        let until = match self.bundle.filter(|_| !is_stale) {
            Some((_, until)) => until.min(case.until),
            None => u64::MAX,
        };
        Verdict {
            classification,
            score,
            evidence: case.evidence,
            hits: case.hits,
            brand: case.brand,
            until,
            max_age: classification.kept_for(until, self.now),
        }
    }

    /// Where in the name of a target's host its registrable domain begins; `None` where nobody knows
    #[must_use]
    pub fn registrable(&self, target: &Target<'_>) -> Option<usize> {
        match target.host() {
            Some(Host::Domain(name)) => self.tables.as_ref()?.suffixes.registrable(name.as_bytes()),
            _ => None,
        }
    }
}
