//! One decision has one budget: what needs more goes on with the saga's next turn, and what makes no
//! progress is parked.

use std::cell::Cell;
use std::sync::Arc;

use crate::common::*;
use protocol::command::ReleaseDecision;
use protocol::view::Status;
use serde_json::{Value, json};
use supervisor::machine::expression::Limits;
use supervisor::machine::{Allowance, Change, Definition, Driver, Fact, FactKind, Offer, Operator, Record};

const LOOP: &str = r#"
name: loop
definition:
  StartAt: Init
  States:
    Init: { Type: Pass, Assign: { n: 0, max: "{% $states.input.max %}" }, Next: Turn }
    Turn: { Type: Task, Resource: "event:Turned", Next: Count }
    Count: { Type: Pass, Assign: { n: "{% $n + 1 %}" }, Next: More }
    More: { Type: Choice, Choices: [{ Condition: "{% $n < $max %}", Next: Turn }], Default: Done }
    Done: { Type: Succeed }
"#;

const FIBONACCI: &str = "{% ($f:=function($n){$n<2?$n:$f($n-1)+$f($n-2)};$f(40)) %}";

fn limited(source: &str, limits: Limits) -> Arc<Definition> {
    Arc::new(Definition::clone(&define(source)).with_limits(limits))
}

fn begin(source: &str, limits: Limits, input: Value) -> World {
    let definition = limited(source, limits);
    let mut world = World::new(&definition);
    let fact = start(&definition, input);
    world.fact(fact);
    world
}

fn cuts(record: &Record) -> bool {
    record.changes.iter().any(|change| matches!(change, Change::Cut { .. }))
}

fn now(number: i64, kind: FactKind) -> Fact {
    Fact { at: protocol::Time::from_micros(NOON + number), seed: 7, kind }
}

#[test]
fn a_long_loop_goes_on_record_by_record_until_its_end() {
    let mut world = begin(LOOP, Limits::default(), json!({ "max": 30_000 }));
    assert_eq!((world.status(), world.turns), ("running", 1));
    assert_eq!(world.driver.execution().waiting()[0].kind, "turn");
    world.go_on();
    assert_eq!((world.status(), world.events.len()), ("succeeded", 30_000));
    assert_eq!(world.records.len(), 91, "90,002 states, a thousand in each record");
    let mut ids: Vec<_> = world.events.iter().map(|event| event.event_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 30_000, "every event has an id of its own");
    world.check_replay();
}

#[test]
fn a_cut_saga_is_taken_up_from_its_snapshot_and_from_its_records() {
    let mut world = begin(LOOP, Limits { transitions: 7, ..Limits::default() }, json!({ "max": 20 }));
    let bytes = protocol::codec::store(world.driver.execution());
    world.driver = Driver::restore(Arc::clone(&world.definition), protocol::codec::load(&bytes).unwrap());
    assert_eq!(world.driver.resume(), [supervisor::machine::Effect::Continue]);
    world.go_on();
    assert_eq!((world.status(), world.events.len()), ("succeeded", 20));
    world.check_replay();
}

#[test]
fn something_from_outside_comes_between_two_turns() {
    let mut world = begin(LOOP, Limits { transitions: 7, ..Limits::default() }, json!({ "max": 1_000_000 }));
    world.fact(FactKind::CancelRequested { by: "ada".into(), reason: "enough".into(), parent: None });
    assert_eq!(world.status(), "cancelled");
    assert!(matches!(world.fact(FactKind::Continued), Offer::Ignored(_)), "a turn that came too late");
    world.check_replay();
}

#[test]
fn branches_that_are_cut_all_get_on() {
    let branch = |name: &str| {
        format!(
            "{{ StartAt: I{name}, States: {{ I{name}: {{ Type: Pass, Assign: {{ n: 0 }}, Next: C{name} }}, \
             C{name}: {{ Type: Pass, Assign: {{ n: '{{% $n + 1 %}}' }}, Next: M{name} }}, \
             M{name}: {{ Type: Choice, Choices: [{{ Condition: '{{% $n < 50 %}}', Next: C{name} }}], Default: D{name} }}, \
             D{name}: {{ Type: Succeed, Output: '{{% $n %}}' }} }} }}"
        )
    };
    let source = format!(
        "name: both\ndefinition:\n  StartAt: Both\n  States:\n    Both: {{ Type: Parallel, Branches: [{}, {}], End: true }}",
        branch("a"),
        branch("b")
    );
    let mut world = begin(&source, Limits { transitions: 5, ..Limits::default() }, json!(0));
    world.go_on();
    assert_eq!(world.driver.execution().outcome().unwrap().output, Some(json!([50, 50])));
    let entered = |record: &Record, prefix: &str| {
        record.changes.iter().any(|change| matches!(change, Change::Entered { state, .. } if state.ends_with(prefix)))
    };
    assert!(world.records[2..30].iter().all(|record| entered(record, "a") && entered(record, "b")), "side by side");
    world.check_replay();
}

