//! Every command as a call. Which of them are safe to repeat is decided here and nowhere else.

use std::time::Duration;

use protocol::command::{
    ActivityAnswer, Cancel, Decide, Deploy, List, ListWorkers, Of, PauseWorker, Release, ResumeWorker, RunWorker,
    ShowDefinition, Signal, Start, Wait, name,
};
use protocol::view::{History, SagaRow, SagaView};
use protocol::{SagaKey, Value};

use super::{Client, Deployed, Error, Listed, Repeat, Rows, RunAnswer, Source, StartAnswer, Workers};

impl Client {
    /// Starts a saga. It is repeated while the cluster is busy or hands over: without a key, each try
    /// carries the same message id, of which the key is made.
    pub async fn start(&self, start: &Start) -> Result<StartAnswer, Error> {
        let extra = Duration::from_millis(start.wait_ms.unwrap_or(0));
        self.call(name::SAGA_START, start, Repeat::Safe, extra).await
    }

    /// Wakes a state that waits for a signal. It is repeated as a start is, under its id or the message's.
    pub async fn signal(&self, signal: &Signal) -> Result<Value, Error> {
        self.call(name::SAGA_SIGNAL, signal, Repeat::Safe, Duration::ZERO).await
    }

    /// Stops a saga and undoes what it did. Cancelling what is cancelled changes nothing.
    pub async fn cancel(&self, cancel: &Cancel) -> Result<Value, Error> {
        self.call(name::SAGA_CANCEL, cancel, Repeat::Safe, Duration::ZERO).await
    }

    /// Where a saga stands and why.
    pub async fn describe(&self, key: &SagaKey) -> Result<SagaView, Error> {
        self.call(name::SAGA_DESCRIBE, &Of { key: key.clone() }, Repeat::Safe, Duration::ZERO).await
    }

    /// What happened to a saga, record by record.
    pub async fn history(&self, key: &SagaKey) -> Result<History, Error> {
        self.call(name::SAGA_HISTORY, &Of { key: key.clone() }, Repeat::Safe, Duration::ZERO).await
    }

    /// Sagas of the tenant, newest first.
    pub async fn list(&self, list: &List) -> Result<Vec<SagaRow>, Error> {
        Ok(self.listed(list).await?.sagas)
    }

    /// Sagas of the tenant, newest first, and why there may be more.
    pub async fn listed(&self, list: &List) -> Result<Listed, Error> {
        let rows: Rows = self.call(name::SAGA_LIST, list, Repeat::Safe, Duration::ZERO).await?;
        Ok(rows.listed())
    }

    /// Waits until a saga has ended, at most `patience`; answers where it stands then. One request
    /// waits a minute at most, so this asks as often as it takes.
    pub async fn wait(&self, key: &SagaKey, patience: Duration) -> Result<SagaView, Error> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let wait_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(Wait::MAX_MS);
            let wait = Wait { key: key.clone(), wait_ms };
            let view: SagaView =
                self.call(name::SAGA_WAIT, &wait, Repeat::Safe, Duration::from_millis(wait_ms)).await?;
            if view.status.is_final() || left.is_zero() || u128::from(wait_ms) >= left.as_millis() {
                return Ok(view);
            }
        }
    }

    /// An operator's word on a saga that is stuck. Not repeated: a second `skip` would skip the next.
    pub async fn release(&self, release: &Release) -> Result<Value, Error> {
        self.call(name::SAGA_RELEASE, release, Repeat::Never, Duration::ZERO).await
    }

    /// A person's answer to a task. Safe to repeat when it names the step.
    pub async fn decide(&self, decide: &Decide) -> Result<Value, Error> {
        let repeat = if decide.step.is_some() { Repeat::Safe } else { Repeat::Never };
        self.call(name::TASK_DECIDE, decide, repeat, Duration::ZERO).await
    }

    /// A late answer of an activity: done.
    pub async fn activity_complete(&self, answer: &ActivityAnswer) -> Result<Value, Error> {
        self.call(name::ACTIVITY_COMPLETE, answer, Repeat::Safe, Duration::ZERO).await
    }

    /// A late answer of an activity: failed.
    pub async fn activity_fail(&self, answer: &ActivityAnswer) -> Result<Value, Error> {
        self.call(name::ACTIVITY_FAIL, answer, Repeat::Safe, Duration::ZERO).await
    }

    /// An activity says that it is alive.
    pub async fn activity_heartbeat(&self, answer: &ActivityAnswer) -> Result<Value, Error> {
        self.call(name::ACTIVITY_HEARTBEAT, answer, Repeat::Safe, Duration::ZERO).await
    }

    /// Deploys a definition. The same source again is the same version, unless one of its children has a newer one.
    pub async fn deploy(&self, deploy: &Deploy) -> Result<Deployed, Error> {
        self.call(name::DEFINITION_DEPLOY, deploy, Repeat::Safe, Duration::ZERO).await
    }

    /// Checks a definition without deploying it.
    pub async fn check(&self, deploy: &Deploy) -> Result<Deployed, Error> {
        self.call(name::DEFINITION_CHECK, deploy, Repeat::Safe, Duration::ZERO).await
    }

    /// The definitions that are deployed, as the node lists them.
    pub async fn definitions(&self) -> Result<Value, Error> {
        self.call(name::DEFINITION_LIST, &serde_json::json!({}), Repeat::Safe, Duration::ZERO).await
    }

    /// The tenant's workers, and what they did last.
    pub async fn workers(&self, list: &ListWorkers) -> Result<Workers, Error> {
        self.call(name::WORKER_LIST, list, Repeat::Safe, Duration::ZERO).await
    }

    /// Runs a worker now. Twice is a second look, which changes nothing more.
    pub async fn run_worker(&self, run: &RunWorker) -> Result<RunAnswer, Error> {
        let extra = Duration::from_millis(run.wait_ms.unwrap_or(0));
        self.call(name::WORKER_RUN, run, Repeat::Safe, extra).await
    }

    /// Lets a worker run no more.
    pub async fn pause_worker(&self, pause: &PauseWorker) -> Result<Value, Error> {
        self.call(name::WORKER_PAUSE, pause, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets a paused worker run again.
    pub async fn resume_worker(&self, resume: &ResumeWorker) -> Result<Value, Error> {
        self.call(name::WORKER_RESUME, resume, Repeat::Safe, Duration::ZERO).await
    }

    /// One definition with its source.
    pub async fn definition(&self, which: &ShowDefinition) -> Result<Source, Error> {
        self.call(name::DEFINITION_SHOW, which, Repeat::Safe, Duration::ZERO).await
    }
}
