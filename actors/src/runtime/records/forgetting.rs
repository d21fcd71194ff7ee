//! What is kept of a service, besides its arbiter's state, when it goes: all of it.

use supervisor::activity::Failure;

use crate::runtime::model::{DriftFinding, SecretBinding};
use crate::runtime::records::configurations;
use crate::runtime::records::place::{self, Place};
use crate::runtime::records::secrets::bindings;
use crate::runtime::store::{self, RuntimeStore};

/// Forgets it. Again, and after half of it: what is left is forgotten.
pub async fn forget(store: &dyn RuntimeStore, place: &Place) -> Result<(), Failure> {
    let (space, environment) = (place.space(), &place.environment);
    for binding in bindings(store, &place.owner, environment).await?.into_values() {
        let name = place.secret(&binding.secret_binding_id);
        store::change(store, &space, &name, |there: Option<&SecretBinding>| {
            let mut next = there?.clone();
            next.bound.remove(&place.service).then_some(next)
        })
        .await?;
    }
    let findings = store::read_all::<DriftFinding>(store, &space, &place::findings(environment)).await?;
    let of_it = findings.into_iter().filter(|(_, finding)| finding.service_id == place.service);
    let mut names: Vec<String> = of_it.map(|(name, _)| name).collect();
    names.extend([
        place.policy(),
        place.scaling(),
        place.condition(),
        place.incident(),
        place.inventory(),
        place.synced(),
        place::published(environment, configurations::id(place)?.as_str()),
    ]);
    for below in [place.scaling(), place.configurations(), place::deployments(environment, &place.service)] {
        names.extend(store.list(&space, &below).await?.into_iter().map(|(name, _)| name));
    }
    for name in names {
        store::forget(store, &space, &name).await?;
    }
    Ok(())
}
