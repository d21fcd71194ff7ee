//! Commands on a store in memory, with secrets and environments in a directory.

use std::sync::{Mutex, PoisonError};

use actors::runtime::arbiter::Outcome;
use actors::runtime::model::{
    DeploymentId, Digest, DriftFinding, DriftKind, FindingHash, FindingState, Revision, Stage,
};
use actors::runtime::ports::secrets::StoredVersions;
use actors::runtime::store::MemoryStore;
use async_trait::async_trait;
use bytes::Bytes;
use protocol::Time;
use supervisor::ports::Unavailable;

use super::*;
use crate::config::Config;
use crate::runtime::local::Local;

mod four_eyes;
mod ownership;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Time {
        Time::from_micros(1_700_000_000_000_000)
    }
}

/// Hears what is told, and what is buried.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<Envelope>>,
    buried: Mutex<Vec<String>>,
}

#[async_trait]
impl Outbox for Ear {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // The stream keeps an id once.
        if heard.iter().all(|known| known.event_id != event.event_id) {
            heard.push(event.clone());
        }
        Ok(())
    }

    async fn bury(&self, _: &str, _: &str, _: &str, whole: Bytes) -> Result<(), Unavailable> {
        let mut buried = self.buried.lock().unwrap_or_else(PoisonError::into_inner);
        buried.push(String::from_utf8_lossy(&whole).into_owned());
        Ok(())
    }
}

/// Nobody keeps processes.
struct Nobody;

#[async_trait]
impl RemoteActivities for Nobody {
    async fn call(&self, _: &Tenant, name: &str, _: &Attempt, _: Value) -> Result<RemoteAnswer, Failure> {
        Err(Failure::named("NoWorker", format!("nobody serves {name}")))
    }
}

struct World {
    desk: RuntimeDesk,
    store: Arc<MemoryStore>,
    ear: Arc<Ear>,
    commands: Mutex<u32>,
    _dir: tempfile::TempDir,
}

