//! One shard: the owner of its journal and the supervisor of its sagas. Every message for a saga
//! comes through here; a saga is woken by the first and put to sleep when it rests.
//!
//! This file routes. `recovered` moves in after a takeover, `looked` asks the store about sagas that
//! ended, `door` lets in, `life` wakes, stops and restarts sagas, `shown` describes, `broken` keeps
//! those that cannot be rebuilt.

mod broken;
mod door;
mod life;
mod looked;
mod recovered;
mod shown;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use protocol::command::List;
use protocol::query::ShardView;
use protocol::view::{Outcome, SagaRow};
use protocol::{Code, DefinitionRef, Epoch, NodeId, Principal, Problem, SagaId, ShardId, Tenant, Time};
use ractor::{ActorCell, ActorId};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use crate::journal::anchor::Anchor;
use crate::machine::definition::Definition;
use crate::machine::{Driver, FactKind, Start};
use crate::ports::Position;
use crate::tree::card::Card;
use crate::tree::census::Census;
use crate::tree::engine::Engine;
use crate::tree::ground::Ground;
use crate::tree::journal::{self, JournalActor, Meters};
use crate::tree::progress::Relayed;
use crate::tree::recovery;
use crate::tree::relay::{self, RelayActor};
use crate::tree::reply::Reply;
use crate::tree::saga::{self, Seen};
use crate::tree::shell::{self, Behaviour, Fault, Handle, Me};
use crate::tree::slot::{Life, Told};
use crate::tree::slots::Slots;
use crate::tree::sweep::{Sweeper, Swept};
use crate::tree::timers::{self, TimersActor};

/// Which right a principal needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// To see it.
    View,
    /// To signal it or decide its tasks.
    Signal,
    /// To cancel it or release it.
    Cancel,
    /// The runtime itself, and workers whose token the saga checks.
    Internal,
}

/// What a shard is told.
pub enum Message {
    /// Start a saga. `outcome` is told how it ended.
    Start {
        /// Which saga.
        saga: SagaId,
        /// What starts it.
        start: Box<Start>,
        /// The version it runs.
        definition: Arc<Definition>,
        /// Told once the start is durable.
        accepted: Reply,
        /// Told once it ended.
        outcome: Option<Reply>,
    },
    /// Something happened to a saga.
    Fact {
        /// Which saga.
        saga: SagaId,
        /// What happened.
        fact: FactKind,
        /// Who says so, and what they need to be allowed.
        by: (Principal, Right),
        /// Told once it is durable.
        reply: Reply,
    },
    /// A remote worker is alive.
    Beat {
        /// Which saga.
        saga: SagaId,
        /// Names the attempt, and proves that it was asked for.
        token: String,
        /// Told whether the attempt is still wanted.
        reply: Reply,
    },
    /// A remote worker answered late.
    Answer {
        /// Which saga.
        saga: SagaId,
        /// Names the attempt, and proves that it was asked for.
        token: String,
        /// The answer.
        fact: FactKind,
        /// Who says so.
        by: Principal,
        /// Told once it is durable.
        reply: Reply,
    },
    /// Describe a saga once it has ended.
    Wait(SagaId, Principal, Reply),
    /// Describe a saga.
    Describe(SagaId, Principal, Reply),
    /// Show a saga's history.
    History(SagaId, Principal, Reply),
    /// List the tenant's sagas; with a principal, those that it may view.
    List(Tenant, Option<Principal>, List, tokio::sync::oneshot::Sender<Listed>),
    /// Describe the shard.
    View(tokio::sync::oneshot::Sender<ShardView>),
    /// Finish what is on its way and stop.
    Drain,

