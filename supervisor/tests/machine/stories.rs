//! Stories of sagas: what came in, what followed.

use crate::common::*;
use protocol::command::ReleaseDecision;
use protocol::view::{Outcome, Status};
use serde_json::json;
use supervisor::machine::{FactKind, Offer, Operator};

const INSTALLATION: &str = r#"
name: installation
definition:
  StartAt: Requested
  TimeoutSeconds: 3600
  States:
    Requested: { Type: Pass, Next: Resolving }
    Resolving:
      Type: Task
      Resource: activity:resolve
      Compensate: none
      Assign: { graph: "{% $states.result.graph %}" }
      Catch: [{ ErrorEquals: [Conflict], Next: Failed }]
      Next: LicenseCheck
    LicenseCheck:
      Type: Task
      Resource: activity:license.grant
      Compensate: { Resource: activity:license.release }
      Retry: [{ ErrorEquals: [Transient], IntervalSeconds: 2, MaxAttempts: 2 }]
      Next: Applying
    Applying:
      Type: Task
      Resource: activity:apply
      Arguments: { graph: "{% $graph %}" }
      Compensate: { Resource: activity:rollback, Arguments: { token: "{% $states.result.token %}" } }
      Catch: [{ ErrorEquals: [States.ALL], Next: RolledBack, Comment: apply error }]
      Next: Installed
    Installed: { Type: Succeed }
    Failed: { Type: Fail, Error: InstallationFailed }
    RolledBack: { Type: Fail, Error: InstallationFailed, Cause: rolled back }
"#;

fn applying() -> World {
    let mut world = World::begin(INSTALLATION, json!({"asset": "a"}));
    world.succeed("resolve", json!({"graph": ["a", "b"]}));
    world.succeed("license.grant", json!({"seat": 3}));
    world
}

#[test]
fn a_saga_of_tasks_runs_to_its_end() {
    let mut world = applying();
    assert_eq!(world.running[0].arguments, json!({"graph": ["a", "b"]}));
    assert_eq!(world.running[0].key, "acme/install-7/Applying.6");
    world.succeed("apply", json!({"token": "t"}));
    assert_eq!(world.status(), "succeeded");
    let outcome = world.driver.execution().outcome().unwrap();
    assert_eq!((outcome.state.as_str(), &outcome.output), ("Installed", &Some(json!({"token": "t"}))));
    assert_eq!(world.records.len(), 4, "one record for each fact");
    assert!(world.timers.is_empty(), "no timer outlives its saga");
    world.check_replay();
}

#[test]
fn a_failed_apply_is_undone_last_first_and_ends_rolled_back() {
    let mut world = applying();
    world.fail("apply", "Disk");
    assert_eq!(world.status(), "undoing");
    // The crash may have hidden what was applied, so the undo is asked without a token.
    assert_eq!(world.running[0].arguments, json!({"token": null}));
    assert_eq!(world.running[0].key, "acme/install-7/Applying.6");
    world.succeed("rollback", json!(null));
    assert_eq!(world.running[0].arguments, json!({"input": {"graph": ["a", "b"]}, "output": {"seat": 3}}));
    world.check_replay();
    world.succeed("license.release", json!(null));
    let outcome = world.driver.execution().outcome().unwrap();
    assert_eq!((outcome.status, outcome.state.as_str()), (Status::Failed, "RolledBack"));
    assert_eq!(outcome.error.as_deref(), Some("InstallationFailed"));
    world.check_replay();
}

#[test]
fn a_transient_failure_is_retried_under_the_same_key_and_a_permanent_one_is_not() {
    let mut world = World::begin(INSTALLATION, json!({}));
    world.succeed("resolve", json!({"graph": []}));
    let key = world.running[0].key.clone();
    world.fail("license.grant", "Transient");
    assert_eq!(world.status(), "waiting");
    world.ring();
    assert_eq!((world.running[0].key.as_str(), world.running[0].attempt.attempt), (key.as_str(), 2));
    let attempt = world.take("license.grant").attempt;
    world.fact(FactKind::StepFailed { attempt, error: error("Transient", true) });
    assert_eq!(world.started.last().unwrap(), "undo license.release LicenseCheck #1");
}

#[test]
fn a_conflict_fails_the_saga_before_any_change() {
    let mut world = World::begin(INSTALLATION, json!({}));
    world.fail("resolve", "Conflict");
    assert_eq!(world.status(), "failed");
    assert_eq!(world.driver.execution().outcome().unwrap().state, "Failed");
    assert_eq!(world.started.len(), 1, "nothing was undone, nothing had been done");
}

