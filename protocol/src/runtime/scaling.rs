//! Scaling: policies that own the replicas of services, and scaling by hand.

use serde::{Deserialize, Serialize};

use crate::Value;

/// `scaling.apply`: a policy owns the replicas of a service from now on. Again with the same: nothing
/// happens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyScalingPolicy {
    /// Where.
    pub environment: String,
    /// Of which service.
    pub service: String,
    /// The policy: `minReplicas`, `maxReplicas`, `targets` and whatever else it sets. Its `policyId`
    /// is the service's name when absent.
    pub policy: Value,
}

/// `scaling.list`: the policies of the tenant's services.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListPolicies {
    /// Only those of this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// The answer to `scaling.list`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policies {
    /// One row each.
    pub policies: Vec<PolicyRow>,
}

/// A policy.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRow {
    /// Where.
    pub environment: String,
    /// Of which service.
    pub service: String,
    /// The policy, as it is kept.
    pub policy: Value,
    /// How many replicas the service has.
    pub replicas: u32,
}

/// The answer to `scaling.decisions`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScalingDecisions {
    /// The last decisions, oldest first: from how many replicas to how many, when and why.
    pub decisions: Vec<Value>,
}

/// `service.scale`: so many replicas, where no policy owns them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleService {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
    /// How many.
    pub replicas: u32,
}
