//! What is kept of a saga that ended, apart from its journal, which is cut some day: enough to show
//! how it ended, and to say its last words to its parent and to those who listen.

use std::sync::Arc;

use protocol::Value;
use protocol::view::{Outcome, Status};
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::execution::{Execution, Started};
use super::expression::{DATA_LIMIT_EXCEEDED, size};
use super::record::Record;
use super::wanted::said;

/// The largest output kept here, in bytes of JSON. Many ended sagas share one message of the bus;
/// a larger output is read from the journal while that has it.
pub const OUTPUT_KEPT_MAX_BYTES: usize = 2 * 1024;

/// An ended execution without its data.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Remains {
    /// Where it stood in the end, without its input, and without its output if that is large.
    pub execution: Execution,
    /// Whether it had an output that is not here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub output_left_out: bool,
}

impl Remains {
    /// Of an execution that ended.
    pub fn of(x: &Execution) -> Self {
        let output = x.outcome.as_ref().and_then(|outcome| outcome.output.as_ref());
        let kept = output.filter(|output| size(output) <= OUTPUT_KEPT_MAX_BYTES);
        let output_left_out = output.is_some() && kept.is_none();
        let outcome = x.outcome.as_ref().map(|outcome| Outcome {
            status: outcome.status,
            state: outcome.state.clone(),
            output: kept.cloned(),
            error: outcome.error.clone(),
            cause: outcome.cause.clone(),
        });
        let start = x.start.as_ref().map(|start| Started {
            at: start.at,
            by: start.by.clone(),
            trace: start.trace.clone(),
            cause: start.cause.clone(),
            causes: start.causes,
            parent: start.parent.clone(),
            family: start.family.clone(),
            input: Arc::new(Value::Null),
            secret: None,
        });
        let execution = Execution {
            start,
            records: x.records,
            position: x.position,
            changed_at: x.changed_at,
            last: x.last,
            scopes: x.scopes.clone(),
            outcome,
            ..Execution::new(x.saga.clone(), x.definition.clone())
        };
        Self { execution, output_left_out }
    }

    /// How it ended, for a parent: who asks for an output that nobody has any more is told so.
    pub fn outcome(&self) -> Option<Outcome> {
        let outcome = self.execution.outcome.as_ref()?;
        if !self.output_left_out {
            return Some(outcome.clone());
        }
        Some(Outcome {
            status: Status::Failed,
            state: outcome.state.clone(),
            output: None,
            error: Some(DATA_LIMIT_EXCEEDED.to_owned()),
            cause: Some(format!(
                "{} {}, but its output is older than the journal",
                self.execution.saga,
                outcome.status.word()
            )),
        })
    }

    /// What is to be sent again because of `record`, one of its last.
    pub fn last_words(&self, record: &Record) -> Vec<Effect> {
        said(&self.execution, record, || self.outcome())
    }
}
