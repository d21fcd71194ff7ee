//! An expression with its input: time, memory and depth keep to their limits whatever it says.

use std::time::Duration;

use protocol::{Time, Value};
use serde_json::json;
use supervisor::machine::expression::{Expression, Limits, Sight, size};

use super::depth;
use super::run::Clock;

/// Tight limits, so that what passes them shows.
pub(super) const LIMITS: Limits = Limits {
    expression_ms: 100,
    expression_depth: 1_000,
    expression_sequence: 10_000,
    expression_bytes: 1 << 20,
    value_bytes: 64 * 1024,
    message_bytes: 1024 * 1024,
    transitions: 100,
    unbroken_states: 2_000,
    overruns: 3,
    map_items: 100,
    map_width: 100,
    child_depth: 32,
    execution_bytes: 256 * 1024,
    record_bytes: 256 * 1024,
};
/// How far over the time limit an evaluation may run: one step of the engine, unoptimised.
const OVER: Duration = Duration::from_millis(900);

/// The expression stands before the first zero byte, its input (JSON) behind it.
pub fn expression(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Some(Ok(source)) = parts.next().map(std::str::from_utf8) else { return };
    let input = parts.next().and_then(|input| serde_json::from_slice::<Value>(input).ok());
    let input = input.unwrap_or_else(|| json!({ "a": [1, 2, 3], "b": { "c": "d" }, "t": "text" }));
    let expression = match Expression::new(source) {
        Ok(expression) => expression,
        Err(why) => return assert!(!why.is_empty() && why.len() <= 4_096, "a fault of {} bytes", why.len()),
    };
    let context = || json!({ "Execution": { "Id": "acme/x" } });
    let variable = |name: &str| (name == "input").then_some(&input);
    let sight = Sight {
        input: &input,
        result: Some(&input),
        error: None,
        context: &context,
        variable: &variable,
        now: Time::from_micros(1_700_000_000_000_000),
        seed: 7,
        limits: LIMITS,
    };
    let began = Clock::now();
    match expression.evaluate(&sight) {
        Ok(value) => {
            assert!(depth(&value) <= 128, "a value of depth {}", depth(&value));
            // A plain path hands its input on; what was made is bounded.
            let bound = LIMITS.expression_bytes.max(size(&input));
            assert!(size(&value) <= bound, "a value of {} bytes", size(&value));
        }
        Err(trouble) => assert!(trouble.cause.len() <= 2_048, "a cause of {} bytes", trouble.cause.len()),
    }
    let took = began.elapsed();
    assert!(took < Duration::from_millis(LIMITS.expression_ms) + OVER, "it took {took:?}");
}
