//! The root of a node's tree. It supervises the shards that the node owns and the node's services,
//! and carries out what the membership plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::{Epoch, ShardId};
use ractor::{ActorCell, ActorId};
use tracing::{error, info, warn};

use super::card::Card;
use super::engine::Engine;
use super::ground::Stopped;
use super::own::own_event;
use super::service::ServiceActor;
use super::shard::{self, ShardActor};
use super::shell::{self, Behaviour, Fault, Handle, Me};
use crate::machine::membership::{Membership, Move, plan};
use crate::machine::restart::{Failures, Intensity, Strategy, Verdict};
use crate::ports::{AnnounceError, Beat, Cluster, Lease};

pub use super::service::{Service, StartActor, StartService, StartWith};
pub use super::shards::Shards;

/// The pause after a look that a changed lease has asked for: several change together.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Settings of membership.
#[derive(Clone, Debug)]
pub struct ClusterLimits {
    /// How often a node says that it is alive, and looks at the others.
    pub beat_every: Duration,
    /// A node whose beat stays the same for this long is taken for dead. Several beats, so that one
    /// slow fsync is no death; a second, so that half of all takeovers make progress within one and
    /// a half.
    pub dead_after: Duration,
    /// How often a failing shard or service is started again.
    pub restarts: Intensity,
}

impl Default for ClusterLimits {
    fn default() -> Self {
        Self {
            beat_every: Duration::from_millis(200),
            dead_after: Duration::from_secs(1),
            restarts: Intensity { restarts: 10, ..Intensity::default() },
        }
    }
}

/// What the root is told.
pub enum Message {
    /// Time to beat and look.
    Tick,
    /// What was seen.
    Looked(Result<(Vec<Beat>, Vec<Lease>), String>),
    /// Another process goes by this node's name.
    Taken(String),
    /// A claim was answered.
    Claimed(ShardId, Result<Option<Epoch>, String>),
    /// A shard's takeover ended.
    Started(ShardId, Epoch, Result<Handle<shard::Message>, NotStarted>),
    /// A shard that gave up may be tried again.
    Forgive(ShardId),
    /// Start a service again.
    StartService(usize),
    /// Hand everything over and tell when that is done. The root then only looks where shards are,
    /// for commands that are still on their way through this node, until it is stopped.
    Drain(tokio::sync::oneshot::Sender<()>),
}

/// Why a shard did not start.
#[derive(Debug)]
pub enum NotStarted {
    /// It may go better the next time, or elsewhere.
    Failed(String),
    /// Its journal is not what was left. It stays stopped until that changes or is accepted.
    Stopped(Stopped),
}

impl From<ractor::SpawnErr> for NotStarted {
    fn from(error: ractor::SpawnErr) -> Self {
        let stopped = match &error {
            ractor::SpawnErr::StartupFailed(why) => why.downcast_ref::<Stopped>().cloned(),
            ractor::SpawnErr::ActorAlreadyStarted | ractor::SpawnErr::ActorAlreadyRegistered(_) => None,
        };
        stopped.map_or_else(|| Self::Failed(error.to_string()), Self::Stopped)
    }
}

/// How often a stopped shard looks whether what was there is back: a few questions, so soon enough
/// for whoever restores it.
const STOPPED_AGAIN: Duration = Duration::from_secs(2);

/// The root actor.
pub struct RootActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Who is alive and who owns what.
    pub cluster: Arc<dyn Cluster>,
    /// Settings.
    pub limits: ClusterLimits,
    /// What this node tells the others about itself.
    pub info: Bytes,
    /// Where shards are; shared with those who route.
    pub shards: Arc<Shards>,
    /// What is to run besides shards.
    pub services: Vec<Service>,
    /// Told the last word when the root gives up.
    pub last_word: tokio::sync::mpsc::UnboundedSender<String>,
}

struct Owned {
    epoch: Epoch,
    handle: Option<Handle<shard::Message>>,
    handing_over: bool,
}

