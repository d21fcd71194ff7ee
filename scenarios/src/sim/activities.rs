//! The one activity of simulated sagas: it takes its time, fails as it is told, acts on the world,
//! and can be undone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::{Time, Value};
use serde::Deserialize;
use supervisor::activity::{Activity, Attempt, Failure};

use super::link::Link;
use super::world::World;
use crate::check::{Direction, Entry, Phase};

/// `work`, undone by `unwork`.
pub struct Work {
    /// Where it acts.
    pub world: Arc<World>,
    /// Whether its node lives and runs.
    pub link: Arc<Link>,
    /// Where it runs.
    pub node: String,
}

/// How a step goes.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Asked {
    path: String,
    ms: u64,
    /// Attempts up to this number fail.
    fails: u32,
    /// How they fail.
    how: How,
    undo_ms: u64,
    undo_fails: u32,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum How {
    /// It may pass by itself.
    Flaky,
    /// It will not.
    Broken,
    /// The effect happens and the answer is lost.
    Late,
    /// No answer before the state's time is over.
    Hangs,
    /// A bug.
    Panics,
}

impl Work {
    fn entry(&self, attempt: &Attempt, asked: &Asked, direction: Direction) -> Entry {
        Entry {
            saga: attempt.saga.clone(),
            key: attempt.key.clone(),
            path: asked.path.clone(),
            attempt: attempt.number,
            direction,
            phase: Phase::Began,
            at: Time::default(),
            node: self.node.clone(),
        }
    }

    fn act(&self, entry: Entry) -> Result<(), Failure> {
        let key = entry.key.clone();
        if self.world.act(entry) { Ok(()) } else { Err(Failure::named("Undone", format!("{key} is undone already"))) }
    }
}

fn asked(input: Value) -> Result<Asked, Failure> {
    serde_json::from_value(input).map_err(|error| Failure::named("BadStory", error.to_string()))
}

#[async_trait]
impl Activity for Work {
    fn name(&self) -> &str {
        "work"
    }

    fn undo_name(&self) -> Option<&str> {
        Some("unwork")
    }

    async fn run(&self, attempt: &Attempt, input: Value) -> Result<Value, Failure> {
        let asked = asked(input)?;
        let entry = self.entry(attempt, &asked, Direction::Run);
        self.link.runs().await;
        self.world.began(entry.clone());
        tokio::time::sleep(Duration::from_millis(asked.ms)).await;
        self.link.runs().await;
        if attempt.number > asked.fails {
            self.act(entry)?;
            self.link.runs().await;
            return Ok(serde_json::json!({ "did": asked.path }));
        }
        match asked.how {
            How::Flaky => Err(Failure::transient("working", "asked for")),
            How::Broken => Err(Failure::named("Broken", "asked for")),
            How::Late => {
                self.act(entry)?;
                Err(Failure::transient("answering", "asked for"))
            }
            How::Hangs => {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                Err(Failure::transient("hanging", "asked for"))
            }
            How::Panics => panic!("asked for"),
        }
    }

    async fn undo(&self, attempt: &Attempt, input: Value, _output: Option<Value>) -> Result<(), Failure> {
        let asked = asked(input)?;
        let entry = self.entry(attempt, &asked, Direction::Undo);
        self.link.runs().await;
        self.world.began(entry.clone());
        tokio::time::sleep(Duration::from_millis(asked.undo_ms)).await;
        self.link.runs().await;
        if attempt.number <= asked.undo_fails {
            return Err(Failure::transient("undoing", "asked for"));
        }
        self.world.act(entry);
        Ok(())
    }
}
