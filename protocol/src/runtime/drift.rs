//! Drift: what differs from what is wanted, and what people decide about it.

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
