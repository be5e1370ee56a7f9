//! The account store on the host's shared data.

use portcullis_policy::{AccountStore, Change, StoreError};

use crate::hostcall::{self, HostError};

/// Records in shared data, replaced by compare-and-set
pub(crate) struct SharedData;

/// How often a record is tried before the store counts as contended
///
/// A try takes microseconds, and each one that fails means that another worker succeeded.
const MAX_TRIES: u32 = 64;

/// Creates a value only where there is none.
///
/// Zero would replace whatever is there; a number that can't be any value's creates the missing
/// and mismatches the present.
const CREATE: u32 = u32::MAX;

impl AccountStore for SharedData {
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError> {
        let mut fresh = Vec::with_capacity(64);
        for _ in 0..MAX_TRIES {
            let (record, cas) = match hostcall::shared_data(key) {
                Ok((record, cas)) => (Some(record), cas),
                Err(HostError::NotFound) => (None, CREATE),
                Err(_) => return Err(StoreError::Failed),
            };
            fresh.clear();
            if !change(record.as_deref(), &mut fresh) {
                return Ok(());
            }
            match hostcall::set_shared_data(key, &fresh, cas) {
                Ok(()) => return Ok(()),
                Err(HostError::CasMismatch) => {}
                Err(_) => return Err(StoreError::Failed),
            }
        }
        Err(StoreError::Contended)
    }
}
