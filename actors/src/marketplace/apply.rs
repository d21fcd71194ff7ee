//! `target.apply` and `target.restore`: the graph goes into the target as vendored sources, and
//! comes out again without a trace (M074, M106).
//!
//! Everything that will change is decided and noted down first, then done in small steps each of
//! which is atomic and can be told from not done. So a crash anywhere leaves a target from which
//! the same key goes on, forwards or backwards.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use protocol::Time;
use rustix::fs::FlockOperation;
use semver::VersionReq;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};
use supervisor::ports::Clock;

use super::archive;
use super::begun::Begun;
use super::blocking::{Awaited, blocking};
use super::catalog::Catalog;
use super::journal::{self, Journal, RollbackToken};
use super::plan;
use super::project;
use super::reference::{Graph, InstalledArtifactRef};
use super::restore::{self, Undone};
use super::steps;
use super::targets::{Allowed, Targets};

/// Hears of each step before the next one begins. The product has [`Uninterrupted`]; a test stops
/// the work at any step as a crash would.
pub trait Steps: Send + Sync + 'static {
    /// `step` is done. An error abandons the work as it is.
    fn done(&self, step: &str) -> io::Result<()>;
}

/// Lets every step follow the one before.
#[derive(Debug, Clone, Copy)]
pub struct Uninterrupted;

impl Steps for Uninterrupted {
    fn done(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// Stops at the next step once the engine gave the attempt up, so that the next attempt, or the
/// undo, does not wait for the lock.
struct UntilGivenUp {
    steps: Arc<dyn Steps>,
    given_up: Arc<AtomicBool>,
}

impl Steps for UntilGivenUp {
    fn done(&self, step: &str) -> io::Result<()> {
        if self.given_up.load(Ordering::Acquire) {
            return Err(io::Error::other(format!("the attempt was given up behind the step {step:?}")));
        }
        self.steps.done(step)
    }
}

/// The activity.
pub struct Apply {
    /// Where archives come from.
    pub catalog: Catalog,
    /// Where it is kept which installations were taken back; shared like the catalogue.
    pub undone: Undone,
    /// Where it is kept which installations have begun; shared like the catalogue.
    pub begun: Begun,
    /// Where targets may be.
    pub targets: Targets,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Hears of each step.
    pub steps: Arc<dyn Steps>,
}

/// What is to be applied where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The package.
    pub asset: String,
    /// The requirement for the project's manifest, as `dependencies.resolve` answered it.
    pub requirement: String,
    /// Features of the asset to turn on.
    #[serde(default)]
    pub features: Vec<String>,
    /// The directory of the project.
    pub target: PathBuf,
    /// What `dependencies.resolve` answered.
    pub graph: Graph,
}

/// What was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// One per package.
    pub installed: Vec<InstalledArtifactRef>,
    /// Where the whole token lies.
    pub rollback_token: TokenRef,
}

/// Names the rollback token that lies in the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRef {
    /// Its id.
    pub id: String,
    /// The step's key, which is what undoing needs.
    pub key: String,
    /// Its directory in the target.
    pub journal: String,
    /// The files that changed.
    pub files: Vec<String>,
}

/// Who asks, and when.
#[derive(Debug, Clone)]
pub struct Context {
    /// The idempotency key.
    pub key: String,
    /// The saga.
    pub saga: String,
    /// Now.
    pub now: Time,
}

/// Why applying or restoring did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Abandoned at a step. Going on with the same key is the only cure.
    #[error("interrupted")]
    Interrupted(#[source] io::Error),
    /// Another installation works on the target. It will be done soon.
    #[error("another installation works on the target; wait for it")]
    Busy,
    /// The target was begun in, and is not to be seen from here. It may be from where the next
    /// attempt runs; else a person must look.
    #[error(
        "the target {} is not visible on {here}, and {begun_on} has begun to change it; \
         make it visible on {here} (mount it), or have a node that sees it go on", .target.display()
    )]
    Unseen {
        /// The target as the saga names it.
        target: PathBuf,
        /// The node that looked.
        here: String,
        /// The node that began.
        begun_on: String,
    },
    /// Somebody changed what we changed. A person must look.
    #[error("the target changed under us: {0}; put it back as it was, or settle the installation by hand")]
    Changed(String),
    /// The target is not one that can be worked on, or has something in the way.
    #[error("{0}")]
    Unusable(String),
    /// An archive is not what it should be.
    #[error("{0}")]
    Tampered(String),
    /// The key was taken back before, or is used for something else.
    #[error("{0}")]
    Refused(String),
    /// The disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Applying failed, and so did taking back what was applied so far.
    #[error("{fault}; taking it back failed as well: {left}")]
    Left {
        /// Why applying failed.
        fault: Box<Fault>,
        /// Why taking back failed.
        left: Box<Fault>,
    },
}

