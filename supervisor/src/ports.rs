//! What the engine needs from the world, in its own words. `node` has the adapters over NATS;
//! a simulator can have others. Each promise stands in the doc comment.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use protocol::view::{Outcome, Status};
use protocol::{
    Code, DefinitionRef, Envelope, Environment, Epoch, EventId, NodeId, Problem, SagaId, SagaKey, ShardId, Tenant,
    Time, Value, WorkerId, WorkerKind,
};

use crate::activity::{Attempt, Failure};
use crate::journal::anchor::{Accepted, Anchor, Stream};
use crate::machine::FactKind;
use crate::machine::expression::DATA_LIMIT_EXCEEDED;
use crate::machine::family::{Family, KEY_TAKEN, LIMIT_EXCEEDED, Parent};
use crate::machine::retry::TASK_FAILED;

/// A position in a shard's journal: the stream sequence of a frame. Zero means "before the first".
pub type Position = u64;

/// Time, given. Everything in the tree asks this and nothing else what time it is.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Time;
}

/// The journal of all shards: per shard one subject, per commit one frame.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Appends `frame` to `shard`, if and only if the shard's last frame is at `expected`
    /// (0: the shard is empty). `id` is the same for every try of the same frame.
    /// Answers the frame's position once it is durable.
    async fn append(&self, shard: ShardId, frame: Bytes, expected: Position, id: &str)
    -> Result<Position, AppendError>;

    /// The last frame of `shard`, read from the leader (never a stale copy).
    async fn last(&self, shard: ShardId) -> Result<Option<(Position, Bytes)>, Unavailable>;

    /// The frame at `position`, if it is kept and belongs to `shard`.
    async fn get(&self, shard: ShardId, position: Position) -> Result<Option<Bytes>, Unavailable>;

    /// All frames of `shard` in `from..=to`, in order. Ends after the last; an error ends it early.
    fn read(
        &self,
        shard: ShardId,
        from: Position,
        to: Position,
    ) -> BoxStream<'_, Result<(Position, Bytes), Unavailable>>;

    /// The stream that holds `shard`, as its leader tells it. `None`: there is none.
    async fn stream(&self, shard: ShardId) -> Result<Option<Stream>, Unavailable>;

    /// Whether a stream that is not there was, although nothing is kept of it: it was lost with all that knew
    /// of it.
    async fn was_there(&self, shard: ShardId) -> Result<bool, Unavailable> {
        let _ = shard;
        Ok(false)
    }

    /// What was last written down of `shard`'s journal, kept beside its lease and not in the journal.
    async fn anchor(&self, shard: ShardId) -> Result<Option<Anchor>, Unavailable>;

    /// Writes it down, unless an owner of a later epoch has: answers `false` then.
    async fn keep(&self, shard: ShardId, anchor: &Anchor) -> Result<bool, Unavailable>;

    /// What an operator last said about losses of `shard`.
    async fn accepted(&self, shard: ShardId) -> Result<Option<Accepted>, Unavailable>;

    /// Makes sure, after an accepted loss, that every later position of `shard` is above `beyond`:
    /// a missing stream is made anew and begins there. Fails where a stream is in the way.
    async fn renew(&self, shard: ShardId, beyond: Position) -> Result<(), Unavailable>;
}

/// Why an append did not answer with a position.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The shard's last frame is not the expected one (NATS 10071). Look at it: it may be ours.
    #[error("another frame stands where this one was to go")]
    Conflict,
    /// Nobody knows whether it was written: time-out, lost connection, or a transient refusal
    /// (NATS 10164). Look, then try the same frame again.
    #[error("undecided: {0}")]
    Undecided(String),
    /// The store refused it and will refuse it again until somebody does something: disk full,
    /// frame larger than the bus carries, no permission. Nothing was written.
    #[error("refused: {0}")]
    Refused(String),
}

/// The store cannot be reached or did not answer in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not available: {0}")]
pub struct Unavailable(pub String);

/// The latest folded state of things, one value per key. Keys are `<shard>/<name>`.
#[async_trait]
pub trait Snapshots: Send + Sync + 'static {
    /// Puts `bytes` under `name`, if its revision still is `expected` (0: there is none).
    /// Answers the new revision.
    async fn put(&self, shard: ShardId, name: &str, bytes: Bytes, expected: u64) -> Result<u64, PutError>;

    /// Removes `name`, if its revision still is `expected`. Removing what is not there succeeds.
    async fn remove(&self, shard: ShardId, name: &str, expected: u64) -> Result<(), PutError>;

    /// The value under `name`.
    async fn get(&self, shard: ShardId, name: &str) -> Result<Option<Snapshot>, Unavailable>;

    /// Every value of `shard` on this shelf. What is on the others costs nothing.
    fn all(&self, shard: ShardId, shelf: Shelf) -> BoxStream<'_, Result<Snapshot, Unavailable>>;
}

