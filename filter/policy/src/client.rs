//! The unauthenticated bucket: what callers without a good key may spend, by client address.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::num::NonZeroUsize;

use lru::LruCache;

use crate::account::{AccountKey, AccountStore, StoreError, checksum};
use crate::bucket::{Bucket, Refused};
use crate::limiter::Charged;
use crate::rate::Standing;

/// Parses the client address as Envoy's `source.address` gives it, `203.0.113.7:4711` or `[::1]:80`
///
/// An IPv4 address mapped into IPv6 is that IPv4 address. `None` for anything else, such as
/// the path of a unix socket.
#[must_use]
pub fn parse_client(address: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(address).ok()?;
    let address = match text.parse::<SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => text.parse().ok()?,
    };
    Some(address.to_canonical())
}

/// A fixed table of buckets for client addresses
///
/// 1,024 records of 64 buckets each lie in the shared store, half a megabyte in all, however many
/// addresses call. Which bucket an address falls into is a keyed hash, so nobody can aim at another
/// one's; addresses that share a bucket can only make it stricter. IPv6 addresses count by their
/// /64, callers without an address share one bucket.
#[derive(Debug)]
pub(crate) struct Clients {
    seed: [u8; 16],
    /// Buckets that this worker saw empty, so that a flood costs no trips to the store
    seen: LruCache<Slot, Seen>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Slot {
    shard: AccountKey,
    index: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    tat: u64,
    emission: u64,
}

const SHARDS: u16 = 1024;
const BUCKETS: usize = 64;
const MAX_SEEN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

impl Clients {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            seen: LruCache::new(MAX_SEEN),
        }
    }

    /// Bytes that nobody outside can guess
    pub(crate) fn seed(&self) -> [u8; 16] {
        self.seed
    }

    /// Charges the bucket of a client, or only looks at it when `cells` is 0
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is charged then.
    pub(crate) fn charge(
        &mut self,
        charge: ClientCharge<'_>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Charged, StoreError> {
        let ClientCharge {
            table,
            client,
            bucket,
            cells,
        } = charge;
        let slot = self.slot(table, client);
        let emission = bucket.emission();
        let seen = self
            .seen
            .get(&slot)
            .filter(|seen| seen.emission == emission);
        if let Some(seen) = seen
            && let Err(refused) = bucket.charge(seen.tat, now, cells.max(1))
        {
            return Ok(charged(bucket, seen.tat, now, result(cells, refused)));
        }
        let mut tat = 0;
        let mut result = Ok(());
        store.update(&slot.shard.bytes(), &mut |record, fresh| {
            let mut shard = Shard::decode(record, bucket, now);
            let Some(place) = shard.tats.get_mut(slot.index) else {
                return false;
            };
            tat = *place;
            match bucket.charge(*place, now, cells) {
                Ok(charged) if cells > 0 => (tat, *place, result) = (charged, charged, Ok(())),
                Ok(_) => return false,
                Err(refused) => {
                    result = Err(refused);
                    return false;
                }
            }
            shard.encode(bucket, fresh);
            true
        })?;
        self.seen.put(slot, Seen { tat, emission });
        Ok(charged(bucket, tat, now, result))
    }

    /// Whether `cells` would pass; nothing is charged
    ///
    /// # Errors
    ///
    /// As of [`charge`](Self::charge).
    pub(crate) fn peek(
        &mut self,
        charge: ClientCharge<'_>,
        now: u64,
        store: &mut dyn AccountStore,
    ) -> Result<Charged, StoreError> {
        let look = ClientCharge { cells: 0, ..charge };
        let mut peeked = self.charge(look, now, store)?;
        // What was looked at was seen.
        let seen = self.seen.peek(&self.slot(charge.table, charge.client));
        let tat = seen.map_or(0, |seen| seen.tat);
        let charged = charge.bucket.charge(tat, now, charge.cells);
        peeked.result = charged.map(|_| ());
        Ok(peeked)
    }

    /// Gives back what was charged; not later than it would have melted anyway
    pub(crate) fn give_back(
        &mut self,
        charge: ClientCharge<'_>,
        now: u64,
        store: &mut dyn AccountStore,
    ) {
        let slot = self.slot(charge.table, charge.client);
        let bucket = charge.bucket;
        let span = bucket.emission().saturating_mul(charge.cells);
        self.seen.pop(&slot);
        // What can't be given back melts.
        let _: Result<(), StoreError> = store.update(&slot.shard.bytes(), &mut |record, fresh| {
            let mut shard = Shard::decode(record, bucket, now);
            let Some(place) = shard.tats.get_mut(slot.index) else {
                return false;
            };
            *place = place.saturating_sub(span);
            shard.encode(bucket, fresh);
            true
        });
    }

    fn slot(&self, table: AccountKey, client: Option<IpAddr>) -> Slot {
        let [a, b, c, ..] = AccountKey::hash(&[&self.seed, &prefix(client)]).bytes();
        let shard = u16::from_le_bytes([a, b])
            .checked_rem(SHARDS)
            .unwrap_or_default();
        Slot {
            shard: table.part(shard),
            index: usize::from(c).checked_rem(BUCKETS).unwrap_or_default(),
        }
    }
}

