//! How the journal's shards lie on streams, and what all nodes of a cluster must agree on.

use std::collections::HashMap;
use std::time::Duration;

use protocol::ShardId;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, Write, WriteError};
use super::connect::Bus;
use super::ground::Known;
use super::streams::{Replicas, SetupError, look, setting_up, stream};
use supervisor::ports::Unavailable;

/// The number of shards of a new cluster: few busy writers beat many, because each packs more
/// records into a frame.
pub const DEFAULT_SHARDS: u16 = 4;
/// The most shards: each is a subtree of actors and a lease on every renewal.
const SHARDS_MAX: u16 = 1_024;
/// How long the journal is kept: the audit trail of a month.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Frames carry no message ids (see the journal), so the server's window of ids stays empty.
const NO_WINDOW: Duration = Duration::from_secs(1);
/// How long an append waits for its acknowledgement. It takes a millisecond, and a busy disk's worst
/// a few hundred. What was sent to a leader that died is never answered, so waiting long only makes
/// the next leader's first progress later; looking too early costs one read.
const APPEND_WITHIN: Duration = Duration::from_secs(2);
/// The key under which the shape is kept.
pub(super) const KEY: &str = "config";
/// What the journal's streams say of the shape, for a cluster whose bucket was lost.
const SHARDS: &str = "skald-shards";
const STREAMS: &str = "skald-streams";

/// The journal's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalConfig {
    /// How many shards a new cluster gets. `None`: what the cluster was created with, or
    /// [`DEFAULT_SHARDS`].
    pub shards: Option<u16>,
    /// Over how many streams the shards are spread; settled when the cluster is created. `None`: what the cluster was created with, or
    /// [`default_streams`].
    pub streams: Option<u16>,
    /// On how many servers every frame is kept.
    pub replicas: Replicas,
    /// How long frames are kept.
    pub retention: Duration,
    /// How long an append waits for its acknowledgement before it counts as undecided.
    pub append_within: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            shards: None,
            streams: None,
            replicas: Replicas::One,
            retention: RETENTION,
            append_within: APPEND_WITHIN,
        }
    }
}

/// Over how many streams `shards` are spread by default: one each on one server, one for each of
/// several servers.
///
/// Measured with `examples/journal_layout.rs`, nats-server 2.15.1 with every write synced, two
/// shared cores and one disk for all servers, two runs, p50 of an append (frames per second):
///
/// | servers | streams | 1 writer, 700 B | 8 writers, 16 KiB |
/// |---|---|---|---|
/// | 1 | 1 | 0.48 and 0.57 ms (1,920 and 1,670) | 2.5 and 2.6 ms (3,020 and 2,880) |
/// | 1 | 8 | 0.45 and 0.49 ms (2,090 and 1,920) | 1.9 and 2.0 ms (3,900 and 3,740) |
/// | 3 | 1 | 1.3 and 1.5 ms (740 and 640) | 2.7 and 3.3 ms (2,720 and 2,280) |
/// | 3 | 3 | 1.2 and 1.3 ms (800 and 720) | 2.9 and 3.1 ms (2,490 and 2,340) |
/// | 3 | 8 | 1.2 and 1.4 ms (820 and 700) | 4.2 and 4.4 ms (1,740 and 1,700) |
///
/// One server syncs the files of several streams side by side; several servers pay for a Raft group
/// per stream. As many streams as servers cost nothing that can be seen, and the death of a server
/// stops only the shards of the streams that it led: an election takes JetStream 4 to 9 s.
pub fn default_streams(replicas: Replicas, shards: u16) -> u16 {
    let servers = match replicas {
        Replicas::One => return shards,
        Replicas::Three => 3,
        Replicas::Five => 5,
    };
    shards.min(servers)
}

/// Streams that are looked at to tell a new cluster from one that lost a part of its journal.
const LOOKED_AT: u16 = 16;

/// The first streams of the journal of which `one` is a part.
pub(super) fn journals(one: &async_nats::jetstream::stream::Config) -> Vec<String> {
    let streams = one.metadata.get(STREAMS).and_then(|streams| streams.parse().ok()).unwrap_or(1);
    let shape = Shape { shards: streams, streams };
    (0..streams.min(LOOKED_AT)).map(|n| shape.stream(ShardId(n))).collect()
}

/// What never changes in the life of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// How many shards there are.
    pub shards: u16,
    /// Over how many streams they are spread.
    pub streams: u16,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "journal.shards = {}, journal.streams = {}", self.shards, self.streams)
    }
}

impl Shape {
    /// Whether `stream` holds `shard`.
    pub fn holds(self, stream: &str, shard: ShardId) -> bool {
        self.stream(shard) == stream
    }

