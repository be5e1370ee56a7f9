//! An outcome in the making.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_threat::{Bundle, Classification, Effort, Target};

use super::domain::Domains;
use super::quota::Replay;
use super::{Decision, Outcome};
use crate::account::StoreError;
use crate::bucket::Bucket;
use crate::comparison::{Compare, Comparison};
use crate::feeds::{self, Shelves};
use crate::forward::Edits;
use crate::grpc::Grpc;
use crate::id::DecisionId;
use crate::key::Key;
use crate::limit::{Leases, Limit};
use crate::limiter::{Charge, Charged, Reservation};
use crate::name::Name;
use crate::node::Node;
use crate::policy::{Api, Mode, Policy};
use crate::queue::Hold;
use crate::rate::{RateHeaders, Standing};
use crate::reason::Reason;
use crate::record::{Extras, LimitStatus, Record, Rule};
use crate::recording::ClientForm;
use crate::reply::{Dialect, Particulars, Reply};
use crate::request::{Head, Moment, Request};
use crate::route::{BodyRule, Class, OnUnknown, Route, VerdictRule};
use crate::trace::TraceId;
use crate::verdict::{self, Asked};
use crate::verdicts::{Under, Verdicts};

/// An outcome in the making
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) policy: Rc<Policy>,
    pub(super) dialect: Dialect,
    pub(super) strips_credential: bool,
    pub(super) tells_identity: bool,
    pub(super) wall: u64,
    pub(super) decision: u128,
    pub(super) is_head: bool,
    pub(super) grpc: Option<Grpc>,
    pub(super) reason: Reason,
    pub(super) rule: Rc<Rule>,
    pub(super) api: Option<Rc<Api>>,
    pub(super) route: Option<Rc<Route>>,
    pub(super) key: Option<Rc<Key>>,
    pub(super) class: Option<Rc<str>>,
    pub(super) limit_status: Option<LimitStatus>,
    pub(super) verdict: Option<(Classification, u8)>,
    pub(super) extras: Option<Box<Extras>>,
    /// Whether the caller asks why
    pub(super) asks_why: bool,
    pub(super) particulars: Particulars,
    pub(super) edits: Option<Edits>,
    pub(super) answer: Option<Answer>,
    /// What the verdict is compared with, should nothing come of it
    pub(super) compare: Option<Rc<Compare>>,
    /// How the tightest of the named limits stands that the request spends
    pub(super) tightest: Option<(Standing, Name)>,
    /// Whether that is more than quotas, so that the request may not wait
    pub(super) spends_limit: bool,
    pub(super) replay: Option<Replay>,
    /// What screens may still judge: those that don't bind, and those that do
    pub(super) effort: [Effort; 2],
    /// The client's address, where it is known
    pub(super) client: Option<IpAddr>,
    /// Whether no limit counts the client's address
    pub(super) is_exempt: bool,
    /// A number for who is asking, the same for each of its requests: see [`Enforcement`]
    pub(super) who: u64,
    /// Whether nothing is to come of the decision, for who is asking
    pub(super) is_observed: bool,
    /// Where the route has to do with domains
    pub(super) domains: Option<Box<Domains>>,
}

/// An answer that is no refusal
#[derive(Debug)]
pub(super) enum Answer {
    /// The revision that is in force
    Ready(String),
    Verdict(Vec<u8>),
}

/// What all screens of a request that bind may judge together, and all others, in URLs: a worker does nothing else meanwhile
const MAX_EFFORT: usize = 128;

impl Draft {
    pub(super) fn new(
        policy: &Rc<Policy>,
        api: Option<&Rc<Api>>,
        head: &Head<'_>,
        moment: Moment,
    ) -> Self {
        Self {
            policy: Rc::clone(policy),
            dialect: api.map_or(Dialect::Problem, |api| api.dialect),
            strips_credential: api.is_some_and(|api| api.strips_credential),
            tells_identity: api.is_none_or(|api| api.tells_identity),
            wall: moment.wall,
            decision: moment.decision,
            is_head: head.method == b"HEAD",
            grpc: Grpc::of(head),
            // In doubt, refuse: whatever forgets to say what it found says this.
            reason: Reason::HostFailed,
            rule: Rc::clone(&policy.rules.guard),
            api: api.cloned(),
            route: None,
            key: None,
            class: None,
            limit_status: None,
            verdict: None,
            extras: None,
            asks_why: false,
            particulars: Particulars::default(),
            edits: None,
            answer: None,
            compare: None,
            tightest: None,
            spends_limit: false,
            replay: None,
            effort: [Effort::new(MAX_EFFORT); 2],
            client: None,
            is_exempt: false,
            who: 0,
            is_observed: false,
            domains: None,
        }
    }

