//! Shares, counts, lengths of time and moments: what a definition says or asks for is taken exactly or
//! refused with what is right, and is never cut to fit.

use std::time::Duration;

use crate::common::*;
use proptest::prelude::*;
use protocol::{Time, Value};
use serde_json::{Number, json};
use supervisor::machine::Definition;
use supervisor::machine::amount::{self, Measure};

const TOLERATE: &str = r#"
name: tolerate
definition:
  StartAt: Each
  States:
    Each:
      Type: Map
      Items: "{% [1..$states.input.n] %}"
      ItemSelector: { item: "{% $states.context.Map.Item.Value %}", fail: "{% $states.input.fail %}" }
      ToleratedFailurePercentage: "{% $states.input.percent %}"
      ItemProcessor:
        StartAt: Check
        States:
          Check:
            Type: Choice
            Choices: [{ Condition: "{% $states.input.item <= $states.input.fail %}", Next: Bad }]
            Default: Good
          Bad: { Type: Fail, Error: Broken, Cause: planted }
          Good: { Type: Succeed }
      End: true
"#;

fn outcome(source: &str, input: Value) -> String {
    let mut world = World::begin(source, input);
    world.go_on();
    world.check_replay();
    let outcome = world.driver.execution().outcome().cloned().expect("it ends");
    outcome.error.unwrap_or_else(|| outcome.status.word().to_owned())
}

#[test]
fn a_map_fails_when_more_than_the_tolerated_percentage_failed_and_not_before() {
    const OVER: &str = "States.ExceedToleratedFailureThreshold";
    const WRONG: &str = "States.QueryEvaluationError";
    for (n, fail, percent, expected) in [
        (100, 29, json!(29), "succeeded"),
        (100, 30, json!(29), OVER),
        (100, 57, json!(57), "succeeded"),
        (100, 58, json!(58), "succeeded"),
        (50, 29, json!(58), "succeeded"),
        (50, 30, json!(58), OVER),
        (150, 123, json!(82), "succeeded"),
        (150, 124, json!(82), OVER),
        (1_000, 1, json!(0.1), "succeeded"),
        (1_000, 2, json!(0.1), OVER),
        (1_000, 291, json!(29.1), "succeeded"),
        (3, 1, json!(33.333), OVER),
        (3, 1, json!(33.34), "succeeded"),
        (10, 0, json!(0), "succeeded"),
        (10, 1, json!(0), OVER),
        (10, 1, json!(1e-7), OVER),
        (10, 1, json!(5e-324), OVER),
        (10, 10, json!(100), "succeeded"),
        (10, 10, json!(100.0), "succeeded"),
        (10, 0, json!(100.1), WRONG),
        (10, 0, json!(105), WRONG),
        (10, 0, json!(-1), WRONG),
        (10, 0, json!("50"), WRONG),
    ] {
        let said = outcome(TOLERATE, json!({ "n": n, "fail": fail, "percent": percent }));
        assert_eq!(said, expected, "{fail} of {n} at {percent} %");
    }
}

proptest! {
    /// A share of whole hundredths of a percent, against the definition of a share.
    #[test]
    fn a_share_is_the_most_that_does_not_exceed_it(hundredths in 0_u64..=10_000, count in 0_usize..=10_000) {
        let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        let percent: Number = serde_json::from_str(&text).unwrap();
        let share = amount::share(&percent, count) as u64;
        prop_assert!(share * 10_000 <= hundredths * count as u64);
        prop_assert!((share + 1) * 10_000 > hundredths * count as u64);
    }
}

#[test]
fn what_no_amount_can_be_is_refused_when_it_is_deployed() {
    let state =
        |fields: &str| format!("name: f\ndefinition:\n  StartAt: S\n  States:\n    S: {{ {fields}, End: true }}\n");
    let nested = "ItemProcessor: { StartAt: A, States: { A: { Type: Succeed } } }";
    for (fields, says) in [
        ("Type: Wait, Seconds: 1e12".to_owned(), "1000000000000.0 is not a number of seconds from 0 to 3153600000"),
        ("Type: Wait, Seconds: -1".to_owned(), "-1 is not a number of seconds"),
        (
            "Type: Task, Resource: task:human, TimeoutSeconds: 3153600001".to_owned(),
            "3153600001 is not a number of seconds",
        ),
        ("Type: Task, Resource: task:human, TimeoutSeconds: 0".to_owned(), "0 is not a number of seconds from 0.001"),
        ("Type: Task, Resource: activity:a, HeartbeatSeconds: 1e300".to_owned(), "is not a number of seconds"),
        (
            "Type: Task, Resource: activity:a, Retry: [{ ErrorEquals: [E], IntervalSeconds: 1e10 }]".to_owned(),
            "10000000000.0 is not a number of seconds",
        ),
        (
            "Type: Task, Resource: activity:a, Retry: [{ ErrorEquals: [E], MaxDelaySeconds: 1e10 }]".to_owned(),
            "10000000000.0 is not a number of seconds",
        ),
        (
            "Type: Task, Resource: activity:a, Retry: [{ ErrorEquals: [E], MaxAttempts: 5000000000 }]".to_owned(),
            "5000000000 is not a whole number from 0 to 99999999",
        ),
        (
            "Type: Task, Resource: activity:a, Compensate: { Resource: activity:b, TimeoutSeconds: 1e10 }".to_owned(),
            "10000000000.0 is not a number of seconds",
        ),
        (format!("Type: Map, ToleratedFailurePercentage: 105, {nested}"), "105 is not a number from 0 to 100"),
        (format!("Type: Map, ToleratedFailureCount: 1.5, {nested}"), "1.5 is not a whole number"),
        (format!("Type: Map, MaxConcurrency: 2.5, {nested}"), "2.5 is not a whole number"),
        ("Type: Wait, Timestamp: '2016-12-05 21:29:29Z'".to_owned(), "it must look like 2026-01-31T12:00:00Z"),
        ("Type: Wait, Timestamp: 5us".to_owned(), "it must look like"),
        ("Type: Wait, Timestamp: '2026-02-30T00:00:00Z'".to_owned(), "there is no day 2026-02-30"),
    ] {
        let faults = Definition::parse(&state(&fields), "f.yaml").expect_err(&fields).to_string();
        assert!(faults.contains(says), "{fields}: {faults}");
    }
    let whole = "name: f\ndefinition: { TimeoutSeconds: 1e11, StartAt: S, States: { S: { Type: Succeed } } }";
    assert!(Definition::parse(whole, "f.yaml").expect_err("too long").to_string().contains("100 years"));
}

