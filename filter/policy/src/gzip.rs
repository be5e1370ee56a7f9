//! Reading what was compressed as RFC 1952 has it.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// What one compressed file holds; `None`: it is none, there is more behind it, or it holds more than `max` bytes
///
/// The length is checked, and the checksum is not: who reads the text behind it is as strict.
pub(crate) fn read(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *head else {
        return None;
    };
    if flags & !(TEXT | HEADER_CHECKSUM | EXTRA | NAME | COMMENT) != 0 {
        return None;
    }
    let mut rest = rest;
    if flags & EXTRA != 0 {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end.checked_add(1)?..)?;
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        rest = rest.get(2..)?;
    }
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let (compressed, _checksum) = rest.split_last_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > max {
        return None;
    }
    let mut text = vec![0; length];
    let mut inflator = Box::<DecompressorOxide>::default();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let end = decompress(&mut inflator, compressed, &mut text, 0, flags);
    (end == (TINFLStatus::Done, compressed.len(), length)).then_some(text)
}

const TEXT: u8 = 1;
const HEADER_CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;

    fn written(text: &[u8], level: u32) -> Vec<u8> {
        let builder = GzBuilder::new().extra("extra").filename("a").comment("b");
        let mut writer = builder.write(Vec::new(), Compression::new(level));
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    proptest! {
        /// What another writer wrote is read, and no more of it than may be.
        #[test]
        fn what_was_written_is_read(text: Vec<u8>, level in 0..10_u32, less in 1..100_usize) {
            let bytes = written(&text, level);
            prop_assert_eq!(read(&bytes, text.len()), Some(text.clone()));
            let max = text.len().saturating_sub(less);
            if max < text.len() {
                prop_assert_eq!(read(&bytes, max), None);
            }
        }

        /// Whatever comes is read within its bound, or not at all.
        #[test]
        fn what_is_hostile_is_refused(text: Vec<u8>, place: usize, bits: u8, cut: usize) {
            let mut bytes = written(&text, 6);
            let length = bytes.len();
            bytes[place.checked_rem(length).unwrap()] ^= bits;
            bytes.truncate(length.saturating_sub(cut % 30));
            if let Some(read) = read(&bytes, 1000) {
                prop_assert!(read.len() <= 1000);
            }
        }

        #[test]
        fn noise_is_refused(mut noise: Vec<u8>) {
            let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
            noise.splice(0..0, head);
            if let Some(read) = read(&noise, 1000) {
                prop_assert!(read.len() <= 1000);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = written(&vec![0; 10 << 20], 9);
        assert!(bomb.len() < 20_000);
        assert_eq!(read(&bomb, 1 << 20), None);
    }

    #[test]
    fn two_in_one_are_refused() {
        let one = written(b"{}", 6);
        assert_eq!(read(&one, 10), Some(b"{}".to_vec()));
        assert_eq!(read(&[one.clone(), one].concat(), 10), None);
    }
}