/// The name of a failure of the disk that will not pass by itself, and what to do about it.
fn lasting(kind: io::ErrorKind) -> Option<(&'static str, &'static str)> {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some(("DiskFull", "make room and install again"))
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            Some(("TargetReadOnly", "make the target writable and install again"))
        }
        io::ErrorKind::NotADirectory
        | io::ErrorKind::CrossesDevices
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::Unsupported => Some(("TargetUnusable", "make the target a plain directory on one disk")),
        _ => None,
    }
}

impl Fault {
    /// Whether trying again without changing anything is of no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Interrupted(_) | Self::Busy | Self::Unseen { .. } => false,
            Self::Changed(_) | Self::Unusable(_) | Self::Tampered(_) | Self::Refused(_) => true,
            Self::Io { source, .. } => lasting(source.kind()).is_some(),
            Self::Left { fault, .. } => fault.is_permanent(),
        }
    }

    /// A failure of the disk while `doing`.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl From<project::Error> for Fault {
    fn from(error: project::Error) -> Self {
        match error {
            project::Error::Unsuitable(why) => Self::Unusable(why),
            project::Error::Io { doing, source } => Self::Io { doing, source },
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let cause = fault.to_string();
        match fault {
            Fault::Interrupted(error) => Failure::transient("applying to the target", error),
            Fault::Busy => Failure::transient("locking the target", "busy; another installation works on it"),
            Fault::Unseen { .. } => Failure::transient("looking for the target", cause),
            Fault::Changed(_) => Failure::named("TargetChanged", cause),
            Fault::Unusable(_) => Failure::named("TargetUnusable", cause),
            Fault::Tampered(_) => Failure::named("ArchiveTampered", cause),
            Fault::Refused(_) => Failure::named("InstallationRefused", cause),
            Fault::Io { doing, source } => match lasting(source.kind()) {
                Some((name, mend)) => Failure::named(name, format!("{cause}; {mend}")),
                None => Failure::transient(&doing, source),
            },
            Fault::Left { fault, .. } => Failure { cause, ..Failure::from(*fault) },
        }
    }
}

/// The failure of an activity that cannot look at a project.
pub fn unusable(error: project::Error) -> Failure {
    Fault::from(error).into()
}

#[async_trait]
impl Typed for Apply {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "target.apply";
    const UNDO: Option<&'static str> = Some("target.restore");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let awaited = Awaited::default();
        let (work, context) = (self.work(attempt, &awaited), self.context(attempt));
        blocking(attempt, move |heartbeat| work.apply(&context, &input, &|| heartbeat.beat()).map_err(Failure::from))
            .await
    }

    async fn undo(&self, attempt: &Attempt, input: Input, _: Option<Output>) -> Result<(), Failure> {
        let awaited = Awaited::default();
        let (work, context) = (self.work(attempt, &awaited), self.context(attempt));
        blocking(attempt, move |heartbeat| {
            work.restore(&context, &input.target, &|| heartbeat.beat()).map_err(Failure::from)
        })
        .await
    }
}

impl Apply {
    fn context(&self, attempt: &Attempt) -> Context {
        Context { key: attempt.key.clone(), saga: attempt.saga.to_string(), now: self.clock.now() }
    }

    fn work(&self, attempt: &Attempt, awaited: &Awaited) -> Work {
        let steps = UntilGivenUp { steps: self.steps.clone(), given_up: awaited.given_up() };
        let (undone, begun) = (self.undone.clone(), self.begun.clone());
        let allowed = self.targets.of(&attempt.saga.tenant);
        Work { catalog: self.catalog.clone(), undone, begun, allowed, steps: Arc::new(steps) }
    }
}

/// Applies and restores. Blocks on the disk.
pub struct Work {
    /// Where archives come from.
    pub catalog: Catalog,
    /// Which installations were taken back.
    pub undone: Undone,
    /// Which installations have begun.
    pub begun: Begun,
    /// Where the tenant's targets may be.
    pub allowed: Allowed,
    /// Hears of each step.
    pub steps: Arc<dyn Steps>,
}

