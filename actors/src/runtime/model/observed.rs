//! What was seen of a service, as opposed to what is wanted of it.

use std::collections::BTreeMap;

use protocol::{Tenant, Time};
use serde::{Deserialize, Serialize};

use super::configuration::ConfigurationRef;
use super::ids::{Digest, EnvironmentId, SecretBindingId, ServiceId};

/// One service as the control plane shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedService {
    /// Which.
    pub service_id: ServiceId,
    /// Whose.
    pub tenant_id: Tenant,
    /// Where.
    pub environment_id: EnvironmentId,
    /// The image that takes traffic.
    pub image: Digest,
    /// Replicas that exist.
    pub replicas: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// The configuration that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationRef>,
    /// The secret versions that run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretBindingId, u64>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// When it was seen like this.
    pub last_observed_at: Time,
}

impl ObservedService {
    /// Whether both show the same, whenever it was seen. What did not change is neither written nor
    /// told (W074).
    pub fn same_as(&self, other: &Self) -> bool {
        let other = Self { last_observed_at: self.last_observed_at, ..other.clone() };
        *self == other
    }

    /// `Running` needs one healthy instance (B.3).
    pub fn running(&self) -> bool {
        self.ready > 0
    }
}
