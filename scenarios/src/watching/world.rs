//! What the measured workers work with: services that are as wanted, on a real server's bucket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use actors::runtime::arbiter::{Command, Outcome, Request, Source};
use actors::runtime::arbitration::{Arbitration, Asker};
use actors::runtime::control::{Became, Ports, Sagas, Starting};
use actors::runtime::model::{DeploymentId, Digest, RequestKey, Revision, ServiceId, Stage};
use actors::runtime::ports::secrets::StoredVersions;
use actors::runtime::ports::secrets::sealed::{self, SealedFiles};
use actors::runtime::records::deployments::{Record, Running};
use actors::runtime::records::environments::{Environments, Wanted};
use actors::runtime::records::place::Place;
use actors::runtime::store::{self, Error, RuntimeStore, Space, Stored};
use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use node::nats::{ConnectConfig, KvRuntime, Replicas, connect};
use node::node::SystemClock;
use node::server::Server;
use protocol::{Envelope, Principal, SagaKey, Tenant, TraceId};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::ports::{Clock, Outbox, Unavailable};
use tempfile::TempDir;

use super::Asked;
use super::crowd::Crowd;
use crate::cluster;

pub const TENANT: &str = "acme";
pub const ENVIRONMENT: &str = "dev";

/// Services that are prepared at once.
const AT_ONCE: usize = 16;

/// Counts what is written and said.
pub struct Counting {
    inner: KvRuntime,
    writes: AtomicU64,
    events: AtomicU64,
}

#[async_trait]
impl RuntimeStore for Counting {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Stored>, Error> {
        self.inner.get(space, name).await
    }
    async fn put(&self, space: &Space, name: &str, bytes: Bytes, expected: u64) -> Result<u64, Error> {
        self.writes.fetch_add(1, Relaxed);
        self.inner.put(space, name, bytes, expected).await
    }
    async fn remove(&self, space: &Space, name: &str, expected: u64) -> Result<(), Error> {
        self.writes.fetch_add(1, Relaxed);
        self.inner.remove(space, name, expected).await
    }
    async fn list(&self, space: &Space, prefix: &str) -> Result<Vec<(String, Stored)>, Error> {
        self.inner.list(space, prefix).await
    }
}

#[async_trait]
impl Outbox for Counting {
    async fn publish(&self, _: &Envelope) -> Result<(), Unavailable> {
        self.events.fetch_add(1, Relaxed);
        Ok(())
    }
    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        self.events.fetch_add(1, Relaxed);
        Ok(())
    }
}

#[async_trait]
impl Sagas for Counting {
    async fn start(&self, _: &Starting) -> Result<(), Failure> {
        self.events.fetch_add(1, Relaxed);
        Ok(())
    }
    async fn became(&self, _: &Tenant, _: &SagaKey) -> Result<Option<Became>, Failure> {
        Ok(None)
    }
}

/// The world.
pub struct World {
    pub ports: Ports,
    pub crowd: Arc<Crowd>,
    counting: Arc<Counting>,
    _server: Server,
    _dir: TempDir,
}

impl World {
    pub async fn build(asked: &Asked, port: u16) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = cluster::server(dir.path(), |_| {}).await?;
        let bus = connect(ConnectConfig::new([server.url()])).await?;
        let inner = KvRuntime::open(&bus, Replicas::One).await?;
        let counting = Arc::new(Counting { inner, writes: AtomicU64::new(0), events: AtomicU64::new(0) });
        let crowd = Arc::new(Crowd::new(port));
        let sealed =
            SealedFiles::open(sealed::Settings::new(dir.path().join("secrets")), Arc::new(SystemClock)).await?;
        let ports = Ports {
            store: counting.clone(),
            compute: crowd.clone(),
            prober: crowd.clone(),
            metrics: None,
            desired: None,
            secrets: Arc::new(StoredVersions::new(Arc::new(sealed))),
            sagas: counting.clone(),
            outbox: counting.clone(),
            clock: Arc::new(SystemClock),
        };
        let world = Self { ports, crowd, counting, _server: server, _dir: dir };
        let wanted: Wanted = serde_json::from_value(json!({ "environment": ENVIRONMENT }))?;
        Environments::new(world.ports.store.clone()).create(&Tenant::new(TENANT)?, &wanted).await?;
        let services = (0..asked.services).map(|number| world.service(asked, number));
        futures::stream::iter(services).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(world)
    }

    /// One service that was deployed long ago.
    async fn service(&self, asked: &Asked, number: u32) -> anyhow::Result<()> {
        let service = format!("service-{number}");
        let (tenant, store) = (Tenant::new(TENANT)?, &self.ports.store);
        let place =
            Place { owner: tenant.clone(), environment: ENVIRONMENT.parse()?, service: ServiceId::new(&service)? };
        let id = DeploymentId::new(format!("deploy-{number}"))?;
        let revision = Revision {
            deployment_id: id.clone(),
            image: Digest::new(format!("sha256:{}", "a".repeat(64)))?,
            version: "1".into(),
            replicas: asked.replicas,
            configuration: None,
            secrets: BTreeMap::new(),
            restarts: 0,
        };
        let workload = match asked.probes {
            true => json!({ "probe": { "path": "/health" } }),
            false => json!({}),
        };
        let record: Record = serde_json::from_value(json!({
            "deployment": {
                "deploymentId": id, "serviceId": service, "kind": "deploy", "to": revision,
                "state": "Completed", "by": "ann", "at": self.ports.clock.now(),
            },
            "tenant": TENANT,
            "saga": format!("{TENANT}/{id}"),
            "comes": { "revision": revision, "workload": workload, "set": "" },
        }))?;
        store::write(&**store, &place.space(), &place.deployment(&id), &record, 0).await?;
        let clock: Arc<dyn Clock> = self.ports.clock.clone();
        let arbitration = Arbitration::new(store.clone(), self.ports.outbox.clone(), clock.clone());
        let asker = Asker { tenant, trace: TraceId::new("bench")?, saga: format!("{TENANT}/{id}") };
        let request = |key: String, source, command| -> anyhow::Result<Request> {
            let (key, by) = (RequestKey::new(key)?, Principal::new("ann")?);
            Ok(Request { key, source, by, asked_at: clock.now(), command })
        };
        let deploy =
            request(format!("deploy:{id}"), Source::Operator, Command::Deploy { to: revision.clone(), anew: false })?;
        let answer = arbitration.ask(&place, &asker, Stage::Dev, &deploy).await?;
        let sequence = answer.sequence.context("it was accepted")?;
        let finished = Command::Finished { sequence, outcome: Outcome::Succeeded };
        let finish = request(format!("finish:{id}"), Source::Runner, finished)?;
        arbitration.ask(&place, &asker, Stage::Dev, &finish).await?;
        let set = Running::new(revision, record.comes.workload).set(&**store, &place, &record.tenant).await?;
        self.ports.compute.apply(&set).await?;
        Ok(())
    }

    /// Counts from now on.
    pub fn begin(&self) {
        self.counting.writes.store(0, Relaxed);
        self.counting.events.store(0, Relaxed);
        self.crowd.begin();
    }

    pub fn writes(&self) -> u64 {
        self.counting.writes.load(Relaxed)
    }

    pub fn events(&self) -> u64 {
        self.counting.events.load(Relaxed)
    }
}
