//! Many keys in one file, looked up where they lie.
//!
//! The format is told byte by byte in `examples/KEY-BUNDLE.md`. Nothing here builds an object a key: the
//! bytes are kept as they came, and a record is parsed when its key is used.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::adoption::Adoption;
use super::terms::KeyTerms;
use super::{Key, KeyDigest};
use crate::account::AccountKey;
use crate::error::ConfigError;
use crate::name::Name;
use crate::reader::Errors;

/// The keys of one API in the form of the file; every record was parsed once, and is good
///
/// INVARIANT: made by [`Adoption`] alone, so the sections lie within the bytes, the digests ascend, and
/// `offsets` cuts the records.
#[derive(Clone)]
pub struct KeyBundle {
    pub(super) header: Header,
    pub(super) bytes: Rc<Vec<u8>>,
    /// Which API of which namespace it is of
    pub(super) home: AccountKey,
}

impl KeyBundle {
    /// The revision that its maker gave it
    #[must_use]
    pub fn revision(&self) -> &str {
        self.header.revision.as_str()
    }

    /// When it was made, in seconds since the Unix epoch
    #[must_use]
    pub fn generated_at(&self) -> u64 {
        self.header.generated_at
    }

    /// How many keys it holds
    #[must_use]
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// The file as it came: what a policy that follows is to adopt anew
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The checksum of the file: the same for the same bytes
    #[must_use]
    pub fn checksum(&self) -> [u8; 32] {
        self.header.checksum
    }

    /// Reads a whole file against an API of a policy at once
    pub(crate) fn read(
        bytes: &[u8],
        terms: &Rc<KeyTerms>,
        max_bytes: usize,
    ) -> Result<Self, BundleError> {
        let mut adoption = Adoption::against(Rc::clone(terms), max_bytes);
        adoption.feed(bytes)?;
        adoption.finish()
    }

    /// The key with this digest as the terms have it
    ///
    /// `None` also for a record that is not good by these terms: under another policy than the bundle was
    /// adopted for, its key opens nothing.
    pub(super) fn find(&self, digest: &KeyDigest, terms: &KeyTerms) -> Option<Key> {
        let index = self.position(digest)?;
        let record = self.header.record(&self.bytes, index)?;
        let mut errors = Errors::default();
        let key = terms.read_record(record, "", &mut errors)?;
        errors.is_empty().then(|| Key {
            bundle: Some(self.header.revision.clone()),
            ..key
        })
    }

    /// Whether a key has this digest
    pub(super) fn knows(&self, digest: &KeyDigest) -> bool {
        self.position(digest).is_some()
    }

    fn position(&self, digest: &KeyDigest) -> Option<usize> {
        let (digests, _) = self.header.digests(&self.bytes).as_chunks::<32>();
        let index = digests.partition_point(|other| *other < digest.0);
        digest.is(&KeyDigest(*digests.get(index)?)).then_some(index)
    }
}

impl fmt::Debug for KeyBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyBundle")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// How the digests of a bundle were made
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DigestScheme {
    /// SHA-256 of the key
    Plain,
    /// HMAC-SHA-256 of the key under a pepper
    Peppered,
}

impl DigestScheme {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Plain => 1,
            Self::Peppered => 2,
        }
    }
}

/// The first 352 bytes of a file
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) scheme: DigestScheme,
    pub(super) generated_at: u64,
    pub(super) count: u32,
    pub(super) api: Name,
    pub(super) revision: Name,
    /// Length of the records in bytes
    pub(super) records: usize,
    pub(super) checksum: [u8; 32],
}

pub(super) const MAGIC: [u8; 8] = *b"\x89PCKEY\r\n";
pub(super) const VERSION: u32 = 1;
/// Length of the header
pub(super) const HEADER: usize = 352;
/// Length of what the checksum covers of the header: all but itself
pub(super) const CHECKED: usize = 320;
/// Length of a name, padded with zeros
pub(super) const NAME: usize = 128;
/// Longest record, in bytes: bounds what a look-up costs
pub(super) const MAX_RECORD: usize = 4096;

