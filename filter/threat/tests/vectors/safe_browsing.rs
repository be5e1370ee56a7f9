//! The examples of Safe Browsing v4, of its Go client and of Chromium, whose URLs and addresses are facts
//! that every implementation is held to.

use portcullis_threat::SafeBrowsing;
use portcullis_threat::address::{Spelling, parse_ipv4};

/// What the specification lists, in its order
const SPECIFICATION: &[(&[u8], &str)] = &[
    (b"http://host/%25%32%35", "http://host/%25"),
    (b"http://host/%25%32%35%25%32%35", "http://host/%25%25"),
    (b"http://host/%2525252525252525", "http://host/%25"),
    (b"http://host/asdf%25%32%35asd", "http://host/asdf%25asd"),
    (
        b"http://host/%%%25%32%35asd%%",
        "http://host/%25%25%25asd%25%25",
    ),
    (b"http://www.google.com/", "http://www.google.com/"),
    (
        b"http://%31%36%38%2e%31%38%38%2e%39%39%2e%32%36/%2E%73%65%63%75%72%65/%77%77%77%2E%65%62%61%79%2E%63%6F%6D/",
        "http://168.188.99.26/.secure/www.ebay.com/",
    ),
    (
        b"http://195.127.0.11/uploads/%20%20%20%20/.verify/.eBaysecure=updateuserdataxplimnbqmn-xplmvalidateinfoswqpcmlx=hgplmcx/",
        "http://195.127.0.11/uploads/%20%20%20%20/.verify/.eBaysecure=updateuserdataxplimnbqmn-xplmvalidateinfoswqpcmlx=hgplmcx/",
    ),
    (
        b"http://host%23.com/%257Ea%2521b%2540c%2523d%2524e%25f%255E00%252611%252A22%252833%252944_55%252B",
        "http://host%23.com/~a!b@c%23d$e%25f^00&11*22(33)44_55+",
    ),
    (b"http://3279880203/blah", "http://195.127.0.11/blah"),
    (b"http://www.google.com/blah/..", "http://www.google.com/"),
    (b"www.google.com/", "http://www.google.com/"),
    (b"www.google.com", "http://www.google.com/"),
    (b"http://www.evil.com/blah#frag", "http://www.evil.com/blah"),
    (b"http://www.GOOgle.com/", "http://www.google.com/"),
    (b"http://www.google.com.../", "http://www.google.com/"),
    (
        b"http://www.google.com/foo\tbar\rbaz\n2",
        "http://www.google.com/foobarbaz2",
    ),
    (b"http://www.google.com/q?", "http://www.google.com/q?"),
    (b"http://www.google.com/q?r?", "http://www.google.com/q?r?"),
    (
        b"http://www.google.com/q?r?s",
        "http://www.google.com/q?r?s",
    ),
    (b"http://evil.com/foo#bar#baz", "http://evil.com/foo"),
    (b"http://evil.com/foo;", "http://evil.com/foo;"),
    (b"http://evil.com/foo?bar;", "http://evil.com/foo?bar;"),
    (b"http://\x01\x80.com/", "http://%01%80.com/"),
    (
        b"http://notrailingslash.com",
        "http://notrailingslash.com/",
    ),
    (
        b"http://www.gotaport.com:1234/",
        "http://www.gotaport.com/",
    ),
    (b"  http://www.google.com/  ", "http://www.google.com/"),
    (b"http:// leadingspace.com/", "http://%20leadingspace.com/"),
    (
        b"http://%20leadingspace.com/",
        "http://%20leadingspace.com/",
    ),
    (b"%20leadingspace.com/", "http://%20leadingspace.com/"),
    (
        b"https://www.securesite.com/",
        "https://www.securesite.com/",
    ),
    (b"http://host.com/ab%23cd", "http://host.com/ab%23cd"),
    (
        b"http://host.com//twoslashes?more//slashes",
        "http://host.com/twoslashes?more//slashes",
    ),
];

