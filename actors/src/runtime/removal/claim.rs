//! `removal.claim`: nothing else is done to the service from now on. `removal.release`: it is as it was.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::Input;
use crate::runtime::arbiter::{Command, Outcome, Request, Source};
use crate::runtime::arbitration::Asker;
use crate::runtime::deployment::Desk;
use crate::runtime::deployment::desk::{deployment_id, faulty, request_key};
use crate::runtime::model::RequestKey;
use crate::runtime::records::ownership;

/// The error name of a service that nobody knows.
const UNKNOWN: &str = "UnknownService";

/// What goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The version that runs; empty: none.
    pub version: String,
}

/// The activity.
pub struct Claim {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Claim {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "removal.claim";
    const UNDO: Option<&'static str> = Some("removal.release");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let desk = &self.desk;
        let entered = input.enter(desk, attempt, Self::NAME).await?;
        let place = &entered.place;
        if ownership::owner(&*desk.ports.store, place).await?.is_none() {
            let why = format!("there is no service {place}; `skald services` lists what there is");
            return Err(Failure::named(UNKNOWN, why));
        }
        let request = Request {
            key: request_key("remove", &deployment_id(attempt)?)?,
            source: Source::Operator,
            by: attempt.principal.clone(),
            asked_at: desk.ports.clock.now(),
            command: Command::Remove { saga: attempt.saga.to_string() },
        };
        let stage = entered.granted.environment.value.stage;
        let answer = desk.arbitration.ask(place, &entered.asker, stage, &request).await?;
        Ok(Output { version: answer.state.current.map(|current| current.version).unwrap_or_default() })
    }

    async fn undo(&self, attempt: &Attempt, input: Input, _: Option<Output>) -> Result<(), Failure> {
        let desk = &self.desk;
        let Some(claimed) = input.claimed(desk, attempt).await? else { return Ok(()) };
        let (sequence, why) = (claimed.under_way.sequence, "its removal was given up".to_owned());
        let request = Request {
            key: RequestKey::new(format!("kept:{}.{sequence}", deployment_id(attempt)?)).map_err(faulty)?,
            source: Source::Runner,
            by: attempt.principal.clone(),
            asked_at: desk.ports.clock.now(),
            command: Command::Finished { sequence, outcome: Outcome::RolledBack { why } },
        };
        desk.arbitration.ask(&claimed.place, &Asker::of(attempt), claimed.docket.state.stage, &request).await?;
        Ok(())
    }
}
