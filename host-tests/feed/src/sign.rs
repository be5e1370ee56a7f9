//! Signatures of bundles: made by who publishes them, checked by who fetches them.

use ed25519_compact::{KeyPair, PublicKey};
use portcullis_threat::bundle::{self, Bundle, SIGNED};

use crate::Error;

/// What a bundle's signature is worth
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signature {
    /// Nobody signed
    None,
    /// Somebody signed; nobody said who may
    By([u8; 32]),
    /// The one signed who may
    Good,
    /// Another signed than the one who may, or something else was signed
    Bad,
}

/// Signs a bundle with a private key, as `openssl genpkey -algorithm ed25519` writes it
///
/// # Errors
///
/// When that is no such key, or those bytes are no bundle.
pub fn sign(bytes: &mut [u8], private_pem: &str) -> Result<(), Error> {
    let pair = KeyPair::from_pem(private_pem).map_err(|_| {
        Error::new("not a private key: make one with openssl genpkey -algorithm ed25519")
    })?;
    let opened = Bundle::open(bytes.to_vec(), &bundle::Terms::default());
    let opened = opened.map_err(|error| Error::new(error.to_string()))?;
    let signature = pair.sk.sign(signed(&opened), None);
    bundle::sign(bytes, &pair.pk, &signature);
    Ok(())
}

/// Checks a bundle's signature; without a public key only whether it is one
///
/// # Errors
///
/// When that is no public key as `openssl pkey -pubout` writes it.
pub fn signature(bundle: &Bundle, public_pem: Option<&str>) -> Result<Signature, Error> {
    let wanted = public_pem
        .map(PublicKey::from_pem)
        .transpose()
        .map_err(|_| Error::new("not a public key: write it with openssl pkey -pubout"))?;
    let Some((key, signature)) = bundle.signature() else {
        return Ok(Signature::None);
    };
    let by = PublicKey::new(*key);
    let signature = ed25519_compact::Signature::new(*signature);
    let holds = by.verify(signed(bundle), &signature).is_ok();
    Ok(match wanted {
        None if holds => Signature::By(*key),
        Some(wanted) if holds && wanted == by => Signature::Good,
        _ => Signature::Bad,
    })
}

fn signed(bundle: &Bundle) -> Vec<u8> {
    [SIGNED, bundle.digest()].concat()
}
