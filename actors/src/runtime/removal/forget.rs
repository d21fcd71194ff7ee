//! `service.forget`: nothing of it is kept any more. `removal.review`: whether that is so, although the answer was lost.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::{Input, ours};
use crate::runtime::deployment::Desk;
use crate::runtime::records::{forgetting, ownership};

/// Whether it is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Whether nothing of it is kept.
    pub removed: bool,
}

/// `service.forget`.
pub struct Forget {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Forget {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "service.forget";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let store = &*self.desk.ports.store;
        let entered = input.enter(&self.desk, attempt, Self::NAME).await?;
        let (place, tenant) = (&entered.place, &attempt.saga.tenant);
        let seen = self.desk.arbitration.look(place).await?;
        // The arbiter's state goes last: without it, all else has gone. One that is not ours is another service.
        if let Some(seen) = seen.filter(|seen| ours(&seen.value, attempt).is_some()) {
            let (environment, service) = (place.environment.as_str(), place.service.as_str());
            let observed = self.desk.ports.compute.observe(environment).await?;
            if observed.sets.iter().any(|set| set.service == service) {
                return Err(Failure::transient("forgetting a service", format!("{place} still runs")));
            }
            self.desk.ports.compute.erase(environment, service, seen.value.tenant.as_str()).await?;
            forgetting::forget(store, place).await?;
            // Stale, and tried again, when desired state was told to it meanwhile, or a person paused it.
            store.remove(&place.space(), &place.docket(), seen.revision).await?;
        }
        ownership::give_back(store, place, tenant, self.desk.ports.clock.now()).await?;
        Ok(Output { removed: true })
    }
}

/// `removal.review`.
pub struct Review {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Review {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "removal.review";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        Ok(Output { removed: input.claimed(&self.desk, attempt).await?.is_none() })
    }
}
