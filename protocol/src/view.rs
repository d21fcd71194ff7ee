//! What a person or a program is shown of a saga.

use serde::{Deserialize, Serialize};

use crate::{SagaId, Time, TraceId, Value};

/// Where a saga stands. Shown and searched by; the machine's own statuses are finer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Work is under way.
    Running,
    /// Nothing is under way; it waits for time, a signal, a person or a child.
    Waiting,
    /// What was done is being undone.
    Undoing,
    /// A compensation failed for good, the actor failed again and again, or it makes no progress; an
    /// operator decides.
    Stuck,
    /// Ended well.
    Succeeded,
    /// Ended badly; what was done is undone.
    Failed,
    /// Cancelled; what was done is undone.
    Cancelled,
    /// Given up by an operator with compensations left undone.
    Abandoned,
}

impl Status {
    /// Every status, in the order shown.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Waiting,
        Self::Undoing,
        Self::Stuck,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Abandoned,
    ];

    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Running | Self::Waiting | Self::Undoing | Self::Stuck => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Abandoned => true,
        }
    }

    /// The word used in JSON, lists and filters.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Undoing => "undoing",
            Self::Stuck => "stuck",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How a saga ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// One of the final statuses.
    pub status: Status,
    /// The last state entered in the outermost scope.
    pub state: String,
    /// The execution's output, when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The error's name, when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What went wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// One reason why a saga has not ended yet: the answer to "why is it waiting?".
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Path of the state: `Applying`, `Branches[1].Copy`, `Items[3].Check`.
    pub state: String,
    /// In a sentence: `attempt 2 of activity license.grant runs since 12:00:03`.
    pub what: String,
    /// The kind, for programs: `activity`, `retry`, `timer`, `signal`, `task`, `child`, `undo`,
    /// `turn`, `operator`.
    pub kind: String,
    /// Since when.
    pub since: Time,
    /// When it will end by itself, if it will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// The step's number, if it is a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The attempt, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What went wrong last, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The longest payload of a kept signal that is shown, in bytes of JSON: many may be kept, and a
/// description has to fit into an answer.
pub const SIGNAL_SHOWN_MAX_BYTES: usize = 1024;

/// A signal that is kept until something waits for it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalView {
    /// Its name.
    pub name: String,
    /// When it came, unless an earlier release kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// How large its payload is, in bytes of JSON.
    pub bytes: usize,
    /// The payload, when it is no larger than [`SIGNAL_SHOWN_MAX_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
}

/// A saga, described.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SagaView {
    /// `tenant/key`.
    pub saga: String,
    /// `name vN`.
    pub definition: String,
    /// Where it stands.
    pub status: Status,
    /// The state the outermost scope is in.
    pub state: String,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: Time,
    /// The last change.
    pub changed_at: Time,
    /// Records in the journal.
    pub records: u64,
    /// Its trace.
    pub trace_id: TraceId,
    /// Why it has not ended yet.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// What is on the compensation stack, last first.
    #[serde(default)]
    pub compensations: Vec<String>,
    /// Signals that came before anything waits for them, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalView>,
    /// How it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The shard it lives on.
    #[serde(default)]
    pub shard: u16,
    /// The node that owns it.
    #[serde(default)]
    pub node: String,
    /// Whether it has an actor in memory now.
    #[serde(default)]
    pub awake: bool,
}

/// A row of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SagaRow {
    /// `tenant/key`.
    pub saga: String,
    /// `name vN`.
    pub definition: String,
    /// Where it stands.
    pub status: Status,
    /// The state the outermost scope is in, or was in last.
    pub state: String,
    /// The last change.
    pub changed_at: Time,
    /// The node that owns it.
    pub node: String,
}

/// One record of a saga's history, readable.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Counted from 1.
    pub number: u64,
    /// Journal sequence of the frame that holds it.
    pub position: u64,
    /// When the fact happened.
    pub at: Time,
    /// The fact, in a few words: `step Applying succeeded`.
    pub fact: String,
    /// What followed, one line each: `entered LicenseCheck`, `published CompatibilityEvaluated`.
    pub settled: Vec<String>,
}

/// A saga's history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Which saga.
    pub saga: SagaId,
    /// Oldest first.
    pub entries: Vec<HistoryEntry>,
    /// Set when the oldest records are no longer kept.
    #[serde(default)]
    pub cut: bool,
}