/// What changes.
pub struct State {
    membership: Membership,
    began: tokio::time::Instant,
    shards: BTreeMap<ShardId, Owned>,
    shard_of: BTreeMap<u64, ShardId>,
    claiming: BTreeSet<ShardId>,
    sitting_out: BTreeSet<ShardId>,
    failures: BTreeMap<ShardId, Failures>,
    services: Vec<(Option<ActorId>, Failures)>,
    looking: bool,
    /// Something changed while it looked.
    look_again: bool,
    trouble: bool,
    draining: Option<tokio::sync::oneshot::Sender<()>>,
    /// Set for good by `Drain`: this node takes nothing any more.
    leaving: bool,
    ticker: tokio::task::JoinHandle<()>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Behaviour for RootActor {
    type Message = Message;
    type State = State;

    async fn start(&self, me: &Me<Message>) -> Result<State, Fault> {
        let (every, to) = (self.limits.beat_every, me.clone());
        let ticker = tokio::spawn(async move {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                if !to.tell(Message::Tick) {
                    return;
                }
            }
        });
        // A lease that was given back is claimed at once and not at the next beat.
        let (cluster, to) = (self.cluster.clone(), me.clone());
        let watcher = tokio::spawn(async move {
            loop {
                cluster.changed().await;
                if !to.tell(Message::Tick) {
                    return;
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        });
        let mut state = State {
            membership: Membership::new(self.limits.dead_after),
            began: tokio::time::Instant::now(),
            shards: BTreeMap::new(),
            shard_of: BTreeMap::new(),
            claiming: BTreeSet::new(),
            sitting_out: BTreeSet::new(),
            failures: BTreeMap::new(),
            services: self.services.iter().map(|_| (None, Failures::default())).collect(),
            looking: false,
            look_again: false,
            trouble: false,
            draining: None,
            leaving: false,
            ticker,
            watcher,
        };
        for index in 0..self.services.len() {
            self.start_service(me, index, &mut state).await?;
        }
        Ok(state)
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Tick => self.look(me, state),
            Message::Looked(seen) => {
                state.looking = false;
                if std::mem::take(&mut state.look_again) {
                    self.look(me, state);
                }
                match seen {
                    Ok((beats, leases)) => self.act(me, &beats, &leases, state),
                    Err(why) => {
                        if !state.trouble {
                            warn!(why, "the cluster cannot be seen, going on with what this node owns");
                        }
                        state.trouble = true;
                        self.shards.set_trouble(Some(why.clone()));
                        me.card().doing(format!("cannot see the cluster: {why}"));
                    }
                }
            }
            Message::Taken(why) => {
                error!(why, "another node has this name, this one ends");
                // Nobody listens any more: the process is ending anyway.
                let _ = self.last_word.send(why);
                me.stop();
            }
            Message::Claimed(shard, answer) => self.claimed(me, shard, answer, state),
            Message::Started(shard, epoch, started) => self.shard_started(me, shard, epoch, started, state),
            Message::Forgive(shard) => {
                state.sitting_out.remove(&shard);
            }
            Message::StartService(index) => self.start_service(me, index, state).await?,
            Message::Drain(tell) => {
                info!(node = %self.engine.node, "draining");
                state.draining = Some(tell);
                state.leaving = true;
                let running: Vec<ShardId> = state.shards.keys().copied().collect();
                for shard in running {
                    self.hand_over(shard, state);
                }
                self.maybe_leave(me, state);
            }
        }
        Ok(())
    }

    async fn child_ended(
        &self,
        me: &Me<Message>,
        child: ActorCell,
        failure: Option<String>,
        state: &mut State,
    ) -> Result<(), Fault> {
        if let Some(shard) = state.shard_of.remove(&child.get_id().pid()) {
            self.shard_ended(me, shard, failure, state);
            return Ok(());
        }
        let service = state.services.iter().position(|(id, _)| *id == Some(child.get_id()));
        let Some(index) = service else { return Ok(()) };
        state.services[index].0 = None;
        let why = failure.unwrap_or_else(|| "it ended".into());
        let name = self.services[index].name;
        match state.services[index].1.failed(self.engine.now(), &self.limits.restarts) {
            Verdict::Again(pause) => {
                warn!(service = name, why, "service ended, will be started again");
                let me = me.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    me.tell(Message::StartService(index));
                });
            }
            Verdict::GiveUp => {
                error!(service = name, why, "service fails again and again, the node ends");
                // Nobody listens any more: the process is ending anyway.
                let _ = self.last_word.send(format!("service {name} fails again and again: {why}"));
                me.stop();
            }
        }
        Ok(())
    }

    async fn stopped(&self, state: &mut State) {
        state.ticker.abort();
        state.watcher.abort();
    }
}

impl RootActor {
    fn look(&self, me: &Me<Message>, state: &mut State) {
        if state.looking {
            state.look_again = true;
            return;
        }
        state.looking = true;
        let (cluster, node, info, me) = (self.cluster.clone(), self.engine.node.clone(), self.info.clone(), me.clone());
        let draining = state.leaving;
        tokio::spawn(async move {
            let look = async {
                if !draining {
                    cluster.announce(&node, info).await?;
                }
                Ok::<_, AnnounceError>((cluster.beats().await?, cluster.leases().await?))
            };
            me.tell(match look.await {
                Err(AnnounceError::Taken(why)) => Message::Taken(why),
                Err(AnnounceError::Unavailable(error)) => Message::Looked(Err(error.to_string())),
                Ok(seen) => Message::Looked(Ok(seen)),
            });
        });
    }

