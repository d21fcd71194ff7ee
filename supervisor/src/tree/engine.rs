//! What every actor of a node shares: the ports, the settings, the turns of long decisions, and how the
//! shards move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use protocol::{Epoch, NodeId, ShardId, Time};

use super::pulse::Pulses;
use super::turns::Turns;
use crate::activities::Activities;
use crate::journal::frame::Frame;
use crate::journal::writer;
use crate::machine::restart::Intensity;
use crate::ports::{Clock, Definitions, Events, Journal, Outbox, Peers, RemoteActivities, Snapshots};

/// Settings of the tree, each with its reason. What is full for the moment is answered with "busy"; what a
/// tenant or a family has too much of, with "quota".
#[derive(Clone, Debug)]
pub struct Limits {
    /// The journal's own.
    pub writer: writer::Limits,
    /// Facts from outside that may wait for one saga while it is being woken or is busy; its own are
    /// always taken.
    pub facts_per_saga: usize,
    /// A saga with nothing under way goes to sleep when nothing is due within this: waking costs
    /// about 50 µs, an actor about 8 KB.
    pub sleep_horizon: Duration,
    /// How often changed sagas are written to the snapshot store and the low-water mark moves: what
    /// a takeover has to replay, at most.
    pub sweep_every: Duration,
    /// How often it is written down beside the lease where a busy journal stands: what is cut off its end
    /// while its node is dead is noticed if it was written before that. One small write for each shard.
    pub anchor_every: Duration,
    /// Snapshots and pages on their way at once per shard; small, so that a sweep does not starve
    /// the journal, which shares the server's disk.
    pub sweep_in_flight: usize,
    /// Frames since the last mark that a drain leaves to its successor. Reading them back takes a
    /// fraction of a second; writing a snapshot of every busy saga first takes longer, and nobody
    /// serves the shard meanwhile.
    pub drain_tail_max: u64,
    /// Records after which a saga that never rests is written to the snapshot store.
    pub snapshot_every_records: u64,
    /// Ended sagas remembered per shard for idempotent starts; beyond it the oldest of the tenant that has
    /// the most are forgotten. Each costs half a kilobyte in the store, and some seven bytes of memory.
    pub ended_per_shard: usize,
    /// How long an ended saga is remembered.
    pub ended_for: Duration,
    /// How long the journal may be in trouble before new commands are refused with the reason
    /// instead of waiting: longer than a lost acknowledgement or a leader's change takes to settle.
    pub trouble_max: Duration,
    /// Events on their way to the event stream at once per shard.
    pub relay_in_flight: usize,
    /// Parcels on their way to other sagas at once per shard: apart from the events, which do not
    /// wait for a shard that cannot be reached. Few, because they are work for other shards that stands
    /// before everybody's commands there; those that wait take turns.
    pub parcels_in_flight: usize,
    /// Events and parcels that may wait to be sent per shard, a few hundred bytes each or what their
    /// payload has; beyond it what comes from outside is answered with "busy". What other sagas send
    /// is taken all the same: two full shards would wait for each other.
    pub unsent_max: u64,
    /// How long an event that is refused for good is tried again before it is buried and the others go
    /// on: permissions and limits are put right by hand, and a person who is at it should be waited for.
    pub refused_for: Duration,
    /// How late the oldest event or parcel may be sent, or a timer be fired, before the shard is said to
    /// stand still: much longer than an election or the restart of a server.
    pub still_after: Duration,
    /// Living sagas below one root, over all shards: a Map of the largest number of children at once,
    /// each with one of its own, fits; what grows without end does not. The child that would be one
    /// more fails its parent's step.
    pub descendants: usize,
    /// Living sagas of one tenant, over all shards; a sleeping one costs about half a kilobyte of
    /// memory. A start beyond it is refused, a child fails its parent's step.
    pub sagas_per_tenant: usize,
    /// Bytes that the living sagas of one tenant have in the journal, over all shards: the state of each
    /// as it was last stored, and its records since. A takeover reads them all. Starts beyond it are
    /// refused, a child fails its parent's step; what lives goes on.
    pub journal_bytes_per_tenant: u64,
    /// Bytes that one tenant may write to the journal in a day, over all shards: what its ended sagas leave
    /// there stays until it is old. Counted since the shard was taken over. Starts beyond it are refused, a
    /// child fails its parent's step; what lives goes on.
    pub journal_bytes_per_day: u64,
    /// How often a failing saga actor is restarted before it is parked.
    pub saga_restarts: Intensity,
    /// How long a remote or unlimited attempt may take when its state has no `TimeoutSeconds`.
    pub attempt_max: Duration,
    /// Due timers of one tenant that may be under way at once per shard, until their sagas have recorded
    /// them. A crowd that is due in the same second is fed to the shards in portions of it: whoever else
    /// asks waits behind one portion of each shard: with 256 that took a quarter of a second, with 64 a tenth.
    pub due_in_flight: usize,
    /// How long the expressions of a decision may take on a thread that carries messages, in
    /// milliseconds: some hundred times what an ordinary decision needs. What takes longer waits for a
    /// turn on a thread of its own.
    pub brief_ms: u64,
    /// How much of a second the brief decisions of one tenant may take on threads that carry messages, in
    /// milliseconds: half a processor. A tenant whose sagas compute without end decides beyond it on the
    /// threads for long decisions, in turn with others.
    pub brief_share_ms: u64,
    /// Decisions that may be under way at length, each on a thread of its own. `None`: they are made
    /// where they stand, and no time is counted, so that a simulation is repeatable.
    pub decision_threads: Option<usize>,
}

