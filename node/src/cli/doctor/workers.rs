//! Whether workers can do what they are there for.

use protocol::command::ListWorkers;
use protocol::worker::{RunOutcome, WorkerView};

use crate::client::Client;

use super::Finding;

pub(super) async fn workers(client: &Client, found: &mut impl FnMut(Finding)) {
    let listed = match client.workers(&ListWorkers::default()).await {
        Ok(listed) => listed.workers,
        Err(error) => {
            return found(Finding::warn("workers", error.to_string(), error.mend().unwrap_or_default()));
        }
    };
    let findings: Vec<Finding> = listed.iter().filter_map(of).collect();
    if findings.is_empty() {
        found(Finding::ok("workers", format!("{}, the last run of none failed", listed.len())));
    }
    findings.into_iter().for_each(found);
}

/// What is to be said of a worker; `None`: its last run did not fail.
fn of(worker: &WorkerView) -> Option<Finding> {
    let run = worker.last.as_ref().filter(|run| run.outcome == RunOutcome::Failed)?;
    let (kind, environment) = (&worker.kind, &worker.environment);
    let why = run.error.as_deref().unwrap_or(&run.why);
    let found = format!("{kind} of {environment} failed at {}: {why}", run.began);
    Some(Finding::fail("workers", found, format!("mend that; then `skald workers run {kind} {environment}`")))
}
