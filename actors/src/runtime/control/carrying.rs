//! Carries out the small actions that an arbiter accepted: scaling, configuring, refreshing,
//! draining; and reports their end. What a node left under way when it died is found in the
//! arbiter's state and carried on just the same.
//!
//! Two nodes may carry the same action at once: each verb of compute is safe to repeat, and the end
//! is reported under the action's number, which counts once. One that is late by a whole action can
//! undo a younger one; the next look sees that, because policies and drift decide on what is
//! observed (H20).

use std::time::Duration;

use supervisor::activity::Failure;
use supervisor::worker::Run;

use crate::runtime::arbiter::{Action, Command, Doing, Outcome, Request, Source, UnderWay};
use crate::runtime::compute::observed::{Asked, Difference, WHOLE};
use crate::runtime::compute::settle;
use crate::runtime::control::desk::{Desk, Service};
use crate::runtime::model::{ConfigurationRef, RequestKey, Revision, SecretBindingId};

/// The small actions.
pub const SMALL: [Doing; 5] =
    [Doing::Scaling, Doing::Configuring, Doing::Refreshing, Doing::Restarting, Doing::Draining];
/// How often something that is not done yet is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long something must have been carried before it can be late.
const CARRIED_MIN: Duration = Duration::from_secs(10);
/// How long one run waits for one action; shorter than a run may take. The next run goes on.
const WITHIN: Duration = Duration::from_secs(60);

/// What became of what is under way.
#[derive(Clone, PartialEq, Debug)]
pub enum Carried {
    /// There is nothing of these kinds under way.
    Nothing,
    /// It has ended.
    Done {
        /// What.
        action: Action,
        /// How.
        outcome: Outcome,
    },
    /// It goes on; the next run looks again.
    Waiting {
        /// What.
        action: Action,
        /// For what.
        why: String,
    },
}

/// What one look at an action came to.
pub(in crate::runtime) enum Step {
    /// It has ended like this.
    Ended(Outcome),
    /// It needs another look.
    Waits(String),
}

/// How long something takes already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    /// Since it was accepted.
    under_way: Duration,
    /// Since this run carries it.
    carried: Duration,
}

impl Age {
    /// Whether that is longer than `deadline`, and it was carried for a while: what waited for a node is not late.
    pub(super) fn is_late(self, deadline: Duration) -> bool {
        self.carried >= CARRIED_MIN && self.under_way > deadline
    }
}

