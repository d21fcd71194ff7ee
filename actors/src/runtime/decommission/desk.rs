//! What the activities share: the way in, and whether the environment is theirs to remove.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure};
use supervisor::ports::{Clock, Outbox};

use crate::runtime::compute::Compute;
use crate::runtime::model::{Environment, EnvironmentId, ServiceId};
use crate::runtime::ports::provisioning::Provisioner;
use crate::runtime::ports::secrets::SecretVersions;
use crate::runtime::records::docket::Docket;
use crate::runtime::records::environments::Environments;
use crate::runtime::records::place;
use crate::runtime::records::tenancy::{Asking, TENANT_REFUSED, Tenancy};
use crate::runtime::store::{self, Read, RuntimeStore, Space};

/// What they work with.
#[derive(Clone)]
pub struct Ports {
    /// Where things are remembered.
    pub store: Arc<dyn RuntimeStore>,
    /// Where workloads run.
    pub compute: Arc<dyn Compute>,
    /// What made the environment's resources.
    pub provisioner: Arc<dyn Provisioner>,
    /// The values of secrets.
    pub secrets: Arc<dyn SecretVersions>,
    /// Where refusals are told.
    pub outbox: Arc<dyn Outbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Which environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Which.
    pub environment: EnvironmentId,
}

/// What the activities share.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) ports: Ports,
    pub(super) environments: Environments,
    tenancy: Tenancy,
}

impl Desk {
    pub(super) fn new(ports: Ports) -> Self {
        let tenancy = Tenancy::new(ports.store.clone(), ports.outbox.clone(), ports.clock.clone());
        Self { environments: Environments::new(ports.store.clone()), tenancy, ports }
    }

    /// Lets the environment's owner in, and refuses everybody else on record. A sign of life.
    pub(super) async fn enter(&self, attempt: &Attempt, what: &'static str, input: &Input) -> Result<(), Failure> {
        attempt.heartbeat.beat();
        let (tenant, environment) = (&attempt.saga.tenant, &input.environment);
        if self.environments.owner(environment).await?.as_ref() == Some(tenant) {
            return Ok(());
        }
        let asking = Asking {
            tenant: tenant.clone(),
            principal: attempt.principal.clone(),
            trace: attempt.trace.clone(),
            saga: attempt.saga.to_string(),
            key: attempt.key.clone(),
            what,
            input: serde_json::to_value(input).unwrap_or_default(),
        };
        self.tenancy.grant(&asking, environment).await?;
        let why = format!("{environment} belongs to another tenant, and only its owner may remove it");
        Err(Failure::named(TENANT_REFUSED, why))
    }

    /// The environment, where the attempt's saga removes it.
    pub(super) async fn closed(&self, attempt: &Attempt, input: &Input) -> Result<Option<Read<Environment>>, Failure> {
        attempt.heartbeat.beat();
        let (space, name) = (Space::Of(attempt.saga.tenant.clone()), place::environment(&input.environment));
        let read = store::read::<Environment>(&*self.ports.store, &space, &name).await?;
        Ok(read.filter(|read| is_closed_by(&read.value, attempt)))
    }

    /// The services that the environment has.
    pub(super) async fn services(&self, attempt: &Attempt, input: &Input) -> Result<Vec<ServiceId>, Failure> {
        let space = Space::Of(attempt.saga.tenant.clone());
        let dockets =
            store::read_all::<Docket>(&*self.ports.store, &space, &place::dockets(&input.environment)).await?;
        Ok(dockets.into_iter().map(|(_, docket)| docket.state.service_id).collect())
    }
}

/// Whether it is removed by the attempt's saga.
pub(super) fn is_closed_by(environment: &Environment, attempt: &Attempt) -> bool {
    environment.removed_by.as_ref() == Some(&attempt.saga.to_string())
}
