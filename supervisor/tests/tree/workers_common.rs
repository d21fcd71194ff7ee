//! Nodes with test workers, over ports that live in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::command::{ListWorkers, RunAccepted};
use protocol::worker::{RunView, WorkerView};
use protocol::{Envelope, Environment, EventId, Principal, Tenant, TraceId, WorkerId, WorkerKind};
use supervisor::ports::*;
use supervisor::tree::card::Card;
use supervisor::tree::engine::Limits as TreeLimits;
use supervisor::tree::reply::{Answer, Reply};
use supervisor::tree::shards::Shards;
use supervisor::tree::shell::{self, Handle};
use supervisor::tree::workers::{Asked, Limits, Local, Message, WorkersActor, worker};
use supervisor::worker::{Failure, Report, Retry, Rhythm, Run, Why, Worker};

use crate::common::{Outside, SHARD, World};

/// What the next attempt does.
#[derive(Clone)]
pub enum Act {
    /// Ends well.
    Well,
    /// Fails.
    Fail(Failure),
    /// Panics.
    Panic,
    /// Takes this long, then ends well.
    Take(Duration),
}

/// What the attempts of a worker are to do, and what they did.
pub struct Script {
    /// The next ones; when there are no more, they end well.
    pub acts: Mutex<VecDeque<Act>>,
    /// Each attempt: seconds since the test began, and the run.
    pub ran: Mutex<Vec<(u64, Run)>>,
    rhythm: Rhythm,
    began: tokio::time::Instant,
    /// Attempts that were not aborted.
    pub finished: Mutex<u32>,
}

impl Script {
    pub fn new(rhythm: Rhythm) -> Arc<Self> {
        Arc::new(Self {
            acts: Mutex::default(),
            ran: Mutex::default(),
            finished: Mutex::default(),
            rhythm,
            began: tokio::time::Instant::now(),
        })
    }

    pub fn acts(&self, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().extend(acts);
    }

    /// Numbers of the attempts so far: run and attempt.
    pub fn attempts(&self) -> Vec<(u64, u32)> {
        self.ran.lock().unwrap().iter().map(|(_, run)| (run.number, run.attempt)).collect()
    }

    pub fn runs(&self) -> usize {
        self.ran.lock().unwrap().len()
    }

    pub fn last(&self) -> Run {
        self.ran.lock().unwrap().last().unwrap().1.clone()
    }

    pub fn seconds(&self) -> Vec<u64> {
        self.ran.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}

/// A worker that does as it is told.
pub struct Probe(pub Arc<Script>);

#[async_trait]
impl Worker for Probe {
    fn kind(&self) -> &str {
        "probe"
    }

    fn rhythm(&self) -> Rhythm {
        self.0.rhythm.clone()
    }

    fn triggers(&self) -> &[&str] {
        &["Happened", "Other"]
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        self.0.ran.lock().unwrap().push((self.0.began.elapsed().as_secs(), run.clone()));
        let act = self.0.acts.lock().unwrap().pop_front().unwrap_or(Act::Well);
        match act {
            Act::Well => {}
            Act::Fail(failure) => return Err(failure),
            Act::Panic => panic!("a bug in the probe"),
            Act::Take(time) => tokio::time::sleep(time).await,
        }
        *self.0.finished.lock().unwrap() += 1;
        run.publish("Probed", run.worker.environment.as_str(), serde_json::json!({ "run": run.number })).await?;
        let report = Report::changed(format!("{} services", run.number), "counted them", "that is its work");
        Ok(report.count("services", run.number).remember(serde_json::json!({ "last": run.number })))
    }
}

/// What workers remember, and which environments there are; shared by all nodes.
#[derive(Default)]
pub struct Store {
    pub kept: Mutex<BTreeMap<WorkerId, Kept>>,
    pub environments: Mutex<Vec<(Tenant, Environment)>>,
    /// Nothing is answered while this is set.
    pub away: AtomicBool,
}

impl Store {
    pub fn with(environments: &[&str]) -> Arc<Self> {
        let store = Self::default();
        *store.environments.lock().unwrap() = environments.iter().map(|name| place(name)).collect();
        Arc::new(store)
    }

