//! The features of a URL. What is no feature, on purpose: the scheme, `www.`, that there is a path, a date.

use super::brand::{Brands, Name};
use super::bytes::Fnv;
use super::confusable::Skeleton;
use super::model::{CLASSES, Model};
use super::text::SCRIPTS_MIXED;
use super::view::{Parts, Site, View};
use super::{Tables, text};

/// One feature of a URL: it is there or it isn't
#[derive(Clone, Copy, Debug)]
pub(super) enum Feature {
    /// A dimension has a value (15 stands for everything above)
    Dim(Dim, usize),
    /// The host ends in a suffix
    Suffix(u32),
    /// The host contains a run of characters
    HostGram(u64),
    /// Path or query contain a run of characters
    PathGram(u64),
}

/// Groups of features: what evidence names
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// Runs of characters in the host
    HostPattern,
    /// Runs of characters in path and query
    PathPattern,
    /// Lengths, digits, hyphens, labels of the host
    HostShape,
    /// Lengths, depths, kinds of the path and the query
    PathShape,
    /// A name that nobody made up by hand
    Generated,
    /// The suffix of a registry
    Suffix,
    /// A suffix under which everybody gets a name
    Hosting,
    /// A brand's name in somebody else's host
    BrandHost,
    /// A brand's name in a path elsewhere
    BrandPath,
    /// A name that is nearly a brand's
    LookAlike,
    /// A name that looks like a brand's in other letters
    Homograph,
    /// Scripts mixed in one label
    MixedScript,
    /// An unusual port
    Port,
    /// A user's name before the host
    Userinfo,
    /// An address instead of a name
    Address,
}

impl Group {
    pub(super) const COUNT: usize = 15;
    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::HostPattern,
        Self::PathPattern,
        Self::HostShape,
        Self::PathShape,
        Self::Generated,
        Self::Suffix,
        Self::Hosting,
        Self::BrandHost,
        Self::BrandPath,
        Self::LookAlike,
        Self::Homograph,
        Self::MixedScript,
        Self::Port,
        Self::Userinfo,
        Self::Address,
    ];
}

macro_rules! dims {
    ($($dim:ident => $group:ident,)*) => {
        /// What is measured
        #[derive(Clone, Copy, Debug)]
        pub(super) enum Dim { $($dim),* }
        pub(super) const DIMS: usize = [$(Dim::$dim),*].len();
        impl Dim {
            fn group(self) -> Group {
                match self { $(Self::$dim => Group::$group),* }
            }
            #[cfg(feature = "write")]
            const ALL: [Self; DIMS] = [$(Self::$dim),*];
        }
    };
}

dims! {
    CoreLength => HostShape,
    CoreDigits => HostShape,
    CoreHyphens => HostShape,
    CoreTurns => Generated,
    CoreNumber => HostShape,
    CoreConsonants => Generated,
    CoreBigrams => Generated,
    CoreVowels => Generated,
    SubLabels => HostShape,
    SubLength => HostShape,
    SubDigits => HostShape,
    SubHyphens => HostShape,
    SubBigrams => Generated,
    SubLongest => HostShape,
    SubConsonants => Generated,
    NameLength => HostShape,
    HexLabel => Generated,
    TldKind => Suffix,
    Hosted => Hosting,
    BrandCore => BrandHost,
    BrandSub => BrandHost,
    BrandHosted => BrandHost,
    BrandInPath => BrandPath,
    Alike => LookAlike,
    SameSkeleton => Homograph,
    Script => MixedScript,
    OddPort => Port,
    User => Userinfo,
    Literal => Address,
    HostWords => HostShape,
    PathDepth => PathShape,
    PathLength => PathShape,
    PathExtension => PathShape,
    PathDigits => PathShape,
    PathUpper => PathShape,
    PathLongest => PathShape,
    PathBigrams => Generated,
    PathMarks => PathShape,
    PathEscapes => PathShape,
    QueryLength => PathShape,
    QueryFields => PathShape,
    QueryMarks => PathShape,
}

/// A URL cut up, with the tables at hand
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a, 't> {
    view: View<'a>,
    tables: Tables<'t>,
    parts: Option<Parts<'a>>,
    /// Whether a brand owns the host
    owned: bool,
}

