//! Hashes of files.

use crate::target::TargetKind;

/// A hash by its length, with or without its name in front; in lower case
pub(crate) fn kind(text: &str) -> Option<(TargetKind, &str)> {
    let (name, digits) = match text.split_once(':') {
        Some((name, digits)) => (Some(name), digits),
        None => (None, text),
    };
    let kind = match digits.len() {
        32 => TargetKind::Md5,
        40 => TargetKind::Sha1,
        64 => TargetKind::Sha256,
        _ => return None,
    };
    let fits = name.is_none_or(|name| name.eq_ignore_ascii_case(kind.word()))
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then_some((kind, digits))
}
