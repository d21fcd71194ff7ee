//! What others see of a service: written when it changed, and only then (W074, H05).

use protocol::{Tenant, Time};
use supervisor::activity::Failure;

use super::desk::Desk;
use crate::runtime::compute::Observed;
use crate::runtime::model::{ObservedService, Revision};
use crate::runtime::records::place::Place;
use crate::runtime::store;

/// Brings the inventory in line with what runs, and says whether that changed it.
pub(super) async fn update(desk: &Desk, place: &Place, tenant: &Tenant) -> Result<bool, Failure> {
    let Some(docket) = desk.arbitration.look(place).await? else { return Ok(false) };
    let store = &*desk.ports.store;
    let Some(current) = docket.value.state.current else {
        let name = place.inventory();
        let Some(there) = store::read::<ObservedService>(store, &place.space(), &name).await? else {
            return Ok(false);
        };
        desk.ports.store.remove(&place.space(), &name, there.revision).await?;
        return Ok(true);
    };
    let observed = desk.ports.compute.observe(place.environment.as_str()).await?;
    let next = observed_service(place, tenant, &current, &observed, desk.ports.clock.now());
    let mut changed = false;
    store::change(store, &place.space(), &place.inventory(), |there: Option<&ObservedService>| {
        changed = there.is_none_or(|there| !there.same_as(&next));
        changed.then(|| next.clone())
    })
    .await?;
    Ok(changed)
}

/// What is to be shown of a service of which `current` runs, as observed at `at`.
pub fn observed_service(
    place: &Place,
    tenant: &Tenant,
    current: &Revision,
    observed: &Observed,
    at: Time,
) -> ObservedService {
    let sets = observed.sets.iter().filter(|set| set.service == place.service.as_str() && !set.removing);
    let (replicas, ready) = sets.fold((0, 0), |(wanted, ready), set| (wanted + set.wanted, ready + set.ready));
    ObservedService {
        service_id: place.service.clone(),
        tenant_id: tenant.clone(),
        environment_id: place.environment.clone(),
        image: current.image.clone(),
        replicas,
        ready,
        configuration: current.configuration.clone(),
        secrets: current.secrets.clone(),
        endpoint_url: observed.gateway.map(|gateway| format!("http://{gateway}/{}", place.service)),
        last_observed_at: at,
    }
}

/// What is shown.
pub(super) async fn shown(desk: &Desk, place: &Place) -> Result<Option<ObservedService>, Failure> {
    let read = store::read(&*desk.ports.store, &place.space(), &place.inventory()).await?;
    Ok(read.map(|read| read.value))
}