impl<'a, 't> Input<'a, 't> {
    pub(super) fn of(view: &View<'a>, tables: &Tables<'t>) -> Self {
        let parts = match view.host {
            Site::Name(name) => Some(Parts::of(name, &tables.suffixes)),
            Site::Address(_) => None,
        };
        let owned = parts.is_some_and(|parts| {
            let everywhere = parts.platform.is_empty()
                && (parts.tld.len() == 2 || matches!(parts.tld, b"com" | b"net" | b"org"));
            tables
                .brands
                .owned(parts.registrable, parts.core, everywhere)
                || (!parts.platform.is_empty() && tables.brands.owned(parts.platform, &[], false))
        });
        Self {
            view: *view,
            tables: *tables,
            parts,
            owned,
        }
    }

    /// Whether a brand's owner has the host
    pub(super) fn is_owned(&self) -> bool {
        self.owned
    }

    /// The brand that the host imitates or names, if it isn't the brand's own
    pub(super) fn brand(&self) -> Option<Name<'t>> {
        let parts = self.parts.filter(|_| !self.owned)?;
        let brands = &self.tables.brands;
        let labels = [parts.core, parts.sub];
        let words = || labels.into_iter().flat_map(text::tokens);
        homograph(parts.core, &self.tables)
            .map(|(name, _)| name)
            .or_else(|| {
                words()
                    .filter_map(|token| by_name(token, brands))
                    .find(|name| name.strong)
            })
            .or_else(|| {
                labels
                    .into_iter()
                    .find_map(|label| Some(brands.within(label)?.0))
            })
            .or_else(|| words().find_map(|token| Some(alike(token, &self.tables)?.0)))
            .or_else(|| words().find_map(|token| by_name(token, brands)))
    }
}

impl Feature {
    /// What is too rare among the URLs that the model is fitted on and yet tells by itself: the score that it
    /// gives at least
    pub(super) fn floor(self) -> u8 {
        match self {
            Self::Dim(Dim::SameSkeleton, 1) => 65,
            Self::Dim(Dim::SameSkeleton, _) | Self::Dim(Dim::Alike, ALIKE_BUT_DIGITS) => 45,
            Self::Dim(Dim::Script, SCRIPTS_MIXED) | Self::Dim(Dim::User, _) => 42,
            Self::Dim(Dim::Literal, LITERAL_SERVES) => 55,
            _ => 0,
        }
    }
}

/// A whole label is a brand's name with digits or letters that look like its letters
const ALIKE_BUT_DIGITS: usize = 6;
/// An address serves programs, or serves on a port of its own
const LITERAL_SERVES: usize = 3;

/// What is done with features
pub(super) trait Visit {
    /// Takes a feature
    fn feature(&mut self, group: Group, feature: Feature);

    /// Takes the runs of characters of a part of the host. There are many: who sums up does without the detour.
    fn host_grams(&mut self, field: u64, text: &[u8]) {
        grams(field, text, |hash| {
            self.feature(Group::HostPattern, Feature::HostGram(hash));
        });
    }

    /// Takes the runs of characters of the path or the query
    fn path_grams(&mut self, field: u64, text: &[u8]) {
        grams(field, text, |hash| {
            self.feature(Group::PathPattern, Feature::PathGram(hash));
        });
    }
}

/// Hands each feature to a visitor
pub(super) fn each(input: &Input<'_, '_>, visit: &mut impl Visit) {
    let mut dim = |dim: Dim, value: usize| visit.feature(dim.group(), Feature::Dim(dim, value));
    match input.view.port {
        None => {}
        Some(80 | 443 | 8080 | 8443) => dim(Dim::OddPort, 1),
        Some(_) => dim(Dim::OddPort, 2),
    }
    if input.view.userinfo {
        dim(Dim::User, 1);
    }
    match (input.view.host, &input.parts) {
        // A brand's own name: nothing in it speaks against it.
        (Site::Name(_), Some(_)) if input.owned => {}
        (Site::Name(_), Some(parts)) => host(parts, &input.tables, visit),
        (Site::Address(address), _) => {
            dim(Dim::Literal, if address.is_ipv4() { 1 } else { 2 });
            let port = input
                .view
                .port
                .is_some_and(|port| port != 80 && port != 443);
            if port || text::extension(input.view.path) == text::PROGRAM {
                dim(Dim::Literal, LITERAL_SERVES);
            }
        }
        (Site::Name(_), None) => {}
    }
    // Nor in what it serves: strangers' pages are under suffixes of their own.
    if !input.owned && input.view.has_path() {
        path(input, visit);
    }
}