/// What the names of pages of ended sagas begin with.
pub const PAGE_PREFIX: &str = "page/";
/// What the names of their indexes begin with.
pub const INDEX_PREFIX: &str = "index/";
/// What the names of pages began with that were written without an index, on the first shelf.
pub const OLD_PAGE_PREFIX: &str = "ended/";

/// Values that are read together: which it is, its name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shelf {
    /// What is on no other shelf: states of sagas, and the mark.
    States,
    /// Indexes of pages.
    Indexes,
    /// Pages of ended sagas: by far the most, and never read all together.
    Pages,
}

impl Shelf {
    /// The shelf on which a value of this name is.
    pub fn of(name: &str) -> Self {
        [Self::Indexes, Self::Pages].into_iter().find(|shelf| name.starts_with(shelf.prefix())).unwrap_or(Self::States)
    }

    /// What all names on it begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::States => "",
            Self::Indexes => INDEX_PREFIX,
            Self::Pages => PAGE_PREFIX,
        }
    }
}

/// One kept value.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name within the shard.
    pub name: String,
    /// Its revision, to be expected by the next write.
    pub revision: u64,
    /// What was put.
    pub bytes: Bytes,
}

/// Why a value was not put.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// Somebody else wrote it since: a new owner.
    #[error("somebody else wrote it since")]
    Stale,
    /// The store refused it and will refuse it again until somebody does something: larger than the
    /// bus carries, disk full, no permission. Nothing was written.
    #[error("refused: {0}")]
    Refused(String),
    /// The store cannot be reached; try again later.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Who is alive and who owns what. Nothing here is needed for safety, which is the journal's
/// fence: this only decides who tries.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Says that `node` is alive: its beat gets a new number. `info` is shown to the others.
    async fn announce(&self, node: &NodeId, info: Bytes) -> Result<(), AnnounceError>;

    /// Says that `node` leaves now.
    async fn leave(&self, node: &NodeId) -> Result<(), Unavailable>;

    /// The last beat of every node that did not leave. Cheap: called several times a second.
    async fn beats(&self) -> Result<Vec<Beat>, Unavailable>;

    /// The lease of every shard that ever had one. Cheap: called several times a second.
    async fn leases(&self) -> Result<Vec<Lease>, Unavailable>;

    /// Returns when a lease may have changed since it last returned; never, where nobody can tell.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// Takes the lease of `shard` for `node`, if its epoch still is `over` (0: there never was
    /// one). Answers the new epoch, higher than any before. `None`: somebody else was faster.
    async fn claim(&self, shard: ShardId, node: &NodeId, over: Epoch) -> Result<Option<Epoch>, Unavailable>;

    /// Gives the lease back, if its epoch still is `held`.
    async fn release(&self, shard: ShardId, held: Epoch) -> Result<(), Unavailable>;
}

/// Why a sign of life was not given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AnnounceError {
    /// Another process goes by the same name. One of the two must end, or each would take the other's
    /// shards again and again.
    #[error("{0}")]
    Taken(String),
    /// It cannot be written now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A node's last sign of life.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Which node.
    pub node: NodeId,
    /// Another number each time. Whoever sees it unchanged for long takes the node for dead; no
    /// clock of another machine is ever read.
    pub number: u64,
    /// What it announced.
    pub info: Bytes,
}

/// Who owns a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Which shard.
    pub shard: ShardId,
    /// Who; `None` after it was given back.
    pub owner: Option<NodeId>,
    /// Of the last change.
    pub epoch: Epoch,
}

/// Events of workers and of the runtime itself, and dead letters. A shard's own events go by [`Events`].
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Publishes an event; returns once the event stream holds it. The same id again is dropped
    /// there inside its window.
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable>;

    /// Keeps what could not be understood as a dead letter: whole, or beyond the tenant's allowance its
    /// beginning and a digest, or only counted.
    async fn bury(&self, tenant: &str, reason: &str, why: &str, whole: Bytes) -> Result<(), Unavailable>;
}

/// The event stream, as a shard's relay needs it: what stands in it, and where.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Publishes an event of a shard with its place; answers its sequence in the stream once the stream
    /// holds it. The same id again within [`Events::window`] is not kept twice, and answers with the
    /// sequence of the first.
    async fn say(&self, event: &Envelope, place: &Place) -> Result<u64, SendError>;

    /// How long the stream certainly knows an id again.
    fn window(&self) -> Duration;

    /// The events of `shard` that the stream holds behind the sequence `after`, and how far it was
    /// read: everything that was in the stream when this was asked. With `after` 0 only what came since
    /// `since` counts, and whoever says so allows for clocks that differ.
    async fn held(&self, shard: ShardId, after: u64, since: Time) -> Result<Held, Unavailable>;

    /// Keeps an event that the stream refuses for good as a dead letter of the reason
    /// [`EVENT_REFUSED`]: whole, or where even that is too much its beginning and a digest of the whole.
    /// `why` says where its record stands.
    async fn bury(&self, event: &Envelope, place: &Place, why: &str) -> Result<(), SendError>;
}

