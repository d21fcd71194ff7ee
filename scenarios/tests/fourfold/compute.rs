//! A compute in memory that keeps the port's promises: verbs are safe to repeat, a revision never
//! changes, a routed set is not removed, weights divide a whole. Simulated time cannot drive real
//! processes; those are in `tests/deployment.rs`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use actors::runtime::compute::observed::{ObservedReplica, ObservedSet, ReplicaState};
use actors::runtime::compute::traffic::{RevisionTraffic, ServiceTraffic, check_routes};
use actors::runtime::compute::{Compute, Log, Observed, Reading, Route, Set, SetId};
use actors::runtime::probing::{HealthProbe, Prober};
use async_trait::async_trait;
use protocol::Time;
use supervisor::activity::Failure;

/// Sets and routes; outlives the nodes that use it, as processes do.
#[derive(Default)]
pub struct MemoryCompute {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sets: BTreeMap<SetId, Set>,
    routes: BTreeMap<(String, String), Vec<Route>>,
}

impl MemoryCompute {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs and where the traffic goes, for comparing.
    pub fn traces(&self) -> BTreeMap<String, String> {
        let inner = self.inner();
        let sets = inner.sets.iter().map(|(id, set)| (format!("set {id}"), set.replicas.to_string()));
        let routed = inner.routes.iter().filter(|(_, routes)| !routes.is_empty());
        let routes = routed.map(|((environment, service), routes)| {
            let told: Vec<String> = routes.iter().map(|route| format!("{}={}", route.revision, route.weight)).collect();
            (format!("route {environment}/{service}"), told.join(" "))
        });
        sets.chain(routes).collect()
    }
}

#[async_trait]
impl Compute for MemoryCompute {
    async fn apply(&self, set: &Set) -> Result<(), Failure> {
        set.check()?;
        let mut inner = self.inner();
        if inner.sets.get(&set.id).is_some_and(|known| !known.same_revision(set)) {
            return Err(Failure::named("RevisionChanged", set.id.to_string()));
        }
        inner.sets.insert(set.id.clone(), set.clone());
        Ok(())
    }

    async fn observe(&self, environment: &str) -> Result<Observed, Failure> {
        let inner = self.inner();
        let mut sets = Vec::new();
        for (id, set) in inner.sets.iter().filter(|(id, _)| id.environment == environment) {
            let routes = inner.routes.get(&(id.environment.clone(), id.service.clone()));
            let weight = routes.and_then(|routes| routes.iter().find(|route| route.revision == id.revision));
            sets.push(ObservedSet {
                service: id.service.clone(),
                revision: id.revision.clone(),
                digest: set.digest.clone(),
                config_version: set.configuration.version.clone(),
                wanted: set.replicas,
                ready: set.replicas,
                weight: weight.map_or(0, |route| route.weight),
                removing: false,
                replicas: (0..set.replicas).map(|number| replica(set, number)).collect(),
            });
        }
        let gateway = (!sets.is_empty()).then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        Ok(Observed { gateway, sets, unmanaged: Vec::new() })
    }

    async fn route(&self, environment: &str, service: &str, routes: &[Route]) -> Result<(), Failure> {
        check_routes(routes)?;
        let mut inner = self.inner();
        for route in routes {
            if !inner.sets.contains_key(&SetId::new(environment, service, &route.revision)) {
                return Err(Failure::named("UnknownRevision", route.revision.clone()));
            }
        }
        inner.routes.insert((environment.to_owned(), service.to_owned()), routes.to_vec());
        Ok(())
    }

    async fn remove(&self, id: &SetId) -> Result<(), Failure> {
        let mut inner = self.inner();
        let routes = inner.routes.get(&(id.environment.clone(), id.service.clone()));
        if routes.is_some_and(|routes| routes.iter().any(|one| one.revision == id.revision && one.weight > 0)) {
            return Err(Failure::named("StillRouted", id.to_string()));
        }
        inner.sets.remove(id);
        Ok(())
    }

    async fn logs(&self, _: &str, replica: &str, _: &Reading) -> Result<Log, Failure> {
        Err(Failure::named("UnknownReplica", replica))
    }

    async fn restart(&self, _: &str, _: &str, _: u64) -> Result<(), Failure> {
        Ok(())
    }

    async fn erase(&self, _: &str, _: &str, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn forget(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// A hundred good requests to every revision that gets any; the counts only grow.
    async fn traffic(&self, environment: &str) -> Result<Vec<ServiceTraffic>, Failure> {
        let inner = self.inner();
        let ours = inner.routes.iter().filter(|((place, _), _)| place == environment);
        Ok(ours
            .map(|((_, service), routes)| ServiceTraffic {
                service: service.clone(),
                routes: routes.clone(),
                since: Time::from_micros(0),
                waiting: 0,
                unserved_at: None,
                turned_away: 0,
                revisions: routes
                    .iter()
                    .filter(|route| route.weight > 0)
                    .map(|route| RevisionTraffic { requests: 100, ..RevisionTraffic::new(&route.revision) })
                    .collect(),
            })
            .collect())
    }
}

fn replica(set: &Set, number: u32) -> ObservedReplica {
    let port = 9_000 + u16::try_from(number).unwrap_or(0);
    ObservedReplica {
        id: format!("{}-{}-{number}", set.id.service, set.id.revision),
        state: ReplicaState::Ready,
        incarnation: 1,
        address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        ports: BTreeMap::new(),
        pid: Some(1),
        started_at: Some(Time::from_micros(0)),
        restarts: 0,
        failures_in_row: 0,
        last_exit: None,
        said: Vec::new(),
        config_version: set.configuration.version.clone(),
        digest: set.digest.clone(),
        unlimited: Vec::new(),
    }
}

/// Every replica is well.
pub struct AllWell;

#[async_trait]
impl Prober for AllWell {
    async fn ask(&self, _: SocketAddr, _: &HealthProbe) -> Result<(), String> {
        Ok(())
    }
}
