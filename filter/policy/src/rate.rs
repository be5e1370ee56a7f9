//! What clients are told of their limit.

mod list;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use crate::name::Name;
use crate::reply::ResetUnit;

/// How an account's bucket stands
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    /// Cells per window
    pub(crate) limit: u64,
    /// Cells that can pass now without waiting
    pub(crate) remaining: u64,
    /// The window, in nanoseconds
    pub(crate) window: u64,
    /// Nanoseconds until the bucket is full
    pub(crate) full_in: u64,
}

/// How an API tells clients of their limits
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Telling {
    /// Whether limits of the upstream's own count
    pub(crate) merges: bool,
    /// Whether `RateLimit` and `RateLimit-Policy` are told besides
    pub(crate) ietf: bool,
    /// Whether a response says how long its request was held
    pub(crate) wait: bool,
}

/// The rate headers of a response
///
/// `X-RateLimit-Limit` (count per window), `-Remaining` (requests that can pass now without
/// waiting) and `-Reset` (when the bucket is full, in the unit of the API's dialect). Where the policy
/// asks for them, `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), and the
/// milliseconds that the request was held, as [`WAIT`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RateHeaders {
    limit: u64,
    remaining: u64,
    reset: u64,
    more: Option<Box<More>>,
}

/// What few policies ask for
#[derive(Clone, Debug, Eq, PartialEq)]
struct More {
    /// The limit's name, where it is told by the IETF's fields
    name: Option<Name>,
    standing: Standing,
    merges: bool,
    /// When the response's numbers were made, in nanoseconds since the Unix epoch
    wall: u64,
    unit: ResetUnit,
    /// Milliseconds for which the request was held
    waited: Option<u64>,
    /// What the upstream says in the IETF's fields
    theirs: Theirs,
}

/// Limits that an upstream tells in the IETF's fields, but for one of our limit's name that lets as much pass
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Theirs {
    limits: String,
    policies: String,
    /// Whether one of our limit's name lets less pass, so that ours is not told
    wins: bool,
    /// Whether its policy is told too
    has_policy: bool,
}

/// The response header that says for how many milliseconds its request was held
pub const WAIT: &str = "x-portcullis-wait";

const LIMIT: &str = "x-ratelimit-limit";
const REMAINING: &str = "x-ratelimit-remaining";
const RESET: &str = "x-ratelimit-reset";

