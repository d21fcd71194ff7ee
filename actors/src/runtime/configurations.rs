//! Versions of a service's configuration: what is the same has the same version, and a version never
//! changes.

use std::collections::BTreeMap;

use supervisor::activity::Failure;

use super::model::{ConfigurationId, ConfigurationRef, RuntimeConfiguration};
use super::place::{self, Place};
use super::store::{self, Error, RuntimeStore, TRIES};

/// The version that holds `entries`: a known one, or the next.
pub async fn publish(
    store: &dyn RuntimeStore,
    place: &Place,
    entries: &BTreeMap<String, String>,
) -> Result<ConfigurationRef, Failure> {
    let faulty = |fault: super::model::Fault| Failure::named("BadArguments", fault.to_string());
    let id = ConfigurationId::new(place.service.as_str()).map_err(faulty)?;
    let mut lost = Error::Stale { name: place::configurations(&place.environment, id.as_str()) };
    for _ in 0..TRIES {
        let below = place::configurations(&place.environment, id.as_str());
        let known = store::read_all::<RuntimeConfiguration>(store, &place.space(), &below).await?;
        if let Some((_, same)) = known.iter().find(|(_, known)| known.entries == *entries) {
            return Ok(same.at.clone());
        }
        let version = known.iter().map(|(_, known)| known.at.version).max().unwrap_or(0) + 1;
        let at = ConfigurationRef { configuration_id: id.clone(), version };
        let next = RuntimeConfiguration {
            at: at.clone(),
            environment_id: place.environment.clone(),
            entries: entries.clone(),
        };
        next.check().map_err(faulty)?;
        match store::write(store, &place.space(), &place.configuration(&at), &next, 0).await {
            Ok(_) => return Ok(at),
            Err(stale @ Error::Stale { .. }) => lost = stale,
            Err(error) => return Err(error.into()),
        }
    }
    Err(lost.into())
}
