//! Domain names that name a host.

use alloc::string::String;

use idna::punycode;
use url::Host;

/// The ASCII form of a domain name: in lower case, without its final dot
///
/// Labels of letters, digits and hyphens, 1 to 63 each, 253 in all (RFC 1123, section 2.1), in any
/// case, with or without a final dot. A label outside ASCII must be in the form to which it is
/// normalised (RFC 5890: a U-label), an encoded one (`xn--`) must decode: whoever reads `１２７．１`,
/// `a。b` or a ligature in another way than we do reads another name.
///
/// # Errors
///
/// What is wrong. A name whose last label is a number is an address to every browser (WHATWG URL,
/// section 3.5), in whatever base it is written.
pub(crate) fn parse(text: &str) -> Result<String, &'static str> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let good =
        |byte: u8| !byte.is_ascii() || byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    // A name outside ASCII may be longer than its ASCII form, but never four times.
    if text.len() > MAX_TEXT || !text.bytes().all(good) {
        return Err(HELP);
    }
    let mut name = text.to_ascii_lowercase();
    let is_encoded = |label: &str| label.starts_with("xn--");
    if !name.is_ascii() || name.split('.').any(is_encoded) {
        name = to_ascii(&name)?;
    }
    if name.len() > MAX_NAME || !are_labels(name.as_bytes()) {
        return Err(HELP);
    }
    let last = name.rsplit_once('.').map_or(&*name, |(_, last)| last);
    if is_number(last) {
        return Err(ADDRESS);
    }
    Ok(name)
}

/// Whether a name in its ASCII form means something only from within, as far as a name tells
///
/// One label alone; `localhost`, `local` (RFC 6761, 6762), `internal`, `home.arpa` (RFC 8375), what
/// RFC 6762, appendix G, lists as used in private networks; and the one public name of a metadata
/// service. What a name resolves to is not looked up.
pub(crate) fn is_private(name: &str) -> bool {
    const PRIVATE: &[&str] = &[
        "corp",
        "home",
        "home.arpa",
        "internal",
        "intranet",
        "lan",
        "local",
        "localdomain",
        "localhost",
        "metadata.goog",
        "private",
    ];
    let is_below = |zone: &str| {
        let above = name.strip_suffix(zone);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    !name.contains('.') || PRIVATE.iter().any(|zone| is_below(zone))
}

const MAX_NAME: usize = 253;
const MAX_TEXT: usize = 1012;
const HELP: &str = "is not a domain name";
const ADDRESS: &str = "is an address, not a domain name";

/// Whether each label has 1 to 63 bytes, of which neither the first nor the last is a hyphen
fn are_labels(name: &[u8]) -> bool {
    let mut length = 0usize;
    let mut before = b'.';
    for byte in name.iter().chain(b".") {
        let is_wrong = match byte {
            b'.' => before == b'-' || !(1..=63).contains(&length),
            b'-' => before == b'.',
            _ => false,
        };
        if is_wrong {
            return false;
        }
        length = if *byte == b'.' {
            0
        } else {
            length.saturating_add(1)
        };
        before = *byte;
    }
    true
}

/// The ASCII form of a name in lower case that has encoded labels, or labels to encode
///
/// What is only mapped there, such as wide letters and dots, is not what was written: the plain
/// encoding of each label must come to the same.
fn to_ascii(name: &str) -> Result<String, &'static str> {
    const INVALID: &str = "is not a domain name in its normal form";
    // Encoding takes the square of a label's length, and no label gets shorter by it.
    if name.split('.').any(|label| label.chars().count() > 63) {
        return Err(HELP);
    }
    let ascii = match Host::parse(name) {
        Ok(Host::Domain(ascii)) => ascii,
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(ADDRESS),
        Err(_) => return Err(INVALID),
    };
    let mut plain = String::with_capacity(ascii.len());
    for label in name.split('.') {
        if !plain.is_empty() {
            plain.push('.');
        }
        if label.is_ascii() {
            plain.push_str(label);
        } else {
            plain.push_str("xn--");
            let small: String = label.chars().flat_map(char::to_lowercase).collect();
            plain.push_str(&punycode::encode_str(&small).unwrap_or_default());
        }
    }
    if plain == ascii {
        Ok(ascii)
    } else {
        Err(INVALID)
    }
}

/// Whether a browser takes a last label for a number: decimal, or hexadecimal behind `0x`
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || label.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse(text).ok().as_deref(), expected, "{text}");
    }

    #[test]
    fn names() {
        check("example.com", Some("example.com"));
        check("Example.COM.", Some("example.com"));
        check("a-b.1.example", Some("a-b.1.example"));
        check("r3---sn-x.example.com", Some("r3---sn-x.example.com"));
        check("localhost", Some("localhost"));
        check("0x.example", Some("0x.example"));
        check("0xg", Some("0xg"));
        check("bücher.example", Some("xn--bcher-kva.example"));
        check("BÜCHER.example", Some("xn--bcher-kva.example"));
        check("XN--bcher-kva.example", Some("xn--bcher-kva.example"));
        check("straße.example", Some("xn--strae-oqa.example"));
        check("例え.テスト", Some("xn--r8jz45g.xn--zckzah"));
        let longest = std::format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        check(&longest, Some(&longest));
        check(&std::format!("{longest}."), Some(&longest));
    }

    #[test]
    fn no_names() {
        let too_long = std::format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(62));
        let long_label = std::format!("{}.example", "a".repeat(64));
        for text in [
            "",
            ".",
            "..",
            ".example.com",
            "example..com",
            "example.com..",
            "-a.example",
            "a-.example",
            "a_b.example",
            "*.example.com",
            "a b.example",
            " example.com",
            "example.com\t",
            "exa%6dple.com",
            "example.com/x",
            "example.com:80",
            "user@example.com",
            "http://example.com",
            "xn--.example",
            "xn--a.example",
            "xn--999999999999.example",
            "a\u{ad}b.example",
            "a\u{200d}b.example",
            "\u{202e}moc.example",
            "bu\u{308}cher.example",
            "ﬁ.example",
            "ｅxample.com",
            "example。com",
            "127。0。0。1",
            "\u{212a}elvin.example",
            &too_long,
            &long_label,
            &"é".repeat(600),
            &"é.".repeat(200),
        ] {
            check(text, None);
        }
    }

    #[test]
    fn addresses_are_no_names() {
        for text in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "0X7F.1",
            "0x",
            "1.2.3.4.5",
            "a.example.1",
            "a.0xff",
            "08",
        ] {
            assert_eq!(
                parse(text),
                Err("is an address, not a domain name"),
                "{text}"
            );
        }
        for text in ["１２７.0.0.1", "①②⑦.0.0.1", "[::1]", "::1", "0x7f。1"] {
            check(text, None);
        }
    }

    #[test]
    fn private_names() {
        let check = |name: &str, private| assert_eq!(is_private(name), private, "{name}");
        for name in [
            "localhost",
            "a.localhost",
            "printer.local",
            "metadata.google.internal",
            "instance-data",
            "router.home.arpa",
            "metadata.goog",
            "db.corp",
            "kubernetes.default.svc.cluster.local",
            "localhost.localdomain",
        ] {
            check(name, true);
        }
        for name in [
            "example.com",
            "notlocal.example",
            "xlocalhost.example",
            "local.example",
            "my-internal.example",
            "arpa.home.example",
        ] {
            check(name, false);
        }
    }
}
