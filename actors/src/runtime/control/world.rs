//! A world for tests of the workers: a store in memory, replicas that are numbers, a clock that is
//! set, and ears.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::view::{Outcome as SagaOutcome, Status};
use protocol::{Envelope, Environment, Principal, SagaKey, Tenant, Time, TraceId, Value, WorkerId, WorkerKind};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::ports::{Clock, Outbox, Unavailable};
use supervisor::worker::{Report, Run, Why, Worker};

use super::{Became, Ports, Sagas, Starting};
use crate::runtime::arbiter::{Action, Command, Outcome, Request, ServiceState, Source};
use crate::runtime::arbitration::{Arbitration, Asker};
use crate::runtime::compute::observed::{ObservedReplica, ObservedSet, ReplicaState};
use crate::runtime::compute::{Compute, Log, Observed, Reading, Route, ServiceTraffic, Set, SetId};
use crate::runtime::model::{
    ConfigurationRef, Deployment, DeploymentId, DeploymentKind, DeploymentState, Digest, EnvironmentId, RequestKey,
    Revision, SecretBindingId, ServiceId, ServiceSpec, Stage, Strategy, TargetKind,
};
use crate::runtime::ports::desired::{Commit, Desired, DesiredState, Empty};
use crate::runtime::ports::probes::{LocalProber, local};
use crate::runtime::ports::secrets::StoredVersions;
use crate::runtime::ports::secrets::sealed::{SealedFiles, Settings};
use crate::runtime::records::deployments::{Baseline, Record, Running, Workload};
use crate::runtime::records::environments::{Environments, Wanted};
use crate::runtime::records::place::Place;
use crate::runtime::store::{self, MemoryStore};

/// The moment at which a story begins.
const BEGIN: i64 = 1_700_000_000_000_000;

/// A clock that is set.
pub struct At(Mutex<Time>);

impl Clock for At {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
}

/// Hears what is told.
#[derive(Default)]
pub struct Ear(Mutex<Vec<Envelope>>);

#[async_trait]
impl Outbox for Ear {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        let mut heard = self.0.lock().unwrap();
        // The stream keeps an id once.
        if heard.iter().all(|known| known.event_id != event.event_id) {
            heard.push(event.clone());
        }
        Ok(())
    }

    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// Sets whose replicas are ready at once, but for those that a story calls broken.
#[derive(Default)]
pub struct Floor {
    sets: Mutex<BTreeMap<SetId, (Set, u32)>>,
    /// Variables and secrets that no replica comes up with, as `NAME=VALUE` or `secret name@version`.
    broken: Mutex<BTreeSet<String>>,
}

impl Floor {
    fn ready(&self, set: &Set) -> bool {
        let broken = self.broken.lock().unwrap();
        let variables = set.configuration.variables.0.iter().map(|(name, value)| format!("{name}={value}"));
        let secrets = set.secrets.values().map(|secret| format!("secret {}@{}", secret.name, secret.version));
        !variables.chain(secrets).any(|one| broken.contains(&one))
    }
}

#[async_trait]
impl Compute for Floor {
    async fn apply(&self, set: &Set) -> Result<(), Failure> {
        let mut sets = self.sets.lock().unwrap();
        let weight = sets.get(&set.id).map_or(0, |(_, weight)| *weight);
        sets.insert(set.id.clone(), (set.clone(), weight));
        Ok(())
    }

    async fn observe(&self, environment: &str) -> Result<Observed, Failure> {
        let sets = self.sets.lock().unwrap();
        let ours = sets.values().filter(|(set, _)| set.id.environment == environment);
        let sets = ours.map(|(set, weight)| {
            let ready = self.ready(set);
            let replica = |number: u32| ObservedReplica {
                id: format!("{}-{number}", set.id.revision),
                state: if ready { ReplicaState::Ready } else { ReplicaState::CrashLoop },
                incarnation: 1,
                address: ready.then(|| ([127, 0, 0, 1], 1).into()),
                ports: BTreeMap::new(),
                pid: None,
                started_at: None,
                restarts: if ready { 0 } else { 5 },
                failures_in_row: if ready { 0 } else { 5 },
                last_exit: None,
                said: Vec::new(),
                config_version: set.configuration.version.clone(),
                digest: set.digest.clone(),
                unlimited: Vec::new(),
            };
            ObservedSet {
                service: set.id.service.clone(),
                revision: set.id.revision.clone(),
                digest: set.digest.clone(),
                config_version: set.configuration.version.clone(),
                wanted: set.replicas,
                ready: if ready { set.replicas } else { 0 },
                weight: *weight,
                removing: false,
                replicas: (0..set.replicas).map(replica).collect(),
            }
        });
        Ok(Observed { gateway: None, sets: sets.collect(), unmanaged: Vec::new() })
    }

