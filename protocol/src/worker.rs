//! What a person or a program is shown of a worker: a control loop for one environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Environment, Tenant, Time, TraceId, WorkerId, WorkerKind};

/// What a worker does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// It reads what is remembered of it, and runs only after that.
    Loading,
    /// It waits for its timer, an event or a person.
    Idle,
    /// A run is under way.
    Running,
    /// An attempt failed, and the next one waits its time.
    Retrying,
    /// A person paused it.
    Paused,
}

impl WorkerStatus {
    /// The word used in JSON and lists.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunOutcome {
    /// It changed something.
    Changed,
    /// There was nothing to change.
    Unchanged,
    /// It failed; what it could have changed is not known.
    Failed,
}

impl RunOutcome {
    /// The word used in JSON and lists.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// One run that ended. Also stored: fields are only ever added, with a default.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Counted from 1, over all nodes.
    pub number: u64,
    /// What made it run: `timer`, `event HealthCheckCompleted evt-7`, `by hand (ann)`.
    pub trigger: String,
    /// When its first attempt began.
    pub began: Time,
    /// From then to its end, pauses between attempts included, in milliseconds.
    pub took_ms: u64,
    /// Attempts it took.
    pub attempts: u32,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What it saw.
    #[serde(default)]
    pub saw: String,
    /// What it did.
    #[serde(default)]
    pub did: String,
    /// Why it did that.
    #[serde(default)]
    pub why: String,
    /// Figures to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its trace.
    pub trace_id: TraceId,
}

/// A person's word that a worker must not run. Also stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    /// Who.
    pub by: String,
    /// When.
    pub at: Time,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// A worker, described.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// What it does.
    pub kind: WorkerKind,
    /// Whose environment it looks after.
    pub tenant: Tenant,
    /// Which.
    pub environment: Environment,
    /// The node that runs it.
    pub node: String,
    /// The shard whose owner that is.
    pub shard: u16,
    /// What it does now.
    pub status: WorkerStatus,
    /// The same in a sentence, when there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// Its next run by timer, if it has a timer and is not paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
    /// Runs so far, over all nodes.
    pub runs: u64,
    /// Runs that failed since the last one that did not.
    pub failures: u32,
    /// Who paused it, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Its last run, also on another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<RunView>,
    /// Its last runs on this node, newest first; only where one worker was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<RunView>,
}

impl WorkerView {
    /// Its name.
    pub fn id(&self) -> WorkerId {
        WorkerId::new(self.kind.clone(), self.tenant.clone(), self.environment.clone())
    }
}
