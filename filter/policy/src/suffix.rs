//! Public suffixes: names under which others register theirs, so that nobody has access to one.

/// Whether a name in its ASCII form is a public suffix, as far as this table knows
///
/// Every top-level domain, and the suffixes of two labels under which most names are registered or
/// hosted. The whole list (publicsuffix.org) has some ten thousand rules and changes daily: it is no
/// part of this module, so a policy can name more (`domain_access.suffixes`). What is missing here is
/// taken for a domain of its own, which matters where subdomains are included.
pub(crate) fn is_public(name: &str) -> bool {
    let Some((label, zone)) = name.split_once('.') else {
        return true;
    };
    let row = TABLE.iter().find(|(known, _)| *known == zone);
    row.is_some_and(|(_, labels)| labels.split(' ').any(|known| known == label))
}

/// Zones, and the labels below them that make a suffix
///
/// From the registries' own second levels, and from hosts that give names to anybody.
const TABLE: &[(&str, &str)] = &[
    ("ae", "ac co gov mil net org sch"),
    ("app", "netlify vercel web"),
    ("ar", "com edu gob gov int mil net org tur"),
    ("at", "ac co gv or"),
    ("au", "asn com edu gov id net org"),
    ("bd", "ac com edu gov mil net org"),
    ("br", "art blog com edu eng gov ind jus leg mil net org tv"),
    ("cn", "ac com edu gov mil net org"),
    ("co", "com edu gov mil net nom org"),
    (
        "com",
        "appspot blogspot firebaseapp github herokuapp myshopify onrender wordpress",
    ),
    ("cy", "ac biz com gov ltd net org press pro"),
    ("dev", "deno fly pages workers"),
    ("ec", "com edu fin gob gov info med mil net org pro"),
    ("eg", "com edu eun gov mil net org sci"),
    ("es", "com edu gob nom org"),
    ("gr", "com edu gov net org"),
    ("hk", "com edu gov idv net org"),
    ("hu", "co org"),
    ("id", "ac co desa go mil my net or sch web"),
    ("il", "ac co gov idf k12 muni net org"),
    ("in", "ac co edu firm gen gov ind mil net nic org res"),
    ("io", "github gitlab ngrok"),
    ("jp", "ac ad co ed go gr lg ne or"),
    ("ke", "ac co go info me mobi ne or sc"),
    ("kr", "ac co es go hs kg mil ms ne or pe re sc"),
    ("mx", "com edu gob net org"),
    ("my", "com edu gov mil name net org"),
    ("net", "azurewebsites cloudfront"),
    ("ng", "com edu gov mil mobi name net org sch"),
    (
        "nz",
        "ac co cri geek gen govt iwi kiwi maori mil net org school",
    ),
    ("pe", "com edu gob mil net nom org"),
    ("ph", "com edu gov mil net ngo org"),
    ("pk", "com edu fam gob gok gov net org web"),
    ("pl", "com edu gov info mil net org"),
    ("pt", "com edu gov int net nome org publ"),
    ("ro", "com firm info nom org rec store www"),
    ("rs", "ac co edu gov in org"),
    ("sa", "com edu gov med net org pub sch"),
    ("sg", "com edu gov net org per"),
    ("th", "ac co go in mi net or"),
    (
        "tr",
        "av bbs bel biz com dr edu gen gov info k12 kep mil name net org pol tel tv web",
    ),
    ("tw", "club com ebiz edu game gov idv mil net org"),
    ("ua", "com edu gov in net org"),
    ("uk", "ac co gov ltd me net nhs org plc police sch"),
    ("us", "fed isa kids nsn"),
    ("uy", "com edu gub mil net org"),
    ("ve", "co com edu gob info mil net org web"),
    ("vn", "ac biz com edu gov health info int name net org pro"),
    (
        "za",
        "ac agric co edu gov law mil net ngo nom org school web",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes() {
        for name in [
            "com",
            "example",
            "xn--p1ai",
            "co.uk",
            "com.br",
            "github.io",
            "workers.dev",
        ] {
            assert!(is_public(name), "{name}");
        }
        for name in [
            "acme.example",
            "co.example",
            "example.co.uk",
            "uk.co",
            "a.github.io",
            "co.de",
        ] {
            assert!(!is_public(name), "{name}");
        }
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|(a, _), (b, _)| a < b));
        for (zone, labels) in TABLE {
            assert!(labels.split(' ').is_sorted_by(|a, b| a < b), "{zone}");
        }
    }
}
