//! Reads feeds: each format has its reader, which tells its rows one by one.

mod adblock;
mod csv;
mod lines;
mod misp;
mod objects;
mod stix;
mod table;

use crate::indicator::Row;
use crate::{Error, Format, Reason, Role};

pub(crate) use misp::category_of;

/// Where a reader's rows go
pub(crate) trait Rows {
    /// A row, or why it is none
    fn row(&mut self, row: Result<Row, Reason>);

    /// A row that is for another end than the feed is
    fn row_for(&mut self, role: Role, row: Result<Row, Reason>);

    /// What the feed says of itself: a title, a source
    fn about(&mut self, text: &str);

    /// When the feed says that it was made, in seconds since 1970
    fn made(&mut self, seconds: u64);
}

/// Reads a feed
///
/// # Errors
///
/// When it is not of that format at all. A bad row is told as one.
pub(crate) fn read(format: Format, bytes: &[u8], rows: &mut dyn Rows) -> Result<(), Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match format {
        Format::Adblock => adblock::read(bytes, rows),
        Format::Hosts => lines::hosts(bytes, rows),
        Format::Ipsum => lines::ipsum(bytes, rows),
        Format::Netset => lines::netset(bytes, rows),
        Format::Plain => lines::plain(bytes, rows),
        Format::Tranco => lines::tranco(bytes, rows),
        Format::UrlList => lines::urls(bytes, rows),
        Format::FeodoCsv => table::feodo(bytes, rows),
        Format::MalwarebazaarCsv => table::malwarebazaar(bytes, rows),
        Format::PhishtankCsv => table::phishtank(bytes, rows),
        Format::ThreatfoxCsv => table::threatfox(bytes, rows),
        Format::UrlhausCsv => table::urlhaus(bytes, rows),
        Format::SpamhausDrop => lines::spamhaus(bytes, rows),
        Format::Misp => return misp::read(bytes, rows),
        Format::PhishtankJson => return objects::phishtank(bytes, rows),
        Format::Polkadot => return objects::polkadot(bytes, rows),
        Format::Stix => return stix::read(bytes, rows),
        Format::ThreatfoxJson => return objects::threatfox(bytes, rows),
    }
    Ok(())
}

/// Lines without their ends, and without empty ones
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
}

/// A JSON document of a feed
fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::new(format!("not {what}: {error}; --format says what it is")))
}