fn host<'a>(parts: &Parts<'a>, tables: &Tables<'_>, visit: &mut impl Visit) {
    let model = &tables.model;
    let hosted = !parts.platform.is_empty();
    suffixes(parts, visit);
    let mut dim = |dim: Dim, value: usize| visit.feature(dim.group(), Feature::Dim(dim, value));

    // Punycode is no spelling: of such names only the letters that they stand for are looked at.
    let plain = |label: &'a [u8]| if text::is_encoded(label) { &[] } else { label };
    let (core_text, sub_text) = (plain(parts.core), plain(parts.sub));
    if !core_text.is_empty() {
        let core = text::Profile::of(core_text);
        dim(Dim::CoreLength, core.length / 2);
        dim(Dim::CoreHyphens, core.hyphens);
        dim(Dim::CoreTurns, core.turns);
        dim(Dim::CoreConsonants, core.consonants);
        if core.digits == core.length {
            dim(Dim::CoreNumber, core.length);
        } else {
            dim(Dim::CoreDigits, core.digits);
        }
        if core.letters >= 4 {
            let vowels = core.vowels.saturating_mul(12).checked_div(core.letters);
            dim(Dim::CoreVowels, vowels.unwrap_or(0));
            dim(Dim::CoreBigrams, bigrams(core_text, model));
        }
        let length = parts.core.len().saturating_add(parts.sub.len());
        dim(Dim::NameLength, length / 4);
    }
    if !sub_text.is_empty() {
        let sub = text::Profile::of(sub_text);
        dim(Dim::SubLabels, sub.dots.saturating_add(1));
        dim(Dim::SubLength, sub.length / 3);
        dim(Dim::SubDigits, sub.digits);
        dim(Dim::SubHyphens, sub.hyphens);
        dim(Dim::SubLongest, sub.longest / 3);
        dim(Dim::SubConsonants, sub.consonants);
        if sub.letters >= 4 {
            dim(Dim::SubBigrams, bigrams(sub_text, model));
        }
    }
    for label in sub_text.split(|byte| *byte == b'.').chain([core_text]) {
        if text::is_hexadecimal(label) {
            dim(Dim::HexLabel, label.len() / 4);
        }
    }
    for token in text::tokens(parts.sub).chain(text::tokens(parts.core)) {
        match token {
            b"com" | b"net" | b"org" | b"co" | b"gov" => dim(Dim::HostWords, 1),
            b"www" | b"http" | b"https" | b"html" | b"php" => dim(Dim::HostWords, 2),
            _ => {}
        }
    }
    brand(parts, tables, hosted, &mut dim);
    let field = if hosted { 5 } else { 1 };
    visit.host_grams(field, core_text);
    if !sub_text.is_empty() {
        visit.host_grams(2, sub_text);
    }
}

/// The kinds of names under which suffixes stand in the model
pub(super) fn suffix_name(kind: u8, suffix: &[u8]) -> u32 {
    (Fnv::new().byte(kind).bytes(suffix).finish() >> 32) as u32
}

fn suffixes(parts: &Parts<'_>, visit: &mut impl Visit) {
    // Under a shared host, the registry's suffix is the host's and not the tenant's.
    if !parts.platform.is_empty() {
        visit.feature(Group::Hosting, Feature::Dim(Dim::Hosted, 1));
        visit.feature(
            Group::Hosting,
            Feature::Suffix(suffix_name(2, parts.platform)),
        );
        return;
    }
    let kind = match parts.tld {
        b"com" | b"net" | b"org" => 1,
        b"edu" | b"gov" | b"mil" | b"int" | b"arpa" => 2,
        b"info" | b"biz" | b"name" | b"pro" | b"mobi" => 3,
        tld if tld.starts_with(b"xn--") => 4,
        tld if tld.len() == 2 => 5,
        _ => 6,
    };
    visit.feature(Group::Suffix, Feature::Dim(Dim::TldKind, kind));
    visit.feature(Group::Suffix, Feature::Suffix(suffix_name(0, parts.tld)));
    if parts.registry.len() > parts.tld.len() {
        visit.feature(
            Group::Suffix,
            Feature::Suffix(suffix_name(1, parts.registry)),
        );
    }
}

