//! What the activities of a deployment share: where things are remembered, who decides, where
//! things run. And the way in: nobody touches an environment without having been asked whose it is.

use std::sync::Arc;

use protocol::Value;
use sha2::{Digest as _, Sha256};
use supervisor::activity::{Attempt, Failure};
use supervisor::ports::{Clock, Outbox};

use crate::runtime::arbitration::{Arbitration, Asker};
use crate::runtime::compute::Compute;
use crate::runtime::model::{DeploymentId, EnvironmentId, Fault, RequestKey, ServiceId};
use crate::runtime::probing::Prober;
use crate::runtime::records::deployments::Record;
use crate::runtime::records::environments::Environments;
use crate::runtime::records::ownership::{self, Owned, Rule};
use crate::runtime::records::place::{self, Place};
use crate::runtime::records::tenancy::{Asking, Granted, Tenancy};
use crate::runtime::store::{self, Error, Read, RuntimeStore, TRIES};

/// The ports of the runtime platform.
#[derive(Clone)]
pub struct Ports {
    /// Where things are remembered.
    pub store: Arc<dyn RuntimeStore>,
    /// Where workloads run.
    pub compute: Arc<dyn Compute>,
    /// Asks replicas.
    pub prober: Arc<dyn Prober>,
    /// Where arbiters and refusals are told.
    pub outbox: Arc<dyn Outbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What the activities share.
#[derive(Clone)]
pub struct Desk {
    /// The ports.
    pub ports: Ports,
    /// The arbiters.
    pub arbitration: Arbitration,
    /// Who may use what.
    pub tenancy: Tenancy,
}

/// Somebody who was let in.
pub struct Entered {
    /// Which service, and whose environment.
    pub place: Place,
    /// The environment.
    pub granted: Granted,
    /// For the trail.
    pub asker: Asker,
}

impl Desk {
    /// A desk on `ports`.
    pub fn new(ports: Ports) -> Self {
        let arbitration = Arbitration::new(ports.store.clone(), ports.outbox.clone(), ports.clock.clone());
        let tenancy = Tenancy::new(ports.store.clone(), ports.outbox.clone(), ports.clock.clone());
        Self { ports, arbitration, tenancy }
    }

    /// Lets the attempt's tenant act on a service of its own, or refuses it on record. A sign of life, as
    /// each look at the record is.
    pub async fn enter(
        &self,
        attempt: &Attempt,
        what: &'static str,
        environment: &EnvironmentId,
        service: &ServiceId,
        input: Value,
    ) -> Result<Entered, Failure> {
        self.enter_by(Rule::Service, attempt, what, environment, service, input).await
    }

    /// The same by another rule.
    pub async fn enter_by(
        &self,
        rule: Rule,
        attempt: &Attempt,
        what: &'static str,
        environment: &EnvironmentId,
        service: &ServiceId,
        input: Value,
    ) -> Result<Entered, Failure> {
        let entered = self.enter_environment(attempt, what, environment, service, input).await?;
        let (store, now) = (&*self.ports.store, self.ports.clock.now());
        ownership::admit(store, rule, &entered.place, &attempt.saga.tenant, now).await?;
        Ok(entered)
    }

    /// The same on the way back: what a saga did it may take back, whatever became meanwhile of its
    /// tenant's right to the environment. That it did it says its own record.
    pub async fn enter_back(
        &self,
        attempt: &Attempt,
        what: &'static str,
        environment: &EnvironmentId,
        service: &ServiceId,
        input: Value,
    ) -> Result<Entered, Failure> {
        let store = &self.ports.store;
        let Some(owner) = Environments::new(store.clone()).owner(environment).await? else {
            return self.enter(attempt, what, environment, service, input).await;
        };
        let place = Place { owner: owner.clone(), environment: environment.clone(), service: service.clone() };
        let found = store::read(&**store, &place.space(), &place::environment(environment)).await?;
        let ours = ownership::whose(&**store, &place, &attempt.saga.tenant).await? == Owned::Ours;
        match found {
            Some(found) if ours && self.record(attempt, &place).await?.is_some() => {
                let granted = Granted { owner, environment: found, binding: None };
                Ok(Entered { place, granted, asker: Asker::of(attempt) })
            }
            Some(_) | None => self.enter(attempt, what, environment, service, input).await,
        }
    }

