//! Environments, and which tenant may use which.

use protocol::Tenant;
use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};
use super::ids::EnvironmentId;

/// How far from users an environment is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum Stage {
    /// For one developer.
    Dev,
    /// For tests.
    Test,
    /// As production, without its users.
    Staging,
    /// With users.
    Prod,
}

/// Whether an environment can carry workloads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum Status {
    /// Asked for.
    Requested,
    /// Being made.
    Provisioning,
    /// Ready for workloads.
    Provisioned,
    /// Could not be made.
    Failed,
    /// Given up.
    Decommissioned,
}

/// What tenants share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// Nothing.
    Silo,
    /// Machines, not processes.
    Pool,
    /// Processes too.
    Shared,
}

/// A place where services run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its name.
    pub environment_id: EnvironmentId,
    /// Who asked for it.
    pub tenant_id: Tenant,
    /// How far from users it is.
    pub stage: Stage,
    /// Where it is.
    pub region: String,
    /// Whether it can carry workloads.
    pub status: Status,
    /// What its tenants share.
    pub isolation_model: Isolation,
    /// How many replicas all its services may have together. `None`: nobody provisioned a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
    /// The saga that takes it away, as `tenant/key`; nobody is let in meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_by: Option<String>,
}

/// Binds a tenant to an environment, with what it may take there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantBinding {
    /// Which environment.
    pub environment_id: EnvironmentId,
    /// Which tenant.
    pub tenant_id: Tenant,
    /// What it shares with others.
    pub isolation_model: Isolation,
    /// How many replicas its services may have together.
    pub max_replicas: u32,
}

/// The longest region name, in bytes; the clouds' own stay under 32.
pub const REGION_MAX_BYTES: usize = 64;

impl Environment {
    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        fault::text("region", &self.region, REGION_MAX_BYTES)
    }

    /// Whether `next` may take the place of this one: region and stage are fixed once it is
    /// provisioned (B.3).
    pub fn may_become(&self, next: &Self) -> Result<(), Fault> {
        next.check()?;
        let made = match self.status {
            Status::Requested | Status::Provisioning | Status::Failed => false,
            Status::Provisioned | Status::Decommissioned => true,
        };
        let fixed = |field: &str| {
            let mend = "make a new environment and move the services there";
            Err(Fault::new(field, "it cannot change once the environment is provisioned", mend))
        };
        if self.environment_id != next.environment_id {
            return fixed("environmentId");
        }
        if made && self.stage != next.stage {
            return fixed("stage");
        }
        if made && self.region != next.region {
            return fixed("region");
        }
        Ok(())
    }

    /// Whether `tenant` may deploy here (B.3). To be asked before anything is read or written for
    /// the tenant (W073, F56); a refusal is final and is not retried (H24).
    pub fn may_deploy(&self, tenant: &Tenant, binding: Option<&TenantBinding>) -> Result<(), Fault> {
        guard(self, tenant, binding)?;
        match self.status {
            Status::Provisioned => Ok(()),
            Status::Requested | Status::Provisioning | Status::Failed | Status::Decommissioned => Err(Fault::new(
                "status",
                format!("environment {} is {}, not provisioned", self.environment_id, self.status),
                "have it provisioned first",
            )),
        }
    }
}

/// The tenant guard of every handler (W073): the tenant of a message must be bound to the
/// environment. Outside production the environment's own tenant needs no binding (B.3 asks for one
/// before the first deployment to production).
pub fn guard(environment: &Environment, tenant: &Tenant, binding: Option<&TenantBinding>) -> Result<(), Fault> {
    let bound = binding
        .is_some_and(|binding| binding.environment_id == environment.environment_id && binding.tenant_id == *tenant);
    let own = match environment.stage {
        Stage::Dev | Stage::Test | Stage::Staging => environment.tenant_id == *tenant,
        Stage::Prod => false,
    };
    if bound || own {
        return Ok(());
    }
    Err(Fault::new(
        "tenantId",
        format!("{tenant} is not bound to environment {}", environment.environment_id),
        "bind the tenant to the environment, or name the right one",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(stage: Stage, status: Status) -> Environment {
        Environment {
            environment_id: EnvironmentId::new("shop").unwrap(),
            tenant_id: Tenant::new("acme").unwrap(),
            stage,
            region: "north".into(),
            status,
            isolation_model: Isolation::Silo,
            max_replicas: None,
            removed_by: None,
        }
    }

    #[test]
    fn nobody_deploys_where_nothing_is_provisioned_or_bound() {
        let acme = Tenant::new("acme").unwrap();
        let other = Tenant::new("other").unwrap();
        let bind = |tenant: &Tenant| TenantBinding {
            environment_id: EnvironmentId::new("shop").unwrap(),
            tenant_id: tenant.clone(),
            isolation_model: Isolation::Silo,
            max_replicas: 10,
        };
        let dev = environment(Stage::Dev, Status::Provisioned);
        let prod = environment(Stage::Prod, Status::Provisioned);
        assert!(dev.may_deploy(&acme, None).is_ok());
        assert!(prod.may_deploy(&acme, None).is_err(), "B.3: production needs a binding");
        assert!(prod.may_deploy(&acme, Some(&bind(&acme))).is_ok());
        assert!(dev.may_deploy(&other, None).is_err(), "W073");
        assert!(dev.may_deploy(&other, Some(&bind(&acme))).is_err(), "W073: somebody else's binding");
        assert!(dev.may_deploy(&other, Some(&bind(&other))).is_ok());
        for status in [Status::Requested, Status::Provisioning, Status::Failed, Status::Decommissioned] {
            assert!(environment(Stage::Dev, status).may_deploy(&acme, None).is_err(), "{status:?}");
        }
    }

    #[test]
    fn region_and_stage_are_fixed_once_provisioned() {
        let made = environment(Stage::Dev, Status::Provisioned);
        let moved = Environment { region: "south".into(), ..made.clone() };
        assert!(made.may_become(&moved).is_err());
        assert!(made.may_become(&Environment { stage: Stage::Prod, ..made.clone() }).is_err());
        assert!(environment(Stage::Dev, Status::Requested).may_become(&moved).is_ok());
    }
}
