//! What the tree's tests share: one shard over ports that live in memory, in time that only passes
//! when everything waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use protocol::view::{SagaView, Status};
use protocol::{DefinitionRef, Envelope, Epoch, NodeId, Principal, SagaId, ShardId, Tenant, Time, TraceId, Value};
use supervisor::activities::Activities;
use supervisor::activity::{Activity, Attempt, Failure};
use supervisor::journal::anchor::{Accepted, Anchor, Stream};
use supervisor::machine::definition::Definition;
use supervisor::machine::{FactKind, Start};
use supervisor::ports::*;
use supervisor::tree::card::Card;
use supervisor::tree::engine::{Engine, Limits, Seeds, Unobserved};
use supervisor::tree::recovery::{MARK, Mark};
use supervisor::tree::reply::{Answer, Reply};
use supervisor::tree::root::NotStarted;
use supervisor::tree::shard::{Message, Right, ShardActor};
use supervisor::tree::shell::{self, Handle};
use supervisor::tree::turns::Turns;

pub const SHARD: ShardId = ShardId(0);
/// Noon of an ordinary day.
pub const NOON: i64 = 1_767_268_800_000_000;

pub fn define(source: &str) -> Arc<Definition> {
    match Definition::parse(source, "test.yaml") {
        Ok((definition, _)) => Arc::new(definition),
        Err(faults) => panic!("{faults}"),
    }
}

pub fn saga(key: &str) -> SagaId {
    format!("acme/{key}").parse().unwrap()
}

/// Everything outside the shard.
pub struct Outside {
    began: tokio::time::Instant,
    /// What the wall clock is ahead of the time that passed.
    pub ahead: Mutex<Duration>,
    pub frames: Mutex<BTreeMap<Position, Bytes>>,
    pub values: Mutex<BTreeMap<String, (u64, Bytes)>>,
    revisions: AtomicUsize,
    /// When the journal's stream was made, in microseconds; 0: there is none.
    pub born: Mutex<i64>,
    /// The last sequence that it gave out.
    pub last: AtomicUsize,
    /// The last position that the node saw.
    pub known: AtomicUsize,
    /// The first sequence that it may still hold.
    pub first: AtomicUsize,
    pub anchor: Mutex<Option<Anchor>>,
    pub accepted: Mutex<Option<Accepted>>,
    /// Appends wait while this is set.
    pub journal_held: AtomicBool,
    /// Parcels are not taken while this is set.
    pub peers_away: AtomicBool,
    /// Names of values that the store refuses, and removals that fail: by prefix.
    pub refused: Mutex<Vec<String>>,
    pub unremovable: Mutex<Vec<String>>,
    /// The next write of this name waits until it is let go.
    pub held: Mutex<Option<String>>,
    pub let_go: tokio::sync::Notify,
    /// Names of values that cannot be read now: by prefix.
    pub unreadable: Mutex<Vec<String>>,
    /// Names of values that were read one by one.
    pub read: Mutex<Vec<String>>,
    /// Definitions that are not stored any more.
    pub lost: Mutex<Vec<String>>,
    pub events: Mutex<Vec<Envelope>>,
    /// The place of each event, and when it was kept.
    pub places: Mutex<Vec<(Place, tokio::time::Instant)>>,
    /// How long the event stream knows an id again.
    pub window: Mutex<Duration>,
    /// Acknowledgements of the event stream do not come while this is set.
    pub events_deaf: AtomicBool,
    /// Types of events that the stream refuses for good.
    pub refused_events: Mutex<Vec<String>>,
    /// Events that were buried, with the reason.
    pub buried: Mutex<Vec<(Envelope, Place, String)>>,
    /// Dead letters: tenant, reason, why, and the whole.
    pub dead: Mutex<Vec<(String, String, String, Bytes)>>,
    pub parcels: Mutex<Vec<(SagaId, Parcel)>>,
    definitions: Vec<Arc<Definition>>,
}

