//! Simulated nodes: the engine's real tree, one life after another, and the way between them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::{Code, NodeId, Principal, Problem, SagaId};
use supervisor::activities::Activities;
use supervisor::activity::Activity;
use supervisor::machine::{FactKind, Start};
use supervisor::ports::{Parcel, Unavailable};
use supervisor::tree::engine::{Engine, Limits, Seeds, Unobserved};
use supervisor::tree::reply::{Answer, Reply, moved};
use supervisor::tree::root::{self, ClusterLimits, RootActor, Shards};
use supervisor::tree::shard::{Message, Right};
use supervisor::tree::shell::Handle;
use supervisor::tree::turns::Turns;

use super::link::{Link, REQUEST_WITHIN, Weather};
use super::ports::{Library, Ports, SkewedClock};
use super::server::Server;
use super::world::World;

/// Attempts of one activity that run at once.
const ROOM: usize = 64;

/// What the nodes' activities are, made anew for each life.
pub type Offer = Box<dyn Fn(&Arc<Link>, &str) -> Vec<Arc<dyn Activity>> + Send + Sync>;

/// One life of a node.
#[derive(Clone)]
pub struct Life {
    /// Its way to everything else.
    pub link: Arc<Link>,
    /// Where it believes the shards are.
    pub shards: Arc<Shards>,
    /// The top of its tree.
    pub root: Handle<root::Message>,
}

/// The nodes and what they share.
pub struct Bus {
    /// The world outside.
    pub world: Arc<World>,
    /// The server.
    pub server: Arc<Server>,
    /// The definitions.
    pub library: Arc<Library>,
    /// How many shards there are.
    pub shards: u16,
    /// The weather in which new lives begin.
    pub weather: Mutex<Weather>,
    /// How wrong each node's clock is.
    pub ahead: Vec<Arc<AtomicI64>>,
    /// Chance in thousandths that a node dies as its frame becomes durable.
    pub dies_on_append: Arc<AtomicI64>,
    /// After how many more frames with records the node that wrote the last of them dies; 0 for never.
    pub dies_after: Arc<AtomicI64>,
    offer: Offer,
    names: Vec<NodeId>,
    lives: Mutex<Vec<Option<Life>>>,
    writers: AtomicU64,
    me: OnceLock<std::sync::Weak<Self>>,
}

impl Bus {
    /// A bus for `nodes` nodes, none of which lives yet.
    pub fn new(world: Arc<World>, library: Arc<Library>, (nodes, shards): (usize, u16), offer: Offer) -> Arc<Self> {
        let name = |number| NodeId::new(format!("n{number}")).expect("a letter and a digit are a name");
        let bus = Arc::new(Self {
            world,
            server: Arc::default(),
            library,
            shards,
            weather: Mutex::new(Weather::FAIR),
            ahead: (0..nodes).map(|_| Arc::default()).collect(),
            dies_on_append: Arc::default(),
            dies_after: Arc::default(),
            offer,
            names: (0..nodes).map(name).collect(),
            lives: Mutex::new((0..nodes).map(|_| None).collect()),
            writers: AtomicU64::new(1),
            me: OnceLock::new(),
        });
        // Set once, right here.
        let _ = bus.me.set(Arc::downgrade(&bus));
        bus
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.names.len()
    }

    /// A node's name.
    pub fn name(&self, node: usize) -> &NodeId {
        &self.names[node]
    }

