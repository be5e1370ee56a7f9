//! The fitted model, read in place: small integer weights over the features of a URL.
//!
//! All arithmetic is on integers, so that every machine finds the same score. A weight is a signed byte; each
//! region of weights has a scale, and `weight * scale` is 1/1024 of a logit. The sum becomes a score by
//! thresholds that are quantiles of benign URLs, one list for bare hosts and one for URLs with a path.

use super::bytes::{partition, take, u32_at};
use super::features::{DIMS, Dim, Feature, Group, grams};

/// The greatest score that structure alone gives: below what feeds give
pub const GREATEST: u8 = 79;

/// The version of layout and features that this code reads
pub const VERSION: &str = "structure/1";

/// Values that a dimension tells apart
pub(super) const WIDTH: usize = 16;
/// Classes of characters that the bigrams tell apart
pub(super) const CLASSES: usize = 30;

const MAGIC: &[u8; 4] = b"STR1";
const BIGRAMS: usize = CLASSES * CLASSES;
const DENSE: usize = DIMS * WIDTH;
const THRESHOLDS: usize = GREATEST as usize * 4;

/// No group of features alone weighs more than four logits, for or against
const MOST: i32 = 4 * 1024;

/// The model, borrowed
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// How far a hash is shifted to be a place among `host_grams`, and among `path_grams`
    host_shift: u32,
    path_shift: u32,
    scales: [u8; 4],
    host_thresholds: &'a [u8],
    full_thresholds: &'a [u8],
    bigrams: &'a [u8],
    suffix_names: &'a [u8],
    dense: &'a [u8],
    suffixes: &'a [u8],
    host_grams: &'a [u8],
    path_grams: &'a [u8],
}

/// Weights of runs of characters
#[derive(Clone, Copy, Debug)]
pub(super) struct Grams<'a> {
    weights: &'a [u8],
    shift: u32,
}

impl Grams<'_> {
    /// Of the run with this hash, without its scale
    #[inline]
    fn weigh(&self, hash: u64) -> i32 {
        signed(self.weights, gram_at(hash, self.shift))
    }

    /// Of all runs of a text that is far shorter than 2^22 bytes, so that nothing wraps
    pub(super) fn sum(self, field: u64, text: &[u8]) -> i32 {
        let mut sum = 0i32;
        grams(field, text, |hash| {
            sum = sum.wrapping_add(self.weigh(hash));
        });
        sum
    }
}

/// What the model says of one URL, in 1/1024 of a logit, by group of features
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    groups: [i32; Group::COUNT],
    /// The least score that a feature gives by itself, and that feature's group
    pub(super) floor: Option<(Group, u8)>,
}

impl Sums {
    pub(super) fn add(&mut self, group: Group, weight: i32) {
        if let Some(sum) = self.groups.get_mut(group as usize) {
            *sum = sum.saturating_add(weight);
        }
    }

    pub(super) fn least(&mut self, group: Group, floor: u8) {
        if self.floor.is_none_or(|(_, least)| least < floor) {
            self.floor = Some((group, floor));
        }
    }

    pub(super) fn of(&self, group: Group) -> i32 {
        self.groups.get(group as usize).copied().unwrap_or(0)
    }

    pub(super) fn total(&self) -> i32 {
        self.groups.iter().fold(0, |total, sum| {
            total.saturating_add((*sum).clamp(-MOST, MOST))
        })
    }
}

impl<'a> Model<'a> {
    /// Adopts the section; `None` if it isn't one
    #[must_use]
    pub fn new(mut section: &'a [u8]) -> Option<Self> {
        let rest = &mut section;
        if take(rest, MAGIC.len())? != MAGIC {
            return None;
        }
        let [host_bits, path_bits, low, high, scales @ ..] = *take(rest, 8)?.first_chunk::<8>()?;
        let count = usize::from(u16::from_le_bytes([low, high]));
        if host_bits > 16 || path_bits > 16 {
            return None;
        }
        let model = Self {
            host_shift: shift(host_bits),
            path_shift: shift(path_bits),
            scales,
            host_thresholds: take(rest, THRESHOLDS)?,
            full_thresholds: take(rest, THRESHOLDS)?,
            bigrams: take(rest, BIGRAMS)?,
            suffix_names: take(rest, count.saturating_mul(4))?,
            dense: take(rest, DENSE)?,
            suffixes: take(rest, count)?,
            host_grams: take(rest, 1 << host_bits)?,
            path_grams: take(rest, 1 << path_bits)?,
        };
        rest.is_empty().then_some(model)
    }

