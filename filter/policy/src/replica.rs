//! A file that one worker fetches and all adopt.
//!
//! Workers share nothing but the store. Whoever takes the lease fetches the file in pages, checks it as it
//! comes, and puts each page into the store, into the one of two slots that is not in force; when all of it
//! was found good it publishes the manifest. The others see another manifest and adopt a page at a time.
//! So no worker is ever busy for longer than a page takes, and a file that is not good is never seen by
//! anybody but who fetched it.

mod fetch;
mod record;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;

pub(crate) use self::fetch::Came;
use self::fetch::Fetch;
use self::record::{Lease, Manifest, page_key};
use crate::account::{AccountKey, AccountStore};
use crate::callout::Query;
use crate::record::Rule;

/// Where a file comes from
#[derive(Debug)]
pub(crate) struct Source {
    /// What its records in the store, and what is known of it, belong to
    pub(crate) id: AccountKey,
    pub(crate) cluster: Rc<str>,
    pub(crate) authority: Box<str>,
    pub(crate) path: Box<str>,
    /// Milliseconds for a page
    pub(crate) timeout: u32,
    /// Nanoseconds from one look to the next
    pub(crate) refresh: u64,
    /// Nanoseconds for which the last good file is good while there is no word of its source
    pub(crate) max_stale: u64,
    pub(crate) max_bytes: usize,
    /// Bytes of a page
    pub(crate) page: usize,
    pub(crate) rule: Rc<Rule>,
}

/// What takes a file in
pub(crate) trait Intake {
    /// Takes the next bytes in
    ///
    /// # Errors
    ///
    /// Why the file is refused.
    fn feed(&mut self, page: &[u8]) -> Result<(), String>;
}

/// What a worker knows of a file, and what it is doing about it
pub(crate) struct Replica<I> {
    phase: Phase<I>,
    /// Which file is in force; 0 for none
    generation: u64,
    /// A file of the store that could not be adopted
    refused: u64,
    /// When there was word of the source last, in monotonic nanoseconds
    checked: u64,
}

enum Phase<I> {
    Idle,
    /// This worker has the lease
    Fetching(Box<Fetch<I>>),
    /// Another worker has fetched it
    Adopting {
        manifest: Manifest,
        page: u32,
        intake: I,
    },
}

/// What came of a turn
pub(crate) enum Turn<I> {
    Nothing,
    /// There is something to be asked
    Ask(Query),
    /// A file is in whole. It is in force when [`Replica::publish`] or [`Replica::adopted`] is told
    /// so; the word is of whoever finishes the intake
    Whole(I),
    /// The source, or its file, is no good for now
    Failed(String),
}

/// The moment of a turn
#[derive(Clone, Copy)]
pub(crate) struct Time {
    /// Monotonic nanoseconds
    pub(crate) now: u64,
    /// A number that looks random, another one for each worker and turn
    pub(crate) random: u64,
}

