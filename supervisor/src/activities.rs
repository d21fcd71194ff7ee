//! The activities of this process, by name and direction, each with its limit.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::Value;
use tokio::sync::Semaphore;

use crate::activity::{Activity, Attempt, Failure};

/// Attempts of one activity that run at once on a node unless its registration says otherwise:
/// enough to hide latency, few enough that a slow service is not overrun.
pub const RUNNING_MAX: usize = 1_024;

/// One direction of one activity.
#[derive(Clone)]
pub struct Direction {
    /// The activity.
    pub activity: Arc<dyn Activity>,
    /// Whether this name is its undo.
    pub undo: bool,
    /// Room for attempts that run at once, both directions together.
    pub room: Arc<Semaphore>,
}

impl Direction {
    /// Does the work, or takes it back. An undo is given `{"input": …, "output": …}`; anything else is
    /// the input alone.
    pub async fn carry_out(&self, attempt: &Attempt, arguments: Value) -> Result<Value, Failure> {
        match self.undo {
            // Also where the undo's name is used as a plain step.
            true => {
                let (input, output) = undo_arguments(arguments);
                self.activity.undo(attempt, input, output).await.map(|()| Value::Null)
            }
            false => self.activity.run(attempt, arguments).await,
        }
    }
}

/// `{"input": …, "output": …}` taken apart; anything else is the input alone.
fn undo_arguments(mut arguments: Value) -> (Value, Option<Value>) {
    match arguments.as_object_mut() {
        Some(map) if map.contains_key("input") && map.len() <= 2 => {
            let output = map.remove("output").filter(|output| !output.is_null());
            (map.remove("input").unwrap_or_default(), output)
        }
        Some(_) | None => (arguments, None),
    }
}

/// Every activity of this process.
#[derive(Clone, Default)]
pub struct Activities {
    by_name: HashMap<String, Direction>,
}

/// Two activities claim one name.
#[derive(Debug, thiserror::Error)]
#[error("two activities are named {0:?}")]
pub struct NameTaken(String);

impl Activities {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an activity with room for `running_max` attempts at once.
    pub fn add(&mut self, activity: Arc<dyn Activity>, running_max: usize) -> Result<(), NameTaken> {
        let room = Arc::new(Semaphore::new(running_max));
        let names = [(Some(activity.name().to_owned()), false), (activity.undo_name().map(str::to_owned), true)];
        for (name, undo) in names {
            let Some(name) = name else { continue };
            let direction = Direction { activity: activity.clone(), undo, room: room.clone() };
            if self.by_name.insert(name.clone(), direction).is_some() {
                return Err(NameTaken(name));
            }
        }
        Ok(())
    }

    /// The activity, and which of its directions, that `name` stands for.
    pub fn get(&self, name: &str) -> Option<&Direction> {
        self.by_name.get(name)
    }

    /// Every name, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn undo_arguments_are_taken_apart() {
        assert_eq!(undo_arguments(json!({"input": 1, "output": 2})), (json!(1), Some(json!(2))));
        assert_eq!(undo_arguments(json!({"input": 1, "output": null})), (json!(1), None));
        assert_eq!(undo_arguments(json!({"input": 1})), (json!(1), None));
        assert_eq!(undo_arguments(json!({"seat": 4})), (json!({"seat": 4}), None));
    }
}