    /// From a timer that is due.
    Due {
        /// Whose.
        saga: Arc<SagaId>,
        /// Its number.
        timer: u64,
        /// Held until the saga has taken it in.
        under_way: timers::UnderWay,
    },
    /// From a saga that rests.
    Sleep {
        /// Which.
        saga: Arc<SagaId>,
        /// Which incarnation of it.
        actor: ActorId,
        /// How many of our messages it has seen.
        taken: u64,
        /// Its state.
        bytes: Bytes,
        /// Where it stands.
        seen: Seen,
    },
    /// From a saga that was asked, or has many records.
    Snapshot {
        /// Which.
        saga: Arc<SagaId>,
        /// Which incarnation of it.
        actor: ActorId,
        /// Its state.
        bytes: Bytes,
        /// How many records are in it.
        records: u64,
    },
    /// From a saga that ended.
    Ended {
        /// Which.
        saga: Arc<SagaId>,
        /// Which incarnation of it.
        actor: ActorId,
        /// How.
        outcome: Box<Outcome>,
        /// What is kept of it, stored.
        remains: Bytes,
        /// How many of our messages it has seen.
        taken: u64,
    },
    /// A saga whose first fact was refused never was.
    Discard(Arc<SagaId>),
    /// From a task that fetched a saga's state.
    Loaded {
        /// Which.
        saga: Arc<SagaId>,
        /// Its state.
        driver: Result<Box<Driver>, Problem>,
        /// Set when its actor failed too often: the last failure.
        park: Option<String>,
    },
    /// A broken saga was looked at again.
    Rebuilt {
        /// Which.
        saga: Arc<SagaId>,
        /// Its state, if it can be had.
        rebuilt: Result<Box<Driver>, Problem>,
        /// Who wanted it.
        reply: Reply,
    },
    /// The fact that a saga is parked is in the journal.
    Parked {
        /// Which.
        saga: Arc<SagaId>,
        /// Its state.
        driver: Box<Driver>,
    },
    /// Take back what was asked for a saga that could not be loaded, and try again.
    LoadAgain(Arc<SagaId>),
    /// Comes again, now that the pages were read that may have the saga it asks for.
    Looked(Box<looked::Looked>),
    /// From the journal: something is wrong with it, or not any more.
    Trouble(Option<String>),
    /// From the journal: another node owns the shard.
    Fenced {
        /// Who.
        by: NodeId,
    },
    /// From the journal, or from a sweep: what was durable is not there any more. The next takeover
    /// decides what that means.
    Lost(String),
    /// Everything that was on its way when the drain began is durable.
    Settled,
    /// Time to write down where the journal stands.
    Anchor {
        /// Also where it did not move: what was written down is lost.
        anew: bool,
    },
    /// Time to write changed sagas to the snapshot store.
    Sweep,
    /// A definition that sagas stand still for is there again.
    Redeployed(DefinitionRef),
    /// The sweep is done.
    Swept(Swept),
}

/// What a shard lists.
#[derive(Debug, Default)]
pub struct Listed {
    /// The newest first.
    pub rows: Vec<SagaRow>,
    /// What is not among them though it was asked for.
    pub missing: Option<String>,
}

/// The shard actor.
pub struct ShardActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Which shard.
    pub shard: ShardId,
    /// Under which epoch it was taken.
    pub epoch: Epoch,
}

/// What changes.
pub struct State {
    pub(super) slots: Slots,
    actors: HashMap<ActorId, Arc<SagaId>>,
    waiters: HashMap<Arc<SagaId>, Vec<(Shown, Reply)>>,
    words: Words,
    journal: Handle<journal::Message>,
    timers: Handle<timers::Message>,
    relay: Handle<relay::Message>,
    pub(super) meters: Arc<Meters>,
    pub(super) relayed: Arc<Relayed>,
    pub(super) sweeper: Sweeper,
    /// Turns of those who read pages.
    lookups: Arc<tokio::sync::Semaphore>,
    /// What the shard stands on.
    pub(super) ground: Ground,
    /// What is wrong with the journal, and since when.
    trouble: Option<(String, Time)>,
    draining: bool,
    /// Whether a drain has only its sweep to wait for.
    settled: bool,
    awake: u64,
    asleep: u64,
    census: Census,
    /// They remind of the sweep and of the anchor.
    alarms: [JoinHandle<()>; 2],
    /// Up to where the journal was written down beside the lease.
    anchored: Position,
}

/// Words said again and again, kept once.
#[derive(Default)]
struct Words(std::collections::HashSet<Arc<str>>);

impl Words {
    fn one(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.0.get(word) {
            return known.clone();
        }
        let word: Arc<str> = word.into();
        self.0.insert(word.clone());
        word
    }
}