fn brand(parts: &Parts<'_>, tables: &Tables<'_>, hosted: bool, dim: &mut impl FnMut(Dim, usize)) {
    let brands = &tables.brands;
    let mut named = false;
    let (mut core, mut near) = (0usize, 0usize);
    for token in text::tokens(parts.core) {
        let whole = token.len() == parts.core.len();
        if let Some(name) = by_name(token, brands) {
            core = core.max(match (whole, name.strong) {
                (true, true) => 7,
                (false, true) => 6,
                (true, false) => 1,
                (false, false) => 2,
            });
        } else if let Some((name, distance)) = alike(token, tables) {
            near = near.max(match (distance, name.text.len()) {
                (0, _) => ALIKE_BUT_DIGITS,
                (1, 8..) => 5,
                (1, 6..) => 4,
                (1, _) => 3,
                _ => 2,
            });
            if !whole {
                near = near.saturating_add(6);
            }
        }
    }
    if core < 3
        && let Some((name, at)) = brands.within(parts.core)
    {
        core = match (at, at.saturating_add(name.text.len()) == parts.core.len()) {
            (0, _) => 5,
            (_, true) => 4,
            _ => 3,
        };
    }
    if core > 0 {
        named = core > 2;
        dim(Dim::BrandCore, core);
    }
    let mut sub = 0;
    for token in text::tokens(parts.sub) {
        if let Some(name) = by_name(token, brands) {
            sub = sub.max(if name.strong { 4 } else { 1 });
        } else if sub == 0 && near == 0 && alike(token, tables).is_some() {
            near = 13;
        }
    }
    if sub < 4 && brands.within(parts.sub).is_some() {
        sub = 3;
    }
    if sub > 0 {
        named |= sub > 2;
        dim(Dim::BrandSub, sub);
    }
    if near > 0 && !named {
        dim(Dim::Alike, near);
    }
    if hosted && named {
        dim(Dim::BrandHosted, 1);
    }
    if let Some((_, kind)) = homograph(parts.core, tables) {
        dim(Dim::SameSkeleton, kind);
    }
    if parts.core.starts_with(b"xn--") {
        dim(Dim::Script, text::script(parts.core));
    }
}

/// The brand whose name a token is, be there digits at its ends
fn by_name<'t>(token: &[u8], brands: &Brands<'t>) -> Option<Name<'t>> {
    let stem = text::stem(token);
    let whole = brands.exact(token);
    if stem.len() < token.len() {
        whole.or_else(|| brands.exact(stem))
    } else {
        whole
    }
}

/// The brand that a token nearly is, and by how many edits; 0 are letters that look alike
fn alike<'t>(token: &[u8], tables: &Tables<'t>) -> Option<(Name<'t>, u8)> {
    if !(4..=26).contains(&token.len()) || token.starts_with(b"xn--") {
        return None;
    }
    let brands = &tables.brands;
    if let Some(name) = Skeleton::ascii(token).and_then(|skeleton| brands.seen_as(&skeleton))
        && name.text.as_bytes() != text::stem(token)
    {
        return Some((name, 0));
    }
    brands.alike(text::stem(token))
}

/// The brand that a label in other letters looks like: 1 letter by letter, 2 but for accents
fn homograph<'t>(core: &[u8], tables: &Tables<'t>) -> Option<(Name<'t>, usize)> {
    if !core.starts_with(b"xn--") {
        return None;
    }
    let characters = text::unicode(core)?;
    let skeleton = Skeleton::unicode(&characters, &tables.confusables)?;
    let name = tables.brands.seen_as(&skeleton)?;
    Some((name, if skeleton.accent { 2 } else { 1 }))
}

/// How much of a path and of a query is read letter by letter
const LOOKED_AT: usize = 160;

