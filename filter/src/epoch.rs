//! What all workers have in common since the store began.

use portcullis_policy::{AccountStore, Settings, StoreError};

use crate::clock::Now;
use crate::shared_data::SharedData;

/// The record: 16 random bytes, and when it was written in monotonic nanoseconds (u64,
/// little-endian)
const KEY: &[u8] = b"portcullis.epoch";

/// Finds what the first worker wrote, or is the first
///
/// # Errors
///
/// What the operator is to read.
pub(crate) fn join(now: Now) -> Result<Settings, String> {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed)
        .map_err(|error| format!("the host has no random numbers: {error}"))?;
    let mut epoch = Settings {
        seed,
        born: now.monotonic,
    };
    let mut foreign = false;
    let joined = SharedData.update(KEY, &mut |record, fresh| {
        foreign = false;
        let Some(record) = record else {
            fresh.extend_from_slice(&seed);
            fresh.extend_from_slice(&now.monotonic.to_le_bytes());
            return true;
        };
        match decode(record) {
            Some(known) => epoch = known,
            None => foreign = true,
        }
        false
    });
    match joined {
        Ok(()) if foreign => Err(
            "another plugin writes into this one's shared data: give this one a vm_id of its own"
                .into(),
        ),
        Ok(()) => Ok(epoch),
        Err(StoreError::Contended | StoreError::Failed) => Err(
            "the host refuses shared data: allow proxy_get_shared_data and proxy_set_shared_data"
                .into(),
        ),
    }
}

fn decode(record: &[u8]) -> Option<Settings> {
    let (seed, born) = record.split_first_chunk::<16>()?;
    Some(Settings {
        seed: *seed,
        born: u64::from_le_bytes(born.try_into().ok()?),
    })
}
