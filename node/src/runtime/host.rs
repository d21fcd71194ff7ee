//! Keeps what runs on this machine, or from here in a cluster, as soon as nobody else does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actors::runtime::compute::Compute;
use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::compute::gateway::Calls;
use actors::runtime::compute::process::{Processes, Secrets, Settings};
use actors::runtime::control::replicas::Replicas;
use actors::runtime::deployment::{self, Ports};
use actors::runtime::ports::metrics::scrape::{self, Scraper};
use actors::runtime::ports::probes::{self, LocalProber};
use actors::runtime::ports::secrets::StoredVersions;
use actors::runtime::probing::HttpProber;
use actors::runtime::records::environments::Environments;
use actors::runtime::store::RuntimeStore;
use actors::runtime::{decommission, removal};
use anyhow::Context;
use supervisor::activities::Activities;
use supervisor::ports::{Clock, Outbox};
use supervisor::tree::card::Card;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::calls::{self, Crier};
use super::keeper::{self, Kept};
use super::local::Local;
use super::worker::Worker;
use crate::config::Config;
use crate::kubernetes::{self, Kubernetes};
use crate::nats::Bus;
use crate::service::Dispatcher;

/// How often a directory that another node has is tried: a takeover should be seen before heartbeats
/// of the work under way run out.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Where services run, with what is needed to run them there.
enum Place {
    /// Processes of this machine, and the directory of their artifacts.
    Machine(Box<Settings>, PathBuf),
    /// A Kubernetes cluster.
    Cluster(Box<kubernetes::Settings>),
}

impl Place {
    fn dir(&self) -> &Path {
        match self {
            Self::Machine(settings, _) => &settings.dir,
            Self::Cluster(settings) => &settings.dir,
        }
    }

    async fn open(&self, calls: &Calls, clock: Arc<dyn Clock>) -> io::Result<Arc<dyn Compute>> {
        Ok(match self {
            Self::Machine(settings, artifacts) => {
                let artifacts = Arc::new(DirectoryArtifacts::open(artifacts)?);
                let mut settings = settings.clone();
                settings.gateway.calls = Some(calls.clone());
                Arc::new(Processes::open(*settings, artifacts, clock).await?)
            }
            Self::Cluster(settings) => {
                let mut settings = settings.clone();
                settings.gateway.calls = Some(calls.clone());
                Arc::new(Kubernetes::open(*settings, clock).await?)
            }
        })
    }
}

/// The keeper of a state directory, or one that waits to be.
pub struct RuntimeHost {
    place: Place,
    local: Local,
    running_max: usize,
    store: Arc<dyn RuntimeStore>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    bus: Bus,
    dispatcher: Arc<Dispatcher>,
}

impl RuntimeHost {
    /// `None` where the settings name no state directory.
    pub fn new(
        config: &Config,
        store: Arc<dyn RuntimeStore>,
        outbox: Arc<dyn Outbox>,
        clock: Arc<dyn Clock>,
        bus: Bus,
        dispatcher: Arc<Dispatcher>,
        local: Option<Local>,
    ) -> Option<Self> {
        let local = local?;
        let secrets = Some(Secrets(local.secrets.clone()));
        let place = match config.kubernetes_settings() {
            Some(settings) => Place::Cluster(Box::new(kubernetes::Settings { secrets, ..settings })),
            None => {
                let settings = Settings { secrets, ..config.process_settings()? };
                Place::Machine(Box::new(settings), config.artifacts_dir()?)
            }
        };
        let running_max = config.limits.attempts_per_activity;
        Some(Self { place, local, running_max, store, outbox, clock, bus, dispatcher })
    }

    /// Waits for the directory, and serves until the node ends. Dropping it leaves the processes
    /// running and lets the directory go.
    pub async fn serve(self: Arc<Self>, card: Arc<Card>) -> anyhow::Result<()> {
        let mut waited = false;
        let (calls, called) = mpsc::channel(calls::CALLS_MAX);
        let dir = self.place.dir().display();
        let compute = loop {
            match self.place.open(&calls, self.clock.clone()).await {
                Ok(compute) => break compute,
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                    card.doing("another node keeps what runs from this directory; waits to take over");
                    if !waited {
                        info!(%dir, "another node keeps what runs, waits");
                    }
                    waited = true;
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(error) => {
                    warn!(%dir, %error, "what runs cannot be kept");
                    return Err(error).with_context(|| format!("taking over {dir}"));
                }
            }
        };
        info!(%dir, "keeps what runs");
        card.doing(format!("keeps what runs from {dir}"));
        let kept = self.kept(compute.clone());
        let whole = decommission::Ports {
            store: self.store.clone(),
            compute: compute.clone(),
            provisioner: kept.provisioner.clone(),
            secrets: kept.secrets.clone(),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
        };
        let ports = Ports {
            store: self.store.clone(),
            compute,
            prober: Arc::new(HttpProber),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
        };
        let mut activities = Activities::new();
        let all = [deployment::activities(ports.clone()), removal::activities(ports), decommission::activities(whole)];
        for activity in all.into_iter().flatten() {
            activities.add(activity, self.running_max)?;
        }
        let worker = Worker { bus: self.bus.clone(), dispatcher: self.dispatcher.clone(), clock: self.clock.clone() };
        // Whichever ends first ends the service, and it is started again.
        let crier = Crier {
            environments: Environments::new(self.store.clone()),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
        };
        tokio::select! {
            served = worker.serve(activities) => served,
            served = keeper::serve(self.bus.clone(), kept) => served,
            () = crier.serve(called) => Ok(()),
        }
    }

    /// What the workers are given of the machine, whichever node they run on.
    fn kept(&self, compute: Arc<dyn Compute>) -> Kept {
        let prober = Arc::new(LocalProber::new(probes::local::Settings::default()));
        let replicas = Arc::new(Replicas::new(compute.clone(), self.clock.clone()));
        let metrics = Arc::new(Scraper::new(scrape::Settings::default(), replicas, self.clock.clone()));
        let secrets = Arc::new(StoredVersions::new(self.local.secrets.clone()));
        Kept { compute, prober, metrics, secrets, provisioner: self.local.provisioner.clone() }
    }
}