/// One charge to a client's bucket
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientCharge<'a> {
    /// [`AccountKey::of_clients`]
    pub(crate) table: AccountKey,
    pub(crate) client: Option<IpAddr>,
    pub(crate) bucket: &'a Bucket,
    pub(crate) cells: u64,
}

/// A look at an empty bucket is no refusal.
fn result(cells: u64, refused: Refused) -> Result<(), Refused> {
    if cells == 0 { Ok(()) } else { Err(refused) }
}

fn charged(bucket: &Bucket, tat: u64, now: u64, result: Result<(), Refused>) -> Charged {
    let standing = Standing {
        limit: bucket.count(),
        remaining: bucket.remaining(tat, now),
        window: bucket.window(),
        full_in: bucket.full_in(tat, now),
    };
    Charged {
        standing,
        result,
        held: None,
    }
}

/// A number for an address, the same in every worker and every Envoy
pub(crate) fn number(client: Option<IpAddr>) -> u64 {
    AccountKey::hash(&[b"client", &prefix(client)]).low_bits()
}

/// What of an address counts: all of IPv4, the /64 of IPv6
pub(crate) fn prefix(client: Option<IpAddr>) -> [u8; 17] {
    let (kind, address) = match client {
        None => (0, Ipv6Addr::UNSPECIFIED),
        Some(IpAddr::V4(address)) => (4, address.to_ipv6_mapped()),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            (6, Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    };
    let mut bytes = [kind; 17];
    for (to, from) in bytes.iter_mut().skip(1).zip(address.octets()) {
        *to = from;
    }
    bytes
}

/// One record of the table
///
/// Layout, version 1, little-endian: `"PC"`, version (u8), zero (u8), emission interval (u64),
/// 64 TATs (u64 each), checksum (u32) over all of that.
struct Shard {
    tats: [u64; BUCKETS],
}

const RECORD: usize = 4 + 8 + 8 * BUCKETS + 4;
const HEAD: [u8; 4] = [b'P', b'C', 1, 0];

impl Shard {
    /// Foreign bytes count as buckets that are all spent
    fn decode(record: Option<&[u8]>, bucket: &Bucket, now: u64) -> Self {
        let Some(record) = record else {
            return Self { tats: [0; BUCKETS] };
        };
        Self::decode_record(record, bucket, now).unwrap_or(Self {
            tats: [now.saturating_add(bucket.tolerance()); BUCKETS],
        })
    }

    fn decode_record(record: &[u8], bucket: &Bucket, now: u64) -> Option<Self> {
        let (checked, sum) = record.split_last_chunk::<4>()?;
        let (head, rest) = checked.split_first_chunk::<4>()?;
        let (emission, rest) = rest.split_first_chunk::<8>()?;
        let (words, []) = rest.as_chunks::<8>() else {
            return None;
        };
        let words: &[[u8; 8]; BUCKETS] = words.try_into().ok()?;
        if *head != HEAD || u32::from_le_bytes(*sum) != checksum(checked) {
            return None;
        }
        let emission = u64::from_le_bytes(*emission);
        let mut tats = words.map(u64::from_le_bytes);
        if emission != bucket.emission() {
            tats = tats.map(|tat| bucket.convert(tat, emission, now));
        }
        Some(Self { tats })
    }

    fn encode(&self, bucket: &Bucket, record: &mut Vec<u8>) {
        record.reserve_exact(RECORD);
        record.extend_from_slice(&HEAD);
        record.extend_from_slice(&bucket.emission().to_le_bytes());
        record.extend_from_slice(self.tats.map(u64::to_le_bytes).as_flattened());
        record.extend_from_slice(&checksum(record).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::MapStore;

    const SECOND: u64 = 1_000_000_000;

    fn bucket() -> Bucket {
        Bucket::new(60, 60 * SECOND, 3).unwrap()
    }

    fn client(text: &str) -> Option<IpAddr> {
        parse_client(text.as_bytes())
    }

    fn spend(clients: &mut Clients, store: &mut MapStore, address: &str, cells: u64) -> Charged {
        let charge = ClientCharge {
            table: AccountKey::of_clients("main"),
            client: client(address),
            bucket: &bucket(),
            cells,
        };
        clients.charge(charge, 1000 * SECOND, store).unwrap()
    }

    #[test]
    fn addresses() {
        let check = |text, expected: Option<&str>| {
            assert_eq!(
                client(text),
                expected.map(|text| text.parse().unwrap()),
                "{text}"
            );
        };
        check("203.0.113.7:4711", Some("203.0.113.7"));
        check("203.0.113.7", Some("203.0.113.7"));
        check("[2001:db8::1]:80", Some("2001:db8::1"));
        check("[::ffff:203.0.113.7]:80", Some("203.0.113.7"));
        check("/run/envoy.sock", None);
        check("", None);
        assert_eq!(parse_client(b"\xff"), None);
    }

    #[test]
    fn each_client_has_a_bucket_that_workers_share() {
        let mut store = MapStore::default();
        let mut workers = [Clients::new([1; 16]), Clients::new([1; 16])];
        for (worker, remaining) in [(0, 2), (1, 1), (0, 0)] {
            let charged = spend(&mut workers[worker], &mut store, "192.0.2.1:1", 1);
            assert_eq!(
                (charged.standing.remaining, charged.result),
                (remaining, Ok(()))
            );
        }
        for worker in &mut workers {
            let refused = spend(worker, &mut store, "192.0.2.1:9", 1);
            assert_eq!(
                refused.result,
                Err(Refused {
                    retry_after: SECOND
                })
            );
            assert_eq!(spend(worker, &mut store, "192.0.2.1:9", 0).result, Ok(()));
            assert_eq!(
                spend(worker, &mut store, "192.0.2.2:1", 0)
                    .standing
                    .remaining,
                3
            );
        }
        assert_eq!(
            spend(&mut workers[0], &mut store, "[2001:db8::1]:1", 1)
                .standing
                .remaining,
            2
        );
        assert_eq!(
            spend(&mut workers[0], &mut store, "[2001:db8::2]:1", 1)
                .standing
                .remaining,
            1
        );
        assert_eq!(
            spend(&mut workers[0], &mut store, "[2001:db8:0:1::1]:1", 1)
                .standing
                .remaining,
            2
        );
    }

    #[test]
    fn a_look_tells_what_would_pass_and_charges_nothing() {
        let mut store = MapStore::default();
        let mut workers = [Clients::new([1; 16]), Clients::new([1; 16])];
        let look = |clients: &mut Clients, store: &mut MapStore, cells| {
            let charge = ClientCharge {
                table: AccountKey::of_clients("main"),
                client: client("192.0.2.1"),
                bucket: &bucket(),
                cells,
            };
            clients.peek(charge, 1000 * SECOND, store).unwrap().result
        };
        let refused = |cells: u64| {
            Err(Refused {
                retry_after: cells * SECOND,
            })
        };
        for (spent, results) in [
            (1, [Ok(()), Ok(()), refused(1)]),
            (2, [Ok(()), refused(1), refused(2)]),
        ] {
            spend(&mut workers[0], &mut store, "192.0.2.1", 1);
            for worker in &mut workers {
                for (cells, result) in [1, 2, 3].into_iter().zip(results) {
                    assert_eq!(look(worker, &mut store, cells), result, "{spent} {cells}");
                }
            }
        }
    }

    #[test]
    fn memory_is_fixed() {
        let mut store = MapStore::default();
        let mut clients = Clients::new([2; 16]);
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                spend(&mut clients, &mut store, &std::format!("10.1.{a}.{b}:1"), 1);
            }
        }
        assert_eq!(store.records.len(), usize::from(SHARDS));
        let bytes: usize = store
            .records
            .iter()
            .map(|(key, record)| key.len() + record.len())
            .sum();
        assert!(bytes < 600_000, "{bytes}");
    }

    #[test]
    fn foreign_bytes_are_empty_buckets() {
        let mut store = MapStore::default();
        spend(&mut Clients::new([1; 16]), &mut store, "192.0.2.1:1", 1);
        for record in store.records.values_mut() {
            record[20] ^= 1;
        }
        let charged = spend(&mut Clients::new([1; 16]), &mut store, "192.0.2.1:1", 1);
        assert!(charged.result.is_err());
        assert_eq!(charged.standing.remaining, 0);
    }
}
