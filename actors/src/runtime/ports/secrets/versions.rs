//! Versions of secrets for whoever may not see a value: all that commands and a rotation do with
//! them, wherever they run. A value goes in, or is made up where it is kept, and never comes out.
//!
//! What a secret opens (a database, an API) is told and asked from where the values are, so that a
//! rotation can run on any node.

use std::sync::Arc;

use async_trait::async_trait;
use supervisor::activity::Failure;

use super::{Described, Labels, Secret, SecretName, SecretStore, Which};
use crate::runtime::model::RequestKey;

/// The error name of a value that no process could be given.
pub const BAD_VALUE: &str = "BadValue";

/// Secrets without their values. Failures and repetitions are those of [`SecretStore`].
#[async_trait]
pub trait SecretVersions: Send + Sync + 'static {
    /// Adds a version with `value`, as [`SecretStore::create_version`] does.
    async fn put(&self, name: &SecretName, token: &RequestKey, value: Secret) -> Result<u64, Failure>;

    /// Adds a version with a value that nobody has to remember, made up where it is kept.
    async fn make(&self, name: &SecretName, token: &RequestKey) -> Result<u64, Failure>;

    /// Has what the secret opens accept a version too.
    async fn set(&self, name: &SecretName, version: u64) -> Result<(), Failure>;

    /// Tries whether a version opens. A permanent failure: it does not.
    async fn test(&self, name: &SecretName, version: u64) -> Result<(), Failure>;

    /// Moves the labels, as [`SecretStore::set_labels`] does.
    async fn set_labels(&self, name: &SecretName, seen: Labels, wanted: Labels) -> Result<(), Failure>;

    /// Has what the secret opens accept a version no more, and keeps it from being read.
    async fn retire(&self, name: &SecretName, version: u64) -> Result<(), Failure>;

    /// Removes the value of a version for good.
    async fn destroy(&self, name: &SecretName, version: u64) -> Result<(), Failure>;

    /// Removes a secret with all its versions, as [`SecretStore::remove`] does.
    async fn remove(&self, name: &SecretName) -> Result<(), Failure>;

    /// What is known of a secret besides its values. `None`: there is none of that name.
    async fn describe(&self, name: &SecretName) -> Result<Option<Described>, Failure>;
}

/// What a secret opens: a database, an API. It is told of a new version, tried with it, and told to
/// accept the old one no more. Each is safe to repeat.
#[async_trait]
pub trait Opens: Send + Sync + 'static {
    /// Has it accept `value` too.
    async fn set(&self, name: &SecretName, value: &Secret) -> Result<(), Failure>;

    /// Tries whether `value` opens. A permanent failure: it does not.
    async fn test(&self, name: &SecretName, value: &Secret) -> Result<(), Failure>;

    /// Has it accept `value` no more.
    async fn retire(&self, name: &SecretName, value: &Secret) -> Result<(), Failure>;
}

/// A secret that opens nothing but the processes that share it: it works when it can be given to
/// them.
pub struct Shared;

#[async_trait]
impl Opens for Shared {
    async fn set(&self, _: &SecretName, _: &Secret) -> Result<(), Failure> {
        Ok(())
    }

    async fn test(&self, _: &SecretName, value: &Secret) -> Result<(), Failure> {
        usable(value)
    }

    async fn retire(&self, _: &SecretName, _: &Secret) -> Result<(), Failure> {
        Ok(())
    }
}

/// Whether a process can be given `value`: it becomes a variable.
pub fn usable(value: &Secret) -> Result<(), Failure> {
    let why = match std::str::from_utf8(value.reveal()) {
        _ if value.is_empty() => "it is empty",
        Err(_) => "it is not UTF-8",
        Ok(text) if text.contains('\0') => "it has a zero byte in it",
        Ok(_) => return Ok(()),
    };
    Err(Failure::named(BAD_VALUE, format!("the value cannot be a variable of a process: {why}; put another one")))
}

/// The versions in a store, where the values are.
#[derive(Clone)]
pub struct StoredVersions {
    store: Arc<dyn SecretStore>,
    opens: Arc<dyn Opens>,
}

impl StoredVersions {
    /// Those in `store`, which open nothing but the processes that share them.
    pub fn new(store: Arc<dyn SecretStore>) -> Self {
        Self { store, opens: Arc::new(Shared) }
    }

    /// The same for secrets that open something.
    #[must_use]
    pub fn opens(self, opens: Arc<dyn Opens>) -> Self {
        Self { opens, ..self }
    }
}

#[async_trait]
impl SecretVersions for StoredVersions {
    async fn put(&self, name: &SecretName, token: &RequestKey, value: Secret) -> Result<u64, Failure> {
        self.store.create_version(name, token, value).await
    }

    async fn make(&self, name: &SecretName, token: &RequestKey) -> Result<u64, Failure> {
        self.store.create_version(name, token, made_up()).await
    }

    async fn set(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        let (_, value) = self.store.get(name, Which::Number(version)).await?;
        self.opens.set(name, &value).await
    }

    async fn test(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        let (_, value) = self.store.get(name, Which::Number(version)).await?;
        self.opens.test(name, &value).await
    }

    async fn set_labels(&self, name: &SecretName, seen: Labels, wanted: Labels) -> Result<(), Failure> {
        self.store.set_labels(name, seen, wanted).await
    }

    async fn retire(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        // One that cannot be read any more was retired before.
        if let Ok((_, value)) = self.store.get(name, Which::Number(version)).await {
            self.opens.retire(name, &value).await?;
        }
        self.store.retire(name, version).await
    }

    async fn destroy(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        self.store.destroy(name, version).await
    }

    async fn remove(&self, name: &SecretName) -> Result<(), Failure> {
        self.store.remove(name).await
    }

    async fn describe(&self, name: &SecretName) -> Result<Option<Described>, Failure> {
        self.store.describe(name).await
    }
}

/// A value that nobody has to remember: 244 random bits.
fn made_up() -> Secret {
    Secret::new(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()))
}
