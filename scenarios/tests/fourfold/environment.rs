//! The world of an environment that goes: it has no services, and something of each kind is kept of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::runtime::decommission::{self, Ports};
use actors::runtime::model::{EnvironmentId, SecretBindingId, ServiceId};
use actors::runtime::ports::provisioning::{Machine, Plan, Provisioner, Quota, Wanted as Resources, machine};
use actors::runtime::ports::secrets::sealed::{self, SealedFiles};
use actors::runtime::ports::secrets::{Secret, SecretStore, StoredVersions};
use actors::runtime::records::configurations;
use actors::runtime::records::environments::{Environments, Wanted};
use actors::runtime::records::place::Place;
use actors::runtime::records::secrets::Secrets;
use actors::runtime::store::{MemoryStore, RuntimeStore, Space};
use protocol::{Principal, Tenant, Time, Value};
use scenarios::fourfold::Stage;
use serde_json::json;
use supervisor::activity::Activity;
use supervisor::ports::Clock;

use super::compute::MemoryCompute;
use super::deployment::{Deaf, Simulated, attempt, tenant};

struct Environment {
    store: Arc<MemoryStore>,
    values: Arc<SealedFiles>,
    provisioner: Arc<Machine>,
    born: tokio::time::Instant,
    /// Where values and directories are; goes with the world.
    _dir: tempfile::TempDir,
}

fn shop() -> EnvironmentId {
    EnvironmentId::new("shop").unwrap()
}

fn guest() -> Tenant {
    Tenant::new("friend").unwrap()
}

/// A fresh world.
pub fn stage() -> Box<dyn Stage> {
    let (born, dir) = (tokio::time::Instant::now(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(Simulated(born));
        let values = Arc::new(SealedFiles::open(sealed::Settings::new(dir.path()), clock.clone()).await.unwrap());
        let settings = machine::Settings { ports: 22_000..=22_099, ..machine::Settings::new(dir.path().join("made")) };
        let provisioner = Arc::new(Machine::open(settings).unwrap());
        let store: Arc<MemoryStore> = Arc::default();
        let environments = Environments::new(store.clone());
        let wanted: Wanted = serde_json::from_value(json!({ "environment": "shop" })).unwrap();
        let made = environments.create(&tenant(), &wanted).await.unwrap();
        environments.bind(&tenant(), &shop(), &guest(), 3).await.unwrap();
        let quota = Quota { replicas: 4, memory_bytes: None, cpu_millis: None };
        let plan = Plan::of(&made, Resources::Present { quota });
        let preview = provisioner.preview(&plan).await.unwrap();
        provisioner.apply(&plan, &preview.id).await.unwrap();
        let place = Place { owner: tenant(), environment: shop(), service: ServiceId::new("web").unwrap() };
        let entries = BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]);
        configurations::publish(&*store, &place, &entries).await.unwrap();
        let secrets = Secrets::new(store.clone(), Arc::new(StoredVersions::new(values.clone())), tenant(), shop());
        let (db, kim) = (SecretBindingId::new("db").unwrap(), Principal::new("kim").unwrap());
        secrets.put(&db, &"first".parse().unwrap(), Secret::new("secret"), &kim, Time::from_micros(0)).await.unwrap();
        secrets.bind(&db, Some(&place.service), None).await.unwrap();
        Environment { store, values, provisioner, born, _dir: dir }
    });
    Box::new(world)
}

impl Stage for Environment {
    fn activities(&self) -> Vec<Arc<dyn Activity>> {
        decommission::activities(Ports {
            store: self.store.clone(),
            compute: Arc::new(MemoryCompute::default()),
            provisioner: self.provisioner.clone(),
            secrets: Arc::new(StoredVersions::new(self.values.clone())),
            outbox: Arc::new(Deaf),
            clock: Arc::new(Simulated(self.born)),
        })
    }

    fn input(&self) -> Value {
        json!({ "environment": "shop" })
    }

    /// All that is remembered, by whoever remembers it.
    fn traces(&self) -> BTreeMap<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut traces = BTreeMap::new();
            for space in [Space::Shared, Space::Of(tenant()), Space::Of(guest())] {
                for below in ["environment", "binding", "guest", "owner", "configuration", "published", "secret"] {
                    for (name, stored) in self.store.list(&space, below).await.unwrap() {
                        traces.insert(format!("{space}: {name}"), String::from_utf8_lossy(&stored.bytes).into_owned());
                    }
                }
            }
            let values = self.values.list().await.unwrap();
            traces.extend(values.into_iter().map(|name| (format!("value {name}"), String::new())));
            if let Some(made) = self.provisioner.state(&shop()).await.unwrap() {
                traces.insert("made".to_owned(), format!("{:?} {:?}", made.quota, made.outputs.keys()));
            }
            traces
        })
    }
}

/// W073: neither a guest nor a stranger closes it, one saga at a time does, and nobody is let in meanwhile.
#[test]
fn only_its_owner_removes_an_environment() {
    let world = stage();
    let (activities, before) = (world.activities(), world.traces());
    let close = activities.iter().find(|one| one.name() == "environment.close").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let closes = |tenant: Tenant, key: &str| {
        let answer = runtime.block_on(close.run(&attempt(tenant, key), world.input()));
        answer.map(drop).map_err(|failure| failure.error)
    };
    for other in [guest(), Tenant::new("stranger").unwrap()] {
        assert_eq!(closes(other, "theirs").unwrap_err(), "TenantRefused");
    }
    assert_eq!(world.traces(), before);
    closes(tenant(), "ours").unwrap();
    closes(tenant(), "ours").unwrap();
    assert_eq!(closes(tenant(), "another").unwrap_err(), "EnvironmentClosed");
    assert_eq!(closes(guest(), "theirs").unwrap_err(), "EnvironmentClosed");
    let forget = activities.iter().find(|one| one.name() == "environment.forget").unwrap();
    runtime.block_on(forget.run(&attempt(tenant(), "another"), world.input())).unwrap();
    assert!(world.traces().len() >= before.len(), "what another saga closed it does not forget");
    runtime.block_on(forget.run(&attempt(tenant(), "ours"), world.input())).unwrap();
    assert!(world.traces().is_empty(), "{:?}", world.traces());
}
