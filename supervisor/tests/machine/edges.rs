//! Names, keys and sizes at their edges: nothing that identifies is cut, and what cannot travel is
//! refused when it is decided.

use std::collections::BTreeSet;

use crate::common::*;
use protocol::activity::{ERROR_MAX_BYTES, KEY_MAX_BYTES};
use protocol::text::identity;
use serde_json::json;
use supervisor::machine::expression::Limits;
use supervisor::machine::{ActivityCall, Definition, FactKind, StepError};

/// Two Maps inside each other whose names have 80 characters of four bytes, with two steps whose
/// keys differ only behind what a header takes.
fn nested() -> String {
    let (outer, inner) = ("\u{20000}".repeat(80), "\u{20001}".repeat(80));
    let step = |last: &str| format!("{}{last}", "\u{20002}".repeat(79));
    let (one, two) = (step("1"), step("2"));
    let undo = json!({ "Resource": "activity:keys.undo" });
    let work = |next: serde_json::Value| {
        let mut state = json!({ "Type": "Task", "Resource": "activity:keys.note", "Compensate": undo });
        state.as_object_mut().unwrap().extend(next.as_object().unwrap().clone());
        state
    };
    let steps = json!({ &one: work(json!({ "Next": two })), &two: work(json!({ "End": true })) });
    let items = json!({ "StartAt": one, "States": steps });
    let inside = json!({ &inner: { "Type": "Map", "Items": [0, 1], "ItemProcessor": items, "End": true } });
    let states = json!({
        &outer: {
            "Type": "Map", "Items": [0], "ItemProcessor": { "StartAt": inner, "States": inside }, "Next": "Bad"
        },
        "Bad": { "Type": "Fail", "Error": "E", "Cause": "so that all is undone" },
    });
    json!({ "name": "cut", "definition": { "StartAt": outer, "States": states } }).to_string()
}

#[test]
fn two_steps_with_long_names_have_two_keys_and_each_is_undone_under_its_own() {
    let mut world = World::begin(&nested(), json!(null));
    let mut done: Vec<ActivityCall> = Vec::new();
    while let Some(call) = world.running.iter().find(|call| !call.undo).cloned() {
        done.push(call);
        world.succeed("keys.note", json!({ "did": true }));
    }
    let keys: BTreeSet<&str> = done.iter().map(|call| call.key.as_str()).collect();
    assert_eq!((done.len(), keys.len()), (4, 4), "{keys:#?}");
    assert!(keys.iter().all(|key| key.len() <= KEY_MAX_BYTES && key.starts_with("acme/install-7/")), "{keys:#?}");
    let mut undone = BTreeSet::new();
    while world.status() == "undoing" {
        let call = world.running[0].clone();
        assert!(done.iter().any(|did| did.key == call.key), "{} was never done", call.key);
        assert!(undone.insert(call.key), "undone once each");
        world.succeed("keys.undo", json!(null));
    }
    assert_eq!((world.status(), undone.len()), ("failed", 4));
    world.check_replay();
}

#[test]
fn a_key_that_fits_is_what_it_always_was() {
    let source = r#"
name: plain
definition:
  StartAt: Each
  States:
    Each:
      Type: Map
      ItemProcessor: { StartAt: Work, States: { Work: { Type: Task, Resource: "activity:work", End: true } } }
      End: true
"#;
    let world = World::begin(source, json!(["a"]));
    assert_eq!(world.running[0].key, "acme/install-7/Each[0].Work.3");
}

/// The error is caught by its whole name; one that differs in its last letter is not.
#[test]
fn an_error_with_a_long_name_is_caught_by_its_name() {
    let name = |last: &str| format!("{}{last}", "Problem".repeat(60));
    let source = |caught: &str| {
        json!({
            "name": "long",
            "definition": {
                "StartAt": "Work",
                "States": {
                    "Work": {
                        "Type": "Task", "Resource": "activity:work", "Compensate": "none",
                        "Retry": [{ "ErrorEquals": [caught], "MaxAttempts": 1 }],
                        "Catch": [{ "ErrorEquals": [caught], "Next": "Caught" }], "End": true,
                    },
                    "Caught": { "Type": "Fail", "Error": "{% $states.input.Error %}" },
                },
            },
        })
        .to_string()
    };
    let fail = |world: &mut World| {
        let attempt = world.take("work").attempt;
        let error = StepError { error: name("1"), cause: "because".into(), permanent: false };
        world.fact(FactKind::StepFailed { attempt, error });
    };
    let mut world = World::begin(&source(&name("1")), json!(null));
    fail(&mut world);
    assert_eq!(world.timers.len(), 1, "it is tried again");
    world.ring();
    fail(&mut world);
    let outcome = world.driver.execution().outcome().unwrap();
    let whole = name("1");
    let kept = identity(&whole, ERROR_MAX_BYTES);
    assert_eq!((&*outcome.state, outcome.error.as_deref()), ("Caught", Some(&*kept)), "{outcome:?}");
    world.check_replay();
    let mut world = World::begin(&source(&name("2")), json!(null));
    fail(&mut world);
    assert_eq!(world.driver.execution().outcome().unwrap().state, "Work", "another name is another error");
}

