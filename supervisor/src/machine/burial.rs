//! The end of a saga that cannot be rebuilt, because an operator says so. Nothing is decided by its
//! definition, which may be lost, and nothing follows from its state but the children that are known:
//! what it did stays as it is. Its record ends whatever comes before it, read or not.

use std::sync::Arc;

use protocol::Problem;
use protocol::view::Status;

use super::change::Change;
use super::driver::Driver;
use super::execution::{Doing, ROOT};
use super::fact::{Fact, FactKind, Operator};
use super::fold::{Folding, fold};
use super::record::Record;

/// Error name: the saga was abandoned without its state.
pub const LOST: &str = "Saga.Lost";

impl Record {
    /// Whether it ends its saga without regard to the records before it.
    pub fn is_burial(&self) -> bool {
        self.changes.iter().any(|change| {
            matches!(change, Change::Finished { status: Status::Abandoned, error: Some(error), .. } if error == LOST)
        })
    }
}

impl Driver {
    /// Ends the saga as [`Driver::offer`] would; `previous` is its last frame, which need not be the one
    /// that its state knows.
    ///
    /// # Errors
    /// When the operator does not say why.
    pub fn bury(&mut self, at: protocol::Time, operator: Operator, previous: u64) -> Result<Record, Problem> {
        operator.has_reason()?;
        let cause = format!("abandoned by {}: {}", operator.by, operator.reason);
        let fact = Fact { at, seed: 0, kind: FactKind::Operator(operator) };
        let x = &mut self.execution;
        let mut changes = Vec::new();
        for frame in x.scopes.values().filter_map(|scope| scope.frame.as_ref()) {
            if let Doing::Child { key, .. } = &frame.doing {
                changes.push(Change::ChildDropped { key: key.clone(), step: Some(frame.step) });
            }
        }
        let state = x.frame(ROOT).map_or_else(|| "".into(), |frame| Arc::clone(&frame.state));
        let (status, error) = (Status::Abandoned, Some(LOST.to_owned()));
        changes.push(Change::Finished { status, state, output: None, error, cause: Some(cause) });
        let number = x.records + 1;
        let mut folding = Folding::new(&fact, number);
        changes.iter().for_each(|change| fold(x, &mut folding, change, &mut self.held));
        x.recorded(number, &fact, &changes);
        Ok(Record { saga: x.saga.clone(), number, previous, fact, changes })
    }
}
