//! URLs as they are split: by registrable domain, so that no test URL has a neighbour in training.

use portcullis_threat::structure::Site;
use portcullis_threat::structure::model::write::Draft;

use crate::Tools;
use crate::data::Row;
use crate::report::Scored;

/// Parts that cross-validation leaves out in turn
pub(crate) const FOLDS: u64 = 5;

/// A row with what splits need
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) row: Row,
    /// Its registrable domain, a shared host's suffix counting as a suffix
    pub(crate) group: String,
    pub(crate) fold: u64,
    /// Whether it has a path or a query
    pub(crate) full: bool,
}

impl Item {
    pub(crate) fn scored(&self, score: i32) -> Scored {
        Scored {
            source: self.row.source,
            phish: self.row.phish,
            full: self.full,
            score,
        }
    }
}

pub(crate) fn items(rows: Vec<Row>, tools: &Tools) -> Result<Vec<Item>, String> {
    let empty = Draft::empty(1, 1, Vec::new()).write().ok_or("no draft")?;
    let tables = tools.tables(&empty)?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let name = row.name();
            let group = match row.view().host {
                Site::Name(host) => {
                    let host = host.strip_prefix(b"www.").unwrap_or(host);
                    let start = tables.suffixes.registrable(host).unwrap_or(0);
                    String::from_utf8_lossy(host.get(start..).unwrap_or_default()).into_owned()
                }
                Site::Address(_) => name,
            };
            let fold = hash(&group) % FOLDS;
            let full = row.view().has_path();
            Item {
                row,
                group,
                fold,
                full,
            }
        })
        .collect())
}

/// FNV-1a
fn hash(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^ hash >> 29
}

pub(crate) fn indices(items: &[Item], wanted: impl Fn(&Item) -> bool) -> Vec<usize> {
    items
        .iter()
        .enumerate()
        .filter(|(_, item)| wanted(item))
        .map(|(i, _)| i)
        .collect()
}
