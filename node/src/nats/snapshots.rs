//! The latest folded state of things: one key per shard, shelf and name in the bucket `skald_snapshots`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use protocol::ShardId;
use supervisor::ports::{PutError, Shelf, Snapshot, Snapshots, Unavailable};

use super::bucket::{Bucket, Entry, Write, WriteError};
use super::connect::Bus;
use super::names::{decode, encode};
use super::streams::{Replicas, SetupError};

/// The bucket.
pub(super) const BUCKET: &str = "skald_snapshots";
/// How long the note that a snapshot was removed is kept. It keeps a former owner, who never saw
/// the removal, from putting the snapshot back; one that is cut off longer than this has long lost
/// its connection and everything it had queued.
const NOTE_KEPT: Duration = Duration::from_secs(3600);

/// [`Snapshots`] in a bucket.
///
/// A value that expects "there is none" may follow the note of a removal only when this node wrote
/// that note, or has read the shard since: otherwise a former owner could bring back what the new
/// one removed.
#[derive(Debug)]
pub struct KvSnapshots {
    bucket: Bucket,
    /// Up to which revision the states of each shard were read by [`Snapshots::all`].
    read: Mutex<HashMap<ShardId, u64>>,
}

impl KvSnapshots {
    /// Opens the bucket, making it if it is missing.
    pub async fn open(bus: &Bus, replicas: Replicas) -> Result<Self, SetupError> {
        let about = "Skald's snapshots: the latest state of every saga and worker";
        let bucket = Bucket::open(bus, BUCKET, about, replicas, None).await?;
        Ok(Self { bucket, read: Mutex::default() })
    }

    fn known(&self, shard: ShardId, note: &Entry) -> bool {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        note.written_by(&self.bucket) || read.get(&shard).is_some_and(|read| note.revision <= *read)
    }
}

/// Shelves have a token of their own between the shard and the name, so that a filter tells them apart.
fn key(shard: ShardId, name: &str) -> String {
    let shelf = Shelf::of(name);
    let rest = &name[shelf.prefix().len()..];
    format!("{shard}.{}{}", token(shelf), encode(rest))
}

fn token(shelf: Shelf) -> &'static str {
    match shelf {
        Shelf::States => "",
        Shelf::Indexes => "index.",
        Shelf::Pages => "page.",
    }
}

#[async_trait]
impl Snapshots for KvSnapshots {
    async fn put(&self, shard: ShardId, name: &str, bytes: Bytes, expected: u64) -> Result<u64, PutError> {
        let key = key(shard, name);
        let write =
            |expected| self.bucket.write(&key, bytes.clone(), Write { expected: Some(expected), ..Write::default() });
        let outcome = match write(expected).await {
            Err(WriteError::Stale(Some(note))) if expected == 0 && note.gone && self.known(shard, &note) => {
                write(note.revision).await
            }
            other => other,
        };
        outcome.map_err(|error| match error {
            WriteError::Stale(_) => PutError::Stale,
            WriteError::Refused(why) => PutError::Refused(why),
            WriteError::Unavailable(unavailable) => PutError::Unavailable(unavailable),
        })
    }

    async fn remove(&self, shard: ShardId, name: &str, expected: u64) -> Result<(), PutError> {
        let key = key(shard, name);
        if expected == 0 {
            return match self.bucket.get(&key).await? {
                Some(entry) if !entry.gone => Err(PutError::Stale),
                Some(_) | None => Ok(()),
            };
        }
        let how = Write { expected: Some(expected), ttl: Some(NOTE_KEPT), gone: true, ..Write::default() };
        match self.bucket.write(&key, Bytes::new(), how).await {
            Ok(_) | Err(WriteError::Stale(None)) => Ok(()),
            Err(WriteError::Stale(Some(there))) if there.gone => Ok(()),
            Err(WriteError::Stale(Some(_))) => Err(PutError::Stale),
            Err(WriteError::Refused(why)) => Err(PutError::Refused(why)),
            Err(WriteError::Unavailable(unavailable)) => Err(PutError::Unavailable(unavailable)),
        }
    }

    async fn get(&self, shard: ShardId, name: &str) -> Result<Option<Snapshot>, Unavailable> {
        let entry = self.bucket.get(&key(shard, name)).await?.filter(|it| !it.gone);
        Ok(entry.map(|it| Snapshot { name: name.to_owned(), revision: it.revision, bytes: it.bytes }))
    }

    /// All values are gathered before the first is given out, so that each name comes once even
    /// while a former owner still writes; a shard's snapshots are some tens of megabytes at most.
    fn all(&self, shard: ShardId, shelf: Shelf) -> BoxStream<'_, Result<Snapshot, Unavailable>> {
        let gather = async move {
            let beginning = format!("{shard}.{}", token(shelf));
            let (entries, seen) = self.bucket.all(&format!("{beginning}*"), false).await?;
            if shelf == Shelf::States {
                self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, seen);
            }
            let snapshots = entries.into_iter().filter_map(move |entry| {
                let name = format!("{}{}", shelf.prefix(), decode(entry.key.strip_prefix(&beginning)?)?);
                Some(Snapshot { name, revision: entry.revision, bytes: entry.bytes })
            });
            Ok(stream::iter(snapshots.map(Ok).collect::<Vec<_>>()))
        };
        stream::once(gather).try_flatten().boxed()
    }
}
