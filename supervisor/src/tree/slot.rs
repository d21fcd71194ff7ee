//! What a shard knows of each of its sagas. Small, because a hundred thousand of them sleep here.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use protocol::view::Status;
use protocol::{DefinitionRef, SagaId, Time};
use ractor::ActorId;
use serde::{Deserialize, Serialize};

use super::census::Seat;
use super::reply::Reply;
use super::saga::{self, Glance, Seen};
use super::shell::Handle;
use crate::machine::definition::Definition;
use crate::machine::restart::Failures;
use crate::machine::{Driver, FactKind, Parent};
use crate::ports::Position;

/// One saga, as its shard knows it.
pub struct Slot {
    /// The version it runs.
    pub definition: Arc<Definition>,
    /// Tells a repeated start from a different one under the same key.
    pub start_digest: u64,
    /// Revision of its snapshot in the store; 0 when there is none.
    pub revision: u64,
    /// Failures of its actor; made when the first one happens.
    pub failures: Option<Box<Failures>>,
    /// What counts while it lives; nothing once it has ended.
    pub alive: Option<Box<Alive>>,
    /// Why its state cannot be rebuilt, if so. It is asleep then, and stuck until it is released.
    pub broken: Option<Box<Broken>>,
    /// Where it is.
    pub life: Life,
}

/// What is known of a saga while it lives.
pub struct Alive {
    /// The saga and its step that wait for it, when it is a child.
    pub parent: Option<Parent>,
    /// Its place among those that count.
    pub seat: Seat,
}

/// A saga that cannot be rebuilt for now.
pub struct Broken {
    /// Why, for a person.
    pub why: String,
    /// What can be read of it.
    pub left: Left,
    /// Whether somebody releases it just now.
    pub released: bool,
}

/// What can be read of a saga that cannot be rebuilt.
pub enum Left {
    /// Its whole state: only its definition is lost.
    All,
    /// Its state before something that cannot be read.
    Part(Box<Driver>),
    /// Its name.
    Name,
}

/// Where a saga is.
pub enum Life {
    /// It has an actor.
    Awake {
        /// Its actor.
        handle: Handle<saga::Message>,
        /// Messages sent to it that it counts.
        sent: u64,
        /// Where it stands.
        glance: Arc<Glance>,
    },
    /// Its state is being fetched; this waits meanwhile.
    Loading {
        /// Where its journal chain ends.
        position: Position,
        /// What it will be told.
        queue: VecDeque<Told>,
    },
    /// It waits for something and has no actor.
    Asleep(Asleep),
    /// It ended.
    Ended(Ended),
}

/// Something that will be told to a saga once it is awake.
pub enum Told {
    /// A fact.
    Fact(FactKind, Reply),
    /// A late answer, with the token that proves it.
    Answer(String, FactKind, Reply),
    /// A question.
    Describe(Reply),
}

/// A saga without an actor.
pub struct Asleep {
    /// Its status.
    pub status: Status,
    /// The state the outermost scope is in; shared with its definition's other sleepers.
    pub state: Arc<str>,
    /// The last change.
    pub changed_at: Time,
    /// Its records.
    pub records: u64,
    /// Position of its last batch.
    pub position: Position,
    /// Its state, until the snapshot store has it.
    pub bytes: Option<Bytes>,
}

/// A saga that ended: what is kept to answer a repeated start, and to find its history, until a page of
/// the store has it.
#[derive(Clone)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// The last state of the outermost scope.
    pub state: Arc<str>,
    /// When.
    pub at: Time,
    /// Its records.
    pub records: u64,
    /// Position of its last batch.
    pub position: Position,
    /// Its [`Remains`](crate::machine::Remains), stored, until a page has them.
    pub remains: Option<Bytes>,
}

/// An ended saga as it is kept in the snapshot store, in pages.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EndedEntry {
    /// Which saga.
    pub saga: SagaId,
    /// The version it ran.
    pub definition: DefinitionRef,
    /// How it ended.
    pub status: Status,
    /// The last state of the outermost scope.
    pub state: String,
    /// When.
    pub at: Time,
    /// Its records.
    pub records: u64,
    /// Position of its last batch.
    pub position: Position,
    /// Tells a repeated start from a different one.
    pub start_digest: u64,
    /// Its [`Remains`](crate::machine::Remains), stored; not here once they are in a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remains: Option<serde_bytes::ByteBuf>,
}

impl Slot {
    /// Where the saga stands, without asking it.
    pub fn seen(&self) -> Seen {
        let seen = |status, state: &str, changed_at, records| Seen { status, state: state.into(), changed_at, records };
        match &self.life {
            Life::Awake { glance, .. } => glance.seen(),
            Life::Asleep(asleep) => seen(asleep.status, &asleep.state, asleep.changed_at, asleep.records),
            Life::Ended(ended) => seen(ended.status, &ended.state, ended.at, ended.records),
            Life::Loading { .. } => seen(Status::Running, "(loading)", Time::default(), 0),
        }
    }

    /// Its status and last change, for those who look at many.
    pub fn stands(&self) -> (Status, Time) {
        match &self.life {
            Life::Awake { glance, .. } => glance.stands(),
            Life::Asleep(asleep) => (asleep.status, asleep.changed_at),
            Life::Ended(ended) => (ended.status, ended.at),
            Life::Loading { .. } => (Status::Running, Time::default()),
        }
    }

    /// Whether `actor` is its present incarnation.
    pub fn is_run_by(&self, actor: ActorId) -> bool {
        match &self.life {
            Life::Awake { handle, .. } => handle.id() == actor,
            Life::Loading { .. } | Life::Asleep(_) | Life::Ended(_) => false,
        }
    }

    /// Where it ended, if it did and is in a page of the store.
    pub fn paged_at(&self) -> Option<Position> {
        match &self.life {
            Life::Ended(ended) if ended.remains.is_none() => Some(ended.position),
            Life::Ended(_) | Life::Awake { .. } | Life::Loading { .. } | Life::Asleep(_) => None,
        }
    }

    /// Whether there are records of it that no snapshot has and that cannot be read: the journal is read
    /// from before them at every takeover until it is released.
    pub fn is_unsaved(&self) -> bool {
        self.broken.as_ref().is_some_and(|broken| !matches!(broken.left, Left::All))
    }

    /// Whether it stands still because its definition is lost, and nobody is releasing it.
    pub fn lacks_definition(&self) -> bool {
        self.broken.as_ref().is_some_and(|broken| matches!(broken.left, Left::All) && !broken.released)
    }

    /// Whether its start is in the journal. Until then nothing about it may be promised.
    pub fn is_durable(&self) -> bool {
        self.position() > 0
    }

    /// Position of its last durable batch.
    pub fn position(&self) -> Position {
        match &self.life {
            Life::Awake { glance, .. } => glance.position.load(std::sync::atomic::Ordering::Relaxed),
            Life::Asleep(asleep) => asleep.position,
            Life::Ended(ended) => ended.position,
            Life::Loading { position, .. } => *position,
        }
    }
}

/// A digest of what a start asks for: FNV-1a of definition name and input. It only tells a
/// repetition from a mistake, so 64 bits are plenty.
pub fn start_digest(definition: &str, input: &protocol::Value) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    feed(definition.as_bytes());
    feed(&[0]);
    feed(&serde_json::to_vec(input).unwrap_or_default());
    hash
}
