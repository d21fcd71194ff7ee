//! What a client may ask for. The command's name (`noun.verb`) stands in the subject; these are
//! the bodies. Unknown fields are refused, so that a misspelt one is not silently ignored.

use serde::{Deserialize, Serialize};

use crate::view::Status;
use crate::{Code, Environment, Problem, SagaKey, Tenant, Time, Value, WorkerKind};

/// Every command's name, as it stands in the subject.
pub mod name {
    #![allow(missing_docs)]
    pub const SAGA_START: &str = "saga.start";
    pub const SAGA_SIGNAL: &str = "saga.signal";
    pub const SAGA_CANCEL: &str = "saga.cancel";
    pub const SAGA_DESCRIBE: &str = "saga.describe";
    pub const SAGA_HISTORY: &str = "saga.history";
    pub const SAGA_LIST: &str = "saga.list";
    pub const SAGA_WAIT: &str = "saga.wait";
    pub const SAGA_RELEASE: &str = "saga.release";
    pub const TASK_DECIDE: &str = "task.decide";
    pub const ACTIVITY_COMPLETE: &str = "activity.complete";
    pub const ACTIVITY_FAIL: &str = "activity.fail";
    pub const ACTIVITY_HEARTBEAT: &str = "activity.heartbeat";
    pub const DEFINITION_DEPLOY: &str = "definition.deploy";
    pub const DEFINITION_CHECK: &str = "definition.check";
    pub const DEFINITION_LIST: &str = "definition.list";
    pub const DEFINITION_SHOW: &str = "definition.show";
    pub const EVENT_READ: &str = "event.read";
    pub const ENVIRONMENT_CREATE: &str = "environment.create";
    pub const ENVIRONMENT_BIND: &str = "environment.bind";
    pub const ENVIRONMENT_LIST: &str = "environment.list";
    pub const ENVIRONMENT_PROVISION: &str = "environment.provision";
    pub const CONFIGURATION_PUBLISH: &str = "configuration.publish";
    pub const CONFIGURATION_SHOW: &str = "configuration.show";
    pub const CONFIGURATION_LIST: &str = "configuration.list";
    pub const DECISION_LIST: &str = "decision.list";
    pub const DECISION_APPROVE: &str = "decision.approve";
    pub const DRIFT_LIST: &str = "drift.list";
    pub const DRIFT_APPROVE: &str = "drift.approve";
    pub const DRIFT_ACCEPT: &str = "drift.accept";
    pub const DRIFT_REMEDIATE: &str = "drift.remediate";
    pub const DRIFT_POLICY: &str = "drift.policy";
    pub const DRIFT_SET_POLICY: &str = "drift.set-policy";
    pub const INCIDENT_LIST: &str = "incident.list";
    pub const INCIDENT_SHOW: &str = "incident.show";
    pub const INCIDENT_CLOSE: &str = "incident.close";
    pub const SCALING_APPLY: &str = "scaling.apply";
    pub const SCALING_REMOVE: &str = "scaling.remove";
    pub const SCALING_LIST: &str = "scaling.list";
    pub const SCALING_DECISIONS: &str = "scaling.decisions";
    pub const SECRET_PUT: &str = "secret.put";
    pub const SECRET_BIND: &str = "secret.bind";
    pub const SECRET_UNBIND: &str = "secret.unbind";
    pub const SECRET_REMOVE: &str = "secret.remove";
    pub const SECRET_ROTATE: &str = "secret.rotate";
    pub const SECRET_LIST: &str = "secret.list";
    pub const SERVICE_LIST: &str = "service.list";
    pub const SERVICE_HEALTH: &str = "service.health";
    pub const SERVICE_LOGS: &str = "service.logs";
    pub const SERVICE_SCALE: &str = "service.scale";
    pub const SERVICE_DRAIN: &str = "service.drain";
    pub const SERVICE_PAUSE: &str = "service.pause";
    pub const SERVICE_RESTART: &str = "service.restart";
    pub const SERVICE_RESUME: &str = "service.resume";
    pub const SERVICE_UNHOLD: &str = "service.unhold";
    pub const WORKER_LIST: &str = "worker.list";
    pub const WORKER_RUN: &str = "worker.run";
    pub const WORKER_PAUSE: &str = "worker.pause";
    pub const WORKER_RESUME: &str = "worker.resume";

