//! From feeds to a bundle.

use std::fmt;

use portcullis_fit::Sections;
use portcullis_threat::bundle::{
    Bundle, Fact, FeedEntry, Figures, List, Scope, Set, Table, Terms, Writer,
};
use portcullis_threat::structure::Suffixes;
use sha2::{Digest, Sha256};

use crate::format::Defaults;
use crate::guard::{self, Protected};
use crate::indicator::{Indicator, Row};
use crate::read::{self, Rows};
use crate::report::{Compiled, Conflict, FeedReport};
use crate::{Error, Format, Reason, Role, Source, day};

/// Is told the name of a feed and how many of its rows were read
pub type Progress<'a> = &'a dyn Fn(&str, usize);

/// How a bundle is to be made
#[derive(Default)]
pub struct Options<'a> {
    /// Now, in seconds since 1970: bundles of the same inputs at the same time are the same
    pub at: u64,
    /// What only the publisher knows; without it the keys' secret follows from the inputs
    pub secret: Option<&'a [u8]>,
    /// The bundle that this one replaces: no feed may shrink to less than half
    pub previous: Option<&'a Bundle>,
    /// The tables of the structural evidence, and the public suffixes that no feed may condemn
    pub sections: Option<&'a Sections>,
    /// Is told how many rows of which feed were read, now and then
    pub progress: Option<Progress<'a>>,
}

/// Compiles feeds
///
/// # Errors
///
/// When an input can't be read or isn't of its format, or the bundle can't be written. Bad rows stop nothing.
pub fn compile(sources: &[Source], options: &Options<'_>) -> Result<Compiled, Error> {
    let suffixes = match options.sections {
        Some(sections) => {
            let suffixes = Suffixes::new(&sections.suffixes);
            Some(suffixes.ok_or_else(|| Error::new("the public suffixes are no such table"))?)
        }
        None => None,
    };
    let mut inputs = Vec::new();
    for source in sources {
        inputs.push(Input::read(source, options)?);
    }
    distinguish(&mut inputs);
    let mut writer = Writer::new(secret(&inputs, options.secret), options.at);
    let mut feeds = Vec::new();
    for input in &inputs {
        // What only guards is nowhere in the bundle.
        let number = if input.role == Role::Guard {
            None
        } else {
            let number = writer
                .feed(input.entry())
                .map_err(|error| input.error(&error))?;
            Some(number)
        };
        feeds.push(number);
    }
    let mut work = Work {
        options,
        suffixes,
        writer,
        protected: Protected::default(),
        conflicts: Vec::new(),
        reports: inputs.iter().map(Input::report).collect(),
    };
    // What is allowed is known before what is denied.
    for first in [true, false] {
        for (at, input) in inputs.iter().enumerate() {
            // Polkadot's lists say both, so all are looked through for what they guard.
            let mut pass = Pass {
                work: &mut work,
                input,
                at,
                feed: feeds.get(at).copied().flatten(),
                guarding: first,
            };
            if first && input.role == Role::Deny && input.format != Format::Polkadot {
                continue;
            }
            pass.run()?;
        }
    }
    work.finish(&inputs)
}

/// An input that was read, and what is known of it
struct Input {
    path: String,
    name: String,
    licence: String,
    format: Format,
    role: Role,
    defaults: Defaults,
    block_from: Option<u8>,
    fetched_at: u64,
    valid_until: u64,
    oldest: u16,
    top: usize,
    pieces: Vec<Vec<u8>>,
    sha256: [u8; 32],
}