/// One decision fewer than there are processors, so that one is left for messages; at least two, so that
/// a tenant's long decisions leave room for another's.
pub fn decision_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| (processors.get() - 1).max(2))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            writer: writer::Limits::default(),
            facts_per_saga: 10_000,
            sleep_horizon: Duration::from_secs(1),
            sweep_every: Duration::from_secs(10),
            anchor_every: Duration::from_secs(1),
            sweep_in_flight: 4,
            drain_tail_max: 20_000,
            snapshot_every_records: 64,
            ended_per_shard: 1_000_000,
            ended_for: Duration::from_secs(7 * 24 * 3600),
            trouble_max: Duration::from_secs(3),
            relay_in_flight: 64,
            parcels_in_flight: 16,
            unsent_max: 100_000,
            refused_for: Duration::from_secs(5),
            still_after: Duration::from_secs(30),
            descendants: 20_000,
            sagas_per_tenant: 500_000,
            journal_bytes_per_tenant: 2 << 30,
            journal_bytes_per_day: 256 << 30,
            saga_restarts: Intensity::default(),
            attempt_max: Duration::from_secs(24 * 3600),
            due_in_flight: 32,
            brief_ms: 2,
            brief_share_ms: 500,
            decision_threads: Some(decision_threads()),
        }
    }
}

/// Is told what happens, for figures and traces. Calls are on hot paths: they must not block.
pub trait Observer: Send + Sync + 'static {
    /// A frame with this many records became durable, so long after it was asked for.
    fn appended(&self, records: usize, took: Duration) {
        let _ = (records, took);
    }
    /// An attempt of an activity ended.
    fn attempted(&self, activity: &str, took: Duration) {
        let _ = (activity, took);
    }
    /// An event was published.
    fn published(&self) {}
    /// Something that was to be sent was refused for good, and lies among the dead letters.
    fn buried(&self, reason: &str) {
        let _ = reason;
    }
    /// Something is wrong with the journal of `shard`, or not any more.
    fn trouble(&self, shard: ShardId, why: Option<&str>) {
        let _ = (shard, why);
    }
    /// A span was made for work of this trace; an exporter joins the two.
    fn joins(&self, span: &tracing::Span, trace: &protocol::TraceId) {
        let _ = (span, trace);
    }
}

/// Tells nobody.
pub struct Unobserved;

impl Observer for Unobserved {}

/// What every actor of a node shares.
pub struct Engine {
    /// This node.
    pub node: NodeId,
    /// Shards of the cluster.
    pub shards: u16,
    /// Settings.
    pub limits: Limits,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Latest states.
    pub snapshots: Arc<dyn Snapshots>,
    /// Events that workers publish, and dead letters.
    pub outbox: Arc<dyn Outbox>,
    /// The stream that the shards' events go to.
    pub events: Arc<dyn Events>,
    /// The other sagas.
    pub peers: Arc<dyn Peers>,
    /// Definitions by version.
    pub definitions: Arc<dyn Definitions>,
    /// Activities of this process.
    pub activities: Activities,
    /// Activities of others.
    pub remote: Arc<dyn RemoteActivities>,
    /// Where seeds come from.
    pub seeds: Seeds,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
    /// How the shards of this node move.
    pub pulses: Arc<Pulses>,
    /// Who may decide at length.
    pub turns: Arc<Turns>,
}

impl Engine {
    /// Now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Whether this node's `epoch` still wrote the last frame of `shard`: whatever it knows of it is
    /// all there is. A shard that was taken over and has not noticed yet knows nothing of what its new
    /// owner did since, so what it would answer without writing is asked of the journal first.
    pub async fn is_current(&self, shard: ShardId, epoch: Epoch) -> bool {
        let last = self.journal.last(shard).await.ok().flatten();
        let header = last.and_then(|(_, bytes)| Frame::read(&bytes).ok()).map(|frame| frame.header);
        header.is_some_and(|header| header.epoch == epoch && header.node == self.node)
    }
}

/// A source of seeds: SplitMix64 (Steele, Lea, Flood 2014) over a counter, so that a simulation
/// with one first seed is repeatable.
#[derive(Debug)]
pub struct Seeds(AtomicU64);

impl Seeds {
    /// A source that begins with `first`.
    pub const fn new(first: u64) -> Self {
        Self(AtomicU64::new(first))
    }

    /// The next seed.
    pub fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
