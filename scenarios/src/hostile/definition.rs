//! A definition's text, from whoever may deploy one.

use protocol::Value;
use serde_json::json;
use supervisor::machine::definition::source::SOURCE_MAX_BYTES;
use supervisor::machine::{Definition, render};

/// The longest list of faults: a person reads it, and it travels in one answer.
const FAULTS_MAX_BYTES: usize = 256 * 1024;
/// The largest picture, as a multiple of the text it is of; edges name states that labels and
/// branches repeat.
const PICTURE_TIMES: usize = 64;

/// Faults, each with a place in the text; or a definition that can be drawn, started and read again.
pub fn definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for read in [Definition::parse(text, "hostile.yaml"), Definition::parse_named(text, "hostile.yaml", "hostile")] {
        match read {
            Ok((definition, warnings)) => {
                assert!(text.len() <= SOURCE_MAX_BYTES);
                accepted(&definition, text);
                assert!(warnings.iter().all(|warning| warning.to_string().len() < FAULTS_MAX_BYTES));
            }
            Err(faults) => {
                let said = faults.to_string();
                assert!(!said.is_empty() && said.len() <= FAULTS_MAX_BYTES, "faults of {} bytes", said.len());
            }
        }
    }
}

fn accepted(definition: &Definition, text: &str) {
    assert!(definition.nests().iter().all(|nest| definition.state(&nest.start).is_some()), "a start is missing");
    for state in definition.states() {
        assert!(state.edges().iter().all(|(to, _)| definition.state(to).is_some()), "an edge leads nowhere");
    }
    let picture = render(definition);
    assert!(picture.len() <= 4_096 + text.len() * PICTURE_TIMES, "{} bytes drawn from {}", picture.len(), text.len());
    let (again, _) =
        Definition::parse_named(definition.source(), "again.yaml", definition.name()).expect("it was read");
    assert_eq!((again.digest(), again.states().len()), (definition.digest(), definition.states().len()));
    // What was accepted also starts, whatever its expressions do then.
    let definition = std::sync::Arc::new(definition.clone().with_limits(super::expression::LIMITS));
    let input: Value = json!({ "a": [1, 2, 3], "b": { "c": "d" } });
    super::machine::begin(&definition, input);
}
