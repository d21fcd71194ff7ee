//! One attempt of one run: it lets the worker look and act, watches the time, and tells once. It is
//! an actor of its own, so that it can be aborted, and so that a panic ends nothing else.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::worker;
use crate::activity::Failure;
use crate::tree::engine::Engine;
use crate::tree::shell::{Behaviour, Fault, Handle, Me};
use crate::tree::step::TIMEOUT;
use crate::worker::{Run, Worker};

/// What an attempt is told.
pub enum Message {
    /// Begin. Sent once, by itself.
    Begin,
}

/// The actor of one attempt.
pub struct RunActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Who looks and acts.
    pub worker: Arc<dyn Worker>,
    /// The attempt.
    pub run: Run,
    /// How long it may take.
    pub within: Duration,
    /// Who is told.
    pub owner: Handle<worker::Message>,
}

impl Behaviour for RunActor {
    type Message = Message;
    type State = ();

    async fn start(&self, me: &Me<Message>) -> Result<(), Fault> {
        me.tell(Message::Begin);
        Ok(())
    }

    async fn handle(&self, me: &Me<Message>, message: Message, (): &mut ()) -> Result<(), Fault> {
        match message {
            Message::Begin => {
                let Run { worker, number, attempt, trace, correlation, .. } = &self.run;
                let span = tracing::info_span!(
                    "run", worker = %worker, run = number, attempt, trace = %trace, correlation = %correlation
                );
                self.engine.observer.joins(&span, trace);
                let work = tokio::time::timeout(self.within, self.worker.run(&self.run));
                let answer = work.instrument(span).await.unwrap_or_else(|_| {
                    let cause = format!("no answer within {:?}", self.within);
                    Err(Failure { error: TIMEOUT.into(), cause, permanent: false })
                });
                self.owner.tell(worker::Message::Attempted(*number, *attempt, Box::new(answer)));
                me.stop();
                Ok(())
            }
        }
    }
}
