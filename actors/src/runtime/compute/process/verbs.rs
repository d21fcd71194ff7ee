//! The verbs of the port.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use supervisor::activity::Failure;

use super::super::Compute;
use super::super::observed::{Observed, ObservedReplica, ObservedSet, ReplicaState, Unmanaged};
use super::super::set::{Set, SetId, check_name};
use super::super::traffic::{Route, ServiceTraffic, check_routes};
use super::super::written::{Log, Reading};
use super::replica::Replica;
use super::shared::Environment;
use super::store::Wanted;
use super::{Processes, birth, disk, logs, proc};

#[async_trait]
impl Compute for Processes {
    async fn apply(&self, set: &Set) -> Result<(), Failure> {
        set.check()?;
        self.may_run(set)?;
        let _wanting = loop {
            // It may take long, and others need not wait for it.
            self.shared.shelf.stock(&set.digest).await?;
            let wanting = self.shared.wanting.lock().await;
            // Nobody may have wanted it yet, and so it may have been taken down again.
            if self.shared.shelf.has(&set.digest) {
                break wanting;
            }
        };
        self.environment(&set.id.environment).await.map_err(disk)?;
        match self.wanted(&set.id) {
            Some(known) if known.removing => {
                return Err(Failure::transient("applying", format!("{} is still being removed", set.id)));
            }
            Some(known) if !known.set.same_revision(set) => {
                let why = format!("{} runs as something else; what changed needs a revision of its own", set.id);
                return Err(Failure::named("RevisionChanged", why));
            }
            Some(known) if known.set == *set => {}
            Some(_) | None => self.want(Wanted { set: set.clone(), removing: false })?,
        }
        self.reconcile(&set.id)
    }

    async fn observe(&self, environment: &str) -> Result<Observed, Failure> {
        check_name("environment", environment)?;
        let mut managed = self.replica_ids(environment);
        let instance = self.shared.store.instance().to_owned();
        let looking = tokio::task::spawn_blocking(move || proc::marked(&instance));
        let marked = looking.await.map_err(std::io::Error::other).and_then(|marked| marked).map_err(disk)?;
        // Before and after: one that came or went meanwhile is not a stranger.
        managed.extend(self.replica_ids(environment));
        let strangers = marked
            .into_iter()
            .filter(|found| found.marker.environment == environment && !managed.contains(&found.marker.replica));
        let unmanaged = strangers
            .map(|found| Unmanaged {
                pid: Some(found.pid),
                claims: found.marker.replica,
                command: proc::command(found.pid),
            })
            .collect();
        let observed = {
            let environments = self.shared.environments();
            let Some(found) = environments.get(environment) else {
                return Ok(Observed { unmanaged, ..Observed::default() });
            };
            let sets = found.sets.values().map(|wanted| observed(found, wanted)).collect();
            Observed { gateway: Some(found.gateway.address), sets, unmanaged }
        };
        self.with_last_words(environment, observed).await
    }

    async fn route(&self, environment: &str, service: &str, routes: &[Route]) -> Result<(), Failure> {
        check_name("environment", environment)?;
        check_name("service", service)?;
        check_routes(routes)?;
        let _wanting = self.shared.wanting.lock().await;
        for route in routes {
            let id = SetId::new(environment, service, &route.revision);
            if self.wanted(&id).is_none_or(|wanted| wanted.removing) {
                return Err(Failure::named("UnknownRevision", format!("{id} was not applied; apply it first")));
            }
        }
        let Ok(table) = self.table(environment) else { return Ok(()) };
        if table.routes(service) != routes {
            self.shared.store.put_routes(environment, service, routes).map_err(disk)?;
            table.route(service, routes);
        }
        Ok(())
    }

    async fn remove(&self, id: &SetId) -> Result<(), Failure> {
        id.check()?;
        let mut turned = self.shared.turned();
        {
            let _wanting = self.shared.wanting.lock().await;
            let Some(wanted) = self.wanted(id) else { return Ok(()) };
            let routes = self.table(&id.environment).map_err(disk)?.routes(&id.service);
            if routes.iter().any(|route| route.revision == id.revision && route.weight > 0) {
                return Err(Failure::named(
                    "StillRouted",
                    format!("{id} still gets traffic; route it elsewhere first"),
                ));
            }
            if !wanted.removing {
                self.want(Wanted { removing: true, ..wanted })?;
            }
            self.reconcile(id)?;
            if self.shared.settle(id).map_err(disk)? {
                self.shared.clear_shelf().await;
            }
        }
        while self.wanted(id).is_some_and(|wanted| wanted.removing) {
            if turned.changed().await.is_err() {
                return Err(Failure::transient("removing", "the adapter was closed; ask again"));
            }
        }
        Ok(())
    }

    async fn logs(&self, environment: &str, replica: &str, reading: &Reading) -> Result<Log, Failure> {
        check_name("environment", environment)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let unknown = || Failure::named("UnknownReplica", format!("there is no replica {replica:?} in {environment}"));
        if replica.is_empty() || replica.len() > 200 || !replica.bytes().all(plain) {
            return Err(unknown());
        }
        let (log, reading) = (self.shared.store.log(environment, replica), reading.clone());
        let reading = tokio::task::spawn_blocking(move || logs::read(&log, &reading));
        match reading.await.map_err(std::io::Error::other).and_then(|read| read).map_err(disk)? {
            Some(log) => Ok(log),
            None if self.replica(environment, replica).is_some() => Ok(Log::default()),
            None => Err(unknown()),
        }
    }

