//! What the runtime platform remembers: the bucket `skald_runtime`, one key per name.

use std::time::Duration;

use actors::runtime::store::{Error, RuntimeStore, Space, Stored, check_name, check_size};
use async_trait::async_trait;
use bytes::Bytes;
use supervisor::ports::Unavailable;

use super::bucket::{Bucket, Entry, Write, WriteError};
use super::connect::Bus;
use super::names::{decode, encode};
use super::streams::{Replicas, SetupError};

/// The bucket.
pub(super) const BUCKET: &str = "skald_runtime";
/// How long the note that a name is gone stays: longer than anybody takes from reading to writing.
const NOTE_KEPT: Duration = Duration::from_secs(3_600);

/// [`RuntimeStore`] on a bucket.
#[derive(Debug)]
pub struct KvRuntime {
    bucket: Bucket,
}

impl KvRuntime {
    /// Opens the bucket, making it if it is missing.
    pub async fn open(bus: &Bus, replicas: Replicas) -> Result<Self, SetupError> {
        let about = "What Skald's runtime platform remembers: environments, services, deployments";
        Ok(Self { bucket: Bucket::open(bus, BUCKET, about, replicas, None).await? })
    }
}

/// Each part of a name is a token of its own, so that a prefix is a filter.
fn key(space: &Space, name: &str) -> String {
    let parts: Vec<_> = name.split('/').map(encode).collect();
    match space {
        Space::Shared => format!("all.{}", parts.join(".")),
        Space::Of(tenant) => format!("of.{}.{}", encode(tenant.as_str()), parts.join(".")),
    }
}

fn name(space: &Space, key: &str) -> Option<String> {
    let skipped = match space {
        Space::Shared => 1,
        Space::Of(_) => 2,
    };
    let parts: Option<Vec<_>> = key.split('.').skip(skipped).map(decode).collect();
    Some(parts?.join("/"))
}

fn unavailable(error: Unavailable) -> Error {
    Error::Unavailable { why: error.to_string() }
}

fn refused(name: &str, error: WriteError) -> Error {
    match error {
        WriteError::Stale(_) => Error::Stale { name: name.to_owned() },
        WriteError::Refused(why) => Error::Full { why },
        WriteError::Unavailable(error) => unavailable(error),
    }
}

fn stored(entry: Entry) -> Stored {
    Stored { revision: entry.revision, bytes: entry.bytes }
}

#[async_trait]
impl RuntimeStore for KvRuntime {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Stored>, Error> {
        check_name(name)?;
        let entry = self.bucket.get(&key(space, name)).await.map_err(unavailable)?;
        Ok(entry.filter(|entry| !entry.gone).map(stored))
    }

    async fn put(&self, space: &Space, name: &str, bytes: Bytes, expected: u64) -> Result<u64, Error> {
        check_name(name)?;
        check_size(name, &bytes)?;
        let key = key(space, name);
        let write =
            |expected| self.bucket.write(&key, bytes.clone(), Write { expected: Some(expected), ..Write::default() });
        let outcome = match write(expected).await {
            // Nothing was expected, and the note of a removal is nothing.
            Err(WriteError::Stale(Some(note))) if expected == 0 && note.gone => write(note.revision).await,
            other => other,
        };
        outcome.map_err(|error| refused(name, error))
    }

    async fn remove(&self, space: &Space, name: &str, expected: u64) -> Result<(), Error> {
        check_name(name)?;
        let key = key(space, name);
        if expected == 0 {
            return match self.bucket.get(&key).await.map_err(unavailable)? {
                Some(entry) if !entry.gone => Err(Error::Stale { name: name.to_owned() }),
                Some(_) | None => Ok(()),
            };
        }
        let how = Write { expected: Some(expected), ttl: Some(NOTE_KEPT), gone: true, ..Write::default() };
        match self.bucket.write(&key, Bytes::new(), how).await {
            Ok(_) | Err(WriteError::Stale(None)) => Ok(()),
            Err(WriteError::Stale(Some(there))) if there.gone => Ok(()),
            Err(error) => Err(refused(name, error)),
        }
    }

    async fn list(&self, space: &Space, prefix: &str) -> Result<Vec<(String, Stored)>, Error> {
        check_name(prefix)?;
        let (entries, _) = self.bucket.all(&format!("{}.>", key(space, prefix)), false).await.map_err(unavailable)?;
        let named = entries.into_iter().filter_map(|entry| Some((name(space, &entry.key)?, stored(entry))));
        let mut all: Vec<_> = named.collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }
}
