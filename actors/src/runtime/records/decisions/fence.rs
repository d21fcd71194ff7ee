//! A store for carrying out one approved change: a record that the change is about is read only as it
//! stood when the word was given, until the change itself has written it.
//!
//! Every write says which revision it was decided on, so what was read as it stood is also written over
//! as it stood: the word, the state and the effect are one compare-and-set.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::runtime::records::decisions::state::{Stood, of_value};
use crate::runtime::store::{Error, RuntimeStore, Space, Stored};

/// The store.
pub struct Fence {
    inner: Arc<dyn RuntimeStore>,
    stood: Vec<Stood>,
    written: Mutex<BTreeSet<(Space, String)>>,
}

impl Fence {
    /// `inner`, as long as `stood` holds.
    pub fn new(inner: Arc<dyn RuntimeStore>, stood: Vec<Stood>) -> Self {
        Self { inner, stood, written: Mutex::default() }
    }

    fn wrote(&self, space: &Space, name: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert((space.clone(), name.to_owned()));
    }

    fn has_written(&self, space: &Space, name: &str) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.contains(&(space.clone(), name.to_owned()))
    }
}

#[async_trait]
impl RuntimeStore for Fence {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Stored>, Error> {
        let there = self.inner.get(space, name).await?;
        let concerned = |stood: &&Stood| Space::Of(stood.concern.of.clone()) == *space && stood.concern.name == name;
        if let Some(stood) = self.stood.iter().find(concerned)
            && !self.has_written(space, name)
            && of_value(&*self.inner, &stood.concern, there.as_ref()).await? != stood.how
        {
            return Err(Error::Moved { name: name.to_owned() });
        }
        Ok(there)
    }

    async fn put(&self, space: &Space, name: &str, bytes: Bytes, expected: u64) -> Result<u64, Error> {
        let revision = self.inner.put(space, name, bytes, expected).await?;
        self.wrote(space, name);
        Ok(revision)
    }

    async fn remove(&self, space: &Space, name: &str, expected: u64) -> Result<(), Error> {
        self.inner.remove(space, name, expected).await?;
        self.wrote(space, name);
        Ok(())
    }

    async fn list(&self, space: &Space, prefix: &str) -> Result<Vec<(String, Stored)>, Error> {
        self.inner.list(space, prefix).await
    }
}
