//! Environments on this machine: a directory, a port for the gateway, and a quota.
//!
//! What is there stands in one state file, changed under a lock and replaced as a whole. Before
//! anything is made or removed, the file says so: after a crash the same preview is applied to its
//! end. The quota is kept here and told in the state; whoever starts workloads holds them to it.

use std::fs::{self, DirBuilder};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use supervisor::activity::Failure;

mod record;

use super::{Change, Outputs, Plan, Preview, PreviewId, Provisioned, Provisioner, Wanted};
use crate::runtime::durable;
use crate::runtime::model::{EnvironmentId, Fault};
use crate::runtime::ports::blocking::blocking;
use record::{Book, Record, Unfinished};

/// What the provisioner may be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the directories and the state file are. Several processes may share it.
    pub dir: PathBuf,
    /// The ports for gateways; below the range that Linux gives out by itself (32768 on).
    pub ports: RangeInclusive<u16>,
    /// The most environments. One machine serves some tens; more is a mistake in a loop.
    pub environments: usize,
}

impl Settings {
    /// Everything below `dir`, with the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), ports: 20_000..=20_999, environments: 500 }
    }
}

/// The provisioner.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Arc<Settings>,
}

fn disk(error: std::io::Error) -> Failure {
    Failure::transient("provisioning on the disk", error)
}

fn bad(fault: Fault) -> Failure {
    Failure::named("BadPlan", fault.to_string())
}

/// What would be done, and to what.
struct Intent {
    preview: Preview,
    port: Option<u16>,
}

impl Machine {
    /// One with `settings`. The directory is made when it is not there.
    pub fn open(settings: Settings) -> Result<Self, Failure> {
        fs::create_dir_all(&settings.dir).map_err(disk)?;
        Ok(Self { settings: Arc::new(settings) })
    }

    fn place(&self, environment: &EnvironmentId) -> PathBuf {
        self.settings.dir.join("environments").join(environment.as_str())
    }

    fn file(&self) -> PathBuf {
        self.settings.dir.join("provisioned.json")
    }

    fn book(&self) -> Result<Book, Failure> {
        let Some(bytes) = durable::read(&self.file()).map_err(disk)? else { return Ok(Book::default()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            let why = format!("{} cannot be read: {error}; put it back from a backup", self.file().display());
            Failure::named("StateDamaged", why)
        })
    }

