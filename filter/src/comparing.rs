//! A verdict of which nothing came, while the upstream's answer to the same request goes by.
//!
//! INVARIANT: nothing here edits, holds or answers: of the host it asks only for what there is.

use portcullis_policy::{Comparison, Opinion, Record};

use crate::hostcall::{self, Buffer, Map};
use crate::kept::Kept;
use crate::recorder;

/// A decision that is told of when the upstream's answer has gone by
///
/// INVARIANT: it is told of once, however its stream ends.
#[derive(Debug)]
pub(crate) struct Comparing {
    record: Record,
    comparison: Comparison,
    phase: Phase,
}

/// How much of the answer has come
#[derive(Debug)]
enum Phase {
    Nothing,
    /// Its headers, and this of its body
    Body(Kept),
    /// As much as was needed
    Told,
}

impl Comparing {
    pub(crate) fn new(record: Record, comparison: Comparison) -> Box<Self> {
        // Were its stream cut off, the access log would be written before it is told of.
        recorder::announce(&record);
        Box::new(Self {
            record,
            comparison,
            phase: Phase::Nothing,
        })
    }

    /// Looks at the answer's headers
    pub(crate) fn headers(&mut self, end_of_stream: bool) {
        if !matches!(self.phase, Phase::Nothing) {
            return;
        }
        match begin(&mut self.comparison) {
            Ok(()) => {
                self.phase = Phase::Body(Kept::default());
                if end_of_stream {
                    self.end();
                }
            }
            Err(opinion) => self.tell(opinion),
        }
    }

    /// Keeps what of the answer's body has come
    pub(crate) fn body(&mut self, size: usize, end_of_stream: bool) {
        let Phase::Body(kept) = &mut self.phase else {
            return;
        };
        let max = self.comparison.max();
        let room = max.saturating_add(1).saturating_sub(kept.len());
        let piece = hostcall::buffer(Buffer::ResponseBody, room.min(size));
        let is_kept = piece.is_ok_and(|piece| kept.keep(&piece));
        if !is_kept || kept.len() > max {
            self.tell(Opinion::Unreadable);
        } else if end_of_stream {
            self.end();
        }
    }

    /// The answer is whole
    pub(crate) fn end(&mut self) {
        if let Phase::Body(kept) = &self.phase {
            let opinion = self.comparison.read(kept.bytes());
            self.tell(opinion);
        }
    }

    fn tell(&mut self, opinion: Opinion) {
        if !matches!(self.phase, Phase::Told) {
            self.phase = Phase::Told;
            self.record.compare(opinion);
            recorder::tell(&self.record);
        }
    }
}

impl Drop for Comparing {
    fn drop(&mut self) {
        self.tell(Opinion::Absent);
    }
}

fn begin(comparison: &mut Comparison) -> Result<(), Opinion> {
    let pairs = hostcall::map_pairs(Map::ResponseHeaders);
    let pairs = pairs.map_err(|_| Opinion::Absent)?;
    let headers = pairs.decode().map_err(|_| Opinion::Absent)?;
    comparison.begin(&headers)
}
