//! Activities and definitions of the bench. They exist only in a node that was started for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::Value;
use serde_json::json;
use supervisor::activity::{Activity, Attempt, Failure};

/// Workload A.
pub const FIVE: &str = "bench-five";
/// Workload B.
pub const UNDONE: &str = "bench-undone";
/// Workload C, and what waits when memory is measured.
pub const SIGNALLED: &str = "bench-signalled";
/// The signal that workload C waits for.
pub const SIGNAL: &str = "go";
/// What is under way when a node is killed.
pub const NAPS: &str = "bench-naps";
/// Text in each answer, which makes the whole JSON value 200 bytes.
const FILLER_BYTES: usize = 188;
/// How long a step of [`NAPS`] takes: all ten last longer than starting a thousand and killing a node.
const NAP: Duration = Duration::from_millis(300);

/// The definitions, as file names and sources.
pub fn definitions() -> Vec<(String, String)> {
    [
        ("bench-five.yaml", include_str!("definitions/five.yaml")),
        ("bench-undone.yaml", include_str!("definitions/undone.yaml")),
        ("bench-signalled.yaml", include_str!("definitions/signalled.yaml")),
        ("bench-naps.yaml", include_str!("definitions/naps.yaml")),
    ]
    .into_iter()
    .map(|(file, source)| (file.to_owned(), source.to_owned()))
    .collect()
}

/// The activities.
pub fn activities() -> Vec<Arc<dyn Activity>> {
    let made = |name, undo, does| Arc::new(Step { name, undo, does }) as Arc<dyn Activity>;
    vec![
        made("bench.read", None, Does::Answer),
        made("bench.step", Some("bench.undo"), Does::Answer),
        made("bench.fail", None, Does::Fail),
        made("bench.nap", None, Does::Nap),
    ]
}

#[derive(Clone, Copy)]
enum Does {
    Answer,
    Fail,
    Nap,
}

struct Step {
    name: &'static str,
    undo: Option<&'static str>,
    does: Does,
}

#[async_trait]
impl Activity for Step {
    fn name(&self) -> &str {
        self.name
    }

    fn undo_name(&self) -> Option<&str> {
        self.undo
    }

    async fn run(&self, _attempt: &Attempt, _input: Value) -> Result<Value, Failure> {
        match self.does {
            Does::Answer => Ok(answer()),
            Does::Fail => Err(Failure::transient("the bench", "asked for it")),
            Does::Nap => {
                tokio::time::sleep(NAP).await;
                Ok(answer())
            }
        }
    }

    async fn undo(&self, _attempt: &Attempt, _input: Value, _output: Option<Value>) -> Result<(), Failure> {
        Ok(())
    }
}

fn answer() -> Value {
    json!({ "value": "x".repeat(FILLER_BYTES) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use supervisor::machine::definition::Definition;

    #[test]
    fn an_answer_has_200_bytes() {
        assert_eq!(answer().to_string().len(), 200);
    }

    #[test]
    fn the_definitions_are_sound_and_use_what_is_here() {
        let here: Vec<String> = activities()
            .iter()
            .flat_map(|it| [Some(it.name().to_owned()), it.undo_name().map(str::to_owned)])
            .flatten()
            .collect();
        let mut names = Vec::new();
        for (file, source) in definitions() {
            let (definition, _) = Definition::parse(&source, &file).unwrap_or_else(|faults| panic!("{faults}"));
            for activity in definition.activities() {
                assert!(here.iter().any(|it| it == activity), "{file}: {activity}");
            }
            names.push(definition.reference().name.to_string());
        }
        assert_eq!(names, [FIVE, UNDONE, SIGNALLED, NAPS]);
    }
}
