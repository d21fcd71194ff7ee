//! What is wanted in an environment, as people wrote it down and reviewed it.
//!
//! One file per service, `environments/<environment>/<service>.yaml`, each a
//! [`ServiceSpec`](crate::runtime::model::ServiceSpec). A reading is of one commit as a whole:
//! either every file of the environment is understood, or nothing of it is wanted. Half an
//! environment would look like services that somebody removed.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use supervisor::activity::Failure;

use crate::runtime::model::{EnvironmentId, ServiceId, ServiceSpec};

#[cfg(test)]
mod contract;
mod file;
pub mod git;
mod layout;

/// Reads what is wanted.
///
/// Safe to repeat at any rate: reading changes nothing that others see. A failure named
/// `Transient` may pass by itself; the others pass when somebody changes the repository or the
/// settings:
///
/// | name | what it says |
/// |---|---|
/// | `DesiredStateInvalid` | files that cannot be understood, each with its line and the mend |
/// | `DesiredStateEmpty` | nothing is wanted, and that was not allowed |
/// | `DesiredStateTooLarge` | more or larger files than the limits allow |
/// | `UnknownBranch` | the branch is not there |
/// | `BadRepository` | there is no repository, or the settings make no sense |
#[async_trait]
pub trait DesiredState: Send + Sync + 'static {
    /// What is wanted in `environment`, as of a commit that was the branch's tip at some moment
    /// after the call: never an older one, not even while the repository cannot be reached.
    ///
    /// An environment that nobody wrote a file for is empty. A branch may move anywhere, also back:
    /// the answer follows it, and whoever cares about history compares commits.
    async fn read(&self, environment: &EnvironmentId, empty: Empty) -> Result<Desired, Failure>;
}

/// What to make of an environment in which nothing is wanted (D202): most often that is a mistake,
/// and acting on it ends every service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// It fails as `DesiredStateEmpty`.
    Refused,
    /// It is meant.
    Allowed,
}

/// What is wanted in one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// As of which commit.
    pub commit: Commit,
    /// The services, by name.
    pub services: BTreeMap<ServiceId, ServiceSpec>,
}

/// Names a commit: 40 or 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(String);

impl Commit {
    /// The commit that `text` names, unless it names none.
    pub fn new(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits && matches!(text.len(), 40 | 64)).then(|| Self(text.to_owned()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much an environment may be. More is a mistake, and reading it would cost every other
/// environment its turn.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files of one environment. One rollout at a time and service is meant for hundreds.
    pub files: usize,
    /// Bytes of one file. A service with every field takes about 4 KiB.
    pub file_bytes: u64,
    /// Bytes of all files of one environment.
    pub total_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 2_000, file_bytes: 256 << 10, total_bytes: 16 << 20 }
    }
}
