//! What the runtime platform remembers: durable named values, each with a revision.
//!
//! Every write says which revision it expects to be the last, so that of two who read the same
//! value one writes and the other looks again. That is all the serialising there is: no lock, no
//! lease, and it does not matter where anybody runs (F55).
//!
//! Deliberately absent: transactions over several names, and watching. Whoever needs two values to
//! agree writes them so that either order is right.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::Tenant;
use serde::Serialize;
use serde::de::DeserializeOwned;
use supervisor::activity::Failure;

pub mod contract;
pub mod memory;

pub use memory::MemoryStore;

/// The largest value, in bytes: a configuration may have 512 KiB of text, and a message of the bus
/// carries 1 MiB unless its server is told otherwise.
pub const VALUE_MAX_BYTES: usize = 768 * 1024;
/// The longest name, in bytes: four parts of 64 and what stands between them, well below the 4 KiB
/// that a subject may have.
pub const NAME_MAX_BYTES: usize = 272;
/// How often a value that others change at the same time is read and written again. Each loss means
/// that somebody else got on, so more would be needed only by a crowd at one service.
pub const TRIES: u32 = 16;

/// The error name of a change whose approval was given for another state.
pub const MOVED: &str = "ChangedMeanwhile";

/// Whose values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Space {
    /// What must be unique among all tenants, such as the names of environments.
    Shared,
    /// One tenant's.
    Of(Tenant),
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("all tenants"),
            Self::Of(tenant) => fmt::Display::fmt(tenant, f),
        }
    }
}

/// A value as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Which write it is; only grows.
    pub revision: u64,
    /// What was written.
    pub bytes: Bytes,
}

/// Why something could not be stored or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else stands there than was expected: look again.
    #[error("{name} was changed by somebody else meanwhile")]
    Stale {
        /// Which.
        name: String,
    },
    /// It is not any more as it was when somebody approved of changing it.
    #[error("{name} was changed after the change of it had been approved")]
    Moved {
        /// Which.
        name: String,
    },
    /// The value is too large, and will be again.
    #[error("{name} has {bytes} bytes, and a value may have {VALUE_MAX_BYTES}")]
    TooLarge {
        /// Which.
        name: String,
        /// How large it is.
        bytes: usize,
    },
    /// Nothing can be stored until somebody makes room.
    #[error("the store takes nothing more: {why}; make room, or raise its limits")]
    Full {
        /// What the store said.
        why: String,
    },
    /// The name cannot be a name here.
    #[error("{name:?} is no name: up to {NAME_MAX_BYTES} letters, digits and -_. in parts with / between them")]
    BadName {
        /// Which.
        name: String,
    },
    /// What stands there cannot be read: another release wrote it, or somebody else.
    #[error("{name} cannot be read: {why}")]
    Unreadable {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// The store cannot be reached.
    #[error("the store cannot be reached: {why}")]
    Unavailable {
        /// Why.
        why: String,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Stale { .. } | Error::Full { .. } | Error::Unavailable { .. } => {
                Self::transient("working on what is remembered", error)
            }
            Error::Moved { .. } => Self::named(MOVED, error.to_string()),
            Error::TooLarge { .. } | Error::BadName { .. } | Error::Unreadable { .. } => {
                Self::permanent("working on what is remembered", error)
            }
        }
    }
}

/// Durable named values of one tenant or of all.
///
/// What was answered with `Ok` is durable, and every later `get` sees it or something newer. A name
/// is one to six parts with `/` between them, each of letters, digits and `-_.`. Values have at most
/// [`VALUE_MAX_BYTES`].
#[async_trait]
pub trait RuntimeStore: Send + Sync + 'static {
    /// What stands under `name`.
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Stored>, Error>;

    /// Writes `bytes` if `expected` is the revision that stands there (0: nothing does), and answers
    /// the new one; else refused as [`Error::Stale`], and nothing changed. An answer that is not
    /// `Ok` and not `Stale` leaves open whether it was written: look.
    async fn put(&self, space: &Space, name: &str, bytes: Bytes, expected: u64) -> Result<u64, Error>;

    /// Removes what stands under `name` if `expected` is its revision. What is not there: it
    /// succeeds.
    async fn remove(&self, space: &Space, name: &str, expected: u64) -> Result<(), Error>;

    /// Everything whose name begins with the parts of `prefix`, in the order of names; the name that
    /// is the prefix itself is not among them.
    async fn list(&self, space: &Space, prefix: &str) -> Result<Vec<(String, Stored)>, Error>;
}

