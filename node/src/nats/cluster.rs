//! Who is alive and who owns what, in the bucket `skald_cluster`: a beat per node, a lease per
//! shard.
//!
//! An epoch is the revision of the lease's key, a sequence of the whole bucket, and so grows over
//! release and restart. Leases only decide who tries: what keeps two owners apart is the journal's
//! fence. Everything is read from a watch, so that looking several times a second costs nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_trait::async_trait;
use bytes::Bytes;
use protocol::{Epoch, NodeId, ShardId};
use supervisor::ports::{AnnounceError, Beat, Cluster, Lease, Unavailable};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::bucket::{Bucket, Entry, Write, WriteError};
use super::connect::Bus;
use super::process;
use super::streams::{self, Replicas, SetupError, setting_up};

/// The bucket.
pub(super) const BUCKET: &str = "skald_cluster";
/// What it is for, for whoever looks at the server.
const ABOUT: &str = "Skald's cluster: its shape, its members and who owns which shard";
/// What keys of leases begin with.
const LEASES: &str = "lease.";
/// How long the last beat of a node that died is kept. It counts as dead long before.
const BEAT_KEPT: Duration = Duration::from_secs(60);
/// How long the note of a node that left is kept; only watchers read it.
const NOTE_KEPT: Duration = Duration::from_secs(10);
/// How long the server's own note of a key that ran out is kept.
const MARKER_KEPT: Duration = Duration::from_secs(10);
/// How long a watch may be silent before it is looked whether its bucket is still the same.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The pause before a broken watch is made anew.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

/// The bucket that all nodes share.
pub(super) async fn bucket(bus: &Bus, replicas: Replicas) -> Result<Bucket, SetupError> {
    Bucket::open(bus, BUCKET, ABOUT, replicas, Some(MARKER_KEPT)).await
}

/// How that bucket is made.
pub(super) fn wanted(replicas: Replicas) -> Config {
    streams::bucket(BUCKET, ABOUT, replicas, Some(MARKER_KEPT))
}

/// What the watch has shown so far.
#[derive(Debug, Default)]
struct Seen {
    /// Set while the watch runs: what it does not see cannot be judged.
    current: bool,
    beats: BTreeMap<NodeId, (u64, Bytes)>,
    leases: BTreeMap<ShardId, Lease>,
    /// Leases that this node took and did not give back.
    ours: BTreeMap<ShardId, NodeId>,
}

/// [`Cluster`] in a bucket.
#[derive(Debug)]
pub struct KvCluster {
    bucket: Arc<Bucket>,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    watching: JoinHandle<()>,
    /// The revision of this node's last beat.
    last: tokio::sync::Mutex<u64>,
}

impl KvCluster {
    /// Opens the bucket, making it if it is missing, and starts to watch it.
    pub async fn open(bus: &Bus, replicas: Replicas) -> Result<Self, SetupError> {
        let bucket = Arc::new(bucket(bus, replicas).await?);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let changed = Arc::new(Notify::new());
        let watching = tokio::spawn(watch(Arc::clone(&bucket), Arc::clone(&seen), Arc::clone(&changed)));
        Ok(Self { bucket, seen, changed, watching, last: tokio::sync::Mutex::new(0) })
    }

