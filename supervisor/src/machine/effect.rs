//! What is to be done, once the record that settled it is durable.

use std::sync::Arc;

use protocol::view::Outcome;
use protocol::{DefinitionRef, Envelope, SagaKey, Time, Value};
use serde::{Deserialize, Serialize};

use super::fact::AttemptRef;
use super::family::Parent;

/// Something to do in the world. Handed out only after the record is in the journal, and again by
/// `resume` after a takeover when it is still wanted.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Start one attempt of an activity, or of an undo.
    StartActivity(Box<ActivityCall>),
    /// The attempt's answer is not wanted any more: stop it if it runs.
    StopActivity(AttemptRef),
    /// Wake the saga with `TimerFired { timer }` at `at`.
    SetTimer {
        /// Number, never reused within a saga.
        timer: u64,
        /// When it is due.
        at: Time,
    },
    /// The timer is not wanted any more.
    ClearTimer {
        /// As it was set.
        timer: u64,
    },
    /// Offer `Continued` when the saga's turn comes, behind the others.
    Continue,
    /// Publish an event, under the id it carries, also when it is published again.
    Publish(Box<Envelope>),
    /// Start a child saga under `key`; its end comes back as `ChildEnded`.
    StartChild {
        /// The waiting step.
        step: u64,
        /// The child's key, the same after a takeover.
        key: SagaKey,
        /// The child's definition, by name.
        definition: String,
        /// Exactly this version of it; the newest when absent.
        pinned: Option<DefinitionRef>,
        /// The child's input.
        input: Value,
    },
    /// The child's outcome is not wanted any more: cancel it.
    CancelChild {
        /// The step that waited for it; absent in what the first releases wrote.
        step: Option<u64>,
        /// As it was started.
        key: SagaKey,
    },
    /// The saga ended. Tell who waits, and the parent if there is one.
    Ended {
        /// How.
        outcome: Box<Outcome>,
        /// The parent's key and waiting step.
        parent: Option<Parent>,
    },
}

/// One attempt to start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ActivityCall {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// The activity's name as the definition writes it after `activity:`. For an undo it is the
    /// name in `Compensate`.
    pub activity: Arc<str>,
    /// Whether this is on the way back. Arguments of an undo without `Arguments` of its own are
    /// `{"input": …, "output": … or null}`.
    pub undo: bool,
    /// The path of the state.
    pub state: Arc<str>,
    /// What it is given.
    pub arguments: Value,
    /// The same for every attempt of this step, and for every attempt to undo it.
    pub key: String,
    /// When to give up with `States.Timeout`.
    pub deadline: Option<Time>,
    /// The longest silence before `States.HeartbeatTimeout`, in milliseconds.
    pub heartbeat_ms: Option<u64>,
}
