//! What is too large, and what becomes of it.

mod machine_common;

use machine_common::*;
use protocol::Code;
use serde_json::json;
use supervisor::machine::{FactKind, Offer, StepError};

const SIGNALLED: &str = r#"
name: signalled
definition:
  StartAt: Work
  States:
    Work: { Type: Task, Resource: "activity:work", Compensate: none, Next: Wait }
    Wait: { Type: Task, Resource: "signal:go", End: true }
"#;

#[test]
fn long_texts_from_outside_are_cut_with_a_mark() {
    let mut world = World::begin(SIGNALLED, json!(1));
    let attempt = world.take("work").attempt;
    let error = StepError { error: "E".repeat(1_000), cause: "x".repeat(100_000), permanent: false };
    world.fact(FactKind::StepFailed { attempt, error });
    let outcome = world.driver.execution().outcome().unwrap();
    assert_eq!(outcome.error.as_ref().map(String::len), Some(256));
    assert!(outcome.cause.as_ref().unwrap().ends_with("x… (100000 bytes in all)"));
    assert!(protocol::codec::store(world.records.last().unwrap()).len() < 20_000);
    let mut world = World::begin(SIGNALLED, json!(1));
    world.fact(FactKind::CancelRequested { by: "ada".into(), reason: "r".repeat(100_000) });
    assert!(protocol::codec::store(world.records.last().unwrap()).len() < 20_000);
    world.check_replay();
}

#[test]
fn a_signal_with_an_endless_id_is_refused() {
    let mut world = World::begin(SIGNALLED, json!(1));
    assert!(matches!(world.signal("go", json!(1), &"i".repeat(128)), Offer::Recorded(_)));
    let Offer::Refused(problem) = world.signal("go", json!(1), &"i".repeat(129)) else { panic!("taken") };
    assert_eq!(problem.code, Code::TooLarge);
}
