//! Secrets and environments from a node that is not on the machine that keeps them.

use std::io::Read as _;
use std::sync::{Arc, Mutex};

use actors::runtime::control::{Became, Ports, Sagas, Starting};
use actors::runtime::model::{EnvironmentId, RequestKey, SecretBindingId};
use actors::runtime::ports::provisioning::{Plan, PreviewId, Provisioner, Quota, Wanted};
use actors::runtime::ports::secrets::{Secret, SecretName, SecretStore, SecretVersions, State, Which};
use actors::runtime::records::environments::{Environments, Wanted as WantedEnvironment};
use actors::runtime::records::secrets::{Put, Secrets};
use actors::runtime::store::MemoryStore;
use actors::runtime::workers::secrets::SecretRotation;
use bytes::Bytes;
use flate2::read::DeflateDecoder;
use futures::StreamExt as _;
use node::runtime::keeper::FarKeeper;
use protocol::{Envelope, Environment, Principal, SagaKey, Tenant, TraceId, Value, WorkerId, WorkerKind};
use supervisor::activity::Failure;
use supervisor::ports::{Clock as _, Outbox, Unavailable};
use supervisor::worker::{Run, Why, Worker as _};

use super::*;

/// Hears what a worker tells.
#[derive(Default)]
struct Ear(Mutex<Vec<Envelope>>);

#[async_trait]
impl Outbox for Ear {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }

    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// Nothing here takes a saga.
struct NoSagas;

#[async_trait]
impl Sagas for NoSagas {
    async fn start(&self, starting: &Starting) -> Result<(), Failure> {
        Err(Failure::named("NoSagas", starting.key.to_string()))
    }

    async fn became(&self, _: &Tenant, _: &SagaKey) -> Result<Option<Became>, Failure> {
        Ok(None)
    }
}

fn acme() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn dev() -> EnvironmentId {
    ENVIRONMENT.parse().unwrap()
}

/// All that went over the bus, packed and unpacked.
async fn listen(bus: &Bus) -> Arc<Mutex<Vec<u8>>> {
    let mut heard = bus.client.subscribe(">").await.unwrap();
    bus.client.flush().await.unwrap();
    let all = Arc::<Mutex<Vec<u8>>>::default();
    let kept = all.clone();
    tokio::spawn(async move {
        while let Some(message) = heard.next().await {
            let mut kept = kept.lock().unwrap();
            kept.extend(&message.payload);
            // What is not packed ends with an error, and is kept as it came.
            let _ = DeflateDecoder::new(&message.payload[..]).read_to_end(&mut kept);
        }
    });
    all
}

fn contains(all: &Mutex<Vec<u8>>, text: &[u8]) -> bool {
    all.lock().unwrap().windows(text.len()).any(|bytes| bytes == text)
}