#[test]
fn a_cancelled_saga_stops_its_attempt_and_undoes_what_may_have_happened() {
    let mut world = applying();
    world.fact(FactKind::CancelRequested { by: "ada".into(), reason: "wrong asset".into(), parent: None });
    assert_eq!(world.running.len(), 1, "apply was stopped: {:?}", world.running);
    assert_eq!(&*world.running[0].activity, "rollback");
    let again = world.fact(FactKind::CancelRequested { by: "ada".into(), reason: String::new(), parent: None });
    assert!(matches!(again, Offer::Refused(_)));
    world.succeed("rollback", json!(null));
    world.succeed("license.release", json!(null));
    assert_eq!(world.status(), "cancelled");
    world.check_replay();
}

#[test]
fn a_saga_that_takes_too_long_is_undone() {
    let mut world = applying();
    world.ring();
    assert_eq!(world.status(), "undoing");
    world.succeed("rollback", json!(null));
    world.succeed("license.release", json!(null));
    assert_eq!(world.driver.execution().outcome().unwrap().error.as_deref(), Some("States.Timeout"));
}

fn stuck() -> World {
    let mut world = applying();
    world.fail("apply", "Disk");
    for _ in 0..4 {
        world.fail("rollback", "Transient");
        world.ring();
    }
    world.fail("rollback", "Transient");
    assert_eq!(world.status(), "stuck", "five attempts in all");
    world
}

fn operator(decision: ReleaseDecision, reason: &str) -> FactKind {
    FactKind::Operator(Operator { decision, by: "ops".into(), reason: reason.into() })
}

#[test]
fn a_stuck_undo_is_released_by_an_operator() {
    let mut world = stuck();
    assert!(matches!(world.fact(operator(ReleaseDecision::Skip, "")), Offer::Refused(_)), "a reason is needed");
    world.fact(operator(ReleaseDecision::Retry, ""));
    assert_eq!(world.started.last().unwrap(), "undo rollback Applying #6");
    world.succeed("rollback", json!(null));
    world.succeed("license.release", json!(null));
    assert_eq!(world.status(), "failed");

    let mut world = stuck();
    world.fact(operator(ReleaseDecision::Skip, "restored by hand"));
    assert_eq!(&*world.running[0].activity, "license.release");

    let mut world = stuck();
    world.fact(operator(ReleaseDecision::Abandon, "the target is gone"));
    assert_eq!(world.status(), "abandoned");
    assert!(world.running.is_empty());
    world.check_replay();
}

#[test]
fn a_parked_saga_resumes_as_it_was() {
    let mut world = applying();
    let before = world.running[0].clone();
    world.fact(FactKind::Parked { cause: "index out of bounds".into() });
    assert_eq!((world.status(), world.running.len(), world.timers.len()), ("stuck", 0, 0));
    let late = world.fact(FactKind::StepSucceeded { attempt: before.attempt, output: json!(1) });
    assert!(matches!(late, Offer::Ignored(_)));
    world.fact(operator(ReleaseDecision::Retry, ""));
    assert_eq!(world.running[0], before);
    assert_eq!(world.timers.len(), 1);
    world.check_replay();
}

const WAITING: &str = r#"
name: waiting
definition:
  StartAt: Approve
  States:
    Approve: { Type: Task, Resource: "task:human", Arguments: { question: "really?" }, TimeoutSeconds: 60, Next: Go }
    Go: { Type: Task, Resource: "signal:go", Next: Child }
    Child: { Type: Task, Resource: "saga:other", Next: Tell }
    Tell: { Type: Task, Resource: "event:AllDone", Arguments: { projectId: p1, was: "{% $states.input %}" }, Next: Pause }
    Pause: { Type: Wait, Seconds: 5, End: true }
"#;

