//! The verbs of the port.

use std::sync::Arc;

use actors::runtime::compute::process::values;
use actors::runtime::compute::set::check_name;
use actors::runtime::compute::traffic::check_routes;
use actors::runtime::compute::{Compute, Log, Observed, Reading, Route, ServiceTraffic, Set, SetId};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use supervisor::activity::Failure;

use super::environment::Environment;
use super::made::{Kept, Made};
use super::refusal::{failure, is_missing};
use super::{Kubernetes, Shared, cache, manifest, names, seen, work};

#[async_trait]
impl Compute for Kubernetes {
    async fn apply(&self, set: &Set) -> Result<(), Failure> {
        set.check()?;
        names::check(&set.id)?;
        let shared = &self.shared;
        let environment = shared.environment(&set.id.environment).await?;
        shared.front(&environment).await?;
        let name = names::of(&set.id);
        let _wanting = shared.wanting.lock().await;
        let known = environment.cache.deployment(&name);
        match known.as_deref().map(Kept::read) {
            Some(None) => Err(not_ours(&format!("the Deployment {name}"))),
            Some(Some(kept)) if kept.removing || kept.deleting => {
                Err(Failure::transient("applying", format!("{} is still being removed", set.id)))
            }
            Some(Some(kept)) if !kept.made.is(set) => Err(changed(set)),
            Some(Some(kept)) => {
                shared.keep_secret(&environment, set, true).await?;
                // Replicas that are too many are drained first, by whoever keeps the environment. Who
                // else says how many there are is not drained for: it is asked to give way.
                let drains = kept.ours && set.replicas < kept.replicas;
                let replicas = if drains { kept.replicas } else { set.replicas };
                let applied = manifest::deployment(&kept.made, replicas, set.replicas, false);
                shared.apply_deployment(&environment, &name, &applied).await
            }
            None => {
                shared.keep_secret(&environment, set, false).await?;
                let made = Made::new(set, &shared.settings);
                let applied = manifest::deployment(&made, set.replicas, set.replicas, false);
                shared.apply_deployment(&environment, &name, &applied).await
            }
        }
    }

    async fn observe(&self, name: &str) -> Result<Observed, Failure> {
        check_name("environment", name)?;
        let environment = self.shared.environment(name).await?;
        let sets = environment.cache.sets(name);
        let now = self.shared.clock.now();
        Ok(Observed {
            gateway: environment.front.get().map(|front| front.gateway.address),
            sets: sets.iter().map(|kept| seen::set(&environment.cache, kept, now)).collect(),
            unmanaged: seen::unmanaged(&environment.cache, name),
        })
    }

    async fn route(&self, name: &str, service: &str, routes: &[Route]) -> Result<(), Failure> {
        check_name("environment", name)?;
        check_name("service", service)?;
        check_routes(routes)?;
        let shared = &self.shared;
        let environment = shared.environment(name).await?;
        let _wanting = shared.wanting.lock().await;
        for route in routes {
            let id = SetId::new(name, service, &route.revision);
            if environment.cache.set(&names::of(&id)).is_none_or(|kept| kept.removing || kept.deleting) {
                return Err(Failure::named("UnknownRevision", format!("{id} was not applied; apply it first")));
            }
        }
        if seen::routes(environment.cache.service(service).as_deref()) == routes {
            return Ok(());
        }
        shared.apply_routes(&environment, service, routes).await?;
        environment.sync();
        Ok(())
    }

    async fn remove(&self, id: &SetId) -> Result<(), Failure> {
        id.check()?;
        let (shared, name) = (&self.shared, names::of(id));
        let environment = shared.environment(&id.environment).await?;
        let (mut turned, mut ended) = (environment.cache.turned(), environment.ended());
        // What was begun goes on, also when nobody waits for it any more.
        let (here, there, set) = (shared.clone(), environment.clone(), id.clone());
        let begun = tokio::spawn(async move { here.begin_removal(&there, &set).await }).await;
        begun.map_err(|error| Failure::transient("removing", error))??;
        while environment.cache.deployment(&name).is_some() || left(&environment, id) {
            if let Some(failure) = environment.failure(&name) {
                return Err(failure);
            }
            let closed = tokio::select! {
                changed = turned.changed() => changed.is_err(),
                changed = ended.changed() => changed.is_err(),
            };
            if closed || shared.is_closed() {
                return Err(Failure::transient("removing", "the adapter was closed; ask again"));
            }
        }
        Ok(())
    }

