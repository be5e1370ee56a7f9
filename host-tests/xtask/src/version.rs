//! Version numbers as tools print them.

use std::fmt;

/// `major.minor.patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The first `number.number.number` in `text`, whatever stands around it.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .find_map(|word| {
                let mut numbers = word.split('.').map(str::parse);
                let version = Self(
                    numbers.next()?.ok()?,
                    numbers.next()?.ok()?,
                    numbers.next()?.ok()?,
                );
                numbers.next().is_none().then_some(version)
            })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_tools_print() {
        let envoy = "envoy  version: 9e5580933739775e8bce/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(Version::find(envoy), Some(Version(1, 40, 0)));
        assert_eq!(
            Version::find("rustc 1.95.0 (59807616e 2026-04-14)"),
            Some(Version(1, 95, 0))
        );
        assert_eq!(Version::find("envoy 1.41.0-dev"), Some(Version(1, 41, 0)));
        assert_eq!(
            Version::find("version 1.2, or 1.2.3.4, or 99999999999.0.0"),
            None
        );
    }

    #[test]
    fn compares_by_number() {
        assert!(Version(1, 9, 12) < Version(1, 35, 0) && Version(2, 0, 0) > Version(1, 40, 1));
    }
}
