//! Environments: what would change, and the change.
//!
//! Nothing is changed that was not shown before. A preview has a name that stands for exactly its
//! changes; applying it does those or nothing (F32).

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;

#[cfg(test)]
mod contract;
pub mod machine;
pub mod pulumi;

pub use machine::Machine;
pub use pulumi::Pulumi;

use crate::runtime::model::fault::{at_most, between};
use crate::runtime::model::{Environment, EnvironmentId, Fault, Status};

/// Makes environments, changes them and takes them away.
///
/// What was answered with `Ok` is durable. A failure named `Transient` may pass by itself; the
/// others do not:
///
/// | name | what it says |
/// |---|---|
/// | `BadPlan` | the plan makes no sense, or changes what is fixed |
/// | `PreviewChanged` | applying would do something else than was shown; the cause says what |
/// | `NoFreePort` | all ports for gateways are taken |
/// | `TooManyEnvironments` | there is no room for another |
/// | `PulumiMissing`, `BadProject`, `NotLoggedIn` | what makes environments is not set up; the cause says how |
/// | `ProvisioningFailed` | it was tried and failed; what was made is there, and the next preview shows it |
#[async_trait]
pub trait Provisioner: Send + Sync + 'static {
    /// What would change if `plan` were applied now. Changes nothing. As long as nothing else
    /// changes, the same plan has the same preview.
    async fn preview(&self, plan: &Plan) -> Result<Preview, Failure>;

    /// Applies `plan`, if that still does exactly what `preview` showed, and answers the outputs.
    /// Otherwise nothing is changed, and it is refused as `PreviewChanged`: preview again, and
    /// let whoever decides see it.
    ///
    /// Again after it was applied: nothing happens, unless somebody changed the environment since;
    /// then it is refused. Again after a crash on the way: goes on where it stopped.
    async fn apply(&self, plan: &Plan, preview: &PreviewId) -> Result<Outputs, Failure>;

    /// What is there. `None`: nothing was ever applied, or it was taken away.
    async fn state(&self, environment: &EnvironmentId) -> Result<Option<Provisioned>, Failure>;
}

/// What should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Which environment. Its status is not looked at.
    pub environment: Environment,
    /// What should become of it.
    pub wanted: Wanted,
}

/// What should become of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Wanted {
    /// It is there.
    Present {
        /// How much its services may take together.
        quota: Quota,
    },
    /// It is not, and nothing of it is left.
    Absent,
}

/// How much the services of an environment may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Replicas.
    pub replicas: u32,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Thousandths of one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
}

/// The most replicas of one environment: what one arbiter per service is meant for, all together.
pub const REPLICAS_MAX: u32 = 100_000;

impl Plan {
    /// What should become of `environment`. What follows from applying it is changed by that, so no preview may hang on
    /// it.
    pub fn of(environment: &Environment, wanted: Wanted) -> Self {
        let environment =
            Environment { status: Status::Requested, max_replicas: None, removed_by: None, ..environment.clone() };
        Self { environment, wanted }
    }

    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        self.environment.check().map_err(|fault| fault.within("environment"))?;
        let name = self.environment.environment_id.as_str();
        // It becomes a directory.
        if name.starts_with('.') {
            let mend = "begin it with a letter or a digit";
            return Err(Fault::new("environment.environmentId", "it begins with a point", mend));
        }
        at_most("environment.environmentId", name.len(), 64, "bytes")?;
        match &self.wanted {
            Wanted::Present { quota } => between("quota.replicas", quota.replicas, 0, REPLICAS_MAX),
            Wanted::Absent => Ok(()),
        }
    }
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Its name, which stands for the plan, the changes and what they start from.
    pub id: PreviewId,
    /// The changes; none: everything is as planned.
    pub changes: Vec<Change>,
}

/// Names a preview.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PreviewId(String);

impl PreviewId {
    /// The name of what `parts` say together.
    pub fn of(parts: &impl Serialize) -> Result<Self, Failure> {
        let bytes = serde_json::to_vec(parts).map_err(|error| Failure::permanent("naming a preview", error))?;
        Ok(Self(hex::encode(Sha256::digest(bytes))))
    }

    /// A name that somebody wrote down.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Of what, as in `gatewayPort`.
    pub resource: String,
    /// What it is now. `None`: it is not there.
    pub from: Option<String>,
    /// What it will be. `None`: it will not be there.
    pub to: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{}: {from} becomes {to}", self.resource),
            (None, Some(to)) => write!(f, "{}: {to} is made", self.resource),
            (Some(from), None) => write!(f, "{}: {from} is taken away", self.resource),
            (None, None) => write!(f, "{}: nothing", self.resource),
        }
    }
}

/// The names of what was made, as in `gatewayPort` (R020).
pub type Outputs = BTreeMap<String, String>;

/// An environment that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisioned {
    /// Which.
    pub environment: Environment,
    /// How much its services may take together.
    pub quota: Quota,
    /// The names of what was made.
    pub outputs: Outputs,
    /// Counts its changes.
    pub revision: u64,
}