impl Outside {
    pub fn new(definitions: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            began: tokio::time::Instant::now(),
            ahead: Mutex::default(),
            frames: Mutex::default(),
            values: Mutex::default(),
            revisions: AtomicUsize::new(0),
            born: Mutex::new(NOON),
            last: AtomicUsize::new(0),
            known: AtomicUsize::new(0),
            first: AtomicUsize::new(1),
            anchor: Mutex::default(),
            accepted: Mutex::default(),
            journal_held: AtomicBool::new(false),
            peers_away: AtomicBool::new(false),
            refused: Mutex::default(),
            unremovable: Mutex::default(),
            held: Mutex::default(),
            let_go: tokio::sync::Notify::new(),
            unreadable: Mutex::default(),
            read: Mutex::default(),
            lost: Mutex::default(),
            events: Mutex::default(),
            places: Mutex::default(),
            window: Mutex::new(Duration::from_secs(120)),
            events_deaf: AtomicBool::new(false),
            refused_events: Mutex::default(),
            buried: Mutex::default(),
            dead: Mutex::default(),
            parcels: Mutex::default(),
            definitions: definitions.iter().map(|source| define(source)).collect(),
        })
    }

    /// Names in the snapshot store that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.values.lock().unwrap().keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// Whether a sweep has moved the mark.
    pub fn is_written_down(&self) -> bool {
        let values = self.values.lock().unwrap();
        let mark = values.get(MARK).and_then(|(_, bytes)| protocol::codec::load::<Mark>(bytes).ok());
        mark.is_some_and(|mark| mark.low_water > 0)
    }

    /// How many pages of ended sagas were read since this was asked last.
    pub fn pages_read(&self) -> usize {
        let read = std::mem::take(&mut *self.read.lock().unwrap());
        read.iter().filter(|name| name.starts_with(PAGE_PREFIX)).count()
    }

    /// Frames up to `position` grow too old and are cut from the journal.
    pub fn cut(&self, position: Position) {
        self.frames.lock().unwrap().retain(|at, _| *at > position);
        self.first.store(position as usize + 1, SeqCst);
    }

    fn is_listed(list: &Mutex<Vec<String>>, name: &str) -> bool {
        list.lock().unwrap().iter().any(|prefix| name.starts_with(prefix))
    }
}

impl Clock for Outside {
    fn now(&self) -> Time {
        Time::from_micros(NOON).after(self.began.elapsed()).after(*self.ahead.lock().unwrap())
    }
}