impl World {
    /// With the environment `dev` of acme, and the production `prod`, which acme is bound to.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, ear) = (Arc::new(MemoryStore::new()), Arc::new(Ear::default()));
        let local = Local::open(dir.path(), &Config::default(), Arc::new(Noon)).await.unwrap();
        let secrets = Arc::new(StoredVersions::new(local.secrets));
        let (outbox, nobody) = (ear.clone(), Arc::new(Nobody));
        let desk = RuntimeDesk::new(store.clone(), outbox, Arc::new(Noon), nobody, secrets, local.provisioner);
        let world = Self { desk, store, ear, commands: Mutex::new(0), _dir: dir };
        world.ask(name::ENVIRONMENT_CREATE, json!({ "environment": "dev" })).await.unwrap();
        world.ask(name::ENVIRONMENT_CREATE, json!({ "environment": "prod", "stage": "prod" })).await.unwrap();
        let bind = json!({ "environment": "prod", "tenant": "acme", "maxReplicas": 5 });
        world.ask(name::ENVIRONMENT_BIND, bind).await.unwrap();
        world
    }

    async fn ask(&self, command: &str, body: Value) -> Answer {
        self.ask_as("acme", command, body).await
    }

    async fn ask_as(&self, tenant: &str, command: &str, body: Value) -> Answer {
        self.ask_by(tenant, "ann", command, body).await
    }

    async fn ask_by(&self, tenant: &str, principal: &str, command: &str, body: Value) -> Answer {
        let number = {
            let mut commands = self.commands.lock().unwrap();
            *commands += 1;
            *commands
        };
        let routed = Routed {
            tenant: Tenant::new(tenant).unwrap(),
            principal: principal.into(),
            command: command.into(),
            received_at: Noon.now(),
            trace: None,
            id: format!("cmd-{number}"),
            causes: 0,
            hops: 0,
            content_type: "application/json".into(),
            body: Vec::new(),
        };
        self.desk.handle(&routed, &Principal::new(principal).unwrap(), body).await
    }

    fn place(environment: &str) -> Place {
        Place {
            owner: Tenant::new("acme").unwrap(),
            environment: EnvironmentId::new(environment).unwrap(),
            service: ServiceId::new("web").unwrap(),
        }
    }

    /// Has something done to `web` as its arbiter sees it.
    async fn arbiter(&self, environment: &str, source: Source, key: &str, command: Command) {
        let place = Self::place(environment);
        let asker = Asker {
            tenant: place.owner.clone(),
            trace: TraceId::new("a".repeat(32)).unwrap(),
            saga: format!("acme/{key}"),
        };
        let request = Request {
            key: RequestKey::new(key).unwrap(),
            source,
            by: Principal::new("ann").unwrap(),
            asked_at: Noon.now(),
            command,
        };
        self.desk.arbitration.ask(&place, &asker, Stage::Dev, &request).await.unwrap();
    }

    /// A completed deployment of `web` with two replicas.
    async fn deployed(&self, environment: &str) {
        self.arbiter(environment, Source::Operator, "d", Command::Deploy { to: revision(), anew: false }).await;
        self.arbiter(environment, Source::Runner, "f", finished(Outcome::Succeeded)).await;
    }

    fn events(&self) -> Vec<String> {
        let heard = self.ear.heard.lock().unwrap();
        let told = heard.iter().map(|event| event.event_type.clone());
        told.filter(|name| !name.starts_with("RuntimeAction")).collect()
    }

    /// All that was said and kept, but for the store of secrets.
    async fn everything(&self) -> String {
        let mut all = format!("{:?} {:?}", self.ear.heard.lock().unwrap(), self.ear.buried.lock().unwrap());
        for space in [Space::Shared, Space::Of(Tenant::new("acme").unwrap()), Space::Of(Tenant::new("evil").unwrap())] {
            for prefix in ["secret", "rotation", "binding", "environment", "arbiter"] {
                for (_, stored) in self.store.list(&space, prefix).await.unwrap() {
                    all.push_str(&String::from_utf8_lossy(&stored.bytes));
                }
            }
        }
        all
    }
}

fn revision() -> Revision {
    Revision {
        deployment_id: DeploymentId::new("d1").unwrap(),
        image: Digest::new(format!("sha256:{}", "ab".repeat(32))).unwrap(),
        version: "1".into(),
        replicas: 2,
        configuration: None,
        secrets: Default::default(),
        restarts: 0,
    }
}

fn finished(outcome: Outcome) -> Command {
    Command::Finished { sequence: 1, outcome }
}

fn of(environment: &str) -> Value {
    json!({ "environment": environment, "service": "web" })
}

/// W042, W074: the same again is the same version, and nothing is said.
#[tokio::test]
async fn a_configuration_is_published_once_per_content() {
    let world = World::new().await;
    let publish = |value: &str| {
        let body = json!({ "environment": "dev", "service": "web", "entries": { "COLOUR": value } });
        world.ask(name::CONFIGURATION_PUBLISH, body)
    };
    let first = publish("red").await.unwrap();
    assert_eq!((first["version"].as_u64(), first["new"].as_bool()), (Some(1), Some(true)));
    let again = publish("red").await.unwrap();
    assert_eq!((again["version"].as_u64(), again["new"].as_bool()), (Some(1), Some(false)));
    assert_eq!(again["digest"], first["digest"]);
    assert_eq!(publish("blue").await.unwrap()["version"], 2);
    assert_eq!(world.events(), ["ConfigurationPublished", "ConfigurationPublished"]);
    assert!(!format!("{:?}", world.ear.heard.lock().unwrap()).contains("blue"), "events hold no values");
    let shown = world.ask(name::CONFIGURATION_SHOW, of("dev")).await.unwrap();
    assert_eq!((shown["version"].as_u64(), shown["entries"]["COLOUR"].as_str()), (Some(2), Some("blue")));
    let listed = world.ask(name::CONFIGURATION_LIST, of("dev")).await.unwrap();
    assert_eq!(listed["versions"].as_array().unwrap().len(), 2);
    let missing = json!({ "environment": "dev", "service": "web", "version": 9 });
    let refused = world.ask(name::CONFIGURATION_SHOW, missing).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    assert!(refused.mend.unwrap().contains("skald config list web"));
}

