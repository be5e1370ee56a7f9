//! Formats of feeds: what they look like, and what is meant where a feed doesn't say.

use portcullis_threat::Category;

/// A format of feeds
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Rules of uBlock Origin and other blockers
    Adblock,
    /// Feodo Tracker's CSV
    FeodoCsv,
    /// `0.0.0.0 name`
    Hosts,
    /// ipsum: an address and on how many lists it is
    Ipsum,
    /// MalwareBazaar's CSV
    MalwarebazaarCsv,
    /// Events of MISP
    Misp,
    /// Addresses and networks, as FireHOL's netsets
    Netset,
    /// PhishTank's CSV
    PhishtankCsv,
    /// PhishTank's JSON
    PhishtankJson,
    /// An indicator a line, of any kind
    Plain,
    /// polkadot-js's list: allow, deny, denySub
    Polkadot,
    /// Spamhaus DROP, a JSON object a line
    SpamhausDrop,
    /// A STIX 2.1 bundle
    Stix,
    /// ThreatFox's CSV
    ThreatfoxCsv,
    /// ThreatFox's JSON, of its dumps or of its API
    ThreatfoxJson,
    /// Tranco: rank and domain
    Tranco,
    /// URLhaus's CSV
    UrlhausCsv,
    /// A URL a line, as OpenPhish's
    UrlList,
}

/// What is meant where neither the feed nor its user says
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) licence: &'static str,
    pub(crate) category: Category,
    pub(crate) confidence: u8,
    pub(crate) validity_hours: u32,
    pub(crate) max_age_days: Option<u16>,
}

impl Format {
    /// All of them, in the order of their words
    pub const ALL: [Self; 18] = [
        Self::Adblock,
        Self::FeodoCsv,
        Self::Hosts,
        Self::Ipsum,
        Self::MalwarebazaarCsv,
        Self::Misp,
        Self::Netset,
        Self::PhishtankCsv,
        Self::PhishtankJson,
        Self::Plain,
        Self::Polkadot,
        Self::SpamhausDrop,
        Self::Stix,
        Self::ThreatfoxCsv,
        Self::ThreatfoxJson,
        Self::Tranco,
        Self::UrlhausCsv,
        Self::UrlList,
    ];

    /// The word that `FORMAT=` takes
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Adblock => "adblock",
            Self::FeodoCsv => "feodo_csv",
            Self::Hosts => "hosts",
            Self::Ipsum => "ipsum",
            Self::MalwarebazaarCsv => "malwarebazaar_csv",
            Self::Misp => "misp",
            Self::Netset => "netset",
            Self::PhishtankCsv => "phishtank_csv",
            Self::PhishtankJson => "phishtank_json",
            Self::Plain => "plain",
            Self::Polkadot => "polkadot",
            Self::SpamhausDrop => "spamhaus_drop",
            Self::Stix => "stix",
            Self::ThreatfoxCsv => "threatfox_csv",
            Self::ThreatfoxJson => "threatfox_json",
            Self::Tranco => "tranco",
            Self::UrlhausCsv => "urlhaus_csv",
            Self::UrlList => "url_list",
        }
    }

    /// By its word
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }

    /// What a content looks like; what looks like nothing else is plain
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let start = bytes.get(..LOOK.min(bytes.len())).unwrap_or_default();
        let text = String::from_utf8_lossy(start);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with(['{', '[']) && !text.starts_with("[Adblock") {
            return of_json(text);
        }
        let lines: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(200)
            .collect();
        // Columns are named in the first line, or in the last comment before the rows.
        for line in &lines {
            let names = |names: &[&str]| names.iter().all(|name| line.contains(name));
            for (columns, format) in [
                (&["dateadded", "url", "threat"][..], Self::UrlhausCsv),
                (&["ioc_value", "ioc_type"], Self::ThreatfoxCsv),
                (&["sha256_hash", "md5_hash"], Self::MalwarebazaarCsv),
                (&["dst_ip", "dst_port"], Self::FeodoCsv),
                (&["phish_id", "url"], Self::PhishtankCsv),
            ] {
                if names(columns) && line.contains(',') {
                    return format;
                }
            }
        }
        let is_adblock = |line: &&str| {
            line.starts_with("! ")
                || line.starts_with("[Adblock")
                || line.starts_with("||")
                || line.starts_with("@@")
        };
        if lines.iter().any(is_adblock) {
            return Self::Adblock;
        }
        of_rows(
            lines
                .iter()
                .copied()
                .filter(|line| !line.starts_with(['#', ';'])),
        )
    }

    pub(crate) fn defaults(self) -> Defaults {
        use Category::{CommandAndControl, Malware, Other, Phishing, Scanner, Spam};
        let (licence, category, confidence, validity_hours, max_age_days) = match self {
            Self::Adblock => (UNSTATED, Other, 75, 48, None),
            Self::FeodoCsv => ("CC0-1.0", CommandAndControl, 90, 24, Some(30)),
            Self::Hosts => (UNSTATED, Other, 70, 168, None),
            Self::Ipsum => ("Unlicense", Scanner, 50, 48, None),
            Self::MalwarebazaarCsv => ("CC0-1.0", Malware, 95, 720, None),
            Self::Misp | Self::Stix => (UNSTATED, Other, 60, 168, Some(90)),
            Self::Netset => (UNSTATED, Scanner, 60, 48, None),
            Self::PhishtankCsv | Self::PhishtankJson => {
                ("LicenseRef-PhishTank", Phishing, 90, 24, Some(30))
            }
            Self::Plain => (UNSTATED, Other, 70, 168, None),
            Self::Polkadot => ("Apache-2.0", Phishing, 85, 168, None),
            Self::SpamhausDrop => ("LicenseRef-Spamhaus-DROP", Spam, 90, 72, None),
            Self::ThreatfoxCsv | Self::ThreatfoxJson => ("CC0-1.0", Malware, 75, 24, Some(30)),
            Self::Tranco => ("LicenseRef-Tranco", Other, 100, 720, None),
            Self::UrlhausCsv => ("CC0-1.0", Malware, 90, 24, Some(30)),
            Self::UrlList => (UNSTATED, Phishing, 80, 24, None),
        };
        Defaults {
            licence,
            category,
            confidence,
            validity_hours,
            max_age_days,
        }
    }
}

