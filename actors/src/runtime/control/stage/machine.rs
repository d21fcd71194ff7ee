//! A machine in memory: sets that are as they are wanted at once, replicas that are as well as the
//! story says, figures that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use protocol::Time;
use supervisor::activity::Failure;

use crate::runtime::compute::observed::{ObservedReplica, ObservedSet, ReplicaState};
use crate::runtime::compute::{Compute, Log, Observed, Reading, Route, ServiceTraffic, Set, SetId};
use crate::runtime::model::ProbeSpec;
use crate::runtime::model::scaling::Metric;
use crate::runtime::ports::metrics::{Metrics, Query, Sample, Subject};
use crate::runtime::ports::probes::{Answer, Outcome, Place, Prober};

#[derive(Default)]
struct Inner {
    sets: BTreeMap<SetId, Set>,
    routes: BTreeMap<String, Vec<Route>>,
    /// Started so often anew, by replica.
    starts: BTreeMap<String, u64>,
    ports: BTreeMap<String, u16>,
    ill: BTreeSet<String>,
    figures: BTreeMap<Metric, (f64, u32)>,
    waiting: u64,
    restarts: Vec<(String, u64)>,
    /// As many replicas of a set come, however many are wanted.
    room: Option<u32>,
    away: bool,
    probes: u64,
}

/// The machine.
#[derive(Default)]
pub(crate) struct Machine(Mutex<Inner>);

impl Machine {
    /// Lets only `set` of `service` be there, with all traffic.
    pub(crate) async fn only(&self, service: &str, set: &Set) {
        let mut inner = self.0.lock().unwrap();
        inner.sets.retain(|id, _| id.service != service);
        inner.sets.insert(set.id.clone(), set.clone());
        inner.routes.insert(service.to_owned(), vec![Route::new(&set.id.revision, 100)]);
    }

    /// The replicas of a service fail their probes, or not any more.
    pub(crate) fn ill(&self, replicas: &[String], ill: bool) {
        let mut inner = self.0.lock().unwrap();
        for replica in replicas {
            match ill {
                true => inner.ill.insert(replica.clone()),
                false => inner.ill.remove(replica),
            };
        }
    }

    /// No more than so many replicas of a set come from now on.
    pub(crate) fn room(&self, replicas: Option<u32>) {
        self.0.lock().unwrap().room = replicas;
    }

    /// Nobody answers, or somebody does again.
    pub(crate) fn away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// Where the requests to a service go.
    pub(crate) fn routed(&self, service: &str) -> Vec<(String, u32)> {
        let inner = self.0.lock().unwrap();
        let routes = inner.routes.get(service).into_iter().flatten();
        routes.map(|route| (route.revision.clone(), route.weight)).collect()
    }

    /// The names of a service's replicas.
    pub(crate) fn replicas(&self, service: &str) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        inner.sets.values().filter(|set| set.id.service == service).flat_map(names).collect()
    }

    pub(crate) fn wanted(&self, service: &str) -> u32 {
        let inner = self.0.lock().unwrap();
        inner.sets.values().filter(|set| set.id.service == service).map(|set| set.replicas).sum()
    }

    pub(crate) fn restarts(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.0.lock().unwrap().restarts)
    }

    pub(crate) fn probes(&self) -> u64 {
        std::mem::take(&mut self.0.lock().unwrap().probes)
    }

    pub(crate) fn figure(&self, metric: Metric, figure: Option<(f64, u32)>) {
        let figures = &mut self.0.lock().unwrap().figures;
        match figure {
            Some(figure) => figures.insert(metric, figure),
            None => figures.remove(&metric),
        };
    }

    pub(crate) fn waiting(&self, waiting: u64) {
        self.0.lock().unwrap().waiting = waiting;
    }

    fn there(&self) -> Result<std::sync::MutexGuard<'_, Inner>, Failure> {
        let inner = self.0.lock().unwrap();
        match inner.away {
            true => Err(Failure::transient("asking the machine", "it is away")),
            false => Ok(inner),
        }
    }
}

fn names(set: &Set) -> Vec<String> {
    (0..set.replicas).map(|number| format!("{}-{}-{number}", set.id.service, set.id.revision)).collect()
}

impl Inner {
    /// Each replica has a port of its own, by which a probe finds it.
    fn port(&mut self, name: &str) -> u16 {
        let next = 10_000 + u16::try_from(self.ports.len()).unwrap();
        *self.ports.entry(name.to_owned()).or_insert(next)
    }
}

