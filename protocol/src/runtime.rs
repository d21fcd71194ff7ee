//! What a client may ask of the runtime platform, and what it is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Principal, SagaKey, Tenant, Time};

mod configuration;
mod decision;
mod drift;
mod health;
mod incident;
mod provisioning;
mod scaling;
mod secret;

pub use configuration::{
    ConfigurationRow, Configurations, PublishConfiguration, PublishedConfiguration, ShowConfiguration,
    ShownConfiguration,
};
pub use decision::{ApproveDecision, DecisionRow, Decisions};
pub use drift::{DriftPolicyView, DriftRow, Drifts, ListDrift, OfEnvironment, OfFinding, SetDriftPolicy};
pub use health::ServiceHealth;
pub use incident::{CloseIncident, IncidentRow, IncidentView, Incidents};
pub use provisioning::{ChangeRow, ProvisionEnvironment, Provisioned};
pub use scaling::{ApplyScalingPolicy, ListPolicies, Policies, PolicyRow, ScaleService, ScalingDecisions};
pub use secret::{BindSecret, ListSecrets, OfSecret, PutSecret, SecretRow, SecretValue, Secrets, UnbindSecret};

/// `environment.create`. Again with the same: nothing happens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateEnvironment {
    /// Its name, unique among all tenants.
    pub environment: String,
    /// `dev`, `test`, `staging` or `prod`; `dev` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Where it is; `local` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// `environment.bind`: lets a tenant use an environment of one's own, itself included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindEnvironment {
    /// Which environment.
    pub environment: String,
    /// Which tenant.
    pub tenant: Tenant,
    /// How many replicas its services may have together; 0 takes the right away.
    pub max_replicas: u32,
}

/// `service.list`: services of the tenant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListServices {
    /// Only those of this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Only those of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// `service.restart`: new replicas of the same take over. `service.resume`: a rollout that waits for a person goes on, and a service that was paused,
/// drained or is an incident acts by itself again. `service.unhold`: what is held may come again.
/// `scaling.remove`: nobody owns its replicas any more; they stay as many as they are.
/// `incident.show`: what is known of an incident. `service.health`: how it is. `scaling.decisions`:
/// what was decided about its replicas. `drift.remediate`: all that differs of it is to be put right now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfService {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
}

/// `service.drain`: its traffic and its replicas go, until it is resumed: then it has again what it had.
/// `service.pause`: nothing happens to it by itself any more; people may still act.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SteerService {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
    /// Why; people who look at it later are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// `service.logs`: what its replicas wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadLogs {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
    /// Only of this replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// The last lines of each, no more than so many; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// Of each replica that is named here only what came after an answer that had this as its `next`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub after: BTreeMap<String, String>,
}

/// The answer to `service.logs`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logs {
    /// One for each replica.
    pub replicas: Vec<ReplicaLog>,
}

/// What a replica wrote to its standard output and error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaLog {
    /// Which.
    pub replica: String,
    /// Its lines, the oldest first.
    pub lines: Vec<String>,
    /// Where the next reading goes on.
    pub next: String,
    /// Whether something is left out before the first line: what came since the former answer is not kept any more, or
    /// the last lines are more than an answer takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
}

/// The answer to `service.list`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Services {
    /// One row each.
    pub services: Vec<ServiceRow>,
    /// The environments that the tenant may use.
    pub environments: Vec<EnvironmentRow>,
    /// Why what runs could not be looked at, where it could not.
    pub missing: Vec<String>,
}

/// The answer to `environment.list`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentRows {
    /// The environments that the tenant may use.
    pub environments: Vec<EnvironmentRow>,
}

/// An environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentRow {
    /// Its name.
    pub environment: String,
    /// Whose.
    pub tenant: Tenant,
    /// How far from users it is.
    pub stage: String,
    /// Whether it carries workloads.
    pub status: String,
    /// How many replicas all its services may have together; absent: nobody provisioned a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
}

/// A service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
    /// The version that is completed; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The deployment that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// How many replicas it is to have.
    #[serde(default)]
    pub replicas: u32,
    /// What runs of it, as it was seen.
    #[serde(default)]
    pub sets: Vec<SetRow>,
    /// What of it is not as asked, as it was seen. Absent where all is as asked, while something is under way, and
    /// where nobody could look or knows how it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// What was asked last, and why it ended, where it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
    /// What is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<UnderWayRow>,
    /// Whether things happen to it by themselves.
    pub standing: Standing,
    /// Why they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What may not come again, with the reason.
    #[serde(default)]
    pub held: Vec<String>,
}

/// Whether things happen to a service by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// They do.
    Open,
    /// Somebody paused it: only people act.
    Paused,
    /// It was drained: nothing runs.
    Drained,
    /// It is an incident: somebody must look.
    Incident,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Drained => "drained",
            Self::Incident => "incident",
        })
    }
}

impl ServiceRow {
    /// How it stands and why, in words.
    pub fn stands(&self) -> String {
        self.why.as_ref().map_or_else(|| self.standing.to_string(), |why| format!("{}: {why}", self.standing))
    }
}

/// The answer to `service.drain`, `service.pause`, `service.restart`, `service.resume` and `service.scale`: it was let in. Whether it is
/// so is what `service.list` says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
    /// What is carried out now, in a word; absent: nothing has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
}

/// One revision of a service that runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetRow {
    /// What compute calls it.
    pub set: String,
    /// Its image.
    pub image: String,
    /// Replicas that accept connections.
    pub ready: u32,
    /// Replicas that should.
    pub wanted: u32,
    /// Percent of the requests.
    pub weight: u32,
}

/// What is under way for a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnderWayRow {
    /// What, in a word.
    pub doing: String,
    /// The saga that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saga: Option<SagaKey>,
    /// Who asked.
    pub by: Principal,
    /// Since when.
    pub since: Time,
    /// What it waits for, when it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Whether it takes longer than it should.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}
