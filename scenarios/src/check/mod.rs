//! The checker: what a run left behind (acknowledgements, the ledger of effects, the journal, the
//! event stream) against what Skald promises. One invariant is one function with a name; each says
//! how often it was looked at, so that a check that never looked at anything is seen.
//!
//! The simulator and the fault runs on real clusters hand the same [`History`] to the same checks.

mod compensation;
mod effects;
mod events;
mod fence;
mod journal;
mod sagas;
mod timers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use protocol::{DefinitionRef, Envelope, SagaId, ShardId, Time};
use supervisor::machine::Definition;
use supervisor::ports::{Place, Position};

pub use journal::{Attempted, Told};

/// Everything that a run left behind.
#[derive(Default)]
pub struct History {
    /// Commands that were answered "accepted".
    pub acknowledged: Vec<Acknowledged>,
    /// What activities did, in order.
    pub ledger: Vec<Entry>,
    /// The frames of each shard, in order.
    pub journal: BTreeMap<ShardId, Vec<(Position, Bytes)>>,
    /// The event stream, in order.
    pub events: Vec<Said>,
    /// Events that the stream refused for good.
    pub buried: Vec<Said>,
    /// Children whose start or end the bus refused for good: their parents hear that, and not how they ended.
    pub turned_back: BTreeSet<SagaId>,
    /// Every definition that a saga ran.
    pub definitions: HashMap<DefinitionRef, Arc<Definition>>,
    /// Whether no node's clock was set while it ran.
    pub clocks_true: bool,
    /// Most time by which a timer may come late; `None` where clocks were set wrong on purpose.
    pub lateness_max: Option<std::time::Duration>,
}

/// An event as a reader finds it.
#[derive(Clone, PartialEq, Debug)]
pub struct Said {
    /// The event.
    pub event: Envelope,
    /// What its headers say of its place; none where a worker published it.
    pub place: Option<Place>,
}

/// A command that was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// For which saga.
    pub saga: SagaId,
    /// What it asked.
    pub what: Command,
}

/// What an accepted command asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// To start.
    Start,
    /// A signal with this id.
    Signal(String),
    /// To cancel.
    Cancel,
}

/// Which way an activity went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// The work.
    Run,
    /// Its undo.
    Undo,
}

/// What became of an attempt, as the outside world saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It began.
    Began,
    /// Its effect happened now, for the first time under its key.
    Acted,
}

/// One line of the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which saga.
    pub saga: SagaId,
    /// The idempotency key.
    pub key: String,
    /// Where the step stands in its definition: segments with `/` between, of which those that
    /// begin with `b` or `i` are branches and items, side by side, and all others follow each
    /// other.
    pub path: String,
    /// Which attempt.
    pub attempt: u32,
    /// Which way.
    pub direction: Direction,
    /// What happened.
    pub phase: Phase,
    /// When, by the one true clock of the run.
    pub at: Time,
    /// Who did it.
    pub node: String,
}

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// The saga, or the shard.
    pub of: String,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}: {}", self.invariant, self.of, self.what)
    }
}

/// What a check found.
#[derive(Clone, Default, Debug)]
pub struct Verdict {
    /// How often each invariant was looked at.
    pub looked: BTreeMap<&'static str, u64>,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// Sagas that are parked as Stuck, each with its reason.
    pub stuck: Vec<(SagaId, String)>,
}

impl Verdict {
    /// Notes that `invariant` was looked at for `of`; `wrong` says what is wrong, if something is.
    fn look(&mut self, invariant: &'static str, of: &dyn std::fmt::Display, wrong: Option<String>) {
        *self.looked.entry(invariant).or_default() += 1;
        if let Some(what) = wrong {
            self.violations.push(Violation { invariant, of: of.to_string(), what });
        }
    }

    /// Adds what another check found.
    pub fn merge(&mut self, other: Self) {
        for (invariant, count) in other.looked {
            *self.looked.entry(invariant).or_default() += count;
        }
        self.violations.extend(other.violations);
        self.stuck.extend(other.stuck);
    }
}

/// Names of the invariants, in the order of the issue.
pub mod invariant {
    /// No acknowledged command is lost.
    pub const KEPT: &str = "acknowledged commands are kept";
    /// Every saga ends or is parked as Stuck with a reason.
    pub const ENDS: &str = "every saga ends or is stuck";
    /// One step has one idempotency key.
    pub const ONE_KEY: &str = "one key per step";
    /// One effect per idempotency key and direction.
    pub const ONE_EFFECT: &str = "one effect per key";
    /// Nothing acts before it is in the journal.
    pub const JOURNAL_FIRST: &str = "the journal comes first";
    /// What may have acted is undone, each once, and nothing else is.
    pub const UNDONE: &str = "what may have acted is undone";
    /// Undone in reverse order.
    pub const REVERSE: &str = "undone in reverse order";
    /// Records of one saga form one chain.
    pub const CHAIN: &str = "one chain of records per saga";
    /// No record by a former owner after the new owner's first.
    pub const FENCE: &str = "a former owner writes nothing";
    /// A parent hears the end of the child that it waits for.
    pub const CHILD: &str = "a parent hears of its own child";
    /// Timers are never early, and lateness is bounded.
    pub const TIMERS: &str = "timers are never early";
    /// Each event is published, under one id, and none without its record.
    pub const EVENTS: &str = "events are what the journal says";
    /// No event is in the stream twice.
    pub const ONCE: &str = "an event comes once";
    /// Each event has its place: numbered without a gap over its shard, in the order of the journal.
    pub const PLACE: &str = "events of a shard are numbered without a gap";
    /// Events of one saga come in order.
    pub const ORDER: &str = "events of a saga come in order";
    /// A saga's events are numbered without a gap, by which its tenant sees what is missing.
    pub const SEQUENCE: &str = "events of a saga are numbered without a gap";
}

/// Checks everything.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    fence::check(history, &mut verdict);
    let told = journal::read(history, &mut verdict);
    sagas::check(history, &told, &mut verdict);
    effects::check(history, &told, &mut verdict);
    compensation::check(history, &told, &mut verdict);
    timers::check(history, &told, &mut verdict);
    events::check(history, &told, &mut verdict);
    verdict.violations.sort();
    verdict
}
