//! What of a replica lies in the store.
//!
//! Layouts, version 1, little-endian, each with a checksum (u32) behind it. Foreign bytes are no record:
//! they are replaced as if there was nothing.
//! Lease: `"PL"`, 1, failures (u8), holder (u64), expires (u64), due (u64).
//! Manifest: `"PM"`, 1, slot (u8), generation (u64), checked (u64), pages (u32), entity tag.
//! Page: `"PP"`, 1, 0, generation (u64), bytes; its checksum is the file's own.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Time;
use crate::account::{AccountKey, AccountStore, StoreError, checksum};

/// Who fetches, and when that is to be done next
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lease {
    holder: u64,
    expires: u64,
    due: u64,
    failures: u8,
}

/// Nanoseconds for which a worker fetches without a sign of life, beyond its questions' timeouts
const PATIENCE: u64 = 15_000_000_000;

const SECOND: u64 = 1_000_000_000;

/// Longest pause after failures, in nanoseconds
const MAX_PAUSE: u64 = 3600 * SECOND;

impl Lease {
    /// Takes the lease, if the file is due and nobody has it
    ///
    /// Returns what it is held by.
    pub(super) fn take(id: AccountKey, time: Time, store: &mut dyn AccountStore) -> Option<u64> {
        let holder = time.random | 1;
        let taken = change(id, store, |lease| {
            let free = lease.holder == 0 || time.now >= lease.expires;
            let may = free && time.now >= lease.due;
            if may {
                lease.holder = holder;
                lease.expires = time.now.saturating_add(PATIENCE);
            }
            may
        });
        taken.then_some(holder)
    }

    /// Keeps it; false when another worker has it by now
    pub(super) fn keep(
        id: AccountKey,
        holder: u64,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> bool {
        change(id, store, |lease| {
            lease.expires = now.saturating_add(PATIENCE);
            lease.holder == holder
        })
    }

    /// Gives it back until the next look is due
    pub(super) fn release(
        id: AccountKey,
        holder: u64,
        time: Time,
        refresh: u64,
        store: &mut dyn AccountStore,
    ) {
        change(id, store, |lease| {
            let ours = lease.holder == holder;
            *lease = Self {
                due: time.now.saturating_add(jittered(refresh, time.random)),
                ..Self::default()
            };
            ours
        });
    }

    /// Gives it back after a failure: each one in a row doubles the pause
    pub(super) fn release_failed(
        id: AccountKey,
        holder: u64,
        time: Time,
        (refresh, retry_after): (u64, Option<u64>),
        store: &mut dyn AccountStore,
    ) {
        change(id, store, |lease| {
            let ours = lease.holder == holder;
            let failures = lease.failures.saturating_add(1).min(12);
            let pause = SECOND
                .wrapping_shl(u32::from(failures))
                .min(refresh.max(SECOND));
            let pause = pause.max(retry_after.unwrap_or_default()).min(MAX_PAUSE);
            *lease = Self {
                due: time.now.saturating_add(jittered(pause, time.random)),
                failures,
                ..Self::default()
            };
            ours
        });
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let rest = checked(record)?;
        let ([b'P', b'L', 1, failures], rest) = rest.split_first_chunk::<4>()? else {
            return None;
        };
        let (words, []) = rest.as_chunks::<8>() else {
            return None;
        };
        let [holder, expires, due] = <&[[u8; 8]; 3]>::try_from(words).ok()?;
        Some(Self {
            holder: u64::from_le_bytes(*holder),
            expires: u64::from_le_bytes(*expires),
            due: u64::from_le_bytes(*due),
            failures: *failures,
        })
    }

    fn encode(self, record: &mut Vec<u8>) {
        record.extend_from_slice(&[b'P', b'L', 1, self.failures]);
        for word in [self.holder, self.expires, self.due] {
            record.extend_from_slice(&word.to_le_bytes());
        }
        seal(record);
    }
}

/// Changes the lease if `change` says so; whether it did
fn change(
    id: AccountKey,
    store: &mut dyn AccountStore,
    change: impl Fn(&mut Lease) -> bool,
) -> bool {
    let mut changed = false;
    let updated = store.update(&part(id, b"lease", 0, 0), &mut |record, fresh| {
        let mut lease = record.and_then(Lease::decode).unwrap_or_default();
        changed = change(&mut lease);
        lease.encode(fresh);
        changed
    });
    changed && updated.is_ok()
}

/// A tenth more or less, so that no two sources are asked in step
fn jittered(span: u64, random: u64) -> u64 {
    let tenth = span.checked_div(10).unwrap_or_default();
    let spread = tenth.saturating_mul(2).saturating_add(1);
    let offset = random.checked_rem(spread).unwrap_or_default();
    span.saturating_sub(tenth).saturating_add(offset)
}

/// What is in force
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) generation: u64,
    /// When its source was heard of last, in monotonic nanoseconds
    pub(super) checked: u64,
    pub(super) slot: u8,
    pub(super) pages: u32,
    pub(super) etag: Box<[u8]>,
}

