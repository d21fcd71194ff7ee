//! Environments as stacks of a Pulumi project, by Pulumi's own command line.
//!
//! An environment is the stack of its name. The project, which is not ours, is told what is wanted as
//! configuration (`skald:environment`, `skald:tenant`, `skald:stage`, `skald:region`,
//! `skald:isolation`, `skald:replicas`, `skald:memoryBytes` and `skald:cpuMillis`; the last two are
//! empty where nobody said them), and what its stack puts out are the outputs. A quota is kept here as
//! well, and told in the state.
//!
//! What would be done is asked again right before it is done, and must be what was shown; Pulumi is
//! then held to it by a saved plan. A value that is a secret is not shown, so that another secret
//! value alone makes no other preview. A preview makes the empty stack: it has no resource, and does
//! not count as there.
//!
//! Where it was begun stands in a state file beside, changed under a lock and replaced as a whole.
//! Several processes of one machine may share it; several machines may not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use supervisor::activity::Failure;

pub mod cli;
mod digest;
mod record;

use super::{Change, Outputs, Plan, Preview, PreviewId, Provisioned, Provisioner, Quota, Wanted};
use crate::runtime::durable;
use crate::runtime::model::{EnvironmentId, Fault};
use crate::runtime::ports::blocking::blocking;
use cli::{Cli, text};
use record::{Book, Record, Unfinished};

/// What the provisioner may be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where its own state is.
    pub dir: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// The directory with the project's `Pulumi.yaml`.
    pub project: PathBuf,
    /// All that Pulumi finds in its environment.
    pub variables: BTreeMap<String, String>,
    /// How long one command may take. Clouds take minutes.
    pub time: Duration,
}

/// The provisioner.
#[derive(Debug, Clone)]
pub struct Pulumi {
    dir: Arc<PathBuf>,
    cli: Arc<Cli>,
}

fn disk(error: std::io::Error) -> Failure {
    Failure::transient("provisioning on the disk", error)
}

fn bad(fault: Fault) -> Failure {
    Failure::named("BadPlan", fault.to_string())
}

impl Pulumi {
    /// One with `settings`. The directory is made when it is not there.
    pub fn open(settings: Settings) -> Result<Self, Failure> {
        std::fs::create_dir_all(&settings.dir).map_err(disk)?;
        let Settings { dir, program, project, variables, time } = settings;
        Ok(Self { dir: Arc::new(dir), cli: Arc::new(Cli { program, project, variables, time }) })
    }

    fn book(&self) -> Result<Book, Failure> {
        let file = self.dir.join("pulumi.json");
        let Some(bytes) = durable::read(&file).map_err(disk)? else { return Ok(Book::default()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            let why = format!("{} cannot be read: {error}; put it back from a backup", file.display());
            Failure::named("StateDamaged", why)
        })
    }

    /// Changes the book, alone.
    async fn note(&self, change: impl FnOnce(&mut Book) + Send + 'static) -> Result<(), Failure> {
        let this = self.clone();
        blocking("writing the state", move || {
            let _alone = durable::lock(&this.dir.join("pulumi.lock")).map_err(disk)?;
            let mut book = this.book()?;
            change(&mut book);
            let bytes = serde_json::to_vec_pretty(&book).map_err(|e| Failure::permanent("writing the state", e))?;
            durable::write(&this.dir.join("pulumi.json"), &bytes).map_err(disk)
        })
        .await
    }

    /// Keeps others from the stack of `id` until the answer is dropped.
    async fn alone(&self, id: &EnvironmentId) -> Result<std::fs::File, Failure> {
        let path = self.dir.join(format!("{id}.lock"));
        blocking("waiting for the stack", move || durable::lock(&path).map_err(disk)).await
    }

    fn plan_file(&self, id: &EnvironmentId) -> PathBuf {
        self.dir.join(format!("{id}.plan.json"))
    }

    async fn record(&self, id: &EnvironmentId) -> Result<Option<Record>, Failure> {
        let (this, id) = (self.clone(), id.clone());
        blocking("reading the state", move || Ok(this.book()?.environments.get(&id).cloned())).await
    }

    /// What would be done; of something that is wanted, a plan that holds Pulumi to it lies in the
    /// plan file.
    async fn intend(&self, plan: &Plan, record: Option<&Record>) -> Result<Preview, Failure> {
        plan.check().map_err(bad)?;
        let now = record.and_then(|record| record.present.as_ref());
        if let Some(now) = now {
            now.environment.may_become(&plan.environment).map_err(bad)?;
        }
        let id = &plan.environment.environment_id;
        let mut changes = match &plan.wanted {
            Wanted::Present { quota } => {
                self.cli.done(&["stack", "select", "--create", "--stack", id.as_str()]).await?;
                let (file, config) = (self.plan_file(id), configuration(plan, quota));
                let mut words = vec!["preview", "--json", "--stack", id.as_str(), "--save-plan", text(&file)?];
                words.extend(config.iter().flat_map(|pair| ["--config", pair.as_str()]));
                digest::preview(&self.cli.done(&words).await?)?
            }
            Wanted::Absent => match self.stack(id).await? {
                true => digest::there_now(&self.cli.done(&["stack", "export", "--stack", id.as_str()]).await?)?,
                false => Vec::new(),
            },
        };
        let quota = match &plan.wanted {
            Wanted::Present { quota } => Some(*quota),
            Wanted::Absent => None,
        };
        changes.extend(quota_changes(now.map(|now| now.quota), quota));
        let revision = record.map_or(0, |record| record.revision);
        Ok(Preview { id: PreviewId::of(&(plan, &changes, revision))?, changes })
    }