fn path(input: &Input<'_, '_>, visit: &mut impl Visit) {
    let (path, query) = (input.view.path, input.view.query);
    let (mut path_buffer, mut query_buffer) = ([0u8; LOOKED_AT], [0u8; LOOKED_AT]);
    let lower = text::squeeze(path, &mut path_buffer);
    let query_lower = text::squeeze(query, &mut query_buffer);

    let mut dim = |dim: Dim, value: usize| visit.feature(dim.group(), Feature::Dim(dim, value));
    if path.len() > 1 {
        let whole = text::Profile::of(path);
        dim(Dim::PathDepth, whole.slashes);
        dim(Dim::PathLength, whole.length / 8);
        dim(Dim::PathDigits, whole.digits / 2);
        dim(Dim::PathUpper, whole.upper / 2);
        dim(Dim::PathLongest, whole.longest / 4);
        dim(Dim::PathExtension, text::extension(lower));
        if whole.escapes > 0 {
            dim(Dim::PathEscapes, whole.escapes);
        }
        if whole.letters >= 4 {
            dim(Dim::PathBigrams, bigrams(lower, &input.tables.model));
        }
        text::path_marks(lower, &mut |mark| dim(Dim::PathMarks, mark));
    }
    if !query.is_empty() {
        dim(Dim::QueryLength, query.len() / 8);
        dim(
            Dim::QueryFields,
            query.iter().filter(|byte| **byte == b'=').count(),
        );
        text::query_marks(query_lower, &mut |mark| dim(Dim::QueryMarks, mark));
    }
    let brands = &input.tables.brands;
    let names = text::tokens(lower).filter_map(|token| by_name(token, brands));
    match names.map(|name| name.strong).max() {
        Some(true) => dim(Dim::BrandInPath, 3),
        _ if brands.within(lower).is_some() => dim(Dim::BrandInPath, 2),
        Some(false) => dim(Dim::BrandInPath, 1),
        None => {}
    }
    if path.len() > 1 {
        visit.path_grams(3, lower);
    }
    if !query.is_empty() {
        visit.path_grams(4, query_lower);
    }
}

/// Hashes of the runs of three to five characters, borders and whole tokens included
pub(super) fn grams(field: u64, text: &[u8], mut visit: impl FnMut(u64)) {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let salt = |n: u64| field << 60 ^ n << 56;
    let (three, four, five) = (salt(3), salt(4), salt(5));
    let mut window = 0u64;
    let mut token = Fnv::new();
    let mut token_length = 0u32;
    for at in 0..=text.len().saturating_add(1) {
        let byte = match at.checked_sub(1) {
            None => b'^',
            Some(at) => text.get(at).copied().unwrap_or(b'$'),
        };
        let byte = if byte.is_ascii_digit() { b'0' } else { byte };
        window = window << 8 | u64::from(byte);
        if at >= 2 {
            visit((window & 0xff_ffff ^ three).wrapping_mul(SPREAD));
        }
        if at >= 3 {
            visit((window & 0xffff_ffff ^ four).wrapping_mul(SPREAD));
        }
        if at >= 4 {
            visit((window & 0xff_ffff_ffff ^ five).wrapping_mul(SPREAD));
        }
        if byte.is_ascii_alphanumeric() {
            token = token.byte(byte);
            token_length = token_length.saturating_add(1);
        } else {
            if token_length >= 2 {
                visit(token.byte(field as u8).finish());
            }
            token = Fnv::new();
            token_length = 0;
        }
    }
}

/// How usual the letters of a name follow each other, in sixteen steps; 0 is the most unusual
fn bigrams(text: &[u8], model: &Model<'_>) -> usize {
    let mut previous = 0;
    let (mut sum, mut count) = (0i32, 0i32);
    for byte in text.iter().chain(b".") {
        let next = class(*byte);
        sum = sum.saturating_add(model.follows(previous, next));
        count = count.saturating_add(1);
        previous = next;
    }
    // Eighths of bits a letter, from about -1 to +1 bit.
    let mean = sum.saturating_mul(2).checked_div(count).unwrap_or(0);
    usize::try_from(mean.saturating_add(10).clamp(0, 30) / 2).unwrap_or(0)
}

/// The class of a character: letters one by one, digits as one, hyphens, everything else, borders (0)
pub(super) fn class(byte: u8) -> usize {
    let class = match byte {
        b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(1),
        b'A'..=b'Z' => byte.wrapping_sub(b'A').wrapping_add(1),
        b'0'..=b'9' => 27,
        b'-' => 28,
        b'.' | b'/' => 0,
        _ => 29,
    };
    usize::from(class).min(CLASSES.saturating_sub(1))
}

#[cfg(feature = "write")]
pub(super) fn dimension_group(index: usize) -> Option<(alloc::string::String, Group)> {
    let dim = Dim::ALL.get(index)?;
    Some((alloc::format!("{dim:?}"), dim.group()))
}
