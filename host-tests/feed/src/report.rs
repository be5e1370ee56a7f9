//! What a compilation did.

use portcullis_threat::bundle::Figures;
use serde_json::{Map, Value, json};

use crate::{Format, Reason, Role};

/// A bundle and what became of each feed
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The bundle
    pub bytes: Vec<u8>,
    /// SHA-256 of its content, in hexadecimal: what it is known and pinned by
    pub digest: String,
    /// Its sizes
    pub figures: Figures,
    /// In the order of the inputs
    pub feeds: Vec<FeedReport>,
    /// What was left out because an allow list names it; at most [`MOST_CONFLICTS`](Self::MOST_CONFLICTS)
    pub conflicts: Vec<Conflict>,
    /// Feeds that shrank to less than half: the bundle should not be used
    pub shrunk: Vec<String>,
    /// Feeds of whose rows more than half can't be read, a page that says "log in" among them: the same
    pub unlike: Vec<String>,
}

/// What became of a feed
#[derive(Clone, Debug)]
pub struct FeedReport {
    /// Its name in verdicts
    pub name: String,
    /// Its licence
    pub licence: String,
    /// What it was read as
    pub format: Format,
    /// What it is for
    pub role: Role,
    /// Rows that were read
    pub rows: usize,
    /// Of these in the bundle
    pub indicators: usize,
    /// Of these, that may be blocked on
    pub blocked: usize,
    /// How many weren't taken, by reason, in the order of [`Reason::ALL`]
    pub rejected: [usize; Reason::ALL.len()],
}

/// A threat that an allow list names
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// What was listed
    pub indicator: String,
    /// The feed that listed it
    pub feed: String,
    /// The feed that allows it
    pub allowed_by: String,
}

impl Compiled {
    /// Most conflicts that are named; all are counted
    pub const MOST_CONFLICTS: usize = 100;

    /// For machines
    #[must_use]
    pub fn json(&self) -> Value {
        let figures = &self.figures;
        json!({
            "bytes": figures.bytes,
            "sha256": self.digest,
            "keys": figures.keys,
            "key_bytes": figures.key_bytes,
            "segments": figures.segments,
            "stored_in_full": figures.confirmed,
            "rows": figures.rows,
            "coarser": figures.coarser,
            "feeds": self.feeds.iter().map(FeedReport::json).collect::<Vec<_>>(),
            "conflicts": self.conflicts.iter().map(|conflict| json!({
                "indicator": conflict.indicator,
                "feed": conflict.feed,
                "allowed_by": conflict.allowed_by,
            })).collect::<Vec<_>>(),
            "shrunk": self.shrunk,
            "unlike": self.unlike,
        })
    }

    /// For people
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for feed in &self.feeds {
            let rejected: Vec<_> = feed
                .rejections()
                .map(|(reason, count)| format!("{count} {}", reason.word()))
                .collect();
            let rejected = if rejected.is_empty() {
                String::new()
            } else {
                format!("; not taken: {}", rejected.join(", "))
            };
            lines.push(format!(
                "{}: {} ({}), {} of {} rows{rejected}",
                feed.name,
                feed.format.word(),
                feed.licence,
                feed.indicators,
                feed.rows,
            ));
        }
        for conflict in &self.conflicts {
            lines.push(format!(
                "left out: {} of {}, which {} allows",
                conflict.indicator, conflict.feed, conflict.allowed_by
            ));
        }
        let figures = &self.figures;
        lines.push(format!(
            "{} keys in {} bytes ({} each) and {} for rows; {} segments of networks; {} keys in full for {} bytes",
            figures.keys,
            figures.key_bytes,
            per_key(figures),
            figures.row_bytes,
            figures.segments,
            figures.confirmed,
            figures.confirmed.saturating_mul(16),
        ));
        if figures.coarser > 0 {
            lines.push(format!(
                "verdict rows made coarser {} times until they fitted",
                figures.coarser
            ));
        }
        lines.push(format!("{} bytes, sha256 {}", figures.bytes, self.digest));
        for feed in &self.shrunk {
            lines.push(format!("shrunk: {feed}; look at the feed, or --force"));
        }
        for feed in &self.unlike {
            lines.push(format!(
                "unlike a feed: {feed}; look at it, say what it is with --format, or --force"
            ));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// Bytes a key, with two decimals
fn per_key(figures: &Figures) -> String {
    let hundredths = figures
        .key_bytes
        .saturating_mul(100)
        .checked_div(figures.keys)
        .unwrap_or(0);
    let (whole, rest) = (hundredths.checked_div(100), hundredths.checked_rem(100));
    format!("{}.{:02}", whole.unwrap_or(0), rest.unwrap_or(0))
}

impl FeedReport {
    /// What is said of a feed of which more than half can't be read
    pub(crate) fn unlike(&self) -> Option<String> {
        let bad = self.rejections().filter(|(reason, _)| {
            matches!(
                reason,
                Reason::Malformed | Reason::Missing | Reason::Unreadable
            )
        });
        let bad: usize = bad.map(|(_, count)| count).sum();
        (bad.saturating_mul(2) > self.rows).then(|| {
            let Self { name, rows, .. } = self;
            format!(
                "{name}, {bad} of {rows} rows can't be read as {}",
                self.format.word()
            )
        })
    }

    /// What wasn't taken, by reason
    pub fn rejections(&self) -> impl Iterator<Item = (Reason, usize)> {
        Reason::ALL
            .into_iter()
            .zip(self.rejected)
            .filter(|(_, count)| *count > 0)
    }

    fn json(&self) -> Value {
        let rejected: Map<_, _> = self
            .rejections()
            .map(|(reason, count)| (reason.word().to_owned(), count.into()))
            .collect();
        let role = Role::WORDS.iter().find(|(_, role)| *role == self.role);
        json!({
            "name": self.name,
            "licence": self.licence,
            "format": self.format.word(),
            "role": role.map(|(word, _)| word),
            "rows": self.rows,
            "indicators": self.indicators,
            "block": self.blocked,
            "rejected": rejected,
        })
    }
}