    async fn route(&self, environment: &str, service: &str, routes: &[Route]) -> Result<(), Failure> {
        let mut sets = self.sets.lock().unwrap();
        for (id, (_, weight)) in
            sets.iter_mut().filter(|(id, _)| id.environment == environment && id.service == service)
        {
            *weight = routes.iter().find(|route| route.revision == id.revision).map_or(0, |route| route.weight);
        }
        Ok(())
    }

    async fn remove(&self, set: &SetId) -> Result<(), Failure> {
        self.sets.lock().unwrap().remove(set);
        Ok(())
    }

    async fn logs(&self, _: &str, _: &str, _: &Reading) -> Result<Log, Failure> {
        Ok(Log::default())
    }

    async fn restart(&self, _: &str, _: &str, _: u64) -> Result<(), Failure> {
        Ok(())
    }

    async fn erase(&self, _: &str, _: &str, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn forget(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn traffic(&self, _: &str) -> Result<Vec<ServiceTraffic>, Failure> {
        Ok(Vec::new())
    }
}

/// What is written down, without a repository.
#[derive(Default)]
pub struct Written(Mutex<BTreeMap<ServiceId, ServiceSpec>>);

#[async_trait]
impl DesiredState for Written {
    async fn read(&self, environment: &EnvironmentId, _: Empty) -> Result<Desired, Failure> {
        let commit = Commit::new(&"c".repeat(40)).unwrap();
        let all = self.0.lock().unwrap();
        let ours = all.iter().filter(|(_, spec)| spec.environment_id == *environment);
        Ok(Desired { commit, services: ours.map(|(name, spec)| (name.clone(), spec.clone())).collect() })
    }
}

/// Sagas that end when the story says so.
#[derive(Default)]
pub struct Begun {
    began: Mutex<Vec<Starting>>,
    ended: Mutex<BTreeMap<SagaKey, SagaOutcome>>,
}

#[async_trait]
impl Sagas for Begun {
    async fn start(&self, starting: &Starting) -> Result<(), Failure> {
        let mut began = self.began.lock().unwrap();
        if began.iter().all(|known| known.key != starting.key) {
            began.push(starting.clone());
        }
        Ok(())
    }

    async fn became(&self, _: &Tenant, key: &SagaKey) -> Result<Option<Became>, Failure> {
        if let Some(ended) = self.ended.lock().unwrap().get(key) {
            return Ok(Some(Became::Ended(ended.clone())));
        }
        let began = self.began.lock().unwrap().iter().any(|known| known.key == *key);
        Ok(began.then_some(Became::UnderWay))
    }
}

/// The world.
pub struct World {
    pub ports: Ports,
    pub store: Arc<MemoryStore>,
    pub floor: Arc<Floor>,
    /// The values of secrets.
    pub values: Arc<SealedFiles>,
    ear: Arc<Ear>,
    clock: Arc<At>,
    written: Arc<Written>,
    begun: Arc<Begun>,
    environment: EnvironmentId,
    runs: Mutex<(u64, Value)>,
    _dir: tempfile::TempDir,
}

/// What the story's service is made of.
pub fn image(n: u8) -> Digest {
    Digest::new(format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
}

pub fn web() -> ServiceId {
    ServiceId::new("web").unwrap()
}

pub fn acme() -> Tenant {
    Tenant::new("acme").unwrap()
}

impl World {
    /// An environment of acme in `stage`, with nothing in it.
    pub async fn new(stage: Stage) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, ear) = (Arc::new(MemoryStore::new()), Arc::new(Ear::default()));
        let (floor, clock) = (Arc::new(Floor::default()), Arc::new(At(Mutex::new(Time::from_micros(BEGIN)))));
        let (written, begun) = (Arc::new(Written::default()), Arc::new(Begun::default()));
        let values = Arc::new(SealedFiles::open(Settings::new(dir.path()), clock.clone()).await.unwrap());
        let ports = Ports {
            store: store.clone(),
            compute: floor.clone(),
            prober: Arc::new(LocalProber::new(local::Settings::default())),
            metrics: None,
            desired: Some(written.clone()),
            secrets: Arc::new(StoredVersions::new(values.clone())),
            sagas: begun.clone(),
            outbox: ear.clone(),
            clock: clock.clone(),
        };
        let environment = EnvironmentId::new("shop").unwrap();
        let environments = Environments::new(store.clone());
        let wanted = json!({ "environment": environment, "stage": stage });
        let wanted: Wanted = serde_json::from_value(wanted).unwrap();
        environments.create(&acme(), &wanted).await.unwrap();
        environments.bind(&acme(), &environment, &acme(), 100).await.unwrap();
        let runs = Mutex::new((0, Value::Null));
        Self { ports, store, floor, values, ear, clock, written, begun, environment, runs, _dir: dir }
    }

    pub fn place(&self) -> Place {
        Place { owner: acme(), environment: self.environment.clone(), service: web() }
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn wait(&self, seconds: u64) {
        let mut at = self.clock.0.lock().unwrap();
        *at = at.after(Duration::from_secs(seconds));
    }

    /// Runs a worker once, by hand.
    pub async fn run(&self, worker: &dyn Worker) -> Result<Report, Failure> {
        self.run_after(0, worker).await
    }

    /// The same, where so many events led to it.
    pub async fn run_after(&self, causes: u32, worker: &dyn Worker) -> Result<Report, Failure> {
        let (number, remembered) = {
            let mut runs = self.runs.lock().unwrap();
            runs.0 += 1;
            runs.clone()
        };
        let environment = Environment::new(self.environment.as_str()).unwrap();
        let id = WorkerId::new(WorkerKind::new(worker.kind()).unwrap(), acme(), environment);
        let why = (Why::ByHand(Principal::new("ann").unwrap()), TraceId::new("a".repeat(32)).unwrap());
        let mut run = Run::alone(id, number, why, remembered, (self.clock.clone(), self.ear.clone()));
        run.causes = causes;
        let report = worker.run(&run).await?;
        if let Some(remember) = &report.remember {
            self.runs.lock().unwrap().1 = remember.clone();
        }
        Ok(report)
    }

    /// W074: a run over an unchanged world writes and says nothing.
    pub async fn is_quiet(&self, worker: &dyn Worker) {
        let before = (self.store.writes(), self.heard().len(), self.begun.began.lock().unwrap().len());
        let report = self.run(worker).await.unwrap();
        let after = (self.store.writes(), self.heard().len(), self.begun.began.lock().unwrap().len());
        assert_eq!(before, after, "writes, events, sagas: {report:?}");
        assert!(!report.changed, "{report:?}");
    }

    /// What was told, but for what arbiters say of every action.
    pub fn heard(&self) -> Vec<String> {
        let heard = self.ear.0.lock().unwrap();
        let types = heard.iter().map(|event| event.event_type.clone());
        types.filter(|name| !name.starts_with("RuntimeAction")).collect()
    }

    pub fn events(&self) -> Vec<Envelope> {
        self.ear.0.lock().unwrap().clone()
    }

    /// What `web` would be as written.
    pub fn spec(&self, of: u8, replicas: u32) -> ServiceSpec {
        ServiceSpec {
            service_id: web(),
            tenant_id: acme(),
            environment_id: self.environment.clone(),
            image: image(of),
            version: format!("{of}.0"),
            replicas,
            command: Vec::new(),
            configuration: None,
            secrets: BTreeMap::new(),
            probes: Vec::new(),
            target: TargetKind::Continuous,
            strategy: Strategy::default(),
            wave: 0,
        }
    }

    pub fn write_down(&self, spec: ServiceSpec) {
        self.written.0.lock().unwrap().insert(spec.service_id.clone(), spec);
    }

    pub fn nothing_is_written_down(&self) {
        self.written.0.lock().unwrap().clear();
    }

    pub fn broken(&self, what: &str) {
        self.floor.broken.lock().unwrap().insert(what.to_owned());
    }

    pub fn mended(&self) {
        self.floor.broken.lock().unwrap().clear();
    }

    pub fn began(&self) -> Vec<Starting> {
        self.begun.began.lock().unwrap().clone()
    }

    /// The saga `key` has ended.
    pub fn ended(&self, key: &SagaKey, status: Status) {
        let outcome: SagaOutcome = serde_json::from_value(json!({ "status": status, "state": "End" })).unwrap();
        self.begun.ended.lock().unwrap().insert(key.clone(), outcome);
    }

    pub async fn state(&self) -> ServiceState {
        let arbitration = Arbitration::new(self.store.clone(), self.ear.clone(), self.clock.clone());
        arbitration.look(&self.place()).await.unwrap().unwrap().value.state
    }

    /// Asks the arbiter of `web`.
    pub async fn ask(&self, source: Source, key: &str, command: Command) -> Result<(), Failure> {
        let arbitration = Arbitration::new(self.store.clone(), self.ear.clone(), self.clock.clone());
        let asker = Asker { tenant: acme(), trace: TraceId::new("b".repeat(32)).unwrap(), saga: format!("acme/{key}") };
        let request = Request {
            key: RequestKey::new(key).unwrap(),
            source,
            by: Principal::new("ann").unwrap(),
            asked_at: self.now(),
            command,
        };
        arbitration.ask(&self.place(), &asker, Stage::Dev, &request).await.map(|_| ())
    }

    pub fn revision(&self, id: &str, of: u8, replicas: u32) -> Revision {
        Revision {
            deployment_id: DeploymentId::new(id).unwrap(),
            image: image(of),
            version: format!("{of}.0"),
            replicas,
            configuration: None,
            secrets: BTreeMap::new(),
            restarts: 0,
        }
    }

    pub fn with_configuration(&self, revision: Revision, at: &ConfigurationRef) -> Revision {
        Revision { configuration: Some(at.clone()), ..revision }
    }

    pub fn with_secret(&self, mut revision: Revision, name: &str, version: u64) -> Revision {
        revision.secrets.insert(SecretBindingId::new(name).unwrap(), version);
        revision
    }

    /// A deployment of `web`, from its record to the replicas, as a saga would bring it.
    pub async fn deployed(&self, to: Revision) {
        let id = to.deployment_id.clone();
        self.ask(Source::Operator, &format!("deploy:{id}"), Command::Deploy { to: to.clone(), anew: false })
            .await
            .unwrap();
        self.completed(to, DeploymentKind::Deploy).await;
    }

    /// What a saga of the name of the deployment writes down of it.
    pub async fn recorded(&self, to: &Revision, kind: DeploymentKind) -> Record {
        let record = Record {
            deployment: Deployment {
                deployment_id: to.deployment_id.clone(),
                service_id: web(),
                kind,
                from: None,
                to: to.clone(),
                state: DeploymentState::Completed,
                by: Principal::new("ann").unwrap(),
                at: self.now(),
                why: None,
            },
            tenant: acme(),
            saga: format!("acme/{}", to.deployment_id),
            comes: Running::new(to.clone(), workload()),
            previous: None,
            unchanged: false,
            stops: None,
            given_up: false,
            nowhere: false,
            rollout: None,
            baseline: Baseline::default(),
            suspended: false,
            resumes: 0,
            heard: 0,
            bound: Vec::new(),
            asked: None,
            trace: None,
        };
        let (space, name) = (self.place().space(), self.place().deployment(&to.deployment_id));
        store::change(&*self.store, &space, &name, |_: Option<&Record>| Some(record.clone())).await.unwrap();
        record
    }

    /// What is under way ends well, and runs.
    pub async fn completed(&self, to: Revision, kind: DeploymentKind) {
        let (place, record) = (self.place(), self.recorded(&to, kind).await);
        let comes = &record.comes;
        let set = comes.set(&*self.store, &place, &record.tenant).await.unwrap();
        let old: Vec<SetId> = self.floor.sets.lock().unwrap().keys().cloned().collect();
        self.floor.apply(&set).await.unwrap();
        let (environment, service) = (place.environment.as_str(), place.service.as_str());
        self.floor.route(environment, service, &[Route::new(&comes.set, 100)]).await.unwrap();
        for id in old.into_iter().filter(|id| *id != set.id) {
            self.floor.remove(&id).await.unwrap();
        }
        self.finished(Outcome::Succeeded).await;
    }

    /// What is under way ends like this.
    pub async fn finished(&self, outcome: Outcome) {
        let sequence = self.state().await.under_way.unwrap().sequence;
        self.ask(Source::Runner, &format!("end-{sequence}"), Command::Finished { sequence, outcome }).await.unwrap();
    }

    /// What runs: the configuration, the secrets and the replicas of the set that has the traffic.
    pub fn running(&self) -> Set {
        let sets = self.floor.sets.lock().unwrap();
        let main = sets.values().find(|(_, weight)| *weight == 100);
        main.expect("something has the traffic").0.clone()
    }

    /// Somebody turns a knob behind everybody's back.
    pub async fn by_hand(&self, replicas: u32) {
        let set = Set { replicas, ..self.running() };
        self.floor.apply(&set).await.unwrap();
    }

    pub async fn doing(&self) -> Option<Action> {
        self.state().await.under_way.map(|under_way| under_way.action)
    }
}

fn workload() -> Workload {
    serde_json::from_value(json!({})).unwrap()
}
