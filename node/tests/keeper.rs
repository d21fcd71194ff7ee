//! The keeper's desk on a real server: compute over the bus keeps the promises of compute itself, and
//! says so when nobody is there. So do secrets and provisioning.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::compute::process::proc::{kill_family, marked};
use actors::runtime::compute::process::{Processes, Settings};
use actors::runtime::compute::{Compute, SetId};
use actors::runtime::control::replicas::Replicas;
use actors::runtime::model::{Probe, ProbeKind, ProbeSpec};
use actors::runtime::ports::metrics::scrape::{self, Scraper};
use actors::runtime::ports::metrics::{Metrics, Query, Subject};
use actors::runtime::ports::probes::{self, LocalProber, Prober};
use actors::runtime::ports::provisioning::{Machine, machine};
use actors::runtime::ports::secrets::StoredVersions;
use actors::runtime::ports::secrets::sealed::{self, SealedFiles};
use async_trait::async_trait;
use node::nats::Bus;
use node::node::SystemClock;
use node::runtime::keeper::{FarKeeper, Kept, serve};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

#[path = "../../actors/tests/compute_contract/mod.rs"]
#[macro_use]
mod compute_contract;
#[path = "nats/support.rs"]
mod nats_support;
#[path = "keeper/secrets.rs"]
mod secrets;

use compute_contract::{ENVIRONMENT, Place, gateway_listens, observe, run, set};
use nats_support::{One, bus, one};

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A server, a keeper on one connection, and whoever asks it on another.
struct World {
    dir: TempDir,
    artifacts: DirectoryArtifacts,
    keeper: Bus,
    processes: Arc<Processes>,
    served: JoinHandle<()>,
    far: FarKeeper,
    /// The values of secrets, where they are.
    values: Arc<SealedFiles>,
    _server: One,
}

fn settings(dir: &Path) -> Settings {
    let mut settings = Settings::new(dir.join("state"));
    settings.restart_pause = Duration::from_millis(50);
    settings.stop_time = Duration::from_secs(2);
    settings.ready_probe_pause = Duration::from_millis(200);
    settings
}

async fn values(dir: &Path) -> Arc<SealedFiles> {
    let at = sealed::Settings::new(dir.join("secrets"));
    Arc::new(SealedFiles::open(at, Arc::new(SystemClock)).await.unwrap())
}

async fn keep(dir: &Path, artifacts: &DirectoryArtifacts, bus: &Bus) -> (Arc<Processes>, JoinHandle<()>) {
    let clock = Arc::new(SystemClock);
    let artifacts = Arc::new(artifacts.clone());
    let processes = Arc::new(Processes::open(settings(dir), artifacts, clock.clone()).await.unwrap());
    let compute: Arc<dyn Compute> = processes.clone();
    let replicas = Arc::new(Replicas::new(compute.clone(), clock.clone()));
    let kept = Kept {
        compute,
        prober: Arc::new(LocalProber::new(probes::local::Settings::default())),
        metrics: Arc::new(Scraper::new(scrape::Settings::default(), replicas, clock)),
        secrets: Arc::new(StoredVersions::new(values(dir).await)),
        provisioner: Arc::new(Machine::open(machine::Settings::new(dir.join("provisioned"))).unwrap()),
    };
    let served = serve(bus.clone(), kept);
    (processes, tokio::spawn(async move { drop(served.await) }))
}

impl World {
    async fn open() -> Self {
        let server = one().await;
        let keeper = bus([server.server.url()]).await;
        let dir = tempfile::tempdir().unwrap();
        let artifacts = DirectoryArtifacts::open(dir.path().join("published")).unwrap();
        let (processes, served) = keep(dir.path(), &artifacts, &keeper).await;
        let far = FarKeeper::new(&server.bus);
        let values = values(dir.path()).await;
        let world = Self { dir, artifacts, keeper, processes, served, far, values, _server: server };
        world.answers().await;
        world
    }

    async fn answers(&self) {
        let answers = async {
            while self.far.observe(ENVIRONMENT).await.is_err() {
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, answers).await.expect("the keeper answers");
    }

    fn instance(&self) -> String {
        let path: PathBuf = self.dir.path().join("state/instance");
        std::fs::read_to_string(path).unwrap()
    }

    async fn end(self) {
        for set in observe(&self).await.sets {
            self.far.route(ENVIRONMENT, &set.service, &[]).await.unwrap();
            self.far.remove(&SetId::new(ENVIRONMENT, set.service, set.revision)).await.unwrap();
        }
        let left = marked(&self.instance()).unwrap();
        assert!(left.is_empty(), "processes were left behind: {left:?}");
        self.served.abort();
        self.processes.close().await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for left in marked(&self.instance()).unwrap_or_default() {
            while kill_family(&left.marker, None).is_ok_and(|killed| killed > 0) {}
        }
    }
}

#[async_trait]
impl Place for World {
    fn compute(&self) -> &dyn Compute {
        &self.far
    }

    fn publish(&self, bytes: &[u8]) -> String {
        self.artifacts.add(bytes).unwrap()
    }

    fn publish_as(&self, bytes: &[u8], digest: &str) {
        std::fs::write(self.artifacts.dir().join(digest), bytes).unwrap();
    }

    async fn reborn(&mut self) {
        self.served.abort();
        let _ = (&mut self.served).await;
        self.processes.close().await;
        (self.processes, self.served) = keep(self.dir.path(), &self.artifacts, &self.keeper).await;
        self.answers().await;
        gateway_listens(self).await;
    }
}

macro_rules! contract {
    ($($part:ident::$case:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let mut world = World::open().await;
            compute_contract::$part::$case(&mut world).await;
            world.end().await;
        }
    )*};
}

cases!(contract with artifacts);

/// Probes and figures come from where the replicas are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_asked_from_where_they_are() {
    let world = World::open().await;
    let set = set(&world, "web", "r1", 1);
    let replica = run(&world, &set).await.remove(0);
    let address = replica.address.unwrap();
    let place = probes::Place::at(address.ip());
    let at = |port| ProbeSpec::new(ProbeKind::Liveness, Probe::Tcp { port });
    assert!(world.far.probe(&place, &at(address.port())).await.unwrap().passed());
    assert!(!world.far.probe(&place, &at(1)).await.unwrap().passed(), "nobody listens there");
    let metadata = probes::Place::at([169, 254, 169, 254]);
    let refused = world.far.probe(&metadata, &at(80)).await.unwrap_err();
    assert_eq!((refused.error.as_str(), refused.permanent), ("ForbiddenAddress", true), "errors keep their names");
    let of = Subject { environment: ENVIRONMENT.parse().unwrap(), service: "web".parse().unwrap() };
    let unknown = world.far.sample(&of, &Query::Named("none".into())).await.unwrap_err();
    assert_eq!(unknown.error, "UnknownQuery");
    world.end().await;
}

/// Nobody keeps the processes: that may pass, and says what to do.
#[tokio::test]
async fn without_a_keeper_it_may_pass_by_itself() {
    let server = one().await;
    let far = FarKeeper::new(&server.bus);
    let failure = far.observe(ENVIRONMENT).await.unwrap_err();
    assert!(!failure.permanent && failure.cause.contains("runtime.dir"), "{failure}");
}
