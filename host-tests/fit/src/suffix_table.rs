//! Writes the public suffixes that the gate itself knows: `filter/policy/src/suffix/list.bin`.
//!
//! A minimal automaton over the rules, each written backwards and followed by `.*` for a wildcard, `!` for an exception.
//! Rules of one label are left out: the gate takes every top-level domain for a suffix.
//!
//! The table is the list's day (10 bytes), 91 words (8 bytes each), and the edges of the first state. An edge is a byte:
//! its symbol ([`symbol`]), `0x40` if nothing but a rule's end comes after it, `0x80` if it is the last of its state. One
//! that is neither is followed by the length of what it leads to (7 bits, or 15 bits and `0x80`, the higher byte
//! first). Then come the edges of the state it leads to, or, where they come anyway, `0xff` and how many bytes
//! later (16 bits, the higher byte first).
//!
//! A state of one edge can begin with a word: bytes 41 to 63, and those plus `0x40`, `0x80` and `0xc0` but for `0xff`,
//! stand for the edges that word has, in which `0xff` is none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::suffixes::{Rule, rules};

const LEAF: u8 = 0x40;
const LAST: u8 = 0x80;
const JUMP: u8 = 0xff;
/// The symbol with which a rule ends
const END: u8 = 40;
const WORDS: u8 = 91;
const WORD: usize = 8;
/// Bytes that are written again rather than referred to
const SHORT: usize = 3;

/// The table for a list in the format of publicsuffix.org
///
/// # Errors
/// A rule that is no name, with its line; a list that says no day in a line `// VERSION: `, or that is too long
pub fn suffix_table(list: &str) -> Result<Vec<u8>, String> {
    let day = list
        .lines()
        .find_map(|line| line.strip_prefix("// VERSION: "))
        .and_then(|version| version.get(..10))
        .ok_or("suffix list: it says no day; take the one that is published")?;
    let mut spelled = BTreeSet::new();
    for rule in rules(list)? {
        if rule.wildcard || rule.name.contains('.') {
            let symbols = spell(&rule);
            spelled.insert(symbols.ok_or_else(|| format!("suffix list: `{}`", rule.name))?);
        }
    }
    let rules: Vec<&[u8]> = spelled.iter().map(Vec::as_slice).collect();
    let mut automaton = Automaton::default();
    let first = automaton.state(&rules, 0);
    let states = &automaton.states;
    // The words are those of a table without words, of one with these, and so on, until that gains nothing.
    let mut best = Backwards::write(states, first, Vec::new())?;
    loop {
        let next = Backwards::write(states, first, words(&best.runs))?;
        if next.bytes.len() >= best.bytes.len() {
            break;
        }
        best = next;
    }
    let mut table = day.as_bytes().to_vec();
    for number in 0..usize::from(WORDS) {
        let word = best.words.get(number).map(Vec::as_slice);
        let padded = word.unwrap_or_default().iter().chain(&[JUMP; WORD]);
        table.extend(padded.take(WORD));
    }
    table.extend(best.bytes.iter().rev());
    Ok(table)
}

fn spell(rule: &Rule) -> Option<Vec<u8>> {
    let mark: &[u8] = match (rule.wildcard, rule.exception) {
        (true, _) => b".*",
        (_, true) => b"!",
        _ => b"",
    };
    let name = rule.name.bytes().rev();
    let symbols = name.chain(mark.iter().copied()).map(symbol);
    symbols.chain([Some(END)]).collect()
}

fn symbol(byte: u8) -> Option<u8> {
    let symbols = b"0123456789abcdefghijklmnopqrstuvwxyz-.*!";
    let at = symbols.iter().position(|symbol| *symbol == byte)?;
    u8::try_from(at).ok()
}

/// The byte for a word
fn code(number: usize) -> Option<u8> {
    let number = u8::try_from(number).ok().filter(|number| *number < WORDS)?;
    let of = number.checked_rem(23)?.checked_add(41)?;
    Some(of | number.checked_div(23)? << 6)
}

/// Symbols, and the numbers of the states that they lead to; the end of a rule leads to a state without edges
type Edges = Vec<(u8, usize)>;

#[derive(Default)]
struct Automaton {
    states: Vec<Edges>,
    known: HashMap<Edges, usize>,
}

impl Automaton {
    /// The state after as many symbols as sorted rules have in common
    fn state(&mut self, rules: &[&[u8]], common: usize) -> usize {
        let of = |rule: &&[u8]| rule.get(common).copied();
        let edges: Edges = rules
            .chunk_by(|one, other| of(one) == of(other))
            .filter_map(|group| {
                let symbol = of(group.first()?)?;
                Some((symbol, self.state(group, common.saturating_add(1))))
            })
            .collect();
        let next = self.states.len();
        let states = &mut self.states;
        *self.known.entry(edges).or_insert_with_key(|edges| {
            states.push(edges.clone());
            next
        })
    }
}

/// The edges from the table's end: what is referred to is there before what refers to it
struct Backwards<'s> {
    states: &'s [Edges],
    words: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    /// Where the edges of a state begin, from the end, and their length
    written: BTreeMap<usize, (usize, usize)>,
    /// Edges of states that have one, as they followed each other
    runs: Vec<Vec<u8>>,
}

impl<'s> Backwards<'s> {
    fn write(states: &'s [Edges], first: usize, words: Vec<Vec<u8>>) -> Result<Self, String> {
        let mut table = Self {
            states,
            words,
            bytes: Vec::new(),
            written: BTreeMap::new(),
            runs: Vec::new(),
        };
        table.state(first)?;
        Ok(table)
    }

