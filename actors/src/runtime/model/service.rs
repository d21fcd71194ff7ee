//! A service as it is wanted, and a revision of it.

use std::collections::BTreeMap;
use std::fmt;

use protocol::Tenant;
use serde::{Deserialize, Serialize};

use super::configuration::ConfigurationRef;
use super::fault::{self, Fault};
use super::ids::{DeploymentId, Digest, EnvironmentId, SecretBindingId, ServiceId};
use super::probe::ProbeSpec;
use super::strategy::Strategy;

/// The most replicas of one service: a typing error must not take the machines down.
pub const REPLICAS_MAX: u32 = 200;
/// The most secrets of one service.
pub const SECRETS_MAX: usize = 64;
/// The most probes of one service.
pub const PROBES_MAX: usize = 8;
/// The longest version text, in bytes.
pub const VERSION_MAX_BYTES: usize = 128;
/// The most arguments of a command.
pub const ARGUMENTS_MAX: usize = 256;
/// The longest argument, in bytes.
pub const ARGUMENT_MAX_BYTES: usize = 4_096;

/// What makes a service busy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetKind {
    /// Requests: it must be there before they come.
    #[default]
    Continuous,
    /// Events that wait for it: it may sleep (R087).
    EventDriven,
}

impl TargetKind {
    /// Whether it must always be there.
    pub const fn is_continuous(&self) -> bool {
        match self {
            Self::Continuous => true,
            Self::EventDriven => false,
        }
    }
}

/// What people call a revision is a word or two on one line.
fn check_version(version: &str) -> Result<(), Fault> {
    fault::text("version", version, VERSION_MAX_BYTES)?;
    match version.chars().any(char::is_control) {
        true => Err(Fault::new("version", "it has control characters", "write it on one line")),
        false => Ok(()),
    }
}

/// What is deployed together: a change of any part is a new revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The deployment that brings or brought it.
    pub deployment_id: DeploymentId,
    /// The image.
    pub image: Digest,
    /// What people call it.
    pub version: String,
    /// How many replicas it wants when no scaling policy owns them.
    pub replicas: u32,
    /// The configuration bound before the rollout (R022, R023).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationRef>,
    /// The secret versions bound before the rollout (R022, R024).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretBindingId, u64>,
    /// How often it was restarted as what it is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Revision {
    /// Whether both run the same: the name of the deployment, the version's text, the number of
    /// replicas and restarts do not count.
    pub fn runs_as(&self, other: &Self) -> bool {
        self.image == other.image && self.configuration == other.configuration && self.secrets == other.secrets
    }

    /// Whether both are the same release: the same image and configuration, whatever the secrets.
    /// Going from one to the other is no way back.
    pub fn same_release(&self, other: &Self) -> bool {
        self.image == other.image && self.configuration == other.configuration
    }

    /// What of it makes it run as it does.
    pub fn release(&self) -> Release {
        let Self { image, configuration, secrets, .. } = self.clone();
        Release { image, configuration, secrets }
    }

    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        check_version(&self.version)?;
        fault::between("replicas", self.replicas, 0, REPLICAS_MAX)?;
        fault::at_most("secrets", self.secrets.len(), SECRETS_MAX, "secrets")
    }
}

/// What of a revision makes it run as it does: whoever changes any part of it has something else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The image.
    pub image: Digest,
    /// The configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationRef>,
    /// The versions of its secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretBindingId, u64>,
}

impl Release {
    /// Whether it is what `spec` wants. Where that takes whichever version of a secret is current, any is.
    pub fn is_wanted_by(&self, spec: &ServiceSpec) -> bool {
        let mut secrets = spec.secrets.iter();
        self.image == spec.image
            && self.configuration == spec.configuration
            && secrets.all(|(binding, version)| *version == 0 || self.secrets.get(binding) == Some(version))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {}", self.image)?;
        if let Some(configuration) = &self.configuration {
            write!(f, " with configuration {configuration}")?;
        }
        for (number, (binding, version)) in self.secrets.iter().enumerate() {
            let word = if number == 0 { " and secret" } else { "," };
            write!(f, "{word} {binding} version {version}")?;
        }
        Ok(())
    }
}

/// A service as desired state writes it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Which.
    pub service_id: ServiceId,
    /// Whose.
    pub tenant_id: Tenant,
    /// Where.
    pub environment_id: EnvironmentId,
    /// The image.
    pub image: Digest,
    /// What people call it.
    pub version: String,
    /// How many replicas it wants when no scaling policy owns them.
    pub replicas: u32,
    /// The program and its arguments; empty: the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationRef>,
    /// Its secrets. A version of 0 means: whichever is current.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretBindingId, u64>,
    /// How it is asked whether it is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeSpec>,
    /// What makes it busy.
    pub target: TargetKind,
    /// How a new revision takes over.
    #[serde(default)]
    pub strategy: Strategy,
    /// When it is brought: after all services of lower numbers run as written and well (D205).
    #[serde(default, skip_serializing_if = "protocol::envelope::is_zero")]
    pub wave: u32,
}

impl ServiceSpec {
    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        check_version(&self.version)?;
        fault::between("replicas", self.replicas, 0, REPLICAS_MAX)?;
        fault::at_most("command", self.command.len(), ARGUMENTS_MAX, "arguments")?;
        for argument in &self.command {
            fault::at_most("command", argument.len(), ARGUMENT_MAX_BYTES, "bytes")?;
        }
        fault::at_most("secrets", self.secrets.len(), SECRETS_MAX, "secrets")?;
        fault::at_most("probes", self.probes.len(), PROBES_MAX, "probes")?;
        for (number, probe) in self.probes.iter().enumerate() {
            probe.check().map_err(|fault| fault.within(format!("probes[{number}]")))?;
        }
        self.strategy.check().map_err(|fault| fault.within("strategy"))
    }
}