    async fn logs(&self, name: &str, replica: &str, reading: &Reading) -> Result<Log, Failure> {
        check_name("environment", name)?;
        let environment = self.shared.environment(name).await?;
        let Some((pod, _)) = environment.replica(replica) else { return Err(unknown(name, replica)) };
        let status = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let runs = status.clone().any(|one| one.state.as_ref().is_some_and(|state| state.waiting.is_none()));
        let after = reading.after.as_deref().and_then(|after| after.parse::<Timestamp>().ok());
        let params = LogParams {
            container: Some(names::CONTAINER.to_owned()),
            tail_lines: after.is_none().then(|| i64::try_from(reading.lines).unwrap_or(i64::MAX)),
            // It counts from the oldest line on, which is not what the last lines are about.
            limit_bytes: after.map(|_| i64::try_from(reading.bytes).unwrap_or(i64::MAX)),
            // The client rounds to whole seconds, also up.
            since_time: after.and_then(|after| Timestamp::from_second(after.as_second()).ok()),
            timestamps: true,
            // What waits to be started again has said why in its last life.
            previous: !runs && status.clone().any(|one| one.restart_count > 0),
            ..LogParams::default()
        };
        let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), &environment.cache.namespace);
        match pods.logs(replica, &params).await {
            Ok(text) => Ok(after_that(&text, after, reading)),
            Err(error) if is_missing(&error) => Err(unknown(name, replica)),
            Err(error) => Err(failure("reading a log", error)),
        }
    }

    async fn restart(&self, name: &str, replica: &str, incarnation: u64) -> Result<(), Failure> {
        check_name("environment", name)?;
        let environment = self.shared.environment(name).await?;
        match environment.replica(replica) {
            Some((pod, _)) if seen::incarnation(&pod) != incarnation || seen::leaves(&pod) => Ok(()),
            Some((pod, _)) => self.shared.marked(&environment, &[pod.name_any()], Some(work::RENEW)).await,
            None if environment.had(replica) => Ok(()),
            None => Err(unknown(name, replica)),
        }
    }

    async fn erase(&self, _: &str, _: &str, _: &str) -> Result<(), Failure> {
        // A pod keeps what it writes as long as it lives.
        Ok(())
    }

    async fn forget(&self, _: &str) -> Result<(), Failure> {
        // An environment is a namespace, which whoever made it removes.
        Ok(())
    }

    async fn traffic(&self, name: &str) -> Result<Vec<ServiceTraffic>, Failure> {
        check_name("environment", name)?;
        let environment = self.shared.environment(name).await?;
        Ok(environment.front.get().map(|front| front.gateway.table.traffic()).unwrap_or_default())
    }
}

fn changed(set: &Set) -> Failure {
    let why = format!("{} runs as something else; what changed needs a revision of its own", set.id);
    Failure::named("RevisionChanged", why)
}

fn not_ours(what: &str) -> Failure {
    Failure::named("OwnedElsewhere", format!("{what} is there and is not Skald's; delete it or rename the service"))
}

fn unknown(environment: &str, replica: &str) -> Failure {
    Failure::named("UnknownReplica", format!("there is no replica {replica:?} in {environment}"))
}

/// Whether pods of a set are left whose Deployment is gone.
fn left(environment: &Environment, id: &SetId) -> bool {
    environment.cache.pods(&id.environment).iter().any(|pod| {
        cache::is_kept(pod)
            && cache::label(&**pod, names::SERVICE) == Some(&id.service)
            && cache::label(&**pod, names::REVISION) == Some(&id.revision)
    })
}

impl Environment {
    /// A replica, and its set.
    fn replica(&self, name: &str) -> Option<(Arc<Pod>, Kept)> {
        let sets = self.cache.sets(&self.name).into_iter();
        sets.flat_map(|kept| self.cache.pods_of(&kept).into_iter().map(move |pod| (pod, kept.clone())))
            .find(|(pod, _)| pod.metadata.name.as_deref() == Some(name))
    }

    /// Whether `name` is one that Kubernetes gives to pods of one of the sets: the Deployment's, and
    /// two parts more.
    fn had(&self, name: &str) -> bool {
        self.cache.sets(&self.name).iter().any(|kept| {
            let rest = name.strip_prefix(&names::of(&kept.made.set.id)).and_then(|rest| rest.strip_prefix('-'));
            rest.is_some_and(|rest| rest.split('-').filter(|part| !part.is_empty()).count() == 2)
        })
    }
}

impl Shared {
    /// Writes down that a set is on its way out.
    async fn begin_removal(&self, environment: &Environment, id: &SetId) -> Result<(), Failure> {
        let name = names::of(id);
        let _wanting = self.wanting.lock().await;
        let Some(kept) = environment.cache.set(&name) else { return Ok(()) };
        let routes = seen::routes(environment.cache.service(&id.service).as_deref());
        if routes.iter().any(|route| route.revision == id.revision && route.weight > 0) {
            let why = format!("{id} still gets traffic; route it elsewhere first");
            return Err(Failure::named("StillRouted", why));
        }
        if kept.removing || kept.deleting {
            return Ok(());
        }
        environment.failure(&name);
        let applied = manifest::deployment(&kept.made, kept.replicas, kept.wanted, true);
        self.apply_deployment(environment, &name, &applied).await
    }

