//! What runs, as last seen (W050–W056, D701–D704): list, then watch.
//!
//! A list is a whole world at one version; watch events move it on, one by one. Whatever was lost in
//! between, deletions included, shows at the next list (F54). The result of either is the set of
//! changes; nothing changed is an empty set, and then nothing is written or said (W074).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::runtime::model::{ObservedService, ServiceId};

/// How many services one inventory holds. More is refused rather than half seen: what would be left
/// out would look like deleted.
pub const SERVICES_MAX: usize = 50_000;

/// The control plane's version of what it showed; grows with every change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// One event of a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Watched {
    /// It is like this now.
    Seen(Version, ObservedService),
    /// It is gone.
    Gone(Version, ServiceId),
    /// Nothing happened up to here (a bookmark, D701).
    Nothing(Version),
    /// The version asked for is too old, or the watch broke: list again.
    Expired,
}

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

/// The inventory of one environment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    services: BTreeMap<ServiceId, ObservedService>,
    /// The version each removed service was seen gone at, since the last list: an older sighting that
    /// arrives late must not bring it back.
    gone: BTreeMap<ServiceId, Version>,
    seen: BTreeMap<ServiceId, Version>,
    version: Version,
    /// The version of the last list.
    base: Version,
    listed: bool,
}

/// Why a list was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotTaken {
    /// It shows an older world than is known.
    #[error("the list shows version {}, but {} is known; list again", .0.0, .1.0)]
    Older(Version, Version),
    /// It is too long.
    #[error("the list has {0} services, the limit is {SERVICES_MAX}; split the environment")]
    TooMany(usize),
}

impl Inventory {
    /// What was stored, to begin with; it is listed before it is watched.
    pub fn stored(services: impl IntoIterator<Item = ObservedService>) -> Self {
        let services = services.into_iter().map(|service| (service.service_id.clone(), service)).collect();
        Self { services, ..Self::default() }
    }

    /// Whether it must be listed before anything else.
    pub const fn needs_list(&self) -> bool {
        !self.listed
    }

    /// From which version to watch.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Every service, by name.
    pub fn services(&self) -> impl Iterator<Item = &ObservedService> {
        self.services.values()
    }

    /// Takes a whole world: what it does not show is gone (D704).
    pub fn list(&mut self, services: Vec<ObservedService>, version: Version) -> Result<Changes, NotTaken> {
        if version < self.version {
            // Some replica of the control plane is behind.
            return Err(NotTaken::Older(version, self.version));
        }
        if services.len() > SERVICES_MAX {
            return Err(NotTaken::TooMany(services.len()));
        }
        let mut changes = Changes::default();
        let mut left: BTreeMap<ServiceId, ObservedService> = std::mem::take(&mut self.services);
        for service in services {
            let before = left.remove(&service.service_id);
            self.keep(before, service, &mut changes);
        }
        changes.removed = left.into_keys().collect();
        (self.version, self.base) = (version, version);
        self.listed = true;
        // Whatever comes late now is older than the list, and is known by that.
        self.seen.clear();
        self.gone.clear();
        Ok(changes)
    }

    /// Takes one event. Events may come twice and late; per service the highest version wins.
    pub fn watch(&mut self, event: Watched) -> Changes {
        let mut changes = Changes::default();
        match event {
            Watched::Expired => self.listed = false,
            Watched::Nothing(version) => self.version = self.version.max(version),
            Watched::Seen(version, service) => {
                if self.fresh(&service.service_id, version) {
                    self.seen.insert(service.service_id.clone(), version);
                    self.gone.remove(&service.service_id);
                    let before = self.services.remove(&service.service_id);
                    if before.is_none() && self.services.len() >= SERVICES_MAX {
                        // The next list says why.
                        self.listed = false;
                        return changes;
                    }
                    self.keep(before, service, &mut changes);
                }
                self.moved_to(version);
            }
            Watched::Gone(version, service) => {
                if self.fresh(&service, version) {
                    self.seen.remove(&service);
                    self.gone.insert(service.clone(), version);
                    if self.services.remove(&service).is_some() {
                        changes.removed.push(service);
                    }
                }
                self.moved_to(version);
            }
        }
        changes
    }

    /// Whether an event about a service is newer than what is known of it. Until the first list
    /// nothing is known well enough.
    fn fresh(&self, service: &ServiceId, version: Version) -> bool {
        let known = self.seen.get(service).or_else(|| self.gone.get(service)).copied();
        // What the list showed is as new as the list.
        self.listed && version > known.unwrap_or(self.base)
    }

    fn moved_to(&mut self, version: Version) {
        if self.listed {
            self.version = self.version.max(version);
        }
    }

