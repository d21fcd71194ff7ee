//! `workloads.rollout` and `workloads.takeback`: the new set comes up beside the old one, without
//! traffic. Undo brings back what was there before, however far the deployment got.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::back;
use super::desk::{Desk, Entered};
use super::drive::{Until, drive};
use crate::runtime::model::{DeploymentState, EnvironmentId, ServiceId};
use crate::runtime::records::deployments::Record;
use crate::runtime::rollout::{Plan, RolloutState};
use crate::runtime::store::Read;

/// Why a deployment is taken back that did not fail.
pub(super) const GIVEN_UP: &str = "it was given up";
/// The error name of a way back that leads nowhere (H08).
pub const NOTHING_GOOD: &str = "NothingGood";

/// Of which service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Where.
    pub environment: EnvironmentId,
    /// What.
    pub service: ServiceId,
}

impl Input {
    /// Lets the attempt in, and reads what it is to do.
    pub(super) async fn enter(
        &self,
        desk: &Desk,
        attempt: &Attempt,
        what: &'static str,
    ) -> Result<(Entered, Read<Record>), Failure> {
        let body = serde_json::to_value(self).unwrap_or_default();
        let entered = desk.enter(attempt, what, &self.environment, &self.service, body).await?;
        let read = desk.begun(attempt, &entered.place).await?;
        Ok((entered, read))
    }

    /// The same on the way back.
    pub(super) async fn enter_back(
        &self,
        desk: &Desk,
        attempt: &Attempt,
        what: &'static str,
    ) -> Result<(Entered, Read<Record>), Failure> {
        let body = serde_json::to_value(self).unwrap_or_default();
        let entered = desk.enter_back(attempt, what, &self.environment, &self.service, body).await?;
        let read = desk.begun(attempt, &entered.place).await?;
        Ok((entered, read))
    }
}

/// What runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// What compute calls the new set.
    pub set: String,
    /// How many of its replicas are there.
    pub replicas: u32,
}

/// The activity.
pub struct Rollout {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Rollout {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "workloads.rollout";
    const UNDO: Option<&'static str> = Some("workloads.takeback");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let desk = &self.desk;
        let (entered, mut read) = input.enter(desk, attempt, Self::NAME).await?;
        let set = read.value.comes.set.clone();
        if read.value.idle() {
            return Ok(Output { set, replicas: read.value.comes.revision.replicas });
        }
        let (now, record) = (desk.ports.clock.now(), &read.value);
        let revision = &record.comes.revision;
        let workload = &record.comes.workload;
        let plan = Plan {
            strategy: workload.strategy.clone(),
            replicas: revision.replicas,
            stable: record.previous.is_some() && !record.same_set(),
            progress_deadline: workload.progress_deadline,
            // Of none there is nothing to measure.
            skip: record.skips() || record.same_set() || revision.replicas == 0,
            same: record.same_set(),
        };
        let begun = RolloutState::begin(plan, now);
        desk.change(&entered.place, &mut read, |record| {
            record.deployment.state = DeploymentState::RollingOut;
            record.rollout.get_or_insert_with(|| begun.clone());
        })
        .await?;
        if read.value.nowhere {
            let why = format!("there is no completed deployment of {} to go back to", entered.place);
            return Err(Failure::named(NOTHING_GOOD, why));
        }
        drive(desk, attempt, &entered, &mut read, Until::Started).await?;
        let look = super::look::look(desk, &entered.place, &read.value, super::look::Ready::Connects).await?;
        Ok(Output { set, replicas: look.seen.new.total })
    }

    async fn undo(&self, attempt: &Attempt, input: Input, _: Option<Output>) -> Result<(), Failure> {
        let body = serde_json::to_value(&input).unwrap_or_default();
        let entered =
            self.desk.enter_back(attempt, "workloads.takeback", &input.environment, &input.service, body).await?;
        let Some(mut read) = self.desk.record(attempt, &entered.place).await? else { return Ok(()) };
        // What failed has said why before it was taken back.
        if read.value.deployment.why.is_none() && !read.value.given_up {
            self.desk.change(&entered.place, &mut read, |record| record.given_up = true).await?;
        }
        let why = read.value.deployment.why.clone().unwrap_or_else(|| GIVEN_UP.to_owned());
        back::back(&self.desk, attempt, &entered, &mut read, &why).await.map(|_| ())
    }
}
