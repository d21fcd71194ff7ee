//! Ends that are written without a state. A saga that cannot be rebuilt is ended by an operator: nothing
//! is decided by its definition, which may be lost, and nothing follows from its state but the children
//! that are known. A child whose parent gives it up before it is born is ended so that it never will be.
//! Such a record ends whatever comes before it, read or not.

use std::sync::Arc;

use protocol::view::Status;
use protocol::{Problem, Time};

use super::change::Change;
use super::driver::Driver;
use super::execution::{Doing, ROOT};
use super::fact::{Fact, FactKind, Operator};
use super::fold::{Folding, fold};
use super::record::Record;

/// Error name: the saga was abandoned without its state.
pub const LOST: &str = "Saga.Lost";
/// Error name: the parent did not want the child any more before it began.
pub const UNBORN: &str = "Saga.Unborn";

impl Record {
    /// Whether it ends its saga without regard to the records before it.
    pub fn is_burial(&self) -> bool {
        let without = |error: &Option<String>| error.as_deref().is_some_and(|error| error == LOST || error == UNBORN);
        self.changes.iter().any(|change| matches!(change, Change::Finished { error, .. } if without(error)))
    }
}

impl Driver {
    /// Ends the saga as [`Driver::offer`] would; `previous` is its last frame, which need not be the one
    /// that its state knows.
    ///
    /// # Errors
    /// When the operator does not say why.
    pub fn bury(&mut self, at: Time, operator: Operator, previous: u64) -> Result<Record, Problem> {
        operator.has_reason()?;
        let cause = format!("abandoned by {}: {}", operator.by, operator.reason);
        let fact = Fact { at, seed: 0, kind: FactKind::Operator(operator) };
        Ok(self.end(fact, previous, (Status::Abandoned, LOST, cause)))
    }

    /// Ends a child that is not born because its parent says so, before it begins.
    pub fn give_up(&mut self, at: Time, cancel: FactKind) -> Record {
        let cause = "its parent gave it up before it began".to_owned();
        self.end(Fact { at, seed: 0, kind: cancel }, 0, (Status::Cancelled, UNBORN, cause))
    }

    fn end(&mut self, fact: Fact, previous: u64, (status, error, cause): (Status, &str, String)) -> Record {
        let x = &mut self.execution;
        let mut changes = Vec::new();
        for frame in x.scopes.values().filter_map(|scope| scope.frame.as_ref()) {
            if let Doing::Child { key, .. } = &frame.doing {
                changes.push(Change::ChildDropped { key: key.clone(), step: Some(frame.step) });
            }
        }
        let state = x.frame(ROOT).map_or_else(|| "".into(), |frame| Arc::clone(&frame.state));
        changes.push(Change::Finished {
            status,
            state,
            output: None,
            error: Some(error.to_owned()),
            cause: Some(cause),
        });
        let number = x.records + 1;
        let mut folding = Folding::new(&fact, number);
        changes.iter().for_each(|change| fold(x, &mut folding, change, &mut self.held));
        x.recorded(number, &fact, &changes);
        Record { saga: x.saga.clone(), number, previous, fact, changes }
    }
}