#[async_trait]
impl Compute for Machine {
    async fn apply(&self, set: &Set) -> Result<(), Failure> {
        self.there()?.sets.insert(set.id.clone(), set.clone());
        Ok(())
    }

    async fn observe(&self, environment: &str) -> Result<Observed, Failure> {
        let mut inner = self.there()?;
        let sets: Vec<Set> = inner.sets.values().filter(|set| set.id.environment == environment).cloned().collect();
        let mut observed = Observed::default();
        for set in sets {
            let mut replicas = Vec::new();
            let room = inner.room.map_or(usize::MAX, |room| room as usize);
            for id in names(&set).into_iter().take(room) {
                let port = inner.port(&id);
                replicas.push(ObservedReplica {
                    state: ReplicaState::Ready,
                    incarnation: 1 + inner.starts.get(&id).copied().unwrap_or(0),
                    address: Some(SocketAddr::from(([127, 0, 0, 1], port))),
                    ports: BTreeMap::new(),
                    pid: Some(u32::from(port)),
                    started_at: Some(Time::from_micros(1)),
                    restarts: 0,
                    failures_in_row: 0,
                    last_exit: None,
                    said: Vec::new(),
                    config_version: set.configuration.version.clone(),
                    digest: set.digest.clone(),
                    unlimited: Vec::new(),
                    id,
                });
            }
            let routes = inner.routes.get(&set.id.service);
            let route = routes.into_iter().flatten().find(|route| route.revision == set.id.revision);
            observed.sets.push(ObservedSet {
                service: set.id.service.clone(),
                revision: set.id.revision.clone(),
                digest: set.digest.clone(),
                config_version: set.configuration.version.clone(),
                wanted: set.replicas,
                ready: u32::try_from(replicas.len()).unwrap(),
                weight: route.map_or(0, |route| route.weight),
                removing: false,
                replicas,
            });
        }
        Ok(observed)
    }

    async fn route(&self, _: &str, service: &str, routes: &[Route]) -> Result<(), Failure> {
        self.there()?.routes.insert(service.to_owned(), routes.to_vec());
        Ok(())
    }

    async fn remove(&self, set: &SetId) -> Result<(), Failure> {
        self.there()?.sets.remove(set);
        Ok(())
    }

    async fn logs(&self, _: &str, _: &str, _: &Reading) -> Result<Log, Failure> {
        Ok(Log::default())
    }

    async fn restart(&self, _: &str, replica: &str, incarnation: u64) -> Result<(), Failure> {
        let mut inner = self.there()?;
        inner.restarts.push((replica.to_owned(), incarnation));
        if 1 + inner.starts.get(replica).copied().unwrap_or(0) == incarnation {
            *inner.starts.entry(replica.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    async fn erase(&self, _: &str, _: &str, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn forget(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn traffic(&self, _: &str) -> Result<Vec<ServiceTraffic>, Failure> {
        let inner = self.there()?;
        let traffic = |service: &String| ServiceTraffic {
            service: service.clone(),
            routes: Vec::new(),
            since: Time::from_micros(1),
            waiting: inner.waiting,
            unserved_at: None,
            turned_away: 0,
            revisions: Vec::new(),
        };
        Ok(inner.routes.keys().map(traffic).collect())
    }
}

#[async_trait]
impl Prober for Machine {
    async fn probe(&self, place: &Place, _: &ProbeSpec) -> Result<Outcome, Failure> {
        let mut inner = self.there()?;
        inner.probes += 1;
        let port = place.port(1);
        let name = inner.ports.iter().find(|(_, known)| **known == port).map(|(name, _)| name.clone());
        let there = name.as_ref().is_some_and(|name| inner.sets.values().any(|set| names(set).contains(name)));
        let well = there && name.is_some_and(|name| !inner.ill.contains(&name));
        let answer = if well { Answer::Well } else { Answer::Unwell { why: "it answered with 500".into() } };
        Ok(Outcome { answer, took: Duration::from_millis(1) })
    }
}

#[async_trait]
impl Metrics for Machine {
    async fn sample(&self, _: &Subject, query: &Query) -> Result<Option<Sample>, Failure> {
        let inner = self.there()?;
        let Query::Metric(metric) = query else { return Ok(None) };
        let figure = inner.figures.get(metric);
        Ok(figure.map(|(value, missing)| Sample { value: *value, at: Time::from_micros(1), missing: *missing }))
    }
}
