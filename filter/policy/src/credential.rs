//! The credential of a request: one bearer token (RFC 6750, section 2.1).

use crate::key::{KeyDigest, KeyDigests, KeyTerms, is_damaged};
use crate::path::{self, CheckedPath};
use crate::reason::Reason;
use crate::request::{Head, One};

/// Longest token that is looked at, in bytes: bounds what hashing a wrong one costs
const MAX_TOKEN: usize = 256;

/// Reads the digests of a request's one bearer token
///
/// # Errors
///
/// [`Reason::CredentialMissing`], [`Reason::CredentialMalformed`] or
/// [`Reason::CredentialRepeated`], or [`Reason::KeyMalformed`]: Envoy joins two `Authorization` headers with a comma, which no
/// token holds, and a token in the query besides is a second one (RFC 6750, section 2).
pub(crate) fn read(
    head: &Head<'_>,
    path: &CheckedPath<'_>,
    terms: &KeyTerms,
) -> Result<KeyDigests, Reason> {
    let in_query = path
        .query
        .is_some_and(|query| path::has_parameter(query, "access_token"));
    match head.authorization {
        One::Absent => Err(Reason::CredentialMissing),
        One::Once(_) if in_query => Err(Reason::CredentialRepeated),
        One::Once(value) => match token(value) {
            Some(token) if terms.is_checked && is_damaged(token) => Err(Reason::KeyMalformed),
            Some(token) => Ok(terms.hashing.digests(token)),
            None if value.contains(&b',') => Err(Reason::CredentialRepeated),
            None => Err(Reason::CredentialMalformed),
        },
        One::Repeated => Err(Reason::CredentialRepeated),
    }
}

/// Whether a request carries a key that `is_known`, good or not, however often
///
/// A route that needs no key may get somebody else's credential, which is its upstream's to read:
/// only ours is kept from it.
pub(crate) fn is_ours(
    head: &Head<'_>,
    terms: &KeyTerms,
    knows: impl Fn(&KeyDigest) -> bool,
) -> bool {
    let known = |token: &[u8]| terms.hashing.digests(token).iter().any(&knows);
    match head.authorization {
        One::Absent => false,
        One::Once(value) => value
            .split(|byte| *byte == b',')
            .filter_map(token)
            .any(known),
        One::Repeated => true,
    }
}

/// The token of `Bearer token`, the scheme in whatever case (RFC 9110, section 11.1)
fn token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.trim_ascii().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") || rest.first() != Some(&b' ') {
        return None;
    }
    let token = rest.trim_ascii_start();
    let end = token.iter().rposition(|byte| *byte != b'=')?;
    let good = |byte: &u8| GOOD.get(usize::from(*byte)) == Some(&true);
    let valid = token.len() <= MAX_TOKEN && token.get(..=end)?.iter().all(good);
    valid.then_some(token)
}

/// The bytes of a token, but for `=` at its end (RFC 6750, section 2.1)
static GOOD: [bool; 256] = {
    let mut good = [false; 256];
    let mut rest: &mut [bool] = &mut good;
    let mut byte = 0u8;
    while let Some((is_good, behind)) = rest.split_first_mut() {
        *is_good =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte = byte.wrapping_add(1);
        rest = behind;
    }
    good
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let check = |value: &str, expected: Option<&str>| {
            assert_eq!(
                token(value.as_bytes()),
                expected.map(str::as_bytes),
                "{value}"
            );
        };
        check("Bearer abc", Some("abc"));
        check("bearer abc", Some("abc"));
        check("BEARER   a-._~+/9==", Some("a-._~+/9=="));
        check(" Bearer abc ", Some("abc"));
        check("Bearer", None);
        check("Bearer ", None);
        check("Bearer =", None);
        check("Bearerabc", None);
        check("Bearer\tabc", None);
        check("Bearer a b", None);
        check("Bearer a=b", None);
        check("Bearer a\"b", None);
        check("Basic YTpi", None);
        check("", None);
        assert_eq!(token(b"Bearer \xff\xfe"), None);
        let longest = std::format!("Bearer {}", "a".repeat(MAX_TOKEN));
        assert!(token(longest.as_bytes()).is_some());
        assert!(token(std::format!("{longest}a").as_bytes()).is_none());
    }
}
