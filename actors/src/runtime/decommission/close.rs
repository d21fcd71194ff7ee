//! `environment.close`: nobody is let in to it from now on. `environment.reopen`: it is as it was.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::{Desk, Input, is_closed_by};
use crate::runtime::model::{Environment, ServiceId};
use crate::runtime::records::place;
use crate::runtime::store::{self, Space};

/// The error name of an environment that still has services.
pub(super) const IN_USE: &str = "EnvironmentInUse";

/// What goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// How far from users it was.
    pub stage: String,
}

/// The activity.
pub(super) struct Close {
    pub(super) desk: Desk,
}

#[async_trait]
impl Typed for Close {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "environment.close";
    const UNDO: Option<&'static str> = Some("environment.reopen");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        self.desk.enter(attempt, Self::NAME, &input).await?;
        let saga = attempt.saga.to_string();
        let stands = self
            .change(attempt, &input, |there| {
                there.removed_by.is_none().then(|| Environment { removed_by: Some(saga.clone()), ..there.clone() })
            })
            .await?;
        let environment = &input.environment;
        let Some(stands) = stands else {
            let why =
                format!("there is no environment {environment}; `skald environment list` shows those that there are");
            return Err(Failure::named("UnknownEnvironment", why));
        };
        if let Some(other) = stands.removed_by.as_ref().filter(|_| !is_closed_by(&stands, attempt)) {
            return Err(Failure::named(
                "EnvironmentClosed",
                format!("{environment} is being removed by {other} already"),
            ));
        }
        // Whoever was let in before may have begun something: it is looked at once more before anything goes.
        let services = self.desk.services(attempt, &input).await?;
        if !services.is_empty() {
            self.reopen(attempt, &input).await?;
            return Err(in_use(&input, &services));
        }
        Ok(Output { stage: stands.stage.to_string() })
    }

    async fn undo(&self, attempt: &Attempt, input: Input, _: Option<Output>) -> Result<(), Failure> {
        attempt.heartbeat.beat();
        self.reopen(attempt, &input).await
    }
}

impl Close {
    async fn reopen(&self, attempt: &Attempt, input: &Input) -> Result<(), Failure> {
        let open = |there: &Environment| {
            is_closed_by(there, attempt).then(|| Environment { removed_by: None, ..there.clone() })
        };
        self.change(attempt, input, open).await?;
        Ok(())
    }

    async fn change(
        &self,
        attempt: &Attempt,
        input: &Input,
        next: impl Fn(&Environment) -> Option<Environment> + Send + Sync,
    ) -> Result<Option<Environment>, Failure> {
        let (space, name) = (Space::Of(attempt.saga.tenant.clone()), place::environment(&input.environment));
        Ok(store::change(&*self.desk.ports.store, &space, &name, |there: Option<&Environment>| next(there?)).await?)
    }
}

/// That it still has `services`.
pub(super) fn in_use(input: &Input, services: &[ServiceId]) -> Failure {
    let environment = &input.environment;
    let names: Vec<_> = services.iter().map(ServiceId::as_str).collect();
    let first = names.first().copied().unwrap_or("SERVICE");
    let why = format!(
        "{environment} still has services: {}; remove them first: `skald services remove {first} --environment \
         {environment}`",
        names.join(", ")
    );
    Failure::named(IN_USE, why)
}
