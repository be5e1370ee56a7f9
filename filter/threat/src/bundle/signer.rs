//! Who may sign bundles.
//!
//! Ed25519 (RFC 8032), and of what its text leaves open the strict half: a scalar that isn't reduced, points in another form than
//! the one they are written in, and points of small order are refused.

use ed25519_compact::{PublicKey, Signature};

use super::refusal::Refusal;

/// What stands before the digest in what is signed
pub const SIGNED: &[u8] = b"portcullis threat bundle 1\n";

/// Somebody whose signature is good for a bundle
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signer(PublicKey);

impl Signer {
    /// Takes a public key as its 32 bytes; `None` where they are no point of the curve in its one form, or one of small
    /// order, for which anybody could sign
    #[must_use]
    pub fn new(key: [u8; 32]) -> Option<Self> {
        let key = PublicKey::new(key);
        key.validate().ok().map(|()| Self(key))
    }

    /// The public key
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this one has signed a digest
    fn signed(&self, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let state = self.0.verify_incremental(&Signature::new(*signature));
        state.is_ok_and(|mut state| {
            state.absorb(SIGNED);
            state.absorb(digest);
            state.verify().is_ok()
        })
    }
}

/// Checks that one of those who may has signed a digest
///
/// No more than one signature is worked out, whatever the seal says.
pub(super) fn check(
    signers: &[Signer],
    seal: Option<(&[u8; 32], &[u8; 64])>,
    digest: &[u8; 32],
) -> Result<(), Refusal> {
    let Some((key, signature)) = seal else {
        return Err(Refusal::Unsigned);
    };
    let mut signers = signers.iter();
    let Some(signer) = signers.find(|signer| signer.key() == key) else {
        return Err(Refusal::Signer);
    };
    match signer.signed(digest, signature) {
        true => Ok(()),
        false => Err(Refusal::Signature),
    }
}
