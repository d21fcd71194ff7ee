//! The services of a node, which its root keeps running.

use std::sync::Arc;

use futures::future::BoxFuture;
use ractor::ActorCell;

use super::card::{Card, Life};
use super::shell::{Behaviour, Fault, Me};

/// Makes a service's future, anew at each start. It runs until the service ends.
pub type StartService = Arc<dyn Fn(Arc<Card>) -> BoxFuture<'static, Result<(), Fault>> + Send + Sync>;

/// Makes a service that is an actor of its own, anew at each start, below the one that is given.
pub type StartActor = Arc<dyn Fn(Arc<Card>, ActorCell) -> BoxFuture<'static, Result<ActorCell, Fault>> + Send + Sync>;

/// A service of the node that the root keeps running: the command service, the debug endpoint.
#[derive(Clone)]
pub struct Service {
    /// Its name in the tree.
    pub name: &'static str,
    /// Makes it run.
    pub start: StartWith,
}

/// How a service runs.
#[derive(Clone)]
pub enum StartWith {
    /// As a future.
    Future(StartService),
    /// As an actor, with a tree below it.
    Actor(StartActor),
}

impl Service {
    /// A service that is a future.
    pub fn new(
        name: &'static str,
        start: impl Fn(Arc<Card>) -> BoxFuture<'static, Result<(), Fault>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, start: StartWith::Future(Arc::new(start)) }
    }
}

/// Runs one service that is a future.
pub(super) struct ServiceActor {
    pub(super) start: StartService,
}

impl Behaviour for ServiceActor {
    type Message = ();
    type State = ();

    async fn start(&self, me: &Me<()>) -> Result<(), Fault> {
        me.tell(());
        Ok(())
    }

    async fn handle(&self, me: &Me<()>, (): (), (): &mut ()) -> Result<(), Fault> {
        me.card().set_life(Life::Running);
        (self.start)(me.card().clone()).await?;
        Err("it ended by itself".into())
    }
}
