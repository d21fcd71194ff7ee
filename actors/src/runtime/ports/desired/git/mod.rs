//! Desired state from a git repository, near or far.
//!
//! The `git` command does it: it knows every transport, credential helper and proxy that people
//! have, and is mended faster than any copy of it. A near repository is read where it lies. Of a
//! far one the branch's tip is fetched into a bare mirror in the state directory, when it is not
//! there yet. No work tree is ever written, no hook runs and nothing is asked on a terminal.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use supervisor::activity::Failure;
use tokio::sync::Mutex;

mod address;
mod command;
mod objects;

use super::{Commit, Desired, DesiredState, Empty, Limits, layout};
use crate::runtime::model::EnvironmentId;
use command::Git;

/// The longest answer of git that is not content, in bytes: names and numbers.
const ANSWER_MAX_BYTES: usize = 4 << 20;

/// Where the repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine: a repository with a work tree, or a bare one.
    Near(PathBuf),
    /// Somewhere else.
    Far {
        /// `https://…`, `ssh://…`, `user@host:path` or `file://…`, without a password.
        url: String,
        /// A directory for the mirror, which nothing else uses. It may be deleted at any time.
        mirror: PathBuf,
    },
}

/// What the adapter may be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the repository is.
    pub place: Place,
    /// The branch whose tip counts.
    pub branch: String,
    /// The program.
    pub program: PathBuf,
    /// How long one command may take. A first fetch of a large repository over a slow line takes
    /// a minute; a server that accepts and says nothing must not hold the loop for longer.
    pub time: Duration,
    /// How much an environment may be.
    pub limits: Limits,
}

impl Settings {
    /// The tip of `branch` at `place`, with the defaults.
    pub fn new(place: Place, branch: impl Into<String>) -> Self {
        Self {
            place,
            branch: branch.into(),
            program: "git".into(),
            time: Duration::from_secs(120),
            limits: Limits::default(),
        }
    }
}

/// Reads desired state from a git repository.
#[derive(Debug)]
pub struct Repository {
    settings: Settings,
    git: Git,
    /// One fetch at a time: two would wait for each other's locks in the mirror.
    fetching: Mutex<()>,
}

impl Repository {
    /// The repository that `settings` name. Refused as `BadRepository` when they make no sense;
    /// whether it is there shows when it is read.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        address::check_branch(&settings.branch)?;
        let dir = match &settings.place {
            Place::Near(dir) => dir.clone(),
            Place::Far { url, mirror } => {
                address::check_url(url)?;
                mirror.clone()
            }
        };
        let git = Git::new(settings.program.clone(), dir, settings.time);
        Ok(Self { settings, git, fetching: Mutex::new(()) })
    }

    fn reference(&self) -> String {
        format!("refs/heads/{}", self.settings.branch)
    }

    /// The commit at the branch's tip, with its content at hand.
    async fn tip(&self) -> Result<Commit, Failure> {
        match &self.settings.place {
            Place::Near(_) => self.known().await?.ok_or_else(|| self.unknown_branch()),
            Place::Far { url, mirror } => {
                let _turn = self.fetching.lock().await;
                // A directory that git has not finished is made again; one that it has stays as it is.
                let head = mirror.join("HEAD");
                let there = tokio::fs::try_exists(&head).await.map_err(|error| Failure::transient("looking", error))?;
                if !there {
                    self.git.create_bare().await?;
                }
                self.fetched(url).await
            }
        }
    }

    async fn fetched(&self, url: &str) -> Result<Commit, Failure> {
        let reference = self.reference();
        let asked = self.git.run(&["ls-remote", "--exit-code", "--", url, &reference], ANSWER_MAX_BYTES).await?;
        let told = match asked.code {
            Some(0) => asked.text().split_whitespace().next().and_then(Commit::new),
            Some(2) => return Err(self.unknown_branch()),
            Some(_) | None => return Err(asked.failure("asking the repository for its branch")),
        };
        let Some(told) = told else { return Err(asked.failure("reading the answer of the repository")) };
        if self.known().await?.as_ref() == Some(&told) {
            return Ok(told);
        }
        let refspec = format!("+{reference}:{reference}");
        let options = ["--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        let fetch: Vec<&str> = ["fetch"].into_iter().chain(options).chain(["--", url, &refspec]).collect();
        let done = self.git.run(&fetch, ANSWER_MAX_BYTES).await?;
        if done.code != Some(0) {
            return Err(done.failure("fetching the branch"));
        }
        self.known().await?.ok_or_else(|| self.unknown_branch())
    }

    /// The branch's tip as the directory has it.
    async fn known(&self) -> Result<Option<Commit>, Failure> {
        let commit = format!("{}^{{commit}}", self.reference());
        let found = self.git.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit], 256).await?;
        match found.code {
            Some(0) => Ok(Commit::new(found.text().trim())),
            Some(1) => Ok(None),
            Some(_) | None => Err(Failure::named("BadRepository", found.said())),
        }
    }

    fn unknown_branch(&self) -> Failure {
        let place = match &self.settings.place {
            Place::Near(dir) => dir.display().to_string(),
            Place::Far { url, .. } => url.clone(),
        };
        let branch = &self.settings.branch;
        Failure::named("UnknownBranch", format!("{place} has no branch {branch}; push it, or name another"))
    }
}

#[async_trait]
impl DesiredState for Repository {
    async fn read(&self, environment: &EnvironmentId, empty: Empty) -> Result<Desired, Failure> {
        let directory = layout::directory(environment)?;
        let commit = self.tip().await?;
        let limits = &self.settings.limits;
        let entries = objects::list(&self.git, &commit, &directory, limits).await?;
        let chosen = layout::choose(&directory, entries, limits)?;
        let wanted: Vec<&str> = chosen.iter().map(|file| file.object.as_str()).collect();
        let texts = objects::contents(&self.git, &wanted, limits).await?;
        layout::understand(commit, environment, empty, chosen, texts)
    }
}

#[cfg(test)]
mod tests;
