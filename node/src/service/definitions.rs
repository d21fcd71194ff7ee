//! Definitions as the node uses them: stored on the bus, checked and compiled once, kept here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use protocol::command::{Deploy, ShowDefinition};
use protocol::{Code, DefinitionRef, Principal, Problem, Tenant, Time, Value};
use serde_json::json;
use supervisor::activities::Activities;
use supervisor::machine::definition::{Access, Definition, Warning};
use supervisor::machine::expression;
use supervisor::ports::{Clock, Definitions, Unavailable};
use supervisor::tree::own::OWN;
use supervisor::tree::turns::Turns;
use tracing::{debug, error, info};

use super::AUDIT;
use crate::nats::{Deployer, KvDefinitions, Pins, StoredDefinition};
use crate::node::SystemClock;

/// How long the latest version of a name is taken for granted. A start that names no version may
/// run the former one for this long, and for one look into the store, after a deployment on another
/// node.
const LATEST_FOR: Duration = Duration::from_secs(1);

/// What a definition may ask.
#[derive(Clone, Copy, Debug)]
pub struct DefinitionLimits {
    /// The longest source that may be deployed, in bytes. What was deployed stays readable.
    pub source_bytes: usize,
    /// Versions of definitions that one tenant may have.
    pub per_tenant: usize,
    /// What its expressions, values and decisions may cost.
    pub run: expression::Limits,
}

/// Whose definition, and its name.
type Space = (Option<Tenant>, String);

/// The definitions of the cluster. A tenant sees its own and what is built in; a name that is built
/// in is nobody's own.
pub struct DefinitionLibrary {
    store: KvDefinitions,
    activities: Activities,
    limits: DefinitionLimits,
    known: DashMap<DefinitionRef, Arc<Definition>>,
    latest: DashMap<Space, (tokio::time::Instant, Arc<Definition>)>,
    /// Principals who may deploy; `*` for everyone.
    deployers: Vec<String>,
    /// What comes with the program.
    built_in: Vec<Deploy>,
    /// Held while a name that is not known here is looked up: one look at a time.
    looking: tokio::sync::Mutex<()>,
    /// Reading a definition may take as long as many decisions, and takes turns with them.
    turns: Arc<Turns>,
}

impl DefinitionLibrary {
    /// A library over `store`; `activities` are those of this node, to warn about those nobody
    /// offers; `deployers` are principals, `*` for everyone of a tenant; `built_in` is what comes with
    /// the program, and is in the store only once [`Self::build_in`] was called.
    pub fn new(
        store: KvDefinitions,
        activities: Activities,
        deployers: Vec<String>,
        built_in: Vec<Deploy>,
        limits: DefinitionLimits,
        turns: Arc<Turns>,
    ) -> Self {
        let (known, latest, looking) = (DashMap::new(), DashMap::new(), tokio::sync::Mutex::new(()));
        Self { store, activities, limits, known, latest, deployers, built_in, looking, turns }
    }

    /// Checks `deploy`'s source, as one of `tenant`'s.
    pub async fn check(&self, tenant: &Tenant, deploy: Deploy) -> Result<Value, Problem> {
        let (definition, warnings) = self.parse(tenant, deploy).await?;
        let (_, missing) = self.pins(Some(tenant), &definition).await?;
        let reference = definition.reference();
        Ok(json!({
            "name": reference.name, "version": 0, "digest": reference.digest, "created": false,
            "warnings": self.warn(&definition, &warnings, &missing),
        }))
    }

    /// Checks `deploy`'s source and stores it as one of `tenant`'s. The same source again, with the same children, is the
    /// same version.
    pub async fn deploy(&self, tenant: &Tenant, by: &Principal, deploy: &Deploy, at: Time) -> Result<Value, Problem> {
        if !Access::allows(&self.deployers, by.as_str()) {
            let what = format!("{by} may not deploy definitions");
            return Err(Problem::new(Code::Forbidden, what).mend("ask whom the setting definitions.deployers names"));
        }
        let (definition, warnings) = self.parse(tenant, deploy.clone()).await?;
        let (pins, missing) = self.pins(Some(tenant), &definition).await?;
        let warnings = self.warn(&definition, &warnings, &missing);
        let name = definition.reference().name.clone();
        if self.store.latest(None, &name).await.map_err(unavailable)?.is_some() {
            let what = format!("{name} is built in, for every tenant, and cannot be deployed over");
            return Err(Problem::new(Code::Conflict, what).mend("give the definition another name"));
        }
        let deployer = Deployer { by: format!("{tenant}/{by}"), at };
        let digest = definition.reference().digest.clone();
        let latest = self.store.latest(Some(tenant), &name).await.map_err(unavailable)?;
        if latest.is_none_or(|latest| *latest.digest != *digest || latest.pins != pins) {
            self.has_room(tenant).await?;
        }
        let made = (&*digest, &pins);
        let stored = self.store.deploy(Some(tenant), &name, deploy.source.clone().into(), made, &deployer).await;
        let stored = stored.map_err(unavailable)?;
        let definition = definition.owned_by(Some(tenant.clone())).with_version(stored.version);
        let definition = Arc::new(pinned(definition, pins));
        let reference = definition.reference().clone();
        if stored.new {
            info!(target: AUDIT, definition = %reference, by = deployer.by, at = %deployer.at, "definition deployed");
        } else {
            debug!(definition = %reference, by = deployer.by, "definition deployed before");
        }
        self.known.insert(reference.clone(), definition.clone());
        self.latest.insert((Some(tenant.clone()), name.to_string()), (tokio::time::Instant::now(), definition));
        Ok(json!({
            "name": reference.name, "version": reference.version, "digest": reference.digest,
            "created": stored.new, "warnings": warnings,
        }))
    }

