//! The keys: one seals, all of them open.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use supervisor::activity::Failure;
use zeroize::Zeroizing;

use crate::runtime::durable;

/// The most keys at a time: more than one is there only while a rotation goes on.
const KEYS_MAX: usize = 16;

/// Names a key. It says nothing about the key itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// Its length, in bytes.
    pub const DIGITS: usize = 16;

    /// The name that `digits` are, unless they are none.
    pub fn new(digits: &str) -> Option<Self> {
        let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (hex && digits.len() == Self::DIGITS).then(|| Self(digits.to_owned()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; 32]>,
}

impl Key {
    /// One that nobody else has.
    pub fn random() -> Self {
        let (mut bytes, mut id) = (Zeroizing::new([0; 32]), [0; KeyId::DIGITS / 2]);
        for fresh in [bytes.as_mut_slice(), &mut id] {
            if aws_lc_rs::rand::fill(fresh).is_err() {
                // Going on with a weak key would be worse than stopping.
                panic!("this machine gives no random bytes");
            }
        }
        Self { id: KeyId(hex::encode(id)), bytes }
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What it is.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

/// The keys of a store. It has no `Debug`.
#[derive(Clone)]
pub struct Keyring {
    current: KeyId,
    keys: BTreeMap<KeyId, Key>,
}

/// How the file writes it.
#[derive(Serialize, Deserialize)]
struct File {
    current: KeyId,
    keys: BTreeMap<KeyId, Digits>,
}

/// A key in hexadecimal digits.
struct Digits(Zeroizing<String>);

impl Serialize for Digits {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.as_str().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|digits| Self(Zeroizing::new(digits)))
    }
}

fn damaged(path: &Path, why: &str) -> Failure {
    let why = format!("the key file {} {why}; put back the one that was there", path.display());
    Failure::named("SecretDamaged", why)
}

impl Keyring {
    /// One with one new key.
    pub fn fresh() -> Self {
        let key = Key::random();
        Self { current: key.id.clone(), keys: [(key.id.clone(), key)].into() }
    }

    /// The keys in the file `path`. `None`: there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let disk = |error| Failure::transient("reading the keys", error);
        let Some(bytes) = durable::read(path).map_err(disk)?.map(Zeroizing::new) else { return Ok(None) };
        let mode = fs::metadata(path).map_err(disk)?.permissions().mode();
        if mode & 0o077 != 0 {
            let why = format!("others may read the key file {}; run chmod 600 on it", path.display());
            return Err(Failure::named("KeysOpen", why));
        }
        // The parser's own error may show what it read.
        let file: File = serde_json::from_slice(&bytes).map_err(|_| damaged(path, "cannot be understood"))?;
        let mut keys = BTreeMap::new();
        for (id, digits) in file.keys {
            let mut bytes = Zeroizing::new([0; 32]);
            let good =
                KeyId::new(id.as_str()).is_some() && hex::decode_to_slice(digits.0.as_bytes(), &mut *bytes).is_ok();
            if !good {
                return Err(damaged(path, "has something else than a key in it"));
            }
            keys.insert(id.clone(), Key { id, bytes });
        }
        if !keys.contains_key(&file.current) {
            return Err(damaged(path, "lacks the key that it calls current"));
        }
        Ok(Some(Self { current: file.current, keys }))
    }

    /// Puts the keys into the file `path`.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let digits = |key: &Key| Digits(Zeroizing::new(hex::encode(key.bytes())));
        let file = File {
            current: self.current.clone(),
            keys: self.keys.iter().map(|(id, key)| (id.clone(), digits(key))).collect(),
        };
        let bytes = serde_json::to_vec_pretty(&file).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| damaged(path, "cannot be written down"))?;
        durable::write(path, &bytes).map_err(|error| Failure::transient("keeping the keys", error))
    }

    /// The key that seals.
    pub fn current(&self) -> &Key {
        &self.keys[&self.current]
    }

    /// The key called `id`.
    pub fn get(&self, id: &KeyId) -> Option<&Key> {
        self.keys.get(id)
    }

    /// Adds a new key, which seals from now on.
    pub fn renew(&mut self) -> Result<(), Failure> {
        if self.keys.len() >= KEYS_MAX {
            let why = format!("there are {KEYS_MAX} keys; mend what keeps their secrets from being sealed anew");
            return Err(Failure::named("TooManyKeys", why));
        }
        let key = Key::random();
        self.current = key.id.clone();
        self.keys.insert(key.id.clone(), key);
        Ok(())
    }

    /// Forgets every key but the one that seals.
    pub fn forget_others(&mut self) {
        self.keys.retain(|id, _| *id == self.current);
    }
}
