//! Networks as segments that don't overlap: each begins where the one before it ends.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::starts::Starts;

/// Segments of IPv4: keys are first addresses, unhashed; row 0 is a gap
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges4<'a>(Starts<'a>);

impl<'a> Ranges4<'a> {
    pub(super) fn new(keys: Starts<'a>) -> Self {
        Self(keys)
    }

    pub(super) fn find(&self, address: Ipv4Addr) -> Option<u8> {
        self.0.at_or_below(key4(address))
    }

    pub(super) fn is_orderly(&self, rows: u32) -> bool {
        self.0.is_orderly(rows)
    }

    /// Where segments start
    #[cfg(feature = "write")]
    pub(super) fn all(&self) -> alloc::vec::Vec<super::lines::StoredKey> {
        self.0.all()
    }
}

/// Where an IPv4 address stands among the segments
pub(super) fn key4(address: Ipv4Addr) -> u64 {
    u64::from(address.to_bits()) << 32
}

/// Segments of IPv6: first addresses (16 bytes, big-endian), then rows
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges6<'a> {
    starts: &'a [[u8; 16]],
    rows: &'a [u8],
}

impl<'a> Ranges6<'a> {
    pub(super) fn length(count: u32) -> Option<usize> {
        usize::try_from(count).ok()?.checked_mul(17)
    }

    pub(super) fn new(bytes: &'a [u8], count: u32) -> Option<Self> {
        if count == 0 || Self::length(count) != Some(bytes.len()) {
            return None;
        }
        let count = usize::try_from(count).ok()?;
        let (starts, rows) = bytes.split_at_checked(bytes.len().checked_sub(count)?)?;
        let (starts, _) = starts.as_chunks();
        Some(Self { starts, rows })
    }

    pub(super) fn find(&self, address: Ipv6Addr) -> Option<u8> {
        let address = address.octets();
        let above = self.starts.partition_point(|start| *start <= address);
        self.rows.get(above.checked_sub(1)?).copied()
    }

    pub(super) fn is_orderly(&self, rows: u32) -> bool {
        self.starts.is_sorted_by(|one, next| one < next)
            && self.rows.iter().all(|row| u32::from(*row) < rows)
    }
}
