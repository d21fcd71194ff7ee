//! What is kept of a service, besides its arbiter's state, and of an environment, besides its own record, when it goes:
//! all of it.

use protocol::Tenant;
use supervisor::activity::Failure;

use crate::runtime::model::{DriftFinding, EnvironmentId, SecretBinding};
use crate::runtime::records::configurations;
use crate::runtime::records::place::{self, Place};
use crate::runtime::records::secrets::bindings;
use crate::runtime::store::{self, RuntimeStore, Space};

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

/// Forgets what is kept of an environment that has no services and no secrets: what was published, decided and found
/// there. Again, and after half of it: what is left is forgotten.
pub async fn forget_environment(
    store: &dyn RuntimeStore,
    owner: &Tenant,
    environment: &EnvironmentId,
) -> Result<(), Failure> {
    let space = Space::Of(owner.clone());
    store::forget(store, &space, &place::drift_policy(environment)).await?;
    for below in place::ALL_OF_AN_ENVIRONMENT {
        for (name, _) in store.list(&space, &format!("{below}/{environment}")).await? {
            store::forget(store, &space, &name).await?;
        }
    }
    Ok(())
}