impl Behaviour for ShardActor {
    type Message = Message;
    type State = State;

    async fn start(&self, me: &Me<Message>) -> Result<State, Fault> {
        me.card().doing(format!("taking over under epoch {}", self.epoch.0));
        let mut recovered = recovery::take_over(&self.engine, self.shard, self.epoch).await?;
        let (meters, relayed) = (Arc::new(Meters::default()), Arc::new(Relayed::new(recovered.mark.0.sent())));
        let now = self.engine.now();
        let cell = Some(me.cell());

        let card = Card::new("relay", "relay", now);
        me.card().adopt(card.clone());
        let relay = RelayActor {
            engine: self.engine.clone(),
            shard: self.shard,
            relayed: relayed.clone(),
            meters: meters.clone(),
        };
        let relay = shell::start(relay, card, cell.clone()).await?;

        let card = Card::new("journal", "journal", now);
        me.card().adopt(card.clone());
        let journal = JournalActor {
            engine: self.engine.clone(),
            shard: self.shard,
            header: recovered.header.clone(),
            position: recovered.position,
            digest: recovered.digest,
            relay: relay.clone(),
            owner: me.clone(),
            meters: meters.clone(),
        };
        let journal = shell::start(journal, card, cell.clone()).await?;

        let card = Card::new("timers", "timers", now);
        me.card().adopt(card.clone());
        let timers = TimersActor { engine: self.engine.clone(), owner: me.clone(), meters: meters.clone() };
        let timers = shell::start(timers, card, cell).await?;

        let limits = &self.engine.limits;
        let alarms = [
            alarm(me, limits.sweep_every, || Message::Sweep),
            alarm(me, limits.anchor_every, || Message::Anchor { anew: false }),
        ];
        let mut state = State {
            slots: Slots::default(),
            actors: HashMap::new(),
            waiters: HashMap::new(),
            words: Words::default(),
            journal,
            timers,
            relay,
            meters,
            relayed,
            sweeper: Sweeper::new(recovered.mark),
            lookups: Arc::new(tokio::sync::Semaphore::new(looked::LOOKUPS_AT_ONCE)),
            ground: std::mem::take(&mut recovered.ground),
            trouble: None,
            draining: false,
            settled: false,
            awake: 0,
            asleep: 0,
            census: Census::default(),
            alarms,
            anchored: recovered.position,
        };
        self.settle_in(me, recovered, &mut state).await?;
        state.meters.hear(self.engine.now());
        self.engine.pulses.begin(self.shard, state.meters.clone());
        me.card().doing(format!("owned under epoch {}", self.epoch.0));
        Ok(state)
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        let Some((message, brought_along)) = self.or_look_up(me, message, state) else { return Ok(()) };
        match message {
            Message::Start { saga, start, definition, accepted, outcome } => {
                self.begin(me, saga, start, definition, (accepted, outcome), state).await?;
            }
            Message::Fact { saga, fact, by: (_, Right::Internal), reply } if Self::is_unborn(&saga, &fact, state) => {
                self.give_up(me, saga, fact, reply, state);
            }
            Message::Fact { saga, fact, by, reply } => {
                let right = Self::right_to_say(&saga, &fact, by.1, state);
                if let Some((saga, reply)) = self.allowed(saga, &by.0, right, reply, state) {
                    self.tell(me, saga, Told::Fact(fact, reply), state).await?;
                }
            }
            Message::Answer { saga, token, fact, by, reply } => {
                if let Some((saga, reply)) = self.allowed(saga, &by, Right::Internal, reply, state) {
                    self.tell(me, saga, Told::Answer(token, fact, reply), state).await?;
                }
            }
            Message::Beat { saga, token, reply } => match state.slots.get_mut(&saga).map(|slot| &mut slot.life) {
                Some(Life::Awake { handle, .. }) => {
                    handle.tell(saga::Message::Beat(token, reply));
                }
                Some(Life::Loading { .. } | Life::Asleep(_) | Life::Ended(_)) | None => {
                    reply.refuse(Problem::new(Code::NotNow, "the attempt is not under way any more"));
                }
            },
            Message::Wait(saga, by, reply) => {
                if let Some((saga, reply)) = self.allowed(saga, &by, Right::View, reply, state) {
                    if matches!(state.slots[&saga].life, Life::Ended(_)) {
                        self.describe_stored(&saga, Shown::View, reply, state);
                    } else {
                        let waiters = state.waiters.entry(saga).or_default();
                        waiters.retain(|(_, waiter)| !waiter.is_gone());
                        waiters.push((Shown::View, reply));
                    }
                }
            }
            Message::Describe(saga, by, reply) => {
                if let Some((saga, reply)) = self.allowed(saga, &by, Right::View, reply, state) {
                    match &state.slots[&saga].life {
                        Life::Asleep(_) if state.slots[&saga].broken.is_some() => {
                            self.tell(me, saga, Told::Describe(reply), state).await?;
                        }
                        Life::Awake { .. } | Life::Loading { .. } => {
                            let reply = self.located(true, reply);
                            self.tell(me, saga, Told::Describe(reply), state).await?;
                        }
                        Life::Asleep(_) | Life::Ended(_) => self.describe_stored(&saga, Shown::View, reply, state),
                    }
                }
            }
            Message::History(saga, by, reply) => {
                let right = Self::right_to_read(&saga, state);
                if let Some((saga, reply)) = self.allowed(saga, &by, right, reply, state) {
                    self.history(&saga, reply, state);
                }
            }
            Message::List(tenant, by, list, tell) => {
                self.list(tenant, by, list, tell, state);
            }
            Message::View(tell) => {
                let _ = tell.send(self.view(state));
            }
            Message::Drain => {
                info!(shard = %self.shard, "draining");
                state.draining = true;
                me.card().doing("handing over");
                let (tell, told) = tokio::sync::oneshot::channel();
                state.journal.tell(journal::Message::Barrier(tell));
                let me = me.clone();
                tokio::spawn(async move {
                    if told.await.is_ok() {
                        me.tell(Message::Settled);
                    }
                });
            }
            Message::Settled => {
                state.settled = true;
                let tail = state.meters.position.load(Relaxed).saturating_sub(state.sweeper.mark().low_water);
                if tail <= self.engine.limits.drain_tail_max {
                    me.stop();
                } else {
                    self.sweep(me, state);
                }
            }
            Message::Due { saga, timer, under_way } => {
                if state.slots.contains_key(&saga) {
                    let told = Told::Fact(FactKind::TimerFired { timer }, Reply::holding(under_way));
                    self.tell(me, saga, told, state).await?;
                }
            }
            // What a former incarnation said is not so any more: its bytes are old.
            Message::Sleep { saga, actor, .. }
            | Message::Snapshot { saga, actor, .. }
            | Message::Ended { saga, actor, .. }
                if !state.slots.get(&saga).is_some_and(|slot| slot.is_run_by(actor)) => {}
            Message::Sleep { saga, actor: _, taken, bytes, seen } => {
                self.put_to_sleep(me, &saga, taken, bytes, &seen, state);
            }
            Message::Snapshot { saga, actor: _, bytes, records } => {
                if let Some(slot) = state.slots.get(&saga) {
                    let revision = slot.revision;
                    state.sweeper.give(saga, bytes, records, revision);
                    self.go_on_sweeping(me, state);
                }
            }
            Message::Ended { saga, actor: _, outcome, remains, taken } => {
                self.ended(me, &saga, (&outcome, remains), taken, state);
            }
            Message::Discard(saga) => {
                // Whoever would have waited for its end is told of the refusal instead.
                state.waiters.remove(&saga);
                if let Some(slot) = state.slots.remove(&saga)
                    && let Life::Awake { handle, .. } = slot.life
                {
                    self.dismiss(me, &handle, state);
                }
            }
            Message::Loaded { saga, driver, park } => self.loaded(me, saga, driver, park, state).await?,
            Message::Rebuilt { saga, rebuilt, reply } => self.rebuilt(me, saga, rebuilt, reply, state).await?,
            Message::Parked { saga, driver } => self.parked(me, saga, &driver, state).await?,
            Message::LoadAgain(saga) => self.load(me, &saga, None, Duration::ZERO, state),
            Message::Looked(_) => unreachable!("taken apart above"),
            Message::Trouble(trouble) => {
                self.engine.observer.trouble(self.shard, trouble.as_deref());
                let since = state.trouble.take().map_or_else(|| self.engine.now(), |(_, since)| since);
                state.trouble = trouble.map(|why| (why, since));
            }
            Message::Lost(why) => return Err(why.into()),
            Message::Fenced { by } => return Err(format!("fenced: {by} owns the shard now").into()),
            Message::Anchor { anew } => {
                state.meters.hear(self.engine.now());
                self.anchor(me, anew, state);
            }
            Message::Sweep => {
                self.look_for_definitions(me, state);
                self.sweep(me, state);
            }
            Message::Redeployed(which) => self.take_up(me, &which, state),
            Message::Swept(swept) => {
                self.swept(me, swept, state);
                if state.settled && !state.sweeper.is_busy() {
                    me.stop();
                } else {
                    self.go_on_sweeping(me, state);
                }
            }
        }
        if let Some(saga) = brought_along {
            state.see_off(&saga);
        }
        me.card().fold("sagas asleep", state.asleep);
        Ok(())
    }

