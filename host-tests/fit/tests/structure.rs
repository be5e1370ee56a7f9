//! What structural evidence says of the committed tables and of examples of our own.

#![cfg(test)]

use std::sync::LazyLock;

use portcullis_fit::{SHARED_HOSTS, Sections, sections, suffixes};
use portcullis_threat::structure::{Findings, Suffixes, Tables, examine};
use portcullis_threat::{Code, EvidenceList, Target};
use proptest::prelude::*;

static SECTIONS: LazyLock<Sections> = LazyLock::new(|| sections().expect("the committed data"));

const BRAND: [Code; 4] = [
    Code::BrandInHost,
    Code::BrandInPath,
    Code::BrandLookAlike,
    Code::BrandHomograph,
];

struct Seen {
    total: u8,
    brand: Option<String>,
    evidence: EvidenceList,
}

impl Seen {
    fn has(&self, code: Code) -> bool {
        self.evidence.iter().any(|evidence| evidence.code == code)
    }
}

fn look_with(url: &str, tables: &Tables<'_>) -> Seen {
    let target = Target::classify(url);
    let mut evidence = EvidenceList::default();
    let found = match target.web() {
        Some(web) => examine(web, tables, &mut evidence),
        None => Findings::default(),
    };
    Seen {
        total: found.total.get(),
        brand: found.brand.map(String::from),
        evidence,
    }
}

fn look(url: &str) -> Seen {
    look_with(url, &SECTIONS.tables().expect("the committed tables"))
}

#[test]
fn registrable_domains() {
    let suffixes = Suffixes::new(&SECTIONS.suffixes).expect("the committed list");
    let cases = [
        ("com", None),
        ("example.com", Some("example.com")),
        ("a.b.example.com", Some("example.com")),
        ("co.uk", None),
        ("shop.example.co.uk", Some("example.co.uk")),
        ("kobe.jp", Some("kobe.jp")),
        ("c.kobe.jp", None),
        ("b.c.kobe.jp", Some("b.c.kobe.jp")),
        ("a.b.c.kobe.jp", Some("b.c.kobe.jp")),
        ("city.kobe.jp", Some("city.kobe.jp")),
        ("www.city.kobe.jp", Some("city.kobe.jp")),
        ("www.ck", Some("www.ck")),
        ("www.www.ck", Some("www.ck")),
        ("b.test.ck", Some("b.test.ck")),
        (
            "xn--85x722f.xn--55qx5d.cn",
            Some("xn--85x722f.xn--55qx5d.cn"),
        ),
        ("example.unlisted", Some("example.unlisted")),
        ("a.example.unlisted", Some("example.unlisted")),
        ("unlisted", None),
        ("github.io", None),
        ("me.github.io", Some("me.github.io")),
        ("a.me.github.io", Some("me.github.io")),
        ("", None),
        (".", None),
        ("..", None),
    ];
    for (host, wanted) in cases {
        let found = suffixes
            .registrable(host.as_bytes())
            .and_then(|start| host.get(start..));
        assert_eq!(
            found.filter(|found| !found.starts_with('.') && !found.is_empty()),
            wanted,
            "{host}"
        );
    }
    assert!(suffixes.find(b"me.github.io").is_private());
    assert!(!suffixes.find(b"example.co.uk").is_private());
}

#[test]
fn names_that_look_like_a_brand_in_other_letters() {
    // Whole words in Cyrillic: no script is mixed in them.
    for (url, brand) in [
        ("https://аррӏе.com/", "apple"),
        ("https://www.раураӏ.com/", "paypal"),
        ("https://pаypal.com/", "paypal"),
        ("https://аmazon.top/", "amazon"),
        ("https://gооgle.com/", "google"),
        ("https://nеtflix.com/login", "netflix"),
    ] {
        let seen = look(url);
        assert!(seen.total >= 60, "{url}: {}", seen.total);
        assert!(seen.has(Code::BrandHomograph), "{url}: {:?}", seen.evidence);
        assert_eq!(seen.brand.as_deref(), Some(brand), "{url}");
    }
    // But for an accent, it is the brand's name.
    let seen = look("https://pàypal.com/");
    assert!(
        seen.total >= 40 && seen.has(Code::BrandHomograph),
        "{}",
        seen.total
    );
}

