//! The key-value store that all workers share, with Envoy's semantics (proxy-wasm-cpp-host,
//! `shared_data.cc`): one counter for all keys, no deletion.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::abi::Status;

/// The store.
#[derive(Debug, Default)]
pub struct SharedData(Mutex<Store>);

#[derive(Debug, Default)]
struct Store {
    values: HashMap<Vec<u8>, HashMap<Vec<u8>, Entry>>,
    last_cas: u32,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    cas: u32,
}

impl Store {
    /// The next compare-and-set number; zero means "unconditional" and is never one.
    fn next_cas(&mut self) -> u32 {
        self.last_cas = self.last_cas.wrapping_add(1).max(1);
        self.last_cas
    }
}

impl SharedData {
    /// The value under the key, and the number to hand to [`SharedData::set`].
    #[must_use]
    pub fn get(&self, vm_id: &[u8], key: &[u8]) -> Option<(Vec<u8>, u32)> {
        let store = self.lock();
        let entry = store.values.get(vm_id)?.get(key)?;
        Some((entry.value.clone(), entry.cas))
    }

    /// Writes a value.
    ///
    /// `cas` 0 writes whatever is there. Any other number is compared with the key's, but only
    /// where the key exists: a stale number on a missing key inserts it.
    ///
    /// # Errors
    /// [`Status::CAS_MISMATCH`] if the key was written since.
    pub fn set(&self, vm_id: &[u8], key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let mut store = self.lock();
        let present = store.values.get(vm_id).and_then(|values| values.get(key));
        if let Some(entry) = present
            && cas != 0
            && cas != entry.cas
        {
            return Err(Status::CAS_MISMATCH);
        }
        let cas = store.next_cas();
        let entry = Entry {
            value: value.to_vec(),
            cas,
        };
        store
            .values
            .entry(vm_id.to_vec())
            .or_default()
            .insert(key.to_vec(), entry);
        Ok(())
    }

    /// Number of keys of one VM id.
    #[must_use]
    pub fn len(&self, vm_id: &[u8]) -> usize {
        self.lock().values.get(vm_id).map_or(0, HashMap::len)
    }

    /// Whether this VM id has no key.
    #[must_use]
    pub fn is_empty(&self, vm_id: &[u8]) -> bool {
        self.len(vm_id) == 0
    }

    /// All keys and values of one VM id, sorted by key: what a test looks at, since a guest
    /// cannot list them.
    #[must_use]
    pub fn dump(&self, vm_id: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let store = self.lock();
        let values = store.values.get(vm_id).into_iter().flatten();
        let mut all: Vec<_> = values
            .map(|(key, entry)| (key.clone(), entry.value.clone()))
            .collect();
        all.sort_unstable();
        all
    }

    /// Lets the counter continue behind this number, so that a test reaches its wrap.
    pub fn set_last_cas(&self, last: u32) {
        self.lock().last_cas = last;
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &[u8] = b"vm";

    #[test]
    fn a_stale_number_is_refused_and_a_fresh_one_is_not() {
        let data = SharedData::default();
        data.set(VM, b"k", b"1", 0).unwrap();
        let (_, first) = data.get(VM, b"k").unwrap();
        data.set(VM, b"k", b"2", first).unwrap();
        assert_eq!(data.set(VM, b"k", b"3", first), Err(Status::CAS_MISMATCH));
        assert_eq!(data.get(VM, b"k").unwrap().0, b"2");
        data.set(VM, b"k", b"4", 0).unwrap();
        assert_eq!(data.get(VM, b"k").unwrap().0, b"4");
    }

    #[test]
    fn a_stale_number_on_a_missing_key_inserts_it() {
        let data = SharedData::default();
        data.set(VM, b"k", b"1", u32::MAX).unwrap();
        assert_eq!(
            data.set(VM, b"k", b"2", u32::MAX),
            Err(Status::CAS_MISMATCH)
        );
        assert_eq!(data.get(VM, b"k").unwrap().0, b"1");
    }

    #[test]
    fn one_counter_serves_all_keys_and_skips_zero() {
        let data = SharedData::default();
        data.set_last_cas(u32::MAX - 1);
        for key in [b"a", b"b", b"c"] {
            data.set(VM, key, b"", 0).unwrap();
        }
        let cas = |key: &[u8]| data.get(VM, key).unwrap().1;
        assert_eq!((cas(b"a"), cas(b"b"), cas(b"c")), (u32::MAX, 1, 2));
    }

    #[test]
    fn vm_ids_do_not_see_each_others_keys() {
        let data = SharedData::default();
        data.set(b"one", b"k", b"1", 0).unwrap();
        assert_eq!(data.get(b"two", b"k"), None);
        assert!(data.is_empty(b"two"));
        assert_eq!(data.dump(b"one"), vec![(b"k".to_vec(), b"1".to_vec())]);
    }
}
