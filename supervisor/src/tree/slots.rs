//! The sagas of one shard, each tenant's apart: a list goes over those of its tenant and no other's.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

use protocol::{SagaId, Tenant};

use super::slot::Slot;

/// Slots by tenant and saga. A tenant without one is not kept.
#[derive(Default)]
pub(super) struct Slots(HashMap<Tenant, HashMap<Arc<SagaId>, Slot>>);

impl Slots {
    pub(super) fn get(&self, saga: &SagaId) -> Option<&Slot> {
        self.0.get(&saga.tenant)?.get(saga)
    }

    pub(super) fn get_mut(&mut self, saga: &SagaId) -> Option<&mut Slot> {
        self.0.get_mut(&saga.tenant)?.get_mut(saga)
    }

    /// The slot with the key that is kept, which others share.
    pub(super) fn get_key_value(&self, saga: &SagaId) -> Option<(&Arc<SagaId>, &Slot)> {
        self.0.get(&saga.tenant)?.get_key_value(saga)
    }

    pub(super) fn contains_key(&self, saga: &SagaId) -> bool {
        self.get(saga).is_some()
    }

    pub(super) fn insert(&mut self, saga: Arc<SagaId>, slot: Slot) {
        self.0.entry(saga.tenant.clone()).or_default().insert(saga, slot);
    }

    pub(super) fn remove(&mut self, saga: &SagaId) -> Option<Slot> {
        let own = self.0.get_mut(&saga.tenant)?;
        let removed = own.remove(saga);
        if own.is_empty() {
            self.0.remove(&saga.tenant);
        }
        removed
    }

    pub(super) fn of(&self, tenant: &Tenant) -> impl Iterator<Item = (&Arc<SagaId>, &Slot)> {
        self.0.get(tenant).into_iter().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<SagaId>, &Slot)> {
        self.0.values().flatten()
    }
}

impl Index<&SagaId> for Slots {
    type Output = Slot;

    fn index(&self, saga: &SagaId) -> &Slot {
        &self.0[&saga.tenant][saga]
    }
}
