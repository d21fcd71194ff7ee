//! The worlds of a deployment: a service that runs its first revision, and gets its second.

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::runtime::deployment::{self, Ports};
use actors::runtime::model::ObservedService;
use actors::runtime::records::docket::Docket;
use actors::runtime::records::environments::{Environments, Wanted};
use actors::runtime::removal;
use actors::runtime::store::{self, MemoryStore, RuntimeStore, Space};
use async_trait::async_trait;
use bytes::Bytes;
use protocol::{Envelope, Principal, SagaId, SagaKey, Tenant, Time, TraceId, Value};
use scenarios::fourfold::Stage;
use serde_json::json;
use supervisor::activity::{Activity, Attempt, Heartbeat};
use supervisor::ports::{Clock, Outbox, Unavailable};

use super::compute::{AllWell, MemoryCompute};

/// How the second revision takes over.
#[derive(Clone, Copy)]
pub enum How {
    /// Replica by replica.
    Rolling,
    /// With a step, a pause and an analysis.
    Canary,
    /// At once.
    BlueGreen,
    /// The first revision comes back.
    Restore,
    /// It does not: the service goes.
    Removed,
}

struct Deployment {
    store: Arc<MemoryStore>,
    compute: Arc<MemoryCompute>,
    how: How,
    born: tokio::time::Instant,
}

/// Time that stands still when the simulation's does.
pub struct Simulated(pub tokio::time::Instant);

impl Clock for Simulated {
    fn now(&self) -> Time {
        Time::from_micros(1_700_000_000_000_000).after(self.0.elapsed())
    }
}

/// Hears everything and keeps nothing: what is told is looked at in `tests/deployment.rs`.
pub struct Deaf;

#[async_trait]
impl Outbox for Deaf {
    async fn publish(&self, _: &Envelope) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// A fresh world, for a deployment that takes over like this.
pub fn stage(how: How) -> Box<dyn Stage> {
    let born = tokio::time::Instant::now();
    let world = Deployment { store: Arc::default(), compute: Arc::default(), how, born };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let wanted: Wanted = serde_json::from_value(json!({ "environment": "prod-eu" })).unwrap();
        Environments::new(world.store.clone()).create(&tenant(), &wanted).await.unwrap();
        let configuration = json!({ "COLOUR": "green" });
        let first = json!({
            "artifact": digest('1'), "version": "v1", "replicas": 2, "configuration": configuration,
        });
        world.before("first", first).await;
        match how {
            How::Restore => {
                world.before("second", json!({ "artifact": digest('2'), "version": "v2", "replicas": 2 })).await;
            }
            How::Rolling | How::Canary | How::BlueGreen | How::Removed => {}
        }
    });
    Box::new(world)
}

/// The first attempt of a saga of `tenant`.
pub fn attempt(tenant: Tenant, key: &str) -> Attempt {
    Attempt {
        saga: SagaId::new(tenant, SagaKey::new(key).unwrap()),
        key: key.into(),
        number: 1,
        deadline: None,
        principal: Principal::new("kim").unwrap(),
        trace: TraceId::new("0".repeat(31) + "2").unwrap(),
        heartbeat_every: None,
        token: String::new(),
        heartbeat: Heartbeat::default(),
    }
}

pub fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn digest(of: char) -> String {
    format!("sha256:{}", of.to_string().repeat(64))
}

impl Deployment {
    fn ports(&self) -> Ports {
        Ports {
            store: self.store.clone(),
            compute: self.compute.clone(),
            prober: Arc::new(AllWell),
            outbox: Arc::new(Deaf),
            clock: Arc::new(Simulated(self.born)),
        }
    }

    /// What was deployed before the story begins, by the same activities.
    async fn before(&self, key: &str, wanted: Value) {
        let attempt = attempt(tenant(), key);
        let mut input = json!({ "environment": "prod-eu", "service": "web" });
        for (name, value) in wanted.as_object().unwrap() {
            input[name] = value.clone();
        }
        let activities = deployment::activities(self.ports());
        for step in [
            "environment.ensure",
            "deployment.claim",
            "configuration.bind",
            "workloads.rollout",
            "health.gate",
            "traffic.promote",
            "deployment.finish",
        ] {
            let activity = activities.iter().find(|one| one.name() == step).unwrap();
            activity.run(&attempt, input.clone()).await.unwrap_or_else(|error| panic!("{step}: {error}"));
        }
    }
}

impl Stage for Deployment {
    fn activities(&self) -> Vec<Arc<dyn Activity>> {
        match self.how {
            How::Removed => removal::activities(self.ports()),
            How::Rolling | How::Canary | How::BlueGreen | How::Restore => deployment::activities(self.ports()),
        }
    }

    fn input(&self) -> Value {
        // The counts of this compute stand still; that there are counts is all that can be asked.
        let counts = json!([{ "figure": "requests", "is": "atLeast", "bound": 0.0 }]);
        let analysis = |count: u64| json!({ "intervalMs": 1_000, "count": count, "success": counts, "requestsMin": 0 });
        let strategy = match self.how {
            How::Rolling => {
                json!({ "name": "RollingHealthGated", "maxSurge": { "count": 1 }, "maxUnavailable": { "count": 0 } })
            }
            How::Canary => json!({ "name": "Canary", "scaleDownDelayMs": 3_000, "steps": [
                { "type": "weight", "percent": 10 },
                { "type": "pause", "durationMs": 2_000 },
                { "type": "analysis", "analysis": analysis(2) },
            ]}),
            How::BlueGreen => json!({
                "name": "BlueGreen", "autoPromoteAfterMs": 1_000, "after": analysis(1), "scaleDownDelayMs": 3_000,
            }),
            How::Removed => return json!({ "environment": "prod-eu", "service": "web" }),
            How::Restore => {
                return json!({ "environment": "prod-eu", "service": "web", "kind": "restore", "why": "it is slow" });
            }
        };
        json!({
            "environment": "prod-eu", "service": "web", "artifact": digest('3'), "version": "v3", "replicas": 3,
            "probe": { "path": "/health" }, "strategy": strategy, "configuration": { "COLOUR": "red" },
            "projectId": "shop",
        })
    }

    /// What runs, where its traffic goes, and what the arbiter and the inventory say of it. That
    /// something was tried and is held is remembered on purpose.
    fn traces(&self) -> BTreeMap<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut traces = self.compute.traces();
        runtime.block_on(async {
            let space = Space::Of(tenant());
            for (name, docket) in store::read_all::<Docket>(&*self.store, &space, "arbiter/prod-eu").await.unwrap() {
                let state = docket.state;
                let current = state.current.map(|current| (current.version, current.image, current.configuration));
                let under_way = state.under_way.map(|under_way| under_way.action);
                let told = format!("{current:?} {} under way: {under_way:?} {:?}", state.replicas, docket.due);
                traces.insert(name, told);
            }
            let shown = store::read_all::<ObservedService>(&*self.store, &space, "inventory/prod-eu").await.unwrap();
            for below in ["owner", "configuration", "published", "deployment", "policy", "health"] {
                let kept = self.store.list(&space, &format!("{below}/prod-eu")).await.unwrap();
                let of_it = kept.iter().filter(|_| matches!(self.how, How::Removed));
                traces.extend(of_it.map(|(name, _)| (name.clone(), "kept".to_owned())));
            }
            for (name, shown) in shown {
                let told = format!("{} {} {} {:?}", shown.image, shown.replicas, shown.ready, shown.configuration);
                traces.insert(name, told);
            }
        });
        traces
    }
}