impl Input {
    fn read(source: &Source, options: &Options<'_>) -> Result<Self, Error> {
        let pieces = source.bytes()?;
        let mut hasher = Sha256::new();
        for piece in &pieces {
            hasher.update(piece);
        }
        let first = pieces.first().map_or(&b""[..], Vec::as_slice);
        if COMPRESSED.iter().any(|start| first.starts_with(start)) {
            let path = source.path.display();
            return Err(Error::new(format!(
                "{path}: is compressed: unpack it first"
            )));
        }
        let format = source.format.unwrap_or_else(|| Format::of(first));
        let mut defaults = format.defaults();
        let mut about = About::default();
        if matches!(
            format,
            Format::Adblock | Format::Hosts | Format::SpamhausDrop
        ) {
            // What a feed says of itself: its title, when it was made.
            let start = first.get(..START.min(first.len()));
            let whole = format == Format::SpamhausDrop;
            let start = if whole { first } else { start.unwrap_or(first) };
            read::read(format, start, &mut about)?;
        }
        defaults.category = source
            .category
            .or_else(|| read::category_of(&about.text))
            .unwrap_or(defaults.category);
        defaults.confidence = source.confidence.unwrap_or(defaults.confidence);
        let fetched_at = source.fetched_at.or(about.made).unwrap_or(options.at);
        let hours = source.validity_hours.unwrap_or(defaults.validity_hours);
        let today = day::of_seconds(options.at).unwrap_or(u16::MAX);
        let max_age = source.max_age_days.or(defaults.max_age_days);
        let role = match format {
            Format::Tranco => Role::Allow,
            _ => Role::Deny,
        };
        let licence = source.licence.clone();
        Ok(Self {
            path: source.path.display().to_string(),
            name: source.name.clone().unwrap_or_else(|| source.stem()),
            licence: licence.unwrap_or_else(|| defaults.licence.to_owned()),
            format,
            role: source.role.unwrap_or(role),
            defaults,
            block_from: source.block_from,
            fetched_at,
            valid_until: fetched_at.saturating_add(u64::from(hours).saturating_mul(3600)),
            oldest: max_age.map_or(0, |days| today.saturating_sub(days)),
            top: source.top.unwrap_or(usize::MAX),
            pieces,
            sha256: hasher.finalize().into(),
        })
    }

    fn entry(&self) -> FeedEntry {
        FeedEntry {
            name: self.name.clone(),
            licence: self.licence.clone(),
            fetched_at: self.fetched_at,
            valid_until: self.valid_until,
            sha256: self.sha256,
            allows: self.role == Role::Allow,
        }
    }

    fn report(&self) -> FeedReport {
        FeedReport {
            name: self.name.clone(),
            licence: self.licence.clone(),
            format: self.format,
            role: self.role,
            rows: 0,
            indicators: 0,
            blocked: 0,
            rejected: [0; Reason::ALL.len()],
        }
    }

    fn error(&self, error: &dyn fmt::Display) -> Error {
        Error::new(format!("{}: {error}", self.path))
    }
}

/// How files of gzip, zip, bzip2, xz and Zstandard begin
const COMPRESSED: [&[u8]; 5] = [
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
];

/// What a feed says of itself stands in so many bytes
const START: usize = 16 << 10;

/// Two files of one name are two feeds
fn distinguish(inputs: &mut [Input]) {
    let mut taken = std::collections::HashSet::new();
    for input in inputs {
        let own = input.name.clone();
        let mut number = 2_u32;
        while !taken.insert(input.name.clone()) {
            input.name = format!("{own}-{number}");
            number = number.saturating_add(1);
        }
    }
}

/// See `examples/THREAT-BUNDLE.md`: with a secret the keys stay the same from bundle to bundle, so that they can be compared
fn secret(inputs: &[Input], given: Option<&[u8]>) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(b"portcullis threat secret 1\n");
    match given {
        Some(given) => hasher.update(given),
        None => inputs.iter().for_each(|input| hasher.update(input.sha256)),
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let mut secret = [0; 16];
    for (to, from) in secret.iter_mut().zip(hash) {
        *to = from;
    }
    secret
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the secret.
        f.debug_struct("Options")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

struct Work<'a> {
    options: &'a Options<'a>,
    suffixes: Option<Suffixes<'a>>,
    writer: Writer,
    protected: Protected,
    conflicts: Vec<(String, usize, usize)>,
    reports: Vec<FeedReport>,
}