impl Manifest {
    pub(super) fn read(id: AccountKey, store: &mut dyn AccountStore) -> Option<Self> {
        let mut manifest = None;
        let read = store.update(&part(id, b"manifest", 0, 0), &mut |record, _| {
            manifest = record.and_then(Self::decode);
            false
        });
        manifest.filter(|_| read.is_ok())
    }

    pub(super) fn write(
        &self,
        id: AccountKey,
        store: &mut dyn AccountStore,
    ) -> Result<(), StoreError> {
        store.update(&part(id, b"manifest", 0, 0), &mut |_, fresh| {
            fresh.extend_from_slice(&[b'P', b'M', 1, self.slot]);
            fresh.extend_from_slice(&self.generation.to_le_bytes());
            fresh.extend_from_slice(&self.checked.to_le_bytes());
            fresh.extend_from_slice(&self.pages.to_le_bytes());
            fresh.extend_from_slice(&self.etag);
            seal(fresh);
            true
        })
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let rest = checked(record)?;
        let ([b'P', b'M', 1, slot], rest) = rest.split_first_chunk::<4>()? else {
            return None;
        };
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (checked, rest) = rest.split_first_chunk::<8>()?;
        let (pages, etag) = rest.split_first_chunk::<4>()?;
        Some(Self {
            generation: u64::from_le_bytes(*generation),
            checked: u64::from_le_bytes(*checked),
            slot: slot & 1,
            pages: u32::from_le_bytes(*pages),
            etag: etag.into(),
        })
    }

    /// What stands before the bytes of its pages
    pub(super) fn mark(&self) -> [u8; 12] {
        mark(self.generation)
    }
}

/// What stands before the bytes of the pages of a generation
pub(super) fn mark(generation: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = generation.to_le_bytes();
    [b'P', b'P', 1, 0, a, b, c, d, e, f, g, h]
}

/// Where a page lies
pub(super) fn page_key(id: AccountKey, slot: u8, page: u32) -> [u8; 16] {
    part(id, b"page", slot, page)
}

/// Gives the memory of a slot's pages back to the host, which keeps their keys
pub(super) fn clear(id: AccountKey, slot: u8, pages: u32, store: &mut dyn AccountStore) {
    for page in 0..pages {
        // What can't be cleared is overwritten by the next file.
        let _: Result<(), StoreError> = store.update(&page_key(id, slot, page), &mut |_, _| true);
    }
}

fn part(id: AccountKey, kind: &[u8], slot: u8, page: u32) -> [u8; 16] {
    AccountKey::hash(&[&id.bytes(), kind, &[slot], &page.to_le_bytes()]).bytes()
}

fn seal(record: &mut Vec<u8>) {
    let sum = checksum(record);
    record.extend_from_slice(&sum.to_le_bytes());
}

fn checked(record: &[u8]) -> Option<&[u8]> {
    let (checked, sum) = record.split_last_chunk::<4>()?;
    (u32::from_le_bytes(*sum) == checksum(checked)).then_some(checked)
}