#[test]
fn names_in_their_peoples_own_letters_are_quiet() {
    for url in [
        "https://правительство.рф/",
        "https://почта.рф/",
        "https://пример.укр/о-нас",
        "https://例え.jp/",
        "https://日本語.jp/案内",
        "https://中国.中国/",
        "https://bücher.de/",
        "https://müller.de/kontakt",
        "https://españa.es/",
        "https://ελλάδα.gr/",
        "https://مثال.مصر/",
        "https://उदाहरण.भारत/",
        "https://한국.한국/",
    ] {
        let seen = look(url);
        assert!(seen.total < 40, "{url}: {} {:?}", seen.total, seen.evidence);
        assert!(
            !BRAND.iter().any(|code| seen.has(*code)),
            "{url}: {:?}",
            seen.evidence
        );
    }
}

#[test]
fn owners_are_at_home() {
    for url in [
        "https://www.paypal.com/signin",
        "https://www.amazon.co.jp/gp/css/order-history",
        "https://amazon.de/",
        "https://login.microsoftonline.com/common/oauth2/authorize?client_id=1",
        "https://outlook.live.com/mail/",
        "https://accounts.google.com/signin/v2/identifier",
        "https://www.google.co.uk/search?q=netflix",
        "https://appleid.apple.com/sign-in",
        "https://www.icloud.com/find",
        "https://m.facebook.com/login",
        "https://www.smbc-card.com/index.jsp",
        "https://www.rakuten-card.co.jp/e-navi/",
        "https://direct.jp-bank.japanpost.jp/",
        "https://secure.chase.com/web/auth/dashboard",
        "https://www.dhl.de/de/privatkunden.html",
        "https://tools.usps.com/go/TrackConfirmAction",
        "https://support.metamask.io/",
        "https://d111111abcdef8.cloudfront.net/app.js",
    ] {
        let seen = look(url);
        assert!(seen.total < 20, "{url}: {} {:?}", seen.total, seen.evidence);
        assert!(
            !BRAND.iter().any(|code| seen.has(*code)),
            "{url}: {:?}",
            seen.evidence
        );
    }
}

#[test]
fn strangers_with_a_brands_name() {
    for (url, brand) in [
        ("https://paypal-secure-login.com/", "paypal"),
        (
            "https://amazon.co.jp.account-verify.top/ap/signin",
            "amazon",
        ),
        ("https://netflix-billing-update.web.app/", "netflix"),
        ("https://metamask-wallet-restore.pages.dev/", "metamask"),
        ("https://usps-redelivery-fee.top/track", "usps"),
        ("https://rakuten-card-service.cn/", "rakuten"),
        (
            "https://login-microsoftonline-verify.xyz/common",
            "microsoft",
        ),
    ] {
        let seen = look(url);
        assert!(
            seen.total >= 40,
            "{url}: {} {:?}",
            seen.total,
            seen.evidence
        );
        assert!(seen.has(Code::BrandInHost), "{url}: {:?}", seen.evidence);
        assert!(
            seen.brand.is_some_and(|seen| seen.starts_with(brand)),
            "{url}"
        );
    }
    for (url, brand) in [
        ("https://paypa1.com/", "paypal"),
        ("https://g00gle.net.co/", "google"),
        ("https://rnicrosoft.com/", "microsoft"),
        ("https://netf1ix.com/", "netflix"),
    ] {
        let seen = look(url);
        assert!(
            seen.total >= 40,
            "{url}: {} {:?}",
            seen.total,
            seen.evidence
        );
        assert!(seen.has(Code::BrandLookAlike), "{url}: {:?}", seen.evidence);
        assert_eq!(seen.brand.as_deref(), Some(brand), "{url}");
    }
}

#[test]
fn one_edit_is_a_look_alike_and_a_word_is_none() {
    let brands = SECTIONS.tables().expect("the committed tables").brands;
    let near = |text: &str| {
        brands
            .alike(text.as_bytes())
            .map(|(name, edits)| (name.text, edits))
    };
    assert_eq!(near("payapl"), Some(("paypal", 1)), "neighbours swapped");
    assert_eq!(near("metamsk"), Some(("metamask", 1)), "a letter left out");
    assert_eq!(near("coinbbase"), Some(("coinbase", 1)), "a letter twice");
    assert_eq!(near("microsoftx"), Some(("microsoft", 1)));
    assert_eq!(near("micrasofft"), Some(("microsoft", 2)));
    for word in [
        "paypal", "weather", "garden", "phase", "apply", "a", "", "teamwork",
    ] {
        assert_eq!(near(word), None, "{word}");
    }
    assert_eq!(
        brands
            .within(b"securepaypallogin")
            .map(|(name, at)| (name.text, at)),
        Some(("paypal", 6))
    );
    assert_eq!(brands.within(b"interactive"), None);
}

