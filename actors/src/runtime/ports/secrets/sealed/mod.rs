//! Secrets in sealed files of this machine.
//!
//! One file per secret with all its versions, sealed with AES-256-GCM under a key of a key file
//! that only its owner may read. The file is replaced as a whole, so a crash leaves the old one or
//! the new one; and it is sealed together with its name, so that no file can stand in for another.
//! What this does not keep out: somebody who can read the key file, and somebody who puts back an
//! older file of the same secret.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use supervisor::activity::Failure;
use supervisor::ports::Clock;

mod history;
mod keyring;
mod seal;
mod shelf;

use super::{Described, Labels, Secret, SecretName, SecretStore, VALUE_MAX_BYTES, Which};
use crate::runtime::model::RequestKey;
use crate::runtime::ports::blocking::blocking;
pub use keyring::KeyId;
use shelf::Shelf;

/// Where the store is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of the secrets. Several processes may share it.
    pub dir: PathBuf,
    /// The file of the keys. Keep it out of the directory's backups: together they are the values.
    pub keys: PathBuf,
    /// The most secrets. Listing them and rotating the key takes a moment for each.
    pub secrets: usize,
}

impl Settings {
    /// Everything below `dir`, with the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { keys: dir.join("keys.json"), dir: dir.join("sealed"), secrets: 10_000 }
    }
}

/// The store.
#[derive(Clone)]
pub struct SealedFiles {
    shelf: Arc<Shelf>,
    clock: Arc<dyn Clock>,
}

impl SealedFiles {
    /// Opens the store, and makes it with a new key when there is none. Refused as `KeysLost` when
    /// there are secrets and no keys, and as `KeysOpen` when others may read the keys.
    pub async fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let shelf = blocking("opening the secrets", move || Shelf::open(settings)).await?;
        Ok(Self { shelf: Arc::new(shelf), clock })
    }

    /// Makes a new key, seals every secret with it and forgets the keys that nothing needs any
    /// more. Answers the new key's name. A crash on the way leaves everything readable; again:
    /// begins with another key and finishes for both. The store can be used meanwhile.
    pub async fn rotate_key(&self) -> Result<KeyId, Failure> {
        let shelf = self.shelf.clone();
        blocking("rotating the key", move || shelf.rotate_key()).await
    }

    async fn on_shelf<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shelf) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let shelf = self.shelf.clone();
        blocking(doing, move || work(&shelf)).await
    }
}

#[async_trait]
impl SecretStore for SealedFiles {
    async fn create_version(&self, name: &SecretName, token: &RequestKey, value: Secret) -> Result<u64, Failure> {
        if value.len() > VALUE_MAX_BYTES {
            let why = format!("the value for {name} is larger than {VALUE_MAX_BYTES} bytes; keep it elsewhere");
            return Err(Failure::named("SecretTooLarge", why));
        }
        let (name, token, now) = (name.clone(), token.clone(), self.clock.now());
        self.on_shelf("keeping a secret", move |shelf| {
            shelf.make_or_change(&name, |history| history.create(&name, token, value, now))
        })
        .await
    }

    async fn get(&self, name: &SecretName, which: Which) -> Result<(u64, Secret), Failure> {
        let name = name.clone();
        self.on_shelf("reading a secret", move |shelf| shelf.known(&name)?.value(&name, which)).await
    }

    async fn set_labels(&self, name: &SecretName, seen: Labels, wanted: Labels) -> Result<(), Failure> {
        let name = name.clone();
        self.on_shelf("labelling a secret", move |shelf| {
            shelf.change(&name, |history| history.set_labels(&name, seen, wanted))
        })
        .await
    }

    async fn retire(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        let name = name.clone();
        self.on_shelf("retiring a secret", move |shelf| shelf.change(&name, |history| history.retire(&name, version)))
            .await
    }

    async fn reinstate(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        let name = name.clone();
        self.on_shelf("reinstating a secret", move |shelf| {
            shelf.change(&name, |history| history.reinstate(&name, version))
        })
        .await
    }

    async fn destroy(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        let name = name.clone();
        self.on_shelf("destroying a secret", move |shelf| {
            shelf.change(&name, |history| history.destroy(&name, version))
        })
        .await
    }

    async fn remove(&self, name: &SecretName) -> Result<(), Failure> {
        let name = name.clone();
        self.on_shelf("removing a secret", move |shelf| shelf.remove(&name)).await
    }

    async fn describe(&self, name: &SecretName) -> Result<Option<Described>, Failure> {
        let name = name.clone();
        self.on_shelf("reading a secret", move |shelf| Ok(shelf.read(&name)?.map(|history| history.described(name))))
            .await
    }

    async fn list(&self) -> Result<Vec<SecretName>, Failure> {
        self.on_shelf("listing the secrets", Shelf::names).await
    }
}

#[cfg(test)]
mod tests;
