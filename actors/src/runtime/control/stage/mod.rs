//! A stage for the workers' tests: a store that counts its writes, a machine in memory, an ear for
//! what is said, and time that is given.

mod machine;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::view::Outcome as Ended;
use protocol::{Envelope, Principal, SagaKey, Tenant, Time, TraceId, Value, WorkerId, WorkerKind};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::ports::{Clock, Outbox, Unavailable};
use supervisor::worker::{Report, Run, Why, Worker};

pub(crate) use machine::Machine;

use super::{Became, Desk, Ports, Sagas, Service, Starting};
use crate::runtime::arbiter::{Command, Outcome, Request, ServiceState, Source};
use crate::runtime::arbitration::Asker;
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::model::{
    DeploymentId, Digest, Environment, EnvironmentId, RequestKey, Revision, ServiceId, Stage as Far,
};
use crate::runtime::ports::secrets::StoredVersions;
use crate::runtime::ports::secrets::sealed::{SealedFiles, Settings};
use crate::runtime::records::deployments::Record;
use crate::runtime::records::environments::{Environments, Wanted};
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, Error, MemoryStore, RuntimeStore, Space, Stored};

/// The environment of all stories.
const ENVIRONMENT: &str = "dev";

/// Time that passes as the runtime's does: tests stop it, and sleeping lets it go on.
pub(crate) struct Passing(tokio::time::Instant);

impl Clock for Passing {
    fn now(&self) -> Time {
        Time::from_micros(1_700_000_010_000_000).after(self.0.elapsed())
    }
}

/// A store that counts its writes.
#[derive(Default)]
struct Counting {
    inner: MemoryStore,
    writes: AtomicU64,
}

#[async_trait]
impl RuntimeStore for Counting {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Stored>, Error> {
        self.inner.get(space, name).await
    }
    async fn put(&self, space: &Space, name: &str, bytes: Bytes, expected: u64) -> Result<u64, Error> {
        self.writes.fetch_add(1, SeqCst);
        self.inner.put(space, name, bytes, expected).await
    }
    async fn remove(&self, space: &Space, name: &str, expected: u64) -> Result<(), Error> {
        self.writes.fetch_add(1, SeqCst);
        self.inner.remove(space, name, expected).await
    }
    async fn list(&self, space: &Space, prefix: &str) -> Result<Vec<(String, Stored)>, Error> {
        self.inner.list(space, prefix).await
    }
}

/// Hears what is said.
#[derive(Default)]
struct Ear(Mutex<Vec<Envelope>>);

#[async_trait]
impl Outbox for Ear {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        let mut heard = self.0.lock().unwrap();
        if !heard.iter().any(|known| known.event_id == event.event_id) {
            heard.push(event.clone());
        }
        Ok(())
    }
    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// Takes down which sagas were wanted; they end when the story says so.
#[derive(Default)]
pub(crate) struct Wishes(Mutex<BTreeMap<String, (Starting, Option<Ended>)>>);

impl Wishes {
    pub(crate) fn all(&self) -> Vec<Starting> {
        self.0.lock().unwrap().values().map(|(starting, _)| starting.clone()).collect()
    }

    pub(crate) fn end(&self, key: &SagaKey, outcome: Ended) {
        self.0.lock().unwrap().get_mut(key.as_str()).unwrap().1 = Some(outcome);
    }
}

