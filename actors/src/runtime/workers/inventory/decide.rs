//! What differs between what is shown of an environment and what runs in it (W050–W056).
//!
//! Compute has no watch, so every look is the whole world: whatever was missed in between, deletions
//! included, shows at the next one (D704, F54). Where nothing differs nothing is written or said (W074).

use std::collections::BTreeMap;

use crate::runtime::model::{ObservedService, ServiceId};

/// How many services one inventory holds. More is refused rather than half seen: what would be left
/// out would look like deleted.
pub const SERVICES_MAX: usize = 50_000;

/// What changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Services that were not there before.
    pub added: Vec<ObservedService>,
    /// Services that are not as they were.
    pub changed: Vec<ObservedService>,
    /// Services that are gone.
    pub removed: Vec<ServiceId>,
}

impl Changes {
    /// Whether nothing changed: then nothing is written, and no `RuntimeInventoryUpdated` is said.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// More runs than an inventory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} services run, and an inventory holds {SERVICES_MAX}; split the environment")]
pub struct TooMany(usize);

/// What brings `shown` to what `runs`. What merely was seen again stays as it is shown.
pub fn changes(
    shown: impl IntoIterator<Item = ObservedService>,
    runs: Vec<ObservedService>,
) -> Result<Changes, TooMany> {
    if runs.len() > SERVICES_MAX {
        return Err(TooMany(runs.len()));
    }
    let mut left: BTreeMap<ServiceId, ObservedService> =
        shown.into_iter().map(|service| (service.service_id.clone(), service)).collect();
    let mut changes = Changes::default();
    for service in runs {
        match left.remove(&service.service_id) {
            None => changes.added.push(service),
            Some(before) if before.same_as(&service) => {}
            Some(_) => changes.changed.push(service),
        }
    }
    changes.removed = left.into_keys().collect();
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{Tenant, Time};

    use super::*;
    use crate::runtime::model::{Digest, EnvironmentId};

    fn service(n: u8, replicas: u32, at: i64) -> ObservedService {
        ObservedService {
            service_id: ServiceId::new(format!("s{n}")).unwrap(),
            tenant_id: Tenant::new("acme").unwrap(),
            environment_id: EnvironmentId::new("shop").unwrap(),
            image: Digest::new(format!("sha256:{}", "0a".repeat(32))).unwrap(),
            replicas,
            ready: replicas,
            configuration: None,
            secrets: BTreeMap::new(),
            endpoint_url: None,
            last_observed_at: Time::from_micros(at),
        }
    }

    /// W074, F44: seen again is not changed.
    #[test]
    fn the_same_world_again_changes_nothing() {
        assert!(changes([service(1, 2, 0)], vec![service(1, 2, 99)]).unwrap().is_empty());
    }

    /// D704, F54.
    #[test]
    fn what_was_missed_shows_at_the_next_look() {
        let shown = [service(1, 2, 0), service(2, 2, 0)];
        let changes = changes(shown, vec![service(2, 3, 9), service(4, 1, 9)]).unwrap();
        assert_eq!((changes.added, changes.changed), (vec![service(4, 1, 9)], vec![service(2, 3, 9)]));
        assert_eq!(changes.removed, [service(1, 2, 0).service_id], "its deletion was never heard of");
    }

    #[test]
    fn too_many_are_refused_whole() {
        let many = vec![service(1, 1, 0); SERVICES_MAX + 1];
        assert_eq!(changes([], many), Err(TooMany(SERVICES_MAX + 1)));
    }

    proptest! {
        /// F54: the changes bring what is shown to what runs, whatever was shown, and then there are none.
        #[test]
        fn it_converges(
            before in prop::collection::btree_map(0u8..6, 0u32..4, 0..6),
            after in prop::collection::btree_map(0u8..6, 0u32..4, 0..6),
        ) {
            let world = |of: &BTreeMap<u8, u32>, at| -> Vec<ObservedService> {
                of.iter().map(|(n, replicas)| service(*n, *replicas, at)).collect()
            };
            let mut shown: BTreeMap<_, _> =
                world(&before, 0).into_iter().map(|service| (service.service_id.clone(), service)).collect();
            let found = changes(shown.values().cloned(), world(&after, 1)).unwrap();
            for service in found.added.into_iter().chain(found.changed) {
                shown.insert(service.service_id.clone(), service);
            }
            for gone in found.removed {
                shown.remove(&gone);
            }
            let counts: BTreeMap<_, _> = shown.values().map(|it| (it.service_id.to_string(), it.replicas)).collect();
            let runs: BTreeMap<_, _> = after.iter().map(|(n, replicas)| (format!("s{n}"), *replicas)).collect();
            prop_assert_eq!(counts, runs);
            prop_assert!(changes(shown.into_values(), world(&after, 2)).unwrap().is_empty());
        }
    }
}
