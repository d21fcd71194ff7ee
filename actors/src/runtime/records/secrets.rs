//! Secrets of environments: values are kept where no answer brings them from ([`SecretVersions`]), and
//! what is known of them besides their values stands in a [`SecretBinding`].
//!
//! The first value is current at once, because nothing uses the secret yet. Every later one only
//! waits: `SecretRotationWorker` brings it into use, tested and with a way back. That somebody wants
//! a rotation stands in the binding, so that a lost event loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::{Principal, Tenant, Time};
use supervisor::activity::Failure;

use crate::runtime::model::ids::label;
use crate::runtime::model::secret::{Requested, check_name, same_variable};
use crate::runtime::model::{EnvironmentId, Fault, RequestKey, Rotation, SecretBinding, SecretBindingId, ServiceId};
use crate::runtime::ports::secrets::{Secret, SecretName, SecretVersions, usable};
use crate::runtime::records::docket::Docket;
use crate::runtime::records::place;
use crate::runtime::store::{self, RuntimeStore, Space};

/// The error name of a secret that is not there.
pub const UNKNOWN: &str = "UnknownSecret";

/// The error name of a secret that cannot go because it is needed.
pub const IN_USE: &str = "SecretInUse";

/// The secrets of one environment.
#[derive(Clone)]
pub struct Secrets {
    store: Arc<dyn RuntimeStore>,
    values: Arc<dyn SecretVersions>,
    owner: Tenant,
    environment: EnvironmentId,
}

/// What came of putting a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is the first one, and counts.
    Current(u64),
    /// It waits for a rotation.
    Pending(u64),
}

fn faulty(fault: Fault) -> Failure {
    Failure::named("BadArguments", fault.to_string())
}

/// Where the value of a secret is kept.
pub fn reference(environment: &EnvironmentId, binding: &SecretBindingId) -> Result<SecretName, Failure> {
    SecretName::new(format!("{environment}/{binding}")).map_err(faulty)
}

impl Secrets {
    /// The secrets of `environment`, which is `owner`'s.
    pub fn new(
        store: Arc<dyn RuntimeStore>,
        values: Arc<dyn SecretVersions>,
        owner: Tenant,
        environment: EnvironmentId,
    ) -> Self {
        Self { store, values, owner, environment }
    }

    fn space(&self) -> Space {
        Space::Of(self.owner.clone())
    }

    fn name(&self, binding: &SecretBindingId) -> String {
        format!("{}/{binding}", place::secrets(&self.environment))
    }

    /// Keeps `value`. The same `token` again keeps it once.
    pub async fn put(
        &self,
        binding: &SecretBindingId,
        token: &RequestKey,
        value: Secret,
        by: &Principal,
        now: Time,
    ) -> Result<Put, Failure> {
        let at = reference(&self.environment, binding)?;
        check_name(binding).map_err(faulty)?;
        named(&*self.store, &self.owner, &self.environment, binding).await?;
        let kept = store::read::<SecretBinding>(&*self.store, &self.space(), &self.name(binding)).await?;
        if kept.is_none() {
            // A value of which there is no record is nobody's: whoever put it was cut off, or it was another tenant's
            // whose environment had that name. It is never taken over.
            self.values.remove(&at).await?;
        }
        let known = self.values.describe(&at).await?;
        if known.as_ref().is_none_or(|known| known.labels.current.is_none()) {
            usable(&value)?;
        }
        let version = self.values.put(&at, token, value).await?;
        let described = self.values.describe(&at).await?.ok_or_else(|| unknown(&self.environment, binding))?;
        let current = match described.labels.current {
            Some(current) => current,
            None => {
                self.values.set_labels(&at, described.labels, described.labels.with_current(version)).await?;
                version
            }
        };
        let waits = described.labels.pending == Some(version) && current != version;
        store::change(&*self.store, &self.space(), &self.name(binding), |there: Option<&SecretBinding>| {
            let mut next = there.cloned().unwrap_or_else(|| SecretBinding {
                secret_binding_id: binding.clone(),
                environment_id: self.environment.clone(),
                reference: at.to_string(),
                version: current,
                rotated_at: now,
                rotation_period: None,
                bound: BTreeSet::new(),
                requested: None,
            });
            if waits {
                next.requested.get_or_insert_with(|| Requested { by: by.clone(), at: now });
            }
            (there != Some(&next)).then_some(next)
        })
        .await?;
        Ok(if waits { Put::Pending(version) } else { Put::Current(version) })
    }

