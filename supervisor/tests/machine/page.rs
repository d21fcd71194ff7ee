//! The whole machine on one page: every situation against every fact.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use crate::common::*;
use protocol::command::ReleaseDecision;
use protocol::view::{Outcome, Status};
use serde_json::json;
use supervisor::machine::expression::Limits;
use supervisor::machine::{Definition, FactKind, Offer, Operator, describe};

const SOURCE: &str = r#"
name: page
definition:
  StartAt: First
  TimeoutSeconds: 86400
  States:
    First: { Type: Task, Resource: "activity:first", Compensate: { Resource: "activity:unfirst" }, Next: Where }
    Where:
      Type: Choice
      Choices:
        - { Condition: "{% $states.input = 'task' %}", Next: Work }
        - { Condition: "{% $states.input = 'wait' %}", Next: Pause }
        - { Condition: "{% $states.input = 'signal' %}", Next: Signal }
        - { Condition: "{% $states.input = 'human' %}", Next: Person }
        - { Condition: "{% $states.input = 'child' %}", Next: Child }
        - { Condition: "{% $states.input = 'side' %}", Next: Side }
        - { Condition: "{% $states.input = 'compensate' %}", Next: Undo }
      Default: Work
    Work: { Type: Task, Resource: "activity:work", Compensate: { Resource: "activity:unwork" }, Retry: [{ ErrorEquals: [Transient] }], End: true }
    Pause: { Type: Wait, Seconds: 60, End: true }
    Signal: { Type: Task, Resource: "signal:go", TimeoutSeconds: 60, End: true }
    Person: { Type: Task, Resource: "task:human", End: true }
    Child: { Type: Task, Resource: "saga:other", End: true }
    Side:
      Type: Parallel
      Branches:
        - { StartAt: Left, States: { Left: { Type: Task, Resource: "activity:left", Compensate: { Resource: "activity:unleft" }, End: true } } }
        - { StartAt: Right, States: { Right: { Type: Task, Resource: "activity:right", Compensate: { Resource: "activity:unright" }, End: true } } }
      End: true
    Undo: { Type: Compensate, End: true }
"#;

/// Every situation a saga can be in, each with the road that leads there.
fn situations() -> Vec<(&'static str, World)> {
    let fresh = || World::new(&define(SOURCE));
    let first = || World::begin(SOURCE, json!(1));
    let at = |place: &str| {
        let mut world = first();
        world.succeed("first", json!(place));
        world
    };
    // One state for each decision: after Where it is cut.
    let cut = || {
        let one = Limits { transitions: 1, ..Limits::default() };
        let definition = Arc::new(Definition::clone(&define(SOURCE)).with_limits(one));
        let mut world = World::new(&definition);
        world.fact(start(&definition, json!(1)));
        world.succeed("first", json!("task"));
        world
    };
    let failing = || {
        let mut world = at("task");
        world.fail("work", "Broken");
        world
    };
    let with = |mut world: World, run: &dyn Fn(&mut World)| {
        run(&mut world);
        world
    };
    let operator = |decision| {
        move |world: &mut World| {
            world.fact(FactKind::Operator(Operator { decision, by: "ops".into(), reason: "why".into() }));
        }
    };
    let stick = |world: &mut World| {
        let attempt = world.take("unwork").attempt;
        world.fact(FactKind::StepFailed { attempt, error: error("Gone", true) });
    };
    vec![
        ("not started", fresh()),
        ("running: an attempt", first()),
        ("running: branches side by side", at("side")),
        ("running: cut, and waits for its turn", cut()),
        ("waiting: for a retry", with(at("task"), &|world| drop(world.fail("work", "Transient")))),
        ("waiting: for time", at("wait")),
        ("waiting: for a signal", at("signal")),
        ("waiting: for a person", at("human")),
        ("waiting: for a child", at("child")),
        ("undoing: a Compensate state", at("compensate")),
        ("undoing: an attempt", failing()),
        ("undoing: for a retry", with(failing(), &|world| drop(world.fail("unwork", "Transient")))),
        ("stuck: a compensation", with(failing(), &stick)),
        ("stuck: parked", with(at("task"), &|world| drop(world.fact(FactKind::Parked { cause: "a bug".into() })))),
        ("succeeded", with(at("task"), &|world| drop(world.succeed("work", json!(2))))),
        (
            "failed",
            with(failing(), &|world| {
                world.succeed("unwork", json!(null));
                world.succeed("unfirst", json!(null));
            }),
        ),
        (
            "cancelled",
            with(first(), &|world| {
                world.fact(FactKind::CancelRequested { by: "ada".into(), reason: String::new(), parent: None });
                world.succeed("unfirst", json!(null));
            }),
        ),
        ("abandoned", with(with(failing(), &stick), &operator(ReleaseDecision::Abandon))),
    ]
}

