//! A snapshot of a saga, possibly damaged.

use std::sync::Arc;

use protocol::{Time, codec};
use serde_json::json;
use supervisor::machine::{AttemptRef, Driver, Execution, Fact, FactKind};

use super::machine::{definitions, shown};

/// The first byte picks a definition; the rest is a stored snapshot. Damage is an error; what is
/// readable can be shown, resumed, and takes facts without a panic, whatever it holds.
pub fn snapshot(data: &[u8]) {
    let Some((pick, bytes)) = data.split_first() else { return };
    let Ok(execution) = codec::load::<Execution>(bytes) else { return };
    assert_eq!(codec::load::<Execution>(&codec::store(&execution)).expect("what was stored is loadable"), execution);
    let definitions = definitions();
    let definition = &definitions[usize::from(*pick) % definitions.len()];
    let mut driver = Driver::restore(Arc::clone(definition), execution);
    shown(&driver);
    let timers: Vec<u64> = driver.execution().timers().map(|(timer, _)| timer).collect();
    let steps = driver.execution().open_tasks().into_iter().map(|task| task.step);
    let attempt = |step| AttemptRef { step, attempt: 1 };
    let mut facts: Vec<FactKind> = timers.into_iter().take(4).map(|timer| FactKind::TimerFired { timer }).collect();
    facts.extend(
        steps.chain(1..4).take(6).map(|step| FactKind::StepSucceeded { attempt: attempt(step), output: json!(1) }),
    );
    facts.push(FactKind::CancelRequested { by: "ops".into(), reason: "hostile".into(), parent: None });
    for kind in facts {
        let _ = driver.offer(Fact { at: Time::from_micros(1), seed: 3, kind });
        let _ = driver.confirm(9);
    }
    shown(&driver);
}