    /// All of them, for help and for refusals that name what exists.
    pub const ALL: &[&str] = &[
        SAGA_START,
        SAGA_SIGNAL,
        SAGA_CANCEL,
        SAGA_DESCRIBE,
        SAGA_HISTORY,
        SAGA_LIST,
        SAGA_WAIT,
        SAGA_RELEASE,
        TASK_DECIDE,
        ACTIVITY_COMPLETE,
        ACTIVITY_FAIL,
        ACTIVITY_HEARTBEAT,
        DEFINITION_DEPLOY,
        DEFINITION_CHECK,
        DEFINITION_LIST,
        DEFINITION_SHOW,
        EVENT_READ,
        ENVIRONMENT_CREATE,
        ENVIRONMENT_BIND,
        ENVIRONMENT_LIST,
        ENVIRONMENT_PROVISION,
        CONFIGURATION_PUBLISH,
        CONFIGURATION_SHOW,
        CONFIGURATION_LIST,
        DECISION_LIST,
        DECISION_APPROVE,
        DRIFT_LIST,
        DRIFT_APPROVE,
        DRIFT_ACCEPT,
        DRIFT_REMEDIATE,
        DRIFT_POLICY,
        DRIFT_SET_POLICY,
        INCIDENT_LIST,
        INCIDENT_SHOW,
        INCIDENT_CLOSE,
        SCALING_APPLY,
        SCALING_REMOVE,
        SCALING_LIST,
        SCALING_DECISIONS,
        SECRET_PUT,
        SECRET_BIND,
        SECRET_UNBIND,
        SECRET_REMOVE,
        SECRET_ROTATE,
        SECRET_LIST,
        SERVICE_LIST,
        SERVICE_HEALTH,
        SERVICE_SCALE,
        SERVICE_DRAIN,
        SERVICE_PAUSE,
        SERVICE_RESTART,
        SERVICE_RESUME,
        SERVICE_LOGS,
        SERVICE_UNHOLD,
        WORKER_LIST,
        WORKER_RUN,
        WORKER_PAUSE,
        WORKER_RESUME,
    ];
}

/// `saga.start`. The same key again answers with the same saga.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    /// The definition's name.
    pub definition: String,
    /// A version of it; the latest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Name and idempotency key of the saga. When absent, one is made of the message's id (the header
    /// `Nats-Msg-Id`, or `ce-id` and `ce-source`), so that the same message again is the same saga; a
    /// message without an id gets a fresh one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SagaKey>,
    /// The execution's input.
    #[serde(default)]
    pub input: Value,
    /// Answer with the outcome instead of the acceptance, if it comes within this many
    /// milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// `saga.signal`: wakes a state that waits for `signal:NAME`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signal {
    /// Which saga.
    pub key: SagaKey,
    /// The signal's name.
    pub name: String,
    /// Becomes the waiting state's result.
    #[serde(default)]
    pub payload: Value,
    /// Identity: the same id again has no second effect. The message's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// `saga.cancel`: stops the work under way and undoes what was done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cancel {
    /// Which saga.
    pub key: SagaKey,
    /// Why; part of the history.
    #[serde(default)]
    pub reason: String,
}

/// `saga.describe`, `saga.history`: which saga.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Of {
    /// Which saga.
    pub key: SagaKey,
}

/// `saga.wait`: answers when the saga has ended, or with where it stands when time runs out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wait {
    /// Which saga.
    pub key: SagaKey,
    /// How long to wait, in milliseconds; at most one minute, ask again after that.
    #[serde(default = "Wait::default_ms")]
    pub wait_ms: u64,
}

impl Wait {
    /// Longest single wait, in milliseconds: longer than any client library's patience is useless.
    pub const MAX_MS: u64 = 60_000;

    fn default_ms() -> u64 {
        Self::MAX_MS
    }
}

/// `saga.list`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct List {
    /// Only sagas in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Only sagas of this definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// At most this many rows, newest first; 100 when absent, and never more than 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl List {
    /// Rows unless asked for another number.
    const ROWS: usize = 100;
    /// Most rows: they are all held at once while they are sorted.
    const ROWS_MAX: usize = 10_000;

    /// How many rows are asked for.
    ///
    /// # Errors
    /// More than one list has.
    pub fn rows(&self) -> Result<usize, Problem> {
        let rows = self.limit.unwrap_or(Self::ROWS);
        if rows > Self::ROWS_MAX {
            let what = format!("a list has at most {} rows, not {rows}", Self::ROWS_MAX);
            return Err(Problem::new(Code::BadRequest, what).mend("narrow it: by status, by definition"));
        }
        Ok(rows)
    }
}

