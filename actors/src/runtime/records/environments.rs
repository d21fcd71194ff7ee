//! Making environments, and letting tenants use them.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::{Tenant, WorkerKind};
use serde::{Deserialize, Serialize};
use supervisor::ports::Unavailable;

use crate::runtime::model::ids::label;
use crate::runtime::model::{Environment, EnvironmentId, Fault, Isolation, Stage, Status, TenantBinding};
use crate::runtime::records::place;
use crate::runtime::records::tenancy::Bound;
use crate::runtime::store::{self, Error, RuntimeStore, Space};

/// Why an environment is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What was asked for is faulty.
    #[error(transparent)]
    Faulty(#[from] Fault),
    /// It is there, and another tenant's.
    #[error("the name {0} is taken; environments of all tenants have different names")]
    Taken(EnvironmentId),
    /// The tenant has as many as it may.
    #[error("{tenant} has as many environments as it may: {limit} (limits.environments_per_tenant)")]
    TooMany {
        /// Whose they are.
        tenant: Tenant,
        /// How many it may have.
        limit: usize,
    },
    /// It is not there, or not the asker's.
    #[error("there is no environment {0} of this tenant; create it with `skald environment create {0}`")]
    Unknown(EnvironmentId),
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Whose name it is; among the values of all tenants, because hosts and gateways have no tenants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Name {
    owner: Tenant,
}

/// What an environment should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wanted {
    /// Its name.
    pub environment: EnvironmentId,
    /// How far from users it is; as it is when absent, and development at first.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Where it is; as it is when absent, and [`HERE`] at first.
    #[serde(default)]
    pub region: Option<String>,
    /// What its tenants share; as it is when absent, and nothing at first.
    #[serde(default)]
    pub isolation: Option<Isolation>,
}

/// Where an environment is of which nobody said it.
pub const HERE: &str = "local";

/// Environments in a store.
#[derive(Clone)]
pub struct Environments {
    store: Arc<dyn RuntimeStore>,
    /// How many one tenant may have.
    limit: usize,
}

impl Environments {
    /// Environments in `store`.
    pub fn new(store: Arc<dyn RuntimeStore>) -> Self {
        Self { store, limit: usize::MAX }
    }