    /// The present life of a node, if it has one.
    pub fn life(&self, node: usize) -> Option<Life> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)[node].clone().filter(|life| life.link.lives())
    }

    /// Begins a new life of a node.
    pub async fn start(&self, node: usize) {
        let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        let link = Link::new(&self.world, weather);
        let bus = self.me.get().and_then(std::sync::Weak::upgrade).expect("the bus lives while it is used");
        let ports = Arc::new(Ports {
            link: link.clone(),
            server: self.server.clone(),
            world: self.world.clone(),
            writer: self.writers.fetch_add(1, Relaxed),
            read: Mutex::new(HashMap::new()),
            bus,
            dies_on_append: self.dies_on_append.clone(),
            dies_after: self.dies_after.clone(),
        });
        let mut activities = Activities::new();
        for activity in (self.offer)(&link, self.names[node].as_str()) {
            activities.add(activity, ROOM).expect("their names differ");
        }
        let limits = Limits {
            sweep_every: Duration::from_millis(500 + self.world.roll(4_000)),
            snapshot_every_records: 2 + self.world.roll(12),
            sleep_horizon: Duration::from_millis(self.world.roll(800)),
            refused_for: Duration::from_millis(500),
            decision_threads: None,
            ..Limits::default()
        };
        let engine = Arc::new(Engine {
            node: self.names[node].clone(),
            shards: self.shards,
            limits,
            clock: Arc::new(SkewedClock { world: self.world.clone(), ahead: self.ahead[node].clone() }),
            journal: ports.clone(),
            snapshots: ports.clone(),
            outbox: ports.clone(),
            events: ports.clone(),
            peers: ports.clone(),
            definitions: self.library.clone(),
            activities,
            remote: ports.clone(),
            seeds: Seeds::new(self.world.roll(u64::MAX)),
            observer: Arc::new(Unobserved),
            pulses: Arc::default(),
            turns: Turns::new(1),
        });
        let shards = Arc::new(Shards::default());
        let (last_word, _) = tokio::sync::mpsc::unbounded_channel();
        let root = RootActor {
            engine,
            cluster: ports,
            limits: ClusterLimits::default(),
            info: Bytes::new(),
            shards: shards.clone(),
            services: Vec::new(),
            last_word,
        };
        let root = root::start(root).await.expect("a root starts");
        let life = Life { link, shards, root };
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)[node] = Some(life);
    }

    /// Ends a node's life at once.
    pub fn kill(&self, node: usize) {
        let life = self.lives.lock().unwrap_or_else(PoisonError::into_inner)[node].take();
        if let Some(life) = life {
            // First nothing reaches it, then it is swept away.
            life.link.die();
            life.root.kill();
        }
    }

    /// Speaks to the shard of `saga` as `node` sees it, and over one hop where it believes the owner
    /// to be, as the command service does. `from` is the way of whoever asks.
    pub async fn command(
        &self,
        from: &Arc<Link>,
        node: usize,
        saga: &SagaId,
        message: &(dyn Fn(Reply) -> Message + Send + Sync),
    ) -> Answer {
        let shard = saga.shard(self.shards);
        let Some(asked) = self.life(node) else { return Err(moved()) };
        if asked.shards.local(shard).is_some() {
            return self.hop(from, &asked, saga, message).await;
        }
        let owner = asked.shards.owner(shard);
        let owner = owner.and_then(|owner| self.names.iter().position(|name| *name == owner));
        let Some(owner) = owner.and_then(|owner| self.life(owner)) else { return Err(moved()) };
        self.hop(from, &owner, saga, message).await
    }

    async fn hop(
        &self,
        from: &Arc<Link>,
        to: &Life,
        saga: &SagaId,
        message: &(dyn Fn(Reply) -> Message + Send + Sync),
    ) -> Answer {
        let silent = || Problem::new(Code::Timeout, "no answer");
        let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        from.ask(|| ()).await.map_err(|_| silent())?;
        let arrived = tokio::time::timeout(REQUEST_WITHIN, to.link.runs()).await;
        arrived.map_err(|_| silent())?;
        let Some(shard) = to.shards.local(saga.shard(self.shards)) else { return Err(moved()) };
        let (reply, told) = Reply::channel();
        shard.tell(message(reply));
        let answer = tokio::time::timeout(REQUEST_WITHIN, told).await.map_err(|_| silent())?;
        let answer = answer.unwrap_or_else(|_| Err(moved()));
        // The answer of a node that died or stands still is not heard.
        tokio::time::timeout(REQUEST_WITHIN, to.link.runs()).await.map_err(|_| silent())?;
        if from.chance(weather.unanswered) {
            return Err(silent());
        }
        from.ask(|| ()).await.map_err(|_| silent())?;
        answer
    }

    /// Brings a parcel from one saga to another.
    pub async fn deliver(&self, from: &Arc<Link>, to: &SagaId, parcel: &Parcel) -> Result<(), Unavailable> {
        let node = usize::try_from(from.roll(self.nodes() as u64)).unwrap_or(0);
        let by = Principal::new("skald").expect("a word is a principal");
        let answer = match parcel {
            _ if self.server.inner().turns_back(to, parcel) => {
                Err(Problem::new(Code::TooLarge, "the simulated bus does not carry so much"))
            }
            Parcel::Child { definition, input, parent, by, trace, causes, family, pinned: _ } => {
                let found = self.library.by_reference.values().find(|known| known.name() == definition);
                let Some(definition) = found.cloned() else { return Ok(()) };
                let start = Start {
                    definition: definition.reference().clone(),
                    input: input.clone(),
                    by: by.clone(),
                    trace: trace.clone(),
                    cause: format!("{}/{}", to.tenant, parent.0),
                    causes: *causes,
                    parent: Some(parent.clone()),
                    family: family.clone(),
                    secret: None,
                };
                let message = |accepted| Message::Start {
                    saga: to.clone(),
                    start: Box::new(start.clone()),
                    definition: definition.clone(),
                    accepted,
                    outcome: None,
                };
                self.command(from, node, to, &message).await
            }
            Parcel::ChildEnded { .. } | Parcel::Cancel { .. } => {
                let fact = parcel.fact().expect("what is no start is a fact");
                self.fact(from, node, to, fact, (by, Right::Internal)).await
            }
        };
        match answer {
            Ok(_) => Ok(()),
            Err(problem) if matches!(problem.code, Code::Unavailable | Code::Busy | Code::Timeout) => {
                Err(Unavailable(problem.message))
            }
            Err(problem) => match parcel.refused(to, &problem) {
                Some((home, ended)) => Box::pin(self.deliver(from, &home, &ended)).await,
                None => Ok(()),
            },
        }
    }

    /// Tells a saga a fact.
    pub async fn fact(
        &self,
        from: &Arc<Link>,
        node: usize,
        saga: &SagaId,
        fact: FactKind,
        by: (Principal, Right),
    ) -> Answer {
        let message = |reply| Message::Fact { saga: saga.clone(), fact: fact.clone(), by: by.clone(), reply };
        self.command(from, node, saga, &message).await
    }
}