/// The reason of the dead letter for an event that was refused for good.
pub const EVENT_REFUSED: &str = "event-refused";

/// Where an event stands among all that its shard has published: by this a reader sees whether one is
/// missing, and which came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which shard.
    pub shard: ShardId,
    /// The frame of the shard's journal that holds its record.
    pub position: Position,
    /// Counted from 1 over all events of the shard, without a gap.
    pub number: u64,
}

impl Place {
    /// Shard and frame, as a header has them: `2/8812`.
    pub fn written(&self) -> String {
        format!("{}/{}", self.shard, self.position)
    }

    /// The place behind a header and the number in another.
    pub fn read(written: &str, number: &str) -> Option<Self> {
        let (shard, position) = written.split_once('/')?;
        Some(Self {
            shard: ShardId(shard.parse().ok()?),
            position: position.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// What an event stream holds of a shard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Each with its sequence.
    pub events: Vec<(EventId, u64)>,
    /// Up to which sequence the stream was read.
    pub read_to: u64,
}

/// Why something was not sent, as far as is known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// It was refused and will be refused again whoever sends it: larger than the bus carries, no
    /// permission, a stream that takes nothing any more. Nothing was written.
    #[error("refused for good: {0}")]
    Refused(String),
    /// Nobody knows, or it may pass by itself.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Activities that are not in this process.
#[async_trait]
pub trait RemoteActivities: Send + Sync + 'static {
    /// Asks whoever serves `activity` for `tenant`. `Accepted` means that the answer comes later,
    /// by token.
    async fn call(
        &self,
        tenant: &Tenant,
        activity: &str,
        attempt: &Attempt,
        input: Value,
    ) -> Result<RemoteAnswer, Failure>;
}

/// What a remote worker answered.
#[derive(Debug, Clone, PartialEq)]
pub enum RemoteAnswer {
    /// Done, with this output.
    Done(Value),
    /// Under way; the answer comes by token.
    Accepted,
}

/// Definitions by exact version.
#[async_trait]
pub trait Definitions: Send + Sync + 'static {
    /// The definition `which`, ready to run. `None`: it is lost, as it is not stored, or cannot be read
    /// by this release.
    async fn get(
        &self,
        which: &DefinitionRef,
    ) -> Result<Option<Arc<crate::machine::definition::Definition>>, Unavailable>;

    /// Who may deploy definitions, and so decides over sagas whose definition is lost: whom its `access`
    /// named nobody knows. Principals, or `*`.
    fn deployers(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Which environments there are, for workers to look after.
#[async_trait]
pub trait Environments: Send + Sync + 'static {
    /// The environments that a worker of `kind` looks after, each with its tenant. Asked again and
    /// again; a worker whose environment is not listed any more is stopped.
    async fn of(&self, kind: &WorkerKind) -> Result<Vec<(Tenant, Environment)>, Unavailable>;
}

/// What is remembered of each worker while it moves from node to node: one small value, kept by
/// compare-and-set, because two nodes may run it for a moment.
#[async_trait]
pub trait WorkerMemory: Send + Sync + 'static {
    /// What is kept of `worker`, as last written by whomever.
    async fn get(&self, worker: &WorkerId) -> Result<Option<Kept>, Unavailable>;

    /// Keeps `bytes` of `worker`, if the revision still is `expected` (0: there is none). Answers
    /// the new revision.
    async fn put(&self, worker: &WorkerId, bytes: Bytes, expected: u64) -> Result<u64, PutError>;
}

/// What is kept of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// To be expected by the next write.
    pub revision: u64,
    /// What was put; empty when somebody removed it.
    pub bytes: Bytes,
}

/// How a shard speaks to sagas that live on other shards. Delivery is repeated until it is
/// accepted, so every parcel is safe to deliver twice.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Delivers `parcel` to the shard of `to`; returns once it is in that shard's journal, or was
    /// known there already, or was refused for good.
    async fn deliver(&self, to: &SagaId, parcel: &Parcel) -> Result<(), Unavailable>;
}

