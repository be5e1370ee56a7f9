//! What speaks for or against a target: a closed list.

/// A kind of evidence; the words are part of the interface
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Code {
    /// A feed lists the target, or what stands above it
    FeedMatch,
    /// An allow list names it
    AllowListed,
    /// The bundle, or all feeds in it that list the target, are out of date: that counts for nothing
    BundleStale,
    /// The file that tests of virus scanners agree on (EICAR)
    TestFile,
    /// A payload carries what a feed lists
    EmbeddedMatch,
    /// A payload carries what is suspicious by itself
    EmbeddedSuspicious,
    /// A payload carries what is no outsider's business
    EmbeddedInternal,
    /// A payload carries more URLs and addresses than are looked at
    EmbeddedMany,
    /// A name that leads nowhere but inside
    NameInternal,
    /// It is private, local or reserved: no outsider's business
    AddressInternal,
    /// It is where clouds hand out credentials
    AddressMetadata,
    /// An IPv4 address in a spelling that people don't use (octal, hexadecimal, one number)
    AddressSpelling,
    /// An IPv6 address that carries an IPv4 address
    AddressEmbedded,
    /// A URL that no browser opens
    UrlInvalid,
    /// Two parsers find different hosts in it
    ParserDifferential,
    /// Escapes of escapes, more than two deep
    ExcessiveEncoding,
    /// Runs of characters in the host that the model knows from threats
    HostPattern,
    /// Runs of characters in path or query that the model knows from threats
    PathPattern,
    /// Lengths, digits, hyphens and labels of the host
    HostShape,
    /// Lengths, depth, kind of file of path and query
    PathShape,
    /// A name that a generator made, by the letters that follow each other
    NameGenerated,
    /// A suffix under which threats are common
    SuffixAbused,
    /// A shared host, under which everybody gets a name
    SharedHosting,
    /// A brand's name in a host that isn't its owner's
    BrandInHost,
    /// A brand's name in the path of such a host
    BrandInPath,
    /// A name that is nearly a brand's
    BrandLookAlike,
    /// A name that looks like a brand's in letters of another script
    BrandHomograph,
    /// A label in other letters than ASCII's, or in scripts that don't go together
    ScriptUnusual,
    /// A port that the scheme doesn't imply
    PortUnusual,
    /// A user's name or a password before the host
    UserinfoPresent,
    /// An address in place of a name
    AddressHost,
}

impl Code {
    /// The word that answers and records use
    pub fn word(self) -> &'static str {
        match self {
            Self::FeedMatch => "FEED_MATCH",
            Self::AllowListed => "ALLOW_LISTED",
            Self::BundleStale => "BUNDLE_STALE",
            Self::TestFile => "TEST_FILE",
            Self::EmbeddedMatch => "EMBEDDED_MATCH",
            Self::EmbeddedSuspicious => "EMBEDDED_SUSPICIOUS",
            Self::EmbeddedInternal => "EMBEDDED_INTERNAL",
            Self::EmbeddedMany => "EMBEDDED_MANY",
            Self::NameInternal => "NAME_INTERNAL",
            Self::AddressInternal => "ADDRESS_INTERNAL",
            Self::AddressMetadata => "ADDRESS_METADATA",
            Self::AddressSpelling => "ADDRESS_SPELLING",
            Self::AddressEmbedded => "ADDRESS_EMBEDDED",
            Self::UrlInvalid => "URL_INVALID",
            Self::ParserDifferential => "PARSER_DIFFERENTIAL",
            Self::ExcessiveEncoding => "EXCESSIVE_ENCODING",
            Self::HostPattern => "HOST_PATTERN",
            Self::PathPattern => "PATH_PATTERN",
            Self::HostShape => "HOST_SHAPE",
            Self::PathShape => "PATH_SHAPE",
            Self::NameGenerated => "NAME_GENERATED",
            Self::SuffixAbused => "SUFFIX_ABUSED",
            Self::SharedHosting => "SHARED_HOSTING",
            Self::BrandInHost => "BRAND_IN_HOST",
            Self::BrandInPath => "BRAND_IN_PATH",
            Self::BrandLookAlike => "BRAND_LOOK_ALIKE",
            Self::BrandHomograph => "BRAND_HOMOGRAPH",
            Self::ScriptUnusual => "SCRIPT_UNUSUAL",
            Self::PortUnusual => "PORT_UNUSUAL",
            Self::UserinfoPresent => "USERINFO_PRESENT",
            Self::AddressHost => "ADDRESS_HOST",
        }
    }

    /// Whether its points are a share of what [`crate::structure::examine`] found in all
    #[must_use]
    pub fn is_structural(self) -> bool {
        matches!(
            self,
            Self::HostPattern
                | Self::PathPattern
                | Self::HostShape
                | Self::PathShape
                | Self::NameGenerated
                | Self::SuffixAbused
                | Self::SharedHosting
                | Self::BrandInHost
                | Self::BrandInPath
                | Self::BrandLookAlike
                | Self::BrandHomograph
                | Self::ScriptUnusual
                | Self::PortUnusual
                | Self::UserinfoPresent
                | Self::AddressHost
        )
    }
}