    /// The same, of which a tenant makes no more than `limit`.
    #[must_use]
    pub fn at_most(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Whose the environment of that name is.
    pub async fn owner(&self, environment: &EnvironmentId) -> Result<Option<Tenant>, Error> {
        let name = place::environment(environment);
        let read = store::read::<Name>(&*self.store, &Space::Shared, &name).await?;
        Ok(read.map(|read| read.value.owner))
    }

    /// Makes an environment, or changes what may change of the tenant's own. It is provisioned by
    /// the first deployment (R018); on one machine there is nothing to be done for that.
    pub async fn create(&self, tenant: &Tenant, wanted: &Wanted) -> Result<Environment, Refused> {
        let id = &wanted.environment;
        named(id)?;
        let name = place::environment(id);
        // Two that are made at the same moment may be one too many; nothing depends on the exact number.
        if self.limit < usize::MAX && self.owner(id).await?.is_none() {
            let own = store::read_all::<Environment>(&*self.store, &Space::Of(tenant.clone()), "environment").await?;
            if own.len() >= self.limit {
                return Err(Refused::TooMany { tenant: tenant.clone(), limit: self.limit });
            }
        }
        let there = store::read::<Environment>(&*self.store, &Space::Of(tenant.clone()), &name).await?;
        if let Some(saga) = there.and_then(|there| there.value.removed_by) {
            let mend = "wait until it is gone, and make it anew";
            return Err(Fault::new("environment", format!("{id} is being removed by {saga}"), mend).into());
        }
        let owner = store::change(&*self.store, &Space::Shared, &name, |taken: Option<&Name>| match taken {
            Some(_) => None,
            None => Some(Name { owner: tenant.clone() }),
        });
        if owner.await?.is_some_and(|name| name.owner != *tenant) {
            return Err(Refused::Taken(id.clone()));
        }
        let next = |there: Option<&Environment>| Environment {
            environment_id: id.clone(),
            tenant_id: tenant.clone(),
            stage: wanted.stage.or(there.map(|there| there.stage)).unwrap_or(Stage::Dev),
            region: match (&wanted.region, there) {
                (Some(region), _) => region.clone(),
                (None, Some(there)) => there.region.clone(),
                (None, None) => HERE.to_owned(),
            },
            status: there.map_or(Status::Requested, |there| there.status),
            isolation_model: wanted.isolation.or(there.map(|there| there.isolation_model)).unwrap_or(Isolation::Silo),
            max_replicas: there.and_then(|there| there.max_replicas),
            removed_by: there.and_then(|there| there.removed_by.clone()),
        };
        let mut faulty = next(None).check().err();
        let stands = store::change(&*self.store, &Space::Of(tenant.clone()), &name, |there: Option<&Environment>| {
            let next = next(there);
            if let Some(there) = there {
                faulty = there.may_become(&next).err();
            }
            (faulty.is_none() && there != Some(&next)).then_some(next)
        })
        .await?;
        match (faulty, stands) {
            (Some(fault), _) => Err(fault.into()),
            (None, Some(stands)) => Ok(stands),
            (None, None) => Err(Refused::Unknown(id.clone())),
        }
    }

    /// Lets `guest` use the tenant's environment, with at most so many replicas; 0 takes it away.
    pub async fn bind(
        &self,
        tenant: &Tenant,
        environment: &EnvironmentId,
        guest: &Tenant,
        max_replicas: u32,
    ) -> Result<Option<TenantBinding>, Refused> {
        named(environment)?;
        let own = Space::Of(tenant.clone());
        let found = store::read::<Environment>(&*self.store, &own, &place::environment(environment)).await?;
        let found = found.ok_or_else(|| Refused::Unknown(environment.clone()))?.value;
        if let Some(saga) = found.removed_by.as_ref().filter(|_| max_replicas > 0) {
            let mend = "wait until it is gone";
            return Err(Fault::new("environment", format!("{environment} is being removed by {saga}"), mend).into());
        }
        let (space, name) = (Space::Of(guest.clone()), place::binding(environment));
        if max_replicas == 0 {
            if let Some(there) = store::read::<Bound>(&*self.store, &space, &name).await? {
                self.store.remove(&space, &name, there.revision).await?;
            }
            store::forget(&*self.store, &own, &place::guest(environment, guest)).await?;
            return Ok(None);
        }
        // First: whoever removes the environment takes the right away of all that are named here.
        store::change(&*self.store, &own, &place::guest(environment, guest), |there: Option<&Tenant>| {
            there.is_none().then(|| guest.clone())
        })
        .await?;
        let binding = TenantBinding {
            environment_id: environment.clone(),
            tenant_id: guest.clone(),
            isolation_model: found.isolation_model,
            max_replicas,
        };
        let bound = Bound { owner: tenant.clone(), binding: binding.clone() };
        store::change(&*self.store, &space, &name, |there: Option<&Bound>| {
            (there != Some(&bound)).then(|| bound.clone())
        })
        .await?;
        Ok(Some(binding))
    }

    /// Every environment of every tenant, with whose it is.
    pub async fn all(&self) -> Result<Vec<(Tenant, EnvironmentId)>, Error> {
        let names = store::read_all::<Name>(&*self.store, &Space::Shared, "environment").await?;
        let environment = |(name, of): (String, Name)| {
            let id = EnvironmentId::new(name.strip_prefix("environment/")?).ok()?;
            Some((of.owner, id))
        };
        Ok(names.into_iter().filter_map(environment).collect())
    }

    /// The environments that the tenant may use, with whose they are.
    pub async fn list(&self, tenant: &Tenant) -> Result<Vec<Environment>, Refused> {
        let own = Space::Of(tenant.clone());
        let mut all: Vec<Environment> = Vec::new();
        for (_, environment) in store::read_all::<Environment>(&*self.store, &own, "environment").await? {
            all.push(environment);
        }
        for (_, bound) in store::read_all::<Bound>(&*self.store, &own, "binding").await? {
            let (name, owner) = (place::environment(&bound.binding.environment_id), Space::Of(bound.owner.clone()));
            if bound.owner != *tenant
                && let Some(found) = store::read::<Environment>(&*self.store, &owner, &name).await?
            {
                all.push(found.value);
            }
        }
        Ok(all)
    }
}

/// Gives the name of `tenant`'s environment back, and takes away the rights to use it.
pub async fn give_back(store: &dyn RuntimeStore, tenant: &Tenant, environment: &EnvironmentId) -> Result<(), Error> {
    let own = Space::Of(tenant.clone());
    for (name, guest) in store::read_all::<Tenant>(store, &own, &place::guests(environment)).await? {
        let (space, right) = (Space::Of(guest), place::binding(environment));
        if let Some(bound) = store::read::<Bound>(store, &space, &right).await?
            && bound.value.owner == *tenant
        {
            store.remove(&space, &right, bound.revision).await?;
        }
        store::forget(store, &own, &name).await?;
    }
    let name = place::environment(environment);
    match store::read::<Name>(store, &Space::Shared, &name).await? {
        Some(there) if there.value.owner == *tenant => store.remove(&Space::Shared, &name, there.revision).await,
        Some(_) | None => Ok(()),
    }
}

/// An environment's name becomes a part of host names.
fn named(environment: &EnvironmentId) -> Result<(), Fault> {
    label("environment", environment.as_str())
}

/// What the workers of a node look after: all of them look after every environment.
#[async_trait]
impl supervisor::ports::Environments for Environments {
    async fn of(&self, _: &WorkerKind) -> Result<Vec<(Tenant, protocol::Environment)>, Unavailable> {
        let all = self.all().await.map_err(|error| Unavailable(error.to_string()))?;
        let named =
            |(tenant, id): (Tenant, EnvironmentId)| Some((tenant, protocol::Environment::new(id.as_str()).ok()?));
        Ok(all.into_iter().filter_map(named).collect())
    }
}
