//! One service in one environment, and the names under which the store knows what belongs to it.

use std::fmt;

use protocol::Tenant;
use serde::{Deserialize, Serialize};

use crate::runtime::model::{ConfigurationRef, DeploymentId, EnvironmentId, FindingHash, SecretBindingId, ServiceId};
use crate::runtime::store::Space;

/// The first parts of all names below which something of an environment is kept, but for its arbiters and guests: a
/// test holds it to the names that are made here.
pub const ALL_OF_AN_ENVIRONMENT: [&str; 13] = [
    "configuration",
    "deployment",
    "finding",
    "health",
    "incident",
    "inventory",
    "owner",
    "policy",
    "published",
    "rotation",
    "scaling",
    "secret",
    "synced",
];

/// A service, and whose environment it is in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Whose environment it is; what is remembered of the service stands among this tenant's.
    pub owner: Tenant,
    /// Which environment.
    pub environment: EnvironmentId,
    /// Which service.
    pub service: ServiceId,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.environment, self.service)
    }
}

impl Place {
    /// Where its values are.
    pub fn space(&self) -> Space {
        Space::Of(self.owner.clone())
    }

    /// What its arbiter remembers.
    pub fn docket(&self) -> String {
        docket(&self.environment, &self.service)
    }

    /// Whose it is.
    pub fn title(&self) -> String {
        format!("{}/{}", titles(&self.environment), self.service)
    }

    /// One of its deployments.
    pub fn deployment(&self, deployment: &DeploymentId) -> String {
        format!("{}/{deployment}", deployments(&self.environment, &self.service))
    }

    /// What of it is shown to others.
    pub fn inventory(&self) -> String {
        format!("{}/{}", inventory(&self.environment), self.service)
    }

    /// How it is, as the health worker knows it.
    pub fn condition(&self) -> String {
        format!("{}/{}", conditions(&self.environment), self.service)
    }

    /// What is kept of its last incident.
    pub fn incident(&self) -> String {
        format!("incident/{}/{}", self.environment, self.service)
    }

    /// What was last brought of it from desired state.
    pub fn synced(&self) -> String {
        format!("synced/{}/{}", self.environment, self.service)
    }

    /// The policy that owns its replicas.
    pub fn policy(&self) -> String {
        format!("{}/{}", policies(&self.environment), self.service)
    }

    /// What was decided about its replicas.
    pub fn scaling(&self) -> String {
        format!("scaling/{}/{}", self.environment, self.service)
    }

    /// All versions of its configuration.
    pub fn configurations(&self) -> String {
        configurations(&self.environment, self.service.as_str())
    }

    /// One version of its configuration.
    pub fn configuration(&self, at: &ConfigurationRef) -> String {
        format!("configuration/{}/{}/{}", self.environment, at.configuration_id, at.version)
    }

    /// A secret of its environment.
    pub fn secret(&self, binding: &SecretBindingId) -> String {
        format!("secret/{}/{binding}", self.environment)
    }
}

/// An environment; among its owner's values.
pub fn environment(environment: &EnvironmentId) -> String {
    format!("environment/{environment}")
}

/// A tenant's right to use an environment; among that tenant's values.
pub fn binding(environment: &EnvironmentId) -> String {
    format!("binding/{environment}")
}

/// All tenants that were given the right to use an environment; among its owner's values.
pub fn guests(environment: &EnvironmentId) -> String {
    format!("guest/{environment}")
}

/// One of them.
pub fn guest(environment: &EnvironmentId, guest: &Tenant) -> String {
    format!("{}/{guest}", guests(environment))
}

/// Whose the services of an environment are.
pub fn titles(environment: &EnvironmentId) -> String {
    format!("owner/{environment}")
}

/// What the arbiter of a service remembers.
pub fn docket(environment: &EnvironmentId, service: &ServiceId) -> String {
    format!("{}/{service}", dockets(environment))
}

/// All arbiters of an environment.
pub fn dockets(environment: &EnvironmentId) -> String {
    format!("arbiter/{environment}")
}

/// All deployments of a service.
pub fn deployments(environment: &EnvironmentId, service: &ServiceId) -> String {
    format!("deployment/{environment}/{service}")
}

/// All that is shown of an environment.
pub fn inventory(environment: &EnvironmentId) -> String {
    format!("inventory/{environment}")
}

/// All versions of a service's configuration.
pub fn configurations(environment: &EnvironmentId, configuration: &str) -> String {
    format!("configuration/{environment}/{configuration}")
}

/// What was published last of a configuration.
pub fn published(environment: &EnvironmentId, configuration: &str) -> String {
    format!("{}/{configuration}", all_published(environment))
}

/// All that was published in an environment.
pub fn all_published(environment: &EnvironmentId) -> String {
    format!("published/{environment}")
}

/// All secrets of an environment.
pub fn secrets(environment: &EnvironmentId) -> String {
    format!("secret/{environment}")
}

/// The rotation of a secret that goes on, or the last one.
pub fn rotation(environment: &EnvironmentId, binding: &SecretBindingId) -> String {
    format!("rotation/{environment}/{binding}")
}

/// A finding of drift; a name has no colon.
pub fn finding(environment: &EnvironmentId, hash: &FindingHash) -> String {
    let digits = hash.as_str().strip_prefix("sha256:").unwrap_or_else(|| hash.as_str());
    format!("{}/{digits}", findings(environment))
}

/// All findings of drift in an environment.
pub fn findings(environment: &EnvironmentId) -> String {
    format!("finding/{environment}")
}

/// How the services of an environment are, of those that were ever unwell.
pub fn conditions(environment: &EnvironmentId) -> String {
    format!("health/{environment}")
}

/// All scaling policies of an environment.
pub fn policies(environment: &EnvironmentId) -> String {
    format!("policy/{environment}")
}

/// What may be put right by itself in an environment.
pub fn drift_policy(environment: &EnvironmentId) -> String {
    format!("remedies/{environment}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A name that is made here and not forgotten with its environment would be the next one's of that name.
    #[test]
    fn every_first_part_is_known() {
        let source = include_str!("place.rs").split("#[cfg(test)]").next().unwrap();
        let made = source.split("format!(\"").skip(1).filter_map(|rest| rest.split_once('/'));
        let made: BTreeSet<&str> = made.map(|(first, _)| first).filter(|first| !first.starts_with('{')).collect();
        // The environment's own record and rights, what is named by the environment alone, and what keeps it.
        let others = ["arbiter", "binding", "environment", "guest", "remedies"];
        let known: BTreeSet<&str> = ALL_OF_AN_ENVIRONMENT.into_iter().chain(others).collect();
        assert_eq!(made, known);
    }
}
