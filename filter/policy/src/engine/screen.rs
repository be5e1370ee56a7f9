//! Screens in the order of checks.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;

use portcullis_threat::{Classification, Judge, Target};

use super::draft::Draft;
use crate::feeds::{self, Shelves};
use crate::reason::Reason;
use crate::record::Rule;
use crate::request::Request;
use crate::route::Route;
use crate::screen::{Doubt, Effect, Screen, Screened, Source, Texts};

/// What a screen found worth telling
struct Found {
    effect: Effect,
    verdict: (Classification, u8),
    /// The value, in the form that the policy records
    target: Option<String>,
    is_stale: bool,
}

impl Draft {
    /// Screens a part of a request; `tells` says whether the upstream can still be told
    ///
    /// # Errors
    ///
    /// Why the request is refused.
    pub(super) fn screen(
        &mut self,
        screens: &[Screen],
        source: Source<'_>,
        tells: bool,
        shelves: &Shelves,
    ) -> Result<(), (Reason, Rc<Rule>)> {
        let policy = Rc::clone(&self.policy);
        let now = self.wall.checked_div(1_000_000_000).unwrap_or_default();
        let mut judge = None;
        for screen in screens {
            let Some(texts) = screen.texts(source) else {
                continue;
            };
            let refusal = if !texts.is_whole && screen.unreadable == Doubt::Refuse {
                self.notice(screen, UNREADABLE);
                screen.refusal(None)
            } else if texts.texts.is_empty() && texts.is_whole {
                continue;
            } else {
                let judge = judge.get_or_insert_with(|| policy.threat.judge(shelves, now));
                let (found, is_judged) = self.worst(screen, &texts, judge);
                let blocks = found
                    .as_ref()
                    .is_some_and(|found| found.effect == Effect::Block);
                match found {
                    // What is left unjudged may be worse than what was found.
                    _ if !is_judged && !blocks && screen.unreadable == Doubt::Refuse => {
                        self.notice(screen, UNREADABLE);
                        screen.refusal(None)
                    }
                    Some(found) => self.tell(screen, found, tells, shelves),
                    None if texts.is_whole && is_judged => continue,
                    None => {
                        self.notice(screen, UNREADABLE);
                        continue;
                    }
                }
            };
            let Some(reason) = refusal else {
                continue;
            };
            if !screen.enforcement.binds(self.who) {
                self.would(reason, &screen.rule);
                continue;
            }
            self.particulars.field = screen.place().and_then(|place| match reason {
                Reason::TargetBlocked => Some((place, "is blocked".into())),
                Reason::TargetUnreadable => Some((place, WRONG.into())),
                _ => None,
            });
            self.particulars.retry_after = (reason.status() == 503).then_some(0);
            return Err((reason, Rc::clone(&screen.rule)));
        }
        Ok(())
    }

    /// Screens what a request's headers say, and what a query says in its body's place
    pub(super) fn screen_head(
        &mut self,
        route: &Route,
        (request, query): (&Request<'_>, Option<&[u8]>),
        shelves: &Shelves,
    ) -> Result<(), (Reason, Rc<Rule>)> {
        let body = route.body.as_ref().map_or(&[][..], |body| &body.screens);
        if route.screens.is_empty() && body.is_empty() {
            return Ok(());
        }
        let source = Source::Head {
            headers: request.headers,
            query,
            client: self.client,
        };
        self.screen(&route.screens, source, true, shelves)?;
        self.screen(body, source, true, shelves)
    }

    /// Why a request goes on: this, unless a screen has something to say of it
    pub(super) fn or_tagged(&self, reason: Reason, rule: &Rc<Rule>) -> (Reason, Rc<Rule>) {
        let tagged = self
            .extras
            .as_ref()
            .and_then(|extras| extras.tagged.as_ref());
        match tagged {
            Some(tagged) => (Reason::TargetTagged, Rc::clone(tagged)),
            None => (reason, Rc::clone(rule)),
        }
    }

    /// What the upstream is to be told so far
    pub(super) fn tags(&self) -> Option<String> {
        let tags = self.extras.as_ref().map(|extras| &extras.tags);
        tags.filter(|tags| !tags.is_empty()).cloned()
    }

    /// The value that a screen makes the most of, and whether all of them could be judged
    fn worst(
        &mut self,
        screen: &Screen,
        texts: &Texts<'_>,
        judge: &Judge<'_>,
    ) -> (Option<Found>, bool) {
        let is_stale = judge.is_stale();
        let mut worst: Option<Found> = None;
        // What does not bind takes nothing from what does.
        let [shadow, binding] = &mut self.effort;
        let effort = if screen.enforcement.binds(self.who) {
            binding
        } else {
            shadow
        };
        let mut is_judged = true;
        for text in &texts.texts {
            let target = Target::classify(text);
            let Some((verdict, is_whole)) = judge.judge_within(&target, effort) else {
                is_judged = false;
                break;
            };
            is_judged &= is_whole;
            let effect = screen.effect(&verdict, is_stale);
            let score = verdict.score.get();
            let is_worse = worst
                .as_ref()
                .is_none_or(|worst| (effect, score) > (worst.effect, worst.verdict.1));
            if effect == Effect::None || !is_worse {
                continue;
            }
            worst = Some(Found {
                effect,
                verdict: (verdict.classification, score),
                // Addresses have a form of their own.
                target: match screen.of {
                    Screened::Client => None,
                    _ => self.policy.recording.target.of(&target, text),
                },
                is_stale: is_stale && verdict.classification == Classification::Unknown,
            });
            if effect == Effect::Block {
                break;
            }
        }
        (worst, is_judged)
    }

    /// Records what a screen found, tells the upstream of it, and says why the request is refused, if it is
    fn tell(
        &mut self,
        screen: &Screen,
        found: Found,
        tells: bool,
        shelves: &Shelves,
    ) -> Option<Reason> {
        let Found {
            effect,
            verdict,
            target,
            is_stale,
        } = found;
        let (word, score) = (verdict.0.word(), verdict.1);
        let stale = if is_stale { ";stale" } else { "" };
        let text = format!("{word};score={score}{stale}");
        self.notice(screen, &text);
        let policy = Rc::clone(&self.policy);
        let bundle = policy.threat.feeds.as_ref();
        let bundle = bundle.and_then(|feeds| shelves.live(feeds));
        let refusal = screen.refusal(Some(effect));
        let binds = screen.enforcement.binds(self.who);
        // What refuses the request is told before what does not.
        if self.verdict.is_none() || (refusal.is_some() && binds) {
            self.verdict = Some(verdict);
            self.extras().target = target;
        }
        let extras = self.extras();
        extras.feeds = bundle.map(feeds::version);
        if effect == Effect::Tag && binds {
            if tells {
                push(&mut extras.tags, screen, &text);
            }
            extras.tagged.get_or_insert_with(|| Rc::clone(&screen.rule));
        }
        refusal
    }

    fn notice(&mut self, screen: &Screen, text: &str) {
        push(&mut self.extras().screens, screen, text);
    }
}

/// What is recorded of a value that can't be read
const UNREADABLE: &str = "unreadable";

/// What is wrong with it
const WRONG: &str = "must be text, or a list of at most 32 texts, appear once, spelled exactly so, and hold no more URLs than are judged";

/// Adds a member to a dictionary (RFC 9651, section 3.2)
fn push(dictionary: &mut String, screen: &Screen, text: &str) {
    if !dictionary.is_empty() {
        dictionary.push_str(", ");
    }
    dictionary.push_str(screen.name.as_str());
    dictionary.push('=');
    dictionary.push_str(text);
}