    fn act(&self, me: &Me<Message>, beats: &[Beat], leases: &[Lease], state: &mut State) {
        if std::mem::take(&mut state.trouble) {
            info!("the cluster can be seen again");
            self.shards.set_trouble(None);
            me.card().doing("");
        }
        let live = state.membership.observe(beats, state.began.elapsed());
        for lease in leases {
            match lease.owner.as_ref().filter(|owner| live.contains(*owner)) {
                Some(owner) => {
                    self.shards.owners.insert(lease.shard, owner.clone());
                    if *owner != self.engine.node {
                        // Whoever has it knows how it is.
                        self.shards.go_on(lease.shard);
                    }
                }
                None => {
                    self.shards.owners.remove(&lease.shard);
                }
            }
        }
        *self.shards.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = live.clone();
        if state.leaving {
            return;
        }
        let running = state.shards.iter().map(|(shard, owned)| (*shard, owned.epoch)).collect();
        for step in plan(&self.engine.node, self.engine.shards, &live, leases, &running) {
            match step {
                Move::Claim(shard, over) => self.claim(me, shard, over, state),
                Move::HandOver(shard) => self.hand_over(shard, state),
                Move::Stop(shard) => {
                    if let Some(handle) = state.shards.get(&shard).and_then(|owned| owned.handle.as_ref()) {
                        warn!(%shard, "another node holds the lease, stopping");
                        handle.stop();
                    }
                }
            }
        }
    }

    fn claim(&self, me: &Me<Message>, shard: ShardId, over: Epoch, state: &mut State) {
        if state.sitting_out.contains(&shard) || !state.claiming.insert(shard) {
            return;
        }
        let (cluster, node, me) = (self.cluster.clone(), self.engine.node.clone(), me.clone());
        tokio::spawn(async move {
            let claimed = cluster.claim(shard, &node, over).await.map_err(|error| error.to_string());
            me.tell(Message::Claimed(shard, claimed));
        });
    }

    fn claimed(&self, me: &Me<Message>, shard: ShardId, answer: Result<Option<Epoch>, String>, state: &mut State) {
        match answer {
            Ok(Some(epoch)) => {
                state.shards.insert(shard, Owned { epoch, handle: None, handing_over: false });
                let card = Card::supervising(
                    format!("shard {shard}"),
                    "shard",
                    Some(Strategy::RestForOne.word()),
                    self.engine.now(),
                );
                me.card().adopt(card.clone());
                let actor = ShardActor { engine: self.engine.clone(), shard, epoch };
                let me = me.clone();
                tokio::spawn(async move {
                    let started = shell::start(actor, card, Some(me.cell())).await;
                    me.tell(Message::Started(shard, epoch, started.map_err(NotStarted::from)));
                });
            }
            Ok(None) => {
                state.claiming.remove(&shard);
            }
            Err(why) => {
                warn!(%shard, why, "claim not answered, will try again");
                state.claiming.remove(&shard);
            }
        }
    }

    fn shard_started(
        &self,
        me: &Me<Message>,
        shard: ShardId,
        epoch: Epoch,
        started: Result<Handle<shard::Message>, NotStarted>,
        state: &mut State,
    ) {
        state.claiming.remove(&shard);
        match started {
            Ok(handle) if handle.cell().get_status() < ractor::ActorStatus::Stopping => {
                state.shard_of.insert(handle.cell().get_id().pid(), shard);
                if self.shards.go_on(shard) {
                    info!(%shard, "what the shard stands on is there again, it goes on");
                    self.say("ShardResumed", shard, serde_json::json!({}));
                }
                self.shards.gain(shard, handle.clone());
                self.shards.owners.insert(shard, self.engine.node.clone());
                state.shards.insert(shard, Owned { epoch, handle: Some(handle), handing_over: false });
                if state.leaving {
                    self.hand_over(shard, state);
                }
            }
            Ok(_) => self.shard_ended(me, shard, Some("it ended while it started".into()), state),
            Err(NotStarted::Failed(why)) => self.shard_ended(me, shard, Some(why), state),
            Err(NotStarted::Stopped(stopped)) => self.shard_stopped(me, shard, &stopped, state),
        }
    }

