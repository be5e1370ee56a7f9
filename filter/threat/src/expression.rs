//! What of a URL is looked up: suffixes of its host with prefixes of its path.

/// Lookup expressions of a URL, the most specific first; at most 30
///
/// Each is a piece of `host/path?query`, so none is copied. Hosts: the whole one, and up to four that begin
/// in the last five labels, of two labels at least; only the whole one of an address. Paths: with query,
/// without, then `/` and up to three directories. Source: Safe Browsing v4, "Suffix/prefix expressions".
#[derive(Clone, Debug)]
pub struct Expressions<'a> {
    text: &'a str,
    /// Where hosts begin, and where paths end; `count` of each
    hosts: [u32; MAX_HOSTS],
    paths: [u32; MAX_PATHS],
    host_count: u8,
    path_count: u8,
    exact_paths: u8,
    host: u8,
    path: u8,
}

/// A piece of a URL that is looked up
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expression<'a> {
    /// `host/path?query`, without a scheme
    pub text: &'a str,
    /// Whether it has the whole host, not only the end of it
    pub own_host: bool,
    /// Whether it has the whole path, with or without the query
    pub own_path: bool,
}

const MAX_HOSTS: usize = 5;
const MAX_PATHS: usize = 6;

impl<'a> Expressions<'a> {
    /// From `host/path?query`, and where its path and its query begin
    pub(crate) fn new(text: &'a str, path_at: usize, query_at: usize, is_address: bool) -> Self {
        let mut made = Self {
            text,
            hosts: [0; MAX_HOSTS],
            paths: [0; MAX_PATHS],
            host_count: 1,
            path_count: 0,
            exact_paths: 0,
            host: 0,
            path: 0,
        };
        let bytes = text.as_bytes();
        made.add_path(text.len());
        made.add_path(query_at);
        made.exact_paths = made.path_count;
        let slashes = bytes.iter().enumerate().skip(path_at);
        let slashes = slashes.filter(|(at, byte)| **byte == b'/' && *at < query_at);
        for (slash, _) in slashes.take(4) {
            made.add_path(slash.saturating_add(1));
        }
        if !is_address {
            made.add_hosts(bytes.get(..path_at).unwrap_or(b""));
        }
        made
    }

    fn add_path(&mut self, end: usize) {
        let Ok(end) = u32::try_from(end) else {
            return;
        };
        let known = self.paths.get(..usize::from(self.path_count));
        if known.is_some_and(|paths| paths.contains(&end)) {
            return;
        }
        if let Some(path) = self.paths.get_mut(usize::from(self.path_count)) {
            *path = end;
            self.path_count = self.path_count.saturating_add(1);
        }
    }

    fn add_hosts(&mut self, host: &[u8]) {
        // Begins of the last five labels but the last, from the right.
        let mut begins = [0u32; MAX_HOSTS];
        let mut count = 0usize;
        let dots = host.iter().enumerate().rev();
        let dots = dots.filter(|(_, byte)| **byte == b'.').skip(1).take(4);
        for (dot, _) in dots {
            if let (Some(begin), Ok(at)) =
                (begins.get_mut(count), u32::try_from(dot.saturating_add(1)))
            {
                *begin = at;
                count = count.saturating_add(1);
            }
        }
        for begin in begins.iter().take(count).rev() {
            if let Some(host) = self.hosts.get_mut(usize::from(self.host_count)) {
                *host = *begin;
                self.host_count = self.host_count.saturating_add(1);
            }
        }
    }
}

impl<'a> Iterator for Expressions<'a> {
    type Item = Expression<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.path >= self.path_count {
            self.path = 0;
            self.host = self.host.saturating_add(1);
        }
        if self.host >= self.host_count {
            return None;
        }
        let begin = *self.hosts.get(usize::from(self.host))?;
        let end = *self.paths.get(usize::from(self.path))?;
        let expression = Expression {
            text: self
                .text
                .get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)?,
            own_host: self.host == 0,
            own_path: self.path < self.exact_paths,
        };
        self.path = self.path.saturating_add(1);
        Some(expression)
    }
}