impl RateHeaders {
    pub(crate) fn new(
        standing: Standing,
        wall: u64,
        unit: ResetUnit,
        telling: Telling,
        name: &Name,
    ) -> Self {
        let more = (telling != Telling::default()).then(|| {
            Box::new(More {
                name: telling.ietf.then(|| name.clone()),
                standing,
                merges: telling.merges,
                wall,
                unit,
                waited: telling.wait.then_some(0),
                theirs: Theirs::default(),
            })
        });
        Self {
            limit: standing.limit,
            remaining: standing.remaining,
            reset: reset_of(standing.full_in, wall, unit),
            more,
        }
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Notes for how many nanoseconds the request is held
    pub(crate) fn wait(&mut self, nanoseconds: u64) {
        if let Some(waited) = self.more.as_mut().and_then(|more| more.waited.as_mut()) {
            *waited = nanoseconds.div_ceil(1_000_000);
        }
    }

    /// Whether what the upstream says of limits is read: a shell then hands its headers to
    /// [`merged`](Self::merged)
    #[must_use]
    pub fn merges(&self) -> bool {
        let more = self.more.as_ref();
        more.is_some_and(|more| more.merges || more.name.is_some())
    }

    /// The same, or what an upstream says in its response's headers, `:status` among them, if that is less
    ///
    /// The limit that lets fewer requests pass is told, with its own count and end; a `Retry-After` of a
    /// 429 says that none passes until then. What can't be read is nothing: a time is a Unix time
    /// from a thousand million on, and else seconds from now.
    ///
    /// Of the IETF's fields the upstream's items stay, ours is added, and of two of one name the one that lets less
    /// pass is told. A field of theirs that is malformed goes: it would take ours with it.
    #[must_use]
    pub fn merged(mut self, headers: &[(&[u8], &[u8])]) -> Self {
        let Some(more) = &mut self.more else {
            return self;
        };
        if let Some(name) = &more.name {
            more.theirs = Theirs::read(name, more.standing.remaining, headers);
        }
        if !more.merges {
            return self;
        }
        let find = |name: &str| {
            let mut found = headers.iter().filter(|(n, _)| *n == name.as_bytes());
            let (_, value) = found.next()?;
            // Twice is in doubt.
            found.next().is_none().then(|| number(value))?
        };
        let reset = |value: u64| {
            let seconds = |value: u64| value.saturating_mul(1_000_000_000);
            let full_in = if value < UNIX_TIMES {
                seconds(value)
            } else {
                seconds(value).saturating_sub(more.wall)
            };
            reset_of(full_in, more.wall, more.unit)
        };
        let mut theirs = find(REMAINING).map(|remaining| {
            let limit = find(LIMIT).unwrap_or(remaining);
            (limit, remaining, find(RESET).map(reset))
        });
        if headers.contains(&(b":status", b"429")) {
            let retry_after = find("retry-after").map(reset);
            let known = theirs.and_then(|(_, _, reset)| reset);
            let limit = theirs.map_or(self.limit, |(limit, _, _)| limit);
            theirs = Some((limit, 0, known.max(retry_after)));
        }
        if let Some((limit, remaining, reset)) = theirs
            && remaining < self.remaining
        {
            (self.limit, self.remaining) = (limit, remaining);
            self.reset = reset.unwrap_or(self.reset);
        }
        self
    }

    /// Hands out each header, name in lower case; it stands in place of all of that name
    pub fn each(&self, mut header: impl FnMut(&'static str, &str)) {
        let mut digits = itoa::Buffer::new();
        header(LIMIT, digits.format(self.limit));
        header(REMAINING, digits.format(self.remaining));
        header(RESET, digits.format(self.reset));
        let Some(more) = self.more.as_deref() else {
            return;
        };
        if let Some(waited) = more.waited {
            header(WAIT, digits.format(waited));
        }
        let Some(name) = &more.name else {
            return;
        };
        let Theirs {
            mut limits,
            mut policies,
            wins,
            has_policy,
        } = more.theirs.clone();
        let name = name.as_str();
        let standing = more.standing;
        if !wins {
            let (left, reset) = (standing.remaining, seconds_up(standing.full_in));
            add(&mut limits, &format!("\"{name}\";r={left};t={reset}"));
        }
        // Who tells of a limit and of no policy leaves ours.
        if !has_policy {
            // A window is whole seconds, but for the rate's being rounded down.
            let window = standing.window.checked_div(1_000_000_000);
            let (quota, window) = (standing.limit, window.unwrap_or_default().max(1));
            add(&mut policies, &format!("\"{name}\";q={quota};w={window}"));
        }
        header(IETF_LIMITS, &limits);
        header(IETF_POLICIES, &policies);
    }
}

impl Theirs {
    fn read(name: &Name, remaining: u64, headers: &[(&[u8], &[u8])]) -> Self {
        let field = |field: &'static str| {
            let of = headers.iter().filter(move |(n, _)| *n == field.as_bytes());
            list::items(of.map(|(_, value)| *value))
        };
        let is_ours = |item: &list::Item<'_>| item.name == name.as_str();
        let limits = field(IETF_LIMITS);
        let less = |item: &list::Item<'_>| item.remaining.is_some_and(|left| left < remaining);
        let wins = limits.iter().any(|item| is_ours(item) && less(item));
        let text = |items: &[list::Item<'_>]| {
            let mut text = String::new();
            for item in items.iter().filter(|item| wins || !is_ours(item)) {
                add(&mut text, item.text);
            }
            text
        };
        let policies = field(IETF_POLICIES);
        Self {
            limits: text(&limits),
            has_policy: wins && policies.iter().any(is_ours),
            policies: text(&policies),
            wins,
        }
    }
}

const IETF_LIMITS: &str = "ratelimit";
const IETF_POLICIES: &str = "ratelimit-policy";

/// Adds an item to a list
fn add(list: &mut String, item: &str) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(item);
}

/// From here on, a number of seconds is an instant: September 2001
const UNIX_TIMES: u64 = 1_000_000_000;

fn reset_of(full_in: u64, wall: u64, unit: ResetUnit) -> u64 {
    match unit {
        ResetUnit::Seconds => seconds_up(full_in),
        ResetUnit::UnixTime => seconds_up(wall.saturating_add(full_in)),
    }
}

