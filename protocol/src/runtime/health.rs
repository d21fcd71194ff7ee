//! How a service is.

use serde::{Deserialize, Serialize};

use super::{SetRow, Standing};

/// The answer to `service.health`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceHealth {
    /// Where.
    pub environment: String,
    /// Which.
    pub service: String,
    /// How it is, as the health worker knows it: `healthy`, `degraded`, `rollback`, `restoring`,
    /// `incident`; `unknown` while nothing runs.
    pub condition: String,
    /// Whether things happen to it by themselves.
    pub standing: Standing,
    /// Why they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What runs of it, as it was seen.
    #[serde(default)]
    pub sets: Vec<SetRow>,
    /// Why what runs could not be looked at, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}
