//! `RuntimeHealthWorker`: whether every service is well, and what follows when one is not (W016–W022,
//! R090–R104).
//!
//! A run lasts most of its window of 30 s: each probe of each replica is asked at the moment that its
//! name gives it, so that ten thousand of them are an even load (F50). A service is judged as soon as
//! the last of its probes was asked. What probes said is kept in memory, because it is worth no more
//! than the next window; how a service *is* ([`Condition`](crate::runtime::workers::health::failure::Condition))
//! is stored, when it changes.
//!
//! | what it sees | what it does |
//! |---|---|
//! | a replica does not live | has it started anew; again and again without effect: less and less often |
//! | a replica is not ready | says that the service is Degraded |
//! | Degraded for long | brings the last good release back, by a saga of its own (H07) |
//! | that failed, or there is none | an incident |
//!
//! Deliberately absent: taking a replica that is not ready out of the traffic. The gateway does that
//! by itself for those that do not accept connections.

mod acting;
pub mod decide;
pub mod failure;
mod judging;
mod probing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::WorkerId;
use supervisor::activity::Failure;
use supervisor::worker::{Report, Rhythm, Run, Why, Worker};

use crate::runtime::compute::Observed;
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::control::desk::{Desk, Look, Ports, Service};
use crate::runtime::model::ServiceId;
use crate::runtime::model::probe::WINDOW;
use crate::runtime::records::deployments::Running;
use crate::runtime::workers::health::decide::Window;
use crate::runtime::workers::health::failure::Heard;
use judging::Stored;
pub use judging::condition;
use probing::{Known, SeenService};

/// What of a window is left for judging and for the next run to begin in time.
const REST: Duration = Duration::from_secs(2);
/// Over how much a run is spread that somebody waits for.
const SOON: Duration = Duration::from_secs(2);
/// Environments that are remembered; beyond it all begin anew.
const REMEMBERED_MAX: usize = 1_000;

/// The worker.
pub struct Health {
    desk: Desk,
    triggers: Vec<&'static str>,
    /// What is known of each environment's probes; of one worker one run at a time has it.
    known: Mutex<HashMap<WorkerId, Arc<tokio::sync::Mutex<Known>>>>,
}

/// What a run came to, counted.
#[derive(Default)]
struct Tally {
    services: u64,
    replicas: u64,
    probes: u64,
    unasked: u64,
    unwell: u64,
    did: Vec<String>,
    why: Vec<String>,
    /// What went wrong with a service: the others went on, and the run is tried again.
    failed: Option<Failure>,
}

/// One service, as a run looks at it.
struct Watched {
    service: Service,
    running: Running,
    stored: Stored,
}

/// What runs, looked at again; for a moment.
#[derive(Default)]
struct Fresh(Option<(tokio::time::Instant, Observed)>);

impl Fresh {
    /// As long as it counts: many services fail at once.
    const FOR: Duration = Duration::from_millis(500);

    async fn look(&mut self, desk: &Desk, service: &Service) -> Result<&Observed, Failure> {
        let observed = match self.0.take() {
            Some((at, observed)) if at.elapsed() < Self::FOR => (at, observed),
            Some(_) | None => {
                let observed = desk.ports.compute.observe(service.place.environment.as_str()).await?;
                (tokio::time::Instant::now(), observed)
            }
        };
        Ok(&self.0.insert(observed).1)
    }
}

impl Health {
    /// A worker on `ports`.
    pub fn new(ports: &Ports) -> Self {
        let which = Which::RuntimeHealthWorker;
        Self { desk: Desk::new(ports.clone(), which), triggers: which.events(), known: Mutex::default() }
    }

