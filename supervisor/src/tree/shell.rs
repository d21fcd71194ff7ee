//! The thin shell around every actor: it counts messages in and out and the time they take, so
//! that mailbox depth and busy time are known for each, and tells the supervisor how it ended.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::card::{Card, Life};

/// Something went wrong that the actor cannot answer itself; its supervisor will.
pub type Fault = ActorProcessingErr;

/// What an actor does; the shell does the rest.
pub trait Behaviour: Send + Sync + Sized + 'static {
    /// What it is told.
    type Message: Send + 'static;
    /// What changes; lost when it fails.
    type State: Send + 'static;

    /// Makes the first state.
    fn start(&self, me: &Me<Self::Message>) -> impl Future<Output = Result<Self::State, Fault>> + Send;

    /// Handles one message.
    fn handle(
        &self,
        me: &Me<Self::Message>,
        message: Self::Message,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// A child ended: `failure` is its panic or error, `None` when it stopped.
    fn child_ended(
        &self,
        me: &Me<Self::Message>,
        child: ActorCell,
        failure: Option<String>,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = (me, child, failure, state);
        async { Ok(()) }
    }

    /// Called once after an orderly stop.
    fn stopped(&self, state: &mut Self::State) -> impl Future<Output = ()> + Send {
        let _ = state;
        async {}
    }
}

/// How others reach an actor.
pub struct Handle<M: Send + 'static> {
    actor: ActorRef<M>,
    card: Arc<Card>,
}

impl<M: Send + 'static> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), card: self.card.clone() }
    }
}

impl<M: Send + 'static> std::fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.card.name())
    }
}

/// How an actor speaks of itself.
pub type Me<M> = Handle<M>;

impl<M: Send + 'static> Handle<M> {
    /// Puts a message into the mailbox. False: the actor is gone.
    pub fn tell(&self, message: M) -> bool {
        self.card.note_sent();
        let told = self.actor.send_message(message).is_ok();
        if !told {
            self.card.note_taken();
        }
        told
    }

    /// Its card.
    pub fn card(&self) -> &Arc<Card> {
        &self.card
    }

    /// Its cell, to link children to and to compare.
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Which incarnation this is: a restarted actor has another id.
    pub fn id(&self) -> ActorId {
        self.actor.get_id()
    }

    /// Lets the message under way finish, then ends it.
    pub fn stop(&self) {
        self.actor.stop(None);
    }

    /// Ends it at its next await.
    pub fn kill(&self) {
        self.actor.kill();
    }
}

struct Shell<B> {
    behaviour: B,
    card: Arc<Card>,
}

impl<B: Behaviour> Shell<B> {
    fn me(&self, actor: ActorRef<B::Message>) -> Me<B::Message> {
        Handle { actor, card: self.card.clone() }
    }
}

impl<B: Behaviour> Actor for Shell<B> {
    type Msg = B::Message;
    type State = B::State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, Fault> {
        let state = self.behaviour.start(&self.me(myself)).await?;
        self.card.set_life(Life::Running);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), Fault> {
        #[cfg(feature = "simulation")]
        crate::simulation::shake().await;
        self.card.note_taken();
        let began = Instant::now();
        let done = self.behaviour.handle(&self.me(myself), message, state).await;
        self.card.note_handled(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        done
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), Fault> {
        let (child, failure) = match event {
            SupervisionEvent::ActorTerminated(child, _, _) => (child, None),
            SupervisionEvent::ActorFailed(child, error) => (child, Some(error.to_string())),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        self.behaviour.child_ended(&self.me(myself), child, failure, state).await
    }

    async fn post_stop(&self, _myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), Fault> {
        self.behaviour.stopped(state).await;
        Ok(())
    }
}

/// Starts an actor under `supervisor` (or on its own) and waits until its first state is made.
///
/// Boxed, because a start is kilobytes of future: inside a handler it would make every message of
/// the actor that starts others pay for moving them.
pub fn start<B: Behaviour>(
    behaviour: B,
    card: Arc<Card>,
    supervisor: Option<ActorCell>,
) -> BoxFuture<'static, Result<Handle<B::Message>, SpawnErr>> {
    Box::pin(async move {
        let shell = Shell { behaviour, card: card.clone() };
        let (actor, _join) = match supervisor {
            Some(supervisor) => Actor::spawn_linked(None, shell, (), supervisor).await?,
            None => Actor::spawn(None, shell, ()).await?,
        };
        Ok(Handle { actor, card })
    })
}
