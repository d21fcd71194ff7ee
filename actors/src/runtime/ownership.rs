//! Whose a service is: whoever wrote first under its name in an environment.
//!
//! A service, its configuration, its scaling policy, its incident, its findings, its deployments and the
//! secrets that are bound to it go by one name, and so have one owner. Who it is stands beside them, in a
//! value that is written once, over nothing, before anything else is written under the name. So of two
//! tenants who take a name in the same moment one has it, and the other is refused before it has read or
//! written anything.
//!
//! [`rule`] says of each command what it touches; [`admit`] is the only place that compares tenants for
//! it, whichever door the command came through. Deliberately absent: giving a name away, and saying who
//! has it.

use protocol::Tenant;
use protocol::command::name;
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

use super::arbitration::Docket;
use super::model::{ScalingPolicy, SecretBinding, ServiceId};
use super::place::{self, Place};
use super::store::{self, RuntimeStore, Space};
use super::tenancy::Bound;
use super::{configurations, secrets};

/// The error name of a refusal because the name is another tenant's.
pub const NAME_TAKEN: &str = "NameTaken";
/// The error name of a refusal because of too many names.
pub const NAMES: &str = "TooManyNames";

/// The most names that one tenant may have in one environment. Names are never given back, so this is
/// what keeps a guest from taking all that its host may want; a hundred times what one machine runs.
pub const NAMES_MAX: usize = 1_000;

/// What a command touches, and so whose word it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The name of an environment: whoever takes it first among all tenants.
    Name,
    /// A list of what the tenant may see; of another's it shows nothing.
    List,
    /// A change that waits for somebody else's word: its tenant's, or the environment's owner's.
    Decision,
    /// An environment as a whole: its owner.
    Environment,
    /// What an environment's owner has settled for all in it: whoever may use it.
    Use,
    /// How a service is: whoever has its name, and the environment's owner.
    Look,
    /// A service and what is in it: whoever has its name.
    Service,
    /// The same, and a name that nobody has is the asker's from then on.
    Take,
    /// The same as a service; once whoever has the name may not use the environment any more, its owner.
    Evict,
    /// A finding of drift, and so the service that it is about.
    Finding,
}

/// The rule of a command about environments and what is in them; `None`: it is about none.
pub fn rule(command: &str) -> Option<Rule> {
    Some(match command {
        name::ENVIRONMENT_CREATE => Rule::Name,
        name::ENVIRONMENT_LIST
        | name::SERVICE_LIST
        | name::SCALING_LIST
        | name::DRIFT_LIST
        | name::INCIDENT_LIST
        | name::DECISION_LIST => Rule::List,
        name::DECISION_APPROVE => Rule::Decision,
        name::ENVIRONMENT_BIND
        | name::ENVIRONMENT_PROVISION
        | name::DRIFT_SET_POLICY
        | name::SECRET_PUT
        | name::SECRET_BIND
        | name::SECRET_UNBIND
        | name::SECRET_ROTATE
        | name::SECRET_LIST => Rule::Environment,
        name::DRIFT_POLICY => Rule::Use,
        name::SERVICE_HEALTH | name::INCIDENT_SHOW | name::SCALING_DECISIONS => Rule::Look,
        name::CONFIGURATION_SHOW
        | name::CONFIGURATION_LIST
        | name::SCALING_APPLY
        | name::SCALING_REMOVE
        | name::SERVICE_SCALE
        | name::SERVICE_PAUSE
        | name::SERVICE_RESUME
        | name::SERVICE_UNHOLD
        | name::INCIDENT_CLOSE
        | name::DRIFT_REMEDIATE => Rule::Service,
        name::CONFIGURATION_PUBLISH => Rule::Take,
        name::SERVICE_DRAIN => Rule::Evict,
        name::DRIFT_APPROVE | name::DRIFT_ACCEPT => Rule::Finding,
        _ => return None,
    })
}

/// Whose a name is, to whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owned {
    /// Nobody's yet.
    Free,
    /// The asker's.
    Ours,
    /// Another tenant's.
    Theirs,
}

/// Whose a name is, as it is kept beside what goes by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Title {
    tenant: Tenant,
}

/// Who has the name of a service. What earlier releases kept says so too: a service by its arbiter, and
/// anything else by whose environment it is in.
pub async fn owner(store: &dyn RuntimeStore, place: &Place) -> Result<Option<Tenant>, Failure> {
    let space = place.space();
    if let Some(title) = store::read::<Title>(store, &space, &place.title()).await? {
        return Ok(Some(title.value.tenant));
    }
    if let Some(docket) = store::read::<Docket>(store, &space, &place.docket()).await? {
        return Ok(Some(docket.value.tenant));
    }
    let kept = !configurations::versions(store, place).await?.is_empty()
        || store::read::<ScalingPolicy>(store, &space, &place.policy()).await?.is_some()
        || secrets::bindings(store, &place.owner, &place.environment)
            .await?
            .values()
            .any(|it| uses(it, &place.service));
    Ok(kept.then(|| place.owner.clone()))
}

