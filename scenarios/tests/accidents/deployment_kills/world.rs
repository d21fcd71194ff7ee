//! Three node processes, and what a case asks of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::model::{EnvironmentId, ObservedService, ServiceId};
use actors::runtime::records::place::Place;
use actors::runtime::store::{self, RuntimeStore};
use node::client::{Client, Settings, Since};
use node::nats::{ConnectConfig, KvRuntime, Replicas, connect};
use protocol::command::{List, Start};
use protocol::query::{ActorView, Body, Query};
use protocol::runtime::{CreateEnvironment, ListServices, Standing};
use protocol::view::{History, SagaView, Status};
use protocol::{Envelope, NodeId, Principal, SagaId, SagaKey, ShardId, Tenant, Value};
use scenarios::cluster::until;
use scenarios::fleet::Fleet;
use scenarios::service::{Left, server};
use serde_json::json;

use super::case::{Case, Victim};

/// Long enough for a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long a question may take that a frozen or killed node may have got.
const ASK_WITHIN: Duration = Duration::from_millis(700);
const NODES: usize = 3;
const SHARDS: u16 = 8;
const REPLICAS: usize = 2;
const ENVIRONMENT: &str = "dev";

/// Which nodes can keep processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keepers {
    /// All: when one ends another takes over.
    All,
    /// The first one.
    One,
}

/// A service, with its first revision.
pub struct Service {
    name: String,
    /// Where it answers.
    pub url: String,
}

/// What must be told of a saga, once.
pub struct Told {
    /// `tenant/key`.
    pub saga: String,
    /// The event that tells its end.
    pub event: &'static str,
}

pub struct World {
    fleet: Fleet,
    client: Client,
    artifacts: DirectoryArtifacts,
    store: KvRuntime,
    events: Arc<Mutex<Vec<Envelope>>>,
    services: usize,
    _left: Left,
}

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn node_id(number: usize) -> NodeId {
    NodeId::new(format!("n{number}")).unwrap()
}

impl Service {
    /// What people call its revision `number`.
    pub fn version(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// The input of a deployment.
    pub fn input(&self, number: usize, artifact: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut input = json!({
            "environment": ENVIRONMENT, "service": self.name, "version": self.version(number),
            "artifact": artifact, "replicas": REPLICAS,
            "probe": { "path": "/health", "timeoutMs": 5_000 },
        });
        change(&mut input);
        input
    }
}

impl World {
    pub async fn build(keepers: Keepers) -> Self {
        let variables = move |dir: &std::path::Path, number: usize| {
            let mut variables = vec![
                ("SKALD_SHARDS", SHARDS.to_string()),
                ("SKALD_RUNTIME__WORKERS", "true".to_owned()),
                ("SKALD_RUNTIME__DRAIN_MS", "1000".to_owned()),
                ("SKALD_RUNTIME__STOP_MS", "500".to_owned()),
                ("SKALD_TELEMETRY__FORMAT", "human".to_owned()),
            ];
            if keepers == Keepers::All || number == 0 {
                variables.push(("SKALD_RUNTIME__DIR", dir.join("runtime").display().to_string()));
            }
            variables
        };
        let fleet = Fleet::start_with(env!("CARGO_BIN_EXE_skald_under_test"), NODES, variables).await.unwrap();
        let settings = Settings::new(fleet.server.url(), tenant(), Principal::new("ann").unwrap());
        let client = Client::connect(Settings { timeout: ASK_WITHIN, ..settings }).await.unwrap();
        let dir = fleet.dir().canonicalize().unwrap();
        let artifacts = DirectoryArtifacts::open(dir.join("runtime/published")).unwrap();
        let bus = connect(ConnectConfig::new([fleet.server.url()])).await.unwrap();
        let store = KvRuntime::open(&bus, Replicas::One).await.unwrap();
        let (events, left) = (Arc::default(), Left(dir));
        let world = Self { fleet, client, artifacts, store, events, services: 0, _left: left };
        world.healthy().await;
        let create = CreateEnvironment { environment: ENVIRONMENT.into(), stage: None, region: None };
        world.patiently(|| world.client.create_environment(&create)).await;
        world.listen();
        world
    }

    /// Keeps every event.
    fn listen(&self) {
        let (client, events) = (self.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let mut tail = loop {
                match client.events(Since::Beginning, None).await {
                    Ok(tail) => break tail,
                    Err(_) => tokio::time::sleep(ASK_WITHIN).await,
                }
            };
            while let Some(next) = tail.next().await {
                if let Ok(event) = next {
                    events.lock().unwrap().push(event);
                }
            }
        });
    }