#[test]
fn a_person_a_signal_a_child_and_time_each_move_a_saga_on() {
    let mut world = World::begin(WAITING, json!({}));
    assert_eq!(world.status(), "waiting");
    assert_eq!(*world.driver.execution().open_tasks()[0].arguments, json!({"question": "really?"}));
    // A signal that comes early is kept; the same id again is not another one.
    world.signal("go", json!({"n": 1}), "s1");
    assert!(matches!(world.signal("go", json!({"n": 1}), "s1"), Offer::Ignored(_)));
    let kept = world.driver.execution().view().signals;
    let came = world.records.iter().find(|record| matches!(record.fact.kind, FactKind::Signalled { .. })).unwrap();
    assert_eq!((kept[0].name.as_str(), kept[0].since, kept.len()), ("go", Some(came.fact.at), 1));
    assert_eq!((kept[0].bytes, kept[0].payload.clone()), (7, Some(json!({"n": 1}))));
    let Offer::Refused(problem) = world.signal("goo", json!(1), "s2") else { panic!("it never waits for goo") };
    assert_eq!(problem.mend.as_deref(), Some("it waits for go"));
    let long = "x".repeat(protocol::view::SIGNAL_SHOWN_MAX_BYTES);
    let mut other = world.clone();
    other.signal("go", json!(long), "s3");
    let kept = other.driver.execution().view().signals;
    assert_eq!((kept[1].bytes, kept[1].payload.clone()), (long.len() + 2, None), "a long one is told by its size");
    world.fact(FactKind::TaskDecided { step: None, output: json!("yes"), by: "ada".into() });
    assert!(world.driver.execution().view().signals.is_empty(), "it was taken");
    assert!(world.timers.is_empty(), "the task's time-out is cleared");
    let (step, key, input) = world.children[0].clone();
    assert_eq!((key.as_str(), input), (format!("install-7~{step}").as_str(), json!({"n": 1})));
    let outcome =
        Outcome { status: Status::Succeeded, state: "End".into(), output: Some(json!(7)), error: None, cause: None };
    world.fact(FactKind::ChildEnded { step, child: None, outcome: Box::new(outcome) });
    let event = &world.events[0];
    assert_eq!((event.event_type.as_str(), event.project_id.as_deref()), ("AllDone", Some("p1")));
    assert_eq!(event.payload, json!({"projectId": "p1", "was": 7}));
    assert!(event.event_id.as_str().starts_with("evt-"));
    assert_eq!(event.causes, 4, "as many as led to the saga");
    world.ring();
    assert_eq!(world.status(), "succeeded");
    world.check_replay();
}

#[test]
fn a_former_childs_end_is_not_taken_for_the_present_ones() {
    let source = r#"
name: parent
definition:
  StartAt: Child
  States:
    Child:
      Type: Task
      Resource: saga:other
      TimeoutSeconds: 60
      Retry: [{ ErrorEquals: [States.Timeout], IntervalSeconds: 1, MaxAttempts: 1 }]
      End: true
"#;
    let mut world = World::begin(source, json!(1));
    let (step, first, _) = world.children[0].clone();
    world.ring(); // The time is up: the first child is cancelled.
    world.ring(); // The pause is over: another child is started by the same step.
    let (again, second, _) = world.children[0].clone();
    assert_eq!((again, second.as_str()), (step, format!("{first}.2").as_str()));
    let ended = |key: &str, output| FactKind::ChildEnded {
        step,
        child: Some(key.parse().unwrap()),
        outcome: Box::new(Outcome {
            status: Status::Succeeded,
            state: "End".into(),
            output: Some(json!(output)),
            error: None,
            cause: None,
        }),
    };
    assert!(matches!(world.fact(ended(&first, "too late")), Offer::Ignored(_)));
    world.fact(ended(&second, "in time"));
    assert_eq!(world.driver.execution().outcome().unwrap().output, Some(json!("in time")));
    world.check_replay();
}

const SIDE_BY_SIDE: &str = r#"
name: side
definition:
  StartAt: Both
  States:
    Both:
      Type: Parallel
      Branches:
        - StartAt: A1
          States:
            A1: { Type: Task, Resource: "activity:a1", Compensate: { Resource: "activity:ua1" }, Next: A2 }
            A2: { Type: Task, Resource: "activity:a2", Compensate: { Resource: "activity:ua2" }, End: true }
        - StartAt: B1
          States:
            B1: { Type: Task, Resource: "activity:b1", Compensate: { Resource: "activity:ub1" }, End: true }
      Next: After
    After: { Type: Task, Resource: "activity:after", Compensate: { Resource: "activity:uafter" }, Next: Undo }
    Undo: { Type: Compensate, Next: Done }
    Done: { Type: Succeed }
"#;