/// SPDX's word for a licence that nobody told
const UNSTATED: &str = "NOASSERTION";

/// So many bytes tell a format
const LOOK: usize = 64 << 10;

fn of_json(text: &str) -> Format {
    // Keys say what it is; the whole need not be read for that.
    let has = |key: &str| text.contains(&format!("\"{key}\""));
    let first_line = text.lines().next().unwrap_or_default();
    if first_line.contains("\"cidr\"") || first_line.contains("\"asn\"") {
        Format::SpamhausDrop
    } else if has("phish_id") {
        Format::PhishtankJson
    } else if has("ioc_type") || has("query_status") {
        Format::ThreatfoxJson
    } else if has("deny") && (has("allow") || has("denySub")) {
        Format::Polkadot
    } else if has("Event") || has("Attribute") {
        Format::Misp
    } else if has("objects") || has("spec_version") || text.contains("\"bundle\"") {
        Format::Stix
    } else if text.contains("\"allow\"") {
        Format::Polkadot
    } else {
        Format::Plain
    }
}

fn of_rows<'a>(rows: impl Iterator<Item = &'a str>) -> Format {
    let is_address = |word: &str| word.parse::<std::net::IpAddr>().is_ok();
    let mut counts = [0_usize; 6];
    let mut all = 0_usize;
    for row in rows {
        let mut words = row.split([' ', '\t']).filter(|word| !word.is_empty());
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let second = second.filter(|word| !word.starts_with(['#', ';']));
        let is_number =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let network = first
            .split_once('/')
            .is_some_and(|(address, bits)| is_address(address) && is_number(bits));
        let kind = match second {
            Some(word) if is_address(first) && is_number(word) => 0,
            Some(_) if is_address(first) => 1,
            None if is_address(first) || network => 2,
            None if first.contains("://") => 3,
            None if first.split_once(',').is_some_and(|(rank, name)| {
                is_number(rank) && name.contains('.') && !name.contains(',')
            }) =>
            {
                4
            }
            _ => 5,
        };
        all = all.saturating_add(1);
        if let Some(count) = counts.get_mut(kind) {
            *count = count.saturating_add(1);
        }
    }
    let [ipsum, hosts, netset, urls, tranco, _] = counts;
    // Two rows in three: feeds have bad ones.
    let mostly = |count: usize| all > 0 && count.saturating_mul(3) >= all.saturating_mul(2);
    for (count, format) in [
        (ipsum, Format::Ipsum),
        (hosts, Format::Hosts),
        (netset, Format::Netset),
        (urls, Format::UrlList),
        (tranco, Format::Tranco),
    ] {
        if mostly(count) {
            return format;
        }
    }
    Format::Plain
}
