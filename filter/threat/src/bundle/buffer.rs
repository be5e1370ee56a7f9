//! The memory of a bundle.

use alloc::vec::Vec;

/// Bytes that begin where a line of a processor's cache does, and so do the lines of keys in them
///
/// It is the address that is aligned, by bytes before the first: a vector of bytes begins anywhere.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// How many bytes are none of it
    lead: usize,
}

const LINE: usize = 64;

impl Buffer {
    /// Takes bytes over
    pub(super) fn of(mut bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        bytes.reserve_exact(LINE);
        let lead = lead(&bytes);
        bytes.resize(length.saturating_add(lead), 0);
        bytes.copy_within(..length, lead);
        Self { bytes, lead }
    }

    /// Empties it and makes room for so many bytes, and some to spare for the next time; whether there is memory
    ///
    /// Room that is too small goes before the new one comes, so that they are never both there.
    pub(super) fn make_room(&mut self, length: usize, spare: usize) -> bool {
        self.bytes.clear();
        self.lead = 0;
        if self.bytes.capacity() < length.saturating_add(LINE) {
            drop(core::mem::take(&mut self.bytes));
            let room = length.saturating_add(spare).saturating_add(LINE);
            if self.bytes.try_reserve_exact(room).is_err() {
                return false;
            }
        }
        self.lead = lead(&self.bytes);
        self.bytes.resize(self.lead, 0);
        true
    }

    /// How many bytes it has room for, wherever it begins
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity().saturating_sub(LINE)
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.lead..).unwrap_or_default()
    }
}

impl core::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

/// How many bytes there are from where a vector begins to the next line
fn lead(bytes: &[u8]) -> usize {
    // A platform that can't tell gets none: what is not aligned is only slower.
    Some(bytes.as_ptr().align_offset(LINE))
        .filter(|lead| *lead < LINE)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_line() {
        for length in [0, 1, 63, 64, 65, 1_000, 100_000] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let taken = Buffer::of(bytes.clone());
            let mut pushed = Buffer::default();
            assert!(pushed.make_room(length, 0));
            let room = pushed.capacity();
            pushed.extend(&bytes);
            for buffer in [&taken, &pushed] {
                assert_eq!(buffer.bytes(), bytes);
                assert_eq!(buffer.bytes().as_ptr().align_offset(LINE), 0);
            }
            assert_eq!(pushed.capacity(), room, "it has moved");
        }
    }
}