/// More of Chromium's and of the Go client's
const CLIENTS: &[(&[u8], &str)] = &[
    (
        b"http://host.com/%257Ea%2521b%2540c%2523d%2524e%25f%255E00%252611%252A22%252833%252944_55%252B",
        "http://host.com/~a!b@c%23d$e%25f^00&11*22(33)44_55+",
    ),
    (
        b"http://host%3e.com//twoslashes?more//slashes",
        "http://host>.com/twoslashes?more//slashes",
    ),
    (
        b"http://host%3e.com/abc/%2e%2e%2fdef",
        "http://host>.com/def",
    ),
    (
        b"http://.......host...com.....//abc/////def%2F%2F%2Fxyz",
        "http://host.com/abc/def/xyz",
    ),
    (b"http://abc:def@host.com/xyz", "http://host.com/xyz"),
    (b"ftp://ftp.myfiles.com/", "ftp://ftp.myfiles.com/"),
    (b"http://some%1bhost.com/%1b", "http://some%1Bhost.com/%1B"),
    (
        b"http://www.google.com/q?r?s%3F",
        "http://www.google.com/q?r?s?",
    ),
    (
        b"http://www.\xC3\xBCmlat.com/",
        "http://www.xn--mlat-zra.com/",
    ),
    (
        b"http://[2001:470:1:18::114]/",
        "http://[2001:470:1:18::114]/",
    ),
    (b"http%3A%2F%2Fwackyurl.com:80/", "http://wackyurl.com/"),
    (b"http://W!eird<>Ho$^.com/", "http://w!eird<>ho$^.com/"),
    (
        b"http://i.have.way.too.many.dots.com/",
        "http://i.have.way.too.many.dots.com/",
    ),
    (b"http://google.com./foo.html", "http://google.com/foo.html"),
    (
        b"http://google.com.:8080/foo.html",
        "http://google.com/foo.html",
    ),
    (
        b"http://google...com/foo.html",
        "http://google.com/foo.html",
    ),
    (b"http://..google.com/foo.html", "http://google.com/foo.html"),
    (
        b"http://[FEDC:BA98:7654:3210:FEDC:BA98:7654:3210]:80/index.html",
        "http://[fedc:ba98:7654:3210:fedc:ba98:7654:3210]/index.html",
    ),
    (b"http://0x12.0x43.0x44.0x01", "http://18.67.68.1/"),
    (
        b"http://192.168.0.1:80/index.html",
        "http://192.168.0.1/index.html",
    ),
    (
        b"http://a.com/foo/.././bar/./../foo.html",
        "http://a.com/foo.html",
    ),
    (b"http://a.com//a//b///c////", "http://a.com/a/b/c/"),
    (
        b"www.google.com:8080/foo.html",
        "http://www.google.com/foo.html",
    ),
    (b"www.google.com:80", "http://www.google.com/"),
];

/// Where we differ on purpose: what the client says, what we say, and why
const DIFFERENCES: &[(&[u8], &str, &str, &str)] = &[(
    b"http://[::192.9.5.5]/ipng",
    "http://[::192.9.5.5]/ipng",
    "http://[::c009:505]/ipng",
    "v5 normalises IPv6 addresses, and one spelling has to meet the other: RFC 5952",
)];

/// No host, or nothing that is fetched from one
const NOTHING: &[&[u8]] = &[
    b"",
    b":",
    b"/blah",
    b"#ref",
    b"/blah#ref",
    b"?query#ref",
    b"/blah?query#ref",
    b"/blah;param",
    b"http://#ref",
    b"http:///blah#ref",
    b"http://?query#ref",
    b"http:///blah?query#ref",
    b"http:///blah;param",
    b"http:///blah;param?query#ref",
    b"mailto:bryner@google.com",
    b"javascript:alert(1)",
    b"data:text/html,x",
    b"http:www.google.com:8080/foo.html",
    b"www.google.com:xxyy/foo.html:80",
    b":8080/foo.html",
];

#[test]
fn canonical_urls() {
    for (url, expected) in SPECIFICATION.iter().chain(CLIENTS) {
        let canonical = SafeBrowsing::parse(url);
        let canonical = canonical.as_ref().map(SafeBrowsing::as_str);
        assert_eq!(canonical, Some(*expected), "{}", url.escape_ascii());
        // The canonical form is its own.
        let again = SafeBrowsing::parse(expected.as_bytes());
        assert_eq!(again.as_ref().map(SafeBrowsing::as_str), canonical);
    }
}

#[test]
fn expected_differences() {
    for (url, theirs, ours, why) in DIFFERENCES {
        let canonical = SafeBrowsing::parse(url);
        let canonical = canonical.as_ref().map(SafeBrowsing::as_str);
        assert_eq!(canonical, Some(*ours), "{why}");
        assert_ne!(ours, theirs);
    }
}

#[test]
fn no_host() {
    for url in NOTHING {
        assert_eq!(SafeBrowsing::parse(url), None, "{}", url.escape_ascii());
    }
}