    /// Notes what the record alone is to have of the request
    pub(super) fn note(&mut self, head: &Head<'_>, request: &Request<'_>) {
        if !head.traceparent.is_absent() {
            self.extras().trace = TraceId::of(head.traceparent);
        }
        self.client = request.client.flatten();
        if self.policy.recording.client != ClientForm::None {
            self.extras().client = request.client.flatten();
        }
    }

    /// Notes that no limit counts the client's address
    pub(super) fn exempt(&mut self, rule: &Rc<Rule>) {
        self.is_exempt = true;
        self.extras().exempt = Some(Rc::clone(rule));
    }

    /// Notes who is asking
    pub(super) fn identify(&mut self, who: u64) {
        self.who = who;
        self.is_observed = self.policy.mode == Mode::Enforce && !self.policy.rollout.binds(who);
    }

    /// Notes a finding of a rule that does not bind
    pub(super) fn would(&mut self, reason: Reason, rule: &Rc<Rule>) {
        self.extras().shadows.push((reason, Rc::clone(rule)));
    }

    /// Notes a limit that the request is over, and goes on all the same
    pub(super) fn over(&mut self, limit: &Limit) {
        let over = &mut self.extras().over;
        if !over.is_empty() {
            over.push_str(", ");
        }
        over.push_str(limit.name.as_str());
        if matches!(self.reason, Reason::Allowed | Reason::Public) {
            self.found(Reason::OverLimit, Rc::clone(&limit.rule));
        }
    }

    /// Notes slots that nobody gave back
    pub(super) fn expired(&mut self, slots: u64) {
        if slots > 0 {
            let extras = self.extras();
            extras.expired = extras.expired.saturating_add(slots);
        }
    }

    /// Notes how a limit stands, if it is the tightest so far
    pub(super) fn tighten(&mut self, standing: Standing, name: &Name) {
        let is_tighter = self
            .tightest
            .as_ref()
            .is_none_or(|(tightest, _)| standing.remaining < tightest.remaining);
        if is_tighter {
            self.tightest = Some((standing, name.clone()));
        }
    }

    /// The rate headers for a limit as it stands
    pub(super) fn rate(&self, standing: Standing, name: &Name) -> RateHeaders {
        let telling = self.api.as_ref().map(|api| api.telling);
        let unit = self.dialect.reset_unit();
        RateHeaders::new(standing, self.wall, unit, telling.unwrap_or_default(), name)
    }

    /// Notes a quota that the request spends
    pub(super) fn spends(&mut self, quota: &Name, standing: Standing) {
        self.tighten(standing, quota);
        self.tells(quota, standing);
    }

    /// Has the record tell how a quota stands
    pub(super) fn tells(&mut self, quota: &Name, standing: Standing) {
        self.extras().quota = Some((quota.clone(), standing.remaining));
    }

    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    pub(super) fn found(&mut self, reason: Reason, rule: Rc<Rule>) {
        self.reason = reason;
        self.rule = rule;
    }

    pub(super) fn refuse(&mut self, reason: Reason, rule: &Rc<Rule>, retry_after: u64) {
        self.found(reason, Rc::clone(rule));
        self.particulars = Particulars {
            retry_after: Some(retry_after),
            ..Particulars::default()
        };
    }

    /// The edits of a request that comes without a key
    pub(super) fn edits(&self, reserved: Vec<Vec<u8>>) -> Edits {
        let decision = self.tells_identity.then_some(self.decision);
        Edits::new(decision.map(DecisionId::from), reserved)
    }

    pub(super) fn edits_for(&self, key: &Rc<Key>, reserved: Vec<Vec<u8>>) -> Edits {
        let mut edits = self.edits(reserved);
        if self.tells_identity {
            edits.identity = Some(Rc::clone(key));
        }
        edits.strip_credential = self.strips_credential;
        edits
    }

