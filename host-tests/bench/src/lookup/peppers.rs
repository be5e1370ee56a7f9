//! The peppers of a soak, and the digests under them.

use portcullis_policy::key_digest;
use serde_json::{Value, json};
use xtask::failure::{Failure, Result};

use crate::key_service;
use crate::policy::{self, GOOD};

/// Whether digests are plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peppers {
    /// They are.
    None,
    /// They are made under one of two: the newest for even numbers, the older one for odd ones.
    Two,
}

/// What the VM finds in its environment: the newest first.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("BENCH_PEPPER", "a pepper of a benchmark, no secret"),
    ("BENCH_PEPPER_OLD", "the one before it, no secret either"),
];

impl Peppers {
    /// What it is called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "plain digests",
            Self::Two => "digests under two peppers",
        }
    }

    /// What the policy says of them.
    pub(super) fn of_policy(self) -> Option<Value> {
        let names = ENVIRONMENT.map(|(name, _)| name);
        (self == Self::Two).then(|| json!({ "env": names }))
    }

    /// Puts them into the environment of a listener's VM.
    ///
    /// # Errors
    ///
    /// When there is no VM.
    pub(super) fn tell(self, listener: &mut Value) -> Result<()> {
        const VM: &str =
            "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/vm_config";
        if self == Self::None {
            return Ok(());
        }
        let vm = listener.pointer_mut(VM).and_then(Value::as_object_mut);
        let vm =
            vm.ok_or_else(|| Failure::new("the listener has no VM", "look at bootstrap.rs"))?;
        let values: serde_json::Map<String, Value> = ENVIRONMENT
            .iter()
            .map(|(name, pepper)| ((*name).to_owned(), (*pepper).into()))
            .collect();
        vm.insert(
            "environment_variables".to_owned(),
            json!({ "key_values": values }),
        );
        Ok(())
    }

    /// The digest of the n-th good key, and its record as a service tells it.
    ///
    /// # Errors
    ///
    /// When the pepper is none.
    pub(super) fn record(self, number: u32, principal: &str) -> Result<(String, String)> {
        let (key, id) = (policy::key(GOOD, number), format!("k_{number}"));
        let [newest, older] = ENVIRONMENT.map(|(_, pepper)| pepper);
        let pepper = match self {
            Self::None => {
                let record = key_service::record(&key, &id, principal);
                return Ok((key_service::digest(&key), record));
            }
            Self::Two if number.is_multiple_of(2) => newest,
            Self::Two => older,
        };
        let digest = key_digest(key.as_bytes(), Some(pepper.as_bytes()));
        let digest =
            digest.ok_or_else(|| Failure::new("the pepper is too short", "lengthen it"))?;
        let record =
            json!({ "id": id, "principal": principal, "tier": "basic", "hmac_sha256": digest });
        Ok((digest, record.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_under_each_of_the_peppers() {
        let [even, odd] = [2, 3].map(|number| Peppers::Two.record(number, "p").unwrap());
        assert_ne!(even.0, odd.0);
        let plain = Peppers::None.record(2, "p").unwrap();
        assert_ne!(plain.0, even.0);
        assert!(even.1.contains("hmac_sha256") && !plain.1.contains("hmac_sha256"));
    }
}
