//! An outcome in the making.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Decision, Outcome};
use crate::account::StoreError;
use crate::bucket::Bucket;
use crate::forward::Edits;
use crate::grpc::Grpc;
use crate::id::DecisionId;
use crate::key::Key;
use crate::limiter::{Charge, Charged, Reservation};
use crate::node::Node;
use crate::policy::{Api, Policy};
use crate::queue::Hold;
use crate::rate::{RateHeaders, Standing};
use crate::reason::Reason;
use crate::record::{Extras, Record, Rule};
use crate::recording::{ClientForm, MAX_TARGET, TargetForm};
use crate::reply::{Dialect, Particulars, Reply};
use crate::request::{Head, Moment, Request};
use crate::route::{BodyRule, Class, OnUnknown, Route, VerdictRule};
use crate::target::Target;
use crate::trace::TraceId;
use crate::verdict::{Asked, Classification, Verdict};

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
    pub(super) verdict: Option<(Classification, u8)>,
    pub(super) extras: Option<Box<Extras>>,
    /// Whether the caller asks why
    pub(super) asks_why: bool,
    pub(super) particulars: Particulars,
    pub(super) edits: Option<Edits>,
    pub(super) answer: Option<Answer>,
    /// How the tightest of the exact limits stands that the request spends
    pub(super) tightest: Option<Standing>,
}

/// An answer that is no refusal
#[derive(Debug)]
pub(super) enum Answer {
    /// The revision that is in force
    Ready(String),
    Verdict(Vec<u8>),
}

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
            verdict: None,
            extras: None,
            asks_why: false,
            particulars: Particulars::default(),
            edits: None,
            answer: None,
            tightest: None,
        }
    }

    /// Notes what the record alone is to have of the request
    pub(super) fn note(&mut self, head: &Head<'_>, request: &Request<'_>) {
        if !head.traceparent.is_absent() {
            self.extras().trace = TraceId::of(head.traceparent);
        }
        if self.policy.recording.client != ClientForm::None {
            self.extras().client = request.client.flatten();
        }
    }

    fn extras(&mut self) -> &mut Extras {
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
                // Clients are told of the limit that is met first; who is refused, of the one that refused.
                let standing = match self.tightest {
                    Some(tightest) if result.is_ok() => standing.tighter(Some(tightest)),
                    _ => Some(standing),
                }
                .unwrap_or(standing);
                let rate = RateHeaders::new(standing, self.wall, self.dialect.reset_unit());
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
        let mut outcome = self.finish(Some(rate));
        let particulars = Particulars {
            retry_after: Some(0),
            ..Particulars::default()
        };
        let mut late = Record {
            reason: Reason::RateLimited,
            rule: Rc::clone(&key.tier.rule),
            ..outcome.record.clone()
        };
        let refusal = Reply::refuse(
            late.reason,
            dialect,
            grpc,
            late.decision,
            late.trace(),
            Some(&rate),
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
            rate: Some(rate),
            hold: None,
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

    pub(super) fn store_error(mut self, error: StoreError) -> Outcome {
        let reason = match error {
            StoreError::Contended => Reason::StoreContended,
            StoreError::Failed => Reason::StoreFailed,
        };
        let rule = Rc::clone(&self.policy.rules.store);
        self.refuse(reason, &rule, 0);
        self.finish(None)
    }

    /// Judges the body's target: answers, or says why the request goes on
    pub(super) fn judge(
        &mut self,
        verdict_rule: &VerdictRule,
        rule: &BodyRule,
        body: &Node,
        class: Option<&Class>,
        edits: &mut Edits,
    ) {
        let Some(Node::String(input)) = body.get(&verdict_rule.field) else {
            return;
        };
        let target = Target::classify(input);
        let verdict = Verdict::judge(&target, &self.policy.indicators);
        self.verdict = Some((verdict.classification, verdict.risk_score));
        let target_text = match self.policy.recording.target {
            TargetForm::None => None,
            TargetForm::Hash => target.sha256.get(..16).map(ToOwned::to_owned),
            TargetForm::Full => Some(input.chars().take(MAX_TARGET).collect()),
        };
        if target_text.is_some() {
            self.extras().target = target_text;
        }
        let unknown = verdict.classification == Classification::Unknown;
        let forwards = unknown && verdict_rule.on_unknown == OnUnknown::Forward;
        if !verdict_rule.answers(class) || forwards {
            if rule.annotates {
                edits.verdict = Some(verdict.to_header(&target));
            }
            return;
        }
        let asked = Asked {
            input,
            target: &target,
            mode: class.map_or("quick", |class| &class.name),
            metadata: body.get("metadata"),
            decision: &self.decision.into(),
            trace: self
                .extras
                .as_ref()
                .and_then(|extras| extras.trace.as_ref()),
            snapshot: self.policy.revision(),
        };
        self.answer = Some(Answer::Verdict(verdict.to_json(&asked)));
        self.found(Reason::Answered, Rc::clone(&verdict_rule.rule));
    }

    pub(super) fn finish(self, rate: Option<RateHeaders>) -> Outcome {
        let decision = self.decision.into();
        let mut record = Record {
            decision,
            reason: self.reason,
            mode: self.policy.mode,
            rule: self.rule,
            policy: Some(self.policy),
            api: self.api,
            route: self.route,
            key: self.key,
            class: self.class,
            remaining: rate.map(|rate| rate.remaining()),
            wait: None,
            verdict: self.verdict,
            extras: self.extras,
        };
        if self.asks_why && record.key.as_ref().is_some_and(|key| key.may_ask_why) {
            record.explain();
        }
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
        }
    }
}
