//! The workers of a node: for each kind of worker and each environment it looks after, one actor, on
//! the node that owns the shard of its name. Environments come and go, shards too; this actor looks
//! again and starts and stops what follows from it.
//!
//! Ownership of the shard makes a leader of one node per worker, and is no lock: a node that was
//! taken for dead, or is cut off, can go on for a moment while the next owner begins. Nothing here
//! relies on being alone. What a worker does is guarded by compare-and-set, or by the arbiter of what
//! it changes, like the journal by its fence.

mod agenda;
mod circle;
mod limits;
mod local;
mod memory;
mod run;
mod slots;
pub mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use protocol::{Environment, Tenant, WorkerId, WorkerKind};
use ractor::{ActorCell, ActorId};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::card::{Card, Life};
use super::engine::Engine;
use super::root::{Service, StartWith};
use super::shards::Shards;
use super::shell::{self, Behaviour, Fault, Handle, Me};
use crate::machine::restart::{Failures, Verdict};
use crate::ports::{Environments, Unavailable, WorkerMemory};

pub use agenda::Asked;
pub use limits::Limits;
pub use local::{BadWorkers, Local, Post};
pub use memory::Memory;

type Listed = Vec<(WorkerKind, Result<Vec<(Tenant, Environment)>, Unavailable>)>;

/// What the supervisor of the workers is told.
pub enum Message {
    /// Time to look which environments there are.
    Look,
    /// The environments of each kind.
    Listed(Listed),
    /// This node gained or lost a shard.
    ShardsChanged,
    /// A worker whose actor failed may start again.
    Forgive(WorkerId),
    /// Stop all, and tell when they have stopped.
    Drain(oneshot::Sender<()>),
}

/// The supervisor of a node's workers, one for one.
#[derive(Clone)]
pub struct WorkersActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Settings.
    pub limits: Arc<Limits>,
    /// What can run here, and what does.
    pub local: Arc<Local>,
    /// Which shards this node has.
    pub shards: Arc<Shards>,
    /// Which environments there are.
    pub environments: Arc<dyn Environments>,
    /// Where it is kept what workers remember.
    pub memory: Arc<dyn WorkerMemory>,
}

impl WorkersActor {
    /// The service of a node that it is.
    pub fn service(self) -> Service {
        let start = move |card: Arc<Card>, root: ActorCell| {
            let actor = self.clone();
            async move { Ok(shell::start(actor, card, Some(root)).await?.cell()) }.boxed()
        };
        Service { name: "workers", start: StartWith::Actor(Arc::new(start)) }
    }
}

/// What changes.
pub struct State {
    /// The environments of each kind, as last listed.
    environments: BTreeMap<WorkerKind, Vec<(Tenant, Environment)>>,
    running: BTreeMap<WorkerId, Running>,
    worker_of: HashMap<ActorId, WorkerId>,
    failures: HashMap<WorkerId, Failures>,
    /// Failed, and not to be started before it is forgiven.
    resting: BTreeSet<WorkerId>,
    looking: bool,
    trouble: Option<String>,
    draining: Option<oneshot::Sender<()>>,
    /// Set for good by `Drain`.
    leaving: bool,
    ticker: tokio::task::JoinHandle<()>,
}

struct Running {
    handle: Handle<worker::Message>,
    stopping: bool,
}

impl Behaviour for WorkersActor {
    type Message = Message;
    type State = State;

    async fn start(&self, me: &Me<Message>) -> Result<State, Fault> {
        self.local.begin(me.clone());
        let (every, mut changes, to) = (self.limits.look_every, self.shards.changes(), me.clone());
        let ticker = tokio::spawn(async move {
            let mut look = tokio::time::interval(every);
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let message = tokio::select! {
                    _ = look.tick() => Message::Look,
                    changed = changes.changed() => match changed {
                        Ok(()) => Message::ShardsChanged,
                        Err(_) => return,
                    },
                };
                if !to.tell(message) {
                    return;
                }
            }
        });
        Ok(State {
            environments: BTreeMap::new(),
            running: BTreeMap::new(),
            worker_of: HashMap::new(),
            failures: HashMap::new(),
            resting: BTreeSet::new(),
            looking: false,
            trouble: None,
            draining: None,
            leaving: false,
            ticker,
        })
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Look => self.look(me, state),
            Message::Listed(listed) => {
                state.looking = false;
                self.note(listed, state);
                self.settle(me, state).await?;
            }
            Message::ShardsChanged => self.settle(me, state).await?,
            Message::Forgive(worker) => {
                state.resting.remove(&worker);
                self.settle(me, state).await?;
            }
            Message::Drain(tell) => {
                (state.leaving, state.draining) = (true, Some(tell));
                self.settle(me, state).await?;
            }
        }
        self.show(me, state);
        Ok(())
    }

    async fn child_ended(
        &self,
        me: &Me<Message>,
        child: ActorCell,
        failure: Option<String>,
        state: &mut State,
    ) -> Result<(), Fault> {
        let Some(worker) = state.worker_of.remove(&child.get_id()) else { return Ok(()) };
        let Some(ended) = state.running.remove(&worker) else { return Ok(()) };
        match failure {
            Some(why) if !ended.stopping => self.failed(me, &worker, &ended.handle, why, state),
            Some(_) | None => me.card().forget(ended.handle.card().name()),
        }
        // It may belong here again.
        self.settle(me, state).await?;
        self.show(me, state);
        Ok(())
    }

    async fn stopped(&self, state: &mut State) {
        state.ticker.abort();
    }
}

