//! Bytes that nobody without the key can read or change.
//!
//! ```text
//! "SKALDSEAL1"  key id (16 hexadecimal digits)  nonce (12)  ciphertext and tag
//! ```
//!
//! Sealed with it, though not part of it, is a *purpose*: the same bytes opened for another purpose
//! are refused.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::keyring::{Key, KeyId};

const MAGIC: &[u8] = b"SKALDSEAL1";
const NONCE_BYTES: usize = 12;

/// Why something cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// It is nothing that was sealed here, or was changed since.
    Damaged,
    /// It is sealed with a key that is not known.
    UnknownKey(KeyId),
}

/// With which key `sealed` is sealed.
pub fn key_of(sealed: &[u8]) -> Result<KeyId, Error> {
    let rest = sealed.strip_prefix(MAGIC).ok_or(Error::Damaged)?;
    let id = rest.get(..KeyId::DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
    id.and_then(KeyId::new).ok_or(Error::Damaged)
}

/// What is sealed along: the purpose and the head, so that neither can be exchanged.
fn along(head: &[u8], purpose: &str) -> Vec<u8> {
    [head, purpose.as_bytes()].concat()
}

fn aead(key: &Key) -> RandomizedNonceKey {
    match RandomizedNonceKey::new(&AES_256_GCM, key.bytes()) {
        Ok(aead) => aead,
        Err(_) => unreachable!("a key has the 32 bytes of AES-256"),
    }
}

/// Seals `plain` for `purpose`. The nonce is random: one key is good for 2^32 of them, which is a
/// write per second for 136 years.
pub fn seal(key: &Key, purpose: &str, plain: &[u8]) -> Vec<u8> {
    let head = [MAGIC, key.id().as_str().as_bytes()].concat();
    let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM.tag_len()));
    body.extend_from_slice(plain);
    match aead(key).seal_in_place_append_tag(Aad::from(along(&head, purpose)), &mut *body) {
        Ok(nonce) => [&head, &nonce.as_ref()[..], &body].concat(),
        Err(_) => unreachable!("sealing fails for more than 64 GiB only"),
    }
}

/// Opens what was sealed for `purpose`.
pub fn open(key: &Key, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let id = key_of(sealed)?;
    if id != *key.id() {
        return Err(Error::UnknownKey(id));
    }
    let (head, rest) = sealed.split_at_checked(MAGIC.len() + KeyId::DIGITS).ok_or(Error::Damaged)?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Error::Damaged)?;
    let mut body = Zeroizing::new(body.to_vec());
    let opened = aead(key).open_in_place(Nonce::from(nonce), Aad::from(along(head, purpose)), &mut body);
    let length = opened.map_err(|_| Error::Damaged)?.len();
    body.truncate(length);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_changed_is_opened() {
        let key = Key::random();
        let sealed = seal(&key, "a", b"hunter2");
        assert_eq!(open(&key, "a", &sealed).unwrap().as_slice(), b"hunter2");
        assert_eq!(open(&key, "b", &sealed), Err(Error::Damaged), "another purpose");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&key, "a", &changed).is_err(), "byte {at}");
            assert!(open(&key, "a", &sealed[..at]).is_err(), "cut at {at}");
        }
        let other = Key::random();
        assert_eq!(open(&other, "a", &sealed), Err(Error::UnknownKey(key.id().clone())));
        assert_ne!(seal(&key, "a", b"hunter2"), sealed, "the same text twice is not the same bytes");
    }
}