impl Work<'_> {
    fn finish(mut self, inputs: &[Input]) -> Result<Compiled, Error> {
        if let Some(sections) = self.options.sections {
            self.writer.table(Table::Suffixes, &sections.suffixes);
            self.writer.table(Table::Brands, &sections.brands);
            self.writer.table(Table::Confusables, &sections.confusables);
            self.writer.table(Table::Model, &sections.model);
        }
        let (bytes, figures): (Vec<u8>, Figures) = self
            .writer
            .finish()
            .map_err(|error| Error::new(error.to_string()))?;
        let bundle = Bundle::open(bytes, &Terms::default());
        let bundle = bundle.map_err(|error| Error::new(format!("what was written: {error}")))?;
        let name = |at: usize| {
            inputs
                .get(at)
                .map_or_else(String::new, |input| input.name.clone())
        };
        let conflicts = self
            .conflicts
            .into_iter()
            .map(|(indicator, feed, by)| Conflict {
                indicator,
                feed: name(feed),
                allowed_by: name(by),
            });
        let shrunk = self
            .options
            .previous
            .map_or_else(Vec::new, |previous| shrunk(previous, &bundle));
        Ok(Compiled {
            digest: bundle
                .digest()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            figures,
            unlike: self.reports.iter().filter_map(FeedReport::unlike).collect(),
            feeds: self.reports,
            conflicts: conflicts.collect(),
            shrunk,
            bytes: bundle.bytes().to_vec(),
        })
    }
}

/// Feeds of the previous bundle that have less than half of their indicators in the new one
fn shrunk(previous: &Bundle, new: &Bundle) -> Vec<String> {
    let mut shrunk = Vec::new();
    for old in previous.feeds() {
        let count = new
            .feeds()
            .find(|feed| feed.name == old.name)
            .map_or(0, |feed| feed.indicators);
        // A feed of a handful may well lose half of them.
        if old.indicators >= 20 && count.saturating_mul(2) < old.indicators {
            shrunk.push(format!(
                "{}, from {} indicators to {count}",
                old.name, old.indicators
            ));
        }
    }
    shrunk
}

/// One way through a feed: for what it protects, or for what it lists
struct Pass<'a, 'b> {
    work: &'a mut Work<'b>,
    input: &'a Input,
    at: usize,
    feed: Option<u8>,
    guarding: bool,
}

impl Pass<'_, '_> {
    fn run(&mut self) -> Result<(), Error> {
        let input = self.input;
        for piece in &input.pieces {
            match read::read(input.format, piece, self) {
                Ok(()) => {}
                // One bad event among many is a bad row.
                Err(_) if input.pieces.len() > 1 => self.take(input.role, Err(Reason::Malformed)),
                Err(error) => return Err(input.error(&error)),
            }
        }
        Ok(())
    }