/// `saga.release`: an operator's word on a saga that is stuck in a compensation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// Which saga.
    pub key: SagaKey,
    /// What to do.
    pub decision: ReleaseDecision,
    /// Why; required for `skip` and `abandon`.
    #[serde(default)]
    pub reason: String,
}

/// What an operator decides about a stuck saga.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseDecision {
    /// Try the failed compensation again.
    Retry,
    /// Count the failed compensation as done and go on with the rest.
    Skip,
    /// End the saga as failed with the rest not undone.
    Abandon,
}

/// `task.decide`: a person's answer to a `task:human` state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decide {
    /// Which saga.
    pub key: SagaKey,
    /// Which task: the step number, as shown by `saga.describe`; the only open one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Becomes the state's result.
    #[serde(default)]
    pub output: Value,
}

/// `activity.complete`, `activity.fail`, `activity.heartbeat`: a late answer by token.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActivityAnswer {
    /// The token from the request's `Skald-Token` header.
    pub token: String,
    /// The result, for `complete`.
    #[serde(default)]
    pub output: Value,
    /// The error name, for `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What went wrong, for `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// `event.read`: events of the tenant in order, a page at a time. Without `after` and `since` it
/// begins with the oldest that is kept.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadEvents {
    /// Only events after this place, as the last page gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only events published since then; for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Only events of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// At most this many; with 0 the answer only says where the newest stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The answer to `event.read`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventPage {
    /// The events, oldest first, as they were published.
    pub events: Vec<Value>,
    /// Where to go on: `after` of the next page.
    pub after: u64,
    /// How many more there were when this was read.
    pub left: u64,
}

/// `definition.deploy`, `definition.check`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deploy {
    /// The definition, YAML or JSON, as text.
    pub source: String,
    /// What to call the source in messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// `definition.show`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShowDefinition {
    /// The definition's name.
    pub name: String,
    /// A version; the latest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// `worker.list`: the tenant's workers, all of them or those that are named.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListWorkers {
    /// Only workers of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<WorkerKind>,
    /// Only workers of this environment. With a kind, the answer also has the worker's last runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

/// `worker.run`: runs a worker now, also one that is paused. What comes while it runs is one more
/// run after this one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunWorker {
    /// Which kind.
    pub kind: WorkerKind,
    /// For which environment.
    pub environment: Environment,
    /// Answer with how the run went instead of its number, if it ends within this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// What `worker.run` answers when it does not wait.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunAccepted {
    /// The worker, `kind/tenant/environment`.
    pub worker: String,
    /// The number of the run that does it.
    pub run: u64,
}

/// `worker.pause`: the worker runs no more, neither by its timer nor by events, until it is resumed.
/// A run under way goes on to its end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PauseWorker {
    /// Which kind.
    pub kind: WorkerKind,
    /// For which environment.
    pub environment: Environment,
    /// Why; shown to whoever looks.
    #[serde(default)]
    pub reason: String,
}

/// `worker.resume`: a paused worker goes on, with a run at once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResumeWorker {
    /// Which kind.
    pub kind: WorkerKind,
    /// For which environment.
    pub environment: Environment,
}

/// What `saga.start` answers when it does not wait for the outcome.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// The saga, `tenant/key`.
    pub saga: String,
    /// Its key.
    pub key: SagaKey,
    /// False when the key was already known and nothing new was started.
    pub created: bool,
    /// The definition it runs, `name vN`.
    pub definition: String,
}

/// A command as it travels between nodes, from the one that received it to the owner of the shard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Routed {
    /// Whose data.
    pub tenant: Tenant,
    /// Who asks.
    pub principal: String,
    /// `noun.verb`.
    pub command: String,
    /// When the first node received it.
    pub received_at: Time,
    /// W3C trace of the command, if any.
    pub trace: Option<String>,
    /// Identity of the command message, for causation.
    pub id: String,
    /// How many events led to it, one after the other, where a worker gives it.
    #[serde(default, skip_serializing_if = "crate::envelope::is_zero")]
    pub causes: u32,
    /// How often it was passed on; bounded, so that two nodes that disagree cannot play ball.
    pub hops: u8,
    /// The format the client speaks and gets its answer in: its media type.
    pub content_type: String,
    /// The body as the client sent it.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// What every refused command answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub error: Problem,
}