#[test]
fn addresses() {
    for (text, expected) in [
        ("123.123.0.0.1", None),
        ("255.0.0.1", Some("255.0.0.1")),
        ("12.0x12.01234", Some("12.18.2.156")),
        ("276.2.3", Some("20.2.0.3")),
        ("012.034.01.055", Some("10.28.1.45")),
        ("0x12.0x43.0x44.0x01", Some("18.67.68.1")),
        ("167838211", Some("10.1.2.3")),
        ("3279880203", Some("195.127.0.11")),
        ("4294967295", Some("255.255.255.255")),
        ("10.192.95.89 xy", Some("10.192.95.89")),
        ("10.192.95.89 xyz.example", None),
        ("1.2.3.00x0", None),
    ] {
        let address = parse_ipv4(text, Spelling::Legacy).map(|(address, _)| address.to_string());
        assert_eq!(address.as_deref(), expected, "{text}");
    }
}

fn expressions(url: &str) -> Vec<String> {
    let url = SafeBrowsing::parse(url.as_bytes()).unwrap();
    url.expressions()
        .map(|expression| expression.text.to_owned())
        .collect()
}

#[test]
fn lookup_expressions() {
    for (url, expected) in [
        (
            "http://a.b.c/1/2.html?param=1",
            &[
                "a.b.c/1/2.html?param=1",
                "a.b.c/1/2.html",
                "a.b.c/",
                "a.b.c/1/",
                "b.c/1/2.html?param=1",
                "b.c/1/2.html",
                "b.c/",
                "b.c/1/",
            ][..],
        ),
        (
            "http://a.b.c.d.e.f.g/1.html",
            &[
                "a.b.c.d.e.f.g/1.html",
                "a.b.c.d.e.f.g/",
                "c.d.e.f.g/1.html",
                "c.d.e.f.g/",
                "d.e.f.g/1.html",
                "d.e.f.g/",
                "e.f.g/1.html",
                "e.f.g/",
                "f.g/1.html",
                "f.g/",
            ],
        ),
        ("http://1.2.3.4/1/", &["1.2.3.4/1/", "1.2.3.4/"]),
        (
            "http://a.b.c/1/2.html?param=1/2",
            &[
                "a.b.c/1/2.html?param=1/2",
                "a.b.c/1/2.html",
                "a.b.c/",
                "a.b.c/1/",
                "b.c/1/2.html?param=1/2",
                "b.c/1/2.html",
                "b.c/",
                "b.c/1/",
            ],
        ),
        (
            "http://a.b.c/1/2/3/4/5/",
            &[
                "a.b.c/1/2/3/4/5/",
                "a.b.c/",
                "a.b.c/1/",
                "a.b.c/1/2/",
                "a.b.c/1/2/3/",
                "b.c/1/2/3/4/5/",
                "b.c/",
                "b.c/1/",
                "b.c/1/2/",
                "b.c/1/2/3/",
            ],
        ),
        (
            "http://a.b.c.d.e/1.html",
            &[
                "a.b.c.d.e/1.html",
                "a.b.c.d.e/",
                "b.c.d.e/1.html",
                "b.c.d.e/",
                "c.d.e/1.html",
                "c.d.e/",
                "d.e/1.html",
                "d.e/",
            ],
        ),
        ("http://a.b/?", &["a.b/"]),
        ("http://a.b/", &["a.b/"]),
        ("http://b/", &["b/"]),
        (
            "http://[2001:470:1:18::114]/a/b",
            &[
                "[2001:470:1:18::114]/a/b",
                "[2001:470:1:18::114]/",
                "[2001:470:1:18::114]/a/",
            ],
        ),
    ] {
        assert_eq!(expressions(url), expected, "{url}");
    }
}

/// The Go client takes seven hosts of a long name, the specification and Chromium five.
#[test]
fn hosts_of_a_long_name() {
    let hosts = [
        "a.b.c.d.e.f.g.h.i/",
        "e.f.g.h.i/",
        "f.g.h.i/",
        "g.h.i/",
        "h.i/",
    ];
    assert_eq!(expressions("http://a.b.c.d.e.f.g.h.i/"), hosts);
}

#[test]
fn never_more_than_thirty() {
    let deep = expressions("http://a.b.c.d.e.f.g/1/2/3/4/5/6.html?q=1");
    assert_eq!(deep.len(), 30);
}
