//! Keys, names and sizes at their edges: what identifies stays apart however long it is, and nothing
//! leaves a saga that could not travel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::activity::{ERROR_MAX_BYTES, KEY_MAX_BYTES};
use protocol::text::identity;
use protocol::{Time, Value, codec};
use serde_json::json;
use supervisor::machine::{ActivityCall, Definition, Driver, Effect, Fact, FactKind, Record, StepError};

use super::expression::LIMITS;
use super::machine::{begin, shown};

/// Letters of one to four bytes, and those that are written longer than they are.
const LETTERS: [&str; 8] = ["a", "é", "☃", "\u{20000}", "\"", "\u{1}", "\\", "\n"];
/// Most characters of a state's name.
const NAME_MAX_CHARS: usize = 80;
/// Steps that are begun before something fails.
const STEPS: usize = 12;

/// What one input says: eleven bytes, of which those that are missing are nought.
struct Edge {
    depth: usize,
    names: [usize; 3],
    letter: &'static str,
    error: String,
    caught: String,
    value: String,
}

impl Edge {
    fn read(data: &[u8]) -> Self {
        let at = |index: usize| data.get(index).copied().unwrap_or_default();
        let wide = |index: usize| usize::from(u16::from_be_bytes([at(index), at(index + 1)]));
        let letter = |index: usize| LETTERS[usize::from(at(index)) % LETTERS.len()];
        let error = format!("{}{}", letter(4).repeat(wide(5) % 600), at(7) % 2);
        let length = wide(8) * (LIMITS.value_bytes * 9 / 8) / 65_535;
        Self {
            depth: usize::from(at(0)) % 4,
            names: [1, 2, 3].map(|index| 1 + usize::from(at(index)) % (NAME_MAX_CHARS - 2)),
            letter: letter(4),
            caught: format!("{}{}", letter(4).repeat(wide(5) % 600), at(7) / 2 % 2),
            error,
            value: letter(10).repeat(length / letter(10).len()),
        }
    }

    /// Maps inside each other, at the bottom two steps and an event with the whole input.
    fn definition(&self) -> String {
        let name = |level: usize, last: &str| format!("{}{last}", self.letter.repeat(self.names[level % 3]));
        let catch = json!([{ "ErrorEquals": [self.caught], "Next": name(0, "z") }]);
        let work = |next: String| {
            json!({
                "Type": "Task", "Resource": "activity:work", "Compensate": { "Resource": "activity:unwork" },
                "Catch": catch, "Next": next,
            })
        };
        let mut scope = json!({
            "StartAt": name(0, "1"),
            "States": {
                name(0, "1"): work(name(0, "2")), name(0, "2"): work(name(0, "3")),
                name(0, "3"): { "Type": "Task", "Resource": "event:Told", "Next": name(0, "4") },
                name(0, "4"): { "Type": "Succeed" }, name(0, "z"): { "Type": "Fail", "Error": "Caught" },
            },
        });
        for level in 1..=self.depth {
            scope = json!({
                "StartAt": name(level, &format!("m{level}")),
                "States": { name(level, &format!("m{level}")): {
                    "Type": "Map", "Items": [0, 1], "ItemSelector": "{% $states.input %}",
                    "ItemProcessor": scope, "End": true,
                } },
            });
        }
        json!({ "name": "edges", "definition": scope }).to_string()
    }
}

/// Steps have keys of their own, which fit; errors are caught by their whole names; events, arguments,
/// records and the state fit into one message.
pub fn edges(data: &[u8]) {
    let edge = Edge::read(data);
    let Ok((definition, _)) = Definition::parse(&edge.definition(), "edges") else { return };
    let definition = Arc::new(definition.with_limits(LIMITS));
    for max in [protocol::text::DIGEST_BYTES, ERROR_MAX_BYTES, KEY_MAX_BYTES] {
        let (one, other) = (identity(&edge.error, max), identity(&edge.caught, max));
        assert!(one.len() <= max && identity(&one, max) == one);
        assert_eq!(one == other, edge.error == edge.caught, "{max}");
    }
    let (mut driver, mut records, begun) = begin(&definition, json!({ "text": edge.value }));
    if records.is_empty() {
        return;
    }
    let mut keys: BTreeMap<String, u64> = BTreeMap::new();
    let (mut undone, mut failed) = (BTreeSet::new(), false);
    // What was told to begin, too: a step that is stopped in the same record is undone all the same.
    let mut told_to: Vec<ActivityCall> = begun.into_iter().filter_map(call).collect();
    for n in 0.. {
        let calls: Vec<ActivityCall> = driver.resume().into_iter().filter_map(call).collect();
        for call in told_to.iter().chain(&calls).filter(|call| !call.undo) {
            let step = *keys.entry(call.key.clone()).or_insert(call.attempt.step);
            assert_eq!(step, call.attempt.step, "two steps have the key {}", call.key);
        }
        for call in &calls {
            assert!(call.key.len() <= KEY_MAX_BYTES && keys.contains_key(&call.key), "{}", call.key);
            assert!(codec::json_len(&call.arguments) <= LIMITS.message_bytes);
        }
        let Some(call) = calls.into_iter().next() else { break };
        let attempt = call.attempt;
        let kind = if call.undo {
            assert!(undone.insert(call.key), "undone twice");
            FactKind::StepSucceeded { attempt, output: Value::Null }
        } else if n < STEPS {
            FactKind::StepSucceeded { attempt, output: json!({ "text": edge.value }) }
        } else {
            let error = StepError { error: edge.error.clone(), cause: edge.error.clone(), permanent: true };
            FactKind::StepFailed { attempt, error }
        };
        failed |= matches!(kind, FactKind::StepFailed { .. });
        told_to = told(&mut driver, kind, n as u64, &mut records);
    }
    let error = driver.execution().outcome().and_then(|outcome| outcome.error.as_deref());
    // What became too large on the way has a name of the language's own.
    if let Some(error) = error.filter(|error| failed && !error.starts_with("States.")) {
        let known = [identity(&edge.error, ERROR_MAX_BYTES).into_owned(), "Caught".into()];
        assert_eq!(error, known[usize::from(edge.error == edge.caught)]);
    }
    shown(&driver);
}

fn call(effect: Effect) -> Option<ActivityCall> {
    match effect {
        Effect::StartActivity(call) => Some(*call),
        Effect::StopActivity(_)
        | Effect::SetTimer { .. }
        | Effect::ClearTimer { .. }
        | Effect::Publish(_)
        | Effect::StartChild { .. }
        | Effect::CancelChild { .. }
        | Effect::Ended { .. }
        | Effect::Continue => None,
    }
}

/// What the saga says to the world then, of work to do.
fn told(driver: &mut Driver, kind: FactKind, seed: u64, records: &mut Vec<Record>) -> Vec<ActivityCall> {
    use supervisor::machine::Offer;
    let at = Time::from_micros(1_767_268_800_000_000);
    let Offer::Recorded(record) = driver.offer(Fact { at, seed, kind }) else { return Vec::new() };
    let (stored, state) = (codec::stored_len(&record), codec::stored_len(driver.execution()));
    assert!(stored <= LIMITS.message_bytes && state <= LIMITS.message_bytes, "{stored} and {state} bytes");
    records.push(record);
    let effects = driver.confirm(records.len() as u64);
    for effect in &effects {
        if let Effect::Publish(event) = effect {
            assert!(codec::json_len(event) <= LIMITS.message_bytes, "an event cannot travel");
        }
    }
    effects.into_iter().filter_map(call).collect()
}