#[async_trait]
impl Journal for Outside {
    async fn append(&self, _: ShardId, frame: Bytes, expected: Position, _: &str) -> Result<Position, AppendError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        while self.journal_held.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut frames = self.frames.lock().unwrap();
        let last = frames.last_key_value().map_or(0, |(position, _)| *position);
        if last != expected {
            return Err(AppendError::Conflict);
        }
        let next = last.max(self.last.load(SeqCst) as u64) + 1;
        frames.insert(next, frame);
        Ok(next)
    }

    async fn last(&self, _: ShardId) -> Result<Option<(Position, Bytes)>, Unavailable> {
        let frames = self.frames.lock().unwrap();
        Ok(frames.last_key_value().map(|(position, frame)| (*position, frame.clone())))
    }

    async fn get(&self, _: ShardId, position: Position) -> Result<Option<Bytes>, Unavailable> {
        Ok(self.frames.lock().unwrap().get(&position).cloned())
    }

    fn read(&self, _: ShardId, from: Position, to: Position) -> BoxStream<'_, Result<(Position, Bytes), Unavailable>> {
        let frames = self.frames.lock().unwrap();
        let found: Vec<_> = frames.range(from..=to).map(|(at, frame)| Ok((*at, frame.clone()))).collect();
        stream::iter(found).boxed()
    }

    async fn stream(&self, _: ShardId) -> Result<Option<Stream>, Unavailable> {
        let last = self.frames.lock().unwrap().last_key_value().map_or(0, |(position, _)| *position);
        let born = Time::from_micros(*self.born.lock().unwrap());
        let last = last.max(self.last.load(SeqCst) as u64);
        self.last.store(last as usize, SeqCst);
        let first = self.first.load(SeqCst) as u64;
        // What was cut was old enough to be cut.
        let kept_for = (first > 1).then_some(Duration::ZERO);
        Ok((born.as_micros() > 0).then(|| Stream {
            name: "J".into(),
            born,
            first,
            last,
            known: last.max(self.known.load(SeqCst) as u64),
            kept_for,
        }))
    }

    async fn anchor(&self, _: ShardId) -> Result<Option<Anchor>, Unavailable> {
        Ok(*self.anchor.lock().unwrap())
    }

    async fn keep(&self, _: ShardId, anchor: &Anchor) -> Result<bool, Unavailable> {
        let mut kept = self.anchor.lock().unwrap();
        if kept.is_some_and(|kept| kept.epoch > anchor.epoch) {
            return Ok(false);
        }
        *kept = Some(*anchor);
        Ok(true)
    }

    async fn accepted(&self, _: ShardId) -> Result<Option<Accepted>, Unavailable> {
        Ok(self.accepted.lock().unwrap().clone())
    }

    async fn renew(&self, _: ShardId, beyond: Position) -> Result<(), Unavailable> {
        *self.born.lock().unwrap() += 1;
        self.last.store(beyond as usize, SeqCst);
        self.first.store(beyond as usize + 1, SeqCst);
        Ok(())
    }
}

#[async_trait]
impl Snapshots for Outside {
    async fn put(&self, _: ShardId, name: &str, bytes: Bytes, expected: u64) -> Result<u64, PutError> {
        if Self::is_listed(&self.refused, name) {
            return Err(PutError::Refused("too large".into()));
        }
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        match held.as_deref() == Some(name) {
            true => self.let_go.notified().await,
            false => *self.held.lock().unwrap() = held,
        }
        let mut values = self.values.lock().unwrap();
        if values.get(name).map_or(0, |(revision, _)| *revision) != expected {
            return Err(PutError::Stale);
        }
        let revision = self.revisions.fetch_add(1, SeqCst) as u64 + 1;
        values.insert(name.into(), (revision, bytes));
        Ok(revision)
    }

    async fn remove(&self, _: ShardId, name: &str, expected: u64) -> Result<(), PutError> {
        if Self::is_listed(&self.unremovable, name) {
            return Err(PutError::Unavailable(Unavailable("not now".into())));
        }
        let mut values = self.values.lock().unwrap();
        match values.get(name) {
            Some((revision, _)) if *revision != expected => Err(PutError::Stale),
            Some(_) | None => {
                values.remove(name);
                Ok(())
            }
        }
    }

    async fn get(&self, _: ShardId, name: &str) -> Result<Option<Snapshot>, Unavailable> {
        if Self::is_listed(&self.unreadable, name) {
            return Err(Unavailable("not now".into()));
        }
        self.read.lock().unwrap().push(name.into());
        let values = self.values.lock().unwrap();
        let found = values.get(name).cloned();
        Ok(found.map(|(revision, bytes)| Snapshot { name: name.into(), revision, bytes }))
    }

    fn all(&self, _: ShardId, shelf: Shelf) -> BoxStream<'_, Result<Snapshot, Unavailable>> {
        let values = self.values.lock().unwrap().clone();
        let all = values.into_iter().filter(|(name, _)| Shelf::of(name) == shelf);
        let all = all.map(|(name, (revision, bytes))| Ok(Snapshot { name, revision, bytes }));
        stream::iter(all.collect::<Vec<_>>()).boxed()
    }
}

