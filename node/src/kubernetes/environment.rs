//! One environment: what is in its namespace, the gateway in front of it, and what goes on in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use actors::runtime::compute::gateway::Gateway;
use supervisor::activity::Failure;
use tokio::sync::watch;

use super::backends::{Backends, Wanted};
use super::cache::Cache;
use super::seen;

/// One environment.
pub struct Environment {
    /// Its name.
    pub name: String,
    /// What is in its namespace.
    pub cache: Arc<Cache>,
    /// The way in, once something was applied.
    pub front: OnceLock<Front>,
    /// Sets and pods that somebody works on.
    busy: Mutex<BTreeSet<String>>,
    /// Why the last work on a set failed, for whoever waits for it.
    failed: Mutex<BTreeMap<String, Failure>>,
    ended: watch::Sender<()>,
}

/// The way in.
pub struct Front {
    /// The gateway.
    pub gateway: Gateway,
    /// The replicas behind it.
    pub backends: Backends,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Environment {
    /// Nothing goes on yet.
    pub fn new(name: &str, cache: Arc<Cache>) -> Self {
        Self {
            name: name.to_owned(),
            cache,
            front: OnceLock::new(),
            busy: Mutex::default(),
            failed: Mutex::default(),
            ended: watch::Sender::new(()),
        }
    }

    /// Makes the gateway know what the cache does.
    pub fn sync(&self) {
        let Some(front) = self.front.get() else { return };
        let table = &front.gateway.table;
        let services = self.cache.services(&self.name);
        let mut gone: BTreeSet<String> = table.traffic().into_iter().map(|one| one.service).collect();
        for service in &services {
            let Some(name) = service.metadata.name.as_deref() else { continue };
            let routes = seen::routes(Some(service));
            if !routes.is_empty() {
                gone.remove(name);
            }
            // Routing anew begins the shares anew.
            if table.routes(name) != routes {
                table.route(name, &routes);
            }
        }
        for service in gone {
            table.route(&service, &[]);
        }
        let sets = self.cache.sets(&self.name);
        let mut wanted = BTreeMap::new();
        for kept in &sets {
            let id = &kept.made.set.id;
            for pod in self.cache.pods_of(kept) {
                let (Some(name), Some(address)) = (pod.metadata.name.clone(), seen::address(&kept.made, &pod)) else {
                    continue;
                };
                let (service, revision) = (id.service.clone(), id.revision.clone());
                let backend = Wanted { service, revision, address, incarnation: seen::incarnation(&pod) };
                wanted.insert(name, (backend, seen::takes_requests(kept, &pod)));
            }
        }
        front.backends.set(wanted);
        for (service, counted) in table.traffic().into_iter().map(|one| (one.service, one.revisions)) {
            for revision in counted.into_iter().map(|one| one.revision) {
                let is = |id: &actors::runtime::compute::SetId| id.service == service && id.revision == revision;
                if !sets.iter().any(|kept| is(&kept.made.set.id)) {
                    table.forget(&service, &revision);
                }
            }
        }
    }

    /// Takes on the work called `key`, unless somebody has it.
    pub fn begin(&self, key: &str) -> bool {
        lock(&self.busy).insert(key.to_owned())
    }

    /// The work called `key` ended like this. Whoever waits hears it; it can be taken on again after
    /// [`again`](Self::again).
    pub fn end(&self, key: &str, result: Result<(), Failure>) {
        match result {
            Ok(()) => lock(&self.failed).remove(key),
            Err(failure) => lock(&self.failed).insert(key.to_owned(), failure),
        };
        self.ended.send_replace(());
    }

    /// The work called `key` may be taken on again.
    pub fn again(&self, key: &str) {
        lock(&self.busy).remove(key);
        self.ended.send_replace(());
    }

    /// Why the last work called `key` failed, told once.
    pub fn failure(&self, key: &str) -> Option<Failure> {
        lock(&self.failed).remove(key)
    }

    /// Turns when work ends.
    pub fn ended(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }
}
