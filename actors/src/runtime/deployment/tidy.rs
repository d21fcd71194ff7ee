//! Forgets old deployments: those that nothing leads back to.

use supervisor::activity::Failure;

use super::desk::Desk;
use crate::runtime::records::deployments::Record;
use crate::runtime::records::place::{self, Place};
use crate::runtime::store;

/// Ended deployments that are kept besides the ways back, for people: as many as fit a screen.
pub(super) const KEPT: usize = 20;

/// Forgets what is too old.
pub(super) async fn tidy(desk: &Desk, place: &Place) -> Result<(), Failure> {
    let Some(docket) = desk.arbitration.look(place).await? else { return Ok(()) };
    let state = docket.value.state;
    let store = &*desk.ports.store;
    let below = place::deployments(&place.environment, &place.service);
    let mut all = store::read_all::<Record>(store, &place.space(), &below).await?;
    let led_to = |record: &Record| {
        let id = &record.deployment.deployment_id;
        state.completed.iter().chain(&state.current).any(|revision| revision.deployment_id == *id)
    };
    all.retain(|(_, record)| record.deployment.state.terminal() && !led_to(record));
    all.sort_by_key(|(_, record)| record.deployment.at);
    let surplus = all.len().saturating_sub(KEPT);
    for (name, _) in all.into_iter().take(surplus) {
        store::forget(store, &place.space(), &name).await?;
    }
    Ok(())
}