impl WorkersActor {
    fn look(&self, me: &Me<Message>, state: &mut State) {
        if std::mem::replace(&mut state.looking, true) {
            return;
        }
        let (environments, me, patience) = (self.environments.clone(), me.clone(), self.limits.list_within);
        let kinds: Vec<WorkerKind> = self.local.kinds().keys().cloned().collect();
        tokio::spawn(async move {
            let listed = kinds.into_iter().map(|kind| async {
                let listed = tokio::time::timeout(patience, environments.of(&kind)).await;
                let listed = listed.unwrap_or_else(|_| Err(Unavailable(format!("no answer within {patience:?}"))));
                (kind, listed)
            });
            me.tell(Message::Listed(futures::future::join_all(listed).await));
        });
    }

    /// Kinds that could not be listed keep the environments they had.
    fn note(&self, listed: Listed, state: &mut State) {
        let mut trouble = None;
        for (kind, listed) in listed {
            match listed {
                Ok(environments) => drop(state.environments.insert(kind, environments)),
                Err(error) => trouble = Some(format!("the environments of {kind}: {error}")),
            }
        }
        if let Some(why) = trouble.as_ref().filter(|_| state.trouble.is_none()) {
            warn!(why, "environments cannot be listed, going on with those that were");
        }
        state.trouble = trouble;
    }

    fn belongs_here(&self, state: &State) -> BTreeSet<WorkerId> {
        if state.leaving {
            return BTreeSet::new();
        }
        let all = state.environments.iter().flat_map(|(kind, environments)| {
            let worker = |(tenant, environment): &(Tenant, Environment)| {
                WorkerId::new(kind.clone(), tenant.clone(), environment.clone())
            };
            environments.iter().map(worker)
        });
        all.filter(|worker| self.shards.local(worker.shard(self.engine.shards)).is_some()).collect()
    }

    /// Starts what belongs here, stops what does not.
    async fn settle(&self, me: &Me<Message>, state: &mut State) -> Result<(), Fault> {
        // Read first: a change that comes meanwhile is settled by its own message.
        let changes = *self.shards.changes().borrow();
        let wanted = self.belongs_here(state);
        for (worker, running) in &mut state.running {
            if !wanted.contains(worker) && !running.stopping {
                running.stopping = true;
                self.local.take(worker);
                running.handle.tell(worker::Message::Stop);
            }
        }
        for worker in state.resting.iter().filter(|worker| !wanted.contains(*worker)) {
            self.local.take(worker);
            me.card().forget(&card_name(worker));
        }
        for worker in &wanted {
            let room = state.running.len() < self.limits.workers_max;
            if room && !state.running.contains_key(worker) && !state.resting.contains(worker) {
                self.begin(me, worker, state).await?;
            }
        }
        if state.environments.len() == self.local.kinds().len() {
            self.local.settle(changes);
        }
        let left_out = wanted.len().saturating_sub(state.running.len() + state.resting.len());
        if left_out > 0 {
            error!(
                left_out,
                limit = self.limits.workers_max,
                "workers are not started, the node has as many as it may"
            );
            me.card()
                .note_failure(format!("{left_out} workers are not started: the limit is {}", self.limits.workers_max));
        }
        if state.running.is_empty()
            && let Some(tell) = state.draining.take()
        {
            // Whoever asked may be gone.
            let _ = tell.send(());
        }
        Ok(())
    }

    async fn begin(&self, me: &Me<Message>, worker: &WorkerId, state: &mut State) -> Result<(), Fault> {
        let Some(kind) = self.local.kinds().get(&worker.kind) else { return Ok(()) };
        let shard = worker.shard(self.engine.shards);
        let shown = Arc::new(Mutex::new(worker::nothing_yet(worker, &self.engine.node, shard)));
        let name = card_name(worker);
        let card = match me.card().find(&name) {
            Some(card) => {
                card.note_restart(self.engine.now());
                card
            }
            None => Card::new(name, "worker", self.engine.now()),
        };
        me.card().adopt(card.clone());
        let actor = worker::WorkerActor {
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            worker: kind.clone(),
            id: worker.clone(),
            memory: self.memory.clone(),
            shown: shown.clone(),
        };
        let handle = shell::start(actor, card, Some(me.cell())).await?;
        info!(%worker, %shard, "worker started");
        state.worker_of.insert(handle.id(), worker.clone());
        state.running.insert(worker.clone(), Running { handle: handle.clone(), stopping: false });
        self.local.put(worker, Post { handle, shown });
        Ok(())
    }

    /// A worker's actor failed, which is a bug here or in `concerns`; what a run fails with never
    /// comes this far. Others go on.
    fn failed(
        &self,
        me: &Me<Message>,
        worker: &WorkerId,
        handle: &Handle<worker::Message>,
        why: String,
        state: &mut State,
    ) {
        let verdict =
            state.failures.entry(worker.clone()).or_default().failed(self.engine.now(), &self.limits.restarts);
        error!(%worker, why, ?verdict, "worker actor failed");
        handle.card().note_failure(why.clone());
        let (life, pause) = match verdict {
            Verdict::Again(pause) => (Life::Restarting, pause),
            Verdict::GiveUp => (Life::Parked, self.limits.restarts.within),
        };
        handle.card().set_life(life);
        if let Some(post) = self.local.find(worker) {
            let mut shown = post.shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.doing = Some(format!("its actor failed and starts again after {pause:?}: {why}"));
        }
        state.resting.insert(worker.clone());
        let (me, worker) = (me.clone(), worker.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            me.tell(Message::Forgive(worker));
        });
    }

    fn show(&self, me: &Me<Message>, state: &State) {
        let (kinds, count) = (self.local.kinds().len(), state.running.len());
        let trouble = state.trouble.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        me.card().doing(format!("{count} workers here, of {kinds} kinds{trouble}"));
    }
}

fn card_name(worker: &WorkerId) -> String {
    format!("worker {worker}")
}
