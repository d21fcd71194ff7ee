//! Asking the probes of an environment, each at its moment, and what is known of them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::join_all;
use protocol::Time;
use supervisor::activity::Failure;

use super::{ByService, SOON, Tally, Watched};
use crate::runtime::compute::Observed;
use crate::runtime::compute::observed::{ObservedReplica, ObservedSet, ReplicaState};
use crate::runtime::control::desk::{Desk, Service};
use crate::runtime::control::probes;
use crate::runtime::model::{ProbeSpec, Revision};
use crate::runtime::ports::probes::{Place, Prober};
use crate::runtime::records::deployments::Running;
use crate::runtime::workers::health::decide::{Probed, Try, Verdict, Window, after_try, asked, offset, verdict};

/// How long a process may take until it accepts connections, when no probe says how long: then it
/// counts as not ready.
const START_MAX: Duration = Duration::from_secs(60);

/// A replica's start: whatever is known of an earlier one says nothing.
type Start = (String, u64);

/// What is known of one environment.
#[derive(Default)]
pub(super) struct Known {
    probed: HashMap<Start, BTreeMap<usize, Probed>>,
    /// What runs, so that it is not read anew as long as the same does.
    running: ByService<Running>,
}

/// One probe that is to be asked.
pub(super) struct Target {
    replica: Start,
    number: usize,
    spec: ProbeSpec,
    place: Place,
}

/// What a probe said in this window.
pub(super) struct Answer {
    replica: Start,
    number: usize,
    spec: ProbeSpec,
    /// `Err`: it could not be asked, which says nothing about the workload.
    passed: Result<bool, String>,
    /// Why it did not pass.
    why: Option<String>,
}

/// How one replica is.
pub(super) struct SeenReplica {
    pub(super) id: String,
    pub(super) incarnation: u64,
    pub(super) verdict: Verdict,
    /// What is wrong.
    pub(super) why: Option<String>,
}

/// How a service's replicas are.
pub(super) struct SeenService {
    pub(super) replicas: Vec<SeenReplica>,
    /// How many should be there.
    pub(super) wanted: u32,
    /// Why a probe could not be asked, if one could not.
    pub(super) unasked: Option<String>,
}

impl SeenService {
    pub(super) fn ready(&self) -> u32 {
        let ready = self.replicas.iter().filter(|replica| replica.verdict == Verdict::Ready).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }
}

/// The set that runs of a service, if it is there.
fn set<'a>(watched: &Watched, observed: &'a Observed) -> Option<&'a ObservedSet> {
    observed.set(watched.service.place.service.as_str(), &watched.running.set)
}

fn staying(set: &ObservedSet) -> impl Iterator<Item = &ObservedReplica> {
    set.replicas.iter().filter(|replica| match replica.state {
        ReplicaState::Starting | ReplicaState::Ready | ReplicaState::Waiting | ReplicaState::CrashLoop => true,
        ReplicaState::Draining => false,
    })
}

fn start(replica: &ObservedReplica) -> Start {
    (replica.id.clone(), replica.incarnation)
}

/// The probes of a service whose turn it is.
pub(super) fn targets(watched: &Watched, observed: &Observed, known: &Known, now: Time) -> Vec<Target> {
    let specs = probes::of(&watched.running.workload);
    let none = BTreeMap::new();
    let mut targets = Vec::new();
    for replica in set(watched, observed).into_iter().flat_map(staying) {
        let (Some(place), Some(started_at)) = (probes::place(replica, &specs), replica.started_at) else { continue };
        let probed = known.probed.get(&start(replica)).unwrap_or(&none);
        for (number, spec) in specs.iter().enumerate() {
            if asked(&specs, probed, number, started_at, now) {
                let (replica, spec, place) = (start(replica), spec.clone(), place.clone());
                targets.push(Target { replica, number, spec, place });
            }
        }
    }
    targets
}

/// Asks `targets`, spread over `within` by their names, each with its tries.
pub(super) async fn ask(prober: &dyn Prober, targets: Vec<Target>, within: Duration) -> Vec<Answer> {
    let begun = tokio::time::Instant::now();
    let asked = targets.into_iter().map(|target| async move {
        let Target { replica, number, spec, place } = target;
        let moment =
            offset(&[replica.0.as_str(), &number.to_string()], within.saturating_sub(spec.longest()).max(SOON));
        tokio::time::sleep_until(begun + moment).await;
        let mut tried = 1;
        let (passed, why) = loop {
            let outcome = match prober.probe(&place, &spec).await {
                Ok(outcome) => outcome,
                Err(failure) => break (Err(failure.to_string()), None),
            };
            match after_try(tried, outcome.passed()) {
                Try::Passed => break (Ok(true), None),
                Try::Failed => break (Ok(false), Some(format!("{}: {}", spec.kind, outcome.answer))),
                Try::Again(pause) => tokio::time::sleep(pause).await,
            }
            tried += 1;
        };
        Answer { replica, number, spec, passed, why }
    });
    join_all(asked).await
}

