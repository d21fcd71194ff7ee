//! What is remembered of a worker, as it is kept: whether it is paused, its last run, and what it
//! asked to remember. Small, and never the truth about its world, which it observes again.

use bytes::Bytes;
use protocol::codec::{self, StoredError};
use protocol::worker::{Paused, RunView};
use protocol::{EventId, Time, Value};
use serde::{Deserialize, Serialize};

/// What is remembered of a worker. Stored: fields are only ever added, with a default.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Who paused it, if somebody did.
    pub paused: Option<Paused>,
    /// The number of the last run that ended.
    pub runs: u64,
    /// Runs that failed since the last one that did not.
    pub failures: u32,
    /// The last run that ended.
    pub last: Option<RunView>,
    /// The newest events that were handled.
    pub handled: Vec<EventId>,
    /// What it asked to remember.
    pub remembered: Value,
}

impl Memory {
    /// As it is kept.
    pub fn store(&self) -> Bytes {
        codec::store(self).into()
    }

    /// As it was kept.
    pub fn load(bytes: &[u8]) -> Result<Self, StoredError> {
        codec::load(bytes)
    }

    /// When the last run began.
    pub fn began(&self) -> Option<Time> {
        self.last.as_ref().map(|run| run.began)
    }

    /// What is true after another node wrote `theirs` since this was read: the later run's word
    /// counts. A person's word that is to be written is `ours`, otherwise theirs was later.
    #[must_use]
    pub fn after(self, theirs: Self, ours: bool) -> Self {
        let paused = if ours { self.paused.clone() } else { theirs.paused.clone() };
        let runs = self.runs.max(theirs.runs);
        let later = if self.began() > theirs.began() { self } else { theirs };
        Self { paused, runs, ..later }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::TraceId;
    use protocol::worker::RunOutcome;
    use serde_json::json;

    use super::*;

    fn run(number: u64, began: i64) -> RunView {
        RunView {
            number,
            trigger: "timer".into(),
            began: Time::from_micros(began),
            took_ms: 3,
            attempts: 1,
            outcome: RunOutcome::Changed,
            saw: "12 services".into(),
            did: "restarted one".into(),
            why: "it was down".into(),
            counts: BTreeMap::from([("services".into(), 12)]),
            error: None,
            trace_id: TraceId::new("t").unwrap(),
        }
    }

    fn memory(number: u64, began: i64, paused: bool) -> Memory {
        let paused = paused.then(|| Paused { by: "ann".into(), at: Time::from_micros(1), reason: "r".into() });
        Memory {
            paused,
            runs: number,
            failures: 1,
            last: Some(run(number, began)),
            handled: vec![EventId::new("e1").unwrap()],
            remembered: json!({ "since": number }),
        }
    }

    /// Bytes of the first release; a later one reads them for ever.
    const FIRST: &str = "0186a6706175736564c0a472756e7305a86661696c7572657300a46c617374c0\
                         a768616e646c656490aa72656d656d6265726564c0";

    #[test]
    fn it_is_read_back_also_from_the_first_release() {
        let whole = memory(7, 9, true);
        assert_eq!(Memory::load(&whole.store()).unwrap(), whole);
        let first = hex::decode(FIRST).unwrap();
        assert_eq!(Memory::load(&first).unwrap(), Memory { runs: 5, ..Memory::default() });
    }

    #[test]
    fn after_two_wrote_the_later_run_counts_and_a_persons_new_word() {
        let (ours, theirs) = (memory(7, 100, true), memory(8, 90, false));
        let both = ours.clone().after(theirs.clone(), true);
        assert_eq!((both.runs, &both.last, both.paused.is_some()), (8, &ours.last, true));
        assert_eq!(ours.clone().after(theirs.clone(), false).paused, None);
        assert_eq!(theirs.after(ours.clone(), false).last, ours.last);
    }
}