#[test]
fn branches_are_undone_side_by_side_each_last_first() {
    let mut world = World::begin(SIDE_BY_SIDE, json!({}));
    world.succeed("a1", json!(1));
    world.succeed("b1", json!(2));
    world.succeed("a2", json!(3));
    assert_eq!(world.running[0].arguments, json!([3, 2]));
    world.succeed("after", json!(4));
    assert_eq!(world.status(), "undoing");
    world.succeed("uafter", json!(null));
    let names = |world: &World| {
        let mut names: Vec<String> = world.running.iter().map(|call| call.activity.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&world), ["ua2", "ub1"]);
    world.succeed("ua2", json!(null));
    assert_eq!(names(&world), ["ua1", "ub1"]);
    world.succeed("ub1", json!(null));
    world.succeed("ua1", json!(null));
    assert_eq!(world.status(), "succeeded");
    world.check_replay();
}

#[test]
fn a_failed_branch_stops_the_others_and_everything_is_undone() {
    let mut world = World::begin(SIDE_BY_SIDE, json!({}));
    world.succeed("a1", json!(1));
    world.fail("b1", "Broken");
    let mut names: Vec<String> = world.running.iter().map(|call| call.activity.to_string()).collect();
    names.sort();
    assert_eq!(names, ["ua2", "ub1"], "a2 was stopped and may have acted");
    world.succeed("ua2", json!(null));
    world.succeed("ua1", json!(null));
    world.succeed("ub1", json!(null));
    assert_eq!(world.driver.execution().outcome().unwrap().error.as_deref(), Some("Broken"));
    world.check_replay();
}

const UNDOES_INSIDE: &str = r#"
name: inside
definition:
  StartAt: Both
  States:
    Both:
      Type: Parallel
      Branches:
        - StartAt: Inner
          States:
            Inner:
              Type: Parallel
              Branches:
                - StartAt: X1
                  States:
                    X1: { Type: Task, Resource: "activity:x1", Compensate: { Resource: "activity:ux1" }, Next: Back }
                    Back: { Type: Compensate, Next: X2 }
                    X2: { Type: Task, Resource: "activity:x2", End: true }
                - StartAt: Y1
                  States:
                    Y1: { Type: Task, Resource: "activity:y1", End: true }
              Catch: [{ ErrorEquals: [States.ALL], Next: Hidden }]
              End: true
            Hidden: { Type: Task, Resource: "activity:hidden", End: true }
        - StartAt: B1
          States:
            B1: { Type: Task, Resource: "activity:b1", End: true }
      Catch: [{ ErrorEquals: [States.ALL], Next: After }]
      Next: After
    After: { Type: Task, Resource: "activity:after", End: true }
"#;

/// Found by the simulator: an undo under way was stopped by a sibling's failure and never ended,
/// although the saga succeeded.
#[test]
fn an_undo_that_has_begun_is_brought_to_its_end_before_its_state_fails() {
    let names = |world: &World| world.running.iter().map(|call| call.activity.to_string()).collect::<Vec<_>>();
    for also_inner in [false, true] {
        let mut world = World::begin(UNDOES_INSIDE, json!({}));
        world.succeed("x1", json!(1));
        if also_inner {
            world.fail("y1", "Broken");
            assert_eq!(names(&world), ["b1", "ux1"], "the inner one fails later");
        }
        world.fail("b1", "Broken");
        assert_eq!(names(&world), ["ux1"], "everything else stops, nothing is caught yet");
        world.check_replay();
        world.succeed("ux1", json!(null));
        assert_eq!(names(&world), ["after"], "the outermost failure is what counts");
        world.succeed("after", json!(2));
        assert_eq!(world.status(), "succeeded");
        world.check_replay();
    }
}

