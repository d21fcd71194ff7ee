//! What a fact settled: the unit of the journal.

use protocol::{SagaId, SagaKey};
use serde::{Deserialize, Serialize};

use super::change::{Awaited, Change};
use super::fact::Fact;

/// A fact and everything it settled. Folding the records of a saga, in order, gives its state;
/// there is no other way to get one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which saga.
    pub saga: SagaId,
    /// Counted from 1.
    pub number: u64,
    /// Journal position of the frame with the saga's record before this one's batch; 0 for none.
    pub previous: u64,
    /// What came.
    pub fact: Fact,
    /// What it settled, in order.
    #[serde(default)]
    pub changes: Vec<Change>,
}

impl Record {
    /// How many events it says are to be published.
    pub fn events(&self) -> usize {
        self.changes.iter().filter(|change| matches!(change, Change::Published { .. })).count()
    }

    /// Whether it starts the child `key`.
    pub(super) fn bears(&self, key: &SagaKey) -> bool {
        let starts = |change: &Change| matches!(change, Change::Awaits { what: Awaited::Child { key: born, .. }, .. } if born == key);
        self.changes.iter().any(starts)
    }
}