/// W073: a stranger is refused on record, and hears nothing.
#[tokio::test]
async fn a_stranger_is_refused_before_anything_is_read_or_kept() {
    let world = World::new().await;
    let secret = json!({ "environment": "dev", "secret": "db", "value": "hunter2" });
    for (command, body) in [
        (name::CONFIGURATION_PUBLISH, json!({ "environment": "dev", "service": "web", "entries": {} })),
        (name::SECRET_PUT, secret),
        (name::SECRET_LIST, json!({ "environment": "dev" })),
        (name::ENVIRONMENT_PROVISION, json!({ "environment": "dev" })),
        (name::INCIDENT_CLOSE, of("dev")),
        (name::SERVICE_SCALE, json!({ "environment": "dev", "service": "web", "replicas": 3 })),
    ] {
        let refused = world.ask_as("evil", command, body).await.unwrap_err();
        assert!(refused.message.contains("evil is not bound"), "{command}: {refused:?}");
    }
    assert!(world.events().iter().all(|event| event == "RuntimeAccessRefused"));
    assert!(!world.everything().await.contains("hunter2"));
}

/// W043–W049: a value is kept, counted and never shown.
#[tokio::test]
async fn a_secret_is_kept_bound_and_its_rotation_asked_for() {
    let world = World::new().await;
    let put = |value: &str, id: &str| {
        let body = json!({ "environment": "dev", "secret": "db-password", "value": value, "id": id });
        world.ask(name::SECRET_PUT, body)
    };
    let mut said = Vec::new();
    let first = put("hunter2", "a").await.unwrap();
    assert_eq!((first["version"].as_u64(), first["current"].as_bool()), (Some(1), Some(true)));
    let later = put("hunter3", "b").await.unwrap();
    assert_eq!((later["version"].as_u64(), later["current"].as_bool()), (Some(2), Some(false)));
    said.push(put("hunter3", "b").await.unwrap());
    let bind = json!({ "environment": "dev", "secret": "db-password", "service": "web", "rotateEveryMs": 3_600_000 });
    said.push(world.ask(name::SECRET_BIND, bind).await.unwrap());
    let of = json!({ "environment": "dev", "secret": "db-password" });
    let rotated = world.ask(name::SECRET_ROTATE, of).await.unwrap();
    assert_eq!(rotated["requested"], false, "the value that was put has asked for it");
    let listed = world.ask(name::SECRET_LIST, json!({ "environment": "dev" })).await.unwrap();
    let row = &listed["secrets"][0];
    assert_eq!((row["variable"].as_str(), row["version"].as_u64()), (Some("DB_PASSWORD"), Some(1)));
    assert_eq!((row["rotation"].as_str(), row["bound"]["web"].as_u64()), (Some("requested"), Some(0)));
    said.extend([first, later, rotated, listed]);
    assert!(world.events().contains(&"SecretRotationRequested".to_owned()));
    let everything = format!("{} {said:?}", world.everything().await);
    assert!(!everything.contains("hunter"), "{everything}");
}

#[tokio::test]
async fn a_faulty_secret_is_refused_without_being_shown() {
    let world = World::new().await;
    let bodies = [json!("hunter2"), json!({ "environment": "dev", "secret": "db", "value": 4711 })];
    for body in bodies {
        let refused = world.ask(name::SECRET_PUT, body).await.unwrap_err();
        assert_eq!(refused.code, Code::BadRequest);
        let text = format!("{refused:?}");
        assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
    }
    let nobody = json!({ "environment": "dev", "secret": "none" });
    let refused = world.ask(name::SECRET_ROTATE, nobody).await.unwrap_err();
    assert!(refused.message.contains("skald secret put none"), "{refused:?}");
}