    fn take(&mut self, role: Role, row: Result<Row, Reason>) {
        // What allows and what guards is read first, what denies second.
        if self.guarding == (role == Role::Deny) {
            return;
        }
        let Some(report) = self.work.reports.get_mut(self.at) else {
            return;
        };
        if report.rows >= self.input.top {
            return;
        }
        report.rows = report.rows.saturating_add(1);
        let rows = report.rows;
        if rows.checked_rem(200_000) == Some(0)
            && let Some(progress) = self.work.options.progress
        {
            progress(&self.input.name, rows);
        }
        let taken = row.and_then(|row| self.judge(role, row));
        let Some(report) = self.work.reports.get_mut(self.at) else {
            return;
        };
        match taken {
            Ok(block) => {
                report.indicators = report.indicators.saturating_add(1);
                report.blocked = report.blocked.saturating_add(usize::from(block));
            }
            Err(reason) => {
                let at = Reason::ALL.iter().position(|one| *one == reason);
                if let Some(count) = at.and_then(|at| report.rejected.get_mut(at)) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    /// Adds a row to the bundle; whether it may be blocked on
    fn judge(&mut self, role: Role, mut row: Row) -> Result<bool, Reason> {
        let today = day::of_seconds(self.work.options.at).unwrap_or(u16::MAX);
        let is_old = row.last_seen.is_some_and(|day| day < self.input.oldest) && !row.is_current;
        if is_old || row.valid_until.is_some_and(|day| day < today) {
            return Err(Reason::Expired);
        }
        if role == Role::Guard {
            self.work.protected.add(&row.indicator, self.at);
            return Ok(false);
        }
        self.narrow(&mut row.indicator)?;
        if role == Role::Allow {
            self.work.protected.add(&row.indicator, self.at);
        } else {
            guard::reach(&row.indicator)?;
            if let Some(by) = self.work.protected.against(&row.indicator) {
                if self.work.conflicts.len() < Compiled::MOST_CONFLICTS {
                    let conflict = (row.indicator.text(), self.at, by);
                    self.work.conflicts.push(conflict);
                }
                return Err(Reason::Allowed);
            }
        }
        let Some(feed) = self.feed else {
            return Ok(false);
        };
        let confidence = row
            .confidence
            .unwrap_or(self.input.defaults.confidence)
            .min(100);
        // A key that says `good` is always stored in full: see `examples/THREAT-BUNDLE.md`.
        let block =
            role == Role::Allow || self.input.block_from.is_some_and(|from| confidence >= from);
        let fact = Fact {
            feed,
            scope: scope(&row.indicator),
            category: row.category.unwrap_or(self.input.defaults.category),
            confidence,
            block,
            first_seen: row.first_seen.unwrap_or(0),
            last_seen: row.last_seen.unwrap_or(0),
        };
        let list = if role == Role::Allow {
            List::Allow
        } else {
            List::Deny
        };
        let writer = &mut self.work.writer;
        match &row.indicator {
            Indicator::Url(url) => writer.add(list, Set::Url, url.expression.as_bytes(), &fact),
            Indicator::Domain(name, _) => writer.add(list, Set::Domain, name.as_bytes(), &fact),
            Indicator::Hash(bytes) => writer.add(list, Set::Hash, bytes, &fact),
            Indicator::Address(address) => writer.address(list, *address, &fact),
            Indicator::Network(first, prefix) => writer.network(list, *first, *prefix, &fact),
        }
        Ok(block && role == Role::Deny)
    }

    /// Who offers names to strangers is not what they do there
    fn narrow(&self, indicator: &mut Indicator) -> Result<(), Reason> {
        let Some(suffixes) = self.work.suffixes else {
            return Ok(());
        };
        let is_suffix = |name: &str| {
            let suffix = suffixes.find(name.as_bytes());
            suffix.listed && suffix.start == 0
        };
        match indicator {
            Indicator::Domain(name, _) if is_suffix(name) => Err(Reason::PublicSuffix),
            Indicator::Url(url) if is_suffix(url.host()) => {
                if url.is_root() {
                    return Err(Reason::PublicSuffix);
                }
                url.scope = url.scope.without(Scope::SUBDOMAINS);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn scope(indicator: &Indicator) -> Scope {
    match indicator {
        Indicator::Url(url) => url.scope,
        Indicator::Domain(_, scope) => *scope,
        Indicator::Address(_) | Indicator::Network(..) | Indicator::Hash(_) => Scope::EXACT,
    }
}

impl Rows for Pass<'_, '_> {
    fn row(&mut self, row: Result<Row, Reason>) {
        self.take(self.input.role, row);
    }

    fn row_for(&mut self, role: Role, row: Result<Row, Reason>) {
        self.take(role, row);
    }

    fn about(&mut self, _text: &str) {}

    fn made(&mut self, _seconds: u64) {}
}

/// What a feed says of itself
#[derive(Default)]
struct About {
    text: String,
    made: Option<u64>,
}

impl Rows for About {
    fn row(&mut self, _row: Result<Row, Reason>) {}

    fn row_for(&mut self, _role: Role, _row: Result<Row, Reason>) {}

    fn about(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push(' ');
    }

    fn made(&mut self, seconds: u64) {
        self.made.get_or_insert(seconds);
    }
}
