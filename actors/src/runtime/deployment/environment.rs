//! `environment.ensure`: there is an environment, it is this tenant's to use, and it can carry
//! workloads (R018–R021).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::Desk;
use super::rollout::Input;
use crate::runtime::model::{Environment, Stage, Status};
use crate::runtime::records::place;
use crate::runtime::store;

/// The environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// How far from users it is.
    pub stage: Stage,
    /// Where it is.
    pub region: String,
    /// Whether it was provisioned just now.
    pub provisioned: bool,
}

/// The activity. On one machine provisioning is nothing but saying so: compute makes room when the
/// first set comes. What is provisioned stays so when a deployment is taken back.
pub struct Ensure {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Ensure {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "environment.ensure";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let body = serde_json::to_value(&input).unwrap_or_default();
        let entered = self.desk.enter(attempt, Self::NAME, &input.environment, &input.service, body).await?;
        let name = place::environment(&input.environment);
        let mut provisioned = false;
        let stands =
            store::change(&*self.desk.ports.store, &entered.place.space(), &name, |there: Option<&Environment>| {
                let there = there?;
                provisioned = match there.status {
                    Status::Requested | Status::Provisioning | Status::Failed => true,
                    Status::Provisioned | Status::Decommissioned => false,
                };
                provisioned.then(|| Environment { status: Status::Provisioned, ..there.clone() })
            })
            .await?;
        let Some(stands) = stands else {
            let why = format!("the environment {} is not there any more", input.environment);
            return Err(Failure::named("UnknownEnvironment", why));
        };
        match stands.may_deploy(&attempt.saga.tenant, entered.granted.binding.as_ref()) {
            Ok(()) => Ok(Output { stage: stands.stage, region: stands.region, provisioned }),
            Err(fault) => Err(Failure::named("NotProvisioned", fault.to_string())),
        }
    }
}