    /// Keeps `after`, and notes what changed. What merely was seen again stays as it is stored.
    fn keep(&mut self, before: Option<ObservedService>, after: ObservedService, changes: &mut Changes) {
        let service_id = after.service_id.clone();
        let kept = match before {
            Some(before) if before.same_as(&after) => before,
            Some(_) => {
                changes.changed.push(after.clone());
                after
            }
            None => {
                changes.added.push(after.clone());
                after
            }
        };
        self.services.insert(service_id, kept);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{Tenant, Time};

    use super::*;
    use crate::runtime::model::{Digest, EnvironmentId};

    fn name(n: u8) -> ServiceId {
        ServiceId::new(format!("s{n}")).unwrap()
    }

    fn service(n: u8, replicas: u32, at: i64) -> ObservedService {
        ObservedService {
            service_id: name(n),
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

    fn counts(inventory: &Inventory) -> Vec<(String, u32)> {
        inventory.services().map(|service| (service.service_id.to_string(), service.replicas)).collect()
    }

    /// W074, F44: seen again is not changed.
    #[test]
    fn the_same_world_again_changes_nothing() {
        let mut inventory = Inventory::default();
        assert!(inventory.needs_list());
        assert_eq!(inventory.list(vec![service(1, 2, 0)], Version(5)).unwrap().added.len(), 1);
        assert!(inventory.list(vec![service(1, 2, 99)], Version(5)).unwrap().is_empty());
        assert!(inventory.watch(Watched::Seen(Version(6), service(1, 2, 100))).is_empty());
        assert_eq!(inventory.version(), Version(6));
    }

    /// D701–D704, F54.
    #[test]
    fn what_was_missed_shows_at_the_next_list() {
        let mut inventory = Inventory::default();
        inventory.list(vec![service(1, 2, 0), service(2, 2, 0)], Version(5)).unwrap();
        inventory.watch(Watched::Expired);
        assert!(inventory.needs_list());
        assert!(inventory.watch(Watched::Seen(Version(9), service(3, 1, 0))).is_empty(), "first the list");
        let changes = inventory.list(vec![service(2, 3, 0), service(4, 1, 0)], Version(8)).unwrap();
        assert_eq!((changes.added.len(), changes.changed.len()), (1, 1));
        assert_eq!(changes.removed, [name(1)], "its deletion was never heard of");
        assert!(matches!(inventory.list(vec![], Version(7)), Err(NotTaken::Older(..))), "a replica that is behind");
    }

    #[test]
    fn an_old_sighting_does_not_bring_back_what_is_gone() {
        let mut inventory = Inventory::default();
        inventory.list(vec![service(1, 2, 0)], Version(5)).unwrap();
        assert_eq!(inventory.watch(Watched::Gone(Version(9), name(1))).removed, [name(1)]);
        assert!(inventory.watch(Watched::Seen(Version(8), service(1, 2, 0))).is_empty());
        assert!(inventory.watch(Watched::Gone(Version(9), name(1))).is_empty(), "told twice");
        assert_eq!(inventory.watch(Watched::Seen(Version(10), service(1, 2, 0))).added.len(), 1, "it came back");
        assert!(inventory.watch(Watched::Seen(Version(4), service(7, 2, 0))).is_empty(), "older than the list");
    }

    /// What was stored counts as known: a restart says nothing.
    #[test]
    fn a_restart_over_the_same_world_is_silent() {
        let mut inventory = Inventory::stored([service(1, 2, 0)]);
        assert!(inventory.needs_list());
        assert!(inventory.list(vec![service(1, 2, 50)], Version(5)).unwrap().is_empty());
    }

    proptest! {
        /// F54: whatever was lost, doubled or late, after the next list it is the observed world, and
        /// replaying the changes over the old copy gives the same.
        #[test]
        fn it_converges(
            steps in prop::collection::vec((0u8..5, prop::option::of(0u32..4), 0u8..4), 1..60),
        ) {
            let mut world: BTreeMap<ServiceId, ObservedService> = BTreeMap::new();
            let mut inventory = Inventory::default();
            let mut copy: BTreeMap<ServiceId, ObservedService> = BTreeMap::new();
            let mut version = 1;
            let mut sent: Vec<Watched> = Vec::new();
            inventory.list(vec![], Version(0)).unwrap();
            for (n, replicas, luck) in steps {
                version += 1;
                let event = match replicas {
                    Some(replicas) => {
                        let service = service(n, replicas, version);
                        world.insert(name(n), service.clone());
                        Watched::Seen(Version(version as u64), service)
                    }
                    None => {
                        world.remove(&name(n));
                        Watched::Gone(Version(version as u64), name(n))
                    }
                };
                sent.push(event.clone());
                // Lost; in order; twice; and an old one again.
                let heard: Vec<Watched> = match luck {
                    0 => vec![],
                    1 => vec![event],
                    2 => vec![event.clone(), event],
                    _ => vec![event, sent[sent.len() / 2].clone()],
                };
                for event in heard {
                    let changes = inventory.watch(event);
                    for service in changes.added.into_iter().chain(changes.changed) {
                        copy.insert(service.service_id.clone(), service);
                    }
                    for gone in changes.removed {
                        copy.remove(&gone);
                    }
                }
            }
            let changes = inventory.list(world.values().cloned().collect(), Version(version as u64)).unwrap();
            for service in changes.added.into_iter().chain(changes.changed) {
                copy.insert(service.service_id.clone(), service);
            }
            for gone in changes.removed {
                copy.remove(&gone);
            }
            let world: Vec<_> = world.values().map(|service| (service.service_id.to_string(), service.replicas)).collect();
            prop_assert_eq!(counts(&inventory), world.clone());
            let copy: Vec<_> = copy.values().map(|service| (service.service_id.to_string(), service.replicas)).collect();
            prop_assert_eq!(copy, world);
            let (again, version) = (inventory.services().cloned().collect(), inventory.version());
            prop_assert!(inventory.list(again, version).unwrap().is_empty());
        }
    }
}
