//! Numbers that look random and are the same in every run: SplitMix64.

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }

    /// True once in `of` times.
    pub(crate) fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Up to `most` bytes, mostly few.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let most = if self.once_in(8) { most } else { most.min(24) };
        let length = self.below(most + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    /// A number as a host may hand over: small, or near one of the ends.
    pub(crate) fn number(&mut self) -> u32 {
        let low = u32::from(self.byte());
        match self.below(4) {
            0 => u32::MAX - low,
            1 => (1 << 31) - 128 + low,
            2 => low % 4,
            _ => low,
        }
    }
}