#[async_trait]
impl Sagas for Wishes {
    async fn start(&self, starting: &Starting) -> Result<(), Failure> {
        let mut wishes = self.0.lock().unwrap();
        wishes.entry(starting.key.to_string()).or_insert_with(|| (starting.clone(), None));
        Ok(())
    }
    async fn became(&self, _: &Tenant, key: &SagaKey) -> Result<Option<Became>, Failure> {
        let wishes = self.0.lock().unwrap();
        Ok(wishes.get(key.as_str()).map(|(_, ended)| ended.clone().map_or(Became::UnderWay, Became::Ended)))
    }
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) machine: Arc<Machine>,
    pub(crate) wishes: Arc<Wishes>,
    pub(crate) ports: Ports,
    store: Arc<Counting>,
    ear: Arc<Ear>,
    runs: AtomicU64,
    _dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let (machine, wishes) = (Arc::new(Machine::default()), Arc::<Wishes>::default());
        let (store, ear) = (Arc::<Counting>::default(), Arc::<Ear>::default());
        let clock = Arc::new(Passing(tokio::time::Instant::now()));
        let dir = tempfile::tempdir().unwrap();
        let values = SealedFiles::open(Settings::new(dir.path()), clock.clone()).await.unwrap();
        let ports = Ports {
            store: store.clone(),
            compute: machine.clone(),
            prober: machine.clone(),
            metrics: Some(machine.clone()),
            desired: None,
            secrets: Arc::new(StoredVersions::new(Arc::new(values))),
            sagas: wishes.clone(),
            outbox: ear.clone(),
            clock,
        };
        let stage = Self { _dir: dir, machine, wishes, ports, store, ear, runs: AtomicU64::new(0) };
        let wanted: Wanted = serde_json::from_value(json!({ "environment": ENVIRONMENT })).unwrap();
        Environments::new(stage.ports.store.clone()).create(&stage.tenant(), &wanted).await.unwrap();
        stage
    }

    /// Provisions the environment for so many replicas.
    pub(crate) async fn room(&self, replicas: u32) {
        let place = self.place("any");
        let name = place::environment(&place.environment);
        store::change(&*self.ports.store, &place.space(), &name, |there: Option<&Environment>| {
            Some(Environment { max_replicas: Some(replicas), ..there?.clone() })
        })
        .await
        .unwrap();
    }

    pub(crate) fn tenant(&self) -> Tenant {
        Tenant::new("acme").unwrap()
    }

    pub(crate) fn place(&self, service: &str) -> Place {
        Place {
            owner: self.tenant(),
            environment: EnvironmentId::new(ENVIRONMENT).unwrap(),
            service: ServiceId::new(service).unwrap(),
        }
    }

    pub(crate) fn worker(kind: &str) -> WorkerId {
        let environment = protocol::Environment::new(ENVIRONMENT).unwrap();
        WorkerId::new(WorkerKind::new(kind).unwrap(), Tenant::new("acme").unwrap(), environment)
    }

    /// Lets `version` of `service` run with so many replicas, and a liveness probe.
    pub(crate) async fn deploy(&self, service: &str, version: &str, replicas: u32) {
        self.deploy_as(service, &format!("{service}-{version}"), version, replicas).await;
    }

    /// The same as a deployment of that name.
    pub(crate) async fn deploy_as(&self, service: &str, deployment: &str, version: &str, replicas: u32) {
        let revision = revision(deployment, version, replicas);
        self.record(service, &revision).await;
        let sequence = self
            .ask(service, &format!("deploy:{deployment}"), Command::Deploy { to: revision, anew: false })
            .await
            .sequence;
        self.finish(service, sequence, Outcome::Succeeded).await;
        self.apply(service).await;
    }

    /// Takes down how `revision` runs: with a liveness probe.
    pub(crate) async fn record(&self, service: &str, revision: &Revision) {
        let place = self.place(service);
        let record: Record = serde_json::from_value(json!({
            "deployment": {
                "deploymentId": revision.deployment_id, "serviceId": service, "kind": "deploy", "from": null,
                "to": revision, "state": "Completed", "by": "ann", "at": self.ports.clock.now(), "why": null,
            },
            "tenant": "acme",
            "saga": format!("acme/{}", revision.deployment_id),
            "comes": { "revision": revision, "workload": { "probe": { "path": "/health" } }, "set": "" },
        }))
        .unwrap();
        let name = place.deployment(&revision.deployment_id);
        store::write(&*self.store, &place.space(), &name, &record, 0).await.unwrap();
    }

    /// Brings the machine to what the arbiter says.
    pub(crate) async fn apply(&self, service: &str) {
        let (desk, now) = (Desk::new(self.ports.clone(), Which::RuntimeInventoryWorker), self.service(service).await);
        let running = desk.running(&now.place, &now.current().unwrap()).await.unwrap().unwrap();
        self.machine.only(service, &running.set(&*self.store, &now.place, &now.docket.tenant).await.unwrap()).await;
    }

    /// Asks the arbiter as a person.
    pub(crate) async fn ask(&self, service: &str, key: &str, command: Command) -> ServiceState {
        self.ask_as(service, Source::Operator, key, command).await
    }

    /// Asks the arbiter.
    pub(crate) async fn ask_as(&self, service: &str, source: Source, key: &str, command: Command) -> ServiceState {
        let desk = Desk::new(self.ports.clone(), Which::RuntimeInventoryWorker);
        let request = Request {
            key: RequestKey::new(key).unwrap(),
            source,
            by: Principal::new("ann").unwrap(),
            asked_at: self.ports.clock.now(),
            command,
        };
        let asker = Asker { tenant: self.tenant(), trace: TraceId::new("t").unwrap(), saga: "acme/story".into() };
        desk.arbitration.ask(&self.place(service), &asker, Far::Dev, &request).await.unwrap().state
    }

    pub(crate) async fn finish(&self, service: &str, sequence: u64, outcome: Outcome) {
        let command = Command::Finished { sequence, outcome };
        self.ask_as(service, Source::Runner, &format!("finish:{service}/{sequence}"), command).await;
    }

    pub(crate) async fn service(&self, service: &str) -> Service {
        let desk = Desk::new(self.ports.clone(), Which::RuntimeInventoryWorker);
        let seen = desk.arbitration.look(&self.place(service)).await.unwrap().unwrap();
        Service { place: self.place(service), docket: seen.value }
    }

    /// One run, and what it said and wrote.
    pub(crate) async fn run(&self, worker: &dyn Worker) -> Ran {
        let (said, writes) = (self.ear.0.lock().unwrap().len(), self.store.writes.load(SeqCst));
        let number = self.runs.fetch_add(1, SeqCst) + 1;
        let by = (Why::ByHand(Principal::new("ann").unwrap()), TraceId::new("trace-1").unwrap());
        let around = (self.ports.clock.clone(), self.ports.outbox.clone());
        let run = Run::alone(Self::worker(worker.kind()), number, by, Value::Null, around);
        let report = worker.run(&run).await;
        let said = self.ear.0.lock().unwrap()[said..].to_vec();
        Ran { report, said, writes: self.store.writes.load(SeqCst) - writes }
    }

    /// All that was said so far.
    pub(crate) fn heard(&self) -> Vec<Envelope> {
        self.ear.0.lock().unwrap().clone()
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// A revision of that name.
pub(crate) fn revision(deployment: &str, version: &str, replicas: u32) -> Revision {
    let digit = version.bytes().next().unwrap_or(b'0') as char;
    Revision {
        deployment_id: DeploymentId::new(deployment).unwrap(),
        image: Digest::new(format!("sha256:{}", digit.to_string().repeat(64))).unwrap(),
        version: version.to_owned(),
        replicas,
        configuration: None,
        secrets: BTreeMap::new(),
        restarts: 0,
    }
}

/// What came of one run.
pub(crate) struct Ran {
    pub(crate) report: Result<Report, Failure>,
    pub(crate) said: Vec<Envelope>,
    pub(crate) writes: u64,
}

impl Ran {
    /// Whether it was as if it had not been.
    pub(crate) fn silent(&self) -> bool {
        self.report.as_ref().is_ok_and(|report| !report.changed) && self.said.is_empty() && self.writes == 0
    }

    /// What it did, for a person.
    pub(crate) fn did(&self) -> &str {
        &self.report.as_ref().unwrap().did
    }

    /// What it said: types, with their status where they have one. What the arbiter says is left out.
    pub(crate) fn told(&self) -> Vec<String> {
        let ours = self.said.iter().filter(|event| !event.event_type.starts_with("RuntimeAction"));
        let told = ours.map(|event| match event.payload.get("status").and_then(Value::as_str) {
            Some(status) => format!("{} {status}", event.event_type),
            None => event.event_type.clone(),
        });
        told.collect()
    }
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, said {:?}, {} writes", self.report, self.told(), self.writes)
    }
}
