//! What runs in an environment, as compute shows it now, in the words of drift detection.
//!
//! What is known of a service is read before and after compute was asked: where it is not the same,
//! something began or ended meanwhile, and what was seen fits neither.

use std::collections::{BTreeMap, BTreeSet};

use supervisor::activity::Failure;
use supervisor::worker::Run;

use crate::runtime::compute::observed::ObservedSet;
use crate::runtime::control::desk::{Desk, Look, Service};
use crate::runtime::model::{ConfigurationId, ConfigurationRef, Digest, ObservedService, Revision, ServiceId};

/// An environment with what runs in it.
pub(super) struct Seen {
    /// What is known.
    pub look: Look,
    /// What runs.
    pub services: Vec<ObservedService>,
    /// Services that something happened to while they were looked at.
    pub moving: BTreeSet<ServiceId>,
}

impl Desk {
    /// Looks. `None`: the environment is not there, or not any more.
    pub(super) async fn seen(&self, run: &Run) -> Result<Option<Seen>, Failure> {
        let Some(before) = self.look(run).await? else { return Ok(None) };
        let id = before.environment.environment_id.clone();
        let observed = self.ports.compute.observe(id.as_str()).await?;
        let Some(look) = self.look(run).await? else { return Ok(None) };
        let sequences = |look: &Look| -> BTreeMap<ServiceId, u64> {
            look.services.iter().map(|it| (it.place.service.clone(), it.docket.state.sequence)).collect()
        };
        let (old, new) = (sequences(&before), sequences(&look));
        let moved = |name: &&ServiceId| old.get(*name) != new.get(*name);
        let moving = old.keys().chain(new.keys()).filter(moved).cloned().collect();
        let mut by_service: BTreeMap<&str, Vec<&ObservedSet>> = BTreeMap::new();
        for set in observed.sets.iter().filter(|set| !set.removing) {
            by_service.entry(&set.service).or_default().push(set);
        }
        let mut services = Vec::new();
        for (name, sets) in by_service {
            let Ok(service_id) = ServiceId::new(name) else { continue };
            let known = look.services.iter().find(|it| it.place.service == service_id);
            // Whatever takes most of the traffic is what runs.
            let Some(main) = sets.iter().max_by_key(|set| (set.weight, set.ready)) else { continue };
            let Ok(image) = Digest::new(format!("sha256:{}", main.digest)) else { continue };
            let current = known.and_then(Service::current);
            let running = match (known, &current) {
                (Some(known), Some(current)) => self.running(&known.place, current).await?,
                (Some(_) | None, _) => None,
            };
            let as_known = running.is_some_and(|running| running.set == main.revision);
            let (configuration, secrets) = match (current, as_known) {
                (Some(Revision { configuration, secrets, .. }), true) => (configuration, secrets),
                // Which secrets it uses is nowhere but in what is known.
                (Some(Revision { secrets, .. }), false) => (configured(&main.config_version), secrets),
                (None, _) => (configured(&main.config_version), BTreeMap::new()),
            };
            services.push(ObservedService {
                service_id,
                tenant_id: known.map_or_else(|| run.worker.tenant.clone(), |known| known.docket.tenant.clone()),
                environment_id: id.clone(),
                image,
                replicas: sets.iter().map(|set| set.wanted).sum(),
                ready: sets.iter().map(|set| set.ready).sum(),
                configuration,
                secrets,
                endpoint_url: observed.gateway.map(|gateway| format!("http://{gateway}/{name}")),
                last_observed_at: run.now(),
            });
        }
        Ok(Some(Seen { look, services, moving }))
    }
}

/// The version that compute was told, as it is written: `web v3`.
fn configured(text: &str) -> Option<ConfigurationRef> {
    let (id, version) = text.rsplit_once(" v")?;
    Some(ConfigurationRef { configuration_id: ConfigurationId::new(id).ok()?, version: version.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_it_is_written() {
        let at = ConfigurationRef { configuration_id: ConfigurationId::new("web").unwrap(), version: 3 };
        assert_eq!(configured(&at.to_string()), Some(at));
        assert_eq!(configured(""), None);
    }
}
