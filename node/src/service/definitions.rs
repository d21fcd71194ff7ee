//! Definitions as the node uses them: stored on the bus, checked and compiled once, kept here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use protocol::command::{Deploy, ShowDefinition};
use protocol::{Code, DefinitionRef, Problem, Value};
use serde_json::json;
use supervisor::activities::Activities;
use supervisor::machine::definition::{Definition, Warning};
use supervisor::machine::expression;
use supervisor::ports::{Definitions, Unavailable};
use tracing::info;

use crate::nats::{KvDefinitions, StoredDefinition};

/// How long the latest version of a name is taken for granted. A start that names no version may
/// run the former one for this long, and for one look into the store, after a deployment on another
/// node.
const LATEST_FOR: Duration = Duration::from_secs(1);

/// What a definition may ask.
#[derive(Clone, Copy, Debug)]
pub struct DefinitionLimits {
    /// The longest source that may be deployed, in bytes. What was deployed stays readable.
    pub source_bytes: usize,
    /// What its expressions, values and decisions may cost.
    pub run: expression::Limits,
}

/// The definitions of the cluster.
pub struct DefinitionLibrary {
    store: KvDefinitions,
    activities: Activities,
    limits: DefinitionLimits,
    known: DashMap<DefinitionRef, Arc<Definition>>,
    latest: DashMap<String, (tokio::time::Instant, Arc<Definition>)>,
    /// Held while a name that is not known here is looked up: one look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl DefinitionLibrary {
    /// A library over `store`; `activities` are those of this node, to warn about those nobody
    /// offers.
    pub fn new(store: KvDefinitions, activities: Activities, limits: DefinitionLimits) -> Self {
        Self {
            store,
            activities,
            limits,
            known: DashMap::new(),
            latest: DashMap::new(),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// Checks `deploy`'s source.
    pub fn check(&self, deploy: &Deploy) -> Result<Value, Problem> {
        let (definition, warnings) = self.parse(deploy)?;
        let reference = definition.reference();
        Ok(json!({
            "name": reference.name, "version": 0, "digest": reference.digest, "created": false,
            "warnings": self.warn(&definition, &warnings),
        }))
    }

    /// Checks and stores `deploy`'s source. The same source again is the same version.
    pub async fn deploy(&self, deploy: &Deploy) -> Result<Value, Problem> {
        let (definition, warnings) = self.parse(deploy)?;
        let warnings = self.warn(&definition, &warnings);
        let reference = definition.reference().clone();
        let stored = self.store.deploy(&reference.name, deploy.source.clone().into(), &reference.digest).await;
        let stored = stored.map_err(unavailable)?;
        let definition = Arc::new(definition.with_version(stored.version));
        let reference = definition.reference().clone();
        info!(definition = %reference, new = stored.new, "definition deployed");
        self.known.insert(reference.clone(), definition.clone());
        self.latest.insert(reference.name.to_string(), (tokio::time::Instant::now(), definition));
        Ok(json!({
            "name": reference.name, "version": reference.version, "digest": reference.digest,
            "created": stored.new, "warnings": warnings,
        }))
    }

    fn parse(&self, deploy: &Deploy) -> Result<(Definition, Vec<Warning>), Problem> {
        let file = deploy.file.as_deref().unwrap_or("definition");
        let (bytes, limit) = (deploy.source.len(), self.limits.source_bytes);
        if bytes > limit {
            let problem = Problem::new(Code::TooLarge, format!("the source has {bytes} bytes, the limit is {limit}"));
            return Err(problem.mend("split it: a part that stands on its own can be a saga of its own (saga:NAME)"));
        }
        let read = Definition::parse(&deploy.source, file).map_err(|faults| {
            Problem::new(Code::BadDefinition, faults.to_string())
                .mend("mend each of these and deploy again; `skald definition check FILE` shows them too")
        });
        read.map(|(definition, warnings)| (definition.with_limits(self.limits.run), warnings))
    }

    fn warn(&self, definition: &Definition, warnings: &[Warning]) -> Vec<String> {
        let offered = |name: &&str| self.activities.get(name).is_none();
        let unknown = definition
            .activities()
            .into_iter()
            .filter(offered)
            .map(|name| format!("no activity {name:?} is built into this node: a worker on the bus must serve it"));
        warnings.iter().map(ToString::to_string).chain(unknown).collect()
    }

    /// The version of `name` that a start runs.
    pub async fn pick(&self, name: &str, version: Option<u32>) -> Result<Arc<Definition>, Problem> {
        if let Some(version) = version {
            let stored = self.store.get(name, version).await.map_err(unavailable)?;
            return self.compiled(stored.ok_or_else(|| missing(name, Some(version)))?);
        }
        if let Some(known) = self.fresh(name) {
            return Ok(known);
        }
        // Each look costs the server a consumer, of which it has few: a thousand starts that find
        // nothing here must not look a thousand times.
        let _one = if self.latest.contains_key(name) {
            None
        } else {
            let one = self.looking.lock().await;
            if let Some(known) = self.fresh(name) {
                return Ok(known);
            }
            Some(one)
        };
        let stored = self.store.latest(name).await.map_err(unavailable)?;
        let definition = self.compiled(stored.ok_or_else(|| missing(name, None))?)?;
        self.latest.insert(name.to_owned(), (tokio::time::Instant::now(), definition.clone()));
        Ok(definition)
    }

    /// The latest version of `name`, if it may be taken for granted. Of those who come when it no
    /// longer may, the first is told to look again; the others go on with it meanwhile.
    fn fresh(&self, name: &str) -> Option<Arc<Definition>> {
        let mut known = self.latest.get_mut(name)?;
        if known.0.elapsed() >= LATEST_FOR {
            known.0 = tokio::time::Instant::now();
            return None;
        }
        Some(known.1.clone())
    }

    fn compiled(&self, stored: StoredDefinition) -> Result<Arc<Definition>, Problem> {
        let reference = DefinitionRef {
            name: stored.name.as_str().into(),
            version: stored.version,
            digest: stored.digest.as_str().into(),
        };
        if let Some(known) = self.known.get(&reference) {
            return Ok(known.clone());
        }
        let source = std::str::from_utf8(&stored.source).map_err(|error| broken(&reference, &error))?;
        let (definition, _) = Definition::parse(source, &stored.name).map_err(|faults| broken(&reference, &faults))?;
        let definition = Arc::new(definition.with_version(stored.version).with_limits(self.limits.run));
        self.known.insert(reference, definition.clone());
        Ok(definition)
    }

    /// Every version of every definition, with what it is for.
    pub async fn list(&self) -> Result<Value, Problem> {
        let mut rows = Vec::new();
        for stored in self.store.list().await.map_err(unavailable)? {
            // One that a former release wrote and this one cannot read is still listed.
            let definition = self.pick(&stored.name, Some(stored.version)).await;
            let description = definition.map(|definition| definition.header().description.clone()).unwrap_or_default();
            rows.push(json!({
                "name": stored.name, "version": stored.version, "digest": stored.digest, "description": description,
            }));
        }
        Ok(json!({ "definitions": rows }))
    }

    /// One definition with its source.
    pub async fn show(&self, which: &ShowDefinition) -> Result<Value, Problem> {
        let definition = self.pick(&which.name, which.version).await?;
        let reference = definition.reference();
        Ok(json!({
            "name": reference.name, "version": reference.version, "digest": reference.digest,
            "description": definition.header().description.as_deref().unwrap_or_default(), "source": definition.source(),
        }))
    }
}

#[async_trait]
impl Definitions for DefinitionLibrary {
    async fn get(&self, which: &DefinitionRef) -> Result<Option<Arc<Definition>>, Unavailable> {
        if let Some(known) = self.known.get(which) {
            return Ok(Some(known.clone()));
        }
        let Some(stored) = self.store.get(&which.name, which.version).await? else { return Ok(None) };
        self.compiled(stored).map(Some).map_err(|problem| Unavailable(problem.message))
    }
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