    fn keep(&self, book: &Book) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(book).map_err(|error| Failure::permanent("writing the state", error))?;
        durable::write(&self.file(), &bytes).map_err(disk)
    }

    fn intend(&self, book: &Book, plan: &Plan) -> Result<Intent, Failure> {
        plan.check().map_err(bad)?;
        let id = &plan.environment.environment_id;
        let record = book.environments.get(id);
        let now = record.and_then(|record| record.present.as_ref());
        if let Some(now) = now {
            now.environment.may_become(&plan.environment).map_err(bad)?;
        }
        let place = self.place(id);
        let there = place.try_exists().map_err(disk)?.then(|| place.display().to_string());
        let mut changes = Vec::new();
        let mut change = |resource: &str, from: Option<String>, to: Option<String>| {
            if from != to {
                changes.push(Change { resource: resource.into(), from, to });
            }
        };
        let port = match (&plan.wanted, now) {
            (Wanted::Absent, _) => None,
            (Wanted::Present { .. }, Some(now)) => Some(now.port),
            (Wanted::Present { .. }, None) => Some(self.free_port(book, record)?),
        };
        let quota = match &plan.wanted {
            Wanted::Absent => None,
            Wanted::Present { quota } => Some(*quota),
        };
        change("directory", there, port.map(|_| place.display().to_string()));
        change("gatewayPort", now.map(|now| now.port.to_string()), port.map(|port| port.to_string()));
        let before = now.map(|now| now.quota);
        let part = |what: &dyn Fn(super::Quota) -> Option<u64>| {
            (before.and_then(what).map(|n| n.to_string()), quota.and_then(what).map(|n| n.to_string()))
        };
        let (from, to) = part(&|quota| Some(quota.replicas.into()));
        change("quota.replicas", from, to);
        let (from, to) = part(&|quota| quota.memory_bytes);
        change("quota.memoryBytes", from, to);
        let (from, to) = part(&|quota| quota.cpu_millis.map(u64::from));
        change("quota.cpuMillis", from, to);
        if now.is_none() && port.is_some() && book.present() >= self.settings.environments {
            let why = format!("there are {} environments, which is the limit", self.settings.environments);
            return Err(Failure::named("TooManyEnvironments", why));
        }
        let revision = record.map_or(0, |record| record.revision);
        Ok(Intent { preview: Preview { id: PreviewId::of(&(plan, &changes, revision))?, changes }, port })
    }

    /// The lowest port that is nobody's.
    fn free_port(&self, book: &Book, own: Option<&Record>) -> Result<u16, Failure> {
        if let Some(port) = own.and_then(|own| own.unfinished.as_ref()).and_then(|unfinished| unfinished.port) {
            return Ok(port);
        }
        let taken = book.ports();
        let free = |port: &u16| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        self.settings.ports.clone().find(free).ok_or_else(|| {
            let (from, to) = (self.settings.ports.start(), self.settings.ports.end());
            Failure::named("NoFreePort", format!("no port from {from} to {to} is free; widen the range"))
        })
    }

    fn apply_now(&self, plan: &Plan, preview: &PreviewId) -> Result<Outputs, Failure> {
        let _alone = durable::lock(&self.settings.dir.join("provisioned.lock")).map_err(disk)?;
        let mut book = self.book()?;
        let id = &plan.environment.environment_id;
        let intent = self.intend(&book, plan)?;
        let record = book.environments.get(id);
        let begun = record.and_then(|record| record.unfinished.as_ref()).filter(|begun| begun.preview == *preview);
        let done = record.is_some_and(|record| record.applied.as_ref() == Some(preview));
        let port = match begun {
            Some(begun) => begun.port,
            None if intent.preview.id == *preview => intent.port,
            None if done && intent.preview.changes.is_empty() => return Ok(self.outputs(&book, id)),
            None => return Err(changed(&intent.preview)),
        };
        let record = book.environments.entry(id.clone()).or_default();
        record.unfinished = Some(Unfinished { preview: preview.clone(), port });
        self.keep(&book)?;
        self.make_or_remove(id, port)?;
        book.finish(plan, preview, port);
        self.keep(&book)?;
        Ok(self.outputs(&book, id))
    }

    /// Repeating either does nothing.
    fn make_or_remove(&self, id: &EnvironmentId, port: Option<u16>) -> Result<(), Failure> {
        let place = self.place(id);
        match port {
            Some(_) => DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(disk),
            None => match fs::remove_dir_all(&place) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk(error)),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    fn outputs(&self, book: &Book, id: &EnvironmentId) -> Outputs {
        let present = book.environments.get(id).and_then(|record| record.present.as_ref());
        let outputs = present.map(|present| {
            [
                ("directory".to_owned(), self.place(id).display().to_string()),
                ("gatewayPort".to_owned(), present.port.to_string()),
            ]
        });
        outputs.into_iter().flatten().collect()
    }
}

fn changed(preview: &Preview) -> Failure {
    let changes: Vec<String> = preview.changes.iter().map(ToString::to_string).collect();
    let now = if changes.is_empty() { "nothing".into() } else { changes.join(", ") };
    Failure::named("PreviewChanged", format!("what would change now is: {now}; decide on a new preview"))
}

#[async_trait]
impl Provisioner for Machine {
    async fn preview(&self, plan: &Plan) -> Result<Preview, Failure> {
        let (machine, plan) = (self.clone(), plan.clone());
        blocking("previewing", move || Ok(machine.intend(&machine.book()?, &plan)?.preview)).await
    }

    async fn apply(&self, plan: &Plan, preview: &PreviewId) -> Result<Outputs, Failure> {
        let (machine, plan, preview) = (self.clone(), plan.clone(), preview.clone());
        blocking("provisioning", move || machine.apply_now(&plan, &preview)).await
    }

    async fn state(&self, environment: &EnvironmentId) -> Result<Option<Provisioned>, Failure> {
        let (machine, id) = (self.clone(), environment.clone());
        blocking("reading the state", move || {
            let book = machine.book()?;
            let outputs = machine.outputs(&book, &id);
            let record = book.environments.get(&id);
            Ok(record.and_then(|record| {
                let present = record.present.as_ref()?;
                let (environment, quota) = (present.environment.clone(), present.quota);
                Some(Provisioned { environment, quota, outputs, revision: record.revision })
            }))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