impl Header {
    /// Reads a header
    ///
    /// # Errors
    ///
    /// What is wrong with it. A header has one form: its sections lie behind it and each other without a
    /// gap, and what is reserved is zero.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Result<Self, BundleError> {
        let mut fields = Fields(bytes);
        if fields.array() != Some(MAGIC) {
            return Err(BundleError::NotABundle);
        }
        let version = fields.u32()?;
        if version != VERSION {
            return Err(BundleError::Version(version));
        }
        let scheme = fields.u32()?;
        let scheme = [DigestScheme::Plain, DigestScheme::Peppered]
            .into_iter()
            .find(|known| known.number() == scheme)
            .ok_or(BundleError::Header("digest scheme"))?;
        let generated_at = fields.array().map(u64::from_le_bytes);
        let generated_at = generated_at.ok_or(BundleError::Header("time"))?;
        let count = fields.u32()?;
        let length = fields.u32()?;
        let mut end = u32::try_from(HEADER).unwrap_or(u32::MAX);
        let mut records = 0;
        for (name, wanted) in [
            ("digests", count.checked_mul(32)),
            (
                "offsets",
                count.checked_add(1).and_then(|n| n.checked_mul(4)),
            ),
            ("records", None),
        ] {
            let (offset, size) = (fields.u32()?, fields.u32()?);
            let next = end.checked_add(size);
            if offset != end || (name != "records" && Some(size) != wanted) {
                return Err(BundleError::Header(name));
            }
            end = next.ok_or(BundleError::Header(name))?;
            records = size;
        }
        if end != length {
            return Err(BundleError::Header("length"));
        }
        let (api, revision) = (fields.u32()?, fields.u32()?);
        let api = fields.name(api).ok_or(BundleError::Header("API"))?;
        let revision = fields.name(revision);
        let revision = revision.ok_or(BundleError::Header("revision"))?;
        let checksum = fields.array().ok_or(BundleError::Header("checksum"))?;
        Ok(Self {
            scheme,
            generated_at,
            count,
            api,
            revision,
            records: usize::try_from(records).unwrap_or_default(),
            checksum,
        })
    }

    /// Length of the file in bytes
    pub(super) fn length(&self) -> usize {
        self.records_at().saturating_add(self.records)
    }

    pub(super) fn keys(&self) -> usize {
        usize::try_from(self.count).unwrap_or_default()
    }

    pub(super) fn offsets_at(&self) -> usize {
        self.keys().saturating_mul(32).saturating_add(HEADER)
    }

    pub(super) fn records_at(&self) -> usize {
        let offsets = self.keys().saturating_add(1).saturating_mul(4);
        self.offsets_at().saturating_add(offsets)
    }

    /// The digests, as far as they are in
    pub(super) fn digests<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let end = self.offsets_at().min(bytes.len());
        bytes.get(HEADER..end).unwrap_or_default()
    }

    /// Where the record behind `index` records begins, from the start of all records
    pub(super) fn offset(&self, bytes: &[u8], index: usize) -> Option<usize> {
        let at = self.offsets_at().checked_add(index.checked_mul(4)?)?;
        let offset = bytes.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*offset)).ok()
    }

    /// The bytes of a record
    pub(super) fn record<'b>(&self, bytes: &'b [u8], index: usize) -> Option<&'b [u8]> {
        let start = self.offset(bytes, index)?;
        let end = self.offset(bytes, index.checked_add(1)?)?;
        bytes.get(self.records_at()..)?.get(start..end)
    }
}

/// The fields of a header that are left
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Result<u32, BundleError> {
        let field = self.array().ok_or(BundleError::Header("length"))?;
        Ok(u32::from_le_bytes(field))
    }

    fn name(&mut self, length: u32) -> Option<Name> {
        let field: [u8; NAME] = self.array()?;
        let (name, padding) = field.split_at_checked(usize::try_from(length).ok()?)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        Name::parse(core::str::from_utf8(name).ok()?).ok()
    }
}

/// Why a key bundle was refused; the one before it stays in force
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BundleError {
    /// It does not begin as one
    NotABundle,
    /// A version of the format that is not known here
    Version(u32),
    /// A field of the header has a value that it can't have
    Header(&'static str),
    /// It is longer than it may be, in bytes; 0 where the host has no memory for it
    TooLong(usize),
    /// It is another API's
    Api(String),
    /// Its digests were made with a pepper and the policy has none, or the other way round
    Scheme(DigestScheme),
    /// A digest is not greater than the one before it
    Order(usize),
    /// An offset is not greater than the one before it, or beyond the records, or a record is too long
    Offset(usize),
    /// More bytes came than the header says
    Trailing,
    /// Fewer bytes came than the header says
    Cut,
    /// It is not what its maker wrote
    Checksum,
    /// Records that the policy can't take; the first few
    Records(Vec<ConfigError>),
}

impl BundleError {
    /// One word of a closed vocabulary, for a log or a metric
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotABundle => "not_a_bundle",
            Self::Version(_) => "version_unsupported",
            Self::Header(_) => "header_invalid",
            Self::TooLong(_) => "too_long",
            Self::Api(_) => "api_mismatch",
            Self::Scheme(_) => "pepper_mismatch",
            Self::Order(_) => "digests_unsorted",
            Self::Offset(_) => "offsets_invalid",
            Self::Trailing => "trailing_bytes",
            Self::Cut => "cut_short",
            Self::Checksum => "checksum_wrong",
            Self::Records(_) => "records_invalid",
        }
    }
}

/// What is wrong; nothing of a digest
impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABundle => {
                f.write_str("is no key bundle: make one with `portcullis keys bundle`")
            }
            Self::Version(version) => {
                write!(
                    f,
                    "has version {version} of the format; known here: {VERSION}"
                )
            }
            Self::Header(field) => write!(f, "its header is damaged: {field}"),
            Self::TooLong(0) => f.write_str("there is no memory for it"),
            Self::TooLong(max) => write!(f, "is longer than {max} bytes"),
            Self::Api(api) => write!(f, "holds the keys of the API `{api}`"),
            Self::Scheme(DigestScheme::Plain) => {
                f.write_str("was made without a pepper, and the policy has one")
            }
            Self::Scheme(DigestScheme::Peppered) => {
                f.write_str("was made with a pepper, and the policy has none")
            }
            Self::Order(index) => write!(f, "the digest {index} is not above the one before it"),
            Self::Offset(index) => write!(f, "the record {index} has no place that it can have"),
            Self::Trailing => f.write_str("there are bytes behind its end"),
            Self::Cut => f.write_str("is cut short"),
            Self::Checksum => f.write_str("is not what its maker wrote: its checksum is wrong"),
            Self::Records(errors) => {
                f.write_str("has records that the policy can't take")?;
                for error in errors {
                    write!(f, "; {error}")?;
                }
                Ok(())
            }
        }
    }
}

impl core::error::Error for BundleError {}