    /// The shard's journal is not what was left: it is told once, and looked at again and again. The
    /// lease is given back, so that every node sees a shard without an owner.
    fn shard_stopped(&self, me: &Me<Message>, shard: ShardId, stopped: &Stopped, state: &mut State) {
        me.card().forget(&format!("shard {shard}"));
        if let Some(owned) = state.shards.remove(&shard) {
            self.release(shard, owned.epoch);
        }
        if self.shards.stop(shard, stopped.to_string()) {
            error!(%shard, why = %stopped.loss, mend = stopped.mend, "the shard is stopped: its journal is not the one that was left");
            me.card().note_failure(format!("shard {shard} is stopped: {stopped}"));
            let told = serde_json::json!({"why": stopped.loss.to_string(), "mend": stopped.mend});
            self.say("ShardStopped", shard, told);
        }
        state.sitting_out.insert(shard);
        let again = me.clone();
        tokio::spawn(async move {
            tokio::time::sleep(STOPPED_AGAIN).await;
            again.tell(Message::Forgive(shard));
        });
        self.maybe_leave(me, state);
    }

    /// Publishes an event of the runtime's own. It can be lost with what it speaks of, so health says
    /// the same for as long as it is so.
    fn say(&self, event_type: &str, shard: ShardId, mut payload: serde_json::Value) {
        payload["shard"] = shard.0.into();
        payload["node"] = self.engine.node.to_string().into();
        let random = (self.engine.seeds.next(), self.engine.seeds.next());
        let event = own_event(event_type, format!("shard-{shard}"), payload, self.engine.now(), random);
        let outbox = self.engine.outbox.clone();
        tokio::spawn(async move {
            if let Err(error) = outbox.publish(&event).await {
                warn!(%error, event = event.event_type, "an event about the runtime itself could not be published");
            }
        });
    }

    fn hand_over(&self, shard: ShardId, state: &mut State) {
        let Some(owned) = state.shards.get_mut(&shard) else { return };
        if let Some(handle) = &owned.handle
            && !owned.handing_over
        {
            owned.handing_over = true;
            // From here on commands wait for the next owner instead of being refused.
            self.shards.lose(shard);
            handle.tell(shard::Message::Drain);
        }
    }

    fn shard_ended(&self, me: &Me<Message>, shard: ShardId, failure: Option<String>, state: &mut State) {
        self.shards.lose(shard);
        self.engine.observer.trouble(shard, None);
        me.card().forget(&format!("shard {shard}"));
        let Some(owned) = state.shards.remove(&shard) else { return };
        if let Some(why) = failure {
            warn!(%shard, why, "shard ended");
            me.card().note_failure(format!("shard {shard}: {why}"));
            let failures = state.failures.entry(shard).or_default();
            let pause = match failures.failed(self.engine.now(), &self.limits.restarts) {
                Verdict::Again(pause) => pause,
                // Another node may have better luck; this one sits out for the window.
                Verdict::GiveUp => {
                    error!(%shard, "shard fails again and again here, giving it back");
                    self.release(shard, owned.epoch);
                    self.limits.restarts.within
                }
            };
            state.sitting_out.insert(shard);
            let me = me.clone();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                me.tell(Message::Forgive(shard));
            });
        } else if owned.handing_over {
            info!(%shard, "shard handed over");
            self.release(shard, owned.epoch);
        }
        self.maybe_leave(me, state);
    }

    fn release(&self, shard: ShardId, epoch: Epoch) {
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            if let Err(error) = cluster.release(shard, epoch).await {
                warn!(%shard, %error, "lease not given back; the others see it when this node is gone");
            }
        });
    }

    fn maybe_leave(&self, me: &Me<Message>, state: &mut State) {
        if state.shards.is_empty()
            && let Some(tell) = state.draining.take()
        {
            let (cluster, node) = (self.cluster.clone(), self.engine.node.clone());
            me.card().doing("has handed everything over");
            tokio::spawn(async move {
                if let Err(error) = cluster.leave(&node).await {
                    warn!(%error, "did not say goodbye; the others will notice");
                }
                // Whoever asked may be gone.
                let _ = tell.send(());
            });
        }
    }

    async fn start_service(&self, me: &Me<Message>, index: usize, state: &mut State) -> Result<(), Fault> {
        let Service { name, start } = self.services[index].clone();
        let cell = match start {
            StartWith::Future(start) => {
                let card = Card::new(name, "service", self.engine.now());
                me.card().adopt(card.clone());
                shell::start(ServiceActor { start }, card, Some(me.cell())).await?.cell()
            }
            StartWith::Actor(start) => {
                let card = Card::supervising(name, "service", Some(Strategy::OneForOne.word()), self.engine.now());
                me.card().adopt(card.clone());
                start(card, me.cell()).await?
            }
        };
        state.services[index].0 = Some(cell.get_id());
        Ok(())
    }
}

/// Starts a node's tree.
pub async fn start(root: RootActor) -> Result<Handle<Message>, ractor::SpawnErr> {
    let card =
        Card::supervising(root.engine.node.to_string(), "node", Some(Strategy::OneForOne.word()), root.engine.now());
    shell::start(root, card, None).await
}
