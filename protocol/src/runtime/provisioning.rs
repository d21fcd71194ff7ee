//! Provisioning: what would change of an environment's resources, and the change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `environment.provision`: makes the resources of an environment, changes them or takes them away.
/// Only what was shown is done: without `preview` it answers what would change, with the name of a
/// preview it does that, and nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProvisionEnvironment {
    /// Which environment.
    pub environment: String,
    /// How many replicas its services may have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// How many bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How many thousandths of a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Take all of it away.
    #[serde(default)]
    pub absent: bool,
    /// The preview that is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

/// The answer to `environment.provision`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisioned {
    /// Which environment.
    pub environment: String,
    /// Names exactly these changes.
    pub preview: String,
    /// What would change, or has changed; none: all is as wanted.
    #[serde(default)]
    pub changes: Vec<ChangeRow>,
    /// Whether it was done.
    pub applied: bool,
    /// The names of what was made.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRow {
    /// Of what.
    pub resource: String,
    /// What it is now; absent: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it will be; absent: it will not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