    /// Puts back into the store every version that this node knows and the store has lost, and what comes
    /// with the program. A tenant's that no node has run stays lost: it must be deployed again.
    pub async fn put_back(&self, by: &Deployer) -> Result<usize, Problem> {
        let known: Vec<_> = self.known.iter().map(|entry| entry.value().clone()).collect();
        let mut count = 0;
        for definition in known {
            let reference = definition.reference();
            let mut pins = definition.pins().clone();
            if let Some(own) = pins.get_mut(&reference.name) {
                own.version = 0;
            }
            let (tenant, name) = (reference.tenant.as_ref(), &*reference.name);
            let (source, made) = (definition.source().to_owned().into(), (&*reference.digest, &pins));
            let put = self.store.put_back(tenant, name, reference.version, source, made, by).await;
            count += usize::from(put.map_err(unavailable)?);
        }
        count += self.build_in(by).await?;
        self.latest.clear();
        Ok(count)
    }

    /// Checks and stores what comes with the program, unless any version is this very source; answers
    /// how many it stored.
    pub async fn build_in(&self, by: &Deployer) -> Result<usize, Problem> {
        let mut count = 0;
        for deploy in &self.built_in {
            let (definition, _) = self.parse(&own_tenant()?, deploy.clone()).await?;
            let reference = definition.reference();
            let (pins, _) = self.pins(None, &definition).await?;
            let known = self.store.built_in(&reference.name, &reference.digest, &pins).await.map_err(unavailable)?;
            if known.is_none() {
                let (source, made) = (deploy.source.clone().into(), (&*reference.digest, &pins));
                let stored = self.store.deploy(None, &reference.name, source, made, by).await;
                let version = stored.map_err(unavailable)?.version;
                info!(definition = %reference.name, version, "built-in definition stored");
                count += 1;
            }
        }
        Ok(count)
    }

    async fn parse(&self, tenant: &Tenant, deploy: Deploy) -> Result<(Definition, Vec<Warning>), Problem> {
        let (bytes, limit) = (deploy.source.len(), self.limits.source_bytes);
        if bytes > limit {
            let problem = Problem::new(Code::TooLarge, format!("the source has {bytes} bytes, the limit is {limit}"));
            return Err(problem.mend("split it: a part that stands on its own can be a saga of its own (saga:NAME)"));
        }
        let read = move || Definition::parse(&deploy.source, deploy.file.as_deref().unwrap_or("definition"));
        let read = self.turns.at_length(tenant, read).await.ok_or_else(panicked)?.map_err(|faults| {
            Problem::new(Code::BadDefinition, faults.to_string())
                .mend("mend each of these and deploy again; `skald definition check FILE` shows them too")
        });
        read.map(|(definition, warnings)| (definition.with_limits(self.limits.run), warnings))
    }

    /// The newest versions there are of the children of `definition`, which is `tenant`'s, and the names
    /// of those that are not there. The store is asked, not what is known here: another node may have
    /// taken a deployment a moment ago.
    async fn pins(&self, tenant: Option<&Tenant>, definition: &Definition) -> Result<(Pins, Vec<String>), Problem> {
        let own = definition.reference();
        let (mut pins, mut missing) = (Pins::new(), Vec::new());
        for name in definition.children() {
            if *name == own.name {
                // The version that it is about to become.
                pins.insert(name.clone(), DefinitionRef { version: 0, tenant: tenant.cloned(), ..own.clone() });
                continue;
            }
            // In this order, as a start looks for them.
            let mut found = self.store.latest(None, name).await.map_err(unavailable)?;
            if found.is_none() && tenant.is_some() {
                found = self.store.latest(tenant, name).await.map_err(unavailable)?;
            }
            match found {
                Some(found) => drop(pins.insert(name.clone(), reference_of(&found))),
                None => missing.push(name.to_string()),
            }
        }
        Ok((pins, missing))
    }