fn uses(binding: &SecretBinding, service: &ServiceId) -> bool {
    binding.bound.contains(service)
}

/// Whose the name of a service is, to `tenant`.
pub async fn whose(store: &dyn RuntimeStore, place: &Place, tenant: &Tenant) -> Result<Owned, Failure> {
    Ok(match owner(store, place).await? {
        None => Owned::Free,
        Some(owner) if owner == *tenant => Owned::Ours,
        Some(_) => Owned::Theirs,
    })
}

/// Lets `tenant` do to a service what `rule` says, or refuses it. Settles whose the name is, where that
/// is what follows.
pub async fn admit(store: &dyn RuntimeStore, rule: Rule, place: &Place, tenant: &Tenant) -> Result<Owned, Failure> {
    let owned = whose(store, place, tenant).await?;
    let host = place.owner == *tenant;
    let may = match (rule, owned) {
        (Rule::Take, Owned::Free) => {
            take(store, place, tenant).await?;
            return Ok(Owned::Ours);
        }
        (Rule::Look | Rule::Service | Rule::Take | Rule::Evict, Owned::Free | Owned::Ours) => true,
        (Rule::Look, Owned::Theirs) => host,
        (Rule::Evict, Owned::Theirs) => host && !is_guest(store, place).await?,
        (Rule::Service | Rule::Take, Owned::Theirs) => false,
        // What is found of a service that was never there is found in what the environment's owner wrote.
        (Rule::Finding, Owned::Free) => host,
        (Rule::Finding, Owned::Ours) => true,
        (Rule::Finding, Owned::Theirs) => false,
        (Rule::Name | Rule::List | Rule::Decision | Rule::Environment | Rule::Use, _) => {
            return Err(Failure::permanent("asking whose a service is", format!("{rule:?} is about none")));
        }
    };
    if may { Ok(owned) } else { Err(taken(place, tenant)) }
}

/// Settles that the name is `tenant`'s; refused where it is another's. Again: nothing happens.
pub async fn take(store: &dyn RuntimeStore, place: &Place, tenant: &Tenant) -> Result<(), Failure> {
    match owner(store, place).await? {
        Some(owner) if owner != *tenant => return Err(taken(place, tenant)),
        Some(_) => {}
        None => room(store, place, tenant).await?,
    }
    let title = Title { tenant: tenant.clone() };
    let stands = store::change(store, &place.space(), &place.title(), |there: Option<&Title>| match there {
        Some(_) => None,
        None => Some(title.clone()),
    })
    .await?;
    match stands {
        Some(stands) if stands != title => Err(taken(place, tenant)),
        Some(_) | None => Ok(()),
    }
}

/// Of two names that are taken in the same moment both may be let in.
async fn room(store: &dyn RuntimeStore, place: &Place, tenant: &Tenant) -> Result<(), Failure> {
    let all = store::read_all::<Title>(store, &place.space(), &place::titles(&place.environment)).await?;
    if all.iter().filter(|(_, title)| title.tenant == *tenant).count() < NAMES_MAX {
        return Ok(());
    }
    let why =
        format!("{tenant} has {NAMES_MAX} names in {}; use one of them, or another environment", place.environment);
    Err(Failure::named(NAMES, why))
}

/// Whether whoever has the name may use the environment.
async fn is_guest(store: &dyn RuntimeStore, place: &Place) -> Result<bool, Failure> {
    let Some(guest) = owner(store, place).await? else { return Ok(true) };
    let bound: Option<store::Read<Bound>> =
        store::read(store, &Space::Of(guest), &place::binding(&place.environment)).await?;
    Ok(bound.is_some_and(|bound| bound.value.owner == place.owner))
}

/// The refusal. It says nothing of whoever has the name.
pub fn taken(place: &Place, tenant: &Tenant) -> Failure {
    let Place { owner, environment, service } = place;
    let what = format!("the name {service} in {environment} belongs to another tenant");
    let mend = match owner == tenant {
        true => format!(
            "choose another name; when that tenant is not bound to {environment} any more, `skald services drain`"
        ),
        false => format!("choose another name, or ask {owner}, whose environment it is"),
    };
    Failure::named(NAME_TAKEN, format!("{what}; {mend}"))
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
