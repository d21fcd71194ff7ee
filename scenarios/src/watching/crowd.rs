//! A machine that is made up: as many replicas as wanted, all of them behind one port, and real
//! probes of them, counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use actors::runtime::compute::observed::{ObservedReplica, ObservedSet, ReplicaState};
use actors::runtime::compute::{Compute, Log, Observed, Reading, Route, ServiceTraffic, Set, SetId};
use actors::runtime::model::ProbeSpec;
use actors::runtime::ports::probes::{LocalProber, Outcome, Place, Prober, local};
use async_trait::async_trait;
use protocol::Time;
use supervisor::activity::Failure;

/// The machine.
pub struct Crowd {
    port: u16,
    sets: Mutex<BTreeMap<SetId, Set>>,
    prober: LocalProber,
    now: AtomicU64,
    most: AtomicU64,
    seconds: Mutex<BTreeMap<u64, u64>>,
    begun: Mutex<Instant>,
}

impl Crowd {
    /// All of it answers on `port`.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            sets: Mutex::default(),
            prober: LocalProber::new(local::Settings::default()),
            now: AtomicU64::new(0),
            most: AtomicU64::new(0),
            seconds: Mutex::default(),
            begun: Mutex::new(Instant::now()),
        }
    }

    /// Counts from now on.
    pub fn begin(&self) {
        self.most.store(0, Relaxed);
        *self.begun.lock().unwrap() = Instant::now();
        self.seconds.lock().unwrap().clear();
    }

    pub fn most_at_once(&self) -> u64 {
        self.most.load(Relaxed)
    }

    pub fn busiest_second(&self) -> u64 {
        self.seconds.lock().unwrap().values().copied().max().unwrap_or(0)
    }
}

#[async_trait]
impl Prober for Crowd {
    async fn probe(&self, place: &Place, spec: &ProbeSpec) -> Result<Outcome, Failure> {
        let second = self.begun.lock().unwrap().elapsed().as_secs();
        *self.seconds.lock().unwrap().entry(second).or_default() += 1;
        let now = self.now.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(now, Relaxed);
        let outcome = self.prober.probe(place, spec).await;
        self.now.fetch_sub(1, Relaxed);
        outcome
    }
}

#[async_trait]
impl Compute for Crowd {
    async fn apply(&self, set: &Set) -> Result<(), Failure> {
        self.sets.lock().unwrap().insert(set.id.clone(), set.clone());
        Ok(())
    }

    async fn observe(&self, _: &str) -> Result<Observed, Failure> {
        let sets = self.sets.lock().unwrap();
        let replica = |set: &Set, number: u32| ObservedReplica {
            id: format!("{}-{}-{number}", set.id.service, set.id.revision),
            state: ReplicaState::Ready,
            incarnation: 1,
            address: Some(SocketAddr::from(([127, 0, 0, 1], self.port))),
            ports: BTreeMap::new(),
            pid: Some(number),
            started_at: Some(Time::from_micros(1)),
            restarts: 0,
            failures_in_row: 0,
            last_exit: None,
            said: Vec::new(),
            config_version: String::new(),
            digest: set.digest.clone(),
            unlimited: Vec::new(),
        };
        let seen = |set: &Set| ObservedSet {
            service: set.id.service.clone(),
            revision: set.id.revision.clone(),
            digest: set.digest.clone(),
            config_version: String::new(),
            wanted: set.replicas,
            ready: set.replicas,
            weight: 100,
            removing: false,
            replicas: (0..set.replicas).map(|number| replica(set, number)).collect(),
        };
        Ok(Observed { gateway: None, sets: sets.values().map(seen).collect(), unmanaged: Vec::new() })
    }

    async fn route(&self, _: &str, _: &str, _: &[Route]) -> Result<(), Failure> {
        Ok(())
    }

    async fn remove(&self, set: &SetId) -> Result<(), Failure> {
        self.sets.lock().unwrap().remove(set);
        Ok(())
    }

    async fn logs(&self, _: &str, _: &str, _: &Reading) -> Result<Log, Failure> {
        Ok(Log::default())
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

    async fn traffic(&self, _: &str) -> Result<Vec<ServiceTraffic>, Failure> {
        Ok(Vec::new())
    }
}
