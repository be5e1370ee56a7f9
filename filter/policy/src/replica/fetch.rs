//! Fetching a file by ranges (RFC 9110, section 14), as any server of static files has them.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::record::{Lease, Manifest, clear, mark, page_key};
use super::{Intake, Source, Time};
use crate::account::AccountStore;
use crate::callout::{Answer, Failure, Query, Response};

/// A file on its way in
pub(super) struct Fetch<I> {
    /// `None` while whoever made it finishes it
    intake: Option<I>,
    /// What is in force
    known: Option<Manifest>,
    /// Whether this worker has that, so that the source may say that it is the same still
    may_be_unchanged: bool,
    holder: u64,
    slot: u8,
    etag: Box<str>,
    /// Known from the first page on
    total: Option<usize>,
    taken: usize,
    pages: u32,
    state: State,
}

enum State {
    /// The next page is to be asked for
    Ready,
    Asked,
    Came(Came),
}

/// First byte, last byte, length of the whole
type Range = (usize, usize, usize);

/// What came of a question for a page
#[derive(Debug)]
pub(crate) enum Came {
    Failed {
        why: &'static str,
        /// Nanoseconds for which the source wants to be left alone
        retry_after: Option<u64>,
    },
    NotModified,
    Page {
        /// Empty where there is none that can be sent back
        etag: Box<str>,
        /// `None` for the whole itself
        range: Option<Range>,
        bytes: Vec<u8>,
    },
}

pub(super) enum Turn {
    Nothing,
    Ask(Query),
    /// The source has what is in force
    Unchanged,
    /// All of it is in
    Whole,
    Failed {
        why: String,
        retry_after: Option<u64>,
    },
}

impl<I: Intake> Fetch<I> {
    /// A fetch by who holds the lease
    pub(super) fn new(
        known: Option<Manifest>,
        may_be_unchanged: bool,
        holder: u64,
        intake: I,
    ) -> Self {
        Self {
            may_be_unchanged,
            slot: known.as_ref().map_or(0, |known| known.slot ^ 1),
            known,
            intake: Some(intake),
            holder,
            etag: Box::default(),
            total: None,
            taken: 0,
            pages: 0,
            state: State::Ready,
        }
    }

    pub(super) fn answered(&mut self, came: Came) {
        if let State::Asked = self.state {
            self.state = State::Came(came);
        }
    }

    pub(super) fn turn(
        &mut self,
        source: &Source,
        time: Time,
        store: &mut dyn AccountStore,
    ) -> Turn {
        let failed = |why: &str| Turn::Failed {
            why: why.to_owned(),
            retry_after: None,
        };
        match core::mem::replace(&mut self.state, State::Asked) {
            State::Asked => Turn::Nothing,
            State::Ready => {
                if Lease::keep(source.id, self.holder, time.now, store) {
                    Turn::Ask(self.query(source))
                } else {
                    failed("another worker fetches it by now")
                }
            }
            State::Came(Came::Failed { why, retry_after }) => Turn::Failed {
                why: why.to_owned(),
                retry_after,
            },
            State::Came(Came::NotModified) if self.taken == 0 && self.may_be_unchanged => {
                Turn::Unchanged
            }
            State::Came(Came::NotModified) => failed("304 to a question without a condition"),
            State::Came(Came::Page { etag, range, bytes }) => {
                match self.take(source, (etag, range, &bytes), store) {
                    Ok(()) if self.total == Some(self.taken) => Turn::Whole,
                    Ok(()) => {
                        self.state = State::Ready;
                        Turn::Nothing
                    }
                    Err(why) => Turn::Failed {
                        why,
                        retry_after: None,
                    },
                }
            }
        }
    }

    /// Takes the intake out to be finished; the fetch waits for what comes of it
    pub(super) fn whole(mut self) -> (Option<Self>, Option<I>) {
        let intake = self.intake.take();
        (Some(self), intake)
    }

    /// Puts the file in force for everybody
    pub(super) fn publish(
        &self,
        source: &Source,
        time: Time,
        store: &mut dyn AccountStore,
    ) -> Option<Manifest> {
        if !Lease::keep(source.id, self.holder, time.now, store) {
            return None;
        }
        let manifest = Manifest {
            generation: self.holder,
            checked: time.now,
            slot: self.slot,
            pages: self.pages,
            etag: self.etag.as_bytes().into(),
        };
        let written = manifest.write(source.id, store);
        if let (Some(known), Ok(())) = (&self.known, written) {
            clear(source.id, known.slot, known.pages, store);
        }
        Lease::release(source.id, self.holder, time, source.refresh, store);
        written.ok().map(|()| manifest)
    }

    /// Notes that what is in force is what the source has
    pub(super) fn confirm(&self, source: &Source, time: Time, store: &mut dyn AccountStore) {
        if let Some(known) = &self.known {
            let confirmed = Manifest {
                checked: time.now,
                ..known.clone()
            };
            // A store that refuses leaves the older word, which is the stricter one.
            let _: Result<(), _> = confirmed.write(source.id, store);
        }
        Lease::release(source.id, self.holder, time, source.refresh, store);
    }

    /// Leaves what is in force there
    pub(super) fn give_up(
        &self,
        source: &Source,
        time: Time,
        retry_after: Option<u64>,
        store: &mut dyn AccountStore,
    ) {
        // Another worker that has the lease by now uses the slot.
        if Lease::keep(source.id, self.holder, time.now, store) {
            clear(source.id, self.slot, self.pages, store);
        }
        let pause = (source.refresh, retry_after);
        Lease::release_failed(source.id, self.holder, time, pause, store);
    }

