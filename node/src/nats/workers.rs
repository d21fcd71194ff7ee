//! What is remembered of each worker: one key per worker in the bucket `skald_workers`.

use async_trait::async_trait;
use bytes::Bytes;
use protocol::WorkerId;
use supervisor::ports::{Kept, PutError, Unavailable, WorkerMemory};

use super::bucket::{Bucket, Write, WriteError};
use super::connect::Bus;
use super::names::encode;
use super::streams::{Replicas, SetupError};

/// The bucket.
pub(super) const BUCKET: &str = "skald_workers";

/// [`WorkerMemory`] in a bucket.
#[derive(Debug)]
pub struct KvWorkerMemory {
    bucket: Bucket,
}

impl KvWorkerMemory {
    /// Opens the bucket, making it if it is missing.
    pub async fn open(bus: &Bus, replicas: Replicas) -> Result<Self, SetupError> {
        let about = "Skald's workers: whether each is paused, and its last run";
        Ok(Self { bucket: Bucket::open(bus, BUCKET, about, replicas, None).await? })
    }
}

fn key(worker: &WorkerId) -> String {
    format!("{}.{}.{}", worker.tenant, worker.kind, encode(worker.environment.as_str()))
}

#[async_trait]
impl WorkerMemory for KvWorkerMemory {
    async fn get(&self, worker: &WorkerId) -> Result<Option<Kept>, Unavailable> {
        let entry = self.bucket.get(&key(worker)).await?;
        // A key that somebody removed is as good as none, but is written over by its revision.
        Ok(entry.map(|it| Kept { revision: it.revision, bytes: if it.gone { Bytes::new() } else { it.bytes } }))
    }

    async fn put(&self, worker: &WorkerId, bytes: Bytes, expected: u64) -> Result<u64, PutError> {
        let how = Write { expected: Some(expected), ..Write::default() };
        self.bucket.write(&key(worker), bytes, how).await.map_err(|error| match error {
            WriteError::Stale(_) => PutError::Stale,
            WriteError::Refused(why) => PutError::Refused(why),
            WriteError::Unavailable(unavailable) => PutError::Unavailable(unavailable),
        })
    }
}