    fn is_there(&self) -> Result<(), Unavailable> {
        if self.away.load(SeqCst) { Err(Unavailable("it is away".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl WorkerMemory for Store {
    async fn get(&self, worker: &WorkerId) -> Result<Option<Kept>, Unavailable> {
        self.is_there()?;
        Ok(self.kept.lock().unwrap().get(worker).cloned())
    }

    async fn put(&self, worker: &WorkerId, bytes: Bytes, expected: u64) -> Result<u64, PutError> {
        self.is_there()?;
        let mut kept = self.kept.lock().unwrap();
        if kept.get(worker).map_or(0, |kept| kept.revision) != expected {
            return Err(PutError::Stale);
        }
        kept.insert(worker.clone(), Kept { revision: expected + 1, bytes });
        Ok(expected + 1)
    }
}

#[async_trait]
impl Environments for Store {
    async fn of(&self, _: &WorkerKind) -> Result<Vec<(Tenant, Environment)>, Unavailable> {
        self.is_there()?;
        Ok(self.environments.lock().unwrap().clone())
    }
}

/// `tenant/environment`.
fn place(name: &str) -> (Tenant, Environment) {
    let (tenant, environment) = name.split_once('/').unwrap();
    (Tenant::new(tenant).unwrap(), Environment::new(environment).unwrap())
}

pub fn probe(name: &str) -> WorkerId {
    let (tenant, environment) = place(name);
    WorkerId::new(WorkerKind::new("probe").unwrap(), tenant, environment)
}

pub fn event(id: &str, environment: &str) -> Arc<Envelope> {
    Arc::new(Envelope {
        event_id: EventId::new(id).unwrap(),
        event_type: "Happened".into(),
        tenant_id: Tenant::new("acme").unwrap(),
        project_id: None,
        module_id: None,
        trace_id: TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
        correlation_id: "acme/deploy-7".into(),
        causation_id: "cmd-1".into(),
        causes: 0,
        sequence: 0,
        occurred_at: protocol::Time::from_micros(crate::common::NOON),
        payload: serde_json::json!({ "environmentId": environment }),
    })
}

/// A node: one shard, and the workers on it.
pub struct Node {
    pub world: World,
    pub local: Arc<Local>,
    pub shards: Arc<Shards>,
    pub workers: Handle<Message>,
}

impl Node {
    /// A node that owns the shard.
    pub async fn start(outside: &Arc<Outside>, number: u64, script: &Arc<Script>, store: &Arc<Store>) -> Self {
        let node = Self::idle(outside, number, script, store, Limits::default()).await;
        node.own();
        node
    }

    /// A node that owns nothing yet.
    pub async fn idle(
        outside: &Arc<Outside>,
        number: u64,
        script: &Arc<Script>,
        store: &Arc<Store>,
        limits: Limits,
    ) -> Self {
        let world = World::take_over(outside, number, TreeLimits::default()).await;
        let local = Arc::new(Local::new(vec![Arc::new(Probe(script.clone()))]).unwrap());
        let shards = Arc::new(Shards::default());
        let actor = WorkersActor {
            engine: world.engine.clone(),
            limits: Arc::new(limits),
            local: local.clone(),
            shards: shards.clone(),
            environments: store.clone(),
            memory: store.clone(),
        };
        let workers = shell::start(actor, Card::new("workers", "service", world.engine.now()), None).await.unwrap();
        Self { world, local, shards, workers }
    }

    pub fn own(&self) {
        self.shards.gain(SHARD, self.world.shard.clone());
    }

    pub fn list(&self) -> Vec<WorkerView> {
        self.local.list(&Tenant::new("acme").unwrap(), &ListWorkers::default())
    }

    /// The worker of `acme` for `environment`, with its history.
    pub fn show(&self, environment: &str) -> Option<WorkerView> {
        let worker = probe(&format!("acme/{environment}"));
        let list = ListWorkers { kind: Some(worker.kind), environment: Some(worker.environment) };
        self.local.list(&worker.tenant, &list).pop()
    }

    pub async fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.world.until(what, holds).await;
    }

    /// Waits until the worker has read what it remembers.
    pub async fn loaded(&self, environment: &str) {
        let loaded =
            || self.show(environment).is_some_and(|shown| shown.status != protocol::worker::WorkerStatus::Loading);
        self.until("the worker is there", loaded).await;
    }

    pub async fn ask(&self, environment: &str, message: impl FnOnce(Reply) -> worker::Message) -> Answer {
        let (reply, told) = Reply::channel();
        let post = self.local.find(&probe(&format!("acme/{environment}"))).expect("it runs here");
        post.handle.tell(message(reply));
        tokio::time::timeout(Duration::from_secs(60), told).await.expect("an answer within a minute").unwrap()
    }

    /// Runs a worker by hand: the number of the run, and how it went.
    pub async fn run_now(&self, environment: &str) -> (u64, RunView) {
        let (ended, told) = Reply::channel();
        let asked = Asked { by: ann(), trace: None, id: "cmd-7".into() };
        let message = |accepted| worker::Message::RunNow { asked, accepted, ended: Some(ended) };
        let accepted: RunAccepted = serde_json::from_value(self.ask(environment, message).await.unwrap()).unwrap();
        let view = tokio::time::timeout(Duration::from_secs(600), told).await.expect("an end").unwrap().unwrap();
        (accepted.run, serde_json::from_value(view).unwrap())
    }

    pub async fn pause(&self, environment: &str) -> Answer {
        self.ask(environment, |reply| worker::Message::Pause(ann(), "a change of ours".into(), reply)).await
    }

    pub async fn resume(&self, environment: &str) -> Answer {
        self.ask(environment, |reply| worker::Message::Resume(ann(), reply)).await
    }
}

pub fn ann() -> Principal {
    Principal::new("ann").unwrap()
}

/// A run each half minute, three attempts.
pub fn half_minutes() -> Rhythm {
    Rhythm::every(Duration::from_secs(30)).retry(Retry::max(3))
}

/// No timer.
pub fn by_events() -> Rhythm {
    Rhythm::on_events().retry(Retry::max(3))
}

pub fn transient() -> Act {
    Act::Fail(Failure::transient("looking", "too slow"))
}

pub fn by_event(run: &Run) -> Vec<String> {
    assert!(matches!(run.why, Why::Event(_) | Why::Timer | Why::ByHand(_)));
    run.events.iter().map(|event| event.event_id.to_string()).collect()
}
