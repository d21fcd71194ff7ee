//! The workers that this node runs, for whoever looks at them or speaks to them without asking the
//! tree first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use protocol::command::ListWorkers;
use protocol::worker::WorkerView;
use protocol::{Envelope, Environment, Tenant, WorkerId, WorkerKind};

use super::worker;
use crate::tree::shell::Handle;
use crate::worker::Worker;

/// One running worker.
#[derive(Clone)]
pub struct Post {
    /// Its actor.
    pub handle: Handle<worker::Message>,
    /// What it last said of itself.
    pub shown: Arc<Mutex<WorkerView>>,
}

type Posts = BTreeMap<(Tenant, WorkerKind), BTreeMap<Environment, Post>>;

/// Kinds of workers, and those that run here. Kept by the supervisor of the workers.
pub struct Local {
    kinds: BTreeMap<WorkerKind, Arc<dyn Worker>>,
    posts: RwLock<Posts>,
    supervisor: Mutex<Option<Handle<super::Message>>>,
    /// Up to which change of the node's shards the posts are what they should be; 0: never.
    settled: AtomicU64,
}

/// Workers that cannot be offered together.
#[derive(Debug, thiserror::Error)]
pub enum BadWorkers {
    /// Two have one kind.
    #[error("two workers are of the kind {0}")]
    KindTaken(WorkerKind),
    /// A kind is no name.
    #[error(transparent)]
    BadKind(#[from] protocol::ids::BadName),
}

impl Local {
    /// None of them runs yet.
    pub fn new(workers: Vec<Arc<dyn Worker>>) -> Result<Self, BadWorkers> {
        let mut kinds = BTreeMap::new();
        for worker in workers {
            let kind = WorkerKind::new(worker.kind())?;
            if kinds.insert(kind.clone(), worker).is_some() {
                return Err(BadWorkers::KindTaken(kind));
            }
        }
        let (posts, supervisor, settled) = (RwLock::default(), Mutex::default(), AtomicU64::new(0));
        Ok(Self { kinds, posts, supervisor, settled })
    }

    /// What this node can run.
    pub const fn kinds(&self) -> &BTreeMap<WorkerKind, Arc<dyn Worker>> {
        &self.kinds
    }

    /// The types of events that make some worker run, each once.
    pub fn triggers(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.kinds.values().flat_map(|worker| worker.triggers()).map(|trigger| (*trigger).to_owned()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The worker, if it runs here.
    pub fn find(&self, worker: &WorkerId) -> Option<Post> {
        let posts = self.posts.read().unwrap_or_else(PoisonError::into_inner);
        posts.get(&(worker.tenant.clone(), worker.kind.clone()))?.get(&worker.environment).cloned()
    }

    /// Whether every worker that belongs here as of change `changes` of the shards was started.
    pub fn is_settled(&self, changes: u64) -> bool {
        self.settled.load(Relaxed) > changes
    }

    /// The workers of `tenant` that run here and that `list` wants.
    pub fn list(&self, tenant: &Tenant, list: &ListWorkers) -> Vec<WorkerView> {
        let wanted = |kind: &WorkerKind| list.kind.as_ref().is_none_or(|wanted| wanted == kind);
        let whole = list.kind.is_some() && list.environment.is_some();
        let posts = self.posts.read().unwrap_or_else(PoisonError::into_inner);
        let posts = posts.iter().filter(|((of, kind), _)| of == tenant && wanted(kind)).flat_map(|(_, posts)| posts);
        posts
            .filter(|(environment, _)| list.environment.as_ref().is_none_or(|wanted| wanted == *environment))
            .map(|(_, post)| {
                let mut view = post.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if !whole {
                    view.history.clear();
                }
                view
            })
            .collect()
    }

    /// Something happened: tells every worker here whose trigger it is. Each decides by itself
    /// whether it is concerned.
    pub fn hear(&self, event: &Arc<Envelope>) {
        let posts = self.posts.read().unwrap_or_else(PoisonError::into_inner);
        for (kind, worker) in &self.kinds {
            if !worker.triggers().contains(&event.event_type.as_str()) {
                continue;
            }
            for post in posts.get(&(event.tenant_id.clone(), kind.clone())).into_iter().flat_map(BTreeMap::values) {
                post.handle.tell(worker::Message::Event(event.clone()));
            }
        }
    }

    /// Stops all workers, and starts none any more. Returns when no run is under way, or after
    /// `patience`.
    pub async fn drain(&self, patience: Duration) {
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(supervisor) = supervisor else { return };
        let (tell, told) = tokio::sync::oneshot::channel();
        supervisor.tell(super::Message::Drain(tell));
        if tokio::time::timeout(patience, told).await.is_err() {
            tracing::warn!(?patience, "workers did not stop in time, they are aborted");
        }
    }

    pub(super) fn begin(&self, supervisor: Handle<super::Message>) {
        *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(supervisor);
        self.posts.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.settled.store(0, Relaxed);
    }

    pub(super) fn settle(&self, changes: u64) {
        self.settled.store(changes + 1, Relaxed);
    }

    pub(super) fn put(&self, worker: &WorkerId, post: Post) {
        let mut posts = self.posts.write().unwrap_or_else(PoisonError::into_inner);
        let environments = posts.entry((worker.tenant.clone(), worker.kind.clone())).or_default();
        environments.insert(worker.environment.clone(), post);
    }

    pub(super) fn take(&self, worker: &WorkerId) {
        let mut posts = self.posts.write().unwrap_or_else(PoisonError::into_inner);
        let key = (worker.tenant.clone(), worker.kind.clone());
        if let Some(environments) = posts.get_mut(&key) {
            environments.remove(&worker.environment);
            if environments.is_empty() {
                posts.remove(&key);
            }
        }
    }
}
