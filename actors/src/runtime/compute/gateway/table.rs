//! Who answers for which service: routes, replicas, and what was counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::Time;
use supervisor::ports::Clock;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::super::traffic::{RevisionTraffic, Route, ServiceTraffic};
use super::weights::Weights;

/// A service that somebody calls while none of its replicas is ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
}

/// Hears of calls. One that finds the channel full is lost: whoever listens is busy with others, and
/// the service is looked at again anyway.
pub type Calls = mpsc::Sender<Call>;

/// The table of one environment.
pub struct Table {
    inner: Mutex<Inner>,
    environment: String,
    calls: Option<Calls>,
    /// Turns when a request that waits, or somebody who drains, should look again.
    turned: watch::Sender<()>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Inner {
    services: BTreeMap<String, Service>,
    backends: BTreeMap<String, Backend>,
    /// Whose each service is.
    tenants: BTreeMap<String, Arc<str>>,
}

struct Service {
    weights: Weights,
    since: Time,
    waiting: usize,
    unserved_at: Option<Time>,
    turned_away: u64,
    revisions: BTreeMap<String, Revision>,
}

/// What is counted of a revision, and which of its replicas was last.
struct Revision {
    traffic: RevisionTraffic,
    last: String,
}

struct Backend {
    service: String,
    revision: String,
    address: SocketAddr,
    ready: bool,
    in_flight: Arc<AtomicUsize>,
    doubted: Arc<Notify>,
}

/// Why a request got no replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// Nothing is routed under that name.
    Unknown,
    /// As many requests as may wait do already.
    TooMany,
    /// None became ready in time.
    TimedOut,
}

