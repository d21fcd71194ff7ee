//! Activities of the stories: each does as little as its story needs, and says so in the ledger.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::Value;
use serde::Deserialize;
use serde_json::json;
use supervisor::activity::{Activity, Attempt, Failure};
use tokio::time::{Instant, sleep};

use crate::ledger::{Effect, Ledger, path_of};

/// `ledger.write`, undone by `ledger.erase`: one effect in the ledger for each.
pub struct LedgerWrite {
    /// Where.
    pub ledger: Ledger,
}

/// What a story asks of one step.
#[derive(Deserialize, Default, Debug)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    /// What the step is called in the ledger.
    step: String,
    /// How long it takes.
    ms: u64,
    /// How often it beats meanwhile; not at all when 0.
    beat_ms: u64,
    /// `transient`, `permanent`, or an error name of its own; fails after the pause.
    fail: Option<String>,
    /// With `fail`: only attempts up to this number fail.
    fails: Option<u32>,
    /// Attempts up to this number panic.
    panics: u32,
    /// The effect happens and the attempt fails nevertheless, as when an answer is lost.
    late: bool,
    /// How long the undo takes.
    undo_ms: u64,
    /// Attempts of the undo up to this number fail for good.
    undo_fails: u32,
}

impl LedgerWrite {
    fn effect(attempt: &Attempt, direction: &str, step: &str) -> Effect {
        let saga = attempt.saga.to_string();
        Effect {
            key: attempt.key.clone(),
            direction: direction.into(),
            step: step.into(),
            path: path_of(&attempt.key, &saga),
            saga,
            attempt: attempt.number,
            pid: std::process::id(),
            at_us: 0,
        }
    }

    fn asked(input: Value) -> Result<Asked, Failure> {
        serde_json::from_value(input).map_err(|error| Failure::named("BadStory", error.to_string()))
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::transient("writing the ledger", error)
}

fn failure(name: &str) -> Failure {
    match name {
        "transient" => Failure::transient("the story", "asked for it"),
        "permanent" => Failure::permanent("the story", "asked for it"),
        other => Failure::named(other, "the story asked for it"),
    }
}

async fn pause(attempt: &Attempt, ms: u64, beat_ms: u64) {
    let end = Instant::now() + Duration::from_millis(ms);
    while beat_ms > 0 && Instant::now() < end {
        sleep(Duration::from_millis(beat_ms)).await;
        attempt.heartbeat.beat();
    }
    tokio::time::sleep_until(end).await;
}

#[async_trait]
impl Activity for LedgerWrite {
    fn name(&self) -> &str {
        "ledger.write"
    }

    fn undo_name(&self) -> Option<&str> {
        Some("ledger.erase")
    }

    async fn run(&self, attempt: &Attempt, input: Value) -> Result<Value, Failure> {
        let asked = Self::asked(input)?;
        let effect = Self::effect(attempt, "run", &asked.step);
        self.ledger.attempt(&effect).map_err(lost)?;
        pause(attempt, asked.ms, asked.beat_ms).await;
        assert!(attempt.number > asked.panics, "the story asked for a panic");
        let fails = asked.fails.is_none_or(|fails| attempt.number <= fails);
        let first = match asked.fail.as_deref().filter(|_| fails) {
            Some(name) if asked.late => {
                self.ledger.act(&effect).map_err(lost)?;
                return Err(failure(name));
            }
            Some(name) => return Err(failure(name)),
            None => self.ledger.act(&effect).map_err(lost)?,
        };
        Ok(json!({ "step": asked.step, "first": first, "attempt": attempt.number }))
    }

    async fn undo(&self, attempt: &Attempt, input: Value, _output: Option<Value>) -> Result<(), Failure> {
        let asked = Self::asked(input)?;
        let effect = Self::effect(attempt, "undo", &asked.step);
        self.ledger.attempt(&effect).map_err(lost)?;
        sleep(Duration::from_millis(asked.undo_ms)).await;
        if attempt.number <= asked.undo_fails {
            return Err(failure("permanent"));
        }
        self.ledger.act(&effect).map_err(lost)?;
        Ok(())
    }
}

/// Every activity of the stories.
pub fn all(ledger: &Ledger) -> Vec<Arc<dyn Activity>> {
    vec![Arc::new(LedgerWrite { ledger: ledger.clone() })]
}
