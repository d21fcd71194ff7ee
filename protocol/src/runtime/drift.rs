//! Drift: what differs from what is wanted, and what people decide about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Time;

/// `drift.list`: findings of the tenant's services.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListDrift {
    /// Only those of this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Also those that are gone.
    #[serde(default)]
    pub all: bool,
}

/// `drift.approve`: it is to be put right. `drift.accept`: it is to stay as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfFinding {
    /// Where.
    pub environment: String,
    /// Which: its hash, or the beginning of it, with or without `sha256:`.
    pub finding: String,
}

/// The answer to `drift.list`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drifts {
    /// One row each.
    pub findings: Vec<DriftRow>,
}

/// A finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftRow {
    /// What names it.
    pub finding: String,
    /// Where.
    pub environment: String,
    /// Of which service.
    pub service: String,
    /// What differs: `image`, `replicas`, `configuration`, `secret`, `unmanaged`, `missing`, `held`.
    pub kind: String,
    /// Which one, where there are several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wanted.
    pub desired: String,
    /// What is there.
    pub observed: String,
    /// What becomes of it, in a word: `open`, `approved`, `accepted`, `remediating`, `resolved`.
    pub state: String,
    /// How often it was opened.
    pub opened: u32,
    /// When it was last opened.
    pub opened_at: Time,
}

/// `drift.policy`: what is done about drift in an environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfEnvironment {
    /// Which.
    pub environment: String,
}

/// `drift.set-policy`: what is done about drift in an environment of one's own from now on. What is
/// not named is as its stage says. In production nothing is put right without an approval.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetDriftPolicy {
    /// Which environment.
    pub environment: String,
    /// By kind (`image`, `replicas`, `configuration`, `secret`, `unmanaged`, `missing`): `automatic`,
    /// `afterApproval`, `review` or `none`.
    #[serde(default)]
    pub remedies: BTreeMap<String, String>,
    /// Whether nothing at all may be wanted although something runs.
    #[serde(default)]
    pub allow_empty: bool,
}

/// The answer to both.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftPolicyView {
    /// Which environment.
    pub environment: String,
    /// How far from users it is.
    pub stage: String,
    /// What is done, by kind.
    pub remedies: BTreeMap<String, String>,
    /// The kinds about which somebody said so; the others are as the stage says.
    #[serde(default)]
    pub set: Vec<String>,
    /// Whether nothing at all may be wanted although something runs.
    pub allow_empty: bool,
}