    async fn child_ended(
        &self,
        me: &Me<Message>,
        child: ActorCell,
        failure: Option<String>,
        state: &mut State,
    ) -> Result<(), Fault> {
        let id = child.get_id();
        if let Some(saga) = state.actors.remove(&id) {
            if let Some(failure) = failure {
                self.saga_failed(me, &saga, failure, state);
            }
            return Ok(());
        }
        let services = [state.journal.cell(), state.timers.cell(), state.relay.cell()];
        if services.iter().any(|service| service.get_id() == id) {
            // Rest for one: everything in the shard builds on these three.
            return Err(format!("a service of the shard ended: {}", failure.unwrap_or_default()).into());
        }
        Ok(())
    }

    async fn stopped(&self, state: &mut State) {
        state.alarms.iter().for_each(JoinHandle::abort);
        self.engine.pulses.end(self.shard, &state.meters);
        // An orderly end leaves the very last frame beside the lease.
        if let Some(anchor) = self.stands(state)
            && let Err(error) = self.engine.journal.keep(self.shard, &anchor).await
        {
            debug!(shard = %self.shard, %error, "where the journal stands was not written down at the end");
        }
    }
}

impl ShardActor {
    /// Where the journal stands now.
    fn stands(&self, state: &State) -> Option<Anchor> {
        let (mark, revision) = state.sweeper.marked();
        state.ground.anchor(self.epoch, self.engine.now(), state.meters.last(), (&mark, revision))
    }

