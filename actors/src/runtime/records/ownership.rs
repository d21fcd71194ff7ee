//! Whose a service is: whoever wrote first under its name in an environment, until nothing stands there.
//!
//! A service, its configuration, its scaling policy, its incident, its findings, its deployments and the
//! secrets that are bound to it go by one name, and so have one owner. Who it is stands beside them, in a
//! value that is written once, over nothing, before anything else is written under the name. So of two
//! tenants who take a name in the same moment one has it, and the other is refused before it has read or
//! written anything.
//!
//! Whoever writes the first thing under a name holds it meanwhile ([`writing`]). When nobody holds a name
//! and nothing stands under it, it is given back: because what was wanted was refused, or because the last thing was
//! taken away ([`give_back`]).
//!
//! [`rule`] says of each command what it touches; [`admit`] is the only place that compares tenants for
//! it, whichever door the command came through. Deliberately absent: giving a name to somebody, and saying
//! who has it.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::command::name;
use protocol::{Tenant, Time};
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;
use supervisor::ports::Clock;
use tracing::warn;

use crate::runtime::model::ids::label;
use crate::runtime::model::{ScalingPolicy, SecretBinding, ServiceId};
use crate::runtime::records::docket::Docket;
use crate::runtime::records::place::{self, Place};
use crate::runtime::records::tenancy::Bound;
use crate::runtime::records::{configurations, decisions, secrets};
use crate::runtime::store::{self, Error, RuntimeStore, Space, TRIES};

/// The error name of a refusal because the name is another tenant's.
pub const NAME_TAKEN: &str = "NameTaken";
/// The error name of a refusal because the service is being taken away.
pub const GOES: &str = "BeingRemoved";
/// The error name of a refusal because of too many names.
pub const NAMES: &str = "TooManyNames";

/// The most names that one tenant may have in one environment. This is what keeps a guest from taking all
/// that its host may want; a hundred times what one machine runs.
pub const NAMES_MAX: usize = 1_000;
/// The most that may be written under one name at once: whoever comes then asks again. Each is a command or
/// a deployment of the name's owner, and lasts milliseconds.
pub const HOLDS_MAX: usize = 16;
/// After this a name is not held any more: several times what a command or a step may take. What held it
/// longer ended with its node.
pub const HELD_FOR: Duration = Duration::from_secs(600);

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
    /// The same as a service, while it is taken away too.
    Remove,
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
        | name::SECRET_REMOVE
        | name::SECRET_ROTATE
        | name::SECRET_LIST => Rule::Environment,
        name::DRIFT_POLICY => Rule::Use,
        name::SERVICE_HEALTH | name::INCIDENT_SHOW | name::SCALING_DECISIONS => Rule::Look,
        name::CONFIGURATION_SHOW
        | name::CONFIGURATION_LIST
        | name::SCALING_APPLY
        | name::SCALING_REMOVE
        | name::SERVICE_LOGS
        | name::SERVICE_SCALE
        | name::SERVICE_PAUSE
        | name::SERVICE_RESTART
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
    /// Who writes under it just now, and since when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    held: BTreeMap<String, Time>,
}

impl Title {
    fn of(tenant: &Tenant) -> Self {
        Self { tenant: tenant.clone(), held: BTreeMap::new() }
    }

    /// The same without those who ended without a word.
    fn at(&self, now: Time) -> Self {
        let mut title = self.clone();
        title.held.retain(|_, since| now.since(*since) < HELD_FOR);
        title
    }
}

