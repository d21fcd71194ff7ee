//! Who is alive and who owns what, in the bucket `skald_cluster`: a beat per node, a lease per
//! shard.
//!
//! An epoch is the revision of the lease's key, a sequence of the whole bucket, and so grows over
//! release and restart. Leases only decide who tries: what keeps two owners apart is the journal's
//! fence. Everything is read from a watch, so that looking several times a second costs nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::{Epoch, NodeId, ShardId};
use supervisor::ports::{Beat, Cluster, Lease, Unavailable};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::bucket::{Bucket, Entry, Write, WriteError};
use super::connect::Bus;
use super::streams::{Replicas, SetupError};

/// The bucket.
pub(super) const BUCKET: &str = "skald_cluster";
/// What keys of leases begin with.
const LEASES: &str = "lease.";
/// How long the last beat of a node that died is kept. It counts as dead long before.
const BEAT_KEPT: Duration = Duration::from_secs(60);
/// How long the note of a node that left is kept; only watchers read it.
const NOTE_KEPT: Duration = Duration::from_secs(10);
/// How long the server's own note of a key that ran out is kept.
const MARKER_KEPT: Duration = Duration::from_secs(10);
/// The pause before a broken watch is made anew.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

/// The bucket that all nodes share.
pub(super) async fn bucket(bus: &Bus, replicas: Replicas) -> Result<Bucket, SetupError> {
    let about = "Skald's cluster: its shape, its members and who owns which shard";
    Bucket::open(bus, BUCKET, about, replicas, Some(MARKER_KEPT)).await
}

/// What the watch has shown so far.
#[derive(Debug, Default)]
struct Seen {
    /// Set while the watch runs: what it does not see cannot be judged.
    current: bool,
    beats: BTreeMap<NodeId, (u64, Bytes)>,
    leases: BTreeMap<ShardId, Lease>,
}

/// [`Cluster`] in a bucket.
#[derive(Debug)]
pub struct KvCluster {
    bucket: Arc<Bucket>,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    watching: JoinHandle<()>,
}

impl KvCluster {
    /// Opens the bucket, making it if it is missing, and starts to watch it.
    pub async fn open(bus: &Bus, replicas: Replicas) -> Result<Self, SetupError> {
        let bucket = Arc::new(bucket(bus, replicas).await?);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let changed = Arc::new(Notify::new());
        let watching = tokio::spawn(watch(Arc::clone(&bucket), Arc::clone(&seen), Arc::clone(&changed)));
        Ok(Self { bucket, seen, changed, watching })
    }

    fn seen(&self) -> Result<MutexGuard<'_, Seen>, Unavailable> {
        let seen = lock(&self.seen);
        if seen.current { Ok(seen) } else { Err(Unavailable("the watch of the cluster is interrupted".into())) }
    }

    async fn put(&self, key: &str, bytes: Bytes, how: Write) -> Result<Option<u64>, Unavailable> {
        match self.bucket.write(key, bytes, how).await {
            Ok(revision) => Ok(Some(revision)),
            Err(WriteError::Stale(_)) => Ok(None),
            Err(WriteError::Refused(why)) => Err(Unavailable(why)),
            Err(WriteError::Unavailable(unavailable)) => Err(unavailable),
        }
    }
}

impl Drop for KvCluster {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn member_key(node: &NodeId) -> String {
    format!("member.{node}")
}

fn lease_key(shard: ShardId) -> String {
    format!("{LEASES}{shard}")
}

#[async_trait]
impl Cluster for KvCluster {
    async fn announce(&self, node: &NodeId, info: Bytes) -> Result<(), Unavailable> {
        let how = Write { ttl: Some(BEAT_KEPT), ..Write::default() };
        self.put(&member_key(node), info, how).await.map(drop)
    }

    async fn leave(&self, node: &NodeId) -> Result<(), Unavailable> {
        let how = Write { ttl: Some(NOTE_KEPT), gone: true, ..Write::default() };
        self.put(&member_key(node), Bytes::new(), how).await.map(drop)
    }

    async fn beats(&self) -> Result<Vec<Beat>, Unavailable> {
        let seen = self.seen()?;
        let beat = |(node, (number, info)): (&NodeId, &(u64, Bytes))| Beat {
            node: node.clone(),
            number: *number,
            info: info.clone(),
        };
        Ok(seen.beats.iter().map(beat).collect())
    }

    async fn leases(&self) -> Result<Vec<Lease>, Unavailable> {
        Ok(self.seen()?.leases.values().cloned().collect())
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn claim(&self, shard: ShardId, node: &NodeId, over: Epoch) -> Result<Option<Epoch>, Unavailable> {
        let how = Write { expected: Some(over.0), ..Write::default() };
        let epoch = self.put(&lease_key(shard), Bytes::from(node.to_string()), how).await?.map(Epoch);
        if let Some(epoch) = epoch {
            let lease = Lease { shard, owner: Some(node.clone()), epoch };
            lock(&self.seen).note_lease(lease);
        }
        Ok(epoch)
    }

    async fn release(&self, shard: ShardId, held: Epoch) -> Result<(), Unavailable> {
        let how = Write { expected: Some(held.0), ..Write::default() };
        if let Some(epoch) = self.put(&lease_key(shard), Bytes::new(), how).await? {
            lock(&self.seen).note_lease(Lease { shard, owner: None, epoch: Epoch(epoch) });
        }
        Ok(())
    }
}

impl Seen {
    fn note(&mut self, entry: Entry) {
        if let Some(node) = entry.key.strip_prefix("member.").and_then(|name| NodeId::new(name).ok()) {
            let newer = self.beats.get(&node).is_none_or(|(number, _)| *number < entry.revision);
            if newer && entry.gone {
                self.beats.remove(&node);
            } else if newer {
                self.beats.insert(node, (entry.revision, entry.bytes));
            }
        } else if let Some(shard) = entry.key.strip_prefix(LEASES).and_then(|number| number.parse().ok()) {
            let owner = std::str::from_utf8(&entry.bytes).ok().and_then(|name| NodeId::new(name).ok());
            self.note_lease(Lease { shard: ShardId(shard), owner, epoch: Epoch(entry.revision) });
        }
    }

    fn note_lease(&mut self, lease: Lease) {
        let newer = self.leases.get(&lease.shard).is_none_or(|known| known.epoch < lease.epoch);
        if newer {
            self.leases.insert(lease.shard, lease);
        }
    }
}

async fn watch(bucket: Arc<Bucket>, seen: Arc<Mutex<Seen>>, changed: Arc<Notify>) {
    loop {
        let why = match follow(&bucket, &seen, &changed).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        lock(&seen).current = false;
        tracing::debug!(%why, "watching the cluster is interrupted");
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

async fn follow(
    bucket: &Bucket,
    seen: &Mutex<Seen>,
    changed: &Notify,
) -> Result<std::convert::Infallible, Unavailable> {
    let mut watch = bucket.watch().await?;
    let (entries, _) = bucket.all(">", false).await?;
    {
        let mut seen = lock(seen);
        *seen = Seen::default();
        entries.into_iter().for_each(|entry| seen.note(entry));
        seen.current = true;
    }
    loop {
        let entry = watch.next().await?;
        let lease = entry.key.starts_with(LEASES);
        lock(seen).note(entry);
        if lease {
            changed.notify_one();
        }
    }
}