    async fn restart(&self, environment: &str, replica: &str, incarnation: u64) -> Result<(), Failure> {
        let Some(found) = self.replica(environment, replica) else {
            return Err(Failure::named("UnknownReplica", format!("there is no replica {replica:?} in {environment}")));
        };
        birth::change(&self.shared, &found, move |_, record| {
            if record.incarnation == incarnation && record.identity().is_some() {
                record.renew = Some(incarnation);
            }
        })
        .await
        .map_err(disk)?;
        found.wake.notify_one();
        Ok(())
    }

    async fn erase(&self, environment: &str, service: &str, tenant: &str) -> Result<(), Failure> {
        check_name("environment", environment)?;
        check_name("service", service)?;
        let _wanting = self.shared.wanting.lock().await;
        let runs = |one: &Environment| one.sets.keys().any(|id| id.service == service);
        if self.shared.environments().get(environment).is_some_and(runs) {
            let why = format!("{service} of {environment} still runs; end it first");
            return Err(Failure::transient("erasing a service", why));
        }
        let (shared, environment, service, tenant) =
            (self.shared.clone(), environment.to_owned(), service.to_owned(), tenant.to_owned());
        let erasing = tokio::task::spawn_blocking(move || shared.store.erase(&environment, &tenant, &service));
        erasing.await.map_err(std::io::Error::other).and_then(|erased| erased).map_err(disk)
    }

    async fn forget(&self, environment: &str) -> Result<(), Failure> {
        check_name("environment", environment)?;
        let _wanting = self.shared.wanting.lock().await;
        let runs = |one: &Environment| !one.sets.is_empty() || !one.replicas.is_empty();
        if self.shared.environments().get(environment).is_some_and(runs) {
            return Err(Failure::transient(
                "forgetting an environment",
                format!("services of {environment} still run; end them first"),
            ));
        }
        self.shared.forget_environment(environment).map_err(disk)
    }

    async fn traffic(&self, environment: &str) -> Result<Vec<ServiceTraffic>, Failure> {
        check_name("environment", environment)?;
        Ok(self.table(environment).map(|table| table.traffic()).unwrap_or_default())
    }
}

impl Processes {
    /// Whether this machine is for programs like that, and for tenants like that.
    fn may_run(&self, set: &Set) -> Result<(), Failure> {
        let settings = &self.shared.settings;
        let program = Path::new(&set.command);
        let named = |one: &String| *one == set.command || (one.ends_with('/') && set.command.starts_with(one.as_str()));
        if program.is_absolute() && !settings.commands.iter().any(named) {
            let why = format!(
                "{} is a program of the machine, and services run what is in their artifact; put it there, or have the \
                 operator name it in runtime.commands",
                set.command
            );
            return Err(Failure::named("NotPermitted", why));
        }
        if self.shared.users.is_none() && set.tenant != settings.operator {
            let why = format!(
                "services run as the node's own user here, so only those of tenant {} may; let the node run as root, so \
                 that each environment has a user of its own",
                settings.operator
            );
            return Err(Failure::named("NotPermitted", why));
        }
        Ok(())
    }

    /// What those wrote that end again and again.
    async fn with_last_words(&self, environment: &str, mut observed: Observed) -> Result<Observed, Failure> {
        if !observed.sets.iter().flat_map(|set| &set.replicas).any(ObservedReplica::is_crashing) {
            return Ok(observed);
        }
        let (shared, environment) = (self.shared.clone(), environment.to_owned());
        let reading = tokio::task::spawn_blocking(move || {
            let replicas = observed.sets.iter_mut().flat_map(|set| &mut set.replicas);
            for replica in replicas.filter(|replica| replica.is_crashing()) {
                replica.said = logs::last_words(&shared.store.log(&environment, &replica.id));
            }
            observed
        });
        reading.await.map_err(|error| disk(std::io::Error::other(error)))
    }

    fn wanted(&self, id: &SetId) -> Option<Wanted> {
        self.shared.environments().get(&id.environment)?.sets.get(id).cloned()
    }

    fn want(&self, wanted: Wanted) -> Result<(), Failure> {
        self.shared.store.put_set(&wanted).map_err(disk)?;
        if let Some(environment) = self.shared.environments().get_mut(&wanted.set.id.environment) {
            environment.sets.insert(wanted.set.id.clone(), wanted);
        }
        Ok(())
    }

    fn replica(&self, environment: &str, id: &str) -> Option<Arc<Replica>> {
        self.shared.environments().get(environment)?.replicas.get(id).cloned()
    }

    fn replica_ids(&self, environment: &str) -> BTreeSet<String> {
        let environments = self.shared.environments();
        environments.get(environment).map(|one| one.replicas.keys().cloned().collect()).unwrap_or_default()
    }
}

fn observed(environment: &Environment, wanted: &Wanted) -> ObservedSet {
    let Wanted { set, removing } = wanted;
    let weights: BTreeMap<String, u32> =
        environment.gateway.table.routes(&set.id.service).into_iter().map(|one| (one.revision, one.weight)).collect();
    let replicas: Vec<_> = environment.of(&set.id).map(|replica| replica.observed()).collect();
    let ready = replicas.iter().filter(|replica| replica.state == ReplicaState::Ready).count();
    ObservedSet {
        service: set.id.service.clone(),
        revision: set.id.revision.clone(),
        digest: set.digest.clone(),
        config_version: set.configuration.version.clone(),
        wanted: if *removing { 0 } else { set.replicas },
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        weight: weights.get(&set.id.revision).copied().unwrap_or_default(),
        removing: *removing,
        replicas,
    }
}