    /// What of it is kept in the bucket of the cluster.
    pub fn known(self) -> Known {
        let text = serde_json::to_vec(&self).unwrap_or_default();
        Known { key: KEY.into(), bytes: text.into() }
    }

    /// The stream that holds `shard`.
    pub(super) fn stream(self, shard: ShardId) -> String {
        if self.streams == 1 { "SKALD_JOURNAL".into() } else { format!("SKALD_JOURNAL_{}", shard.0 % self.streams) }
    }

    /// Every stream of this shape.
    pub(super) fn streams(self, config: &JournalConfig) -> Vec<async_nats::jetstream::stream::Config> {
        let (replicas, age) = (config.replicas, config.retention);
        let with_window = |name: &str, subjects| async_nats::jetstream::stream::Config {
            duplicate_window: NO_WINDOW,
            description: Some("Skald's journal: one subject per shard, one message per commit".into()),
            metadata: HashMap::from([
                (SHARDS.to_owned(), self.shards.to_string()),
                (STREAMS.to_owned(), self.streams.to_string()),
            ]),
            ..stream(name, subjects, replicas, age)
        };
        let of = |n: u16| (0..self.shards).filter(move |shard| shard % self.streams == n).map(ShardId);
        let make = |n: u16| {
            let subjects = of(n).map(protocol::subjects::journal).collect();
            with_window(&self.stream(ShardId(n)), subjects)
        };
        if self.streams == 1 {
            return vec![with_window(&self.stream(ShardId(0)), vec![protocol::subjects::JOURNAL.to_owned()])];
        }
        (0..self.streams).map(make).collect()
    }

    /// The shape of the cluster: the stored one, or, for a new cluster, the one that `config` asks
    /// for. Fails when both are there and differ. A stream that was only just made, by another node,
    /// may have no leader yet: asking is repeated as long as making it would be.
    pub(super) async fn agree(bucket: &Bucket, config: &JournalConfig) -> Result<Self, SetupError> {
        setting_up(SetupError::may_pass, async || Self::try_agree(bucket, config).await).await
    }

    /// The shape of the journal that is there, as its streams say.
    async fn of_journal(bus: &Bus) -> Result<Option<Self>, Unavailable> {
        for name in ["SKALD_JOURNAL", "SKALD_JOURNAL_0"] {
            let Some(found) = look(bus, name).await? else { continue };
            let said = |key: &str| found.config.metadata.get(key)?.parse().ok();
            if let (Some(shards), Some(streams)) = (said(SHARDS), said(STREAMS)) {
                return Ok(Some(Self { shards, streams }));
            }
        }
        Ok(None)
    }

    async fn try_agree(bucket: &Bucket, config: &JournalConfig) -> Result<Self, SetupError> {
        let failed = |why: String| SetupError::Failed { what: "cannot agree on the cluster's shape".into(), why };
        let shards = config.shards.unwrap_or(DEFAULT_SHARDS);
        let streams = config.streams.unwrap_or_else(|| default_streams(config.replicas, shards));
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(SetupError::Setting(format!("journal.shards = {shards}: use 1 to {SHARDS_MAX}")));
        }
        if !(1..=shards).contains(&streams) {
            return Err(SetupError::Setting(format!("journal.streams = {streams}: use 1 to {shards}, the shards")));
        }
        // A cluster whose bucket was lost has the shape that its journal has.
        let wanted = Self::of_journal(&bucket.bus).await.map_err(|error| failed(error.to_string()))?;
        let wanted = wanted.unwrap_or(Self { shards, streams });
        let mut stored = bucket.get(KEY).await.map_err(|error| failed(error.to_string()))?;
        if stored.is_none() {
            let text = serde_json::to_vec(&wanted).map_err(|error| failed(error.to_string()))?;
            let how = Write { expected: Some(0), ..Write::default() };
            stored = match bucket.write(KEY, text.into(), how).await {
                Ok(_) => bucket.get(KEY).await.map_err(|error| failed(error.to_string()))?,
                Err(WriteError::Stale(stored)) => stored,
                Err(WriteError::Refused(why)) => return Err(failed(why)),
                Err(WriteError::Unavailable(error)) => return Err(failed(error.to_string())),
            };
        }
        let stored = stored.ok_or_else(|| failed("it was removed meanwhile".into()))?;
        let stored: Self = serde_json::from_slice(&stored.bytes)
            .map_err(|error| failed(format!("what is stored cannot be read: {error}")))?;
        let differs = config.shards.is_some_and(|shards| shards != stored.shards)
            || config.streams.is_some_and(|streams| streams != stored.streams);
        if differs {
            let wanted = Self {
                shards: config.shards.unwrap_or(stored.shards),
                streams: config.streams.unwrap_or(stored.streams),
            };
            return Err(SetupError::OtherShape { stored: stored.to_string(), wanted: wanted.to_string() });
        }
        Ok(stored)
    }
}
