//! What is too large, and what becomes of it.

use crate::common::*;
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
    assert_eq!(outcome.error.as_deref(), Some(&*protocol::text::identity(&"E".repeat(1_000), 256)));
    assert!(outcome.cause.as_ref().unwrap().ends_with("x… (100000 bytes in all)"));
    assert!(protocol::codec::store(world.records.last().unwrap()).len() < 20_000);
    let mut world = World::begin(SIGNALLED, json!(1));
    world.fact(FactKind::CancelRequested { by: "ada".into(), reason: "r".repeat(100_000), parent: None });
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

/// What one message of the bus takes, less its headers.
const MESSAGE_BYTES: usize = 1023 * 1024;

fn check_sizes(world: &World) {
    let state = protocol::codec::store(world.driver.execution()).len();
    assert!(state < MESSAGE_BYTES, "the state has {state} bytes");
    let record = world.records.iter().map(|record| protocol::codec::store(record).len()).max().unwrap();
    assert!(record < 960 * 1024, "a record has {record} bytes");
}

#[test]
fn a_state_that_would_make_the_execution_too_large_fails() {
    let mut states = String::new();
    for n in 0..9 {
        states += &format!(
            "    W{n}: {{ Type: Task, Resource: 'activity:work', Compensate: none, Assign: {{ v{n}: '{{% $states.result %}}' }}, Output: 1, Next: W{} }}\n",
            n + 1
        );
    }
    let source = format!("name: hoard\ndefinition:\n  StartAt: W0\n  States:\n{states}    W9: {{ Type: Succeed }}\n");
    let mut world = World::begin(&source, json!(1));
    while world.status() == "running" {
        world.succeed("work", json!("x".repeat(200_000)));
        check_sizes(&world);
    }
    let outcome = world.driver.execution().outcome().unwrap();
    assert_eq!(outcome.error.as_deref(), Some("States.DataLimitExceeded"));
    assert_eq!(world.records.len(), 1 + 5, "four of them fit, the fifth does not");
    world.check_replay();
}

/// A Map whose items are each undone.
const UNDONE: &str = r#"
name: crowd
definition:
  StartAt: Each
  States:
    Each:
      Type: Map
      ItemProcessor:
        StartAt: Work
        States: { Work: { Type: Task, Resource: "activity:work", Compensate: { Resource: "activity:unwork" }, End: true } }
      End: true
"#;

#[test]
fn items_whose_answers_have_no_room_together_fail_their_map() {
    let mut world = World::begin(UNDONE, json!((0..40).collect::<Vec<_>>()));
    while world.status() == "running" {
        world.succeed("work", json!("x".repeat(30_000)));
        check_sizes(&world);
    }
    assert_eq!(world.status(), "undoing");
    while world.status() == "undoing" {
        world.succeed("unwork", json!(null));
        check_sizes(&world);
    }
    let outcome = world.driver.execution().outcome().unwrap();
    assert_eq!(outcome.error.as_deref(), Some("States.DataLimitExceeded"));
    world.check_replay();
}

#[test]
fn a_wide_map_goes_over_its_items_a_part_at_a_time() {
    let source = r#"
name: wide
definition:
  StartAt: Each
  States:
    Each:
      Type: Map
      ItemProcessor:
        StartAt: Work
        States: { Work: { Type: Task, Resource: "activity:work", Compensate: none, Output: 1, End: true } }
      End: true
"#;
    let mut world = World::begin(source, json!((0..3_000).collect::<Vec<_>>()));
    assert_eq!(world.running.len(), 500);
    let mut answered = 0;
    while world.status() == "running" {
        world.succeed("work", json!(1));
        answered += 1;
        if answered % 500 == 1 {
            check_sizes(&world);
        }
    }
    assert_eq!((world.status(), answered), ("succeeded", 3_000));
}

#[test]
fn a_signal_that_has_no_room_is_refused_and_changes_nothing() {
    let mut world = World::begin(SIGNALLED, json!(1));
    for n in 0..4 {
        assert!(matches!(world.signal("go", json!("x".repeat(200_000)), &format!("s-{n}")), Offer::Recorded(_)));
    }
    let before = world.driver.execution().clone();
    let Offer::Refused(problem) = world.signal("go", json!("x".repeat(200_000)), "s-5") else { panic!("taken") };
    assert_eq!(problem.code, Code::TooLarge);
    assert_eq!(&before, world.driver.execution());
    check_sizes(&world);
}

/// Runs a Map of 10,000 items to the answer of its last.
fn ten_thousand(last: impl FnOnce(&mut World) -> Offer) -> World {
    let mut world = World::begin(UNDONE, json!((0..10_000).collect::<Vec<_>>()));
    for answered in 0..9_999 {
        assert_eq!(world.status(), "running", "after {answered} items");
        world.succeed("work", json!({ "id": answered }));
        if answered % 1_000 == 999 {
            check_limit(&world);
        }
    }
    last(&mut world);
    world
}

fn check_limit(world: &World) {
    let (state, limit) =
        (protocol::codec::store(world.driver.execution()).len(), world.definition.limits().execution_bytes);
    assert!(state <= limit, "the state has {state} bytes, the limit is {limit}");
    check_sizes(world);
}

#[test]
fn a_map_holds_the_items_that_its_limit_promises() {
    let world = ten_thousand(|world| world.succeed("work", json!({ "id": 9_999 })));
    assert_eq!(world.status(), "succeeded");
    assert_eq!(world.driver.execution().outcome().unwrap().output.as_ref().unwrap()[9_998], json!({ "id": 9_998 }));
    check_sizes(&world);
    world.check_replay();
}

#[test]
fn a_map_that_fails_with_its_last_item_undoes_all_the_others() {
    let mut world = ten_thousand(|world| world.fail("work", "Broken"));
    let (mut undone, mut items) = (0, std::collections::BTreeSet::new());
    while world.status() == "undoing" {
        assert!(world.running.len() <= 500, "as many at once as there are items at once");
        if undone % 1_000 == 0 {
            check_limit(&world);
        }
        if undone == 5_000 {
            world.check_replay();
        }
        items.insert(world.running[0].arguments["input"].as_u64().unwrap());
        world.succeed("unwork", json!(null));
        undone += 1;
    }
    assert_eq!((world.status(), undone, items.len()), ("failed", 10_000, 10_000));
    world.check_replay();
}

#[test]
fn many_undos_that_are_stuck_hold_up_the_rest_until_an_operator_decides() {
    let mut world = World::begin(UNDONE, json!((0..600).collect::<Vec<_>>()));
    for _ in 0..599 {
        world.succeed("work", json!(1));
    }
    world.fail("work", "Broken");
    while !world.running.is_empty() {
        let attempt = world.take("unwork").attempt;
        world.fact(FactKind::StepFailed { attempt, error: error("Gone", true) });
    }
    let stuck = world.driver.execution().waiting().iter().filter(|it| it.last_error.is_some()).count();
    assert_eq!((world.status(), stuck), ("stuck", 500));
    let (decision, by, reason) = (protocol::command::ReleaseDecision::Skip, "ops".into(), "gone with it".into());
    world.fact(FactKind::Operator(supervisor::machine::Operator { decision, by, reason }));
    assert_eq!((world.status(), world.running.len()), ("undoing", 100));
    while !world.running.is_empty() {
        world.succeed("unwork", json!(null));
    }
    assert_eq!(world.status(), "failed");
    world.check_replay();
}