impl<I: Intake> Replica<I> {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            phase: Phase::Idle,
            generation: 0,
            refused: 0,
            checked: now,
        }
    }

    /// Whether the last good file is too old to be trusted
    pub(crate) fn is_stale(&self, source: &Source, now: u64) -> bool {
        now > self.checked.saturating_add(source.max_stale)
    }

    /// Nanoseconds since there was word of the source
    pub(crate) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.checked)
    }

    /// Whether it wants turns in quick succession
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Does the next small thing there is to do
    ///
    /// `intake` makes what the file is taken in by.
    pub(crate) fn turn(
        &mut self,
        source: &Source,
        time: Time,
        intake: &dyn Fn() -> I,
        store: &mut dyn AccountStore,
    ) -> Turn<I> {
        match core::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.look(source, time, intake, store),
            Phase::Adopting {
                manifest,
                page,
                intake,
            } => self.adopt_page(source, manifest, page, intake, store),
            Phase::Fetching(fetch) => self.fetch_on(source, *fetch, time, store),
        }
    }

    /// Takes what came of a question
    pub(crate) fn answered(&mut self, came: Came) {
        if let Phase::Fetching(fetch) = &mut self.phase {
            fetch.answered(came);
        }
    }

    /// Looks whether there is another file in the store, or whether it is time to fetch one
    fn look(
        &mut self,
        source: &Source,
        time: Time,
        intake: &dyn Fn() -> I,
        store: &mut dyn AccountStore,
    ) -> Turn<I> {
        let manifest = Manifest::read(source.id, store);
        if let Some(manifest) = &manifest {
            self.checked = manifest.checked;
            if manifest.generation != self.generation && manifest.generation != self.refused {
                self.phase = Phase::Adopting {
                    manifest: manifest.clone(),
                    page: 0,
                    intake: intake(),
                };
                return Turn::Nothing;
            }
        }
        if let Some(holder) = Lease::take(source.id, time, store) {
            // What of the store could not be adopted is not what a source may say is unchanged.
            let may_be_unchanged = manifest
                .as_ref()
                .is_some_and(|manifest| manifest.generation == self.generation);
            let fetch = Fetch::new(manifest, may_be_unchanged, holder, intake());
            self.phase = Phase::Fetching(fetch.into());
        }
        Turn::Nothing
    }

    fn adopt_page(
        &mut self,
        source: &Source,
        manifest: Manifest,
        page: u32,
        mut intake: I,
        store: &mut dyn AccountStore,
    ) -> Turn<I> {
        let mut fed = None;
        let read = store.update(
            &page_key(source.id, manifest.slot, page),
            &mut |record, _| {
                let bytes = record.and_then(|record| record.strip_prefix(&manifest.mark()));
                fed = bytes.map(|bytes| intake.feed(bytes));
                false
            },
        );
        match (read, fed) {
            (Ok(()), Some(Ok(()))) => {}
            // Its slot was used for another file meanwhile, which the next look finds; or it is broken.
            (Ok(()), None) => {
                let now = Manifest::read(source.id, store);
                if now.is_some_and(|now| now.generation == manifest.generation) {
                    self.refused = manifest.generation;
                }
                return Turn::Nothing;
            }
            (Ok(()), Some(Err(error))) => {
                self.refused = manifest.generation;
                return Turn::Failed(error);
            }
            (Err(_), _) => return Turn::Nothing,
        }
        let page = page.saturating_add(1);
        if page < manifest.pages {
            self.phase = Phase::Adopting {
                manifest,
                page,
                intake,
            };
            return Turn::Nothing;
        }
        // Until the owner of the intake says better.
        self.refused = manifest.generation;
        Turn::Whole(intake)
    }

    /// Notes that a file that was in whole is in force
    pub(crate) fn adopted(
        &mut self,
        source: &Source,
        time: Time,
        good: Result<(), String>,
        store: &mut dyn AccountStore,
    ) {
        if let Phase::Fetching(fetch) = core::mem::replace(&mut self.phase, Phase::Idle) {
            match good {
                Ok(()) => {
                    if let Some(manifest) = fetch.publish(source, time, store) {
                        self.generation = manifest.generation;
                        self.checked = manifest.checked;
                    }
                }
                Err(_) => fetch.give_up(source, time, None, store),
            }
        } else if good.is_ok() {
            self.generation = core::mem::take(&mut self.refused);
        }
    }

    fn fetch_on(
        &mut self,
        source: &Source,
        mut fetch: Fetch<I>,
        time: Time,
        store: &mut dyn AccountStore,
    ) -> Turn<I> {
        let turn = fetch.turn(source, time, store);
        match turn {
            fetch::Turn::Nothing => {}
            fetch::Turn::Ask(query) => {
                self.phase = Phase::Fetching(fetch.into());
                return Turn::Ask(query);
            }
            fetch::Turn::Unchanged => {
                self.checked = time.now;
                fetch.confirm(source, time, store);
                return Turn::Nothing;
            }
            fetch::Turn::Whole => {
                let (fetch, intake) = fetch.whole();
                if let Some(fetch) = fetch {
                    self.phase = Phase::Fetching(fetch.into());
                }
                return intake.map_or(Turn::Nothing, Turn::Whole);
            }
            fetch::Turn::Failed { why, retry_after } => {
                fetch.give_up(source, time, retry_after, store);
                return Turn::Failed(why);
            }
        }
        self.phase = Phase::Fetching(fetch.into());
        Turn::Nothing
    }
}
