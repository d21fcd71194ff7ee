//! `target.verify`: nothing that this saga did is left in the target. `RolledBack` is reached only
//! behind it (H09).

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::begun::Begun;
use super::blocking::blocking;
use super::restore::{self, Undone};
use super::targets::Targets;

/// The activity.
pub struct Verify {
    /// Which installations were taken back.
    pub undone: Undone,
    /// Which installations have begun.
    pub begun: Begun,
    /// Where targets may be.
    pub targets: Targets,
}

/// Which target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The directory of the project.
    pub target: PathBuf,
}

/// The target is clean.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Output {
    /// Always true: a target that is not clean is a failure.
    pub clean: bool,
}

#[async_trait]
impl Typed for Verify {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "target.verify";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let (undone, begun, saga) = (self.undone.clone(), self.begun.clone(), attempt.saga.to_string());
        let allowed = self.targets.of(&attempt.saga.tenant);
        blocking(attempt, move |_| {
            restore::clean(&input.target, &allowed, &undone, &begun, &saga)?;
            Ok(Output { clean: true })
        })
        .await
    }
}
