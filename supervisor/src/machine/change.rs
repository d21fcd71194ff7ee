//! What a decision settled, one thing at a time. A record's changes, folded in order, are all
//! there is to a saga's state; nothing is evaluated or decided again when they are replayed.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::view::Status;
use protocol::{DefinitionRef, SagaKey, Time, Value};
use serde::{Deserialize, Serialize};

use super::fact::StepError;

/// A value, or where it already stands, so that a record carries it once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Datum {
    /// The value in the fact: an output, a payload, the saga's input.
    Given,
    /// The input of the state in question.
    Input,
    /// The item of a Map that the scope in question is for.
    Item,
    /// What a cut record left for the state that the scope in question enters next.
    Ahead,
    /// This one.
    Is(Arc<Value>),
}

/// A timer: its number and when it is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alarm {
    /// Never reused within a saga.
    pub timer: u64,
    /// When it is due.
    pub at: Time,
}

/// What a Task waits for that no attempt brings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Awaited {
    /// A signal of this name.
    Signal(Arc<str>),
    /// A person's decision on this.
    Human(Datum),
    /// A child's end.
    Child {
        /// The child's key.
        key: SagaKey,
        /// What it runs.
        definition: Arc<str>,
        /// Exactly this version of it; the newest when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pinned: Option<DefinitionRef>,
        /// Its input.
        input: Datum,
    },
}

/// A state that is entered with the saga's next turn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ahead {
    /// In which scope.
    pub scope: u64,
    /// Its name.
    pub state: Arc<str>,
    /// Its input.
    pub input: Datum,
}