    /// Lets `service` use the secret from its next deployment on, and says how often it is rotated by
    /// itself: `Some(None)` takes the schedule away, `None` leaves it.
    pub async fn bind(
        &self,
        binding: &SecretBindingId,
        service: Option<&ServiceId>,
        every: Option<Option<Duration>>,
    ) -> Result<SecretBinding, Failure> {
        if let Some(service) = service {
            let others = bindings(&*self.store, &self.owner, &self.environment).await?;
            let theirs = others.values().filter(|other| other.bound.contains(service));
            if let Some(fault) = theirs.filter_map(|other| same_variable(binding, &other.secret_binding_id)).next() {
                return Err(faulty(fault));
            }
        }
        let mut fault = None;
        let stands =
            store::change(&*self.store, &self.space(), &self.name(binding), |there: Option<&SecretBinding>| {
                let mut next = there?.clone();
                next.bound.extend(service.cloned());
                next.rotation_period = every.unwrap_or(next.rotation_period);
                fault = next.check().err();
                (fault.is_none() && there != Some(&next)).then_some(next)
            })
            .await?;
        match fault {
            Some(fault) => Err(faulty(fault)),
            None => stands.ok_or_else(|| unknown(&self.environment, binding)),
        }
    }

    /// Lets `service` use the secret no more from its next deployment on. What runs keeps the value that
    /// it was started with. Answers the binding and whether that changed it.
    pub async fn unbind(
        &self,
        binding: &SecretBindingId,
        service: &ServiceId,
    ) -> Result<(SecretBinding, bool), Failure> {
        let mut changed = false;
        let stands =
            store::change(&*self.store, &self.space(), &self.name(binding), |there: Option<&SecretBinding>| {
                let mut next = there?.clone();
                changed = next.bound.remove(service);
                changed.then_some(next)
            })
            .await?;
        stands.map(|stands| (stands, changed)).ok_or_else(|| unknown(&self.environment, binding))
    }

    /// Removes the secret with all its values, for good. Refused while a service is bound to it, or runs with it.
    pub async fn remove(&self, binding: &SecretBindingId) -> Result<(), Failure> {
        let there = store::read::<SecretBinding>(&*self.store, &self.space(), &self.name(binding)).await?;
        let there = there.ok_or_else(|| unknown(&self.environment, binding))?;
        let dockets = place::dockets(&self.environment);
        let dockets = store::read_all::<Docket>(&*self.store, &self.space(), &dockets).await?;
        let runs = dockets.into_iter().map(|(_, docket)| docket.state).filter(|state| {
            let coming = state.under_way.as_ref().and_then(|under_way| under_way.action.coming());
            let mut revisions = state.current.iter().chain(coming);
            revisions.any(|revision| revision.secrets.contains_key(binding))
        });
        let mut users = there.value.bound.clone();
        users.extend(runs.map(|state| state.service_id));
        if let Some(user) = users.first() {
            let Self { environment, .. } = self;
            let why = format!(
                "{binding} is used by {}; unbind it (`skald secret unbind {binding} --environment {environment} --service \
                 {user}`) and deploy what runs with it, or remove the service",
                users.iter().map(ServiceId::as_str).collect::<Vec<_>>().join(", ")
            );
            return Err(Failure::named(IN_USE, why));
        }
        self.forget(binding).await
    }

    /// The same, whoever uses it. Again, and after half of it: what is left is removed.
    pub async fn forget(&self, binding: &SecretBindingId) -> Result<(), Failure> {
        // Values first: what is left then can be removed again.
        self.values.remove(&reference(&self.environment, binding)?).await?;
        store::forget(&*self.store, &self.space(), &place::rotation(&self.environment, binding)).await?;
        Ok(store::forget(&*self.store, &self.space(), &self.name(binding)).await?)
    }

