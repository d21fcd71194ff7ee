//! What the engine tells while it works, as figures and traces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use protocol::{ShardId, TraceId};
use supervisor::tree::engine::Observer;

use super::{Metrics, set_parent};

/// A trouble that is settled within this is none: a lost acknowledgement, the change of a leader.
const TROUBLE_SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Troubles of the journals of this node's shards, each since when.
#[derive(Debug, Default)]
pub struct Troubles(DashMap<ShardId, (Instant, String)>);

impl Troubles {
    /// What is wrong for longer than a moment, in sentences.
    pub fn shown(&self) -> Vec<String> {
        let lasting = self.0.iter().filter(|entry| entry.value().0.elapsed() >= TROUBLE_SHOWN_AFTER);
        let mut all: Vec<_> = lasting.map(|entry| (*entry.key(), entry.value().1.clone())).collect();
        all.sort();
        all.into_iter().map(|(shard, why)| format!("the journal of shard {shard} cannot be written: {why}")).collect()
    }
}

/// Passes on what the engine tells.
pub struct Observed(pub Arc<Metrics>, pub Arc<Troubles>);

impl Observer for Observed {
    fn appended(&self, records: usize, took: Duration) {
        self.0.appended(records, took);
    }

    fn attempted(&self, activity: &str, took: Duration) {
        self.0.activity(activity, took);
    }

    fn published(&self) {
        self.0.published();
    }

    fn buried(&self, reason: &str) {
        self.0.buried(reason);
    }

    fn trouble(&self, shard: ShardId, why: Option<&str>) {
        match why {
            Some(why) => self.1.0.entry(shard).or_insert_with(|| (Instant::now(), String::new())).1 = why.to_owned(),
            None => drop(self.1.0.remove(&shard)),
        }
    }

    fn joins(&self, span: &tracing::Span, trace: &TraceId) {
        // Nobody collects: the span is not even made.
        if !span.is_disabled() {
            set_parent(span, trace);
        }
    }
}
