//! What a saga is told: by others, by its own steps and timers, by its tree.

use protocol::command::ReleaseDecision;
use protocol::envelope::is_zero;
use protocol::view::Outcome;
use protocol::{Code, DefinitionRef, Principal, Problem, SagaKey, Time, TraceId, Value};
use serde::{Deserialize, Serialize};

use super::family::{Family, Parent};
use super::text::{keep_cause, keep_error};

/// Something that a saga is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Fact {
    /// When it happened.
    pub at: Time,
    /// Everything random in the decision (jitter, event ids) comes from here.
    pub seed: u64,
    /// What happened.
    pub kind: FactKind,
}

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum FactKind {
    /// The saga was started. Always the first fact.
    Started(Box<Start>),
    /// An attempt of a step, or of an undo, answered.
    StepSucceeded {
        /// Which attempt.
        attempt: AttemptRef,
        /// Its answer.
        output: Value,
    },
    /// An attempt failed: its error, its panic, its time-out (`States.Timeout`), its silence
    /// (`States.HeartbeatTimeout`).
    StepFailed {
        /// Which attempt.
        attempt: AttemptRef,
        /// How.
        error: StepError,
    },
    /// A timer came due.
    TimerFired {
        /// The timer's number.
        timer: u64,
    },
    /// Somebody sent a signal.
    Signalled {
        /// The signal's name.
        name: String,
        /// Becomes the waiting state's result.
        payload: Value,
        /// Who sent it.
        by: String,
        /// The same id again has no second effect.
        id: String,
    },
    /// A person decided a task.
    TaskDecided {
        /// The step that waits; the only open one when absent.
        step: Option<u64>,
        /// Becomes the state's result.
        output: Value,
        /// Who decided.
        by: String,
    },
    /// A child saga ended.
    ChildEnded {
        /// The step that waits for it.
        step: u64,
        /// Which child: a retry of the step starts another one. Absent in what the first release
        /// wrote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        child: Option<SagaKey>,
        /// How it ended.
        outcome: Box<Outcome>,
    },
    /// Somebody wants the saga to stop and be undone.
    CancelRequested {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// The saga that does not want it as its child any more, and the step that waited for it, which
        /// the first releases did not say. Only a true child obeys, and it obeys whatever its `access`
        /// says. Absent when a principal asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<(SagaKey, Option<u64>)>,
    },
    /// An operator's word about a stuck saga.
    Operator(Operator),
    /// The saga's turn came to go on with what a cut record left. Only its own tree says so.
    Continued,
    /// The saga's actor failed again and again; it is parked with the panic kept.
    Parked {
        /// The last panic.
        cause: String,
    },
}

impl FactKind {
    /// Texts from outside, as they are kept.
    pub(super) fn keep_texts(&mut self) {
        match self {
            Self::StepFailed { error, .. } => error.keep_texts(),
            Self::ChildEnded { outcome, .. } => {
                outcome.error.iter_mut().for_each(keep_error);
                outcome.cause.iter_mut().for_each(keep_cause);
            }
            Self::CancelRequested { reason, by: _, parent: _ } => keep_cause(reason),
            Self::Operator(operator) => keep_cause(&mut operator.reason),
            Self::Parked { cause } => keep_cause(cause),
            // Values have a limit of their own, and everything else is ours.
            Self::Started(_)
            | Self::StepSucceeded { .. }
            | Self::TimerFired { .. }
            | Self::Signalled { .. }
            | Self::TaskDecided { .. }
            | Self::Continued => {}
        }
    }

    /// Whether the saga did not bring it about by itself.
    pub(super) const fn is_from_outside(&self) -> bool {
        match self {
            Self::Started(_)
            | Self::StepSucceeded { .. }
            | Self::StepFailed { .. }
            | Self::Signalled { .. }
            | Self::TaskDecided { .. }
            | Self::ChildEnded { .. }
            | Self::CancelRequested { .. }
            | Self::Operator(_) => true,
            Self::TimerFired { .. } | Self::Continued | Self::Parked { .. } => false,
        }
    }

    /// Whether it is a turn after a cut record.
    pub(super) const fn is_turn(&self) -> bool {
        matches!(self, Self::Continued)
    }

    /// Whether a person wants something now, so that it goes before what the saga does by itself.
    pub const fn is_urgent(&self) -> bool {
        matches!(self, Self::CancelRequested { .. } | Self::Operator(_))
    }
}

impl StepError {
    /// Name and cause, as they are kept.
    pub(super) fn keep_texts(&mut self) {
        keep_error(&mut self.error);
        keep_cause(&mut self.cause);
    }
}

/// What starts a saga.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The version it runs and stays on.
    pub definition: DefinitionRef,
    /// The execution's input.
    pub input: Value,
    /// Who started it.
    pub by: Principal,
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Identity of the command that started it; the first event's cause.
    pub cause: String,
    /// How many events led to it, one after the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub causes: u32,
    /// The parent's key and waiting step, when it is a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Where it stands among its own.
    #[serde(default, skip_serializing_if = "Family::is_new")]
    pub family: Family,
    /// Random, and told to nobody: what proves that a late answer's token was given out by the saga.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// One attempt of one step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AttemptRef {
    /// The step: one entry into one Task state, or one undo on the compensation stack. Numbers are
    /// never reused within a saga.
    pub step: u64,
    /// Counted from 1.
    pub attempt: u32,
}

/// How an attempt failed, as Retry and Catch see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StepError {
    /// The error's name.
    pub error: String,
    /// What went wrong, for a person.
    pub cause: String,
    /// Not to be retried, whatever Retry says.
    #[serde(default)]
    pub permanent: bool,
}

/// An operator's word about a stuck saga.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Operator {
    /// What to do.
    pub decision: ReleaseDecision,
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Operator {
    /// `skip` and `abandon` leave something undone, so they need a reason.
    ///
    /// # Errors
    /// When there is none.
    pub fn has_reason(&self) -> Result<(), Problem> {
        match self.decision {
            ReleaseDecision::Retry => Ok(()),
            ReleaseDecision::Skip | ReleaseDecision::Abandon if !self.reason.trim().is_empty() => Ok(()),
            ReleaseDecision::Skip | ReleaseDecision::Abandon => {
                Err(Problem::new(Code::BadRequest, "this leaves something undone and needs a reason")
                    .mend("say why in reason; it becomes part of the history"))
            }
        }
    }
}