    /// Whether `tenant` may have one more version.
    async fn has_room(&self, tenant: &Tenant) -> Result<(), Problem> {
        let all = self.store.list(tenant).await.map_err(unavailable)?;
        let (own, limit) = (all.iter().filter(|it| it.tenant.is_some()).count(), self.limits.per_tenant);
        if own < limit {
            return Ok(());
        }
        let message =
            format!("{tenant} has {own} versions of definitions, and may have {limit} (limits.definitions_per_tenant)");
        Err(Problem::new(Code::Quota, message).mend("ask the operator of the nodes for more room"))
    }

    fn warn(&self, definition: &Definition, warnings: &[Warning], missing: &[String]) -> Vec<String> {
        let offered = |name: &&str| self.activities.get(name).is_none();
        let unknown = definition
            .activities()
            .into_iter()
            .filter(offered)
            .map(|name| format!("no activity {name:?} is built into this node: a worker on the bus must serve it"));
        let unborn = missing.iter().map(|name| {
            format!("there is no definition {name:?} yet: the newest is looked up each time saga:{name} is started")
        });
        warnings.iter().map(ToString::to_string).chain(unknown).chain(unborn).collect()
    }

    /// The version of `name` that a start by `tenant` runs.
    pub async fn pick(&self, tenant: &Tenant, name: &str, version: Option<u32>) -> Result<Arc<Definition>, Problem> {
        // In this order, so that nobody's own shadows what is built in.
        let spaces: [Space; 2] = [(None, name.to_owned()), (Some(tenant.clone()), name.to_owned())];
        if let Some(version) = version {
            for (whose, _) in &spaces {
                if let Some(stored) = self.store.get(whose.as_ref(), name, version).await.map_err(unavailable)? {
                    return self.compiled(stored).await;
                }
            }
            return Err(self.missing(name, Some(version)).await);
        }
        let fresh = || spaces.iter().find_map(|space| self.fresh(space));
        if let Some(known) = fresh() {
            return Ok(known);
        }
        // Each look costs the server a consumer, of which it has few: a thousand starts that find
        // nothing here must not look a thousand times.
        let _one = if spaces.iter().any(|space| self.latest.contains_key(space)) {
            None
        } else {
            let one = self.looking.lock().await;
            if let Some(known) = fresh() {
                return Ok(known);
            }
            Some(one)
        };
        for space in &spaces {
            if let Some(stored) = self.store.latest(space.0.as_ref(), name).await.map_err(unavailable)? {
                let definition = self.compiled(stored).await?;
                self.latest.insert(space.clone(), (tokio::time::Instant::now(), definition.clone()));
                return Ok(definition);
            }
        }
        // Nobody takes a definition back: the store was lost, and what this node knows is being put there again.
        let known = spaces.iter().find_map(|space| self.latest.get(space).map(|known| known.1.clone()));
        match known {
            Some(known) => Ok(known),
            None => Err(self.missing(name, None).await),
        }
    }

    /// Exactly this version, for a start that is pinned to it.
    pub async fn exactly(&self, which: &DefinitionRef) -> Result<Arc<Definition>, Problem> {
        let found = self.get(which).await.map_err(unavailable)?;
        match found {
            Some(found) => Ok(found),
            None => Err(self.missing(&which.name, Some(which.version)).await),
        }
    }

    /// Why a definition that is not in the store cannot be had: it may be on its way back there.
    async fn missing(&self, name: &str, version: Option<u32>) -> Problem {
        let now = SystemClock.now();
        match self.store.is_being_refilled(now).await {
            Ok(false) => missing(name, version),
            Ok(true) => unavailable(Unavailable("the store of definitions was lost and is being filled again".into())),
            Err(error) => unavailable(error),
        }
    }

    /// The latest version in `space`, if it may be taken for granted. Of those who come when it no
    /// longer may, the first is told to look again; the others go on with it meanwhile.
    fn fresh(&self, space: &Space) -> Option<Arc<Definition>> {
        let mut known = self.latest.get_mut(space)?;
        if known.0.elapsed() >= LATEST_FOR {
            known.0 = tokio::time::Instant::now();
            return None;
        }
        Some(known.1.clone())
    }