    /// How a character class follows another in benign names: 1/8 of the logarithm to 2 of how much more often than
    /// by chance
    pub(super) fn follows(&self, previous: usize, next: usize) -> i32 {
        let at = previous.saturating_mul(CLASSES).saturating_add(next);
        signed(self.bigrams, at)
    }

    /// The weights of runs of characters in a host, without their scale
    pub(super) fn host_grams(&self) -> Grams<'a> {
        Grams {
            weights: self.host_grams,
            shift: self.host_shift,
        }
    }

    /// The weights of runs of characters in a path or a query, without their scale
    pub(super) fn path_grams(&self) -> Grams<'a> {
        Grams {
            weights: self.path_grams,
            shift: self.path_shift,
        }
    }

    /// What the weights of runs of characters are multiplied with, of hosts and of paths
    pub(super) fn gram_scales(&self) -> (i32, i32) {
        let [.., host, path] = self.scales;
        (host.into(), path.into())
    }

    /// The weight of a feature
    pub(super) fn weigh(&self, feature: Feature) -> i32 {
        let (weight, scale) = match feature {
            Feature::Dim(dim, value) => (signed(self.dense, dense_at(dim, value)), 0),
            Feature::Suffix(name) => match self.suffix_index(name) {
                Some(index) => (signed(self.suffixes, index), 1),
                None => (0, 1),
            },
            Feature::HostGram(hash) => (self.host_grams().weigh(hash), 2),
            Feature::PathGram(hash) => (self.path_grams().weigh(hash), 3),
        };
        let scale = self.scales.get::<usize>(scale).copied().unwrap_or(0);
        weight.saturating_mul(i32::from(scale))
    }

    /// The score of a sum, 0 to [`GREATEST`]
    pub(super) fn score(&self, sum: i32, has_path: bool) -> u8 {
        let thresholds = if has_path {
            self.full_thresholds
        } else {
            self.host_thresholds
        };
        let score = partition(usize::from(GREATEST), |i| {
            u32_at(thresholds, i.saturating_mul(4)).is_some_and(|at| at.cast_signed() <= sum)
        });
        u8::try_from(score).unwrap_or(GREATEST)
    }

    fn suffix_index(&self, name: u32) -> Option<usize> {
        let (names, _) = self.suffix_names.as_chunks::<4>();
        let name = name.to_be_bytes();
        let found = partition(names.len(), |i| names.get(i).is_some_and(|own| *own < name));
        (names.get(found) == Some(&name)).then_some(found)
    }
}

fn dense_at(dim: Dim, value: usize) -> usize {
    (dim as usize)
        .saturating_mul(WIDTH)
        .saturating_add(value.min(WIDTH.saturating_sub(1)))
}

/// How far a hash is shifted to be a place among so many weights (binary logarithm)
fn shift(bits: u8) -> u32 {
    64u32.saturating_sub(u32::from(bits.clamp(1, 16)))
}

fn gram_at(hash: u64, shift: u32) -> usize {
    usize::try_from(hash.wrapping_shr(shift)).unwrap_or(0)
}

fn signed(weights: &[u8], at: usize) -> i32 {
    weights
        .get(at)
        .map_or(0, |weight| i32::from(weight.cast_signed()))
}

/// What the fitting procedure needs: where features lie, and how a model is written
#[cfg(feature = "write")]
pub mod write {
    use alloc::vec::Vec;

    use super::{BIGRAMS, CLASSES, DENSE, Feature, GREATEST, MAGIC, Model, dense_at, gram_at};
    pub use crate::structure::features::Group;
    use crate::structure::features::{Input, Visit, class, dimension_group, each};
    use crate::structure::{Tables, View};

    /// A model before it is bytes. Weights lie one after the other: dimensions, suffixes, host grams, path
    /// grams.
    #[derive(Clone, Debug)]
    pub struct Draft {
        /// Binary logarithm of the number of host weights
        pub host_bits: u8,
        /// Binary logarithm of the number of path weights
        pub path_bits: u8,
        /// Of each region, in 1/1024 of a logit
        pub scales: [u8; 4],
        /// The least sums that give the scores 1, 2, ..., for bare hosts and for URLs with a path
        pub thresholds: [[i32; GREATEST as usize]; 2],
        /// By previous and next class
        pub bigrams: Vec<i8>,
        /// Hashes of suffixes with a weight, ascending
        pub suffixes: Vec<u32>,
        /// All weights
        pub weights: Vec<i8>,
    }

