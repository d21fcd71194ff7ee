//! `ScalingPolicyWorker`: as many replicas as the figures ask for, within the policy's bounds
//! (R077–R089, W023–W029).
//!
//! While a policy governs a service its replicas are nobody else's (H02): the arbiter is told so
//! before anything is scaled. What was decided is stored with what it was decided on, whether or not
//! anything came of it (F48); a run that decides as the last one did writes nothing (W074).
//!
//! It also carries out what people asked the arbiter for: a scale by hand, a drain.

mod acting;
pub mod decide;
mod read;
mod sampling;
mod speed;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::StreamExt;
use protocol::{Envelope, Environment, Value};
use supervisor::activity::Failure;
use supervisor::worker::{Report, Rhythm, Run, Worker, names};

use crate::runtime::arbiter::{Doing, Outcome};
use crate::runtime::compute::{Observed, ServiceTraffic};
use crate::runtime::control::cards::{WORKERS, Worker as Which};
use crate::runtime::control::carrying::Carried;
use crate::runtime::control::desk::{Desk, Ports, Service};
use crate::runtime::model::{ScalingPolicy, ServiceId};
use crate::runtime::records::policies::Policies;

pub use acting::{DECISIONS_MAX, Remembered};

/// What it carries out.
const CARRIES: [Doing; 3] = [Doing::Scaling, Doing::Restarting, Doing::Draining];

/// Services that one run looks at at once.
const AT_ONCE: usize = 16;

/// What an arbiter says of every action that it accepted.
const STARTED: &str = "RuntimeActionStarted";

/// The worker.
pub struct Scaling {
    desk: Desk,
    policies: Policies,
    triggers: Vec<&'static str>,
}

/// What is seen of an environment.
struct Seen {
    observed: Observed,
    traffic: Vec<ServiceTraffic>,
    policies: BTreeMap<ServiceId, ScalingPolicy>,
}

/// What a run came to.
#[derive(Default)]
struct Tally {
    governed: u64,
    did: Vec<String>,
    why: Vec<String>,
}

impl Scaling {
    /// A worker on `ports`.
    pub fn new(ports: &Ports) -> Self {
        let which = Which::ScalingPolicyWorker;
        let policies = Policies::new(ports.store.clone());
        Self { desk: Desk::new(ports.clone(), which), policies, triggers: which.events() }
    }

    /// Looks at one service.
    async fn service(&self, run: &Run, service: Service, seen: &Seen, tally: &mut Tally) -> Result<(), Failure> {
        let name = service.place.service.clone();
        match self.desk.carry(run, &service, &CARRIES).await? {
            Carried::Nothing => {}
            Carried::Done { action, outcome: Outcome::Succeeded } => {
                // What was seen before it is not so any more.
                tally.did.push(format!("{name}: carried out {}", action.doing()));
                return Ok(());
            }
            Carried::Done { action, outcome } => {
                tally.did.push(format!("{name}: gave {} up", action.doing()));
                tally.why.push(format!("{name}: {outcome}"));
                return Ok(());
            }
            Carried::Waiting { why, .. } => {
                tally.why.push(format!("{name}: {why}"));
                return Ok(());
            }
        }
        let policy = seen.policies.get(&name);
        self.govern(run, &service, policy, tally).await?;
        let Some(policy) = policy else { return Ok(()) };
        tally.governed += 1;
        let state = &service.docket.state;
        match state.doing() {
            Doing::Nothing if state.current.is_some() => self.scale(run, &service, policy, seen, tally).await,
            Doing::Nothing => Ok(()),
            Doing::Deploying
            | Doing::Remediating
            | Doing::Restoring
            | Doing::Stopping
            | Doing::Scaling
            | Doing::Configuring
            | Doing::Refreshing
            | Doing::Restarting
            | Doing::Draining
            | Doing::Removing => {
                tally.why.push(format!("{name}: {} is under way", state.doing()));
                Ok(())
            }
        }
    }
}

/// Whether a person asked for something that is carried out here. What a worker asked for would wake
/// it in a circle (H05).
fn asked_by_hand(started: &Envelope) -> bool {
    let text = |at: &str| started.payload.pointer(at).and_then(Value::as_str);
    let carried = matches!(text("/action/type"), Some("scaling" | "draining"));
    carried && text("/by").is_some_and(|by| WORKERS.iter().all(|worker| worker.name() != by))
}

#[async_trait]
impl Worker for Scaling {
    fn kind(&self) -> &str {
        Which::ScalingPolicyWorker.kind()
    }

    fn rhythm(&self) -> Rhythm {
        Which::ScalingPolicyWorker.rhythm()
    }

    fn triggers(&self) -> &[&str] {
        &self.triggers
    }

    fn concerns(&self, event: &Envelope, environment: &Environment) -> bool {
        names(event, environment) && (event.event_type != STARTED || asked_by_hand(event))
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        let Some(look) = self.desk.look(run).await? else {
            return Ok(Report::unchanged("no environment", "it is not there any more"));
        };
        let id = &look.environment.environment_id;
        let policies = self.policies.all(&look.environment.tenant_id, id).await?;
        let count = look.services.len();
        // Where nobody scales, nothing is looked at.
        let idle = |service: &Service| {
            let state = &service.docket.state;
            !policies.contains_key(&state.service_id) && state.governed.is_none() && !CARRIES.contains(&state.doing())
        };
        let services: Vec<Service> = look.services.into_iter().filter(|service| !idle(service)).collect();
        if services.is_empty() {
            return Ok(Report::unchanged(format!("{count} services, none with a policy"), "there is nothing to scale"));
        }
        let compute = &self.desk.ports.compute;
        let (observed, traffic) = (compute.observe(id.as_str()).await?, compute.traffic(id.as_str()).await?);
        let seen = Seen { observed, traffic, policies };
        let (mut tally, mut failed) = (Tally::default(), None);
        // One whose replicas take long to come holds up few others.
        let looks = futures::stream::iter(services).map(|service| async {
            let (name, mut tally) = (service.place.service.clone(), Tally::default());
            let looked = self.service(run, service, &seen, &mut tally).await;
            (name, tally, looked)
        });
        let looked: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
        for (name, own, looked) in looked {
            tally.governed += own.governed;
            tally.did.extend(own.did);
            tally.why.extend(own.why);
            if let Err(failure) = looked {
                tally.why.push(format!("{name}: {failure}"));
                failed = Some(failure);
            }
        }
        match failed {
            // The others had their turn; the run is tried again for this one.
            Some(failure) if tally.did.is_empty() => Err(failure),
            Some(_) | None => Ok(tally.report(count)),
        }
    }
}

impl Tally {
    fn report(self, services: usize) -> Report {
        let saw = format!("{services} services, {} with a policy", self.governed);
        let why = match self.why.is_empty() {
            true => "nothing asks for another number".to_owned(),
            false => self.why.join("; "),
        };
        let report = match self.did.is_empty() {
            true => Report::unchanged(saw, why),
            false => Report::changed(saw, self.did.join(", "), why),
        };
        report.count("services", services as u64).count("policies", self.governed)
    }
}

#[cfg(test)]
mod tests;
