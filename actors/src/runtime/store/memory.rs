//! The store in memory: for tests of what stands above it. It outlives what uses it, as a bucket
//! does, for as long as somebody holds it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Error, RuntimeStore, Space, Stored, check_name, check_size};

/// Values in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Writes so far.
    writes: u64,
    values: BTreeMap<(Space, String), Stored>,
}

impl MemoryStore {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often anything was written: a run that changes nothing writes nothing (W074).
    pub fn writes(&self) -> u64 {
        self.inner().writes
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RuntimeStore for MemoryStore {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Stored>, Error> {
        check_name(name)?;
        Ok(self.inner().values.get(&(space.clone(), name.to_owned())).cloned())
    }

    async fn put(&self, space: &Space, name: &str, bytes: Bytes, expected: u64) -> Result<u64, Error> {
        check_name(name)?;
        check_size(name, &bytes)?;
        let mut inner = self.inner();
        let key = (space.clone(), name.to_owned());
        if inner.values.get(&key).map_or(0, |stored| stored.revision) != expected {
            return Err(Error::Stale { name: name.to_owned() });
        }
        inner.writes += 1;
        let revision = inner.writes;
        inner.values.insert(key, Stored { revision, bytes });
        Ok(revision)
    }

    async fn remove(&self, space: &Space, name: &str, expected: u64) -> Result<(), Error> {
        check_name(name)?;
        let mut inner = self.inner();
        let key = (space.clone(), name.to_owned());
        match inner.values.get(&key) {
            Some(stored) if stored.revision != expected => return Err(Error::Stale { name: name.to_owned() }),
            Some(_) | None => inner.values.remove(&key),
        };
        Ok(())
    }

    async fn list(&self, space: &Space, prefix: &str) -> Result<Vec<(String, Stored)>, Error> {
        check_name(prefix)?;
        let below = format!("{prefix}/");
        let inner = self.inner();
        let ours = inner.values.iter().filter(|((whose, name), _)| whose == space && name.starts_with(&below));
        Ok(ours.map(|((_, name), stored)| (name.clone(), stored.clone())).collect())
    }
}