/// What one saga sends another.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Parcel {
    /// Start as a child of `parent`.
    Child {
        /// The definition, by name.
        definition: String,
        /// The child's input.
        input: Value,
        /// The parent's key and waiting step.
        parent: Parent,
        /// Who started the parent.
        by: protocol::Principal,
        /// The parent's trace.
        trace: protocol::TraceId,
        /// How many events led to the parent, one after the other.
        #[serde(default, skip_serializing_if = "protocol::envelope::is_zero")]
        causes: u32,
        /// Where the child stands among its own.
        #[serde(default)]
        family: Family,
        /// The version that it runs; the newest when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pinned: Option<Box<DefinitionRef>>,
    },
    /// A child ended.
    ChildEnded {
        /// The parent's waiting step.
        step: u64,
        /// The child's key. Absent from a node of the first release.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        child: Option<SagaKey>,
        /// How.
        outcome: Box<Outcome>,
    },
    /// The parent does not want the child any more.
    Cancel {
        /// The parent.
        by: SagaKey,
        /// Its step that waited for the child. Absent from a node of the first releases.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u64>,
    },
}

impl Parcel {
    /// What a parent is to hear when this parcel to the saga `to` was refused for good: neither a child
    /// that cannot be started nor an outcome that the bus does not carry may leave it waiting for ever.
    pub fn refused(&self, to: &SagaId, problem: &Problem) -> Option<(SagaId, Self)> {
        let error = match problem.code {
            Code::Conflict => KEY_TAKEN,
            Code::Quota => LIMIT_EXCEEDED,
            Code::TooLarge => DATA_LIMIT_EXCEEDED,
            _ => TASK_FAILED,
        };
        let failed = |state: &str| {
            Box::new(Outcome {
                status: Status::Failed,
                state: state.to_owned(),
                output: None,
                error: Some(error.to_owned()),
                cause: Some(problem.message.clone()),
            })
        };
        match self {
            Self::Child { parent: (parent, step), .. } => {
                let home = SagaId::new(to.tenant.clone(), parent.clone());
                Some((home, Self::ChildEnded { step: *step, child: Some(to.key.clone()), outcome: failed("") }))
            }
            // Only what becomes smaller: this is refused again where even that is too large.
            Self::ChildEnded { step, child, outcome }
                if error == DATA_LIMIT_EXCEEDED
                    && (outcome.output.is_some()
                        || outcome.cause.as_ref().is_some_and(|cause| cause.len() > problem.message.len())) =>
            {
                let outcome = failed(&outcome.state);
                Some((to.clone(), Self::ChildEnded { step: *step, child: child.clone(), outcome }))
            }
            Self::ChildEnded { .. } | Self::Cancel { .. } => None,
        }
    }

    /// What the saga hears that this is for; a start is not heard but done.
    pub fn fact(&self) -> Option<FactKind> {
        match self {
            Self::Child { .. } => None,
            Self::ChildEnded { step, child, outcome } => {
                Some(FactKind::ChildEnded { step: *step, child: child.clone(), outcome: outcome.clone() })
            }
            Self::Cancel { by, step } => Some(FactKind::CancelRequested {
                by: by.to_string(),
                reason: format!("the parent saga {by} does not want it any more"),
                parent: Some((by.clone(), *step)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words with which a bus refuses what is too large.
    fn too_large() -> Problem {
        Problem::new(Code::TooLarge, "the command has 1200000 bytes as nodes pass it on")
    }

    fn ended(output: Option<Value>, cause: Option<String>) -> Parcel {
        let outcome = Outcome { status: Status::Succeeded, state: "Packed".into(), output, error: None, cause };
        Parcel::ChildEnded { step: 4, child: Some(SagaKey::new("parts").unwrap()), outcome: Box::new(outcome) }
    }

    #[test]
    fn a_parent_is_told_of_an_outcome_that_the_bus_does_not_carry() {
        let parent = SagaId::new(Tenant::new("acme").unwrap(), SagaKey::new("order").unwrap());
        for whole in [ended(Some(Value::from("all of it")), None), ended(None, Some("word ".repeat(200)))] {
            let (to, told) = whole.refused(&parent, &too_large()).unwrap();
            assert_eq!(to, parent);
            let Parcel::ChildEnded { step: 4, child: Some(child), outcome } = &told else { panic!("{told:?}") };
            assert_eq!((child.as_str(), outcome.state.as_str()), ("parts", "Packed"));
            assert_eq!((outcome.status, outcome.error.as_deref()), (Status::Failed, Some("States.DataLimitExceeded")));
            assert_eq!(told.refused(&parent, &too_large()), None, "nothing smaller can be said");
        }
        let unknown = Problem::new(Code::NotFound, "there is no such saga");
        assert_eq!(ended(Some(Value::Null), None).refused(&parent, &unknown), None, "the parent is gone");
    }
}
