//! What an activity is to the engine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::activity::{PERMANENT, TRANSIENT};
use protocol::{Principal, SagaId, Time, TraceId, Value};
use serde::{Deserialize, Serialize};

/// One attempt of one step: everything an activity may need to know besides its input.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which saga.
    pub saga: SagaId,
    /// The same for every attempt of this step, in both directions, also after a crash: what makes
    /// repeating safe, and by which an undo finds what was done.
    pub key: String,
    /// Counted from 1.
    pub number: u32,
    /// When the state gives up. `None`: it does not say, and whoever carries the request decides how
    /// long an answer may take.
    pub deadline: Option<Time>,
    /// Who started the saga.
    pub principal: Principal,
    /// The trace the saga belongs to.
    pub trace: TraceId,
    /// The longest silence the state allows, when it asks for heartbeats.
    pub heartbeat_every: Option<Duration>,
    /// Names this attempt to `activity.complete` and its siblings.
    pub token: String,
    /// Says that the attempt is alive.
    pub heartbeat: Heartbeat,
}

/// Says that an attempt is alive. Cheap to clone and to call.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<tokio::sync::Notify>);

impl Heartbeat {
    /// The attempt is alive.
    pub fn beat(&self) {
        self.0.notify_one();
    }

    /// Waits for the next beat.
    pub async fn beaten(&self) {
        self.0.notified().await;
    }
}

/// How an attempt failed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{error}: {cause}")]
pub struct Failure {
    /// The error name that Retry and Catch match.
    pub error: String,
    /// What went wrong, for a person.
    pub cause: String,
    /// A permanent failure is not retried, whatever Retry says (M103, F11).
    pub permanent: bool,
}

impl Failure {
    /// A failure that may pass by itself: error name `Transient`.
    pub fn transient(doing: &str, source: impl std::fmt::Display) -> Self {
        Self { error: TRANSIENT.into(), cause: format!("{doing}: {source}"), permanent: false }
    }

    /// A failure that will not pass by itself: error name `Permanent`.
    pub fn permanent(doing: &str, source: impl std::fmt::Display) -> Self {
        Self { error: PERMANENT.into(), cause: format!("{doing}: {source}"), permanent: true }
    }

    /// A failure with a name of its own, that will not pass by itself.
    pub fn named(error: &str, cause: impl Into<String>) -> Self {
        Self { error: error.into(), cause: cause.into(), permanent: true }
    }
}

/// An activity: one kind of work, with its undo. Both directions are safe to repeat under the same
/// key. Implement [`Typed`] instead where input and output have types.
#[async_trait]
pub trait Activity: Send + Sync + 'static {
    /// Its name in definitions, as in `license.grant`.
    fn name(&self) -> &str;

    /// The name of its other direction, as in `license.release`; `None` when there is nothing to
    /// undo.
    fn undo_name(&self) -> Option<&str> {
        None
    }

    /// Does the work.
    async fn run(&self, attempt: &Attempt, input: Value) -> Result<Value, Failure>;

    /// Takes the work back. `output` is `None` when a crash or a time-out hid whether `run`
    /// finished; what was done is then found by the attempt's key.
    async fn undo(&self, attempt: &Attempt, input: Value, output: Option<Value>) -> Result<(), Failure> {
        let _ = (attempt, input, output);
        Err(Failure::named("States.Runtime", format!("{} has no undo", self.name())))
    }
}

/// An activity whose input and output have types.
#[async_trait]
pub trait Typed: Send + Sync + 'static {
    /// What it is given.
    type Input: serde::de::DeserializeOwned + Send;
    /// What it answers.
    type Output: Serialize + serde::de::DeserializeOwned + Send;
    /// Its name in definitions.
    const NAME: &'static str;
    /// The name of its other direction.
    const UNDO: Option<&'static str> = None;

    /// Does the work.
    async fn run(&self, attempt: &Attempt, input: Self::Input) -> Result<Self::Output, Failure>;

    /// Takes the work back.
    async fn undo(&self, attempt: &Attempt, input: Self::Input, output: Option<Self::Output>) -> Result<(), Failure> {
        let _ = (attempt, input, output);
        Err(Failure::named("States.Runtime", format!("{} has no undo", Self::NAME)))
    }
}

fn typed<T: serde::de::DeserializeOwned>(activity: &str, what: &str, value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| Failure::named("BadArguments", format!("{activity} cannot read its {what}: {error}")))
}

#[async_trait]
impl<T: Typed> Activity for T {
    fn name(&self) -> &str {
        T::NAME
    }

    fn undo_name(&self) -> Option<&str> {
        T::UNDO
    }

    async fn run(&self, attempt: &Attempt, input: Value) -> Result<Value, Failure> {
        let output = Typed::run(self, attempt, typed(T::NAME, "input", input)?).await?;
        serde_json::to_value(output).map_err(|error| Failure::permanent("writing the output", error))
    }

    async fn undo(&self, attempt: &Attempt, input: Value, output: Option<Value>) -> Result<(), Failure> {
        let output = match output {
            None | Some(Value::Null) => None,
            Some(output) => Some(typed(T::NAME, "output", output)?),
        };
        Typed::undo(self, attempt, typed(T::NAME, "input", input)?, output).await
    }
}