impl Code {
    /// Whether it proves a threat by itself, like a feed's match
    #[must_use]
    pub fn is_proof(self) -> bool {
        matches!(self, Self::FeedMatch | Self::EmbeddedMatch | Self::TestFile)
    }
}

/// What an indicator stands for
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Category {
    /// Where malware reports and takes orders
    CommandAndControl,
    /// Malware, or where it is spread
    Malware,
    /// Bad in another way, or in one that nobody told
    Other,
    /// Sites that pretend to be another's
    Phishing,
    /// Who scans and attacks others
    Scanner,
    /// Who sends mail that nobody wants
    Spam,
}

impl Category {
    /// All, with the words that policies, feeds and answers use
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("command_and_control", Self::CommandAndControl),
        ("malware", Self::Malware),
        ("other", Self::Other),
        ("phishing", Self::Phishing),
        ("scanner", Self::Scanner),
        ("spam", Self::Spam),
    ];

    /// Its word
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS
            .get(usize::from(self.index()))
            .map_or("other", |(word, _)| word)
    }

    /// Its number in bundles
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Self::CommandAndControl => 0,
            Self::Malware => 1,
            Self::Other => 2,
            Self::Phishing => 3,
            Self::Scanner => 4,
            Self::Spam => 5,
        }
    }

    /// From its number in bundles
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        Self::WORDS
            .get(usize::from(index))
            .map(|(_, category)| *category)
    }
}

/// How much evidence weighs: the probability in per cent that a target with it alone is a threat, 0 to 100
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Points(u8);

impl Points {
    /// Weighs nothing
    pub const NONE: Self = Self(0);

    /// From a number; what exceeds 100 is 100
    #[must_use]
    pub const fn new(points: u8) -> Self {
        Self(if points > 100 { 100 } else { points })
    }

    /// As a number, 0 to 100
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A piece of evidence
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// What was found
    pub code: Code,
    /// What it weighs
    pub points: Points,
}

/// What was found, in the order in which it was found; a code stands there once, with its greatest weight
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EvidenceList {
    /// More than there are codes, so nothing is ever left out; no allocation a target
    items: [Evidence; CAPACITY],
    len: u8,
}

const CAPACITY: usize = 48;

impl Default for EvidenceList {
    fn default() -> Self {
        let nothing = Evidence {
            code: Code::UrlInvalid,
            points: Points::NONE,
        };
        Self {
            items: [nothing; CAPACITY],
            len: 0,
        }
    }
}

impl EvidenceList {
    /// Adds a piece
    pub fn push(&mut self, code: Code, points: Points) {
        let len = usize::from(self.len);
        let known = self.items.iter_mut().take(len);
        if let Some(evidence) = known.into_iter().find(|evidence| evidence.code == code) {
            evidence.points = evidence.points.max(points);
        } else if let Some(place) = self.items.get_mut(len) {
            *place = Evidence { code, points };
            self.len = self.len.saturating_add(1);
        }
    }

    /// All pieces
    pub fn iter(&self) -> impl Iterator<Item = &Evidence> {
        self.items.iter().take(usize::from(self.len))
    }

    /// Whether there is any
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a code is among them
    #[must_use]
    pub fn has(&self, code: Code) -> bool {
        self.iter().any(|evidence| evidence.code == code)
    }

    /// Forgets everything
    pub fn clear(&mut self) {
        self.len = 0;
    }
}