impl Table {
    /// Nothing is known yet. `calls` hears of services that are called in vain.
    pub fn new(environment: &str, calls: Option<Calls>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (environment, turned) = (environment.to_owned(), watch::Sender::new(()));
        Arc::new(Self { inner: Mutex::default(), environment, calls, turned, clock })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Divides the requests for `service`. None at all: it is not known any more.
    pub fn route(&self, service: &str, routes: &[Route]) {
        let now = self.clock.now();
        let mut inner = self.lock();
        if routes.is_empty() {
            inner.services.remove(service);
            inner.tenants.remove(service);
        } else {
            let entry = inner.services.entry(service.to_owned()).or_insert_with(|| Service {
                weights: Weights::default(),
                since: now,
                waiting: 0,
                unserved_at: None,
                turned_away: 0,
                revisions: BTreeMap::new(),
            });
            entry.weights = Weights::new(routes);
        }
        drop(inner);
        self.turned.send_replace(());
    }

    /// The routes of a service.
    pub fn routes(&self, service: &str) -> Vec<Route> {
        self.lock().services.get(service).map(|service| service.weights.routes()).unwrap_or_default()
    }

    /// Whose `service` is, once it had a replica here.
    pub fn tenant(&self, service: &str) -> Option<Arc<str>> {
        self.lock().tenants.get(service).cloned()
    }

    /// `replica` of the service of `tenant` runs at `address`. It gets requests when it is ready; `doubted`
    /// hears when one of them could not reach it. The tenant is empty where what runs it does not say.
    pub fn put(
        &self,
        replica: &str,
        (service, tenant): (&str, &str),
        revision: &str,
        address: SocketAddr,
        doubted: Arc<Notify>,
    ) {
        let (service, revision) = (service.to_owned(), revision.to_owned());
        let mut inner = self.lock();
        if !tenant.is_empty() {
            inner.tenants.insert(service.clone(), tenant.into());
        }
        // The same process with another keeper: its requests are still under way.
        let known = inner.backends.get(replica).filter(|known| known.address == address);
        let in_flight = known.map(|known| known.in_flight.clone()).unwrap_or_default();
        let backend = Backend { service, revision, address, ready: false, in_flight, doubted };
        inner.backends.insert(replica.to_owned(), backend);
    }

    /// Whether `replica` gets requests.
    pub fn set_ready(&self, replica: &str, ready: bool) {
        if let Some(backend) = self.lock().backends.get_mut(replica) {
            backend.ready = ready;
        }
        self.turned.send_replace(());
    }

    /// Gives `replica` no more requests, and waits until it has none under way, for `bound` at
    /// most. Whether it has none.
    pub async fn drain(&self, replica: &str, bound: Duration) -> bool {
        let mut turned = self.turned.subscribe();
        self.set_ready(replica, false);
        let Some(in_flight) = self.lock().backends.get(replica).map(|backend| backend.in_flight.clone()) else {
            return true;
        };
        let end = Instant::now() + bound;
        while in_flight.load(Ordering::Acquire) > 0 {
            match timeout_at(end, turned.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        true
    }

    /// `replica` does not run any more.
    pub fn withdraw(&self, replica: &str) {
        self.lock().backends.remove(replica);
        self.turned.send_replace(());
    }

    /// A replica for a request to `service`: of `revision` when it is given, else of the one whose
    /// turn it is. Waits for one to become ready, with at most `waiting_max` others and for
    /// `waiting_time`.
    pub async fn lease(
        self: &Arc<Self>,
        service: &str,
        revision: Option<&str>,
        waiting_max: usize,
        waiting_time: Duration,
    ) -> Result<Lease, Unserved> {
        let mut turned = self.turned.subscribe();
        if let Some(lease) = self.try_lease(service, revision)? {
            return Ok(lease);
        }
        let _waits = self.wait(service, waiting_max)?;
        let end = Instant::now() + waiting_time;
        loop {
            match timeout_at(end, turned.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    if let Some(service) = self.lock().services.get_mut(service) {
                        service.turned_away += 1;
                    }
                    return Err(Unserved::TimedOut);
                }
            }
            if let Some(lease) = self.try_lease(service, revision)? {
                return Ok(lease);
            }
        }
    }

    fn wait(self: &Arc<Self>, service: &str, most: usize) -> Result<Waits, Unserved> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let entry = inner.services.get_mut(service).ok_or(Unserved::Unknown)?;
        entry.unserved_at = Some(now);
        if entry.waiting >= most {
            entry.turned_away += 1;
            return Err(Unserved::TooMany);
        }
        entry.waiting += 1;
        if let Some(calls) = self.calls.as_ref().filter(|_| entry.waiting == 1) {
            let _ = calls.try_send(Call { environment: self.environment.clone(), service: service.to_owned() });
        }
        Ok(Waits { table: self.clone(), service: service.to_owned() })
    }

    fn try_lease(self: &Arc<Self>, name: &str, fixed: Option<&str>) -> Result<Option<Lease>, Unserved> {
        let mut inner = self.lock();
        let Inner { services, backends, tenants: _ } = &mut *inner;
        let service = services.get_mut(name).ok_or(Unserved::Unknown)?;
        let serves = |backend: &Backend, revision: &str| {
            backend.ready && backend.service == name && backend.revision == revision
        };
        let any = |revision: &str| backends.values().any(|backend| serves(backend, revision));
        let revision = match fixed {
            Some(fixed) => Some(fixed.to_owned()),
            None => service.weights.take(any).map(str::to_owned),
        };
        let Some(revision) = revision else { return Ok(None) };
        let counted = service
            .revisions
            .entry(revision.clone())
            .or_insert_with(|| Revision { traffic: RevisionTraffic::new(&revision), last: String::new() });
        // In turn: the first behind the last one, else the first of all.
        let ready = || backends.iter().filter(|(_, backend)| serves(backend, &revision));
        let Some((replica, backend)) = ready().find(|(id, _)| **id > counted.last).or_else(|| ready().next()) else {
            return Ok(None);
        };
        counted.last.clone_from(replica);
        backend.in_flight.fetch_add(1, Ordering::AcqRel);
        Ok(Some(Lease {
            table: self.clone(),
            service: name.to_owned(),
            revision,
            replica: replica.clone(),
            address: backend.address,
            in_flight: backend.in_flight.clone(),
        }))
    }

    /// What was counted.
    pub fn traffic(&self) -> Vec<ServiceTraffic> {
        let inner = self.lock();
        let in_flight = |name: &str, revision: &str| {
            let of = inner.backends.values().filter(|one| one.service == name && one.revision == revision);
            of.map(|backend| backend.in_flight.load(Ordering::Acquire) as u64).sum()
        };
        let all = inner.services.iter().map(|(name, service)| ServiceTraffic {
            service: name.clone(),
            routes: service.weights.routes(),
            since: service.since,
            waiting: service.waiting as u64,
            unserved_at: service.unserved_at,
            turned_away: service.turned_away,
            revisions: service
                .revisions
                .values()
                .map(|one| RevisionTraffic { in_flight: in_flight(name, &one.traffic.revision), ..one.traffic.clone() })
                .collect(),
        });
        all.collect()
    }

    /// Forgets what was counted of a revision that is gone.
    pub fn forget(&self, service: &str, revision: &str) {
        if let Some(service) = self.lock().services.get_mut(service) {
            service.revisions.remove(revision);
        }
    }
}

/// A request that waits; counted for as long as it does.
struct Waits {
    table: Arc<Table>,
    service: String,
}

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some(service) = self.table.lock().services.get_mut(&self.service) {
            service.waiting = service.waiting.saturating_sub(1);
        }
    }
}

/// A replica that has a request under way for as long as this lives.
pub struct Lease {
    table: Arc<Table>,
    service: String,
    /// Its revision.
    pub revision: String,
    replica: String,
    /// Where it answers.
    pub address: SocketAddr,
    in_flight: Arc<AtomicUsize>,
}

impl Lease {
    /// Counts the request.
    pub fn count(&self, latency: Duration, failed: bool) {
        let mut inner = self.table.lock();
        let service = inner.services.get_mut(&self.service);
        if let Some(revision) = service.and_then(|service| service.revisions.get_mut(&self.revision)) {
            revision.traffic.count(latency, failed);
        }
    }

    /// The replica could not be reached: it gets no more requests until it was looked at.
    pub fn doubt(&self) {
        if let Some(backend) = self.table.lock().backends.get_mut(&self.replica)
            && backend.address == self.address
        {
            backend.ready = false;
            backend.doubted.notify_one();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.table.turned.send_replace(());
        }
    }
}