#[test]
fn what_an_expression_asks_for_is_taken_as_it_is_or_fails_by_name() {
    let source =
        |field: &str| format!("name: f\ndefinition: {{ StartAt: S, States: {{ S: {{ {field}, End: true }} }} }}\n");
    let nested = "ItemProcessor: { StartAt: A, States: { A: { Type: Succeed } } }, Items: [1]";
    for (field, input) in [
        ("Type: Wait, Seconds: \"{% $states.input %}\"".to_owned(), json!(1e12)),
        ("Type: Wait, Seconds: \"{% $states.input %}\"".to_owned(), json!(3_153_600_001_u64)),
        ("Type: Task, Resource: activity:a, TimeoutSeconds: \"{% $states.input %}\"".to_owned(), json!(1e12)),
        ("Type: Task, Resource: activity:a, HeartbeatSeconds: \"{% $states.input %}\"".to_owned(), json!(1e12)),
        (format!("Type: Map, MaxConcurrency: \"{{% $states.input %}}\", {nested}"), json!(2.5)),
        (format!("Type: Map, ToleratedFailureCount: \"{{% $states.input %}}\", {nested}"), json!(0.5)),
        ("Type: Wait, Timestamp: \"{% $states.input %}\"".to_owned(), json!("2016-12-05 21:29:29Z")),
    ] {
        let world = World::begin(&source(&field), input.clone());
        let outcome = world.driver.execution().outcome().unwrap_or_else(|| panic!("{field}: it goes on"));
        assert_eq!(outcome.error.as_deref(), Some("States.QueryEvaluationError"), "{field}");
    }
    let wait = source("Type: Wait, Seconds: \"{% $states.input %}\"");
    let world = World::begin(&wait, json!(amount::SECONDS_MAX));
    let at = Time::from_micros(world.now).after(Duration::from_secs(amount::SECONDS_MAX));
    assert_eq!(world.timers.values().copied().collect::<Vec<_>>(), [at], "the longest wait is as long as it says");
    for text in ["9999-12-31T23:59:59Z", "2026-12-31T23:59:60Z", "2030-01-01T00:00:00.25-11:30"] {
        let wait = source("Type: Wait, Timestamp: \"{% $states.input %}\"");
        let world = World::begin(&wait, json!(text));
        let at = world.timers.values().copied().collect::<Vec<_>>();
        assert_eq!(at, [Time::rfc_3339(text).unwrap()], "{text}");
        let written = source(&format!("Type: Wait, Timestamp: '{text}'"));
        assert!(Definition::parse(&written, "f.yaml").is_ok(), "{text}");
    }
}

#[test]
fn what_an_earlier_release_took_is_still_read_and_fails_where_it_is_reached() {
    for state in [
        "Type: Wait, Seconds: 1e12",
        "Type: Wait, Timestamp: '2016-12-05 21:29:29Z'",
        "Type: Task, Resource: activity:a, TimeoutSeconds: 1e300",
        "Type: Map, Items: [1], ToleratedFailurePercentage: 105, ItemProcessor: { StartAt: A, States: { A: { Type: Succeed } } }",
        "Type: Pass, Output: '{% 12345678901234567890.12 %}'",
    ] {
        let source = format!("name: f\ndefinition: {{ StartAt: S, States: {{ S: {{ {state}, End: true }} }} }}\n");
        assert!(Definition::parse(&source, "f.yaml").is_err(), "{state}");
        let definition = Definition::parse_stored(&source, "f.yaml").unwrap_or_else(|faults| panic!("{faults}"));
        let mut world = World::new(&std::sync::Arc::new(definition));
        let fact = start(&world.definition, json!({}));
        world.fact(fact);
        let outcome = world.driver.execution().outcome().unwrap_or_else(|| panic!("{state}: it goes on"));
        assert_eq!(outcome.error.as_deref(), Some("States.QueryEvaluationError"), "{state}");
    }
    let retried = "name: f\ndefinition: { StartAt: S, States: { S: { Type: Task, Resource: activity:a, \
                   Retry: [{ ErrorEquals: [E], MaxAttempts: 1e12, IntervalSeconds: 1e12 }], End: true } } }";
    assert!(Definition::parse_stored(retried, "f.yaml").is_ok());
    assert!(Definition::parse_stored("name: f\ndefinition: { StartAt: S }", "f.yaml").is_err(), "what always was one");
}

#[test]
fn whole_numbers_are_those_without_a_fraction_however_they_are_written() {
    for (number, whole) in [
        (json!(3), Some(3)),
        (json!(3.0), Some(3)),
        (json!(u64::MAX), Some(u64::MAX)),
        (json!(-1), None),
        (json!(2.5), None),
        (json!(1e20), None),
    ] {
        let Value::Number(number) = number else { unreachable!() };
        assert_eq!(amount::whole(&number), whole, "{number}");
        assert_eq!(Measure::Count.holds(&number), whole.is_some(), "{number}");
    }
}