impl Work {
    /// Applies `input`, or goes on applying it.
    pub fn apply(&self, context: &Context, input: &Input, alive: &dyn Fn()) -> Result<Output, Fault> {
        let Some(target) = self.allowed.place(&input.target)? else {
            let nowhere = || Fault::Unusable(format!("the target {} is not a directory here", input.target.display()));
            return Err(self.begun.of(context)?.map_or_else(nowhere, |note| self.begun.unseen(&note)));
        };
        let _lock = lock(&target)?;
        // First the note, then the look: a restoration elsewhere does it the other way round, so
        // that one of the two sees the other.
        let new = self.begun.note(context, &input.target)?;
        if self.undone.knows(&context.saga, &context.key)? {
            if new {
                self.begun.forget(context)?;
            }
            return Err(Fault::Refused(
                "this installation was taken back already; start a new installation".to_owned(),
            ));
        }
        let journal = Journal::of(&target, &context.key);
        if let Some(note) = self.begun.of(context)?.filter(|_| !new)
            && !note.is_of(&target, Some(&journal), false)?
        {
            return Err(self.begun.unseen(&note));
        }
        let reading = || Fault::io("reading the installation's journal");
        let asked = plan::asked(input);
        let noted = journal.token().map_err(reading())?;
        let drafted = journal.drafted().map_err(reading())?;
        if noted.iter().chain(&drafted).any(|token| token.asked != asked) {
            return Err(Fault::Refused("the key of this installation is used for another one already".to_owned()));
        }
        let forwards = || {
            let token = match (noted, drafted) {
                (Some(token), _) => token,
                (None, Some(token)) => plan::publish(&journal, token, self.steps.as_ref())?,
                (None, None) => plan::make(&journal, context, input, asked, &self.allowed, self.steps.as_ref())?,
            };
            self.begun.planned(context, &input.target)?;
            steps::forwards(&journal, &token, &self.catalog, self.steps.as_ref(), alive)?;
            Ok::<_, Fault>(token)
        };
        match forwards() {
            Ok(token) => Ok(output(&token)),
            Err(fault) if !fault.is_permanent() => Err(fault),
            // What will not pass by itself leaves nothing behind.
            Err(fault) => match self.backwards(context, &journal, alive) {
                Ok(()) => Err(fault),
                Err(left) => Err(Fault::Left { fault: Box::new(fault), left: Box::new(left) }),
            },
        }
    }

    /// Takes back whatever was applied under the key, and checks that nothing is left (H09).
    pub fn restore(&self, context: &Context, target: &Path, alive: &dyn Fn()) -> Result<(), Fault> {
        let found = self.allowed.place(target)?;
        // From here on a delayed attempt to apply finds itself undone.
        self.undone.note(context, found.as_deref().unwrap_or(target), None)?;
        let begun = self.begun.of(context)?;
        let target = match (found, &begun) {
            (Some(found), _) => found,
            (None, Some(note)) => return Err(self.begun.unseen(note)),
            // Nothing was applied to what never was begun in.
            (None, None) => return Ok(()),
        };
        let _lock = lock(&target)?;
        let journal = Journal::of(&target, &context.key);
        if let Some(note) = &begun
            && !note.is_of(&target, Some(&journal), self.undone.saw(context)?)?
        {
            return Err(self.begun.unseen(note));
        }
        self.backwards(context, &journal, alive)
    }

    /// Takes back what the journal says, and forgets that it was begun once nothing is left.
    fn backwards(&self, context: &Context, journal: &Journal, alive: &dyn Fn()) -> Result<(), Fault> {
        if let Some(token) = journal.token().map_err(Fault::io("reading the installation's journal"))? {
            self.undone.note(context, &journal.target, Some(&token))?;
        }
        restore::backwards(journal, self.steps.as_ref(), alive)?;
        restore::verify(&journal.target, &self.undone, &context.saga, Some(&context.key))?;
        self.begun.forget(context)
    }
}

/// Locks a target without leaving anything in it: the lock is on the directory itself.
fn lock(target: &Path) -> Result<File, Fault> {
    let dir = File::open(target).map_err(Fault::io("opening the target"))?;
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(dir),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Fault::Busy),
        Err(error) => Err(Fault::Io { doing: "locking the target".into(), source: error.into() }),
    }
}

fn output(token: &RollbackToken) -> Output {
    Output {
        installed: token.installed.clone(),
        rollback_token: TokenRef {
            id: token.id.clone(),
            key: token.key.clone(),
            journal: format!("{}/{}/{}", project::RECORDS, journal::JOURNALS, token.id),
            files: token.files.iter().map(|file| file.path.clone()).collect(),
        },
    }
}

/// Reads the requirement of an input.
pub fn requirement(input: &Input) -> Result<VersionReq, Fault> {
    VersionReq::parse(&input.requirement)
        .map_err(|error| Fault::Refused(format!("{:?} is not a range: {error}", input.requirement)))
}

/// What an archive's refusal means here.
pub fn unpacking(package: &str, error: archive::Error) -> Fault {
    match error {
        archive::Error::Refused(why) => Fault::Tampered(format!("the archive of {package} is refused: {why}")),
        archive::Error::Io(source) => Fault::Io { doing: format!("reading the archive of {package}"), source },
        archive::Error::Visit(source) if source.kind() == io::ErrorKind::InvalidData => {
            Fault::Tampered(format!("the archive of {package} is refused: {source}"))
        }
        archive::Error::Visit(source) => Fault::Io { doing: format!("unpacking {package}"), source },
    }
}
