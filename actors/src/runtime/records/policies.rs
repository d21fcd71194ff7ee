//! Scaling policies as they are kept: one per service, under a name that says whose replicas it owns.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Tenant;

use crate::runtime::model::{EnvironmentId, Fault, ScalingPolicy, ServiceId, TargetKind};
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, Error, RuntimeStore, Space};

/// Why a policy does not stand.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is faulty.
    #[error(transparent)]
    Faulty(#[from] Fault),
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Policies in a store.
#[derive(Clone)]
pub struct Policies {
    store: Arc<dyn RuntimeStore>,
}

impl Policies {
    /// Policies in `store`.
    pub fn new(store: Arc<dyn RuntimeStore>) -> Self {
        Self { store }
    }

    /// Lets `policy` own the replicas of the service at `place`, which is a `target`. Answers whether
    /// that changed anything. The arbiter hears of it from the worker, at its next look.
    pub async fn apply(&self, place: &Place, policy: &ScalingPolicy, target: TargetKind) -> Result<bool, Refused> {
        policy.check(target)?;
        if policy.service_id != place.service {
            let fault = format!("it is of {}, and was sent for {}", policy.service_id, place.service);
            return Err(Fault::new("serviceId", fault, "name one service").into());
        }
        let mut changed = false;
        store::change(&*self.store, &place.space(), &place.policy(), |there: Option<&ScalingPolicy>| {
            changed = there != Some(policy);
            changed.then(|| policy.clone())
        })
        .await?;
        Ok(changed)
    }

    /// The policy of a service, if it has one.
    pub async fn of(&self, place: &Place) -> Result<Option<ScalingPolicy>, Error> {
        let read = store::read(&*self.store, &place.space(), &place.policy()).await?;
        Ok(read.map(|read| read.value))
    }

    /// All policies of an environment of `owner`.
    pub async fn all(
        &self,
        owner: &Tenant,
        environment: &EnvironmentId,
    ) -> Result<BTreeMap<ServiceId, ScalingPolicy>, Error> {
        let space = Space::Of(owner.clone());
        let all = store::read_all::<ScalingPolicy>(&*self.store, &space, &place::policies(environment)).await?;
        Ok(all.into_iter().map(|(_, policy)| (policy.service_id.clone(), policy)).collect())
    }

    /// Takes the policy of a service away: desired state owns its replicas again. Answers whether
    /// there was one.
    pub async fn remove(&self, place: &Place) -> Result<bool, Error> {
        let Some(there) = self.store.get(&place.space(), &place.policy()).await? else { return Ok(false) };
        self.store.remove(&place.space(), &place.policy(), there.revision).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::model::scaling::{Metric, Target};
    use crate::runtime::model::{PolicyId, ReplicaRange};
    use crate::runtime::store::MemoryStore;

    #[tokio::test]
    async fn a_policy_is_kept_once_and_only_for_what_it_can_govern() {
        let policies = Policies::new(Arc::new(MemoryStore::new()));
        let place = Place {
            owner: Tenant::new("acme").unwrap(),
            environment: EnvironmentId::new("prod").unwrap(),
            service: ServiceId::new("web").unwrap(),
        };
        let target = Target { metric: Metric::Rps, per_replica: 10.0, activation: 0.0 };
        let range = ReplicaRange { min: 1, max: 5 };
        let policy = ScalingPolicy::new(PolicyId::new("p").unwrap(), place.service.clone(), range, vec![target]);
        assert!(policies.apply(&place, &policy, TargetKind::Continuous).await.unwrap());
        assert!(!policies.apply(&place, &policy, TargetKind::Continuous).await.unwrap(), "again is nothing");
        assert_eq!(policies.of(&place).await.unwrap().as_ref(), Some(&policy));
        assert_eq!(policies.all(&place.owner, &place.environment).await.unwrap().len(), 1);
        let sleeps = ScalingPolicy { scale_to_zero: true, ..policy.clone() };
        assert!(policies.apply(&place, &sleeps, TargetKind::Continuous).await.is_err(), "R087");
        assert!(policies.apply(&place, &sleeps, TargetKind::EventDriven).await.unwrap());
        let other = Place { service: ServiceId::new("api").unwrap(), ..place.clone() };
        assert!(policies.apply(&other, &policy, TargetKind::Continuous).await.is_err());
        assert!(policies.remove(&place).await.unwrap() && !policies.remove(&place).await.unwrap());
        assert_eq!(policies.of(&place).await.unwrap(), None);
    }
}
