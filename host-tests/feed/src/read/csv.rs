//! Rows of comma-separated values whose columns are found by name.

use csv_core::{ReadRecordResult, Reader};

use crate::Reason;

/// Reads a line at a time: a quote that is never closed ends one row and not the rest of the feed
pub(super) struct Table {
    reader: Reader,
    columns: Vec<String>,
    line: Vec<u8>,
    values: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Table {
    /// Takes the columns from the line that has all of these, commented or not; the rest of the bytes is returned
    pub(super) fn new<'a>(bytes: &'a [u8], names: &[&str]) -> Option<(Self, &'a [u8])> {
        let mut table = Self {
            reader: Reader::new(),
            columns: Vec::new(),
            line: Vec::new(),
            values: vec![0; 4096],
            ends: vec![0; MOST_COLUMNS],
            count: 0,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end.saturating_add(1)));
            rest = after;
            let line = line.trim_ascii();
            let line = line.strip_prefix(b"#").unwrap_or(line).trim_ascii();
            if table.split(line).is_err() {
                continue;
            }
            let column = |at: usize| {
                String::from_utf8_lossy(table.at(at))
                    .trim()
                    .to_ascii_lowercase()
            };
            let columns: Vec<_> = (0..table.count).map(column).collect();
            if names
                .iter()
                .all(|name| columns.iter().any(|column| column == name))
            {
                table.columns = columns;
                return Some((table, rest));
            }
        }
        None
    }

    /// Takes a line apart
    pub(super) fn split(&mut self, line: &[u8]) -> Result<(), Reason> {
        self.reader.reset();
        self.line.clear();
        // abuse.ch writes a blank behind its commas, which CSV takes for the value's own.
        let mut bytes = line.iter().copied().peekable();
        let mut before = [0_u8; 2];
        while let Some(byte) = bytes.next() {
            if byte == b' ' && before == *b"\"," && bytes.peek() == Some(&b'"') {
                continue;
            }
            before = [before[1], byte];
            self.line.push(byte);
        }
        self.line.push(b'\n');
        if self.values.len() < self.line.len() {
            self.values.resize(self.line.len(), 0);
        }
        let (result, read, _, count) =
            self.reader
                .read_record(&self.line, &mut self.values, &mut self.ends);
        self.count = count;
        if result == ReadRecordResult::Record && read == self.line.len() {
            Ok(())
        } else {
            Err(Reason::Malformed)
        }
    }

    /// A value of the last line that was taken apart; empty where there is none
    pub(super) fn value(&self, column: &str) -> &str {
        let at = self.columns.iter().position(|name| name == column);
        let value = at.map_or(&b""[..], |at| self.at(at));
        let value = str::from_utf8(value).unwrap_or_default().trim();
        if matches!(value, "None" | "n/a" | "null") {
            ""
        } else {
            value
        }
    }

    /// A value that must be there
    pub(super) fn needed(&self, column: &str) -> Result<&str, Reason> {
        let value = self.value(column);
        if value.is_empty() {
            Err(Reason::Missing)
        } else {
            Ok(value)
        }
    }

    fn at(&self, at: usize) -> &[u8] {
        if at >= self.count {
            return b"";
        }
        let from = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let to = self.ends.get(at).copied().unwrap_or(0);
        self.values
            .get(from.copied().unwrap_or(0)..to)
            .unwrap_or_default()
    }
}

const MOST_COLUMNS: usize = 64;
