//! `deployment.rollback`: back to what ran before (R033, R103). `deployment.strand`: it could not be
//! brought back, and people must look (R110, H06).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::back;
use super::claim::finish;
use super::desk::Desk;
use super::inventory;
use super::rollout;
use crate::runtime::arbiter::Outcome;
use crate::runtime::model::deployment::shortened;
use crate::runtime::model::{DeploymentState, EnvironmentId, ServiceId};

/// Of which service, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Where.
    pub environment: EnvironmentId,
    /// What.
    pub service: ServiceId,
    /// Why.
    pub why: String,
}

/// What runs again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Whether there was anything to go back to.
    pub restored: bool,
    /// Its version; empty: nothing runs.
    pub version: String,
}

/// `deployment.rollback`.
pub struct Rollback {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Rollback {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "deployment.rollback";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let of = rollout::Input { environment: input.environment, service: input.service };
        let (entered, mut read) = of.enter_back(&self.desk, attempt, Self::NAME).await?;
        let restored = back::back(&self.desk, attempt, &entered, &mut read, &input.why).await?;
        let version = read.value.previous.as_ref().filter(|_| restored).map(|there| there.revision.version.clone());
        Ok(Output { restored, version: version.unwrap_or_default() })
    }
}

/// `deployment.strand`.
pub struct Strand {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Strand {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "deployment.strand";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let of = rollout::Input { environment: input.environment, service: input.service };
        let (entered, mut read) = of.enter_back(&self.desk, attempt, Self::NAME).await?;
        let why = shortened(&input.why);
        finish(&self.desk, &entered, &read.value, |_| Outcome::Stuck { why: why.clone() }).await?;
        inventory::update(&self.desk, &entered.place, &attempt.saga.tenant).await?;
        self.desk
            .change(&entered.place, &mut read, |record| {
                record.deployment.state = DeploymentState::Failed;
                record.deployment.why = Some(why.clone());
            })
            .await?;
        Ok(Output { restored: false, version: String::new() })
    }
}
