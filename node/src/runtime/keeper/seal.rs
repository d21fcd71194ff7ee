//! A value on its way to the keeper: sealed so that nobody but this keeper reads it, whoever listens
//! on the bus or looks into the server (HPKE, RFC 9180, X25519 with ChaCha20-Poly1305).
//!
//! The key is made anew by every keeper and is nowhere but in its memory. What this does not keep
//! out: another who may answer at the keeper's subject, which permissions leave to nodes.

use protocol::codec;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

use actors::runtime::ports::secrets::Secret;

/// What the seal is for: no other text is ever opened with the key.
const FOR: &[u8] = b"skald.keeper secret.put 1";
/// The error name of a value that was sealed for another keeper: ask for the key again.
pub(super) const OTHER_KEEPER: &str = "OtherKeeper";

/// A sealed value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Sealed {
    #[serde(with = "serde_bytes")]
    encapsulated: Vec<u8>,
    #[serde(with = "serde_bytes")]
    text: Vec<u8>,
}

/// What opens the values that are sealed for this keeper.
pub(super) struct SealKey {
    public: HpkePublicKey,
    private: HpkePrivateKey,
}

impl SealKey {
    /// A fresh one.
    pub(super) fn new() -> Result<Self, Failure> {
        let made = SUITE.generate_key_pair();
        let (public, private) = made.map_err(|error| Failure::transient("making a key for values", error))?;
        Ok(Self { public, private })
    }

    /// Whom to seal for.
    pub(super) fn public(&self) -> Vec<u8> {
        self.public.0.clone()
    }

    /// The value that was sealed together with `about`.
    pub(super) fn open(&self, sealed: &Sealed, about: &impl Serialize) -> Result<Secret, Failure> {
        let encapsulated = EncapsulatedSecret(sealed.encapsulated.clone());
        let opened = SUITE.open(&encapsulated, FOR, &codec::store(about), &sealed.text, &self.private);
        let other =
            |_| Failure::named(OTHER_KEEPER, "the value was sealed for another keeper, or was changed on its way");
        opened.map(Secret::new).map_err(other)
    }
}

/// Seals `value` for the keeper with `public`, together with what it is about: it opens as nothing else.
pub(super) fn seal(public: Vec<u8>, value: &Secret, about: &impl Serialize) -> Result<Sealed, Failure> {
    let sealed = SUITE.seal(FOR, &codec::store(about), value.reveal(), &HpkePublicKey(public));
    let (encapsulated, text) = sealed.map_err(|error| Failure::transient("sealing a value for the keeper", error))?;
    Ok(Sealed { encapsulated: encapsulated.0, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_keeper_opens_a_value_and_only_as_what_it_is() {
        let (keeper, other) = (SealKey::new().unwrap(), SealKey::new().unwrap());
        let sealed = seal(keeper.public(), &Secret::new("hunter2"), &("prod/db", "a")).unwrap();
        assert!(!codec::store(&sealed).windows(7).any(|bytes| bytes == b"hunter2"));
        assert_eq!(keeper.open(&sealed, &("prod/db", "a")).unwrap().reveal(), b"hunter2");
        assert_eq!(keeper.open(&sealed, &("prod/api", "a")).unwrap_err().error, OTHER_KEEPER);
        assert_eq!(other.open(&sealed, &("prod/db", "a")).unwrap_err().error, OTHER_KEEPER);
    }
}