    /// Asks until somebody answers: nodes are killed meanwhile, and what is asked is safe to repeat.
    async fn patiently<T, F: Future<Output = Result<T, node::client::Error>>>(&self, ask: impl Fn() -> F) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) if Instant::now() > end => panic!("{error}\n{}", self.logs()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn logs(&self) -> String {
        (0..NODES).map(|number| format!("n{number}:\n{}\n", self.fleet.log(number))).collect()
    }

    /// Waits until all nodes are there, each owns something, and one keeps the processes.
    pub async fn healthy(&self) {
        until(PATIENCE, "all nodes are well", || async {
            let answers = self.client.query(&Query::Health).await.unwrap_or_default();
            let well = |body: &Body| matches!(body, Body::Health(health) if health.ready && !health.shards.is_empty());
            answers.len() == NODES
                && answers.iter().all(|answer| well(&answer.body))
                && self.find_keeper().await.is_some()
        })
        .await;
    }

    async fn find_keeper(&self) -> Option<usize> {
        for number in 0..NODES {
            let actor = Query::Actor { path: "runtime".into() };
            let Ok(answer) = self.client.query_node(&node_id(number), &actor).await else { continue };
            let keeps = |view: &ActorView| view.doing.as_deref().is_some_and(|doing| doing.starts_with("keeps"));
            if matches!(&answer.body, Body::Actor(view) if keeps(view)) {
                return Some(number);
            }
        }
        None
    }

    /// The node that keeps the processes.
    pub async fn keeper(&self) -> usize {
        self.find_keeper().await.expect("somebody keeps the processes")
    }

    async fn owners(&self) -> BTreeMap<ShardId, usize> {
        let mut owners = BTreeMap::new();
        for number in 0..NODES {
            let answer =
                self.patiently(|| async { self.client.query_node(&node_id(number), &Query::Owners).await }).await;
            let Body::Owners(shards) = answer.body else { continue };
            owners.extend(shards.iter().map(|shard| (ShardId(shard.shard), number)));
        }
        owners
    }

    /// The node that owns a saga.
    pub async fn owner(&self, key: &SagaKey) -> usize {
        let shard = SagaId::new(tenant(), key.clone()).shard(SHARDS);
        self.owners().await.get(&shard).copied().expect("every shard has an owner")
    }

    /// A key whose saga is owned by the right node.
    pub async fn key_for(&self, victim: Victim, service: &Service) -> SagaKey {
        let (owners, keeper) = (self.owners().await, self.keeper().await);
        let fits = |key: &SagaKey| {
            let owner = owners.get(&SagaId::new(tenant(), key.clone()).shard(SHARDS));
            (owner == Some(&keeper)) == (victim == Victim::Both)
        };
        let mut keys = (0..1_000).map(|number| SagaKey::new(format!("{}-2.{number}", service.name)).unwrap());
        keys.find(fits).expect("both have shards")
    }

    /// The node that is to be killed.
    pub async fn node_of(&self, victim: Victim, key: &SagaKey) -> usize {
        match victim {
            Victim::Owner => self.owner(key).await,
            Victim::Keeper | Victim::Both => self.keeper().await,
        }
    }

    /// In which state a saga is, as its owner says.
    pub async fn state(&self, key: &SagaKey, owner: usize) -> Option<String> {
        let list = List { limit: Some(50), ..List::default() };
        let query = Query::Sagas { tenant: tenant(), by: None, list };
        let answer = self.client.query_node(&node_id(owner), &query).await.ok()?;
        let Body::Sagas(rows) = answer.body else { return None };
        let saga = SagaId::new(tenant(), key.clone()).to_string();
        rows.into_iter().find(|row| row.saga == saga).map(|row| row.state)
    }

    /// A new service that runs its first revision.
    pub async fn first_revision(&mut self) -> Service {
        self.services += 1;
        let name = format!("web-{}", self.services);
        let mut service = Service { name, url: String::new() };
        let artifact = self.publish(&service.version(1), false);
        let key = SagaKey::new(service.version(1)).unwrap();
        self.ask(&key, &service.input(1, &artifact, |_| {})).await;
        let view = self.end(&key).await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}\n{}", self.logs());
        service.url = view.outcome.unwrap().output.unwrap()["endpointUrl"].as_str().unwrap().to_owned();
        service
    }

    /// Publishes a revision; answers its digest.
    pub fn publish(&self, version: &str, broken: bool) -> String {
        format!("sha256:{}", self.artifacts.add(server(version, broken).as_bytes()).unwrap())
    }

    /// Asks for a deployment, once.
    pub async fn ask_once(&self, key: &SagaKey, input: &Value) -> bool {
        let (key, input) = (Some(key.clone()), input.clone());
        let start = Start { definition: "runtime_deployment".into(), version: None, key, input, wait_ms: None };
        self.client.start(&start).await.is_ok()
    }

    /// Asks for a deployment until it is accepted.
    pub async fn ask(&self, key: &SagaKey, input: &Value) {
        until(PATIENCE, "it is accepted", || self.ask_once(key, input)).await;
    }

    /// Waits for the end.
    pub async fn end(&self, key: &SagaKey) -> SagaView {
        let end = Instant::now() + PATIENCE;
        loop {
            let view = self.patiently(|| self.client.describe(key)).await;
            if view.status.is_final() {
                return view;
            }
            if Instant::now() > end {
                let services = self.client.services(&ListServices::default()).await;
                panic!("{key} goes on: {view:#?}\n{services:#?}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn history(&self, key: &SagaKey) -> History {
        self.patiently(|| self.client.history(key)).await
    }

    pub fn freeze(&self, node: usize, still: bool) {
        self.fleet.freeze(node, still).unwrap();
    }

    pub async fn kill(&mut self, node: usize) {
        self.fleet.kill(node).await.unwrap();
    }

    pub fn restart(&mut self, node: usize) {
        self.fleet.restart(node).unwrap();
    }

    /// Revision `number` serves alone, right now: behind the gateway, among the processes of the
    /// machine, in the inventory and for whoever asks.
    pub async fn only(&self, service: &Service, number: usize, case: Case) {
        let version = service.version(number);
        for _ in 0..2 * REPLICAS {
            let answer = reqwest::get(format!("{}/", service.url)).await;
            let answer = answer.unwrap_or_else(|error| panic!("{case:?}: {error}\n{}", self.logs()));
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert!(status.is_success() && text == version, "{case:?}: {status} {text:?} instead of {version}");
        }
        let artifacts = [(1, false), (2, case.broken)].map(|(one, broken)| self.publish(&service.version(one), broken));
        let ours = self.fleet.dir().canonicalize().unwrap();
        let running = artifacts.each_ref().map(|artifact| processes(&ours, artifact.trim_start_matches("sha256:")));
        let mut expected = [0, 0];
        expected[number - 1] = REPLICAS;
        assert_eq!(running, expected, "{case:?}: processes of the two revisions");
        let all = ListServices::default();
        let services = self.patiently(|| self.client.services(&all)).await;
        let row = services.services.iter().find(|row| row.service == service.name).expect("it is listed");
        let sets: Vec<_> = row.sets.iter().map(|set| (set.ready, set.wanted, set.weight)).collect();
        assert_eq!((row.version.as_deref(), &sets[..]), (Some(&*version), &[(2, 2, 100)][..]), "{case:?}: {row:#?}");
        assert!(row.under_way.is_none() && row.standing == Standing::Open, "{case:?}: {row:#?}");
        let place = Place {
            owner: tenant(),
            environment: EnvironmentId::new(ENVIRONMENT).unwrap(),
            service: ServiceId::new(&service.name).unwrap(),
        };
        let store: &dyn RuntimeStore = &self.store;
        let shown = store::read::<ObservedService>(store, &place.space(), &place.inventory()).await.unwrap();
        let shown = shown.expect("the inventory shows it").value;
        let seen = (shown.image.as_str(), shown.replicas as usize, shown.ready as usize);
        assert_eq!(seen, (artifacts[number - 1].as_str(), REPLICAS, REPLICAS), "{case:?}: the inventory");
    }

    /// Each saga told its end, once.
    pub async fn told_once(&self, told: &[Told]) {
        let ends = ["RuntimeDeploymentCompleted", "RuntimeDeploymentRolledBack", "RuntimeDeploymentFailed"];
        let of = |saga: &str| {
            let events = self.events.lock().unwrap();
            let of_it = events.iter().filter(|event| event.correlation_id == saga);
            of_it.map(|event| event.event_type.clone()).filter(|name| ends.contains(&name.as_str())).collect::<Vec<_>>()
        };
        until(PATIENCE, "all ends are told", || async { told.iter().all(|one| !of(&one.saga).is_empty()) }).await;
        for one in told {
            assert_eq!(of(&one.saga), [one.event], "{} is told once", one.saga);
        }
    }
}

/// How many processes below `ours` were started from an artifact: they work in the directory of its digest.
fn processes(ours: &std::path::Path, digest: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let inside = |dir: &std::path::Path| {
        let cwd = std::fs::read_link(dir.join("cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(ours) && cwd.to_string_lossy().contains(digest))
    };
    all.filter(|entry| inside(&entry.path())).count()
}
