//! How much an execution may hold and how much one decision may write.
//!
//! Both are messages of the bus in the end, so what would not fit is refused where it comes in, or
//! fails the state that made it. The size is estimated as things are added and measured only when
//! the estimate reaches the limit: an ordinary saga is never measured. What travels by itself (an
//! event, arguments, what a parent and its child tell each other) is measured as it is written then.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Problem, Value, codec};

use super::super::change::{Change, Datum};
use super::super::expression::{DATA_LIMIT_EXCEEDED, size, written};
use super::super::fact::StepError;
use super::super::text::shorten;
use super::{Decider, query_error};

/// What an entered state, a scope or an undo costs besides its data: names, numbers, moments.
pub(super) const STATE_BYTES: usize = 320;
/// What a change costs in a record besides its data.
pub(super) const CHANGE_BYTES: usize = 64;
/// How much of a cause is kept when there is no room for more.
const CAUSE_SHORT_BYTES: usize = 96;
/// Names are part of the figures above up to this length; what is longer is counted.
const NAME_BYTES: usize = 48;
/// How often the path of a state that was entered may stand in the execution: before its branches, and
/// in its undo by itself and in its key.
const PATH_COPIES: usize = 3;
/// What stands around a value in one message, at most: headers, names and moments, with the identities
/// of the saga and of what caused it some times each.
const AROUND_BYTES: usize = 16 * 1024;

/// How large something is in the state and in the record.
#[derive(Clone, Copy, Default)]
pub(super) struct Weight {
    pub kept: usize,
    pub written: usize,
}

impl std::ops::Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { kept: self.kept + other.kept, written: self.written + other.written }
    }
}

impl Weight {
    /// A value that the record carries and the state keeps.
    pub fn of(value: &Value) -> Self {
        let bytes = size(value);
        Self { kept: bytes, written: bytes }
    }

    /// What an entered state costs by itself, when its path has so many bytes.
    pub const fn state(path: usize) -> Self {
        let long = path.saturating_sub(NAME_BYTES);
        Self { kept: STATE_BYTES + long * PATH_COPIES, written: CHANGE_BYTES + long }
    }

    /// So many of it.
    pub const fn times(self, count: usize) -> Self {
        Self { kept: self.kept.saturating_mul(count), written: self.written.saturating_mul(count) }
    }
}

/// What the name in a change takes in the record beyond what every change is counted for.
pub(super) fn long_name(change: &Change) -> usize {
    change.state().map_or(0, |state| state.len().saturating_sub(NAME_BYTES))
}

impl Decider<'_> {
    /// What `datum` weighs, where `scope` is the scope in question.
    pub(super) fn weigh(&self, scope: u64, datum: &Datum) -> Weight {
        let kept = size(&self.folding.value(self.x, scope, datum));
        self.looked.set(self.looked.get().saturating_add(kept));
        match datum {
            Datum::Is(_) => Weight { kept, written: kept },
            Datum::Given | Datum::Input | Datum::Item | Datum::Ahead => Weight { kept, written: 0 },
        }
    }

    /// What a state in `scope` costs by itself.
    pub(super) fn weigh_state(&self, scope: u64) -> Weight {
        Weight::state(self.x.path_len(scope))
    }

    /// Whether these `values`, told to others in one message, can travel as JSON.
    pub(super) fn travels(&self, what: &str, values: &[&Value]) -> Result<(), StepError> {
        let limit = self.d.limits().message_bytes.saturating_sub(AROUND_BYTES);
        let bytes: usize = values.iter().map(|value| written(value, limit / values.len().max(1))).sum();
        if bytes <= limit {
            return Ok(());
        }
        let cause = format!(
            "{what} has {bytes} bytes as it would be sent, and one message takes {limit}; put large data into object storage"
        );
        Err(StepError { error: DATA_LIMIT_EXCEEDED.to_owned(), cause, permanent: false })
    }

    /// Whether `more` has room.
    pub(super) fn has_room(&mut self, more: Weight) -> bool {
        let limits = *self.d.limits();
        if self.written + more.written > limits.record_bytes {
            return false;
        }
        if *self.weight + more.kept > limits.execution_bytes {
            let promised: usize = self.agenda.iter().map(|entry| entry.bytes).sum();
            *self.weight = codec::stored_len(&*self.x) + promised;
        }
        *self.weight + more.kept <= limits.execution_bytes
    }

    /// Takes room for `more`, which is about to be added.
    pub(super) fn claim(&mut self, more: Weight) -> Result<(), StepError> {
        if !self.has_room(more) {
            // What is too much for this record only gets one to itself.
            if self.written + more.written > self.d.limits().record_bytes && self.is_cut_for_room() {
                return Err(query_error("taken back".to_owned()));
            }
            return Err(self.full());
        }
        *self.weight += more.kept;
        self.written += more.written;
        Ok(())
    }

    fn full(&self) -> StepError {
        let (state, record) = (self.d.limits().execution_bytes, self.d.limits().record_bytes);
        let cause = format!(
            "the execution would hold more than {state} bytes, or write more than {record} at once; \
             put large data into object storage"
        );
        StepError { error: DATA_LIMIT_EXCEEDED.to_owned(), cause, permanent: false }
    }

    /// Refuses what somebody sends and there is no room for.
    pub(super) fn refused_for_room(&mut self, value: &Value) -> Option<Problem> {
        let more = Weight { kept: size(value), written: 0 };
        (!self.has_room(more)).then(|| Problem::new(protocol::Code::TooLarge, self.full().cause))
    }

    /// The error as it is kept: its cause is cut short when there is no room for it.
    pub(super) fn kept_error(&mut self, mut error: StepError) -> StepError {
        let bytes = error.error.len() + error.cause.len();
        if self.claim(Weight { kept: bytes, written: bytes }).is_err() {
            shorten(&mut error.cause, CAUSE_SHORT_BYTES);
        }
        error
    }

    /// Takes room for what is left behind and carried on when a state is left.
    pub(super) fn claim_exit(
        &mut self,
        scope: u64,
        armed: Option<&Change>,
        variables: &BTreeMap<String, Arc<Value>>,
        output: &Datum,
    ) -> Result<(), StepError> {
        let mut more = self.weigh(scope, output) + self.weigh_state(scope);
        if let Some(Change::Armed { output, arguments, .. }) = armed {
            more = more + self.weigh(scope, output);
            more = arguments.iter().fold(more, |more, arguments| more + self.weigh(scope, arguments));
        }
        for (name, value) in variables {
            more = more + Weight::of(value) + Weight { kept: name.len(), written: name.len() };
        }
        self.claim(more)
    }
}
