//! Evidence without a feed: what a target's spelling gives away.

use crate::evidence::EvidenceList;
use crate::web::Web;

/// Adds what the structure of a URL or of a domain gives away
pub fn examine(_web: &Web<'_>, _evidence: &mut EvidenceList) {}
