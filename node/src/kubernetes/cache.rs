//! What is in a namespace, as told by the API server: listed once, then watched.
//!
//! One cache serves all readers, and nobody acts on a single event: whoever hears that something
//! turned looks at the whole cache. A watch that ends in order goes on where it was. One that breaks,
//! or whose place in history has been forgotten, is begun anew with a list, and so what was deleted
//! meanwhile is gone from the cache as well. While a watch is broken nothing is answered from the
//! cache: what it holds may be old.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use supervisor::activity::Failure;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::made::Kept;
use super::names;

/// How long one watch lasts, in seconds; the next one goes on where it was.
const WATCH_SECONDS: u32 = 25;
/// A server that says nothing for this long is away: its watches would have ended by then. So nothing
/// is answered from a cache that is older.
pub const SILENCE_MAX: Duration = Duration::from_secs(40);
/// The pause before a broken watch is begun anew; each is twice the one before, up to a bound.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What is watched.
const KINDS: [&str; 3] = ["deployments", "pods", "services"];

/// What is in a namespace.
pub struct Cache {
    /// The namespace.
    pub namespace: String,
    deployments: Store<Deployment>,
    pods: Store<Pod>,
    services: Store<Service>,
    /// Why each kind is not known, in the order of [`KINDS`].
    trouble: Mutex<[Option<String>; KINDS.len()]>,
    turned: watch::Sender<()>,
}

impl Cache {
    /// Nothing is known yet; it is as long as the other part runs.
    pub fn new(client: &Client, namespace: &str) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (deployments, to_deployments) = reflector::store();
        let (pods, to_pods) = reflector::store();
        let (services, to_services) = reflector::store();
        let unknown = || Some("it was not read yet".to_owned());
        let this = Arc::new(Self {
            namespace: namespace.to_owned(),
            deployments,
            pods,
            services,
            trouble: Mutex::new([unknown(), unknown(), unknown()]),
            turned: watch::Sender::new(()),
        });
        let (cache, client) = (this.clone(), client.clone());
        let running = async move {
            let namespace = &cache.namespace;
            tokio::join!(
                cache.follow(0, Api::namespaced(client.clone(), namespace), to_deployments),
                cache.follow(1, Api::namespaced(client.clone(), namespace), to_pods),
                cache.follow(2, Api::namespaced(client.clone(), namespace), to_services),
            );
        };
        (this, running)
    }

    async fn follow<K>(&self, kind: usize, api: Api<K>, mut to: Writer<K>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let mut pause = PAUSE;
        loop {
            let config = watcher::Config::default().labels(names::OURS).timeout(WATCH_SECONDS);
            let mut events = std::pin::pin!(watcher(api.clone(), config));
            let why = loop {
                match events.try_next().await {
                    Ok(Some(event)) => {
                        to.apply_watcher_event(&event);
                        if matches!(event, watcher::Event::InitDone) {
                            pause = PAUSE;
                            self.note(kind, None);
                        }
                        self.turned.send_replace(());
                    }
                    Ok(None) => break "the watch ended".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            let (namespace, what) = (&self.namespace, KINDS[kind]);
            match pause {
                PAUSE => debug!(namespace, what, why, "a watch broke, reads anew"),
                _ => warn!(namespace, what, why, "what is in the cluster is not known, will try again"),
            }
            self.note(kind, Some(why));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn note(&self, kind: usize, why: Option<String>) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)[kind] = why;
        self.turned.send_replace(());
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let first = KINDS.iter().zip(trouble.iter()).find_map(|(kind, why)| Some((kind, why.as_ref()?)));
        first.map(|(kind, why)| format!("the {kind} of the namespace {}: {why}", self.namespace))
    }

    /// Turns with every change.
    pub fn turned(&self) -> watch::Receiver<()> {
        self.turned.subscribe()
    }

    /// Waits until all is known, for `within` at most.
    pub async fn ready(&self, within: Duration) -> Result<(), Failure> {
        self.until("reading", within, |_| true).await
    }

    /// Waits until all is known and is as `seen` says, for `within` at most.
    pub async fn until(&self, doing: &str, within: Duration, seen: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let (mut turned, end) = (self.turned(), Instant::now() + within);
        loop {
            let trouble = self.trouble();
            if trouble.is_none() && seen(self) {
                return Ok(());
            }
            match timeout_at(end, turned.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Failure::transient(doing, "the adapter was closed; ask again")),
                Err(_) => {
                    let why = trouble.unwrap_or_else(|| format!("what was written is not seen within {within:?}"));
                    return Err(Failure::transient(doing, why));
                }
            }
        }
    }

    /// The Deployment `name`.
    pub fn deployment(&self, name: &str) -> Option<Arc<Deployment>> {
        self.deployments.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// The pod `name`.
    pub fn pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// The Service `name`.
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// All Deployments with our label that are of `environment`.
    pub fn deployments(&self, environment: &str) -> Vec<Arc<Deployment>> {
        self.deployments.state_filter(|one| label(one, names::ENVIRONMENT) == Some(environment))
    }

    /// All pods with our label that are of `environment`.
    pub fn pods(&self, environment: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|one| label(one, names::ENVIRONMENT) == Some(environment))
    }

    /// All Services with our label that are of `environment`.
    pub fn services(&self, environment: &str) -> Vec<Arc<Service>> {
        self.services.state_filter(|one| label(one, names::ENVIRONMENT) == Some(environment))
    }

    /// The sets of `environment`.
    pub fn sets(&self, environment: &str) -> Vec<Kept> {
        let mut sets: Vec<Kept> = self.deployments(environment).iter().filter_map(|one| Kept::read(one)).collect();
        sets.sort_by(|a, b| a.made.set.id.cmp(&b.made.set.id));
        sets
    }

    /// The set whose Deployment is `name`.
    pub fn set(&self, name: &str) -> Option<Kept> {
        Kept::read(&*self.deployment(name)?)
    }

    /// The pods of a set, the oldest first.
    pub fn pods_of(&self, kept: &Kept) -> Vec<Arc<Pod>> {
        let id = &kept.made.set.id;
        let ours = |pod: &Pod| {
            label(pod, names::ENVIRONMENT) == Some(&id.environment)
                && label(pod, names::SERVICE) == Some(&id.service)
                && label(pod, names::REVISION) == Some(&id.revision)
                && is_kept(pod)
        };
        let mut pods = self.pods.state_filter(ours);
        pods.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone().map(|at| at.0), pod.metadata.name.clone()));
        pods
    }
}

/// A label of an object.
pub fn label<'a, K: kube::ResourceExt>(object: &'a K, name: &str) -> Option<&'a str> {
    object.labels().get(name).map(String::as_str)
}

/// Whether a controller keeps the pod: one that somebody started by hand is nobody's replica.
pub fn is_kept(pod: &Pod) -> bool {
    pod.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true))
}