/// Records and snapshots that a release wrote decode for ever. New lines are added by a release
/// that writes something new; old ones are never rewritten.
#[test]
fn stored_bytes_of_every_release_decode() {
    let path = testdata("stored_1.txt");
    if !path.exists() {
        std::fs::write(&path, stored_now()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let definition = define(SIDE_BY_SIDE);
    let mut driver = supervisor::machine::Driver::new(saga(), definition.clone());
    let (mut records, mut snapshots) = (0, 0);
    for line in text.lines() {
        let (kind, hex) = line.split_once(' ').unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect();
        match kind {
            "record" => {
                records += 1;
                let record: supervisor::machine::Record = protocol::codec::load(&bytes).unwrap();
                driver.replay(&record, record.number).unwrap();
            }
            "snapshot" => {
                snapshots += 1;
                let execution: supervisor::machine::Execution = protocol::codec::load(&bytes).unwrap();
                assert_eq!(execution.status(), Status::Undoing);
                let restored = supervisor::machine::Driver::restore(definition.clone(), execution);
                assert_eq!(restored.resume().len(), 2, "both branches are being undone");
            }
            other => panic!("{other} is not known"),
        }
    }
    assert_eq!((driver.execution().status(), records, snapshots), (Status::Succeeded, 9, 1));
}

/// A saga through most of what a record can hold, as bytes.
fn stored_now() -> String {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut world = World::begin(SIDE_BY_SIDE, json!({"n": 1}));
    for (activity, output) in [("a1", 1), ("b1", 2), ("a2", 3), ("after", 4), ("uafter", 0)] {
        world.succeed(activity, json!(output));
    }
    let snapshot = hex(protocol::codec::store(world.driver.execution()));
    for activity in ["ua2", "ub1", "ua1"] {
        world.succeed(activity, json!(null));
    }
    let records = world.records.iter().map(|record| format!("record {}\n", hex(protocol::codec::store(record))));
    format!("{}snapshot {snapshot}\n", records.collect::<String>())
}

#[test]
fn several_facts_can_be_offered_before_one_confirm() {
    let definition = define(SIDE_BY_SIDE);
    let mut driver = supervisor::machine::Driver::new(saga(), definition.clone());
    let fact = |n: i64, kind| supervisor::machine::Fact { at: protocol::Time::from_micros(n), seed: 1, kind };
    let Offer::Recorded(first) = driver.offer(fact(1, start(&definition, json!(1)))) else { panic!() };
    let effects = driver.confirm(40);
    assert_eq!(effects.len(), 2);
    let calls: Vec<_> = effects
        .into_iter()
        .map(|effect| match effect {
            supervisor::machine::Effect::StartActivity(call) => call.attempt,
            other => panic!("{other:?}"),
        })
        .collect();
    let answers = calls.iter().map(|attempt| FactKind::StepSucceeded { attempt: *attempt, output: json!(2) });
    let records: Vec<_> = answers
        .map(|kind| match driver.offer(fact(2, kind)) {
            Offer::Recorded(record) => record,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(records.iter().map(|record| record.previous).collect::<Vec<_>>(), [40, 40]);
    assert_eq!((first.previous, driver.execution().position()), (0, 40));
    assert_eq!(driver.confirm(41).len(), 1);
    // A record that a snapshot holds already changes nothing; one too far ahead is refused.
    let before = driver.execution().clone();
    assert_eq!(driver.replay(&first, 40), Ok(Vec::new()));
    assert_eq!(driver.execution(), &before);
    let mut ahead = first.clone();
    ahead.number = 9;
    assert!(driver.replay(&ahead, 50).is_err());
}

const FAMILY: &str = r#"
name: family
definition:
  StartAt: Child
  States:
    Child:
      Type: Task
      Resource: saga:family
      Retry: [{ ErrorEquals: [States.ALL], MaxAttempts: 1, IntervalSeconds: 1 }]
      Catch:
        - { ErrorEquals: [Saga.KeyTaken], Next: Taken }
        - { ErrorEquals: [Saga.LimitExceeded], Next: TooMany }
      Next: Born
    Born: { Type: Succeed }
    Taken: { Type: Succeed }
    TooMany: { Type: Succeed }
"#;

#[test]
fn a_child_that_is_refused_fails_its_step_by_name() {
    let refused = |error: &str| {
        let mut world = World::begin(FAMILY, json!({}));
        let (step, key, _) = world.children[0].clone();
        assert_eq!(key, "install-7~1");
        let outcome = Outcome {
            status: Status::Failed,
            state: String::new(),
            output: None,
            error: Some(error.into()),
            cause: None,
        };
        let (child, outcome) = (Some(key.parse().unwrap()), Box::new(outcome));
        world.fact(FactKind::ChildEnded { step, child, outcome });
        world
    };
    let taken = refused("Saga.KeyTaken");
    assert_eq!((taken.status(), taken.driver.execution().state().as_str()), ("succeeded", "Taken"), "at once");
    let mut full = refused("Saga.LimitExceeded");
    assert_eq!(full.status(), "waiting", "there may be room later");
    full.ring();
    assert_eq!(full.children.last().unwrap().1, "install-7~1.2");
    full.check_replay();
}

#[test]
fn a_family_is_only_so_deep() {
    let definition = define(FAMILY);
    let limit = definition.limits().child_depth;
    for (depth, state) in [(limit - 1, "Child"), (limit, "TooMany")] {
        let mut world = World::new(&definition);
        let FactKind::Started(mut begun) = start(&definition, json!({})) else { panic!("it is a start") };
        begun.family.depth = depth;
        world.fact(FactKind::Started(begun));
        assert_eq!(world.driver.execution().state(), state, "with {depth} above it");
    }
}