    /// The Secret with the variables of `set`; of a set that is `there` it must be the same.
    async fn keep_secret(&self, environment: &Environment, set: &Set, there: bool) -> Result<(), Failure> {
        let name = names::of(&set.id);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &environment.cache.namespace);
        let found = api.get_opt(&name).await.map_err(|error| failure("reading a Secret", error))?;
        let same = |secret: &Secret| {
            secret.annotations().get(names::VARIABLES).is_some_and(|digest| *digest == manifest::variables_digest(set))
        };
        match found {
            Some(secret) if same(&secret) => return Ok(()),
            Some(_) if there => return Err(changed(set)),
            // A first try with other variables ended before there was a Deployment.
            Some(_) => drop(api.delete(&name, &DeleteParams::default()).await.map_err(|e| failure("deleting", e))?),
            None => {}
        }
        let values = values(self.settings.secrets.as_ref(), set).await;
        let values = values.map_err(|why| Failure::transient("reading secrets", why))?;
        let values = values.iter().map(|(name, value)| (name.clone(), value.reveal().to_vec())).collect();
        let params = PatchParams::apply(names::MANAGER);
        let applied = api.patch(&name, &params, &Patch::Apply(manifest::secret(set, &values))).await;
        applied.map(drop).map_err(|error| failure("applying a Secret", error))
    }

    /// Writes the routes down, and waits until that is seen.
    async fn apply_routes(&self, environment: &Environment, name: &str, routes: &[Route]) -> Result<(), Failure> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &environment.cache.namespace);
        let known = environment.cache.service(name);
        if routes.is_empty() {
            if known.is_some() {
                match api.delete(name, &DeleteParams::default()).await {
                    Err(error) if !is_missing(&error) => return Err(failure("deleting a Service", error)),
                    Ok(_) | Err(_) => {}
                }
            }
        } else {
            let there = match known {
                Some(known) => Some(Service::clone(&known)),
                None => api.get_opt(name).await.map_err(|error| failure("reading a Service", error))?,
            };
            if there.is_some_and(|one| cache::label(&one, names::ENVIRONMENT) != Some(&environment.name)) {
                return Err(not_ours(&format!("the Service {name}")));
            }
            let manifest = manifest::service(&environment.name, name, routes);
            let applied = api.patch(name, &PatchParams::apply(names::MANAGER), &Patch::Apply(manifest)).await;
            applied.map_err(|error| failure("applying a Service", error))?;
        }
        let seen = |cache: &cache::Cache| seen::routes(cache.service(name).as_deref()) == routes;
        environment.cache.until("routing", self.settings.settle_time, seen).await
    }
}

/// The lines of a log with times that were written after `after`: the server asks by whole seconds.
fn after_that(text: &str, after: Option<Timestamp>, reading: &Reading) -> Log {
    let (mut lines, mut next) = (Vec::new(), after);
    // What goes on after a former answer is cut at its end, and read from there the next time.
    let whole = match after {
        Some(_) if text.len() >= reading.bytes => text.rfind('\n').map_or(0, |end| end + 1),
        Some(_) | None => text.len(),
    };
    for line in text[..whole].lines() {
        let timed = line.split_once(' ').and_then(|(time, said)| Some((time.parse::<Timestamp>().ok()?, said)));
        let Some((time, said)) = timed else { continue };
        if after.is_none_or(|after| time > after) {
            lines.push(said.to_owned());
            next = Some(time);
        }
    }
    // Of the last lines the latest count.
    let mut room = reading.bytes;
    let fit = lines.iter().rev().take_while(|line| {
        let fits = line.len() < room;
        room = room.saturating_sub(line.len() + 1);
        fits
    });
    let fit = if after.is_some() { lines.len() } else { fit.count() };
    let missed = fit < lines.len();
    let next = next.map_or_else(|| reading.after.clone().unwrap_or_default(), |next| next.to_string());
    Log { lines: lines.split_off(lines.len() - fit), next, missed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_is_not_read_again() {
        let text = "2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.12Z two\n2026-01-01T00:00:01Z \n";
        let all = after_that(text, None, &Reading::last(10));
        assert_eq!((all.lines.len(), all.next.as_str()), (3, "2026-01-01T00:00:01Z"));
        let after = "2026-01-01T00:00:00.1Z".parse().ok();
        assert_eq!(after_that(text, after, &Reading::last(10)).lines, ["two", ""]);
        let few = after_that(text, None, &Reading { bytes: 6, ..Reading::last(10) });
        assert_eq!((few.lines, few.missed), (vec!["two".to_owned(), String::new()], true));
        let nothing = after_that("", after, &Reading { after: Some("x".into()), ..Reading::last(1) });
        assert_eq!((nothing.lines.len(), nothing.next.as_str()), (0, "2026-01-01T00:00:00.1Z"));
    }
}