#[test]
fn a_map_over_more_items_than_one_record_holds_ends() {
    let source = r#"
name: many
definition:
  StartAt: Each
  States:
    Each:
      Type: Map
      ItemSelector: { n: "{% $states.context.Map.Item.Value + 1 %}" }
      ItemProcessor: { StartAt: One, States: { One: { Type: Pass, Output: "{% $states.input.n %}", End: true } } }
      End: true
"#;
    let mut world = begin(source, Limits::default(), json!((0..1_300).collect::<Vec<_>>()));
    world.go_on();
    let output = world.driver.execution().outcome().unwrap().output.clone().unwrap();
    assert_eq!(output.as_array().map(Vec::len), Some(1_300));
    assert_eq!((&output[0], &output[1_299]), (&json!(1), &json!(1_300)));
    assert!(world.records.len() > 1);
    world.check_replay();
}

#[test]
fn states_that_are_too_large_for_one_record_together_get_one_each() {
    // Each writes 200,000 bytes three times, as its undo's result, as a variable and as its output.
    let states: String = (0..6)
        .map(|n| {
            format!(
                "    S{n}: {{ Type: Pass, Assign: {{ a: '{{% $states.input %}}', b: '{{% $states.input %}}' }}, Output: '{{% $states.input %}}', Next: S{} }}\n",
                n + 1
            )
        })
        .collect();
    let source =
        format!("name: large\ndefinition:\n  StartAt: S0\n  States:\n{states}    S6: {{ Type: Succeed, Output: 1 }}\n");
    let limits = Limits { execution_bytes: 8 << 20, ..Limits::default() };
    let mut world = begin(&source, limits, json!("x".repeat(200_000)));
    world.go_on();
    assert_eq!(world.status(), "succeeded", "{:?}", world.driver.execution().outcome());
    assert!(world.records.len() >= 6, "{}", world.records.len());
    for record in &world.records {
        assert!(protocol::codec::store(record).len() <= Limits::default().record_bytes + 210_000);
    }
    world.check_replay();
}

#[test]
fn a_state_that_is_too_large_by_itself_fails() {
    let values: String = (0..4).map(|n| format!("v{n}: '{{% $states.input %}}', ")).collect();
    let source = format!(
        "name: large\ndefinition:\n  StartAt: Small\n  States:\n    Small: {{ Type: Pass, Output: '{{% $states.input %}}', Next: Large }}\n    Large: {{ Type: Pass, Assign: {{ {values} }}, End: true }}\n"
    );
    let limits = Limits { execution_bytes: 8 << 20, ..Limits::default() };
    let mut world = begin(&source, limits, json!("x".repeat(200_000)));
    world.go_on();
    let outcome = world.driver.execution().outcome().unwrap();
    assert_eq!(outcome.error.as_deref(), Some("States.DataLimitExceeded"));
    assert_eq!(world.records.len(), 2, "it had a record to itself before it failed");
    world.check_replay();
}

#[test]
fn a_circle_without_a_wait_is_parked_in_the_end_and_can_be_released() {
    let source = "name: round\ndefinition:\n  StartAt: A\n  States:\n    A: { Type: Pass, Next: B }\n    B: { Type: Choice, Choices: [{ Condition: '{% $states.input.stop %}', Next: C }], Default: A }\n    C: { Type: Succeed }\n";
    let limits = Limits { transitions: 100, unbroken_states: 1_000, ..Limits::default() };
    let mut world = begin(source, limits, json!({ "stop": false }));
    world.go_on();
    assert_eq!((world.status(), world.records.len()), ("stuck", 10));
    let waiting = &world.driver.execution().waiting()[0];
    assert!(waiting.what.contains("1000 states were entered without waiting for anything"), "{}", waiting.what);
    world.check_replay();
    assert!(matches!(world.fact(FactKind::Continued), Offer::Ignored(_)));
    let release =
        |decision| FactKind::Operator(Operator { decision, by: "ops".into(), reason: "it was a mistake".into() });
    world.fact(release(ReleaseDecision::Retry));
    assert_eq!((world.status(), world.turns), ("running", 1), "it goes on where it was cut");
    world.go_on();
    assert_eq!(world.status(), "stuck", "and makes no more progress than before");
    world.fact(release(ReleaseDecision::Abandon));
    assert_eq!(world.status(), "abandoned");
    world.check_replay();
}

#[test]
fn a_wait_in_the_circle_is_progress() {
    let source = "name: control\ndefinition:\n  StartAt: A\n  States:\n    A: { Type: Pass, Next: W }\n    W: { Type: Wait, Seconds: 1, Next: M }\n    M: { Type: Choice, Choices: [{ Condition: '{% $states.input = 1 %}', Next: D }], Default: A }\n    D: { Type: Succeed }\n";
    let mut world = begin(source, Limits { unbroken_states: 10, ..Limits::default() }, json!(0));
    for _ in 0..50 {
        world.ring();
    }
    assert_eq!(world.status(), "waiting");
}

/// A hog behind a Wait that catches what its expression runs into.
fn hog(limits: Limits) -> Arc<Definition> {
    let source = format!(
        "name: hog\ndefinition:\n  StartAt: W\n  States:\n    W: {{ Type: Wait, Seconds: 2, Next: A }}\n    A: {{ Type: Task, Resource: 'event:X', Arguments: \"{FIBONACCI}\", Catch: [{{ ErrorEquals: [States.ALL], Next: A }}], Next: Z }}\n    Z: {{ Type: Succeed }}\n"
    );
    limited(&source, limits)
}