impl Desk {
    /// Carries on with what is under way at `service`, if it is one of `kinds`; waits for its end,
    /// bounded.
    pub async fn carry(&self, run: &Run, service: &Service, kinds: &[Doing]) -> Result<Carried, Failure> {
        let begun = tokio::time::Instant::now();
        loop {
            let Some(now) = self.again(service).await? else { return Ok(Carried::Nothing) };
            let under_way = now.docket.state.under_way.clone();
            let Some(under_way) = under_way.filter(|it| kinds.contains(&it.action.doing())) else {
                return Ok(Carried::Nothing);
            };
            let why = match self.step(&now, &under_way, begun.elapsed()).await {
                Ok(Step::Ended(outcome)) => return self.finish(run, &now, under_way, outcome).await,
                Ok(Step::Waits(why)) => why,
                Err(failure) if failure.permanent => {
                    let outcome = Outcome::Failed { why: failure.to_string() };
                    return self.finish(run, &now, under_way, outcome).await;
                }
                Err(failure) => return Err(failure),
            };
            if begun.elapsed() > WITHIN {
                return Ok(Carried::Waiting { action: under_way.action, why });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One look.
    async fn step(&self, service: &Service, under_way: &UnderWay, carried: Duration) -> Result<Step, Failure> {
        let age = Age { under_way: self.ports.clock.now().since(under_way.since), carried };
        match &under_way.action {
            Action::Scaling { from, to } => self.scaled(service, age, (*from, *to)).await,
            Action::Configuring { to, .. } => self.configured(service, age, to).await,
            Action::Refreshing { secret_binding_id, to, .. } => {
                self.refreshed(service, age, secret_binding_id, *to).await
            }
            Action::Restarting { to } => self.restarted(service, age, *to).await,
            Action::Draining { .. } => self.drained(service).await,
            Action::Deploying { .. }
            | Action::Remediating { .. }
            | Action::Restoring { .. }
            | Action::Stopping { .. }
            | Action::Removing { .. } => Ok(Step::Waits("a saga carries it out".to_owned())),
        }
    }

    /// One look on the way from so many replicas to so many. More that do not come are taken back.
    async fn scaled(&self, service: &Service, age: Age, (from, to): (u32, u32)) -> Result<Step, Failure> {
        let (place, ports) = (&service.place, &self.ports);
        let Some(running) = self.runs(service).await? else { return Ok(gone()) };
        let asked = Asked {
            service: place.service.as_str(),
            revision: &running.set,
            replicas: to,
            ready: to > from,
            weight: WHOLE,
        };
        let mut set = running.set(&*ports.store, place, &service.docket.tenant).await?;
        set.replicas = to;
        let Some(Difference { why, .. }) = settle(&*ports.compute, &set, &asked).await? else {
            return Ok(Step::Ended(Outcome::Succeeded));
        };
        let late = age.is_late(running.workload.progress_deadline);
        if to <= from || !late {
            return Ok(Step::Waits(why));
        }
        // It is again what it was: one that was drained has no requests either.
        let state = &service.docket.state;
        set.replicas = state.replicas;
        settle(&*ports.compute, &set, &running.asked(place, state)).await?;
        Ok(Step::Ended(Outcome::RolledBack { why }))
    }

    async fn configured(&self, service: &Service, age: Age, to: &ConfigurationRef) -> Result<Step, Failure> {
        let Some(current) = service.current() else { return Ok(gone()) };
        let next = Revision { configuration: Some(to.clone()), ..current.clone() };
        self.switch(service, &current, &next, age).await
    }

    async fn refreshed(
        &self,
        service: &Service,
        age: Age,
        secret: &SecretBindingId,
        version: u64,
    ) -> Result<Step, Failure> {
        let Some(current) = service.current() else { return Ok(gone()) };
        let mut next = current.clone();
        next.secrets.insert(secret.clone(), version);
        self.switch(service, &current, &next, age).await
    }

    async fn restarted(&self, service: &Service, age: Age, to: u64) -> Result<Step, Failure> {
        let Some(current) = service.current() else { return Ok(gone()) };
        let next = Revision { restarts: to, ..current.clone() };
        self.switch(service, &current, &next, age).await
    }

    async fn drained(&self, service: &Service) -> Result<Step, Failure> {
        let (place, ports) = (&service.place, &self.ports);
        let Some(running) = self.runs(service).await? else { return Ok(gone()) };
        let mut set = running.set(&*ports.store, place, &service.docket.tenant).await?;
        set.replicas = 0;
        let name = place.service.as_str();
        let asked = Asked { service: name, revision: &running.set, replicas: 0, ready: false, weight: 0 };
        Ok(match settle(&*ports.compute, &set, &asked).await? {
            None => Step::Ended(Outcome::Succeeded),
            Some(Difference { why, .. }) => Step::Waits(why),
        })
    }

    /// What runs now, with all that it takes.
    async fn runs(&self, service: &Service) -> Result<Option<crate::runtime::control::Running>, Failure> {
        match service.current() {
            Some(current) => self.running(&service.place, &current).await,
            None => Ok(None),
        }
    }

    async fn finish(
        &self,
        run: &Run,
        service: &Service,
        under_way: UnderWay,
        outcome: Outcome,
    ) -> Result<Carried, Failure> {
        let UnderWay { sequence, action, .. } = under_way;
        let key = RequestKey::new(format!("finish:{}/{sequence}", service.place.service))
            .map_err(|fault| Failure::permanent("naming the end of an action", fault))?;
        let request = Request {
            key,
            source: Source::Runner,
            by: self.principal()?,
            asked_at: self.ports.clock.now(),
            command: Command::Finished { sequence, outcome: outcome.clone() },
        };
        let (asker, stage) = (Self::asker(run, service), service.docket.state.stage);
        self.arbitration.ask(&service.place, &asker, stage, &request).await?;
        Ok(Carried::Done { action, outcome })
    }
}

/// There is nothing to do it to, or nobody knows how it ran.
pub(in crate::runtime) fn gone() -> Step {
    let why = "what runs is not known any more; deploy it anew".to_owned();
    Step::Ended(Outcome::Failed { why })
}

#[cfg(test)]
#[path = "carrying_tests.rs"]
mod tests;
