//! How bytes become a bundle: piece by piece, and never in place of a good one before they are known to be good.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::mem;

use sha2::{Digest, Sha256};

use super::feed::Feed;
use super::format::{HEADER, Kind, SEAL};
use super::header::Header;
use super::refusal::Refusal;
use super::row::Row;
use super::{Bundle, List};

/// What a bundle must be to be adopted
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The digest of the one bundle that is wanted
    pub pin: Option<&'a [u8; 32]>,
    /// The licences that its feeds may have; without a list any
    pub licences: Option<&'a [String]>,
    /// When the one was compiled that it replaces: an older one is not taken
    pub not_before: u64,
}

/// Bytes on their way to a bundle
///
/// A VM feeds them as they come ([`push`](Self::push)) and does a bounded piece of the hashing at a time
/// ([`step`](Self::step)).
pub struct Adoption {
    bytes: Vec<u8>,
    length: usize,
    hashed: usize,
    hasher: Sha256,
}

impl Adoption {
    /// Begins with a buffer, which is used again if it is large enough
    ///
    /// A buffer that is too small goes before the new one comes, so that they are never both there.
    fn begin(mut buffer: Vec<u8>, length: usize) -> Result<Self, (Refusal, Vec<u8>)> {
        buffer.clear();
        if buffer.capacity() < length {
            drop(mem::take(&mut buffer));
            // Feeds grow: with an eighth to spare the next bundle fits too.
            let spare = length.checked_add(length >> 3).unwrap_or(length);
            if buffer.try_reserve_exact(spare).is_err() {
                return Err((Refusal::Memory, Vec::new()));
            }
        }
        Ok(Self {
            bytes: buffer,
            length,
            hashed: 0,
            hasher: Sha256::new(),
        })
    }

    /// Takes the next bytes
    ///
    /// # Errors
    ///
    /// When there are more than were announced, or the first ones are not those of a bundle of that length: then the
    /// rest need not be fetched.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() > self.missing() {
            return Err(Refusal::Length);
        }
        let begun = self.bytes.len() >= HEADER;
        self.bytes.extend_from_slice(bytes);
        if !begun && self.bytes.len() >= HEADER && !Header::read(&self.bytes)?.fits(self.length) {
            return Err(Refusal::Length);
        }
        Ok(())
    }

    /// How many bytes are still to come
    #[must_use]
    pub fn missing(&self) -> usize {
        self.length.saturating_sub(self.bytes.len())
    }

    /// Hashes at most so many of the bytes that are there; whether none are left to hash
    pub fn step(&mut self, budget: usize) -> bool {
        let content = self.length.saturating_sub(SEAL).min(self.bytes.len());
        let until = self.hashed.saturating_add(budget).min(content);
        if let Some(slice) = self.bytes.get(self.hashed..until) {
            self.hasher.update(slice);
            self.hashed = until;
        }
        self.hashed == content
    }

    /// The bundle, if it is one and keeps the terms; else why not, and the buffer
    fn finish(mut self, terms: &Terms<'_>) -> Result<Bundle, (Refusal, Vec<u8>)> {
        self.step(usize::MAX);
        let digest = self.hasher.finalize().into();
        match examine(&self.bytes, self.length, &digest, terms) {
            Ok((header, sections)) => Ok(Bundle {
                bytes: self.bytes,
                header,
                sections,
                digest,
            }),
            Err(refusal) => Err((refusal, self.bytes)),
        }
    }
}

impl fmt::Debug for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adoption")
            .field("length", &self.length)
            .field("here", &self.bytes.len())
            .field("hashed", &self.hashed)
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// Adopts bytes at once
    ///
    /// # Errors
    ///
    /// When they are no bundle, or not one of these terms.
    pub fn open(bytes: Vec<u8>, terms: &Terms<'_>) -> Result<Self, Refusal> {
        let adoption = Adoption {
            length: bytes.len(),
            bytes,
            hashed: 0,
            hasher: Sha256::new(),
        };
        adoption.finish(terms).map_err(|(refusal, _)| refusal)
    }
}

