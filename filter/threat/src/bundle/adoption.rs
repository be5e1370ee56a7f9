//! How bytes become a bundle: piece by piece, and never in place of a good one before they are known to be good.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::mem;

use sha2::{Digest, Sha256};

use super::buffer::Buffer;
use super::feed::Feed;
use super::format::{HEADER, Kind, SEAL, signature};
use super::header::Header;
use super::refusal::Refusal;
use super::row::Row;
use super::signer::{self, Signer};
use super::{Bundle, List};

/// What a bundle must be to be adopted
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The digest of the one bundle that is wanted
    pub pin: Option<&'a [u8; 32]>,
    /// Those of whom one must have signed it; without any nobody need have
    pub signers: &'a [Signer],
    /// The licences that its feeds may have; without a list any
    pub licences: Option<&'a [String]>,
    /// When the one was compiled that it replaces: an older one is not taken
    pub not_before: u64,
    /// When it was compiled at the latest: one from the future would keep its successors out
    pub not_after: Option<u64>,
}

/// Bytes on their way to a bundle
///
/// A VM feeds them as they come ([`push`](Self::push)) and does a bounded piece of the hashing at a time
/// ([`step`](Self::step)). Who drops it has given it up: its memory goes back to its shelf.
pub struct Adoption {
    bytes: Buffer,
    length: usize,
    hashed: usize,
    hasher: Sha256,
    home: Spare,
}

/// The memory for the next bundle; whoever takes it brings it back
type Spare = Rc<Cell<Buffer>>;

impl Adoption {
    /// Begins with the spare buffer, which is used again if it is large enough
    fn begin(home: &Spare, length: usize, longest: usize) -> Result<Self, Refusal> {
        if length > longest {
            return Err(Refusal::TooLong);
        }
        if length < HEADER.saturating_add(SEAL) {
            return Err(Refusal::Length);
        }
        let mut bytes = home.take();
        // Feeds grow: with an eighth to spare the next bundle fits too.
        let spare = (length >> 3).min(longest.saturating_sub(length));
        if !bytes.make_room(length, spare) {
            return Err(Refusal::Memory);
        }
        Ok(Self {
            bytes,
            length,
            hashed: 0,
            hasher: Sha256::new(),
            home: Rc::clone(home),
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
        let begun = self.here() >= HEADER;
        self.bytes.extend(bytes);
        if !begun && self.here() >= HEADER && !Header::read(self.bytes.bytes())?.fits(self.length) {
            return Err(Refusal::Length);
        }
        Ok(())
    }

    /// How many bytes are still to come
    #[must_use]
    pub fn missing(&self) -> usize {
        self.length.saturating_sub(self.here())
    }

    fn here(&self) -> usize {
        self.bytes.bytes().len()
    }

    /// Hashes at most so many of the bytes that are there; whether none are left to hash
    pub fn step(&mut self, budget: usize) -> bool {
        let content = self.length.saturating_sub(SEAL).min(self.here());
        let until = self.hashed.saturating_add(budget).min(content);
        if let Some(slice) = self.bytes.bytes().get(self.hashed..until) {
            self.hasher.update(slice);
            self.hashed = until;
        }
        self.hashed == content
    }

    /// The bundle, if it is one and keeps the terms
    fn finish(mut self, terms: &Terms<'_>) -> Result<Bundle, Refusal> {
        self.step(usize::MAX);
        let digest = mem::take(&mut self.hasher).finalize().into();
        let (header, sections, rows) = examine(self.bytes.bytes(), self.length, &digest, terms)?;
        Ok(Bundle {
            bytes: mem::take(&mut self.bytes),
            header,
            sections,
            rows,
            digest,
        })
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        keep(&self.home, mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adoption")
            .field("length", &self.length)
            .field("here", &self.here())
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
            bytes: Buffer::of(bytes),
            hashed: 0,
            hasher: Sha256::new(),
            home: Spare::default(),
        };
        adoption.finish(terms)
    }
}

/// The live bundle, and the memory for the next one
///
/// Two buffers take turns. A VM's memory never shrinks, so they are never given back, and grow only for a bundle that
/// fits into neither.
#[derive(Default)]
pub struct Shelf {
    live: Option<Bundle>,
    spare: Spare,
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
    pub fn begin(&self, length: usize, longest: usize) -> Result<Adoption, Refusal> {
        Adoption::begin(&self.spare, length, longest)
    }

    /// Awaits a bundle of at most `longest` bytes, which says itself how long it is
    #[must_use]
    pub fn expect(&self, longest: usize) -> Delivery {
        Delivery {
            home: Rc::clone(&self.spare),
            longest,
            adoption: None,
        }
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
        let bundle = adoption.finish(&terms)?;
        if let Some(old) = self.live.replace(bundle) {
            keep(&self.spare, old.bytes);
        }
        Ok(())
    }

    /// Makes a bundle live that was delivered in whole
    ///
    /// # Errors
    ///
    /// As those of [`adopt`](Self::adopt).
    pub fn take(&mut self, delivery: Delivery, terms: &Terms<'_>) -> Result<(), Refusal> {
        let adoption = delivery.adoption.ok_or(Refusal::Length)?;
        self.adopt(adoption, terms)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shelf = f.debug_struct("Shelf");
        shelf.field("live", &self.live).finish_non_exhaustive()
    }
}

/// A bundle that comes in pieces; no more than a piece is hashed at a time
pub struct Delivery {
    home: Spare,
    longest: usize,
    /// Since the first piece
    adoption: Option<Adoption>,
}

impl Delivery {
    /// Another one for the same shelf, of which nothing has come yet
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self {
            home: Rc::clone(&self.home),
            longest: self.longest,
            adoption: None,
        }
    }

    /// Takes the next piece; the first one holds the header
    ///
    /// # Errors
    ///
    /// As those of [`Shelf::begin`] and [`Adoption::push`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let adoption = match &mut self.adoption {
            Some(adoption) => adoption,
            None => {
                let length = Header::read(piece)?.whole();
                let adoption = Adoption::begin(&self.home, length, self.longest)?;
                self.adoption.insert(adoption)
            }
        };
        adoption.push(piece)?;
        adoption.step(piece.len());
        Ok(())
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.adoption.fmt(f)
    }
}

/// Keeps the larger of two buffers
fn keep(spare: &Spare, buffer: Buffer) {
    let other = spare.take();
    let larger = buffer.capacity() > other.capacity();
    spare.set(if larger { buffer } else { other });
}

type Examined = (
    Header,
    [super::header::Section; super::format::SECTIONS],
    Vec<Row>,
);

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
    if !terms.signers.is_empty() {
        signer::check(terms.signers, signature(bytes), digest)?;
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
    let mut known = Vec::new();
    for number in (1..rows.count).filter_map(|number| u8::try_from(number).ok()) {
        let row = Row::read(rows.bytes(bytes), number).ok_or(Refusal::Row)?;
        if !row.is_sound(feeds.count) {
            return Err(Refusal::Row);
        }
        known.push(row);
    }
    if header.created < terms.not_before {
        return Err(Refusal::Older);
    }
    if terms
        .not_after
        .is_some_and(|latest| header.created > latest)
    {
        return Err(Refusal::Future);
    }
    Ok((header, sections, known))
}