/// Whether `name` can be a name.
pub fn check_name(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let part = |part: &str| !part.is_empty() && part.bytes().all(plain);
    if name.len() > NAME_MAX_BYTES || !name.split('/').all(part) || name.split('/').count() > 6 {
        return Err(Error::BadName { name: name.chars().take(80).collect() });
    }
    Ok(())
}

/// Whether `bytes` is not too large for `name`.
pub fn check_size(name: &str, bytes: &Bytes) -> Result<(), Error> {
    match bytes.len() {
        0..=VALUE_MAX_BYTES => Ok(()),
        bytes => Err(Error::TooLarge { name: name.to_owned(), bytes }),
    }
}

/// A value that was read, and which write it was.
#[derive(Clone, PartialEq, Debug)]
pub struct Read<T> {
    /// The value.
    pub value: T,
    /// Its revision; 0 for one that is not stored yet.
    pub revision: u64,
}

/// Reads a value. JSON, so that a person can read it with NATS tools too.
pub async fn read<T: DeserializeOwned>(
    store: &dyn RuntimeStore,
    space: &Space,
    name: &str,
) -> Result<Option<Read<T>>, Error> {
    let Some(stored) = store.get(space, name).await? else { return Ok(None) };
    let value = decode(name, &stored.bytes)?;
    Ok(Some(Read { value, revision: stored.revision }))
}

/// Writes a value over the revision that was read.
pub async fn write<T: Serialize>(
    store: &dyn RuntimeStore,
    space: &Space,
    name: &str,
    value: &T,
    expected: u64,
) -> Result<u64, Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::Unreadable { name: name.to_owned(), why: error.to_string() })?;
    store.put(space, name, bytes.into(), expected).await
}

/// Every value below `prefix`, by name.
pub async fn read_all<T: DeserializeOwned>(
    store: &dyn RuntimeStore,
    space: &Space,
    prefix: &str,
) -> Result<Vec<(String, T)>, Error> {
    let all = store.list(space, prefix).await?;
    all.into_iter().map(|(name, stored)| Ok((name.clone(), decode(&name, &stored.bytes)?))).collect()
}

/// Writes what `change` makes of the value that stands there, again when somebody else was faster.
/// `None` from `change`: it stays as it is. Answers what stands there in the end.
pub async fn change<T: Serialize + DeserializeOwned>(
    store: &dyn RuntimeStore,
    space: &Space,
    name: &str,
    mut change: impl FnMut(Option<&T>) -> Option<T> + Send,
) -> Result<Option<T>, Error> {
    let mut stale = Error::Stale { name: name.to_owned() };
    for _ in 0..TRIES {
        let there = read::<T>(store, space, name).await?;
        let Some(next) = change(there.as_ref().map(|there| &there.value)) else {
            return Ok(there.map(|there| there.value));
        };
        match write(store, space, name, &next, there.map_or(0, |there| there.revision)).await {
            Ok(_) => return Ok(Some(next)),
            Err(lost @ Error::Stale { .. }) => stale = lost,
            Err(error) => return Err(error),
        }
    }
    Err(stale)
}

/// Removes what stands under `name`, whatever it is.
pub async fn forget(store: &dyn RuntimeStore, space: &Space, name: &str) -> Result<(), Error> {
    let mut lost = Error::Stale { name: name.to_owned() };
    for _ in 0..TRIES {
        let Some(there) = store.get(space, name).await? else { return Ok(()) };
        match store.remove(space, name, there.revision).await {
            Err(stale @ Error::Stale { .. }) => lost = stale,
            other => return other,
        }
    }
    Err(lost)
}

fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Unreadable { name: name.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_store_in_memory_keeps_the_promises() {
        contract::holds(&MemoryStore::new()).await;
    }

    #[test]
    fn a_name_is_made_of_plain_parts() {
        for good in ["a", "environment/prod", "arbiter/prod/web.v1_x-2"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", "/a", "a/", "a//b", "a b", "ä", "a/b/c/d/e/f/g", &"x".repeat(300)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
