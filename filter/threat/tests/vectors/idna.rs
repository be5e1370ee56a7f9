//! `IdnaTestV2.txt` of UTS #46: names in Unicode, as hosts of URLs.

use portcullis_threat::{Host, Target};

/// Names that are read in another way than the file says
const EXPECTED: &str = include_str!("idna-differences.txt");

/// Codes of rules that browsers don't apply (WHATWG URL, section 3.3: `VerifyDnsLength`, `CheckHyphens` and
/// `UseSTD3ASCIIRules` are false)
const NOT_APPLIED: &[&str] = &["A4_1", "A4_2", "V2", "V3", "U1", "X4_2"];

/// Escapes of the file's own; `None` where they stand for no character
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split("\\u");
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(4);
        plain.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        plain.push_str(rest);
    }
    Some(plain)
}

#[test]
fn names_in_unicode() {
    let file = crate::shipped("idna", "IdnaTestV2.txt");
    let (mut valid, mut invalid) = (0, 0);
    let mut wrong = Vec::new();
    for line in file.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let columns: Vec<&str> = line.split(';').map(str::trim).collect();
        let [
            source,
            to_unicode,
            unicode_status,
            to_ascii,
            ascii_status,
            ..,
        ] = columns[..]
        else {
            continue;
        };
        let Some(source) = unescape(source.trim_matches('"')) else {
            continue;
        };
        // Not what stands for a host alone in a URL, and not what it ends in.
        let is_host = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-._".contains(c);
        if source.is_empty() || !source.chars().all(is_host) {
            continue;
        }
        let unicode = if to_unicode.is_empty() {
            &source
        } else {
            to_unicode
        };
        let ascii = if to_ascii.is_empty() {
            unicode
        } else {
            to_ascii
        };
        let status = if ascii_status.is_empty() {
            unicode_status
        } else {
            ascii_status
        };
        let errors: Vec<&str> = status
            .trim_matches(['[', ']'])
            .split(", ")
            .filter(|code| !code.is_empty())
            .collect();
        // Texts that only look alike stay apart.
        let name = source.chars().map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                c.escape_unicode().to_string()
            }
        });
        let name: String = name.collect();
        let url = format!("http://{source}/");
        let target = Target::classify(&url);
        let host = target.host();
        if errors.is_empty() {
            valid += 1;
            let Some(Host::Domain(found)) = host else {
                // Digits in another script are an address.
                if !ascii.ends_with(|c: char| c.is_ascii_digit()) {
                    wrong.push(format!("{name} has no host"));
                }
                continue;
            };
            if found != ascii.trim_end_matches('.') {
                wrong.push(format!("{name} {found:?} {ascii:?}"));
            }
            if target.web().is_some_and(portcullis_threat::Web::disagrees) {
                wrong.push(format!("{name} two hosts"));
            }
        } else if !errors.iter().all(|code| NOT_APPLIED.contains(code)) {
            invalid += 1;
            if host.is_some() {
                wrong.push(format!("{name} {errors:?} is a host"));
            }
        }
    }
    wrong.sort_unstable();
    wrong.dedup();
    let expected: Vec<&str> = EXPECTED
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(wrong, expected);
    assert!(valid > 400 && invalid > 4_000, "{valid} {invalid}");
}
