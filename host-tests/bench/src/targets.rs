//! What is submitted to be judged: none of it is listed, so nothing ends the search for it early.

use std::fmt::Write as _;

/// The shape of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 76 characters, and what most URLs have.
    Typical,
    /// A host of seven labels and a path of seven segments, with a query: all of the 30 expressions that a URL has.
    Thirty,
    /// The same, and a host as long as hosts get, of words that are each nearly a brand's name.
    Host,
    /// The same as `Thirty`, with another one to browsers, and capitals: four times the lookups.
    Readings,
    /// As many characters as a URL in a text may have, most of them escaped.
    Long,
    /// A text of 32 of the latter.
    Text,
}

impl Shape {
    pub(crate) const ALL: [Self; 6] = [
        Self::Typical,
        Self::Thirty,
        Self::Host,
        Self::Readings,
        Self::Long,
        Self::Text,
    ];

    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Typical => "typical",
            Self::Thirty => "thirty",
            Self::Host => "host",
            Self::Readings => "readings",
            Self::Long => "long",
            Self::Text => "text",
        }
    }

    /// What that means.
    pub(crate) const fn told(self) -> &'static str {
        match self {
            Self::Typical => "two labels under a suffix, two segments, a query",
            Self::Thirty => "30 expressions",
            Self::Host => "30 expressions, host of 253 characters of nearly brands",
            Self::Readings => "30 expressions in two readings, each with capitals",
            Self::Long => "30 expressions, 2,000 characters, most escaped",
            Self::Text => "32 URLs of 2,000 characters",
        }
    }

    /// The n-th target of this shape; no two have an expression in common.
    pub(crate) fn target(self, number: u32) -> String {
        match self {
            Self::Typical => format!(
                "https://download-{number:05}.example.net/files/installer.exe?session={number:05}&lang=en"
            ),
            Self::Thirty => format!(
                "http://login-{number:05}.secure.account.update.customer{number:05}.example.net\
                 /banking/session/verify/step/five/six/{number:05}.html?continue=https&token={number:05}"
            ),
            Self::Host => {
                // Longer by a letter or so than many a brand's name, and of the letters of many.
                let label = "amertceisn-".repeat(5);
                let label = label.trim_end_matches('-');
                let rest = format!("n{number:05}-mertceisno-amertceisno");
                format!(
                    "http://{label}.{label}.{label}.{label}.{rest}.com/1/2/3/4/5/6/7?q={number:05}"
                )
            }
            Self::Readings => format!(
                "http://a{number:05}.b.c.d.e.net\\@A.b{number:05}.c.d.e.net/1/2/3/4/5/6/7?q={number:05}"
            ),
            Self::Long => long(number, 2000),
            Self::Text => {
                let numbers = (0..32).map(|at| number.wrapping_mul(32).wrapping_add(at));
                numbers.fold(String::new(), |mut text, number| {
                    let _ = write!(text, "{} ", Self::Long.target(number));
                    text
                })
            }
        }
    }
}

/// A URL of 30 expressions of so many characters, most of them escaped
fn long(number: u32, length: usize) -> String {
    let head = format!("http://A{number:05}.b.c.d.e{number:05}.net/1/2/3/4/5/6/");
    let tail = format!("?q={number:05}");
    let left = length.saturating_sub(head.len()).saturating_sub(tail.len());
    let escapes = "%2541%42".repeat(left.div_ceil(8));
    let escapes = escapes.get(..left).unwrap_or_default();
    [&head, escapes, &tail].concat()
}

/// Texts of 32 URLs each, as many and as long as one screen judges, within so many bytes of JSON.
pub(crate) fn texts(number: u32, bytes: usize) -> Vec<String> {
    const MOST: u32 = 32;
    let all = MOST.saturating_mul(MOST);
    let each = bytes
        .checked_div(usize::try_from(all).unwrap_or(1))
        .unwrap_or_default();
    let url = |at: u32| {
        let number = number
            .wrapping_mul(all)
            .wrapping_add(at)
            .checked_rem(100_000);
        let number = number.unwrap_or_default();
        // What is too short to be long has two readings, each with capitals.
        if each < 200 {
            format!("http://a{number:05}.b.c.net\\@A.b{number:05}.c.net/1/2/3/4/5/6?{number:05}")
        } else {
            long(number, each.saturating_sub(4))
        }
    };
    (0..MOST)
        .map(|text| {
            let urls = (0..MOST).map(|at| url(text.saturating_mul(MOST).saturating_add(at)));
            urls.fold(String::new(), |text, url| text + &url + " ")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use portcullis_threat::{Target, TargetKind};

    use super::*;

    fn expressions(target: &Target<'_>) -> usize {
        let form = target.web().unwrap().safe_browsing().unwrap();
        form.expressions().count()
    }

    #[test]
    fn shapes_are_what_they_say() {
        for number in [0, 1, 99_999] {
            for shape in [Shape::Thirty, Shape::Host, Shape::Readings, Shape::Long] {
                let text = shape.target(number);
                let target = Target::classify(&text);
                assert_eq!(target.kind(), TargetKind::Url, "{text}");
                assert_eq!(expressions(&target), 30, "{text}");
            }
            let host = Shape::Host.target(number);
            let target = Target::classify(&host);
            assert_eq!(
                target.web().unwrap().safe_browsing().unwrap().host().len(),
                253
            );
            let text = Shape::Text.target(number);
            assert_eq!(Target::classify(&text).kind(), TargetKind::Payload);
            let readings = Shape::Readings.target(number);
            assert!(Target::classify(&readings).web().unwrap().disagrees());
        }
    }

    #[test]
    fn a_screens_texts_fit() {
        for bytes in [64 << 10, 1 << 20] {
            let texts = texts(7, bytes);
            let length: usize = texts.iter().map(String::len).sum();
            assert_eq!(texts.len(), 32);
            assert!(length < bytes && length > bytes / 2, "{length}");
            for text in &texts {
                assert_eq!(Target::classify(text).kind(), TargetKind::Payload);
                assert_eq!(text.split_whitespace().count(), 32);
                let url = Target::classify(text.split_whitespace().next().unwrap());
                assert!(bytes > 100_000 || url.web().unwrap().disagrees());
            }
        }
    }
}