    /// Wants the secret rotated. Answers whether that is new: a rotation that goes on is not asked
    /// for again (W049).
    pub async fn request(&self, binding: &SecretBindingId, by: &Principal, now: Time) -> Result<bool, Failure> {
        let rotating = match self.rotation(binding).await? {
            Some(rotation) => rotation.goes_on(),
            None => false,
        };
        let mut new = false;
        let stands =
            store::change(&*self.store, &self.space(), &self.name(binding), |there: Option<&SecretBinding>| {
                let there = there?;
                new = there.requested.is_none() && !rotating;
                new.then(|| SecretBinding { requested: Some(Requested { by: by.clone(), at: now }), ..there.clone() })
            })
            .await?;
        stands.map(|_| new).ok_or_else(|| unknown(&self.environment, binding))
    }

    /// All of them, by name.
    pub async fn list(&self) -> Result<Vec<SecretBinding>, Failure> {
        Ok(bindings(&*self.store, &self.owner, &self.environment).await?.into_values().collect())
    }

    /// The rotation that goes on, or the last one.
    pub async fn rotation(&self, binding: &SecretBindingId) -> Result<Option<Rotation>, Failure> {
        let name = place::rotation(&self.environment, binding);
        Ok(store::read::<Rotation>(&*self.store, &self.space(), &name).await?.map(|read| read.value))
    }

    /// The version that counts, for whoever checks that the store and the binding agree.
    pub async fn current(&self, binding: &SecretBindingId) -> Result<u64, Failure> {
        let at = reference(&self.environment, binding)?;
        let known = self.values.describe(&at).await?;
        known.and_then(|known| known.labels.current).ok_or_else(|| unknown(&self.environment, binding))
    }
}

/// All secrets of an environment; no value is among what is known of them.
pub async fn bindings(
    store: &dyn RuntimeStore,
    owner: &Tenant,
    environment: &EnvironmentId,
) -> Result<BTreeMap<SecretBindingId, SecretBinding>, Failure> {
    let all = store::read_all::<SecretBinding>(store, &Space::Of(owner.clone()), &place::secrets(environment)).await?;
    Ok(all.into_iter().map(|(_, binding)| (binding.secret_binding_id.clone(), binding)).collect())
}

/// Refuses the name of a secret that is not there and may not be called so.
pub async fn named(
    store: &dyn RuntimeStore,
    owner: &Tenant,
    environment: &EnvironmentId,
    binding: &SecretBindingId,
) -> Result<(), Failure> {
    let name = format!("{}/{binding}", place::secrets(environment));
    match store.get(&Space::Of(owner.clone()), &name).await? {
        Some(_) => Ok(()),
        None => label("secret", binding.as_str()).map_err(faulty),
    }
}

