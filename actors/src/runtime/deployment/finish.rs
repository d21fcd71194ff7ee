//! `deployment.finish`: the arbiter hears that it was completed, and the inventory shows what runs
//! now (R031). `deployment.review`: whether it was completed although the answer was lost. What the
//! arbiter has as completed is completed, whatever became of the word about it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::claim;
use super::desk::Desk;
use super::drive::STOPPED;
use super::inventory;
use super::rollout::Input;
use super::tidy;
use crate::runtime::arbiter::Outcome;
use crate::runtime::model::{DeploymentState, ObservedService};

/// What runs now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// As the inventory shows it.
    pub service: ObservedService,
    /// Whether the inventory changed by it (H05: what did not change is not told).
    pub changed: bool,
}

/// `deployment.finish`.
pub struct Finish {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Finish {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "deployment.finish";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let desk = &self.desk;
        let (entered, mut read) = input.enter(desk, attempt, Self::NAME).await?;
        let (place, id) = (&entered.place, read.value.deployment.deployment_id.clone());
        if !read.value.idle() {
            claim::finish(desk, &entered, &read.value, |_| Outcome::Succeeded).await?;
            let seen = desk.arbitration.look(place).await?;
            let current = seen.and_then(|seen| seen.value.state.current);
            if current.is_none_or(|current| current.deployment_id != id) {
                return Err(Failure::named(STOPPED, format!("the deployment {id} of {place} was given up")));
            }
        }
        let state = DeploymentState::Completed;
        desk.change(place, &mut read, |record| record.deployment.state = state).await?;
        let changed = inventory::update(desk, place, &attempt.saga.tenant).await?;
        tidy::tidy(desk, place).await?;
        match inventory::shown(desk, place).await? {
            Some(service) => Ok(Output { service, changed }),
            None => Err(Failure::transient("reading the inventory", "it shows nothing of the service")),
        }
    }
}

/// Whether it was completed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewed {
    /// Whether the arbiter has it as completed.
    pub completed: bool,
    /// What runs then, as the inventory shows it.
    pub service: Option<ObservedService>,
    /// Whether the inventory changed by this look.
    pub changed: bool,
}

/// `deployment.review`.
pub struct Review {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Review {
    type Input = Input;
    type Output = Reviewed;
    const NAME: &'static str = "deployment.review";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Reviewed, Failure> {
        let desk = &self.desk;
        let (entered, mut read) = input.enter_back(desk, attempt, Self::NAME).await?;
        let (place, id) = (&entered.place, read.value.deployment.deployment_id.clone());
        let state = desk.arbitration.look(place).await?.map(|seen| seen.value.state);
        let ours = state.is_some_and(|state| {
            state.under_way.is_none() && state.current.is_some_and(|current| current.deployment_id == id)
        });
        if !ours && !read.value.idle() {
            return Ok(Reviewed { completed: false, service: None, changed: false });
        }
        let state = DeploymentState::Completed;
        desk.change(place, &mut read, |record| record.deployment.state = state).await?;
        let changed = inventory::update(desk, place, &attempt.saga.tenant).await?;
        Ok(Reviewed { completed: true, service: inventory::shown(desk, place).await?, changed })
    }
}