    /// Lets the attempt's tenant into an environment; whose `service` is, is not asked.
    pub async fn enter_environment(
        &self,
        attempt: &Attempt,
        what: &'static str,
        environment: &EnvironmentId,
        service: &ServiceId,
        input: Value,
    ) -> Result<Entered, Failure> {
        attempt.heartbeat.beat();
        let asker = Asker::of(attempt);
        let asking = Asking {
            tenant: asker.tenant.clone(),
            principal: attempt.principal.clone(),
            trace: asker.trace.clone(),
            saga: asker.saga.clone(),
            key: attempt.key.clone(),
            what,
            input,
        };
        let granted = self.tenancy.grant(&asking, environment).await?;
        let place = Place { owner: granted.owner.clone(), environment: environment.clone(), service: service.clone() };
        Ok(Entered { place, granted, asker })
    }

    /// The record of a deployment that the attempt's saga carries out.
    pub async fn record(&self, attempt: &Attempt, place: &Place) -> Result<Option<Read<Record>>, Failure> {
        attempt.heartbeat.beat();
        let id = deployment_id(attempt)?;
        let read = store::read::<Record>(&*self.ports.store, &place.space(), &place.deployment(&id)).await?;
        match read {
            Some(read) if read.value.saga != attempt.saga.to_string() => {
                let why = format!("the deployment {id} of {place} belongs to {}; use another key", read.value.saga);
                Err(Failure::named("KeyTaken", why))
            }
            other => Ok(other),
        }
    }

    /// The same, where it must be there.
    pub async fn begun(&self, attempt: &Attempt, place: &Place) -> Result<Read<Record>, Failure> {
        let read = self.record(attempt, place).await?;
        read.ok_or_else(|| Failure::named("NotClaimed", format!("{place} was not claimed by {}", attempt.saga)))
    }

    /// Changes a record, again when somebody else was faster.
    pub async fn change(
        &self,
        place: &Place,
        read: &mut Read<Record>,
        change: impl Fn(&mut Record),
    ) -> Result<(), Failure> {
        let name = place.deployment(&read.value.deployment.deployment_id);
        let mut lost = Error::Stale { name: name.clone() };
        for _ in 0..TRIES {
            let mut next = read.value.clone();
            change(&mut next);
            if next == read.value {
                return Ok(());
            }
            match store::write(&*self.ports.store, &place.space(), &name, &next, read.revision).await {
                Ok(revision) => {
                    *read = Read { value: next, revision };
                    return Ok(());
                }
                Err(stale @ Error::Stale { .. }) => lost = stale,
                Err(error) => return Err(error.into()),
            }
            if let Some(there) = store::read(&*self.ports.store, &place.space(), &name).await? {
                *read = there;
            }
        }
        Err(lost.into())
    }
}

/// The deployment that a saga carries out: the saga's key where that can be one, else what it hashes
/// to.
pub fn deployment_id(attempt: &Attempt) -> Result<DeploymentId, Failure> {
    /// Room for what is appended to it.
    const PLAIN_MAX: usize = 56;
    let (tenant, key) = (attempt.saga.tenant.as_str(), attempt.saga.key.as_str());
    let plain = key.len() <= PLAIN_MAX && !key.contains(['/', '=']);
    let hash = || format!("d{}", &hex::encode(Sha256::digest(format!("{tenant}/{key}")))[..32]);
    DeploymentId::new(if plain { key.to_owned() } else { hash() }).map_err(faulty)
}

/// Names the deployment that takes `id` back after it was completed.
pub fn undo_id(id: &DeploymentId) -> Result<DeploymentId, Failure> {
    DeploymentId::new(format!("{id}-undo")).map_err(faulty)
}

/// The idempotency key of what a deployment asks its arbiter.
pub fn request_key(what: &str, id: &DeploymentId) -> Result<RequestKey, Failure> {
    RequestKey::new(format!("{what}:{id}")).map_err(faulty)
}

/// What is faulty stays so.
pub fn faulty(fault: Fault) -> Failure {
    Failure::named("BadArguments", fault.to_string())
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