/// Keeps what `seen` says of replicas that are still there as they were asked.
pub(super) fn keep(watched: &Watched, observed: &Observed, seen: &mut SeenService) {
    let there: Vec<Start> = set(watched, observed).into_iter().flat_map(staying).map(start).collect();
    let same = |replica: &SeenReplica| {
        there.iter().any(|(id, incarnation)| *id == replica.id && *incarnation == replica.incarnation)
    };
    seen.replicas.retain(same);
    // Those that came since are not known yet.
    let known = |(id, incarnation): &&Start| {
        seen.replicas.iter().any(|replica| replica.id == *id && replica.incarnation == *incarnation)
    };
    let new: Vec<SeenReplica> = there
        .iter()
        .filter(|start| !known(start))
        .map(|(id, incarnation)| SeenReplica {
            id: id.clone(),
            incarnation: *incarnation,
            verdict: Verdict::Starting,
            why: None,
        })
        .collect();
    seen.replicas.extend(new);
    seen.wanted = watched.running.revision.replicas;
}

impl Known {
    /// What runs of `service`. `None`: nothing, or nobody knows how.
    pub(super) async fn running(&mut self, desk: &Desk, service: &Service) -> Result<Option<Running>, Failure> {
        let Some(current) = service.current() else { return Ok(None) };
        let same = |known: &&Running| {
            // How many of it there are is asked of the arbiter each time.
            Revision { replicas: current.replicas, ..known.revision.clone() } == current
        };
        if let Some(known) = self.running.get(&service.place.service).filter(same) {
            return Ok(Some(Running { revision: current, ..known.clone() }));
        }
        let running = desk.running(&service.place, &current).await?;
        if let Some(running) = &running {
            self.running.insert(service.place.service.clone(), running.clone());
        }
        Ok(running)
    }

    /// Takes the answers of one service, and says how it is.
    pub(super) fn take(
        &mut self,
        watched: &Watched,
        observed: &Observed,
        answers: Vec<Answer>,
        window: Window,
        tally: &mut Tally,
    ) -> SeenService {
        let mut said: HashMap<Start, String> = HashMap::new();
        let mut unasked = None;
        for Answer { replica, number, spec, passed, why } in answers {
            tally.probes += 1;
            match passed {
                Ok(passed) => {
                    let known = self.probed.entry(replica.clone()).or_default();
                    let before = known.get(&number).copied().unwrap_or_default();
                    if let Some(next) = before.take(&spec, window, passed) {
                        known.insert(number, next);
                    }
                }
                Err(why) => {
                    tally.unasked += 1;
                    unasked = Some(why);
                }
            }
            if let Some(why) = why {
                said.insert(replica, why);
            }
        }
        let specs = probes::of(&watched.running.workload);
        let now = window.begin();
        let seen = |replica: &ObservedReplica| {
            let (verdict, state) = self.verdict(replica, &specs, now);
            let why = said.remove(&start(replica)).or(state).filter(|_| verdict != Verdict::Ready);
            SeenReplica { id: replica.id.clone(), incarnation: replica.incarnation, verdict, why }
        };
        let replicas: Vec<_> = set(watched, observed).into_iter().flat_map(staying).map(seen).collect();
        tally.replicas += replicas.len() as u64;
        tally.unwell += replicas.iter().filter(|replica| replica.verdict != Verdict::Ready).count() as u64;
        SeenService { replicas, wanted: watched.running.revision.replicas, unasked }
    }

    /// How a replica is, and what its process says when that is the reason.
    fn verdict(&self, replica: &ObservedReplica, specs: &[ProbeSpec], now: Time) -> (Verdict, Option<String>) {
        let state = |text: &str| Some(format!("{}: {text}", replica.id));
        match replica.state {
            // Compute starts them again by itself.
            ReplicaState::Waiting => return (Verdict::NotReady, state("it ended, and is started again")),
            ReplicaState::CrashLoop => return (Verdict::NotReady, replica.crashes()),
            ReplicaState::Draining => return (Verdict::NotReady, state("it is being drained")),
            ReplicaState::Starting if replica.started_at.is_none_or(|at| now.since(at) <= START_MAX) => {
                return (Verdict::Starting, None);
            }
            ReplicaState::Starting | ReplicaState::Ready => {}
        }
        let none = BTreeMap::new();
        let probed = self.probed.get(&start(replica)).unwrap_or(&none);
        let says = verdict(specs, probed);
        let listens = match replica.state {
            ReplicaState::Ready => true,
            ReplicaState::Starting | ReplicaState::Waiting | ReplicaState::CrashLoop | ReplicaState::Draining => false,
        };
        // What was not answered yet in any window is not known, and not unwell.
        let fresh = !specs.is_empty() && probed.is_empty();
        match says {
            Verdict::Ready if !listens => (Verdict::NotReady, state("it does not accept connections")),
            Verdict::NotReady if fresh => (Verdict::Starting, None),
            Verdict::Starting | Verdict::Ready | Verdict::NotReady | Verdict::Dead => (says, None),
        }
    }

    /// Forgets what is not there any more.
    pub(super) fn forget(&mut self, observed: &Observed) {
        let there: std::collections::HashSet<Start> =
            observed.sets.iter().flat_map(|set| &set.replicas).map(start).collect();
        self.probed.retain(|replica, _| there.contains(replica));
        let services: std::collections::HashSet<&str> = observed.sets.iter().map(|set| set.service.as_str()).collect();
        self.running.retain(|service, _| services.contains(service.as_str()));
    }
}