    async fn compiled(&self, stored: StoredDefinition) -> Result<Arc<Definition>, Problem> {
        let reference = reference_of(&stored);
        if let Some(known) = self.known.get(&reference) {
            return Ok(known.clone());
        }
        let StoredDefinition { tenant, name, version, digest, pins, source, .. } = stored;
        let whose = tenant.clone().map_or_else(own_tenant, Ok)?;
        let read = move || match std::str::from_utf8(&source) {
            Ok(source) => Definition::parse_stored(source, &name).map_err(|faults| faults.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let definition = self.turns.at_length(&whose, read).await.ok_or_else(panicked)?;
        let definition = definition.map_err(|why| broken(&reference, &why))?;
        if definition.digest() != digest {
            return Err(broken(&reference, &format!("its source has the digest {}", definition.digest())));
        }
        let definition = definition.owned_by(tenant).with_version(version).with_limits(self.limits.run);
        let definition = Arc::new(pinned(definition, pins));
        self.known.insert(reference, definition.clone());
        Ok(definition)
    }

    /// Every version of every definition that `tenant` sees, with what it is for.
    pub async fn list(&self, tenant: &Tenant) -> Result<Value, Problem> {
        let mut rows = Vec::new();
        for stored in self.store.list(tenant).await.map_err(unavailable)? {
            // One that a former release wrote and this one cannot read is still listed.
            let definition = self.pick(tenant, &stored.name, Some(stored.version)).await;
            let description = definition.map(|definition| definition.header().description.clone()).unwrap_or_default();
            rows.push(json!({
                "name": stored.name, "version": stored.version, "digest": stored.digest, "description": description,
                "builtIn": stored.tenant.is_none(),
                "deployedBy": stored.deployed_by, "deployedAt": stored.deployed_at,
            }));
        }
        Ok(json!({ "definitions": rows }))
    }

    /// One definition that `tenant` sees, with its source, and who deployed it.
    pub async fn show(&self, tenant: &Tenant, which: &ShowDefinition) -> Result<Value, Problem> {
        let definition = self.pick(tenant, &which.name, which.version).await?;
        let reference = definition.reference();
        let stored =
            self.store.get(reference.tenant.as_ref(), &reference.name, reference.version).await.map_err(unavailable)?;
        let (by, at) = stored.map(|stored| (stored.deployed_by, stored.deployed_at)).unwrap_or_default();
        Ok(json!({
            "name": reference.name, "version": reference.version, "digest": reference.digest,
            "description": definition.header().description.as_deref().unwrap_or_default(), "source": definition.source(),
            "deployedBy": by, "deployedAt": at,
        }))
    }
}

#[async_trait]
impl Definitions for DefinitionLibrary {
    async fn get(&self, which: &DefinitionRef) -> Result<Option<Arc<Definition>>, Unavailable> {
        if let Some(known) = self.known.get(which) {
            return Ok(Some(known.clone()));
        }
        let (tenant, name) = (which.tenant.as_ref(), &*which.name);
        let stored = self.store.get(tenant, name, which.version).await?.filter(|stored| stored.digest == *which.digest);
        let stored = match stored {
            Some(stored) => Some(stored),
            // The store was lost, and the same source has another number now: it is the same text. A saga
            // never runs another one than it was started with.
            None => self.store.with_digest(tenant, name, &which.digest).await?,
        };
        let Some(stored) = stored else { return Ok(None) };
        let stored = StoredDefinition { version: which.version, ..stored };
        // One that this release cannot read is as good as lost: asking again would not help.
        Ok(self
            .compiled(stored)
            .await
            .inspect_err(|problem| error!(definition = %which, %problem, "definition lost"))
            .ok())
    }

    fn deployers(&self) -> Vec<String> {
        self.deployers.clone()
    }
}

/// Built-in definitions are nobody's: reading them takes the runtime's own turns.
fn own_tenant() -> Result<Tenant, Problem> {
    Tenant::new(OWN).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

fn panicked() -> Problem {
    Problem::new(Code::Internal, "reading the definition failed; the log of the node says why")
}

fn reference_of(stored: &StoredDefinition) -> DefinitionRef {
    DefinitionRef {
        tenant: stored.tenant.clone(),
        name: stored.name.as_str().into(),
        version: stored.version,
        digest: stored.digest.as_str().into(),
    }
}

/// The definition with its pins; its own version, where it starts itself.
fn pinned(definition: Definition, mut pins: Pins) -> Definition {
    let own = definition.reference().clone();
    if let Some(pin) = pins.get_mut(&own.name) {
        *pin = own;
    }
    definition.with_pins(pins)
}

fn missing(name: &str, version: Option<u32>) -> Problem {
    let what = version.map_or_else(|| name.to_owned(), |version| format!("{name} v{version}"));
    Problem::new(Code::NotFound, format!("there is no definition {what}"))
        .mend("`skald definition list` shows what is deployed, `skald definition deploy FILE` deploys one")
}

fn broken(which: &DefinitionRef, why: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, format!("the stored definition {which} cannot be read by this release: {why}"))
}

fn unavailable(error: Unavailable) -> Problem {
    Problem::new(Code::Unavailable, format!("the definition store cannot be reached: {error}")).retry_after_ms(500)
}
