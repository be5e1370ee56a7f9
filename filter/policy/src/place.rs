//! Where a limit keeps what was spent.

use alloc::vec::Vec;

use crate::account::{AccountKey, AccountStore, StoreError};
use crate::limiter::{count_account, overflow_account};

/// The place of a record in the store
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    key: AccountKey,
    /// How many records there may be, where it is to be counted before it is made
    max_accounts: Option<u64>,
}

/// What replaces the record of a place, whose key may be that of an overflow slot
pub(crate) type PlaceChange<'a> = dyn FnMut(AccountKey, Option<&[u8]>, &mut Vec<u8>) -> bool + 'a;

impl Place {
    /// One of as many as there are principals
    pub(crate) fn counted(key: AccountKey, max_accounts: u64) -> Self {
        Self {
            key,
            max_accounts: Some(max_accounts),
        }
    }

    /// One of a number that the policy fixes
    pub(crate) fn fixed(key: AccountKey) -> Self {
        Self {
            key,
            max_accounts: None,
        }
    }

    /// Another place, for a rule that does not bind
    pub(crate) fn shadow(self) -> Self {
        Self {
            key: self.key.shadow(),
            ..self
        }
    }

    /// Replaces the record, and says where it lies
    ///
    /// INVARIANT: what is created is counted first, so that shared data, which is never freed, is bounded
    /// by `max_accounts`; past it principals share overflow slots.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store could not be asked; nothing is changed then.
    pub(crate) fn update(
        self,
        store: &mut dyn AccountStore,
        change: &mut PlaceChange<'_>,
    ) -> Result<AccountKey, StoreError> {
        let Self {
            mut key,
            mut max_accounts,
        } = self;
        loop {
            let mut absent = false;
            store.update(&key.bytes(), &mut |record, fresh| {
                absent = record.is_none() && max_accounts.is_some();
                !absent && change(key, record, fresh)
            })?;
            let Some(max) = max_accounts.take_if(|_| absent) else {
                return Ok(key);
            };
            if !count_account(max, store)? {
                key = overflow_account(key);
            }
        }
    }
}
