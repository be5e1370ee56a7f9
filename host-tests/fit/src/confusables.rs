//! Which characters look like ASCII: from Unicode's confusables, and letters with accents.

use portcullis_threat::structure::confusable::{Confusables, Look};
use unicode_normalization::char::{decompose_canonical, is_combining_mark};
use unicode_security::confusable_detection::skeleton;

/// The section: every character that a host name can hold and that looks like up to three ASCII letters or digits
#[must_use]
pub fn confusables() -> Vec<u8> {
    let table = ('\u{80}'..='\u{1ffff}')
        // Host names are in lower case; the upper case never gets there.
        .filter(|c| c.is_alphanumeric() && c.to_lowercase().eq([*c]))
        .filter_map(|c| Some((c, look(c)?)))
        .collect();
    Confusables::write(table)
}

fn look(character: char) -> Option<Look> {
    let mut accent = false;
    let mut base = String::new();
    decompose_canonical(character, |part| {
        if is_combining_mark(part) {
            accent = true;
        } else {
            base.push(part);
        }
    });
    let mut text = [0u8; 3];
    let mut cells = text.iter_mut();
    for part in skeleton(&base).filter(|part| {
        accent |= is_combining_mark(*part);
        !is_combining_mark(*part)
    }) {
        let byte = u8::try_from(part).ok()?.to_ascii_lowercase();
        *cells.next()? = byte.is_ascii_alphanumeric().then_some(byte)?;
    }
    (text != [0; 3]).then_some(Look { text, accent })
}
