//! `health.gate`: the new replicas are asked how they are, and the strategy's steps are taken and
//! judged (R027, R029). Until it is passed, the new set gets no more traffic than its step says (F33).

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::Desk;
use super::drive::{Until, drive};
use super::look::{Ready, look};
use super::rollout::Input;
use crate::runtime::model::DeploymentState;
use crate::runtime::model::probe::{PAUSE, TRIES};

/// The error name of a gate that was not passed.
pub const UNHEALTHY: &str = "Unhealthy";

/// What was found well.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// New replicas that are well.
    pub ready: u32,
    /// Percent of the requests that go to them.
    pub weight: u8,
}

/// The activity.
pub struct Gate {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Gate {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "health.gate";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let desk = &self.desk;
        let (entered, mut read) = input.enter(desk, attempt, Self::NAME).await?;
        if read.value.idle() {
            return Ok(Output { ready: read.value.comes.revision.replicas, weight: 100 });
        }
        let state = DeploymentState::HealthGating;
        desk.change(&entered.place, &mut read, |record| record.deployment.state = state).await?;
        let mut tries = 0;
        loop {
            attempt.heartbeat.beat();
            let looked = look(desk, &entered.place, &read.value, Ready::Answers).await?;
            if looked.seen.new.ready >= looked.seen.new.total {
                break;
            }
            tries += 1;
            if tries >= TRIES.max(patience(&read.value)) {
                let faults = looked.faults.join("; ");
                let why = format!("{} of {} new replicas are well", looked.seen.new.ready, looked.seen.new.total);
                return Err(Failure::named(UNHEALTHY, format!("{why}; {faults}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
        drive(desk, attempt, &entered, &mut read, Until::Gated).await?;
        let looked = look(desk, &entered.place, &read.value, Ready::Answers).await?;
        Ok(Output { ready: looked.seen.new.ready, weight: looked.seen.weight })
    }
}

/// How often replicas are asked before they count as ill: for as long as one probe's tries may take,
/// and longer where replicas were ready and had to start anew meanwhile.
fn patience(record: &crate::runtime::records::deployments::Record) -> u32 {
    let deadline = record.comes.workload.progress_deadline.min(Duration::from_secs(5));
    u32::try_from(deadline.as_millis() / PAUSE.as_millis()).unwrap_or(TRIES)
}