#[async_trait]
impl Outbox for Outside {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        self.events.lock().unwrap().push(event.clone());
        Ok(())
    }

    async fn bury(&self, tenant: &str, reason: &str, why: &str, whole: Bytes) -> Result<(), Unavailable> {
        self.dead.lock().unwrap().push((tenant.into(), reason.into(), why.into(), whole));
        Ok(())
    }
}

#[async_trait]
impl Events for Outside {
    async fn say(&self, event: &Envelope, place: &Place) -> Result<u64, SendError> {
        if Self::is_listed(&self.refused_events, &event.event_type) {
            return Err(SendError::Refused("the stream is sealed".into()));
        }
        let sequence = {
            let (mut events, mut places) = (self.events.lock().unwrap(), self.places.lock().unwrap());
            let (now, window) = (tokio::time::Instant::now(), *self.window.lock().unwrap());
            let known = events
                .iter()
                .zip(&*places)
                .rposition(|(kept, (_, at))| kept.event_id == event.event_id && now.duration_since(*at) < window);
            known.unwrap_or_else(|| {
                events.push(event.clone());
                places.push((*place, now));
                events.len() - 1
            })
        };
        if self.events_deaf.load(SeqCst) {
            return Err(Unavailable("no acknowledgement".into()).into());
        }
        Ok(sequence as u64 + 1)
    }

    fn window(&self) -> Duration {
        *self.window.lock().unwrap()
    }

    async fn held(&self, shard: ShardId, after: u64, _: Time) -> Result<Held, Unavailable> {
        if self.events_deaf.load(SeqCst) {
            return Err(Unavailable("no answer".into()));
        }
        let (events, places) = (self.events.lock().unwrap(), self.places.lock().unwrap());
        let behind =
            events.iter().zip(&*places).zip(1..).filter(|((_, (place, _)), at)| place.shard == shard && *at > after);
        let found = behind.map(|((event, _), at)| (event.event_id.clone(), at)).collect();
        Ok(Held { events: found, read_to: events.len() as u64 })
    }

    async fn bury(&self, event: &Envelope, place: &Place, why: &str) -> Result<(), SendError> {
        self.buried.lock().unwrap().push((event.clone(), *place, why.into()));
        Ok(())
    }
}

#[async_trait]
impl Peers for Outside {
    async fn deliver(&self, to: &SagaId, parcel: &Parcel) -> Result<(), Unavailable> {
        if self.peers_away.load(SeqCst) {
            return Err(Unavailable("the peer is away".into()));
        }
        self.parcels.lock().unwrap().push((to.clone(), parcel.clone()));
        Ok(())
    }
}

#[async_trait]
impl RemoteActivities for Outside {
    async fn call(&self, _: &Tenant, _: &str, _: &Attempt, _: Value) -> Result<RemoteAnswer, Failure> {
        Ok(RemoteAnswer::Accepted)
    }
}

#[async_trait]
impl Definitions for Outside {
    async fn get(&self, which: &DefinitionRef) -> Result<Option<Arc<Definition>>, Unavailable> {
        if Self::is_listed(&self.lost, &which.name) {
            return Ok(None);
        }
        Ok(self.definitions.iter().find(|definition| definition.reference() == which).cloned())
    }

    fn deployers(&self) -> Vec<String> {
        vec!["ada".into()]
    }
}

/// Answers its input.
struct Echo;

#[async_trait]
impl Activity for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    async fn run(&self, _: &Attempt, input: Value) -> Result<Value, Failure> {
        Ok(input)
    }
}

/// One shard in the world outside.
pub struct World {
    pub outside: Arc<Outside>,
    pub shard: Handle<Message>,
    pub engine: Arc<Engine>,
}

impl World {
    /// A node takes the shard over under `epoch`.
    pub async fn take_over(outside: &Arc<Outside>, epoch: u64, limits: Limits) -> Self {
        Self::try_take_over(outside, epoch, limits).await.unwrap()
    }