    /// Writes down beside the lease where the journal stands, if it moved. A sweep writes the same meanwhile,
    /// perhaps of a later mark: whichever is kept is true. A former owner hears by it that it is one.
    fn anchor(&self, me: &Me<Message>, anew: bool, state: &mut State) {
        let moved = |anchor: &Anchor| anew || anchor.position > state.anchored;
        let Some(anchor) = self.stands(state).filter(moved) else { return };
        state.anchored = anchor.position;
        let (engine, shard, me) = (self.engine.clone(), self.shard, me.clone());
        tokio::spawn(async move {
            match engine.journal.keep(shard, &anchor).await {
                Ok(true) => {}
                Ok(false) => drop(me.tell(Message::Lost("a later owner wrote down where its journal stands".into()))),
                Err(error) => {
                    debug!(%shard, %error, "where the journal stands was not written down, will try again");
                    tokio::time::sleep(engine.limits.anchor_every).await;
                    me.tell(Message::Anchor { anew: true });
                }
            }
        });
    }
}

/// Tells the shard `what` again and again, for as long as it lives.
fn alarm(me: &Me<Message>, every: Duration, what: fn() -> Message) -> JoinHandle<()> {
    let me = me.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            if !me.tell(what()) {
                return;
            }
        }
    })
}

/// What somebody wants to know of a saga.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    View,
    Outcome,
}

impl State {
    /// Whether the shard is being handed over, and nothing is on its way to the journal any more.
    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }
}
