//! Stands in for a worker that is woken by the last event that a row of causes may have: it does
//! nothing, and tells people. What was to be done, the worker's next run by timer sees (H05).

use async_trait::async_trait;
use serde_json::json;
use tracing::error;

use crate::activity::Failure;
use crate::worker::{ALARM, Report, Rhythm, Run, Worker};

/// The stand-in.
pub(super) struct Circle {
    /// For whom.
    pub(super) kind: String,
    /// How many events a row may have.
    pub(super) max: u32,
}

#[async_trait]
impl Worker for Circle {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn rhythm(&self) -> Rhythm {
        Rhythm::on_events()
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        let events: Vec<String> =
            run.events.iter().map(|event| format!("{} {}", event.event_type, event.event_id)).collect();
        let why = format!(
            "{} events led to it one after the other, without a timer or a person: they turn in a circle; see which \
             workers undo each other's work, and pause one of them",
            self.max
        );
        error!(worker = %run.worker, events = events.join(", "), trace = %run.trace, "a row of events is stopped, {why}");
        let payload = json!({
            "environmentId": run.worker.environment, "worker": run.worker.to_string(), "events": events, "why": why,
        });
        // Nobody runs by it, so the row ends here.
        run.publish(ALARM, "circle", payload).await?;
        Ok(Report::unchanged(events.join(", "), why))
    }
}