/// A whole number, as far as 64 bits go
fn number(value: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(value.trim_ascii()).ok()?;
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// Nanoseconds as whole seconds, rounded up: never promise an instant that is too early
pub(crate) fn seconds_up(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    const WALL: u64 = 1_800_000_000_000_000_000;

    fn headers(unit: ResetUnit) -> RateHeaders {
        let standing = Standing {
            limit: 60,
            remaining: 5,
            window: 60_000_000_000,
            full_in: 55_000_000_000,
        };
        let telling = Telling {
            merges: true,
            ietf: true,
            wait: true,
        };
        RateHeaders::new(standing, WALL, unit, telling, &Name::parse("gold").unwrap())
    }

    fn shown(headers: &RateHeaders) -> Vec<String> {
        let mut shown = Vec::new();
        headers.each(|_, value| shown.push(value.into()));
        shown
    }

    #[test]
    fn the_more_restrictive_limit_is_told() {
        let check = |status: &[u8], upstream: &[(&str, &str)], expected: [&str; 3]| {
            let status: [(&[u8], &[u8]); 1] = [(b":status", status)];
            let upstream_pairs = upstream
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let pairs: Vec<_> = status.into_iter().chain(upstream_pairs).collect();
            let merged = headers(ResetUnit::Seconds).merged(&pairs);
            assert_eq!(shown(&merged)[..3], expected, "{upstream:?}");
        };
        let own = ["60", "5", "55"];
        check(b"200", &[], own);
        check(b"200", &[(REMAINING, "6"), (LIMIT, "7")], own);
        check(b"200", &[(REMAINING, "5"), (LIMIT, "7")], own);
        check(b"200", &[(REMAINING, "x")], own);
        check(b"200", &[(REMAINING, "-1")], own);
        check(b"200", &[(REMAINING, "")], own);
        check(b"200", &[(REMAINING, "99999999999999999999")], own);
        check(b"200", &[(REMAINING, "1"), (REMAINING, "1")], own);
        check(b"200", &[("retry-after", "30")], own);
        let theirs = [(REMAINING, "2"), (LIMIT, "7"), (RESET, "9")];
        check(b"200", &theirs, ["7", "2", "9"]);
        let unix = [(REMAINING, "2"), (LIMIT, "7"), (RESET, "1800000012")];
        check(b"200", &unix, ["7", "2", "12"]);
        check(b"200", &[(REMAINING, "2")], ["2", "2", "55"]);
        check(b"429", &[("retry-after", "30")], ["60", "0", "30"]);
        check(b"429", &theirs, ["7", "0", "9"]);
        check(b"429", &[], ["60", "0", "55"]);
        let date = [("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")];
        check(b"429", &date, ["60", "0", "55"]);
        let told = headers(ResetUnit::UnixTime).merged(&[]);
        assert_eq!(shown(&told)[2], "1800000055");
        let told =
            headers(ResetUnit::UnixTime).merged(&[(b":status", b"429"), (b"retry-after", b"30")]);
        assert_eq!(shown(&told)[2], "1800000030");
    }

    #[test]
    fn fields_of_the_ietf_are_lists_of_named_limits() {
        let check = |upstream: &[(&str, &str)], limits: &str, policies: &str| {
            let pairs: Vec<_> = upstream
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect();
            let merged = headers(ResetUnit::UnixTime).merged(&pairs);
            assert_eq!(shown(&merged)[4..], [limits, policies], "{upstream:?}");
        };
        let (limit, policy) = ("\"gold\";r=5;t=55", "\"gold\";q=60;w=60");
        check(&[], limit, policy);
        let other = [
            (IETF_LIMITS, "free;r=0;t=9"),
            (IETF_POLICIES, "\"free\";q=1"),
        ];
        check(
            &other,
            &format!("free;r=0;t=9, {limit}"),
            &format!("\"free\";q=1, {policy}"),
        );
        let lines = [(IETF_LIMITS, "\"a\";r=1"), (IETF_LIMITS, "b;r=2")];
        check(&lines, &format!("\"a\";r=1, b;r=2, {limit}"), policy);
        // One of our name: the smaller one, ours when they are equal.
        let looser = [
            (IETF_LIMITS, "gold;r=5;t=1, x;r=1"),
            (IETF_POLICIES, "gold;q=9"),
        ];
        check(&looser, &format!("x;r=1, {limit}"), policy);
        let unknown = [(IETF_LIMITS, "\"gold\";t=1")];
        check(&unknown, limit, policy);
        let tighter = [
            (IETF_LIMITS, "\"gold\";r=4;t=1"),
            (IETF_POLICIES, "\"gold\";q=9"),
        ];
        check(&tighter, "\"gold\";r=4;t=1", "\"gold\";q=9");
        check(&tighter[..1], "\"gold\";r=4;t=1", policy);
        let of_another = [tighter[0], (IETF_POLICIES, "free;q=1")];
        check(
            &of_another,
            "\"gold\";r=4;t=1",
            &format!("free;q=1, {policy}"),
        );
        // What can't be read would hide ours.
        for garbage in [
            "limit=10, remaining=0",
            "gold;r=0;;",
            "\"gold",
            "(gold);r=0",
        ] {
            check(
                &[(IETF_LIMITS, garbage), (IETF_POLICIES, garbage)],
                limit,
                policy,
            );
        }
    }
}
