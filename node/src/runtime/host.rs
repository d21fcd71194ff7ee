//! Keeps the processes of this machine, as soon as nobody else does.

use std::sync::Arc;
use std::time::Duration;

use actors::runtime::compute::Compute;
use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::compute::process::{Processes, Secrets, Settings};
use actors::runtime::control::replicas::Replicas;
use actors::runtime::deployment::{self, Ports};
use actors::runtime::environments::Environments;
use actors::runtime::ports::metrics::scrape::{self, Scraper};
use actors::runtime::ports::probes::{self, LocalProber};
use actors::runtime::ports::secrets::StoredVersions;
use actors::runtime::probing::HttpProber;
use actors::runtime::store::RuntimeStore;
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
use crate::nats::Bus;
use crate::service::Dispatcher;

/// How often a directory that another node has is tried: a takeover should be seen before heartbeats
/// of the work under way run out.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// The keeper of a state directory, or one that waits to be.
pub struct RuntimeHost {
    settings: Settings,
    local: Local,
    artifacts: std::path::PathBuf,
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
        let (mut settings, local) = (config.process_settings()?, local?);
        settings.secrets = Some(Secrets(local.secrets.clone()));
        let artifacts = config.artifacts_dir()?;
        let running_max = config.limits.attempts_per_activity;
        Some(Self { settings, local, artifacts, running_max, store, outbox, clock, bus, dispatcher })
    }

    /// Waits for the directory, and serves until the node ends. Dropping it leaves the processes
    /// running and lets the directory go.
    pub async fn serve(self: Arc<Self>, card: Arc<Card>) -> anyhow::Result<()> {
        let artifacts = DirectoryArtifacts::open(&self.artifacts).context("the directory of artifacts")?;
        let artifacts = Arc::new(artifacts);
        let mut waited = false;
        let (calls, called) = mpsc::channel(calls::CALLS_MAX);
        let mut settings = self.settings.clone();
        settings.gateway.calls = Some(calls);
        let compute = loop {
            match Processes::open(settings.clone(), artifacts.clone(), self.clock.clone()).await {
                Ok(compute) => break Arc::new(compute),
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                    card.doing("another node keeps the processes of this directory; waits to take over");
                    if !waited {
                        info!(dir = %self.settings.dir.display(), "another node keeps the processes, waits");
                    }
                    waited = true;
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(error) => {
                    warn!(dir = %self.settings.dir.display(), %error, "the processes cannot be kept");
                    return Err(error).with_context(|| format!("taking over {}", self.settings.dir.display()));
                }
            }
        };
        info!(dir = %self.settings.dir.display(), "keeps the processes");
        card.doing(format!("keeps the processes of {}", self.settings.dir.display()));
        let kept = self.kept(compute.clone());
        let ports = Ports {
            store: self.store.clone(),
            compute,
            prober: Arc::new(HttpProber),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
        };
        let mut activities = Activities::new();
        for activity in deployment::activities(ports) {
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
