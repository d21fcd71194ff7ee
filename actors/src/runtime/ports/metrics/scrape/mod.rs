//! Metrics from the workloads themselves: their `/metrics`, read when somebody asks.
//!
//! There is no task in the background and nothing to start: whoever asks for a figure causes a look
//! at the replicas, when the last one is older than the interval. A service that nobody asks about
//! costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _};
use protocol::Time;
use supervisor::activity::Failure;
use supervisor::ports::Clock;
use tokio::sync::{Mutex, Semaphore};
use tracing::debug;

use super::source::{self, Across, Remembered, Scrape, Source};
use super::{Metrics, Query, Sample, Subject};
use crate::runtime::model::scaling::Metric;
use crate::runtime::ports::http_get;
use crate::runtime::ports::probe_policy::{ProbePolicy, allowed};

/// What is asked for. `version` keeps workloads from answering in a newer format.
const ACCEPT: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

/// Where the replicas of a service are.
#[async_trait]
pub trait Endpoints: Send + Sync + 'static {
    /// The ready replicas of `of` now. One that is not known has none.
    async fn endpoints(&self, of: &Subject) -> Result<Vec<Endpoint>, Failure>;
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, never used again.
    pub replica: String,
    /// How often it was started: a start counts from 0 again.
    pub incarnation: u64,
    /// Where it answers.
    pub address: SocketAddr,
}

/// What the scraper may be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where figures come from.
    pub sources: BTreeMap<Query, Source>,
    /// The path of the metrics.
    pub path: String,
    /// How old the last look may be before another is taken: as often as anybody decides.
    pub interval: Duration,
    /// How old an answer may be to count: three lost looks at an interval of 10 s and some more.
    pub stale: Duration,
    /// How long one replica may take. The others wait for it.
    pub time: Duration,
    /// The longest answer of one replica, in bytes. Some workloads answer with a MiB.
    pub body_bytes: usize,
    /// Replicas that are asked at once, of all services.
    pub connections: usize,
    /// Services that are remembered. Beyond that the one that was asked about longest ago is
    /// forgotten, and its next rate takes two looks again.
    pub subjects: usize,
    /// Where replicas may be: what may not be probed is not scraped either.
    pub policy: ProbePolicy,
}

impl Default for Settings {
    /// cpu, queue and rps from the names that client libraries and people commonly give them.
    fn default() -> Self {
        let cpu = Source {
            across: Across::Mean,
            // Seconds per second are cores; one core is 100 percent.
            scale: 100.0,
            ..Source::rate("process_cpu_seconds_total")
        };
        Self {
            sources: BTreeMap::from([
                (Query::Metric(Metric::Cpu), cpu),
                (Query::Metric(Metric::Queue), Source::gauge("queue_depth")),
                (Query::Metric(Metric::Rps), Source::rate("http_requests_total")),
            ]),
            path: "/metrics".into(),
            interval: Duration::from_secs(10),
            stale: Duration::from_secs(45),
            time: Duration::from_secs(2),
            body_bytes: 4 << 20,
            connections: 128,
            subjects: 10_000,
            policy: ProbePolicy { loopback: true, deny: Vec::new() },
        }
    }
}

/// What is remembered of one service.
#[derive(Default)]
struct Known {
    looked: Option<Time>,
    replicas: BTreeMap<String, Remembered>,
}

struct Slot {
    asked: Time,
    known: Arc<Mutex<Known>>,
}

/// The scraper.
pub struct Scraper {
    settings: Settings,
    queries: Vec<Query>,
    sources: Arc<Vec<Source>>,
    endpoints: Arc<dyn Endpoints>,
    clock: Arc<dyn Clock>,
    connections: Semaphore,
    slots: Mutex<HashMap<Subject, Slot>>,
}

impl Scraper {
    /// One that finds replicas with `endpoints`.
    pub fn new(settings: Settings, endpoints: Arc<dyn Endpoints>, clock: Arc<dyn Clock>) -> Self {
        Self {
            queries: settings.sources.keys().cloned().collect(),
            sources: Arc::new(settings.sources.values().cloned().collect()),
            connections: Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS)),
            slots: Mutex::default(),
            settings,
            endpoints,
            clock,
        }
    }

    /// What is remembered of `of`; whoever else asks waits.
    async fn known(&self, of: &Subject, now: Time) -> Arc<Mutex<Known>> {
        let mut slots = self.slots.lock().await;
        if !slots.contains_key(of) && slots.len() >= self.settings.subjects {
            let longest = slots.iter().min_by_key(|(_, slot)| slot.asked).map(|(subject, _)| subject.clone());
            longest.and_then(|longest| slots.remove(&longest));
        }
        let slot = slots.entry(of.clone()).or_insert_with(|| Slot { asked: now, known: Arc::default() });
        slot.asked = now;
        slot.known.clone()
    }

    /// Looks at every replica of `of`.
    async fn look(&self, of: &Subject, known: &mut Known) -> Result<(), Failure> {
        let endpoints = self.endpoints.endpoints(of).await?;
        let answers = stream::iter(endpoints)
            .map(|endpoint| async move {
                let answer = self.ask(&endpoint).await;
                (endpoint, answer)
            })
            .buffer_unordered(self.settings.connections.max(1));
        let answers: Vec<_> = answers.collect().await;
        let mut replicas = BTreeMap::new();
        for (Endpoint { replica, incarnation, address }, answer) in answers {
            let mut remembered = known.replicas.remove(&replica).unwrap_or_default();
            match answer {
                Ok(scrape) => remembered.push(incarnation, scrape),
                // The last answer counts until it is too old.
                Err(why) => debug!(service = %of, replica, %address, why, "replica gave no metrics"),
            }
            replicas.insert(replica, remembered);
        }
        // Whatever was not named now is gone.
        known.replicas = replicas;
        known.looked = Some(self.clock.now());
        Ok(())
    }

    async fn ask(&self, endpoint: &Endpoint) -> Result<Scrape, String> {
        allowed(&self.settings.policy, endpoint.address.ip()).map_err(|why| why.to_string())?;
        let _turn = self.connections.acquire().await.map_err(|error| error.to_string())?;
        let asked = http_get::get(endpoint.address, &self.settings.path, ACCEPT, self.settings.body_bytes);
        let (status, body) = match tokio::time::timeout(self.settings.time, asked).await {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no answer within {} ms", self.settings.time.as_millis())),
        };
        if !status.is_success() {
            return Err(format!("it answered with {}", status.as_u16()));
        }
        let text = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
        Scrape::read(text, &self.sources, self.clock.now(), self.settings.stale).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Metrics for Scraper {
    async fn sample(&self, of: &Subject, query: &Query) -> Result<Option<Sample>, Failure> {
        let Some((at, source)) =
            self.queries.iter().position(|known| known == query).zip(self.settings.sources.get(query))
        else {
            return query.unknown();
        };
        let now = self.clock.now();
        let known = self.known(of, now).await;
        let mut known = known.lock().await;
        if known.looked.is_none_or(|looked| now.since(looked) >= self.settings.interval) {
            self.look(of, &mut known).await?;
        }
        Ok(source::figure(source, at, known.replicas.values(), self.clock.now(), self.settings.stale))
    }
}

#[cfg(test)]
mod tests;