/// W043–W049: the worker's shard and the one who puts a value may be on any node. No value is ever on
/// the bus, and none comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_put_and_rotated_from_another_node() {
    let world = World::open().await;
    let all = listen(&world._server.bus).await;
    let (store, ear, clock) = (Arc::new(MemoryStore::new()), Arc::<Ear>::default(), Arc::new(SystemClock));
    let wanted: WantedEnvironment = serde_json::from_value(serde_json::json!({ "environment": dev() })).unwrap();
    Environments::new(store.clone()).create(&acme(), &wanted).await.unwrap();
    let (far, ann) = (Arc::new(world.far.clone()), Principal::new("ann").unwrap());
    let secrets = Secrets::new(store.clone(), far.clone(), acme(), dev());
    let (db, token) = (SecretBindingId::new("db").unwrap(), RequestKey::new("a").unwrap());
    let put = |token: RequestKey, value: &'static str| {
        let (secrets, db, ann) = (secrets.clone(), db.clone(), ann.clone());
        async move { secrets.put(&db, &token, Secret::new(value), &ann, SystemClock.now()).await.unwrap() }
    };
    assert_eq!(put(token.clone(), "hunter2").await, Put::Current(1));
    assert_eq!(put(token, "hunter2").await, Put::Current(1), "the same command again keeps one");
    assert!(secrets.request(&db, &ann, SystemClock.now()).await.unwrap());

    let ports = Ports {
        store: store.clone(),
        compute: far.clone(),
        prober: far.clone(),
        metrics: None,
        desired: None,
        secrets: far.clone(),
        sagas: Arc::new(NoSagas),
        outbox: ear.clone(),
        clock: clock.clone(),
    };
    let worker = SecretRotation::new(&ports);
    let environment = Environment::new(ENVIRONMENT).unwrap();
    let id = WorkerId::new(WorkerKind::new(worker.kind()).unwrap(), acme(), environment);
    let why = (Why::ByHand(ann.clone()), TraceId::new("a".repeat(32)).unwrap());
    let run = Run::alone(id, 1, why, Value::Null, (clock, ear.clone()));
    let report = worker.run(&run).await.unwrap();
    assert!(report.did.contains("Finish of version 2") && report.did.contains("Retire of version 2"), "{report:?}");

    let name = SecretName::new(format!("{ENVIRONMENT}/db")).unwrap();
    let known = far.describe(&name).await.unwrap().unwrap();
    let states: Vec<_> = known.versions.iter().map(|version| (version.number, version.state)).collect();
    assert_eq!((states, known.labels.current), (vec![(1, State::Retired), (2, State::Active)], Some(2)));
    // A person's value waits, and a worker brings it into use.
    assert_eq!(put(RequestKey::new("b").unwrap(), "hunter3").await, Put::Pending(3));
    let (_, made) = world.values.get(&name, Which::Number(2)).await.unwrap();
    let (_, kept) = world.values.get(&name, Which::Number(3)).await.unwrap();
    assert_eq!(kept.reveal(), b"hunter3");
    let said = format!("{:?} {report:?}", ear.0.lock().unwrap());
    for value in [b"hunter".as_slice(), made.reveal()] {
        assert!(!contains(&all, value), "a value was on the bus");
        assert!(!said.contains(std::str::from_utf8(value).unwrap()), "a value was told: {said}");
    }
    assert!(contains(&all, ENVIRONMENT.as_bytes()), "the ear heard the rest");
    let none = SecretName::new("none").unwrap();
    let refused = far.test(&none, 1).await.unwrap_err();
    assert_eq!((refused.error.as_str(), refused.permanent), ("UnknownSecret", true), "errors keep their names");
    world.end().await;
}

/// F32, from another node: shown first, then exactly that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_is_provisioned_from_another_node() {
    let world = World::open().await;
    let store = Arc::new(MemoryStore::new());
    let wanted: WantedEnvironment = serde_json::from_value(serde_json::json!({ "environment": "shop" })).unwrap();
    let environment = Environments::new(store).create(&acme(), &wanted).await.unwrap();
    let quota = Quota { replicas: 8, memory_bytes: None, cpu_millis: None };
    let plan = Plan { environment, wanted: Wanted::Present { quota } };
    let shop = plan.environment.environment_id.clone();
    let provisioner: &dyn Provisioner = &world.far;
    assert_eq!(provisioner.state(&shop).await.unwrap(), None);
    let preview = provisioner.preview(&plan).await.unwrap();
    let refused = provisioner.apply(&plan, &PreviewId::new("made up")).await.unwrap_err();
    assert_eq!((refused.error.as_str(), refused.permanent), ("PreviewChanged", true));
    let outputs = provisioner.apply(&plan, &preview.id).await.unwrap();
    assert!(outputs.contains_key("gatewayPort"), "{outputs:?}");
    assert_eq!(provisioner.apply(&plan, &preview.id).await.unwrap(), outputs, "again: nothing happens");
    assert_eq!(provisioner.state(&shop).await.unwrap().unwrap().quota, quota);
    world.end().await;
}

/// Nobody keeps secrets: that may pass, and says what to do.
#[tokio::test]
async fn without_a_keeper_a_value_is_not_kept() {
    let server = one().await;
    let far = FarKeeper::new(&server.bus);
    let name = SecretName::new("dev/db").unwrap();
    let failure = far.put(&name, &RequestKey::new("a").unwrap(), Secret::new("hunter2")).await.unwrap_err();
    assert!(!failure.permanent && failure.cause.contains("runtime.dir"), "{failure}");
}
