//! `traffic.promote`: the new set takes all traffic, is judged once more where the strategy says so,
//! and the old one goes when nobody talks to it any more (R030, D102).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::Desk;
use super::drive::{Until, drive};
use super::rollout::Input;
use crate::runtime::compute::Route;
use crate::runtime::model::DeploymentState;

/// What takes the traffic now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// What compute calls it.
    pub set: String,
}

/// The activity.
pub struct Promote {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Promote {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "traffic.promote";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let desk = &self.desk;
        let (entered, mut read) = input.enter(desk, attempt, Self::NAME).await?;
        let set = read.value.comes.set.clone();
        if read.value.idle() {
            return Ok(Output { set });
        }
        let state = DeploymentState::Promoting;
        desk.change(&entered.place, &mut read, |record| record.deployment.state = state).await?;
        drive(desk, attempt, &entered, &mut read, Until::Done).await?;
        let (place, compute) = (&entered.place, &desk.ports.compute);
        compute.route(place.environment.as_str(), place.service.as_str(), &[Route::new(&set, 100)]).await?;
        if let Some(previous) = read.value.previous.as_ref().filter(|_| !read.value.same_set()) {
            super::back::remove(desk, attempt, &previous.id(place)).await?;
        }
        Ok(Output { set })
    }
}