    /// Whether there is a stack for `id`.
    async fn stack(&self, id: &EnvironmentId) -> Result<bool, Failure> {
        let answer = self.cli.run(&["stack", "select", "--stack", id.as_str()]).await?;
        match answer.ok {
            false if !answer.said.contains("no stack named") => Err(cli::refusal(&answer)),
            there => Ok(there),
        }
    }

    /// Does what was decided, and answers the outputs.
    async fn carry_out(&self, plan: &Plan, held: bool) -> Result<Outputs, Failure> {
        let id = &plan.environment.environment_id;
        match &plan.wanted {
            Wanted::Present { quota } => {
                let (file, config) = (self.plan_file(id), configuration(plan, quota));
                let mut words = vec!["up", "--yes", "--json", "--skip-preview", "--stack", id.as_str()];
                if held {
                    words.extend(["--plan", text(&file)?]);
                }
                words.extend(config.iter().flat_map(|pair| ["--config", pair.as_str()]));
                self.cli.done(&words).await?;
                // It may hold what is secret.
                durable::remove(&file).map_err(disk)?;
                digest::outputs(&self.cli.done(&["stack", "output", "--json", "--stack", id.as_str()]).await?)
            }
            Wanted::Absent => {
                if self.stack(id).await? {
                    self.cli.done(&["destroy", "--yes", "--json", "--skip-preview", "--stack", id.as_str()]).await?;
                    self.cli.done(&["stack", "rm", "--yes", "--stack", id.as_str()]).await?;
                }
                Ok(Outputs::new())
            }
        }
    }
}

/// What the project is told.
fn configuration(plan: &Plan, quota: &Quota) -> Vec<String> {
    let environment = &plan.environment;
    let said = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    [
        ("environment", environment.environment_id.to_string()),
        ("tenant", environment.tenant_id.to_string()),
        ("stage", word(&environment.stage)),
        ("region", environment.region.clone()),
        ("isolation", word(&environment.isolation_model)),
        ("replicas", quota.replicas.to_string()),
        ("memoryBytes", said(quota.memory_bytes)),
        ("cpuMillis", said(quota.cpu_millis.map(u64::from))),
    ]
    .into_iter()
    .map(|(name, value)| format!("skald:{name}={value}"))
    .collect()
}

/// A value as it is written at the edge.
fn word(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned));
    text.unwrap_or_default()
}

fn quota_changes(from: Option<Quota>, to: Option<Quota>) -> Vec<Change> {
    let of = |what: fn(Quota) -> Option<u64>| {
        (from.and_then(what).map(|n| n.to_string()), to.and_then(what).map(|n| n.to_string()))
    };
    let all = [
        ("quota.replicas", of(|quota| Some(quota.replicas.into()))),
        ("quota.memoryBytes", of(|quota| quota.memory_bytes)),
        ("quota.cpuMillis", of(|quota| quota.cpu_millis.map(u64::from))),
    ];
    let differs = all.into_iter().filter(|(_, (from, to))| from != to);
    differs.map(|(resource, (from, to))| Change { resource: resource.to_owned(), from, to }).collect()
}

fn changed(preview: &Preview) -> Failure {
    let changes: Vec<String> = preview.changes.iter().map(ToString::to_string).collect();
    let now = if changes.is_empty() { "nothing".into() } else { changes.join(", ") };
    Failure::named("PreviewChanged", format!("what would change now is: {now}; decide on a new preview"))
}

#[async_trait]
impl Provisioner for Pulumi {
    async fn preview(&self, plan: &Plan) -> Result<Preview, Failure> {
        plan.check().map_err(bad)?;
        let id = &plan.environment.environment_id;
        let _alone = self.alone(id).await?;
        let preview = self.intend(plan, self.record(id).await?.as_ref()).await;
        // Only the one that is made right before it is applied is needed, and it may hold what is secret.
        durable::remove(&self.plan_file(id)).map_err(disk)?;
        preview
    }

    async fn apply(&self, plan: &Plan, preview: &PreviewId) -> Result<Outputs, Failure> {
        plan.check().map_err(bad)?;
        let id = &plan.environment.environment_id;
        let _alone = self.alone(id).await?;
        let record = self.record(id).await?;
        let wanted = Unfinished { preview: preview.clone(), plan: plan.clone() };
        let begun = record.as_ref().is_some_and(|record| record.unfinished.as_ref() == Some(&wanted));
        if !begun {
            let intent = self.intend(plan, record.as_ref()).await?;
            if intent.id != *preview {
                let done = record.as_ref().is_some_and(|record| record.applied.as_ref() == Some(preview));
                let there = record.and_then(|record| record.present).map(|present| present.outputs);
                durable::remove(&self.plan_file(id)).map_err(disk)?;
                return match done && intent.changes.is_empty() {
                    true => Ok(there.unwrap_or_default()),
                    false => Err(changed(&intent)),
                };
            }
            let name = id.clone();
            self.note(move |book| book.environments.entry(name).or_default().unfinished = Some(wanted)).await?;
        }
        // What was begun goes on to its end; what is left of it is another plan than the one shown.
        let outputs = self.carry_out(plan, !begun).await?;
        let (told, plan, preview) = (outputs.clone(), plan.clone(), preview.clone());
        self.note(move |book| book.finish(&plan, &preview, told)).await?;
        Ok(outputs)
    }

    async fn state(&self, environment: &EnvironmentId) -> Result<Option<Provisioned>, Failure> {
        Ok(self.record(environment).await?.and_then(|record| {
            let present = record.present?;
            let (environment, quota, outputs) = (present.environment, present.quota, present.outputs);
            Some(Provisioned { environment, quota, outputs, revision: record.revision })
        }))
    }
}

#[cfg(test)]
mod tests;