/// The live bundle, and the memory for the next one
///
/// Two buffers take turns. A VM's memory never shrinks, so they are never given back, and grow only for a bundle that
/// fits into neither.
#[derive(Debug, Default)]
pub struct Shelf {
    live: Option<Bundle>,
    spare: Vec<u8>,
}

impl Shelf {
    /// The bundle that verdicts are made with
    #[must_use]
    pub fn live(&self) -> Option<&Bundle> {
        self.live.as_ref()
    }

    /// Begins to take a bundle of so many bytes, at most `longest`
    ///
    /// # Errors
    ///
    /// When it is too long, or there is no memory for it.
    pub fn begin(&mut self, length: usize, longest: usize) -> Result<Adoption, Refusal> {
        if length > longest {
            return Err(Refusal::TooLong);
        }
        if length < HEADER.saturating_add(SEAL) {
            return Err(Refusal::Length);
        }
        Adoption::begin(mem::take(&mut self.spare), length).map_err(|(refusal, buffer)| {
            self.spare = buffer;
            refusal
        })
    }

    /// Makes a bundle live whose bytes are all there
    ///
    /// # Errors
    ///
    /// When it is none, or not one of these terms, or older than the one that is live: that one stays.
    pub fn adopt(&mut self, adoption: Adoption, terms: &Terms<'_>) -> Result<(), Refusal> {
        let live = self.live.as_ref().map_or(0, Bundle::created);
        let terms = Terms {
            not_before: terms.not_before.max(live),
            ..*terms
        };
        match adoption.finish(&terms) {
            Ok(bundle) => {
                if let Some(old) = self.live.replace(bundle) {
                    self.keep(old.bytes);
                }
                Ok(())
            }
            Err((refusal, buffer)) => {
                self.keep(buffer);
                Err(refusal)
            }
        }
    }

    /// Gives an adoption up and keeps its memory
    pub fn abandon(&mut self, adoption: Adoption) {
        self.keep(adoption.bytes);
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > self.spare.capacity() {
            self.spare = buffer;
        }
    }
}

type Examined = (Header, [super::header::Section; super::format::SECTIONS]);

fn examine(
    bytes: &[u8],
    length: usize,
    digest: &[u8; 32],
    terms: &Terms<'_>,
) -> Result<Examined, Refusal> {
    let header = Header::read(bytes)?;
    if bytes.len() != length || !header.fits(length) {
        return Err(Refusal::Length);
    }
    let sealed = bytes
        .last_chunk::<SEAL>()
        .and_then(|seal| seal.first_chunk::<32>());
    if sealed != Some(digest) {
        return Err(Refusal::Digest);
    }
    if terms.pin.is_some_and(|pin| pin != digest) {
        return Err(Refusal::Pin);
    }
    let sections = header.sections(bytes)?;
    let section = |kind: Kind| {
        let section = sections.get(kind.place(List::Deny)).copied();
        section.unwrap_or_default()
    };
    let (feeds, rows) = (section(Kind::Feeds), section(Kind::Rows));
    for number in (0..feeds.count).filter_map(|number| u8::try_from(number).ok()) {
        let feed = Feed::read(feeds.bytes(bytes), number).ok_or(Refusal::Feed)?;
        let allowed = |licences: &[String]| licences.iter().any(|licence| licence == feed.licence);
        if terms.licences.is_some_and(|licences| !allowed(licences)) {
            return Err(Refusal::Licence(number));
        }
    }
    for number in (1..rows.count).filter_map(|number| u8::try_from(number).ok()) {
        let row = Row::read(rows.bytes(bytes), number).ok_or(Refusal::Row)?;
        if !row.is_sound(feeds.count) {
            return Err(Refusal::Row);
        }
    }
    if header.created < terms.not_before {
        return Err(Refusal::Older);
    }
    Ok((header, sections))
}
