//! What takes time: removals, sets that shrink, replicas that are replaced. Each is written on the
//! objects first and found there by whoever keeps the environment, so that it goes on after a crash.
//!
//! In all three a replica first gets no more requests and finishes those under way; then Kubernetes
//! ends it, asking first.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use supervisor::activity::Failure;
use tracing::warn;

use super::Shared;
use super::environment::Environment;
use super::made::Kept;
use super::refusal::{failure, is_missing};
use super::{manifest, names, seen};

/// How often everything is looked at although nothing turned: a change that was missed is found.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A pod that is to end before its like: Kubernetes ends the cheapest first, and others cost 0.
const CHEAP: &str = "-1000";
/// Why a pod leaves: its set has too many.
pub const SHRINK: &str = "shrink";
/// Why a pod leaves: somebody wants it anew.
pub const RENEW: &str = "renew";

/// One thing to do.
enum Work {
    Remove(Kept),
    Shrink(Kept),
    /// Pods that were to leave, of a set that has no more than it should.
    Stay(Vec<String>),
    Renew(Arc<Pod>),
}

/// Keeps an environment until the adapter is closed.
pub async fn keep(shared: Arc<Shared>, environment: Arc<Environment>) {
    let (mut turned, mut ended) = (environment.cache.turned(), environment.ended());
    loop {
        // What is not known is left as it is: traffic goes on while the API server is away.
        if environment.cache.ready(Duration::ZERO).await.is_ok() {
            if environment.front.get().is_none()
                && !environment.cache.sets(&environment.name).is_empty()
                && let Err(failure) = shared.front(&environment).await
            {
                warn!(environment = environment.name, error = %failure.cause, "the gateway cannot be opened");
            }
            environment.sync();
            for (key, work) in to_do(&environment) {
                if environment.begin(&key) {
                    shared.spawn(carry_out(shared.clone(), environment.clone(), key, work));
                }
            }
        }
        tokio::select! {
            changed = turned.changed() => if changed.is_err() { return },
            changed = ended.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn to_do(environment: &Environment) -> Vec<(String, Work)> {
    let mut all = Vec::new();
    for kept in environment.cache.sets(&environment.name) {
        let name = names::of(&kept.made.set.id);
        let pods = environment.cache.pods_of(&kept);
        let marked = |why: &str| {
            let leaves = |pod: &&Arc<Pod>| pod.annotations().get(names::LEAVING).is_some_and(|said| said == why);
            pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter(leaves).cloned().collect()
        };
        let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
        let (shrinking, renewing): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = (marked(SHRINK), marked(RENEW));
        if kept.removing || kept.deleting {
            all.push((name, Work::Remove(kept)));
            continue;
        }
        all.extend(renewing.into_iter().map(|pod| (pod.name_any(), Work::Renew(pod))));
        if kept.ours && kept.replicas > kept.wanted {
            all.push((name, Work::Shrink(kept)));
        } else if kept.settled && !shrinking.is_empty() && staying <= kept.wanted as usize {
            all.push((name, Work::Stay(shrinking.iter().map(|pod| pod.name_any()).collect())));
        }
    }
    all
}

async fn carry_out(shared: Arc<Shared>, environment: Arc<Environment>, key: String, work: Work) {
    let done = match work {
        Work::Remove(kept) => shared.removed(&environment, &kept).await,
        Work::Shrink(kept) => shared.shrunk(&environment, &kept).await,
        Work::Stay(pods) => shared.marked(&environment, &pods, None).await,
        Work::Renew(pod) => shared.renewed(&environment, &pod).await,
    };
    let failed = done.as_ref().err().map(|failure| failure.cause.clone());
    environment.end(&key, done);
    if let Some(why) = failed {
        warn!(environment = environment.name, on = key, why, "could not be carried out, will try again");
        tokio::time::sleep(shared.settings.retry_pause).await;
    }
    environment.again(&key);
}

impl Shared {
    async fn removed(&self, environment: &Environment, kept: &Kept) -> Result<(), Failure> {
        let name = names::of(&kept.made.set.id);
        let namespace = &environment.cache.namespace;
        if !kept.deleting {
            self.drained(environment, environment.cache.pods_of(kept).iter().map(|pod| pod.name_any())).await;
            // Before the Deployment, by which it is found: a crash in between leaves nothing behind.
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            deleted(secrets.delete(&name, &DeleteParams::default()).await)?;
            let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
            deleted(deployments.delete(&name, &DeleteParams::foreground()).await)?;
        }
        let gone = |cache: &super::cache::Cache| cache.deployment(&name).is_none() && cache.pods_of(kept).is_empty();
        let within = self.settings.stop_time + self.settings.drain_time + self.settings.settle_time;
        environment.cache.until("waiting for the last pod of a removed set", within, gone).await
    }

    async fn shrunk(&self, environment: &Environment, kept: &Kept) -> Result<(), Failure> {
        let name = names::of(&kept.made.set.id);
        let mut pods = environment.cache.pods_of(kept);
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        let extra = pods.len().saturating_sub(kept.wanted as usize);
        // Those that were chosen stay chosen; then those that serve nobody, as Kubernetes does it;
        // then the youngest.
        pods.reverse();
        pods.sort_by_key(|pod| (!seen::leaves(pod), seen::takes_requests(kept, pod)));
        let leaving: Vec<String> = pods.iter().take(extra).map(|pod| pod.name_any()).collect();
        self.marked(environment, &leaving, Some(SHRINK)).await?;
        self.drained(environment, leaving).await;
        // Somebody may want more again by now.
        match environment.cache.set(&name) {
            Some(now) if now.wanted == kept.wanted && !now.removing => {
                let applied = manifest::deployment(&now.made, now.wanted, now.wanted, false);
                self.apply_deployment(environment, &name, &applied).await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn renewed(&self, environment: &Environment, pod: &Pod) -> Result<(), Failure> {
        let name = pod.name_any();
        self.drained(environment, [name.clone()]).await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &environment.cache.namespace);
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        deleted(pods.delete(&name, &DeleteParams { preconditions: Some(same), ..DeleteParams::default() }).await)?;
        let begun =
            |cache: &super::cache::Cache| cache.pod(&name).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        environment.cache.until("replacing a replica", self.settings.settle_time, begun).await
    }

    async fn drained(&self, environment: &Environment, pods: impl IntoIterator<Item = String>) {
        let Some(front) = environment.front.get() else { return };
        let bound = self.settings.drain_time;
        join_all(pods.into_iter().map(|pod| async move {
            if !front.backends.drain(&pod, bound).await {
                warn!(replica = pod, "still has requests under way after the drain bound, and is ended");
            }
        }))
        .await;
    }

    /// Writes on pods why they leave, or that they stay.
    pub async fn marked(&self, environment: &Environment, pods: &[String], why: Option<&str>) -> Result<(), Failure> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &environment.cache.namespace);
        let cost = (why == Some(SHRINK)).then_some(CHEAP);
        let patch = json!({ "metadata": { "annotations": { names::LEAVING: why, names::DELETION_COST: cost } } });
        let params = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
        for pod in pods {
            match api.patch(pod, &params, &Patch::Merge(&patch)).await {
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(failure("marking a pod", error)),
                Ok(_) => {}
            }
        }
        let seen = |cache: &super::cache::Cache| {
            let is = |pod: &Arc<Pod>| pod.annotations().get(names::LEAVING).map(String::as_str) == why;
            pods.iter().all(|pod| cache.pod(pod).is_none_or(|pod| is(&pod)))
        };
        environment.cache.until("marking a pod", self.settings.settle_time, seen).await
    }

    /// Applies a Deployment, and waits until that is seen.
    pub async fn apply_deployment(
        &self,
        environment: &Environment,
        name: &str,
        manifest: &serde_json::Value,
    ) -> Result<(), Failure> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &environment.cache.namespace);
        let params = PatchParams::apply(names::MANAGER);
        let applied = api.patch(name, &params, &Patch::Apply(manifest)).await;
        let applied = applied.map_err(|error| failure("applying a Deployment", error))?;
        let (generation, annotations) = (applied.metadata.generation, applied.metadata.annotations);
        let ours = |all: Option<&std::collections::BTreeMap<String, String>>| {
            [names::MADE, names::WANTED, names::REMOVING].map(|name| all.and_then(|all| all.get(name)).cloned())
        };
        let seen = |cache: &super::cache::Cache| {
            cache.deployment(name).is_some_and(|now| {
                now.metadata.generation >= generation
                    && ours(now.metadata.annotations.as_ref()) == ours(annotations.as_ref())
            })
        };
        environment.cache.until("applying a Deployment", self.settings.settle_time, seen).await
    }
}

/// Deleted by somebody else is deleted.
fn deleted<T>(result: Result<T, kube::Error>) -> Result<(), Failure> {
    match result {
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(failure("deleting", error)),
        Ok(_) => Ok(()),
    }
}
