//! Randomness for the guest: the same in every run of a test, the machine's own in `serve`.

/// Where the guest's random bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entropy {
    /// A fixed sequence per seed; each worker draws its own.
    Seeded(u64),
    /// The operating system's generator.
    System,
}

/// One VM's source of random bytes.
#[derive(Debug)]
pub(crate) enum Generator {
    Seeded(SplitMix64),
    System,
}

impl Generator {
    /// The source of the VM with this number: VMs of one world get different bytes.
    pub(crate) fn new(entropy: Entropy, vm: u64) -> Self {
        match entropy {
            Entropy::Seeded(seed) => {
                // The first output of one sequence seeds the other, so that neighbouring seeds
                // and VM numbers give unrelated bytes.
                let mut mix = SplitMix64(seed ^ vm.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                Self::Seeded(SplitMix64(mix.next()))
            }
            Entropy::System => Self::System,
        }
    }

    /// Fills the buffer; false if the operating system gave nothing.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> bool {
        match self {
            Self::Seeded(sequence) => {
                for chunk in buffer.chunks_mut(8) {
                    for (to, from) in chunk.iter_mut().zip(sequence.next().to_le_bytes()) {
                        *to = from;
                    }
                }
                true
            }
            Self::System => getrandom::fill(buffer).is_ok(),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Debug)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entropy: Entropy, vm: u64) -> [u8; 20] {
        let mut buffer = [0; 20];
        assert!(Generator::new(entropy, vm).fill(&mut buffer));
        buffer
    }

    #[test]
    fn one_seed_gives_one_sequence_and_every_vm_its_own() {
        assert_eq!(bytes(Entropy::Seeded(1), 0), bytes(Entropy::Seeded(1), 0));
        assert_ne!(bytes(Entropy::Seeded(1), 0), bytes(Entropy::Seeded(1), 1));
        assert_ne!(bytes(Entropy::Seeded(1), 0), bytes(Entropy::Seeded(2), 0));
        assert_ne!(bytes(Entropy::System, 0), bytes(Entropy::System, 0));
    }

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut sequence = SplitMix64(1_234_567);
        assert_eq!(sequence.next(), 6_457_827_717_110_365_317);
        assert_eq!(sequence.next(), 3_203_168_211_198_807_973);
    }
}