#[test]
fn a_saga_that_only_overruns_is_parked_with_the_reason() {
    let definition = hog(Limits { expression_ms: 20, overruns: 3, ..Limits::default() });
    let mut driver = Driver::new(saga(), Arc::clone(&definition));
    let began = std::time::Instant::now();
    let mut number = 0;
    let mut say = |driver: &mut Driver, kind| {
        number += 1;
        let began = std::time::Instant::now();
        let spent = || u64::try_from(began.elapsed().as_millis()).unwrap();
        let Offer::Recorded(record) = driver.offer_within(now(number, kind), Allowance::whole(&spent)) else {
            panic!("it settles something")
        };
        driver.confirm(record.number);
        record
    };
    say(&mut driver, start(&definition, json!(1)));
    let (timer, _) = driver.execution().timers().next().unwrap();
    let mut records = vec![say(&mut driver, FactKind::TimerFired { timer })];
    while driver.execution().status() != Status::Stuck {
        assert!(cuts(records.last().unwrap()), "each is cut after one state");
        records.push(say(&mut driver, FactKind::Continued));
        assert!(records.len() < 10);
    }
    assert_eq!(records.len(), 3, "one for each overrun");
    let what = driver.execution().waiting()[0].what.clone();
    assert!(what.contains("ran into the limit of 20 ms 3 times") && what.contains("the last in A"), "{what}");
    assert!(began.elapsed().as_secs() < 10);
}

#[test]
fn what_a_brief_decision_cannot_do_changes_nothing_and_is_decided_at_leisure() {
    let definition = hog(Limits { expression_ms: 50, ..Limits::default() });
    let mut driver = Driver::new(saga(), Arc::clone(&definition));
    let at_once = || 0;
    let Offer::Recorded(_) = driver.offer_within(now(1, start(&definition, json!(1))), Allowance::brief(&at_once, 2))
    else {
        panic!("a Wait is entered at once")
    };
    driver.confirm(1);
    let (timer, _) = driver.execution().timers().next().unwrap();
    let before = driver.clone();
    let fact = now(2, FactKind::TimerFired { timer });
    let Offer::Unfinished(back) = driver.offer_within(fact.clone(), Allowance::brief(&at_once, 2)) else {
        panic!("it takes much longer")
    };
    assert_eq!(back, fact);
    assert_eq!(driver.execution(), before.execution(), "nothing of it stays");
    assert!(driver.confirm(1).is_empty(), "nor of its effects");
    let Offer::Recorded(record) = driver.offer_within(back, Allowance::whole(&at_once)) else { panic!("decided") };
    assert!(record.changes.iter().any(|change| matches!(change, Change::Overran { .. })));
}

#[test]
fn a_bare_decision_accepts_a_start_and_leaves_the_work_to_the_first_turn() {
    let source = format!(
        "name: slow\ndefinition:\n  StartAt: A\n  States:\n    A: {{ Type: Pass, Output: \"{FIBONACCI}\", End: true }}\n"
    );
    let definition = limited(&source, Limits::default());
    let mut driver = Driver::new(saga(), Arc::clone(&definition));
    let Offer::Recorded(record) = driver.offer_within(now(1, start(&definition, json!(1))), Allowance::bare(&|| 0))
    else {
        panic!("it is started")
    };
    assert!(cuts(&record));
    assert_eq!((driver.execution().status(), driver.execution().state().as_str()), (Status::Running, "A"));
    assert_eq!(driver.confirm(1), [supervisor::machine::Effect::Continue]);
}

#[test]
fn expressions_that_share_a_decision_are_cut_apart_and_none_fails() {
    // Each takes 40 of the 100 ms, as its clock has it: two fit into a decision, the third is taken back.
    let states: String = (0..6)
        .map(|n| format!("    S{n}: {{ Type: Pass, Output: '{{% $string($states.input) %}}', Next: S{} }}\n", n + 1))
        .collect();
    let source = format!("name: row\ndefinition:\n  StartAt: S0\n  States:\n{states}    S6: {{ Type: Succeed }}\n");
    let definition = limited(&source, Limits { expression_ms: 100, ..Limits::default() });
    let mut driver = Driver::new(saga(), Arc::clone(&definition));
    let (mut records, mut kind) = (Vec::new(), start(&definition, json!(1)));
    while !driver.execution().is_final() {
        let spent = Cell::new(0);
        let clock = || {
            spent.set(spent.get() + 20);
            spent.get()
        };
        let offer = driver.offer_within(now(1, kind), Allowance::whole(&clock));
        let Offer::Recorded(record) = offer else { panic!("{offer:?}") };
        driver.confirm(record.number);
        records.push(record);
        kind = FactKind::Continued;
        assert!(records.len() < 20);
    }
    assert_eq!(driver.execution().status(), Status::Succeeded);
    assert!(records.len() > 1, "it was cut");
}
