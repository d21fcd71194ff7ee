//! One attempt of a step, or of an undo: it runs the activity, watches its deadline and its
//! heartbeat, and tells the saga once. Its panic goes up as a failure of the attempt.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use protocol::{Principal, SagaId, TraceId, Value};
use tracing::Instrument;

use super::engine::Engine;
use super::saga;
use super::shell::{Behaviour, Fault, Handle, Me};
use crate::activity::{Attempt, Failure, Heartbeat};
use crate::machine::{ActivityCall, StepError};
use crate::ports::RemoteAnswer;

/// The ASL error of an attempt that took longer than its state allows.
pub const TIMEOUT: &str = "States.Timeout";
/// The ASL error of an attempt that was silent longer than its state allows.
pub const HEARTBEAT_TIMEOUT: &str = "States.HeartbeatTimeout";

/// What a step is told.
pub enum Message {
    /// Begin. Sent once by the saga.
    Run,
}

/// The step actor of one attempt.
pub struct StepActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Which saga.
    pub saga: Arc<SagaId>,
    /// Who started it.
    pub by: Principal,
    /// Its trace.
    pub trace: TraceId,
    /// What to do.
    pub call: Box<ActivityCall>,
    /// What a late answer must carry.
    pub token: String,
    /// Where late heartbeats arrive.
    pub heartbeat: Heartbeat,
    /// Who is told.
    pub owner: Handle<saga::Message>,
}

impl Behaviour for StepActor {
    type Message = Message;
    type State = ();

    async fn start(&self, me: &Me<Message>) -> Result<(), Fault> {
        me.tell(Message::Run);
        Ok(())
    }

    async fn handle(&self, me: &Me<Message>, message: Message, (): &mut ()) -> Result<(), Fault> {
        match message {
            Message::Run => {
                let span = tracing::debug_span!(
                    "attempt",
                    activity = %self.call.activity, saga = %self.saga, state = %self.call.state,
                    attempt = self.call.attempt.attempt, trace = %self.trace
                );
                self.engine.observer.joins(&span, &self.trace);
                let began = tokio::time::Instant::now();
                let answer = self.run(me).instrument(span).await;
                self.engine.observer.attempted(&self.call.activity, began.elapsed());
                self.owner.tell(saga::Message::StepDone(self.call.attempt, answer));
                me.stop();
                Ok(())
            }
        }
    }
}

impl StepActor {
    async fn run(&self, me: &Me<Message>) -> Result<Value, StepError> {
        let now = self.engine.now();
        // The longest that anything may take, also what was accepted and is answered by token.
        let limit = self.call.deadline.map_or(self.engine.limits.attempt_max, |deadline| deadline.since(now));
        let attempt = Attempt {
            saga: (*self.saga).clone(),
            key: self.call.key.clone(),
            number: self.call.attempt.attempt,
            deadline: self.call.deadline,
            principal: self.by.clone(),
            trace: self.trace.clone(),
            heartbeat_every: self.call.heartbeat_ms.map(Duration::from_millis),
            token: self.token.clone(),
            heartbeat: self.heartbeat.clone(),
        };
        let silence = self.silence();
        tokio::select! {
            // Biased: an answer that is there wins over a deadline that passed in the same instant.
            biased;
            answer = self.work(me, &attempt) => answer.map_err(|failure| StepError {
                error: failure.error, cause: failure.cause, permanent: failure.permanent,
            }),
            () = tokio::time::sleep(limit) => Err(timed_out(TIMEOUT, format!("no answer within {limit:?}"))),
            silent = silence => Err(timed_out(HEARTBEAT_TIMEOUT, format!("no heartbeat for {silent:?}"))),
        }
    }

    async fn work(&self, me: &Me<Message>, attempt: &Attempt) -> Result<Value, Failure> {
        let arguments = self.call.arguments.clone();
        let Some(direction) = self.engine.activities.get(&self.call.activity) else {
            me.card().doing("waits for a worker on the bus");
            let tenant = &self.saga.tenant;
            return match self.engine.remote.call(tenant, &self.call.activity, attempt, arguments).await? {
                RemoteAnswer::Done(output) => Ok(output),
                RemoteAnswer::Accepted => {
                    me.card().doing("accepted by a worker, waits for its answer by token");
                    // The answer arrives at the saga as a fact of its own, which stops this actor;
                    // deadline and heartbeat are watched here meanwhile.
                    std::future::pending().await
                }
            };
        };
        let _room = match direction.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(_) => {
                me.card().doing("waits for room, the activity runs as often as it may");
                let room = direction.room.clone().acquire_owned().await;
                room.map_err(|closed| Failure::transient("waiting for room", closed))?
            }
        };
        direction.carry_out(attempt, arguments).await
    }

    fn silence(&self) -> impl Future<Output = Duration> + use<> {
        let (heartbeat, every) = (self.heartbeat.clone(), self.call.heartbeat_ms.map(Duration::from_millis));
        async move {
            let Some(every) = every else { return std::future::pending().await };
            while tokio::time::timeout(every, heartbeat.beaten()).await.is_ok() {}
            every
        }
    }
}

fn timed_out(error: &str, cause: String) -> StepError {
    StepError { error: error.into(), cause, permanent: false }
}
