//! What is seen of a rollout: two sets, the traffic between them, and what the gateway counted.

use futures::future::join_all;
use supervisor::activity::Failure;

use super::desk::Desk;
use crate::runtime::compute::observed::{Observed, ObservedSet, ReplicaState};
use crate::runtime::compute::traffic::LATENCY_MS;
use crate::runtime::model::analysis::Figures;
use crate::runtime::records::deployments::{Baseline, Record};
use crate::runtime::records::place::Place;
use crate::runtime::rollout::{Seen, Set, Word};

/// Whether a replica has to answer its probe to count as ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ready {
    /// It accepts connections.
    Connects,
    /// It answers its probe, where it has one.
    Answers,
}

/// A look.
pub(super) struct Look {
    pub(super) seen: Seen,
    /// Counts of the new set, as they stand.
    pub(super) counted: Baseline,
    /// What is wrong with replicas of the new set, for a person.
    pub(super) faults: Vec<String>,
    /// A replica of the new set that ends again and again.
    pub(super) crashing: Option<String>,
    /// Whether the old set is there.
    pub(super) old_there: bool,
}

/// Looks.
pub(super) async fn look(desk: &Desk, place: &Place, record: &Record, ready: Ready) -> Result<Look, Failure> {
    let environment = place.environment.as_str();
    let observed = desk.ports.compute.observe(environment).await?;
    let traffic = desk.ports.compute.traffic(environment).await?;
    let service = place.service.as_str();
    let set = |name: &str| observed.set(service, name);
    let (new, faults) = answering(desk, record, set(&record.comes.set), ready).await;
    let previous = record.previous.as_ref().filter(|_| !record.same_set());
    let old = previous.and_then(|previous| set(&previous.set)).map(connecting).unwrap_or_default();
    let revisions = traffic.iter().find(|one| one.service == service).map(|one| one.revisions.as_slice());
    let counted = revisions.unwrap_or_default().iter().find(|one| one.revision == record.comes.set);
    let counted = counted.map_or_else(Baseline::default, |one| Baseline {
        requests: one.requests,
        failures: one.failures,
        classes: one.latency_classes.clone(),
    });
    Ok(Look {
        seen: Seen {
            applied: set(&record.comes.set).is_some_and(|set| !set.removing),
            new,
            old,
            weight: weight(&observed, service, &record.comes.set),
            figures: Some(figures(&record.baseline, &counted)),
            word: Word::None,
        },
        counted,
        faults,
        crashing: set(&record.comes.set).and_then(ObservedSet::crashing).map(|crashing| crashing.why),
        old_there: previous.is_some_and(|previous| set(&previous.set).is_some_and(|there| !there.removing)),
    })
}

fn weight(observed: &Observed, service: &str, set: &str) -> u8 {
    observed.set(service, set).map_or(0, |set| u8::try_from(set.weight.min(100)).unwrap_or(100))
}

fn staying(set: &ObservedSet) -> impl Iterator<Item = &crate::runtime::compute::observed::ObservedReplica> {
    set.replicas.iter().filter(|replica| match replica.state {
        ReplicaState::Starting | ReplicaState::Ready | ReplicaState::Waiting | ReplicaState::CrashLoop => true,
        ReplicaState::Draining => false,
    })
}

fn counted(total: usize, ready: usize) -> Set {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Set { total: number(total), ready: number(ready), available: number(ready) }
}

fn connecting(set: &ObservedSet) -> Set {
    let ready = staying(set).filter(|replica| replica.state == ReplicaState::Ready).count();
    counted(staying(set).count(), ready)
}

/// The new set, with its replicas asked how they are.
async fn answering(desk: &Desk, record: &Record, set: Option<&ObservedSet>, ready: Ready) -> (Set, Vec<String>) {
    let Some(set) = set else { return (Set::default(), Vec::new()) };
    let (Some(probe), Ready::Answers) = (&record.comes.workload.probe, ready) else {
        return (connecting(set), Vec::new());
    };
    let asked = staying(set).filter(|replica| replica.state == ReplicaState::Ready).map(|replica| async move {
        let Some(address) = replica.address else { return Err(format!("{} has no address", replica.id)) };
        desk.ports.prober.ask(address, probe).await.map_err(|why| format!("{}: {why}", replica.id))
    });
    let answers = join_all(asked).await;
    let ready = answers.iter().filter(|answer| answer.is_ok()).count();
    (counted(staying(set).count(), ready), answers.into_iter().filter_map(Result::err).collect())
}

/// What came since the last measurement.
fn figures(before: &Baseline, now: &Baseline) -> Figures {
    // The gateway's counts begin anew when its keeper does.
    let nothing = Baseline::default();
    let before = if now.requests < before.requests || now.failures < before.failures { &nothing } else { before };
    let class = |n: usize| {
        let then = before.classes.get(n).copied().unwrap_or(0);
        now.classes.get(n).copied().unwrap_or(0).saturating_sub(then)
    };
    let classes: Vec<u64> = (0..now.classes.len()).map(class).collect();
    Figures {
        requests: now.requests - before.requests,
        failures: now.failures - before.failures,
        p50_ms: within(&classes, 50),
        p99_ms: within(&classes, 99),
    }
}

/// The upper end of the class within which `percent` of the requests were answered.
fn within(classes: &[u64], percent: u64) -> Option<f64> {
    let all: u64 = classes.iter().sum();
    let mut sum = 0;
    for (n, count) in classes.iter().enumerate() {
        sum += count;
        if all > 0 && sum * 100 >= all * percent {
            // What took longer than the last class has no upper end; twice that says it is bad.
            let last = LATENCY_MS[LATENCY_MS.len() - 1] * 2;
            return Some(LATENCY_MS.get(n).copied().unwrap_or(last) as f64);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_came_since() {
        let mut classes = vec![0; LATENCY_MS.len() + 1];
        classes[0] = 10;
        let before = Baseline { requests: 10, failures: 1, classes: classes.clone() };
        classes[2] = 98;
        classes[11] = 2;
        let now = Baseline { requests: 110, failures: 3, classes };
        let seen = figures(&before, &now);
        assert_eq!((seen.requests, seen.failures, seen.p50_ms, seen.p99_ms), (100, 2, Some(25.0), Some(20_000.0)));
        let anew = figures(&now, &before);
        assert_eq!((anew.requests, anew.failures), (10, 1), "the gateway began to count anew");
    }
}