/// H02: a policy owns the replicas, and nobody else sets them meanwhile.
#[tokio::test]
async fn replicas_have_one_owner() {
    let world = World::new().await;
    world.deployed("dev").await;
    let policy = json!({ "minReplicas": 2, "maxReplicas": 4, "targets": [{ "metric": "rps", "perReplica": 50.0 }] });
    let apply = json!({ "environment": "dev", "service": "web", "policy": policy });
    assert_eq!(world.ask(name::SCALING_APPLY, apply.clone()).await.unwrap()["changed"], true);
    assert_eq!(world.ask(name::SCALING_APPLY, apply).await.unwrap()["changed"], false);
    let three = json!({ "environment": "dev", "service": "web", "replicas": 3 });
    let refused = world.ask(name::SERVICE_SCALE, three.clone()).await.unwrap_err();
    assert!(refused.message.contains("a scaling policy owns the replicas"), "{refused:?}");
    let listed = world.ask(name::SCALING_LIST, json!({})).await.unwrap();
    assert_eq!(listed["policies"][0]["policy"]["maxReplicas"], 4);
    assert_eq!(world.ask(name::SCALING_REMOVE, of("dev")).await.unwrap()["removed"], true);
    assert_eq!(world.ask(name::SCALING_REMOVE, of("dev")).await.unwrap()["removed"], false);
    assert_eq!(world.ask(name::SERVICE_SCALE, three).await.unwrap()["doing"], "scaling");
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_refused_with_its_field() {
    let world = World::new().await;
    world.deployed("dev").await;
    let policy = json!({ "minReplicas": 4, "maxReplicas": 2, "targets": [{ "metric": "rps", "perReplica": 50.0 }] });
    let apply = json!({ "environment": "dev", "service": "web", "policy": policy });
    let refused = world.ask(name::SCALING_APPLY, apply).await.unwrap_err();
    assert_eq!(refused.code, Code::BadRequest);
    assert!(refused.message.contains("maxReplicas"), "{refused:?}");
}

/// B.3: a binding's quota holds for scaling by hand too.
#[tokio::test]
async fn nobody_scales_beyond_the_quota() {
    let world = World::new().await;
    world.deployed("prod").await;
    let six = json!({ "environment": "prod", "service": "web", "replicas": 6 });
    assert!(world.ask(name::SERVICE_SCALE, six).await.unwrap_err().message.contains("may have 5 replicas"));
    let five = json!({ "environment": "prod", "service": "web", "replicas": 5 });
    assert!(world.ask(name::SERVICE_SCALE, five).await.is_ok());
}

/// What an environment was provisioned for holds for all its services together, its owner's too; what
/// one has it keeps.
#[tokio::test]
async fn nobody_scales_beyond_what_was_provisioned() {
    let world = World::new().await;
    world.deployed("dev").await;
    let provision = async |replicas: u32| {
        let mut body = json!({ "environment": "dev", "replicas": replicas });
        body["preview"] = world.ask(name::ENVIRONMENT_PROVISION, body.clone()).await.unwrap()["preview"].clone();
        world.ask(name::ENVIRONMENT_PROVISION, body).await.unwrap();
    };
    let scale = async |replicas: u32| {
        let to = json!({ "environment": "dev", "service": "web", "replicas": replicas });
        world.ask(name::SERVICE_SCALE, to).await.map_err(|refused| refused.message)
    };
    provision(1).await;
    let refused = scale(3).await.unwrap_err();
    assert!(refused.contains("all services together may have 1 replicas in dev"), "{refused}");
    assert!(scale(2).await.is_ok(), "it has two");
    // Making the environment again says nothing of its room.
    world.ask(name::ENVIRONMENT_CREATE, json!({ "environment": "dev" })).await.unwrap();
    assert!(scale(3).await.is_err());
    provision(3).await;
    assert!(scale(3).await.is_ok());
    let listed = world.ask(name::ENVIRONMENT_LIST, json!({})).await.unwrap();
    assert_eq!(listed["environments"][0]["maxReplicas"], 3);
}

/// R076: a decision is recorded, once.
#[tokio::test]
async fn a_decision_about_drift_is_recorded() {
    let world = World::new().await;
    world.deployed("prod").await;
    let place = World::place("prod");
    let finding = DriftFinding {
        hash: FindingHash::new(format!("sha256:{}", "cd".repeat(32))).unwrap(),
        environment_id: place.environment.clone(),
        service_id: place.service.clone(),
        kind: DriftKind::Image,
        field: String::new(),
        desired: "a".into(),
        observed: "b".into(),
        state: FindingState::Open,
        opened: 1,
        opened_at: Noon.now(),
    };
    let name = place::finding(&place.environment, &finding.hash);
    store::write(&*world.store, &place.space(), &name, &finding, 0).await.unwrap();
    let listed = world.ask(name::DRIFT_LIST, json!({})).await.unwrap();
    assert_eq!(
        (listed["findings"][0]["kind"].as_str(), listed["findings"][0]["state"].as_str()),
        (Some("image"), Some("open"))
    );
    let which = json!({ "environment": "prod", "finding": "cdcd" });
    assert_eq!(world.ask(name::DRIFT_APPROVE, which.clone()).await.unwrap()["state"], "approved");
    assert_eq!(world.ask(name::DRIFT_APPROVE, which).await.unwrap()["state"], "approved");
    assert_eq!(world.events(), ["RuntimeDriftApproved"], "the second time said nothing");
    let none = json!({ "environment": "prod", "finding": "77" });
    assert_eq!(world.ask(name::DRIFT_ACCEPT, none).await.unwrap_err().code, Code::NotFound);
}

/// R094, R110: an incident stands until a person closes it.
#[tokio::test]
async fn an_incident_is_listed_shown_and_closed() {
    let world = World::new().await;
    assert_eq!(world.ask(name::INCIDENT_LIST, json!({})).await.unwrap()["incidents"].as_array().unwrap().len(), 0);
    world.arbiter("dev", Source::Operator, "d", Command::Deploy { to: revision(), anew: false }).await;
    let stuck = finished(Outcome::Stuck { why: "the disk is full".into() });
    world.arbiter("dev", Source::Runner, "f", stuck).await;
    let listed = world.ask(name::INCIDENT_LIST, json!({})).await.unwrap();
    assert_eq!(listed["incidents"][0]["why"], "the disk is full");
    let shown = world.ask(name::INCIDENT_SHOW, of("dev")).await.unwrap();
    assert_eq!((&shown["row"]["standing"], &shown["row"]["why"]), (&json!("incident"), &json!("the disk is full")));
    assert!(shown["trail"][0].as_str().unwrap().contains("deploy by ann"), "{shown}");
    let close = json!({ "environment": "dev", "service": "web", "unhold": true });
    world.ask(name::INCIDENT_CLOSE, close.clone()).await.unwrap();
    assert_eq!(world.ask(name::INCIDENT_CLOSE, close).await.unwrap_err().code, Code::NotFound);
    assert!(world.events().contains(&"RuntimeIncidentClosed".to_owned()));
    let services = world.ask(name::SERVICE_LIST, json!({})).await.unwrap();
    assert_eq!(
        (services["services"][0]["standing"].as_str(), &services["services"][0]["held"]),
        (Some("open"), &json!([]))
    );
}

/// F32: nothing is changed that was not shown before.
#[tokio::test]
async fn an_environment_is_provisioned_as_it_was_shown() {
    let world = World::new().await;
    let ask = |more: Value| {
        let mut body = json!({ "environment": "dev" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.ask(name::ENVIRONMENT_PROVISION, body)
    };
    let shown = ask(json!({ "replicas": 8 })).await.unwrap();
    assert_eq!(shown["applied"], false);
    let preview = shown["preview"].as_str().unwrap().to_owned();
    let other = ask(json!({ "replicas": 9, "preview": preview })).await.unwrap_err();
    assert!(other.message.contains("decide on a new preview"), "{other:?}");
    let applied = ask(json!({ "replicas": 8, "preview": preview })).await.unwrap();
    assert_eq!((applied["applied"].as_bool(), &applied["changes"]), (Some(true), &shown["changes"]));
    assert!(applied["outputs"]["gatewayPort"].is_string(), "{applied}");
    assert_eq!(ask(json!({})).await.unwrap()["changes"], json!([]), "what is there stays as it is");
    assert_eq!(world.events(), ["RuntimeEnvironmentProvisioned"]);
    world.deployed("dev").await;
    let refused = ask(json!({ "absent": true })).await.unwrap_err();
    assert!(refused.message.contains("still has services: web"), "{refused:?}");
}

/// A person stops what happens by itself, lets it go on, and takes a service away.
#[tokio::test]
async fn a_service_is_paused_resumed_and_drained() {
    let world = World::new().await;
    let steer = |why: &str| json!({ "environment": "dev", "service": "web", "why": why });
    assert_eq!(world.ask(name::SERVICE_PAUSE, steer("why not")).await.unwrap_err().code, Code::NotFound);
    world.arbiter("dev", Source::Operator, "d", Command::Deploy { to: revision(), anew: false }).await;
    world.arbiter("dev", Source::Runner, "f", finished(Outcome::Succeeded)).await;
    let row = async || world.ask(name::SERVICE_LIST, json!({})).await.unwrap()["services"][0].clone();
    world.ask(name::SERVICE_PAUSE, steer("we look at it")).await.unwrap();
    let paused = row().await;
    assert_eq!((&paused["standing"], &paused["why"]), (&json!("paused"), &json!("we look at it")));
    world.ask(name::SERVICE_RESUME, of("dev")).await.unwrap();
    assert_eq!(row().await["standing"], "open");
    let accepted = world.ask(name::SERVICE_DRAIN, steer("nobody uses it")).await.unwrap();
    assert_eq!(accepted, json!({ "environment": "dev", "service": "web", "doing": "draining" }));
    assert_eq!(row().await["underWay"]["doing"], "draining");
}

/// A secret that is not bound any more comes with no deployment.
#[tokio::test]
async fn a_secret_is_unbound() {
    let world = World::new().await;
    let put = json!({ "environment": "dev", "secret": "db", "value": "hunter2" });
    world.ask(name::SECRET_PUT, put).await.unwrap();
    let of = json!({ "environment": "dev", "secret": "db", "service": "web" });
    assert_eq!(world.ask(name::SECRET_BIND, of.clone()).await.unwrap()["bound"], json!({ "web": 0 }));
    let itself = json!({ "environment": "dev", "secret": "db" });
    let used = world.ask(name::SECRET_REMOVE, itself.clone()).await.unwrap_err();
    assert!(used.message.contains("db is used by web"), "{used}");
    for _ in 0..2 {
        assert_eq!(world.ask(name::SECRET_UNBIND, of.clone()).await.unwrap()["bound"], json!({}));
    }
    assert_eq!(world.ask(name::SECRET_REMOVE, itself.clone()).await.unwrap()["removed"], true);
    let listed = world.ask(name::SECRET_LIST, json!({ "environment": "dev" })).await.unwrap();
    assert_eq!(listed["secrets"], json!([]));
    assert!(world.ask(name::SECRET_REMOVE, itself).await.is_err(), "there is none any more");
    let none = json!({ "environment": "dev", "secret": "none", "service": "web" });
    assert!(world.ask(name::SECRET_UNBIND, none).await.is_err());
}

/// R069–R076: what is put right by itself is the owner's to say, but never in production.
#[tokio::test]
async fn a_drift_policy_is_shown_and_set() {
    let world = World::new().await;
    let shown = world.ask(name::DRIFT_POLICY, json!({ "environment": "dev" })).await.unwrap();
    assert_eq!((shown["remedies"]["image"].as_str(), &shown["set"]), (Some("automatic"), &json!([])));
    let set = |environment: &str, kind: &str, what: &str| {
        let body = json!({ "environment": environment, "remedies": { kind: what } });
        world.ask(name::DRIFT_SET_POLICY, body)
    };
    assert_eq!(set("dev", "image", "review").await.unwrap()["remedies"]["image"], "review");
    assert_eq!(set("dev", "image", "review").await.unwrap()["set"], json!(["image"]));
    assert_eq!(world.events(), ["RuntimeDriftPolicyChanged"], "the second time said nothing");
    assert_eq!(set("prod", "image", "review").await.unwrap()["remedies"]["image"], "review");
    for (environment, kind, what) in [
        ("prod", "image", "automatic"),
        ("dev", "unmanaged", "automatic"),
        ("dev", "held", "none"),
        ("dev", "x", "none"),
    ] {
        assert_eq!(set(environment, kind, what).await.unwrap_err().code, Code::BadRequest, "{environment} {kind}");
    }
    let stranger = json!({ "environment": "dev", "remedies": {} });
    assert!(world.ask_as("evil", name::DRIFT_SET_POLICY, stranger).await.is_err());
}

/// R064: a person has a service put right.
#[tokio::test]
async fn all_that_differs_of_a_service_is_put_right() {
    let world = World::new().await;
    world.deployed("prod").await;
    let place = World::place("prod");
    for (digit, kind) in [("a", DriftKind::Image), ("b", DriftKind::Replicas), ("c", DriftKind::Held)] {
        let finding = DriftFinding {
            hash: FindingHash::new(format!("sha256:{}", digit.repeat(64))).unwrap(),
            environment_id: place.environment.clone(),
            service_id: place.service.clone(),
            kind,
            field: String::new(),
            desired: "a".into(),
            observed: "b".into(),
            state: FindingState::Open,
            opened: 1,
            opened_at: Noon.now(),
        };
        let name = place::finding(&place.environment, &finding.hash);
        store::write(&*world.store, &place.space(), &name, &finding, 0).await.unwrap();
    }
    let put_right = world.ask(name::DRIFT_REMEDIATE, of("prod")).await.unwrap();
    let states: Vec<_> = put_right["findings"].as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["approved", "approved"], "what was rolled back is left");
    assert_eq!(world.events(), ["RuntimeDriftApproved", "RuntimeDriftApproved"]);
    assert_eq!(world.ask(name::DRIFT_REMEDIATE, of("dev")).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_service_says_how_it_is() {
    let world = World::new().await;
    assert_eq!(world.ask(name::SERVICE_HEALTH, of("dev")).await.unwrap_err().code, Code::NotFound);
    world.deployed("dev").await;
    let health = world.ask(name::SERVICE_HEALTH, of("dev")).await.unwrap();
    assert_eq!((health["condition"].as_str(), health["standing"].as_str()), (Some("healthy"), Some("open")));
    assert!(health["missing"].is_string(), "nobody keeps processes here: {health}");
    let decisions = world.ask(name::SCALING_DECISIONS, of("dev")).await.unwrap();
    assert_eq!(decisions, json!({ "decisions": [] }));
    let listed = world.ask(name::ENVIRONMENT_LIST, json!({})).await.unwrap();
    assert_eq!(listed["environments"].as_array().unwrap().len(), 2);
}