    pub(super) fn charge<'a>(&self, key: &Key, bucket: &'a Bucket, cells: u64) -> Charge<'a> {
        Charge {
            account: key.account,
            bucket,
            cells,
            max_accounts: self.policy.max_accounts,
        }
    }

    pub(super) fn charged(
        mut self,
        key: &Key,
        now: u64,
        charged: Result<Charged, StoreError>,
    ) -> Outcome {
        match charged {
            Ok(Charged {
                standing,
                result,
                held,
            }) => {
                if let Err(refused) = result {
                    self.refuse(Reason::RateLimited, &key.tier.rule, refused.retry_after);
                }
                let queues = key.tier.bucket.is_some_and(|bucket| bucket.has_queue());
                self.limit_status = queues.then_some(match (result, held) {
                    (Err(_), _) => LimitStatus::Rejected,
                    (Ok(()), Some(_)) => LimitStatus::Delayed,
                    (Ok(()), None) => LimitStatus::Passed,
                });
                // Clients are told of the limit that is met first; who is refused, of the one that refused.
                let rate = match &self.tightest {
                    Some((tightest, name))
                        if result.is_ok() && tightest.remaining <= standing.remaining =>
                    {
                        self.rate(*tightest, name)
                    }
                    _ => self.rate(standing, &key.tier.name),
                };
                match held {
                    None => self.finish(Some(rate)),
                    Some(reservation) => self.hold(key, reservation, now, rate),
                }
            }
            Err(error) => self.store_error(error),
        }
    }

    /// Whether something is wrong with the request, whatever its limits say
    pub(super) fn is_refusal(&self) -> bool {
        self.reason.status() >= 400
    }

    /// The outcome of a request that waits
    fn hold(self, key: &Key, reservation: Reservation, now: u64, rate: RateHeaders) -> Outcome {
        let dialect = self.dialect;
        let (is_head, grpc) = (self.is_head, self.grpc);
        let mut rate = rate;
        let late_rate = rate.clone();
        rate.wait(reservation.until.saturating_sub(now));
        let mut outcome = self.finish(Some(rate));
        let particulars = Particulars {
            retry_after: Some(0),
            ..Particulars::default()
        };
        let mut late = Record {
            reason: Reason::RateLimited,
            rule: Rc::clone(&key.tier.rule),
            limit_status: Some(LimitStatus::Rejected),
            ..outcome.record.clone()
        };
        let refusal = Reply::refuse(
            late.reason,
            dialect,
            grpc,
            late.decision,
            late.trace(),
            Some(&late_rate),
            particulars,
        );
        if late.explanation().is_some() {
            late.explain();
        }
        let refusal = refusal.explained(late.explanation());
        let late = Outcome {
            decision: Decision::Reply(if is_head {
                refusal.without_body()
            } else {
                refusal
            }),
            record: late,
            rate: Some(late_rate),
            hold: None,
            leases: Leases::default(),
            lesson: None,
            comparison: None,
        };
        outcome.record.wait = Some(reservation.until.saturating_sub(now));
        outcome.hold = Some(Hold {
            reservation,
            reply: match &outcome.decision {
                Decision::Reply(reply) => Some((reply.clone(), outcome.record.reason)),
                Decision::Forward(_) => None,
            },
            late: late.into(),
        });
        outcome
    }

    /// Judges the body's target: answers, or says why the request goes on
    pub(super) fn judge(
        &mut self,
        verdict_rule: &VerdictRule,
        rule: &BodyRule,
        body: &Node,
        class: Option<&Class>,
        edits: &mut Edits,
        (shelves, verdicts): (&Shelves, &mut Verdicts),
    ) {
        let Some(Node::String(input)) = body.get(&verdict_rule.field) else {
            return;
        };
        let target = Target::classify(input);
        let policy = Rc::clone(&self.policy);
        let now = self.wall.checked_div(1_000_000_000).unwrap_or_default();
        let judge = policy.threat.judge(shelves, now);
        let bundle = policy.threat.feeds.as_ref();
        let bundle = bundle.and_then(|feeds| shelves.live(feeds));
        let keeping = policy.threat.keeping;
        let verdict = if keeping.entries == 0 {
            judge.judge(&target)
        } else {
            let under = Under {
                policy: &policy.digest,
                bundle: bundle.map(Bundle::digest),
                keeping,
                now,
            };
            verdicts.judge(&judge, &target, &under)
        };
        self.verdict = Some((verdict.classification, verdict.score.get()));
        let target_text = self.policy.recording.target.of(&target, input);
        if target_text.is_some() {
            self.extras().target = target_text;
        }
        let version = bundle.map(feeds::version);
        if version.is_some() {
            self.extras().feeds.clone_from(&version);
        }
        let unknown = verdict.classification == Classification::Unknown;
        let stale = judge.is_stale();
        let forwards = unknown
            && (verdict_rule.on_unknown == OnUnknown::Forward
                || stale && verdict_rule.stale == OnUnknown::Forward);
        let answers = verdict_rule.answers(class) && !forwards;
        if answers {
            self.compare.clone_from(&verdict_rule.compare);
        }
        if !verdict_rule.enforcement.binds(self.who) {
            if answers {
                self.would(Reason::Answered, &verdict_rule.rule);
            }
            return;
        }
        if !answers {
            if rule.annotates {
                edits.verdict = Some(verdict::to_header(&verdict, &target, stale));
            }
            return;
        }
        let asked = Asked {
            target: &target,
            registrable: judge.registrable(&target),
            mode: class.map_or("quick", |class| &class.name),
            metadata: body.get("metadata"),
            decision: &self.decision.into(),
            trace: self
                .extras
                .as_ref()
                .and_then(|extras| extras.trace.as_ref()),
            snapshot: version.as_deref().unwrap_or(policy.revision()),
            snapshot_age: bundle.map(|bundle| now.saturating_sub(bundle.created())),
            reveal: policy.threat.reveal,
            engine: judge.model().word(),
            stale,
        };
        self.answer = Some(Answer::Verdict(verdict::to_json(&verdict, &asked)));
        self.found(Reason::Answered, Rc::clone(&verdict_rule.rule));
    }

    pub(super) fn finish(mut self, rate: Option<RateHeaders>) -> Outcome {
        if let (Some(edits), Some(extras)) = (&mut self.edits, &self.extras) {
            let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
            edits.over = told(&extras.over);
            edits.screen = told(&extras.tags);
        }
        let lesson = self.lesson();
        let compare = self.compare.take();
        let comparison = compare.as_ref().map(Comparison::new);
        let decision = self.decision.into();
        let is_observed = self.is_observed;
        let mut record = Record {
            decision,
            reason: self.reason,
            mode: if is_observed {
                Mode::Observe
            } else {
                self.policy.mode
            },
            rule: self.rule,
            policy: Some(self.policy),
            api: self.api,
            route: self.route,
            key: self.key,
            class: self.class,
            remaining: rate.as_ref().map(RateHeaders::remaining),
            wait: None,
            limit_status: self.limit_status,
            verdict: self.verdict,
            extras: self.extras,
        };
        if is_observed {
            return Outcome {
                decision: Decision::Forward(Edits::none()),
                record,
                rate: None,
                hold: None,
                leases: Leases::default(),
                lesson,
                comparison,
            };
        }
        if self.asks_why && record.key.as_ref().is_some_and(|key| key.may_ask_why) {
            record.explain();
        }
        let is_watched = record.mode == Mode::Observe;
        let reply = match (self.reason, self.answer, self.edits) {
            (Reason::Ready, Some(Answer::Ready(revision)), _) => {
                Reply::ready(&revision, decision, rate.as_ref())
            }
            (Reason::Answered, Some(Answer::Verdict(body)), _) => {
                Reply::answer(body, decision, rate.as_ref())
            }
            (reason, _, Some(edits)) if reason.status() == 0 => {
                return Outcome {
                    decision: Decision::Forward(edits),
                    record,
                    rate,
                    hold: None,
                    leases: Leases::default(),
                    lesson,
                    comparison,
                };
            }
            (reason, ..) => {
                let reason = if reason.status() == 0 {
                    Reason::HostFailed
                } else {
                    reason
                };
                Reply::refuse(
                    reason,
                    self.dialect,
                    self.grpc,
                    decision,
                    record.trace(),
                    rate.as_ref(),
                    self.particulars,
                )
            }
        };
        let reply = reply.explained(record.explanation());
        let reply = if self.is_head {
            reply.without_body()
        } else {
            reply
        };
        Outcome {
            decision: Decision::Reply(reply),
            record,
            rate,
            hold: None,
            leases: Leases::default(),
            lesson: None,
            // Under `mode: observe` it goes on all the same.
            comparison: comparison.filter(|_| is_watched),
        }
    }
}