/// A name that is not given back meanwhile. It is to be [`end`](Held::end)ed whatever came of the work.
#[must_use]
#[derive(Debug)]
struct Held {
    place: Place,
    tenant: Tenant,
    by: String,
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
        || is_bound(store, place).await?;
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

/// Lets `tenant` do to a service what `rule` says, or refuses it. Whoever then writes the first thing under
/// the name takes it. Another's name under which nothing stands, and which dead nodes held, is given back first.
pub async fn admit(
    store: &dyn RuntimeStore,
    rule: Rule,
    place: &Place,
    tenant: &Tenant,
    now: Time,
) -> Result<Owned, Failure> {
    let mut owned = whose(store, place, tenant).await?;
    if owned == Owned::Theirs && lapse(store, place, now).await? {
        owned = whose(store, place, tenant).await?;
    }
    if owned == Owned::Free {
        named(place)?;
    }
    let host = place.owner == *tenant;
    let may = match (rule, owned) {
        (Rule::Look | Rule::Service | Rule::Take | Rule::Remove | Rule::Evict, Owned::Free | Owned::Ours) => true,
        (Rule::Look, Owned::Theirs) => host,
        (Rule::Evict, Owned::Theirs) => host && !is_guest(store, place).await?,
        (Rule::Service | Rule::Take | Rule::Remove, Owned::Theirs) => false,
        // What is found of a service that was never there is found in what the environment's owner wrote.
        (Rule::Finding, Owned::Free) => host,
        (Rule::Finding, Owned::Ours) => true,
        (Rule::Finding, Owned::Theirs) => false,
        (Rule::Name | Rule::List | Rule::Decision | Rule::Environment | Rule::Use, _) => {
            return Err(Failure::permanent("asking whose a service is", format!("{rule:?} is about none")));
        }
    };
    if !may {
        return Err(taken(place, tenant));
    }
    if matches!(rule, Rule::Service | Rule::Take) {
        stays(store, place).await?;
    }
    Ok(owned)
}

/// Refuses what would go with a service that is being taken away.
async fn stays(store: &dyn RuntimeStore, place: &Place) -> Result<(), Failure> {
    let docket = store::read::<Docket>(store, &place.space(), &place.docket()).await?;
    match docket.as_ref().and_then(|docket| docket.value.state.removed_by()) {
        None => Ok(()),
        Some(saga) => {
            let key = saga.split_once('/').map_or(saga, |(_, key)| key);
            let why = format!("{place} is being removed; wait until that has ended (`skald wait {key}`), or cancel it");
            Err(Failure::named(GOES, why))
        }
    }
}

/// Settles that the name is `tenant`'s; refused where it is another's. Again: nothing happens. It is the
/// tenant's until it is given back, also with nothing under it.
pub async fn take(store: &dyn RuntimeStore, place: &Place, tenant: &Tenant) -> Result<(), Failure> {
    entitle(store, place, tenant, |there| there.is_none().then(|| Title::of(tenant))).await
}

/// Does `work`, which may write the first thing under the name. Until that is there nothing tells the name
/// from one that nobody needs, so it is `tenant`'s and not given back meanwhile; afterwards it is, where
/// nothing stands under it.
pub async fn writing<T>(
    store: &dyn RuntimeStore,
    clock: &dyn Clock,
    place: &Place,
    tenant: &Tenant,
    work: impl Future<Output = T> + Send,
) -> Result<T, Failure> {
    let held = hold(store, place, tenant, clock.now()).await?;
    let done = work.await;
    held.end(store, clock.now()).await;
    Ok(done)
}

async fn hold(store: &dyn RuntimeStore, place: &Place, tenant: &Tenant, now: Time) -> Result<Held, Failure> {
    let by = uuid::Uuid::new_v4().simple().to_string();
    let mut full = false;
    entitle(store, place, tenant, |there| {
        let mut next = there.map_or_else(|| Title::of(tenant), |there| there.at(now));
        full = next.held.len() >= HOLDS_MAX;
        next.held.insert(by.clone(), now);
        (!full).then_some(next)
    })
    .await?;
    if full {
        let why = format!("{place}: {HOLDS_MAX} others write under the name just now");
        return Err(Failure::transient("holding a name", Error::Unavailable { why }));
    }
    Ok(Held { place: place.clone(), tenant: tenant.clone(), by })
}

impl Held {
    /// Lets go of the name, and gives it back where nothing stands under it.
    async fn end(self, store: &dyn RuntimeStore, now: Time) {
        let Self { place, tenant, by } = self;
        if let Err(failure) = settle(store, &place, &tenant, now, Some(&by)).await {
            // It counts as held for a while, and its owner keeps it.
            warn!(%place, %tenant, %failure, "a name could not be let go");
        }
    }
}

/// Gives the name back where it is `tenant`'s, nobody holds it and nothing stands under it.
pub async fn give_back(store: &dyn RuntimeStore, place: &Place, tenant: &Tenant, now: Time) -> Result<(), Failure> {
    settle(store, place, tenant, now, None).await
}

/// Gives the name back if all who held it ended without a word: their nodes died. Whatever stands under the
/// name keeps it. Answers whether it is worth looking again.
async fn lapse(store: &dyn RuntimeStore, place: &Place, now: Time) -> Result<bool, Failure> {
    let title = store::read::<Title>(store, &place.space(), &place.title()).await?.map(|it| it.value);
    let lapsed = |title: &Title| !title.held.is_empty() && title.at(now).held.is_empty();
    let Some(title) = title.filter(lapsed) else { return Ok(false) };
    settle(store, place, &title.tenant, now, None).await?;
    Ok(true)
}

async fn settle(
    store: &dyn RuntimeStore,
    place: &Place,
    tenant: &Tenant,
    now: Time,
    ended: Option<&str>,
) -> Result<(), Failure> {
    let (space, name) = (place.space(), place.title());
    let mut lost = Error::Stale { name: name.clone() };
    for _ in 0..TRIES {
        let Some(there) = store::read::<Title>(store, &space, &name).await? else { return Ok(()) };
        let mut next = there.value.at(now);
        next.held.retain(|by, _| Some(by.as_str()) != ended);
        if next.tenant != *tenant {
            return Ok(());
        }
        // Looked at after the title was read: whoever has let go of it before has written before, and
        // whoever takes hold of it from now on changes the title.
        let written = if next.held.is_empty() && !stands(store, place, now).await? {
            store.remove(&space, &name, there.revision).await
        } else if next != there.value {
            store::write(store, &space, &name, &next, there.revision).await.map(drop)
        } else {
            Ok(())
        };
        match written {
            Err(stale @ Error::Stale { .. }) => lost = stale,
            other => return Ok(other?),
        }
    }
    Err(lost.into())
}

/// Whether anything stands under the name: then it is somebody's, whether or not anything runs.
async fn stands(store: &dyn RuntimeStore, place: &Place, now: Time) -> Result<bool, Failure> {
    let space = place.space();
    for name in [place.docket(), place.policy(), place.incident()] {
        if store.get(&space, &name).await?.is_some() {
            return Ok(true);
        }
    }
    let deployments = place::deployments(&place.environment, &place.service);
    Ok(!store.list(&space, &deployments).await?.is_empty()
        || !configurations::versions(store, place).await?.is_empty()
        || is_bound(store, place).await?
        || decisions::concern(store, place, now).await?)
}

async fn is_bound(store: &dyn RuntimeStore, place: &Place) -> Result<bool, Failure> {
    let bindings = secrets::bindings(store, &place.owner, &place.environment).await?;
    Ok(bindings.values().any(|it| uses(it, &place.service)))
}

/// Writes what `change` makes of the title, if the name is or may become `tenant`'s.
async fn entitle(
    store: &dyn RuntimeStore,
    place: &Place,
    tenant: &Tenant,
    mut change: impl FnMut(Option<&Title>) -> Option<Title> + Send,
) -> Result<(), Failure> {
    match owner(store, place).await? {
        Some(owner) if owner != *tenant => return Err(taken(place, tenant)),
        Some(_) => {}
        None => {
            named(place)?;
            room(store, place, tenant).await?;
        }
    }
    let stands = store::change(store, &place.space(), &place.title(), |there: Option<&Title>| match there {
        Some(there) if there.tenant != *tenant => None,
        there => change(there),
    })
    .await?;
    match stands {
        Some(stands) if stands.tenant != *tenant => Err(taken(place, tenant)),
        Some(_) | None => Ok(()),
    }
}

/// Whether a name that nobody has may become the name of a service.
fn named(place: &Place) -> Result<(), Failure> {
    label("service", place.service.as_str()).map_err(|fault| Failure::named("BadArguments", fault.to_string()))
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