#[test]
fn a_shared_host_alone_is_no_suspicion() {
    for url in [
        "https://my-garden.vercel.app/",
        "https://docs-preview.pages.dev/",
        "https://mybakery.weebly.com/",
        "https://rust-lang.github.io/mdBook/",
        "https://example.netlify.app/",
        "https://sites.google.com/view/myclass",
        "https://blog.example.com/",
        "https://studio.berlin/",
        "https://example.xyz/",
        "https://www.people.com.cn/",
    ] {
        let seen = look(url);
        assert!(seen.total < 40, "{url}: {} {:?}", seen.total, seen.evidence);
    }
}

#[test]
fn rare_and_telling_by_itself() {
    for (url, code) in [
        ("https://paypal.com@example.com/", Code::UserinfoPresent),
        ("http://198.51.100.7:8081/a", Code::AddressHost),
        ("http://198.51.100.7/bins/x.sh", Code::AddressHost),
    ] {
        let seen = look(url);
        assert!(
            seen.total >= 40 && seen.has(code),
            "{url}: {} {:?}",
            seen.total,
            seen.evidence
        );
    }
}

#[test]
fn the_tables_are_what_their_data_makes() {
    let again = sections().expect("the committed data");
    assert_eq!(again.suffixes, SECTIONS.suffixes);
    assert_eq!(again.brands, SECTIONS.brands);
    assert_eq!(again.confusables, SECTIONS.confusables);
    assert!(suffixes("a b c\n*.\n", SHARED_HOSTS).is_err());
    let bytes = SECTIONS.suffixes.len()
        + SECTIONS.brands.len()
        + SECTIONS.confusables.len()
        + SECTIONS.model.len();
    assert!(bytes < 160 << 10, "{bytes}");
}

/// What a host's name is made of, so that all kinds of features come up
fn urls() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        "[a-z]{1,12}",
        "[a-z0-9]{1,20}",
        "[a-z]{2,8}-[a-z0-9]{2,8}",
        "xn--[a-z0-9]{1,9}",
        prop::sample::select(vec![
            "paypal",
            "amazon-login",
            "www",
            "com",
            "rakuten",
            "paypa1"
        ])
        .prop_map(String::from),
    ];
    let suffix = prop::sample::select(vec![
        "com",
        "co.jp",
        "top",
        "vercel.app",
        "xn--p1ai",
        "kobe.jp",
        "unlisted",
    ]);
    (
        prop::collection::vec(label, 1..4),
        suffix,
        "(/[a-zA-Z0-9.%@~-]{0,30}){0,4}(\\?[a-z=&%@0-9]{0,40})?",
    )
        .prop_map(|(labels, suffix, path)| format!("{}.{suffix}{path}", labels.join(".")))
}

proptest! {
    #[test]
    fn structure_alone_never_convicts_and_shares_add_up(url in urls()) {
        let seen = look(&format!("https://{url}"));
        let shares: u32 = seen.evidence.iter().map(|evidence| u32::from(evidence.points.get())).sum();
        prop_assert!(seen.total <= 79);
        prop_assert!(shares <= u32::from(seen.total));
    }

    #[test]
    fn neither_scheme_nor_www_is_evidence(url in urls()) {
        prop_assume!(!url.starts_with("www."));
        let seen = look(&format!("https://{url}"));
        for other in [format!("http://{url}"), format!("https://www.{url}")] {
            let other = look(&other);
            prop_assert_eq!(seen.total, other.total);
            prop_assert_eq!(&seen.evidence, &other.evidence);
        }
    }

    /// Bytes of tables come from a bundle: whatever they are, nothing traps.
    #[test]
    fn tables_of_any_bytes_are_read(
        url in urls(),
        which in 0usize..4,
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200),
        shorten in any::<bool>(),
        heads in any::<bool>(),
    ) {
        let mut sections = SECTIONS.clone();
        let section = match which {
            0 => &mut sections.suffixes,
            1 => &mut sections.brands,
            2 => &mut sections.confusables,
            _ => &mut sections.model,
        };
        let reach = if heads { section.len().min(700) } else { section.len() };
        for (at, byte) in changes {
            section[at.index(reach)] = byte;
        }
        if shorten {
            section.truncate(cut.index(section.len()));
        }
        if let Some(tables) = sections.tables() {
            let seen = look_with(&format!("https://{url}"), &tables);
            prop_assert!(seen.total <= 79);
        }
    }
}
