//! Compute on Kubernetes: a set is a Deployment, a service is a Service, and the gateway is ours.
//!
//! | in our words | in a cluster |
//! |---|---|
//! | an environment | a namespace, which must be there |
//! | an artifact by its digest | an image by its digest: `runtime.kubernetes_image` and `@sha256:…` |
//! | the command `program` | the image's own program |
//! | a set | a Deployment that is never rolled; what it is stands in its annotation `skald/made` |
//! | variables and secrets | one immutable Secret per set, which only its pods are given |
//! | a replica | a pod; its incarnation counts the starts of its container |
//! | routes | the annotation `skald/routes` of the service's Service |
//!
//! - **Weights** are exact, as everywhere: requests go through Skald's own gateway, which sends them
//!   to the pods themselves. So the node must reach pods' addresses: run it in the cluster, or where
//!   their network is routed. The Service is for those inside who do not care about shares: it leads
//!   to the revision with the largest one. Core resources cannot divide requests by weight, only by
//!   the number of pods, and a canary's share would then depend on its replicas.
//! - **Everything of ours is applied** by the manager `skald`, never by force. A field that somebody
//!   else holds (an autoscaler the replicas, say) is refused as `OwnedElsewhere`, with who and which.
//! - **Everything that takes time** (a removal, a shrinking, a restart) is written on the objects
//!   first: it goes on after a crash ([`work`]). Pods to end are drained, and chosen by their deletion
//!   cost: the youngest, but those that serve nobody go first, as Kubernetes has it.
//! - **What is observed** comes from a watch ([`cache`]); while that is broken, nothing is answered.
//!
//! What the port promises and a cluster cannot keep: the log of a pod ends with the pod; a restarted
//! replica is another pod with another name; limits of processes and open files are held by nobody
//! (and said so); whether the image exists is only found out by the pod that needs it; values of
//! secrets lie in the cluster, in the set's Secret, for as long as the set does.
//!
//! The account needs, in each namespace: `get`, `list`, `watch`, `create`, `patch`, `delete` on
//! deployments (apps), services and secrets; `get`, `list`, `watch`, `patch`, `delete` on pods; `get`
//! on pods/log. Deliberately absent: making namespaces, Ingress, service meshes, autoscalers.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use actors::runtime::compute::gateway::{Gateway, Table};
use actors::runtime::durable;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use supervisor::activity::Failure;
use supervisor::ports::Clock;
use tokio::task::JoinSet;

mod backends;
mod cache;
mod environment;
mod made;
mod manifest;
mod names;
mod refusal;
mod seen;
pub mod settings;
mod verbs;
mod work;

use backends::Backends;
use cache::Cache;
use environment::{Environment, Front};
pub use settings::Settings;

/// The adapter. Dropping it leaves everything in the cluster as it is.
pub struct Kubernetes {
    shared: Arc<Shared>,
    /// Keeps other adapters out.
    lock: Mutex<Option<File>>,
}

/// What the parts of the adapter work with.
struct Shared {
    settings: Settings,
    client: Client,
    clock: Arc<dyn Clock>,
    environments: tokio::sync::Mutex<BTreeMap<String, Arc<Environment>>>,
    /// Held by whoever changes what is wanted: two who look and then write would not see each other.
    wanting: tokio::sync::Mutex<()>,
    /// `None`: closed.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Kubernetes {
    /// Takes the directory over, and every environment that was ever used from there. The cluster
    /// need not answer yet. Refused while another process has the directory.
    pub async fn open(settings: Settings, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let config = config(&settings).await.map_err(io::Error::other)?;
        let client = Client::try_from(config).map_err(io::Error::other)?;
        Self::open_with(settings, client, clock).await
    }

    /// As [`open`](Self::open), with a client of one's own.
    pub async fn open_with(settings: Settings, client: Client, clock: Arc<dyn Clock>) -> io::Result<Self> {
        std::fs::create_dir_all(&settings.dir)?;
        let lock = durable::lock_now(&settings.dir.join("lock"))?;
        let shared = Arc::new(Shared {
            settings,
            client,
            clock,
            environments: tokio::sync::Mutex::default(),
            wanting: tokio::sync::Mutex::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
        });
        for name in shared.addresses()?.into_keys() {
            let environment = shared.begun(&name).await.map_err(|failure| io::Error::other(failure.cause))?;
            shared.front(&environment).await.map_err(|failure| io::Error::other(failure.cause))?;
        }
        Ok(Self { shared, lock: Mutex::new(Some(lock)) })
    }

    /// Stops keeping, and lets the directory go.
    pub async fn close(&self) {
        let tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // Tasks hold what holds them.
        drop(self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

async fn config(settings: &Settings) -> anyhow::Result<Config> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match (&settings.kubeconfig, &settings.context) {
        (Some(file), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?,
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        (None, None) => Config::infer().await?,
    };
    config.read_timeout = Some(cache::SILENCE_MAX);
    Ok(config)
}

impl Shared {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    fn is_closed(&self) -> bool {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The environment `name`, once all that is in it is known.
    async fn environment(self: &Arc<Self>, name: &str) -> Result<Arc<Environment>, Failure> {
        let environment = self.begun(name).await?;
        environment.cache.ready(self.settings.settle_time).await?;
        Ok(environment)
    }

    async fn begun(self: &Arc<Self>, name: &str) -> Result<Arc<Environment>, Failure> {
        let mut all = self.environments.lock().await;
        if let Some(known) = all.get(name) {
            return Ok(known.clone());
        }
        let (cache, running) = Cache::new(&self.client, &self.settings.namespace_of(name)?);
        let environment = Arc::new(Environment::new(name, cache));
        self.spawn(running);
        self.spawn(work::keep(self.clone(), environment.clone()));
        all.insert(name.to_owned(), environment.clone());
        Ok(environment)
    }

    /// Makes sure that the gateway of an environment is there.
    async fn front(self: &Arc<Self>, environment: &Environment) -> Result<(), Failure> {
        let disk = |error: io::Error| Failure::transient("opening the gateway", error);
        // One at a time: two would take two ports.
        let _all = self.environments.lock().await;
        if environment.front.get().is_some() {
            return Ok(());
        }
        let (name, settings) = (&environment.name, Arc::new(self.settings.gateway.clone()));
        let mut addresses = self.addresses().map_err(disk)?;
        let settled = settings.listen.get(name).copied().or(addresses.get(name).copied());
        let (address, listener) = match settled {
            Some(address) if address.port() != 0 => (address, None),
            Some(_) | None => {
                let any = settled.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
                let (address, listener) = Gateway::bind(any).await.map_err(disk)?;
                (address, Some(listener))
            }
        };
        if addresses.insert(name.clone(), address) != Some(address) {
            let bytes = serde_json::to_vec_pretty(&addresses).map_err(|error| disk(io::Error::other(error)))?;
            durable::write(&self.file(), &bytes).map_err(disk)?;
        }
        let table = Table::new(name, settings.calls.clone(), self.clock.clone());
        let gateway = Gateway { address, table };
        self.spawn(gateway.clone().serve(name.clone(), settings, listener));
        let backends = Backends::new(gateway.table.clone());
        // Under the lock: nobody else sets it.
        let _ = environment.front.set(Front { gateway, backends });
        environment.sync();
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.settings.dir.join("gateways.json")
    }

    fn addresses(&self) -> io::Result<BTreeMap<String, SocketAddr>> {
        match durable::read(&self.file())? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            None => Ok(BTreeMap::new()),
        }
    }
}