/// One thing that a decision settled. `scope` 0 is the outermost; states are named by their path.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// The saga began.
    Began {
        /// When it times out as a whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alarm: Option<Alarm>,
    },
    /// A branch or an item began.
    Opened {
        /// Its number.
        scope: u64,
        /// The scope whose state holds it.
        holder: u64,
        /// Which branch or item.
        index: u32,
    },
    /// A state was entered.
    Entered {
        /// In which scope.
        scope: u64,
        /// Its name.
        state: Arc<str>,
        /// The number of this entry.
        step: u64,
        /// Its input.
        input: Datum,
    },
    /// An attempt of an activity is to be started.
    Attempted {
        /// In which scope.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// Counted from 1.
        attempt: u32,
        /// Which activity.
        activity: Arc<str>,
        /// What it is given.
        arguments: Datum,
        /// When to give up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Time>,
        /// The longest silence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heartbeat_ms: Option<u64>,
    },
    /// A state waits for a moment.
    Slept {
        /// In which scope.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// Until when.
        alarm: Alarm,
    },
    /// A state waits for somebody.
    Awaits {
        /// In which scope.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// For what.
        what: Awaited,
        /// Until when at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alarm: Option<Alarm>,
    },
    /// A failed state will be tried again.
    Retrying {
        /// In which scope.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// Which entry of `Retry` it counts against.
        retrier: usize,
        /// How it failed.
        error: StepError,
        /// When.
        alarm: Alarm,
    },
    /// Branches or items are to run.
    Forked {
        /// In which scope.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// Which try of the state this is, counted from 1.
        attempt: u32,
        /// How many.
        count: usize,
        /// The items, for a Map.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        items: Option<Datum>,
        /// How many at a time; 0 is no limit.
        #[serde(default)]
        width: usize,
        /// How many may fail; `None`: none, and the first failure is the state's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tolerated: Option<usize>,
    },
    /// A branch or an item ended.
    ScopeEnded {
        /// Which.
        scope: u64,
        /// Its output, or the error object of an item within the tolerance.
        output: Datum,
        /// Whether it failed.
        #[serde(default)]
        failed: bool,
    },
    /// The scope's state fails while branches or items are undoing what they did: all others stop, and
    /// it fails once these are done. An undo that has begun is brought to its end.
    Failing {
        /// The scope whose state holds them.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// How it will fail.
        error: StepError,
    },
    /// No branch or item of the scope's state goes on; what is still open is stopped.
    Joined {
        /// The scope whose state held them.
        scope: u64,
    },
    /// Variables were assigned.
    Assigned {
        /// In which scope.
        scope: u64,
        /// Their new values.
        variables: BTreeMap<String, Arc<Value>>,
    },
    /// A state is done with.
    Left {
        /// In which scope.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// The error that was caught, if it did not end well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caught: Option<String>,
    },
    /// An event is to be published.
    Published {
        /// Its type.
        event: Arc<str>,
        /// Its payload; never [`Datum::Input`], so that it stands in the record alone.
        payload: Datum,
        /// Its number among the saga's events, counted from 1; 0 in records of older releases.
        #[serde(default, skip_serializing_if = "protocol::envelope::is_zero")]
        number: u64,
    },
    /// How to undo a state that may act from now on.
    Pushed {
        /// The scope of the state.
        scope: u64,
        /// The state.
        state: Arc<str>,
        /// The undo's own number.
        undo: u64,
        /// The activity that undoes it.
        activity: Arc<str>,
        /// What the state's activity was given.
        input: Datum,
        /// What the undo is given, when its arguments are written out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Datum>,
    },
    /// The result of the state is known now, for its undo.
    Armed {
        /// The undo.
        undo: u64,
        /// The result.
        output: Datum,
        /// What the undo is given, when its arguments are written out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Datum>,
    },
    /// A Compensate state undoes what was done in its scope.
    Unwinding {
        /// The scope.
        scope: u64,
        /// The state.
        state: Arc<str>,
    },
    /// An attempt of an undo is to be started.
    UndoStarted {
        /// The undo.
        undo: u64,
        /// The state it undoes.
        state: Arc<str>,
        /// Counted from 1.
        attempt: u32,
        /// When to give up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Time>,
        /// The longest silence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heartbeat_ms: Option<u64>,
    },
    /// A failed undo will be tried again.
    UndoRetrying {
        /// The undo.
        undo: u64,
        /// The state it undoes.
        state: Arc<str>,
        /// Which entry of its `Retry` it counts against.
        retrier: usize,
        /// How it failed.
        error: StepError,
        /// When.
        alarm: Alarm,
    },
    /// An undo failed for good; an operator decides.
    UndoStuck {
        /// The undo.
        undo: u64,
        /// The state it undoes.
        state: Arc<str>,
        /// How it failed.
        error: StepError,
    },
    /// A state is undone, or counts as undone.
    Undone {
        /// The undo.
        undo: u64,
        /// The state it undid.
        state: Arc<str>,
        /// Why an operator let it count as done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skipped: Option<String>,
    },
    /// The saga will end badly; everything under way stops and what was done is undone.
    Ending {
        /// How it will end.
        status: Status,
        /// The state the outermost scope was in.
        state: Arc<str>,
        /// The error's name.
        error: String,
        /// What went wrong.
        cause: String,
    },
    /// A signal came before anything waits for it.
    SignalKept {
        /// Its name.
        name: String,
        /// Its payload.
        payload: Datum,
    },
    /// A kept signal was used.
    SignalTaken {
        /// Its name.
        name: Arc<str>,
    },
    /// A signal's id, so that it has no second effect.
    SignalSeen {
        /// The id.
        id: String,
    },
    /// The outcome of a child is not wanted any more.
    ChildDropped {
        /// The child.
        key: SagaKey,
        /// The step that waited for it. Absent in what the first releases wrote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u64>,
    },
    /// The saga cannot go on by itself; everything stands still.
    Parked {
        /// Why: the last panic of its actor, or how it makes no progress.
        cause: String,
    },
    /// It goes on as it was.
    Unparked,
    /// The decision's budget is used up: the rest comes with the next turn.
    Cut {
        /// States to enter, besides those left by a record before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ahead: Vec<Ahead>,
        /// Scopes whose Map opens more items.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stalled: Vec<u64>,
    },
    /// The saga's turn came after a cut.
    Resumed,
    /// The expressions of a state ran out of a whole decision's budget.
    Overran {
        /// The state.
        state: Arc<str>,
    },
    /// The saga ended.
    Finished {
        /// How.
        status: Status,
        /// The last state entered in the outermost scope.
        state: Arc<str>,
        /// Its output, when it ended well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Datum>,
        /// The error's name, when it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// What went wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
}

impl Change {
    /// The name or path of the state that it is about, where it carries one.
    pub(super) fn state(&self) -> Option<&str> {
        match self {
            Self::Entered { state, .. }
            | Self::Attempted { state, .. }
            | Self::Slept { state, .. }
            | Self::Awaits { state, .. }
            | Self::Retrying { state, .. }
            | Self::Forked { state, .. }
            | Self::Failing { state, .. }
            | Self::Left { state, .. }
            | Self::Pushed { state, .. }
            | Self::Unwinding { state, .. }
            | Self::UndoStarted { state, .. }
            | Self::UndoRetrying { state, .. }
            | Self::UndoStuck { state, .. }
            | Self::Undone { state, .. }
            | Self::Ending { state, .. }
            | Self::Finished { state, .. }
            | Self::Overran { state } => Some(state),
            Self::Began { .. }
            | Self::Opened { .. }
            | Self::ScopeEnded { .. }
            | Self::Joined { .. }
            | Self::Assigned { .. }
            | Self::Published { .. }
            | Self::Armed { .. }
            | Self::SignalKept { .. }
            | Self::SignalTaken { .. }
            | Self::SignalSeen { .. }
            | Self::ChildDropped { .. }
            | Self::Parked { .. }
            | Self::Unparked
            | Self::Cut { .. }
            | Self::Resumed => None,
        }
    }
}
