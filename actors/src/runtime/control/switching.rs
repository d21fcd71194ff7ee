//! From one set to another with as many replicas: the new one comes, answers its probes, takes all
//! traffic, and the old one goes. For changes that are no release: a configuration, a secret.
//!
//! Once the old set has begun to go there is no way back: then it is carried to its end.

use futures::future::join_all;
use supervisor::activity::Failure;

use super::{Running, probes};
use crate::runtime::arbiter::Outcome;
use crate::runtime::compute::Route;
use crate::runtime::compute::observed::{Asked, Difference, ObservedReplica, ObservedSet, ReplicaState, WHOLE};
use crate::runtime::control::carrying::{Age, Step, gone};
use crate::runtime::control::desk::{Desk, Service};
use crate::runtime::model::Revision;

impl Desk {
    /// One look on the way from `current` to `next`, which takes that long already.
    pub(super) async fn switch(
        &self,
        service: &Service,
        current: &Revision,
        next: &Revision,
        age: Age,
    ) -> Result<Step, Failure> {
        let (place, ports) = (&service.place, &self.ports);
        let (Some(old), Some(new)) = (self.running(place, current).await?, self.running(place, next).await?) else {
            return Ok(gone());
        };
        if old.set == new.set {
            return Ok(Step::Ended(Outcome::Succeeded));
        }
        ports.compute.apply(&new.set(&*ports.store, place, &service.docket.tenant).await?).await?;
        let (environment, name) = (place.environment.as_str(), place.service.as_str());
        let observed = ports.compute.observe(environment).await?;
        let old_stands = observed.set(name, &old.set).is_some_and(|set| !set.removing);
        let seen = observed.set(name, &new.set);
        let trouble = match seen {
            Some(set) => self.trouble(&new, set, current.replicas).await,
            None => Some(Difference { why: "its replicas are not seen yet".to_owned(), hopeless: false }),
        };
        if let Some(Difference { why, hopeless }) = trouble.filter(|_| old_stands) {
            if !hopeless && !age.is_late(new.workload.progress_deadline) {
                return Ok(Step::Waits(why));
            }
            // It may have had traffic before somebody else went on from here.
            ports.compute.route(environment, name, &[Route::new(&old.set, WHOLE)]).await?;
            ports.compute.remove(&new.id(place)).await?;
            return Ok(Step::Ended(Outcome::RolledBack { why }));
        }
        ports.compute.route(environment, name, &[Route::new(&new.set, WHOLE)]).await?;
        ports.compute.remove(&old.id(place)).await?;
        let observed = ports.compute.observe(environment).await?;
        let asked = Asked { service: name, revision: &new.set, replicas: current.replicas, ready: true, weight: WHOLE };
        let why = match (observed.differs(&asked), observed.set(name, &old.set)) {
            (None, None) => return Ok(Step::Ended(Outcome::Succeeded)),
            (Some(differs), _) => differs.why,
            (None, Some(_)) => "the previous set is still stopping".to_owned(),
        };
        Ok(match age.is_late(new.workload.progress_deadline) {
            // It has taken over and is not as asked, and there is no way back: somebody must look.
            true => Step::Ended(Outcome::Differs { why }),
            false => Step::Waits(why),
        })
    }

    /// What keeps `set` from taking the traffic of `wanted` replicas.
    async fn trouble(&self, running: &Running, set: &ObservedSet, wanted: u32) -> Option<Difference> {
        if let Some(crashing) = set.crashing() {
            return Some(crashing);
        }
        let ready = set.replicas.iter().filter(|replica| match replica.state {
            ReplicaState::Ready => true,
            ReplicaState::Starting | ReplicaState::Waiting | ReplicaState::CrashLoop | ReplicaState::Draining => false,
        });
        let answers = join_all(ready.map(|replica| self.well(running, replica))).await;
        let well = answers.iter().filter(|answer| answer.is_ok()).count();
        if u32::try_from(well).unwrap_or(u32::MAX) >= wanted {
            return None;
        }
        let mut why = format!("{well} of {wanted} new replicas are well");
        if let Some(first) = answers.into_iter().find_map(Result::err) {
            why = format!("{why}; {first}");
        }
        Some(Difference { why, hopeless: false })
    }

    /// Whether a replica answers all its probes now.
    async fn well(&self, running: &Running, replica: &ObservedReplica) -> Result<(), String> {
        let specs = probes::of(&running.workload);
        let place = probes::place(replica, &specs).ok_or_else(|| format!("{} has no address", replica.id))?;
        for spec in &specs {
            match self.ports.prober.probe(&place, spec).await {
                Ok(outcome) if outcome.passed() => {}
                Ok(outcome) => return Err(format!("{}: {}", replica.id, outcome.answer)),
                Err(failure) => return Err(format!("{}: {failure}", replica.id)),
            }
        }
        Ok(())
    }
}
