//! What is looked up, the same in the guest and in the native run.

use portcullis_threat::Bundle;
use portcullis_threat::bundle::Set;

/// The lookup expression with this number: 45 bytes, as long as the usual one
pub(crate) fn expression(number: u32) -> [u8; 45] {
    let mut expression = *b"host-00000000.example/path/index.php?id=12345";
    let mut left = number;
    for digit in expression.iter_mut().skip(5).take(8) {
        let low = u8::try_from(left & 0xf).unwrap_or(0);
        *digit = if low < 10 { b'0' } else { b'a' - 10 }.wrapping_add(low);
        left >>= 4;
    }
    expression
}

/// How many of so many expressions are found, in an order that no cache foresees, among `count` from `first` on
pub(crate) fn probe(bundle: &Bundle, probes: u32, count: u32, first: u32) -> u32 {
    each(probes, count, first, |key| {
        bundle.find(Set::Url, key).is_some()
    })
}

/// The same without the lookups: what the probes cost by themselves
pub(crate) fn blank(probes: u32, count: u32, first: u32) -> u32 {
    each(probes, count, first, |key| {
        core::hint::black_box(key).is_empty()
    })
}

fn each(probes: u32, count: u32, first: u32, is_found: impl Fn(&[u8; 45]) -> bool) -> u32 {
    let mut found = 0_u32;
    let mut number = 0_u32;
    for _ in 0..probes {
        // Numerical Recipes' generator: every number comes once before one comes again.
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let one = (number >> 2).checked_rem(count).unwrap_or(0);
        let key = expression(first.wrapping_add(one));
        found = found.wrapping_add(u32::from(is_found(&key)));
    }
    found
}