    /// Makes sure that no other process goes by `node`'s name: one that is alive beats within `within`.
    /// A beat that was left by a process that died is no obstacle, and on this machine no wait either.
    pub async fn enter(&self, node: &NodeId, within: Duration) -> Result<(), SetupError> {
        let failed =
            |error: Unavailable| SetupError::Failed { what: "cannot see the members".into(), why: error.to_string() };
        let key = member_key(node);
        let left = setting_up(SetupError::may_pass, async || self.bucket.get(&key).await.map_err(failed)).await?;
        let Some(left) = left else { return Ok(()) };
        *self.last.lock().await = left.revision;
        if left.gone || process::is_dead(&left.bytes) {
            return Ok(());
        }
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < within {
            tokio::time::sleep(within / 10).await;
            let now = self.bucket.get(&key).await.map_err(failed)?.filter(|now| !now.gone);
            if let Some(now) = now.filter(|now| now.revision != left.revision) {
                return Err(SetupError::NameTaken(taken(node, &now.bytes)));
            }
        }
        Ok(())
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

/// What is said to whoever comes with a name that is taken.
fn taken(node: &NodeId, info: &[u8]) -> String {
    let who = process::described(info);
    format!("another node named {node} runs {who}: give one of them another name (setting `node`), or end it")
}

fn member_key(node: &NodeId) -> String {
    format!("member.{node}")
}

fn lease_key(shard: ShardId) -> String {
    format!("{LEASES}{shard}")
}

#[async_trait]
impl Cluster for KvCluster {
    async fn announce(&self, node: &NodeId, info: Bytes) -> Result<(), AnnounceError> {
        let mut last = self.last.lock().await;
        // Once more when the beat before ran out, or the bucket is a new one.
        for _ in 0..2 {
            let how = Write { expected: Some(*last), ttl: Some(BEAT_KEPT), ..Write::default() };
            match self.bucket.write(&member_key(node), info.clone(), how).await {
                Ok(revision) => {
                    *last = revision;
                    self.bucket.bus.mooring.acknowledged();
                    return Ok(());
                }
                Err(WriteError::Stale(Some(there))) if !there.gone && !there.written_by(&self.bucket) => {
                    return Err(AnnounceError::Taken(taken(node, &there.bytes)));
                }
                Err(WriteError::Stale(there)) => *last = there.map_or(0, |there| there.revision),
                Err(WriteError::Refused(why)) => return Err(Unavailable(why).into()),
                Err(WriteError::Unavailable(unavailable)) => return Err(unavailable.into()),
            }
        }
        Err(Unavailable("the beat changes while it is written".into()).into())
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
            let mut seen = lock(&self.seen);
            seen.note_lease(lease);
            seen.ours.insert(shard, node.clone());
        }
        Ok(epoch)
    }

    async fn release(&self, shard: ShardId, held: Epoch) -> Result<(), Unavailable> {
        lock(&self.seen).ours.remove(&shard);
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
    let lost: Vec<_> = {
        let mut seen = lock(seen);
        *seen = Seen { ours: std::mem::take(&mut seen.ours), ..Seen::default() };
        entries.into_iter().for_each(|entry| seen.note(entry));
        seen.current = true;
        let lost = seen.ours.iter().filter(|(shard, _)| !seen.leases.contains_key(shard));
        lost.map(|(shard, node)| (*shard, node.clone())).collect()
    };
    // The bucket is a new one: the shards that run here say so again before anybody claims them.
    for (shard, node) in lost {
        let how = Write { expected: Some(0), ..Write::default() };
        match bucket.write(&lease_key(shard), Bytes::from(node.to_string()), how).await {
            Ok(epoch) => lock(seen).note_lease(Lease { shard, owner: Some(node), epoch: Epoch(epoch) }),
            Err(WriteError::Stale(_)) => drop(lock(seen).ours.remove(&shard)),
            Err(WriteError::Refused(why)) => return Err(Unavailable(why)),
            Err(WriteError::Unavailable(unavailable)) => return Err(unavailable),
        }
    }
    let born = bucket.born();
    loop {
        if bucket.born() != born {
            return Err(Unavailable("the bucket was made anew".into()));
        }
        // Beats come all the time, unless the bucket is gone: then its next look tells.
        let Ok(entry) = tokio::time::timeout(LOOK_AGAIN, watch.next()).await else { continue };
        let entry = entry?;
        let lease = entry.key.starts_with(LEASES);
        lock(seen).note(entry);
        if lease {
            changed.notify_one();
        }
    }
}