    fn query(&self, source: &Source) -> Query {
        let last = self.taken.saturating_add(source.page).saturating_sub(1);
        let mut headers: Vec<(&'static str, String)> = [
            (":method", "GET".into()),
            (":path", String::from(&*source.path)),
            (":authority", String::from(&*source.authority)),
            ("range", format!("bytes={}-{last}", self.taken)),
            // What a proxy on the way compresses has no ranges that fit.
            ("accept-encoding", "identity".into()),
        ]
        .into();
        if self.taken > 0 {
            headers.push(("if-range", self.etag.to_string()));
        } else if let Some(known) = &self.known
            && self.may_be_unchanged
            && let Ok(etag) = core::str::from_utf8(&known.etag)
            && !etag.is_empty()
        {
            headers.push(("if-none-match", etag.into()));
        }
        Query {
            cluster: Rc::clone(&source.cluster),
            headers,
            body: Vec::new(),
            as_caller: false,
            timeout: source.timeout,
        }
    }

    fn take(
        &mut self,
        source: &Source,
        (etag, range, bytes): (Box<str>, Option<Range>, &[u8]),
        store: &mut dyn AccountStore,
    ) -> Result<(), String> {
        let total = match range {
            None if self.taken == 0 => bytes.len(),
            None => return Err("it changed while it was fetched".to_owned()),
            Some((from, to, total)) => {
                let length = to
                    .checked_sub(from)
                    .and_then(|length| length.checked_add(1));
                if from != self.taken || length != Some(bytes.len()) || to >= total {
                    return Err("its source sent another range than was asked for".to_owned());
                }
                total
            }
        };
        if total == 0 || total > source.max_bytes || bytes.is_empty() {
            return Err(format!(
                "it has {total} bytes: not 1 to {}",
                source.max_bytes
            ));
        }
        if self.taken == 0 {
            self.total = Some(total);
            self.etag = etag;
            if total > bytes.len() && (self.etag.is_empty() || self.etag.starts_with("W/")) {
                return Err("it has more than one page and no strong entity tag".to_owned());
            }
        } else if self.total != Some(total) || self.etag != etag {
            return Err("it changed while it was fetched".to_owned());
        }
        let Some(intake) = &mut self.intake else {
            return Err("it is whole already".to_owned());
        };
        intake.feed(bytes)?;
        let key = page_key(source.id, self.slot, self.pages);
        let stored = store.update(&key, &mut |_, fresh| {
            fresh.extend_from_slice(&mark(self.holder));
            fresh.extend_from_slice(bytes);
            true
        });
        stored.map_err(|_| "the store refuses its pages".to_owned())?;
        self.pages = self.pages.saturating_add(1);
        self.taken = self.taken.saturating_add(bytes.len());
        Ok(())
    }
}

impl Came {
    pub(crate) fn of(answer: &Answer<'_>) -> Self {
        let response = match answer {
            Answer::Response(response) => response,
            Answer::Failed(failure) => {
                return Self::failed(match failure {
                    Failure::Refused => "its cluster can't be called",
                    Failure::Broken => "its source broke off",
                    Failure::TooLarge => "its source sent more than was asked for",
                    Failure::TimedOut => "its source was silent",
                });
            }
        };
        match response.status() {
            304 => Self::NotModified,
            status @ (200 | 206) => {
                let range = content_range(response);
                if status == 206 && range.is_none() {
                    return Self::failed("its source sent a part without saying which");
                }
                if response.header(b"content-encoding").is_some() {
                    return Self::failed("its source has encoded it");
                }
                Self::Page {
                    etag: entity_tag(response).unwrap_or_default().into(),
                    range: range.filter(|_| status == 206),
                    bytes: response.body.to_vec(),
                }
            }
            503 | 429 => Self::Failed {
                why: "its source is away or busy",
                retry_after: retry_after(response),
            },
            404 => Self::failed("its source has no such file"),
            _ => Self::failed("its source answers with another status than 200, 206 or 304"),
        }
    }

    /// The question could not be asked
    pub(crate) fn not_asked() -> Self {
        Self::failed("too many calls are under way")
    }

    fn failed(why: &'static str) -> Self {
        Self::Failed {
            why,
            retry_after: None,
        }
    }
}

/// `bytes 0-99/1234`
fn content_range(response: &Response<'_>) -> Option<Range> {
    let text = core::str::from_utf8(response.header(b"content-range")?).ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let number = |text: &str| {
        let plain = text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    Some((number(from)?, number(to)?, number(total)?))
}

/// Longest entity tag that is kept, in bytes
const MAX_ETAG: usize = 128;

fn entity_tag<'a>(response: &Response<'a>) -> Option<&'a str> {
    let tag = core::str::from_utf8(response.header(b"etag")?).ok()?;
    let quoted = tag.strip_prefix("W/").unwrap_or(tag);
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let good = tag.len() <= MAX_ETAG
        && inner
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"');
    good.then_some(tag)
}

/// Whole seconds, in nanoseconds; a date is not read
fn retry_after(response: &Response<'_>) -> Option<u64> {
    let text = core::str::from_utf8(response.header(b"retry-after")?).ok()?;
    text.parse::<u64>().ok()?.checked_mul(1_000_000_000)
}