    impl Draft {
        /// Without any knowledge
        #[must_use]
        pub fn empty(host_bits: u8, path_bits: u8, mut suffixes: Vec<u32>) -> Self {
            suffixes.sort_unstable();
            suffixes.dedup();
            let mut draft = Self {
                host_bits,
                path_bits,
                scales: [1; 4],
                thresholds: [[i32::MAX; GREATEST as usize]; 2],
                bigrams: alloc::vec![0; BIGRAMS],
                suffixes,
                weights: Vec::new(),
            };
            draft.weights.resize(draft.regions().iter().sum(), 0);
            draft
        }

        /// Lengths of the regions of weights
        #[must_use]
        pub fn regions(&self) -> [usize; 4] {
            [
                DENSE,
                self.suffixes.len(),
                1 << self.host_bits,
                1 << self.path_bits,
            ]
        }

        /// The section; `None` if there are more suffixes than it holds
        #[must_use]
        pub fn write(&self) -> Option<Vec<u8>> {
            let mut section = MAGIC.to_vec();
            section.extend([self.host_bits, self.path_bits]);
            section.extend(u16::try_from(self.suffixes.len()).ok()?.to_le_bytes());
            section.extend(self.scales);
            for threshold in self.thresholds.as_flattened() {
                section.extend(threshold.to_le_bytes());
            }
            section.extend(self.bigrams.iter().map(|weight| weight.cast_unsigned()));
            section.extend(self.suffixes.iter().flat_map(|name| name.to_be_bytes()));
            section.extend(self.weights.iter().map(|weight| weight.cast_unsigned()));
            Some(section)
        }
    }

    /// The name under which a suffix stands in [`Draft::suffixes`]; `kind` is 0 for a top-level domain, 1 for a
    /// registry's suffix, 2 for a shared host's
    #[must_use]
    pub fn suffix_name(kind: u8, suffix: &[u8]) -> u32 {
        crate::structure::features::suffix_name(kind, suffix)
    }

    /// The class of a character, as rows and columns of [`Draft::bigrams`]; the class 0 is the border of a name
    #[must_use]
    pub fn character_class(byte: u8) -> usize {
        class(byte)
    }

    /// How many classes there are
    pub const CHARACTER_CLASSES: usize = CLASSES;

    /// The parts of a host as features see them: what stands left of the registrable domain, its own label, the
    /// suffix of a shared host, the registry's
    #[must_use]
    pub fn parts<'a>(host: &'a [u8], tables: &Tables<'_>) -> [&'a [u8]; 4] {
        let parts = crate::structure::view::Parts::of(host, &tables.suffixes);
        [parts.sub, parts.core, parts.platform, parts.registry]
    }

    /// Calls `visit` with the place in [`Draft::weights`] and the group of each feature of a URL
    pub fn places(view: &View<'_>, tables: &Tables<'_>, mut visit: impl FnMut(usize, Group)) {
        let model = &tables.model;
        let suffixes = DENSE;
        let hosts = suffixes.saturating_add(model.suffixes.len());
        let paths = hosts.saturating_add(model.host_grams.len());
        let mut places = Places(|group, feature| {
            let place = match feature {
                Feature::Dim(dim, value) => dense_at(dim, value),
                Feature::Suffix(name) => match model.suffix_index(name) {
                    Some(index) => suffixes.saturating_add(index),
                    None => return,
                },
                Feature::HostGram(hash) => hosts.saturating_add(gram_at(hash, model.host_shift)),
                Feature::PathGram(hash) => paths.saturating_add(gram_at(hash, model.path_shift)),
            };
            visit(place, group);
        });
        each(&Input::of(view, tables), &mut places);
    }

    struct Places<F>(F);

    impl<F: FnMut(Group, Feature)> Visit for Places<F> {
        fn feature(&mut self, group: Group, feature: Feature) {
            (self.0)(group, feature);
        }
    }

    /// The sum of a URL, in 1/1024 of a logit
    #[must_use]
    pub fn sum(view: &View<'_>, tables: &Tables<'_>) -> i32 {
        let input = Input::of(view, tables);
        super::super::total(&input, &super::super::sums(&input, &tables.model))
    }

    /// The name and the group of a dimension, for reports
    #[must_use]
    pub fn dimension(index: usize) -> Option<(alloc::string::String, Group)> {
        dimension_group(index)
    }

    impl Model<'_> {
        /// The bytes of the greatest regions, for reports
        #[must_use]
        pub fn gram_bytes(&self) -> usize {
            self.host_grams.len().saturating_add(self.path_grams.len())
        }
    }
}

const _: () = assert!(u16::MAX as usize > DENSE);
