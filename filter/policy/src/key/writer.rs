//! The maker of key bundles.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::KeyDigest;
use super::bundle::{
    BundleError, CHECKED, DigestScheme, HEADER, Header, MAGIC, MAX_RECORD, NAME, VERSION,
};
use crate::name::Name;

/// A key bundle in the making; the same keys make the same bytes, in whatever order they come
#[derive(Debug)]
pub struct BundleWriter {
    api: Name,
    revision: Name,
    generated_at: u64,
    scheme: DigestScheme,
    keys: Vec<([u8; 32], Vec<u8>)>,
}

impl BundleWriter {
    /// Begins a bundle of an API; `generated_at` is in seconds since the Unix epoch
    ///
    /// # Errors
    ///
    /// The message, when API or revision are no names.
    pub fn new(
        api: &str,
        revision: &str,
        generated_at: u64,
        scheme: DigestScheme,
    ) -> Result<Self, String> {
        Ok(Self {
            api: Name::parse(api)?,
            revision: Name::parse(revision)?,
            generated_at,
            scheme,
            keys: Vec::new(),
        })
    }

    /// Adds a key: its digest in 64 hexadecimal digits, and its record, a JSON object without it
    ///
    /// The record is not read: who adopts the bundle does.
    ///
    /// # Errors
    ///
    /// The message, when the digest is none, or another key has it, or the record is empty or too long.
    pub fn add(&mut self, digest: &str, record: Vec<u8>) -> Result<(), String> {
        let KeyDigest(digest) = KeyDigest::parse(digest)
            .ok_or("a digest has 64 hexadecimal digits; it is never the key itself")?;
        if record.is_empty() || record.len() > MAX_RECORD {
            return Err(format!("a record has 1 to {MAX_RECORD} bytes"));
        }
        self.keys.push((digest, record));
        Ok(())
    }

    /// The bytes of the file
    ///
    /// # Errors
    ///
    /// The message, when two keys have one digest, or the file would be longer than 4 GiB.
    pub fn finish(mut self) -> Result<Vec<u8>, String> {
        self.keys.sort();
        let twice = |pair: &[([u8; 32], Vec<u8>)]| match pair {
            [one, next] => one.0 == next.0,
            _ => false,
        };
        if self.keys.windows(2).any(twice) {
            return Err("two keys have the same digest".into());
        }
        let mut offsets = Vec::from(0u32.to_le_bytes());
        let mut records = Vec::new();
        for (_, record) in &self.keys {
            records.extend_from_slice(record);
            offsets.extend_from_slice(&small(records.len())?.to_le_bytes());
        }
        let digests = self.keys.len().saturating_mul(32);
        let mut file = Vec::from(MAGIC);
        let mut number = |number: u32| file.extend_from_slice(&number.to_le_bytes());
        number(VERSION);
        number(self.scheme.number());
        let [low, high] = halves(self.generated_at);
        number(low);
        number(high);
        number(small(self.keys.len())?);
        let sections = [digests, offsets.len(), records.len()];
        number(small(
            sections.iter().fold(HEADER, |a, b| a.saturating_add(*b)),
        )?);
        let mut at = HEADER;
        for section in sections {
            number(small(at)?);
            number(small(section)?);
            at = at.saturating_add(section);
        }
        for name in [&self.api, &self.revision] {
            number(small(name.as_str().len())?);
        }
        for name in [&self.api, &self.revision] {
            let end = file.len().saturating_add(NAME);
            file.extend_from_slice(name.as_str().as_bytes());
            file.resize(end, 0);
        }
        let mut hash = Sha256::new();
        hash.update(file.get(..CHECKED).unwrap_or_default());
        for (digest, _) in &self.keys {
            hash.update(digest);
        }
        hash.update(&offsets);
        hash.update(&records);
        file.extend_from_slice(&hash.finalize());
        for (digest, _) in &self.keys {
            file.extend_from_slice(digest);
        }
        file.append(&mut offsets);
        file.append(&mut records);
        Ok(file)
    }
}

/// What a bundle holds, whatever a policy makes of it
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BundleContents {
    /// The API's name
    pub api: String,
    /// The revision that its maker gave it
    pub revision: String,
    /// When it was made, in seconds since the Unix epoch
    pub generated_at: u64,
    /// How its digests were made
    pub scheme: DigestScheme,
    /// The records in the order of their digests
    pub records: Vec<Vec<u8>>,
}

impl BundleContents {
    /// Reads a file that is whole and unharmed; its records are not looked into
    ///
    /// # Errors
    ///
    /// Why it is no such file.
    pub fn read(file: &[u8]) -> Result<Self, BundleError> {
        let (head, rest) = file.split_first_chunk().ok_or(BundleError::Cut)?;
        let header = Header::read(head)?;
        if file.len() != header.length() {
            let is_cut = file.len() < header.length();
            return Err(if is_cut {
                BundleError::Cut
            } else {
                BundleError::Trailing
            });
        }
        let mut hash = Sha256::new();
        hash.update(head.get(..CHECKED).unwrap_or_default());
        hash.update(rest);
        let sum: [u8; 32] = hash.finalize().into();
        if sum != header.checksum {
            return Err(BundleError::Checksum);
        }
        let record = |index| {
            let record = header.record(file, index);
            record.map(Vec::from).ok_or(BundleError::Offset(index))
        };
        Ok(Self {
            records: (0..header.keys()).map(record).collect::<Result<_, _>>()?,
            api: header.api.as_str().into(),
            revision: header.revision.as_str().into(),
            generated_at: header.generated_at,
            scheme: header.scheme,
        })
    }
}

fn small(number: usize) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| "a bundle has at most 4 GiB".into())
}

fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}