    fn edges(&self, state: usize) -> &'s [(u8, usize)] {
        self.states
            .get(state)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    fn ends(&self, state: usize) -> bool {
        match self.edges(state) {
            [] => true,
            [(END, end)] => self.edges(*end).is_empty(),
            _ => false,
        }
    }

    /// Whether a state is there and is worth a reference, with where it is
    fn is_written(&self, state: usize) -> Option<usize> {
        let (at, length) = self.written.get(&state)?;
        (*length > SHORT).then_some(*at)
    }

    fn state(&mut self, state: usize) -> Result<(), String> {
        let before = self.bytes.len();
        if let Some(at) = self.is_written(state) {
            let later = before.saturating_add(SHORT).saturating_sub(at);
            let later = u16::try_from(later).map_err(|_| TOO_LONG)?;
            self.bytes.extend(later.to_le_bytes());
            self.bytes.push(JUMP);
            return Ok(());
        }
        match self.edges(state) {
            [_] => self.run(state)?,
            edges => self.fork(edges)?,
        }
        let length = self.bytes.len().saturating_sub(before);
        self.written.insert(state, (self.bytes.len(), length));
        Ok(())
    }

    fn fork(&mut self, edges: &[(u8, usize)]) -> Result<(), String> {
        // The last edge needs no length: it is the one behind which the most comes.
        let mut edges = edges.to_vec();
        edges.sort_by_key(|(_, to)| if self.ends(*to) { 0 } else { self.weight(*to) });
        let mut last = LAST;
        for (symbol, to) in edges.into_iter().rev() {
            let mut edge = symbol | last;
            if self.ends(to) {
                edge |= LEAF;
            } else {
                let end = self.bytes.len();
                self.state(to)?;
                if last == 0 {
                    self.length(self.bytes.len().saturating_sub(end))?;
                }
            }
            self.bytes.push(edge);
            last = 0;
        }
        Ok(())
    }

    /// States of one edge each, and where they lead to
    fn run(&mut self, mut state: usize) -> Result<(), String> {
        let mut run = Vec::new();
        let mut states = Vec::new();
        while let [(symbol, to)] = *self.edges(state) {
            states.push(state);
            if self.ends(to) {
                run.push(symbol | LAST | LEAF);
                break;
            }
            run.push(symbol | LAST);
            state = to;
            if self.is_written(state).is_some() {
                break;
            }
        }
        if run.last().is_some_and(|edge| edge & LEAF == 0) {
            self.state(state)?;
        }
        let end = self.bytes.len();
        // The fewest bytes for what is left of the run, and how many edges the first of them stands for
        let mut best = vec![(0usize, 0usize, 0u8)];
        for at in (0..run.len()).rev() {
            let left = run.get(at..).unwrap_or_default();
            let cost = |edges: usize| {
                let after = best.len().saturating_sub(edges);
                best.get(after)
                    .map_or(0, |(cost, ..)| cost.saturating_add(1))
            };
            let one = left.first().map(|edge| (cost(1), 1, *edge));
            let words = self.words.iter().enumerate();
            let by_word = words.filter(|(_, word)| left.starts_with(word));
            let by_word =
                by_word.filter_map(|(n, word)| Some((cost(word.len()), word.len(), code(n)?)));
            best.extend(
                one.into_iter()
                    .chain(by_word)
                    .min_by_key(|(cost, ..)| *cost),
            );
        }
        let mut at = run.len();
        let mut coded = Vec::new();
        while let Some((_, edges, byte)) = best.get(at).filter(|(_, edges, _)| *edges > 0) {
            coded.push((*byte, run.len().saturating_sub(at)));
            at = at.saturating_sub(*edges);
        }
        for (byte, from) in coded.into_iter().rev() {
            self.bytes.push(byte);
            // What begins with a byte of its own can be referred to.
            if let Some(state) = states.get(from) {
                let length = self.bytes.len().saturating_sub(end);
                self.written
                    .entry(*state)
                    .or_insert((self.bytes.len(), length));
            }
        }
        self.runs.push(run);
        Ok(())
    }

    fn length(&mut self, length: usize) -> Result<(), String> {
        let [high, low] = u16::try_from(length)
            .ok()
            .filter(|length| *length < 0x8000)
            .ok_or(TOO_LONG)?
            .to_be_bytes();
        if high == 0 && low < 0x80 {
            self.bytes.push(low);
        } else {
            self.bytes.extend([low, high | 0x80]);
        }
        Ok(())
    }

    /// How many rules end behind a state
    fn weight(&self, state: usize) -> usize {
        let inner = self.edges(state).iter().map(|(_, to)| self.weight(*to));
        inner.sum::<usize>().max(1)
    }
}

const TOO_LONG: &str = "suffix list: it is too long for the table's 16 bits";

/// Words that make runs short: the pair that is met the most often becomes one, again and again
fn words(runs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut runs: Vec<Vec<Vec<u8>>> = runs
        .iter()
        .map(|run| run.iter().map(|edge| vec![*edge]).collect())
        .collect();
    let mut words = Vec::new();
    while words.len() < usize::from(WORDS) {
        let mut met: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for pair in runs.iter().flat_map(|run| run.windows(2)) {
            let word = pair.concat();
            if word.len() <= WORD {
                let times = met.entry(word).or_default();
                *times = times.saturating_add(1);
            }
        }
        let Some((word, _)) = met.into_iter().max_by_key(|(_, times)| *times) else {
            break;
        };
        for run in &mut runs {
            let mut merged: Vec<Vec<u8>> = Vec::new();
            for part in run.drain(..) {
                match merged.last_mut() {
                    Some(last) if [last.as_slice(), &part].concat() == word => last.extend(part),
                    _ => merged.push(part),
                }
            }
            *run = merged;
        }
        words.push(word);
    }
    words
}
