//! Provisioning from any node: environments are made on the machine of the processes.

use actors::runtime::model::EnvironmentId;
use actors::runtime::ports::provisioning::{Outputs, Plan, Preview, PreviewId, Provisioned, Provisioner, Wanted};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

use super::ask::{FarKeeper, strange};
use super::words::{Ask, Told};

/// What is asked about environments.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum EnvironmentAsk {
    Preview(Plan),
    Apply { plan: Plan, preview: PreviewId },
    State(EnvironmentId),
}

impl EnvironmentAsk {
    /// The environment that is not there any more afterwards.
    pub(super) fn removed(&self) -> Option<&EnvironmentId> {
        match self {
            Self::Apply { plan: Plan { environment, wanted: Wanted::Absent }, .. } => Some(&environment.environment_id),
            Self::Apply { plan: Plan { wanted: Wanted::Present { .. }, .. }, .. } => None,
            Self::Preview(_) | Self::State(_) => None,
        }
    }
}

/// What is answered about environments.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum EnvironmentTold {
    Preview(Preview),
    Applied(Outputs),
    State(Option<Provisioned>),
}

/// The keeper's side.
pub(super) async fn carried_out(
    provisioner: &dyn Provisioner,
    ask: EnvironmentAsk,
) -> Result<EnvironmentTold, Failure> {
    Ok(match ask {
        EnvironmentAsk::Preview(plan) => EnvironmentTold::Preview(provisioner.preview(&plan).await?),
        EnvironmentAsk::Apply { plan, preview } => EnvironmentTold::Applied(provisioner.apply(&plan, &preview).await?),
        EnvironmentAsk::State(environment) => EnvironmentTold::State(provisioner.state(&environment).await?),
    })
}

impl FarKeeper {
    async fn environment(&self, ask: EnvironmentAsk) -> Result<EnvironmentTold, Failure> {
        match self.ask(Ask::Environment(ask)).await? {
            Told::Environment(told) => Ok(told),
            other => Err(strange(other.name())),
        }
    }
}

#[async_trait]
impl Provisioner for FarKeeper {
    async fn preview(&self, plan: &Plan) -> Result<Preview, Failure> {
        match self.environment(EnvironmentAsk::Preview(plan.clone())).await? {
            EnvironmentTold::Preview(preview) => Ok(preview),
            EnvironmentTold::Applied(_) | EnvironmentTold::State(_) => Err(strange("something else")),
        }
    }

    async fn apply(&self, plan: &Plan, preview: &PreviewId) -> Result<Outputs, Failure> {
        let ask = EnvironmentAsk::Apply { plan: plan.clone(), preview: preview.clone() };
        match self.environment(ask).await? {
            EnvironmentTold::Applied(outputs) => Ok(outputs),
            EnvironmentTold::Preview(_) | EnvironmentTold::State(_) => Err(strange("something else")),
        }
    }

    async fn state(&self, environment: &EnvironmentId) -> Result<Option<Provisioned>, Failure> {
        match self.environment(EnvironmentAsk::State(environment.clone())).await? {
            EnvironmentTold::State(state) => Ok(state),
            EnvironmentTold::Preview(_) | EnvironmentTold::Applied(_) => Err(strange("something else")),
        }
    }
}