/// Every kind of fact by number: a new kind does not compile here until it has one.
fn number(kind: &FactKind) -> usize {
    match kind {
        FactKind::Started(_) => 0,
        FactKind::StepSucceeded { .. } => 1,
        FactKind::StepFailed { .. } => 2,
        FactKind::TimerFired { .. } => 3,
        FactKind::Signalled { .. } => 4,
        FactKind::TaskDecided { .. } => 5,
        FactKind::ChildEnded { .. } => 6,
        FactKind::CancelRequested { .. } => 7,
        FactKind::Operator(_) => 8,
        FactKind::Parked { .. } => 9,
        FactKind::Continued => 10,
    }
}
const KINDS: usize = 11;

/// Every fact, the ones about an attempt for the one under way and for one long settled.
fn facts(world: &World) -> Vec<(&'static str, FactKind)> {
    let running = world.running.first().map_or(attempt(99, 1), |call| call.attempt);
    let stale = attempt(1, 9);
    let timer = world.timers.iter().min_by_key(|(_, at)| **at).map_or(99, |(timer, _)| *timer);
    let child = world.children.first().map_or(99, |(step, _, _)| *step);
    let ended = |status, error: Option<&str>| {
        Box::new(Outcome {
            status,
            state: "End".into(),
            output: Some(json!(5)),
            error: error.map(Into::into),
            cause: None,
        })
    };
    let signal =
        |name: &str| FactKind::Signalled { name: name.into(), payload: json!(6), by: "ada".into(), id: "s-1".into() };
    let says =
        |decision, reason: &str| FactKind::Operator(Operator { decision, by: "ops".into(), reason: reason.into() });
    vec![
        ("started", start(&world.definition, json!(1))),
        ("step succeeded", FactKind::StepSucceeded { attempt: running, output: json!("task") }),
        ("step succeeded, stale", FactKind::StepSucceeded { attempt: stale, output: json!(3) }),
        ("step failed, transient", FactKind::StepFailed { attempt: running, error: error("Transient", false) }),
        ("step failed, permanent", FactKind::StepFailed { attempt: running, error: error("Broken", true) }),
        ("step failed, stale", FactKind::StepFailed { attempt: stale, error: error("Transient", false) }),
        ("timer fired", FactKind::TimerFired { timer }),
        ("timer fired, cleared", FactKind::TimerFired { timer: 999 }),
        ("signal go", signal("go")),
        ("signal unknown", signal("stop")),
        ("task decided", FactKind::TaskDecided { step: None, output: json!(7), by: "ada".into() }),
        ("child succeeded", FactKind::ChildEnded { step: child, child: None, outcome: ended(Status::Succeeded, None) }),
        (
            "child failed",
            FactKind::ChildEnded { step: child, child: None, outcome: ended(Status::Failed, Some("Broken")) },
        ),
        ("cancel", FactKind::CancelRequested { by: "ada".into(), reason: "enough".into(), parent: None }),
        ("operator retry", says(ReleaseDecision::Retry, "")),
        ("operator skip", says(ReleaseDecision::Skip, "done by hand")),
        ("operator skip, no reason", says(ReleaseDecision::Skip, "")),
        ("operator abandon", says(ReleaseDecision::Abandon, "lost")),
        ("its turn", FactKind::Continued),
        ("parked", FactKind::Parked { cause: "a bug".into() }),
    ]
}

#[test]
fn every_situation_against_every_fact() {
    let mut page = String::from("# Every situation of a saga against every fact. `=` is where it stands afterwards.\n");
    let (mut statuses, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for (name, situation) in situations() {
        write!(page, "\n## {name}\n\n").unwrap();
        for (what, kind) in facts(&situation) {
            let mut world = situation.clone();
            statuses.insert(world.driver.execution().status());
            kinds.insert(number(&kind));
            let before = world.driver.execution().clone();
            match world.fact(kind) {
                Offer::Recorded(record) => {
                    let settled = describe(&record, 1).settled.join("; ");
                    writeln!(page, "{what}: {settled} = {}", world.status()).unwrap();
                    world.check_replay();
                }
                Offer::Ignored(why) => {
                    writeln!(page, "{what}: ignored, {why}").unwrap();
                    assert_eq!(&before, world.driver.execution(), "what is ignored changes nothing");
                }
                Offer::Unfinished(_) => panic!("the whole budget was given"),
                Offer::Refused(problem) => {
                    writeln!(page, "{what}: refused, {problem}").unwrap();
                    assert_eq!(&before, world.driver.execution(), "what is refused changes nothing");
                }
            }
        }
    }
    assert_eq!(statuses, BTreeSet::from(Status::ALL), "every status has a situation");
    assert_eq!(kinds, (0..KINDS).collect(), "every kind of fact is offered");
    golden("page.txt", &page);
}
