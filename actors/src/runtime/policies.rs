//! Scaling policies as they are kept: one per service.

use supervisor::activity::Failure;

use super::model::ScalingPolicy;
use super::place::Place;
use super::store::{self, RuntimeStore};

fn name(place: &Place) -> String {
    format!("policy/{}/{}", place.environment, place.service)
}

/// The policy of a service. `None`: nobody owns its replicas.
pub async fn get(store: &dyn RuntimeStore, place: &Place) -> Result<Option<ScalingPolicy>, Failure> {
    Ok(store::read(store, &place.space(), &name(place)).await?.map(|read| read.value))
}

/// Keeps a policy, and says whether that changed anything.
pub async fn put(store: &dyn RuntimeStore, place: &Place, policy: &ScalingPolicy) -> Result<bool, Failure> {
    let mut changed = false;
    store::change(store, &place.space(), &name(place), |there: Option<&ScalingPolicy>| {
        changed = there != Some(policy);
        changed.then(|| policy.clone())
    })
    .await?;
    Ok(changed)
}

/// Forgets a policy, and says whether there was one.
pub async fn remove(store: &dyn RuntimeStore, place: &Place) -> Result<bool, Failure> {
    let Some(there) = store::read::<ScalingPolicy>(store, &place.space(), &name(place)).await? else {
        return Ok(false);
    };
    store.remove(&place.space(), &name(place), there.revision).await?;
    Ok(true)
}