fn unknown(environment: &EnvironmentId, binding: &SecretBindingId) -> Failure {
    let why = format!(
        "there is no secret {binding} in {environment}; keep a value with `skald secret put {binding} --environment \
         {environment}`"
    );
    Failure::named(UNKNOWN, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ports::secrets::sealed::{SealedFiles, Settings};
    use crate::runtime::ports::secrets::{BAD_VALUE, StoredVersions};
    use crate::runtime::store::MemoryStore;
    use supervisor::ports::Clock;

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Time {
            Time::from_micros(1_700_000_000_000_000)
        }
    }

    struct World {
        secrets: Secrets,
        store: Arc<MemoryStore>,
        _dir: tempfile::TempDir,
    }

    async fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let values = SealedFiles::open(Settings::new(dir.path()), Arc::new(Noon)).await.unwrap();
        let values = StoredVersions::new(Arc::new(values));
        let store = Arc::new(MemoryStore::new());
        let dev = EnvironmentId::new("dev").unwrap();
        let secrets = Secrets::new(store.clone(), Arc::new(values), Tenant::new("acme").unwrap(), dev);
        World { secrets, store, _dir: dir }
    }

    fn db() -> SecretBindingId {
        SecretBindingId::new("db").unwrap()
    }

    async fn put(world: &World, token: &str, value: &str) -> Result<Put, Failure> {
        let ann = Principal::new("ann").unwrap();
        let token = RequestKey::new(token).unwrap();
        world.secrets.put(&db(), &token, Secret::new(value), &ann, Noon.now()).await
    }

    #[tokio::test]
    async fn a_secret_goes_by_the_rule_of_all_names() {
        let world = world().await;
        let (ann, token) = (Principal::new("ann").unwrap(), RequestKey::new("a").unwrap());
        let shouted = SecretBindingId::new("DB").unwrap();
        let put = world.secrets.put(&shouted, &token, Secret::new("hunter2"), &ann, Noon.now()).await;
        assert_eq!(put.unwrap_err().error, "BadArguments");
        assert!(world.secrets.current(&shouted).await.is_err(), "and nothing is kept");
    }

    /// A value that was left behind is not the next tenant's who has an environment of that name.
    #[tokio::test]
    async fn what_was_left_behind_is_never_taken_over() {
        let world = world().await;
        put(&world, "a", "hunter2").await.unwrap();
        let others = Arc::new(MemoryStore::new());
        let theirs = Secrets { store: others, owner: Tenant::new("evil").unwrap(), ..world.secrets.clone() };
        let put = async |token: &str, value: &str| {
            let (eve, token) = (Principal::new("eve").unwrap(), RequestKey::new(token).unwrap());
            theirs.put(&db(), &token, Secret::new(value), &eve, Noon.now()).await
        };
        assert_eq!(put("b", "a\0b").await.unwrap_err().error, BAD_VALUE);
        assert_eq!(put("c", "mine").await.unwrap(), Put::Current(1));
        let known = theirs.values.describe(&reference(&theirs.environment, &db()).unwrap()).await.unwrap().unwrap();
        assert_eq!((known.labels.current, known.versions.len()), (Some(1), 1), "nothing else is there");
    }

    /// W049, D602: a value that comes later waits for its rotation, and a repeated command keeps one.
    #[tokio::test]
    async fn the_first_value_counts_and_later_ones_wait() {
        let world = world().await;
        assert_eq!(put(&world, "a", "hunter2").await.unwrap(), Put::Current(1));
        assert_eq!(put(&world, "a", "hunter2").await.unwrap(), Put::Current(1));
        assert_eq!(world.secrets.list().await.unwrap()[0].requested, None);
        assert_eq!(put(&world, "b", "hunter3").await.unwrap(), Put::Pending(2));
        let known = world.secrets.list().await.unwrap().remove(0);
        assert_eq!((known.version, known.requested.is_some()), (1, true));
        assert_eq!(world.secrets.current(&db()).await.unwrap(), 1);
        let kept = world.store.list(&Space::Of(Tenant::new("acme").unwrap()), "secret").await.unwrap();
        let kept = format!("{:?}", kept.iter().map(|(_, it)| it.bytes.clone()).collect::<Vec<_>>());
        assert!(!kept.contains("hunter"), "no value is in the store: {kept}");
    }

    #[tokio::test]
    async fn what_no_process_could_be_given_is_refused_without_being_shown() {
        let world = world().await;
        let refused = put(&world, "a", "hunter2\0").await.unwrap_err();
        assert_eq!(refused.error, BAD_VALUE);
        assert!(!refused.cause.contains("hunter"), "{refused:?}");
        let nobody = world.secrets.bind(&db(), None, None).await.unwrap_err();
        assert_eq!(nobody.error, UNKNOWN);
    }

    #[tokio::test]
    async fn a_wish_for_a_rotation_is_remembered_once() {
        let world = world().await;
        put(&world, "a", "hunter2").await.unwrap();
        let ann = Principal::new("ann").unwrap();
        assert!(world.secrets.request(&db(), &ann, Noon.now()).await.unwrap());
        assert!(!world.secrets.request(&db(), &ann, Noon.now()).await.unwrap());
    }

    #[tokio::test]
    async fn a_schedule_is_not_shorter_than_a_rotation() {
        let world = world().await;
        put(&world, "a", "hunter2").await.unwrap();
        let web = ServiceId::new("web").unwrap();
        let hour = Some(Some(Duration::from_secs(3_600)));
        assert_eq!(world.secrets.bind(&db(), Some(&web), hour).await.unwrap().bound.len(), 1);
        let minute = Some(Some(Duration::from_secs(60)));
        assert_eq!(world.secrets.bind(&db(), None, minute).await.unwrap_err().error, "BadArguments");
        assert_eq!(world.secrets.bind(&db(), None, Some(None)).await.unwrap().rotation_period, None);
    }
}
