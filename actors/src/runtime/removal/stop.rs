//! `service.stop`: it has no traffic, and then no processes. `service.start`: it has again what its arbiter knows.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::Input;
use crate::runtime::compute::{SetId, settle};
use crate::runtime::deployment::Desk;
use crate::runtime::deployment::back::remove;
use crate::runtime::model::Revision;
use crate::runtime::records::deployments::Running;

/// How often it is looked at until it runs again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// What compute called it.
    pub sets: Vec<String>,
}

/// The activity.
pub struct Stop {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Stop {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "service.stop";
    const UNDO: Option<&'static str> = Some("service.start");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let compute = &self.desk.ports.compute;
        let entered = input.enter(&self.desk, attempt, Self::NAME).await?;
        let (environment, service) = (entered.place.environment.as_str(), entered.place.service.as_str());
        compute.route(environment, service, &[]).await?;
        let observed = compute.observe(environment).await?;
        let sets = observed.sets.into_iter().filter(|set| set.service == service).map(|set| set.revision);
        let sets: Vec<String> = sets.collect();
        for set in &sets {
            remove(&self.desk, attempt, &SetId::new(environment, service, set)).await?;
        }
        Ok(Output { sets })
    }

    async fn undo(&self, attempt: &Attempt, input: Input, _: Option<Output>) -> Result<(), Failure> {
        let (store, compute) = (&*self.desk.ports.store, &self.desk.ports.compute);
        let Some(claimed) = input.claimed(&self.desk, attempt).await? else { return Ok(()) };
        let (place, state) = (&claimed.place, &claimed.docket.state);
        let Some(current) = &state.current else { return Ok(()) };
        let revision = Revision { replicas: state.replicas, ..current.clone() };
        let Some(running) = Running::of(store, place, &revision, &current.deployment_id).await? else {
            return Err(Failure::named("RecordMissing", format!("how {place} ran is not known any more")));
        };
        let set = running.set(store, place, &claimed.docket.tenant).await?;
        let asked = running.asked(place, state);
        // Nothing else is done to it meanwhile, so it comes, or the attempt runs out of time.
        while settle(&**compute, &set, &asked).await?.is_some() {
            attempt.heartbeat.beat();
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}