    fn known(&self, worker: &WorkerId) -> Arc<tokio::sync::Mutex<Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX && !known.contains_key(worker) {
            known.clear();
        }
        known.entry(worker.clone()).or_default().clone()
    }

    /// What failed is looked at again before anything follows: since the run began it may have been
    /// scaled, deployed anew, or started again. `false`: it is not to be judged now.
    async fn confirmed(
        &self,
        watched: &mut Watched,
        seen: &mut SeenService,
        window: Window,
        fresh: &mut Fresh,
    ) -> Result<bool, Failure> {
        match judging::of_the_window(seen, window) {
            Some(Heard::Failed { .. }) => {}
            Some(
                Heard::Passed { .. } | Heard::RestoreBegun | Heard::Restored | Heard::RestoreFailed | Heard::Reset,
            )
            | None => return Ok(true),
        }
        let Some(now) = self.desk.again(&watched.service).await? else { return Ok(false) };
        let before = watched.service.current().map(|revision| revision.deployment_id);
        if !judging::watched(&now) || now.current().map(|revision| revision.deployment_id) != before {
            return Ok(false);
        }
        watched.service = now;
        watched.running.revision.replicas = watched.service.docket.state.replicas;
        let observed = fresh.look(&self.desk, &watched.service).await?;
        probing::keep(watched, observed, seen);
        Ok(true)
    }

    /// Probes and judges every service of `look`.
    async fn watch(&self, run: &Run, look: Look, observed: &Observed, known: &mut Known) -> Result<Tally, Failure> {
        let within = match run.why {
            Why::Timer => WINDOW.saturating_sub(REST),
            Why::Event(_) | Why::ByHand(_) => SOON,
        };
        let window = Window::of(run.now());
        let mut tally = Tally::default();
        let stored = judging::stored(&self.desk, &look).await?;
        let mut asked = FuturesUnordered::new();
        let mut fresh = Fresh::default();
        for service in look.services {
            if !judging::watched(&service) {
                continue;
            }
            let Some(running) = known.running(&self.desk, &service).await? else { continue };
            let stored = stored.get(&service.place.service).cloned().unwrap_or_default();
            let watched = Watched { service, running, stored };
            tally.services += 1;
            let targets = probing::targets(&watched, observed, known, run.now());
            let prober = &self.desk.ports.prober;
            asked.push(async move { (watched, probing::ask(&**prober, targets, within).await) });
        }
        while let Some((watched, answers)) = asked.next().await {
            let mut watched = watched;
            let mut seen = known.take(&watched, observed, answers, window, &mut tally);
            let judged = match self.confirmed(&mut watched, &mut seen, window, &mut fresh).await {
                Ok(true) => self.judge(run, &watched, &seen, window, &mut tally).await,
                Ok(false) => Ok(()),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = judged {
                tally.why.push(format!("{}: {failure}", watched.service.place.service));
                tally.failed = Some(failure);
            }
        }
        known.forget(observed);
        Ok(tally)
    }
}

#[async_trait]
impl Worker for Health {
    fn kind(&self) -> &str {
        Which::RuntimeHealthWorker.kind()
    }

    fn rhythm(&self) -> Rhythm {
        // Its probes are spread instead; a run that began late would meet the next one.
        Rhythm { jitter: Duration::ZERO, ..Which::RuntimeHealthWorker.rhythm() }
    }

    fn triggers(&self) -> &[&str] {
        &self.triggers
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        let Some(look) = self.desk.look(run).await? else {
            return Ok(Report::unchanged("no environment", "it is not there any more"));
        };
        if !look.services.iter().any(judging::watched) {
            return Ok(Report::unchanged("no service that runs", "there is nothing to watch"));
        }
        let observed = self.desk.ports.compute.observe(look.environment.environment_id.as_str()).await?;
        let known = self.known(&run.worker);
        let mut known = known.lock().await;
        let tally = self.watch(run, look, &observed, &mut known).await?;
        match tally.failed {
            Some(failure) if tally.did.is_empty() => Err(failure),
            Some(_) | None => Ok(tally.report()),
        }
    }
}

impl Tally {
    fn report(self) -> Report {
        let saw = format!("{} services, {} replicas, {} of them not well", self.services, self.replicas, self.unwell);
        let why = match self.why.is_empty() {
            true => "every service is as it was".to_owned(),
            false => self.why.join("; "),
        };
        let report = match self.did.is_empty() {
            true => Report::unchanged(saw, why),
            false => Report::changed(saw, self.did.join(", "), why),
        };
        report
            .count("services", self.services)
            .count("replicas", self.replicas)
            .count("probes", self.probes)
            .count("unasked", self.unasked)
            .count("unwell", self.unwell)
    }
}

/// Which services a name stands for.
type ByService<T> = std::collections::BTreeMap<ServiceId, T>;

#[cfg(test)]
mod tests;