    /// The same, where it may be refused.
    pub async fn try_take_over(outside: &Arc<Outside>, epoch: u64, limits: Limits) -> Result<Self, NotStarted> {
        let mut activities = Activities::new();
        activities.add(Arc::new(Echo), 10_000).unwrap();
        let engine = Arc::new(Engine {
            node: NodeId::new(format!("n{epoch}")).unwrap(),
            shards: 1,
            turns: Turns::new(limits.decision_threads.unwrap_or(1)),
            limits,
            clock: outside.clone(),
            journal: outside.clone(),
            snapshots: outside.clone(),
            outbox: outside.clone(),
            events: outside.clone(),
            peers: outside.clone(),
            definitions: outside.clone(),
            activities,
            remote: outside.clone(),
            seeds: Seeds::new(epoch),
            observer: Arc::new(Unobserved),
            pulses: Arc::default(),
        });
        let card = Card::new("shard 0", "shard", engine.now());
        let actor = ShardActor { engine: engine.clone(), shard: SHARD, epoch: Epoch(epoch) };
        let shard = shell::start(actor, card, None).await?;
        Ok(Self { outside: outside.clone(), shard, engine })
    }

    /// Asks the shard; the answer within a minute.
    pub async fn ask(&self, message: impl FnOnce(Reply) -> Message) -> Answer {
        let (reply, told) = Reply::channel();
        self.shard.tell(message(reply));
        tokio::time::timeout(Duration::from_secs(60), told).await.expect("an answer within a minute").unwrap()
    }

    pub async fn start(&self, key: &str, definition: &str, input: Value) -> Answer {
        self.start_child(key, definition, input, None).await
    }

    pub async fn start_child(
        &self,
        key: &str,
        definition: &str,
        input: Value,
        parent: Option<(protocol::SagaKey, u64)>,
    ) -> Answer {
        let (start, definition) = self.starting(definition, input, parent);
        self.ask(|accepted| Message::Start { saga: saga(key), start, definition, accepted, outcome: None }).await
    }

    /// What starts a saga, and what it runs.
    pub fn starting(
        &self,
        definition: &str,
        input: Value,
        parent: Option<(protocol::SagaKey, u64)>,
    ) -> (Box<Start>, Arc<Definition>) {
        let found = self.outside.definitions.iter().find(|it| *it.reference().name == *definition);
        let definition = found.expect("a definition of this name").clone();
        let start = Box::new(Start {
            definition: definition.reference().clone(),
            input,
            by: Principal::new("ada").unwrap(),
            trace: TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
            cause: "cmd-1".into(),
            causes: 0,
            parent,
            family: Default::default(),
            secret: None,
        });
        (start, definition)
    }

    pub async fn fact(&self, key: &str, fact: FactKind, right: Right) -> Answer {
        let by = (Principal::new("ada").unwrap(), right);
        self.ask(|reply| Message::Fact { saga: saga(key), fact, by, reply }).await
    }

    pub async fn signal(&self, key: &str, name: &str, payload: Value, id: &str) -> Answer {
        let fact = FactKind::Signalled { name: name.into(), payload, by: "ada".into(), id: id.into() };
        self.fact(key, fact, Right::Signal).await
    }

    pub async fn show(&self, key: &str) -> SagaView {
        let by = Principal::new("ada").unwrap();
        let view = self.ask(|reply| Message::Describe(saga(key), by, reply)).await;
        serde_json::from_value(view.unwrap()).unwrap()
    }

    /// What a list shows, and what it says is missing.
    pub async fn list(&self, status: Option<Status>) -> (Vec<String>, Option<String>) {
        let (tell, told) = tokio::sync::oneshot::channel();
        let list = protocol::command::List { status, ..Default::default() };
        self.shard.tell(Message::List(Tenant::new("acme").unwrap(), None, list, tell));
        let listed = told.await.unwrap();
        (listed.rows.into_iter().map(|row| row.saga).collect(), listed.missing)
    }

    /// Lets time pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// Waits until `what` holds; fails after a minute.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..6_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within a minute");
    }
}
