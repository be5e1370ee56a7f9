//! How much may be judged in one go.

use crate::target::{Target, TargetKind};

/// What is left of the work that one request may make
///
/// Its unit is a URL, name or address of up to 255 bytes, which takes some 20 microseconds in V8; longer ones take one more each 256
/// bytes, a payload one and one more each 16 KiB, and what it carries as if it came alone.
#[derive(Clone, Copy, Debug)]
pub struct Effort(usize);

impl Effort {
    /// So many units
    #[must_use]
    pub const fn new(units: usize) -> Self {
        Self(units)
    }

    /// Takes what a target needs; false, and nothing is left, where that is more than there is
    pub(crate) fn take(&mut self, target: &Target<'_>) -> bool {
        let each = match target.kind() {
            TargetKind::Payload => 14,
            _ => 8,
        };
        let needed = (target.text().len() >> each).saturating_add(1);
        let left = self.0.checked_sub(needed);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;

    #[test]
    fn targets_by_length() {
        let needs = |text: &str, units: usize| {
            let target = Target::classify(text);
            assert!(Effort::new(units).take(&target), "{text}");
            let mut less = Effort::new(units.checked_sub(1).unwrap());
            assert!(!less.take(&target), "{text}");
            assert!(!less.take(&Target::classify("a.example")));
        };
        let url = |length: usize| {
            let host = "http://a.example/";
            format!(
                "{host}{}",
                "x".repeat(length.checked_sub(host.len()).unwrap())
            )
        };
        needs("203.0.113.7", 1);
        needs(&url(255), 1);
        needs(&url(256), 2);
        needs(&url(2048), 9);
        needs("two words", 1);
        let words = |length: usize| -> String { "w ".repeat(length.checked_div(2).unwrap()) };
        needs(&words(16_382), 1);
        needs(&words(1 << 20), 65);
    }
}