/// 200,000 bytes that are 1,200,000 bytes of JSON.
const GROW: &str = r#"
name: grow
definition:
  StartAt: Grow
  States:
    Grow: { Type: Pass, Output: { text: "{% $pad('', 200000, '\\u0001') %}" }, Next: Tell }
    Tell: { Type: Task, Resource: "event:Grown", Arguments: "{% $states.input %}", End: true }
"#;

#[test]
fn a_value_that_grows_as_it_is_written_is_measured_as_it_is_written() {
    let world = World::begin(GROW, json!(null));
    let outcome = world.driver.execution().outcome().unwrap();
    assert_eq!(outcome.error.as_deref(), Some("States.DataLimitExceeded"), "{outcome:?}");
    assert!(outcome.cause.as_ref().unwrap().contains("1200011 bytes"), "{outcome:?}");
    assert!(world.events.is_empty());
    world.check_replay();
}

/// What the limit for values lets through may still be too large with what stands beside it, or once
/// the servers carry less than before.
#[test]
fn what_does_not_fit_into_one_message_fails_the_state_that_would_send_it() {
    let undo = r#"Compensate: { Resource: "activity:unwork" }"#;
    for (resource, undo) in
        [("activity:work", "Compensate: none"), ("event:Told", ""), ("saga:child", ""), ("signal:go", undo)]
    {
        let source = format!(
            r#"
name: sends
definition:
  StartAt: Send
  States:
    Send: {{ Type: Task, Resource: "{resource}", {undo}{comma} Catch: [{{ ErrorEquals: [States.DataLimitExceeded], Next: Caught }}], End: true }}
    Caught: {{ Type: Succeed, Output: caught }}
"#,
            comma = if undo.is_empty() { "" } else { "," },
        );
        let (definition, _) = Definition::parse(&source, "test.yaml").unwrap();
        let limits = Limits { message_bytes: 116 * 1024, ..Limits::default() };
        let definition = std::sync::Arc::new(definition.with_limits(limits));
        for (bytes, fits) in [(100 * 1024 - 2, true), (100 * 1024 - 1, false)] {
            let mut world = World::new(&definition);
            let started = start(&definition, json!("x".repeat(bytes)));
            world.fact(started);
            let outcome = world.driver.execution().outcome().and_then(|outcome| outcome.output.clone());
            assert_eq!(outcome == Some(json!("caught")), !fits, "{resource} with {bytes} bytes: {outcome:?}");
        }
    }
}

#[test]
fn a_wide_map_inside_long_names_stays_within_one_message() {
    let mut definition = json!({
        "StartAt": "W",
        "States": { "W": { "Type": "Task", "Resource": "activity:work", "Compensate": { "Resource": "activity:unwork" }, "End": true } },
    });
    for level in 0..12 {
        let name = format!("{level:02}{}", "\u{20000}".repeat(78));
        let items = if level == 0 { json!((0..300).collect::<Vec<_>>()) } else { json!([0]) };
        definition = json!({
            "StartAt": name,
            "States": { &name: { "Type": "Map", "Items": items, "ItemProcessor": definition, "End": true } },
        });
    }
    let mut world = World::begin(&json!({ "name": "wide", "definition": definition }).to_string(), json!(null));
    world.go_on();
    while world.status() == "running" {
        let state = protocol::codec::stored_len(world.driver.execution());
        assert!(state < 1023 * 1024, "the state has {state} bytes");
        let record = protocol::codec::stored_len(world.records.last().unwrap());
        assert!(record < 960 * 1024, "a record has {record} bytes");
        world.succeed("work", json!(1));
        world.go_on();
    }
    assert_eq!(world.status(), "undoing", "all that is left to undo does not fit either");
    world.check_replay();
}
