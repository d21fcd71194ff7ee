//! Steps one after the other: success, retry, catch, compensation, limits of an attempt.

use protocol::Code;
use protocol::command::List;
use protocol::view::Status;
use scenarios::stage::{saga_key, start};
use serde_json::json;

use super::{STAGE, trouble};

fn steps(three: serde_json::Value) -> serde_json::Value {
    json!({ "one": { "step": "One" }, "two": { "step": "Two" }, "three": three })
}

#[test]
fn three_steps_end_well_and_each_acts_once() {
    STAGE.play(async |stage| {
        let view = stage.run("three", "well", steps(json!({ "step": "Three" }))).await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        let output = view.outcome.unwrap().output.unwrap();
        assert_eq!(output, json!({ "step": "Three", "first": true, "attempt": 1 }));
        assert_eq!(stage.told("well"), ["run One", "run Two", "run Three"]);
        assert_eq!((view.definition.as_str(), view.started_by.as_str()), ("three v1", "ann"));
        assert!(view.compensations.is_empty(), "nothing is left to undo: {:?}", view.compensations);
    });
}

#[test]
fn a_failed_saga_undoes_what_it_did_last_first_and_each_once() {
    STAGE.play(async |stage| {
        let view = stage.run("three", "undone", steps(json!({ "step": "Three", "fail": "permanent" }))).await;
        assert_eq!(view.status, Status::Failed, "{view:#?}");
        assert_eq!(trouble(&view), "Permanent: the story: asked for it");
        // The third step may have acted before it failed, so it is undone too.
        assert_eq!(stage.told("undone"), ["run One", "run Two", "undo Three", "undo Two", "undo One"]);
        let attempts = stage.ledger.attempts().unwrap();
        assert_eq!(attempts.iter().filter(|attempt| attempt.saga == "acme/undone").count(), 6);
    });
}

#[test]
fn a_passing_failure_is_tried_again_under_the_same_key() {
    STAGE.play(async |stage| {
        let three = json!({ "step": "Three" });
        let two = json!({ "step": "Two", "fail": "transient", "fails": 2, "late": true });
        let view = stage.run("three", "again", json!({ "one": { "step": "One" }, "two": two, "three": three })).await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        assert_eq!(stage.told("again"), ["run One", "run Two", "run Three"], "the effect happened once");
        let attempts = stage.ledger.attempts().unwrap();
        let two: Vec<_> = attempts.iter().filter(|it| it.saga == "acme/again" && it.step == "Two").collect();
        assert_eq!(two.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(two.iter().all(|attempt| attempt.key == two[0].key), "{two:?}");
    });
}

#[test]
fn retries_run_out_and_the_last_error_tells_why() {
    STAGE.play(async |stage| {
        let input = json!({ "one": { "step": "One", "fail": "transient" }, "two": {}, "three": {} });
        let view = stage.run("three", "tired", input).await;
        assert_eq!((view.status, trouble(&view).as_str()), (Status::Failed, "Transient: the story: asked for it"));
        let attempts = stage.ledger.attempts().unwrap();
        let tried = attempts.iter().filter(|it| it.saga == "acme/tired" && it.direction == "run").count();
        assert_eq!(tried, 4, "one attempt and three retries");
    });
}

#[test]
fn a_caught_error_leads_elsewhere_and_nothing_is_undone() {
    STAGE.play(async |stage| {
        let view = stage.run("caught", "caught", json!({ "risky": { "step": "Risky", "fail": "OutOfStock" } })).await;
        let outcome = view.outcome.clone().unwrap();
        assert_eq!((view.status, outcome.state.as_str()), (Status::Succeeded, "Mended"), "{view:#?}");
        assert_eq!(outcome.output, Some(json!({ "because": "OutOfStock" })));
        assert_eq!(stage.told("caught"), ["run Before"]);
    });
}

#[test]
fn an_attempt_that_takes_too_long_is_stopped_and_taken_back_in_a_state_of_its_own() {
    STAGE.play(async |stage| {
        let view = stage.run("caught", "slow", json!({ "risky": { "step": "Risky", "ms": 60_000 } })).await;
        let outcome = view.outcome.clone().unwrap();
        assert_eq!((view.status, outcome.state.as_str()), (Status::Succeeded, "Late"), "{view:#?}");
        assert_eq!(stage.told("slow"), ["run Before", "undo Risky", "undo Before"]);
    });
}

#[test]
fn an_attempt_that_beats_lives_and_one_that_is_silent_does_not() {
    STAGE.play(async |stage| {
        stage.begin("beating", "beats", json!({ "step": "Beat", "ms": 1_000, "beat_ms": 50 })).await;
        stage.begin("beating", "silent", json!({ "step": "Beat", "ms": 60_000 })).await;
        let silent = stage.end("silent").await;
        assert_eq!(silent.status, Status::Failed, "{silent:#?}");
        assert_eq!(trouble(&silent), "States.HeartbeatTimeout: no heartbeat for 300ms");
        let beats = stage.end("beats").await;
        assert_eq!(beats.status, Status::Succeeded, "{beats:#?}");
    });
}

#[test]
fn a_panic_is_a_failed_attempt_and_hurts_nobody_else() {
    STAGE.play(async |stage| {
        let two = json!({ "step": "Two", "panics": 1 });
        let input = json!({ "one": { "step": "One" }, "two": two, "three": { "step": "Three" } });
        let view = stage.run("three", "panic", input).await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        let history = stage.client.history(&saga_key("panic")).await.unwrap();
        let failed = history.entries.iter().find(|entry| entry.fact.contains("Two #1 failed")).expect("it is told");
        assert!(failed.fact.contains("the story asked for a panic"), "{failed:?}");
        let always = json!({ "one": { "step": "One" }, "two": { "step": "Two", "panics": 99 }, "three": {} });
        let view = stage.run("three", "panics", always).await;
        assert_eq!(view.status, Status::Failed, "{view:#?}");
        assert_eq!(stage.told("panics"), ["run One", "undo Two", "undo One"]);
    });
}

#[test]
fn the_same_key_is_the_same_saga_and_another_input_is_a_conflict() {
    STAGE.play(async |stage| {
        let input = steps(json!({ "step": "Three" }));
        let command = start("three", "once", input.clone());
        let calls = (0..20).map(|_| stage.client.start(&command));
        let answers = futures::future::join_all(calls).await;
        let created = answers.into_iter().filter(|answer| match answer.as_ref().unwrap() {
            node::client::StartAnswer::Started(started) => started.created,
            other => panic!("an acceptance was expected: {other:?}"),
        });
        assert_eq!(created.count(), 1, "only one of them started it");
        stage.end("once").await;
        assert_eq!(stage.told("once"), ["run One", "run Two", "run Three"]);
        let waited = protocol::command::Start { wait_ms: Some(5_000), ..command };
        match stage.client.start(&waited).await.unwrap() {
            node::client::StartAnswer::Outcome(outcome) => assert_eq!(outcome.status, Status::Succeeded),
            other => panic!("the outcome of the ended saga was expected: {other:?}"),
        }
        let other = stage.client.start(&start("three", "once", json!({ "one": 1 }))).await.unwrap_err();
        assert_eq!(other.code(), Some(Code::Conflict), "{other}");
        assert!(other.to_string().contains("acme/once already exists"), "{other}");
    });
}

#[test]
fn what_ran_can_be_listed_described_and_read_again() {
    STAGE.play(async |stage| {
        let alone = stage.cluster.client_as("listed", "ann").await.unwrap();
        for (key, fail) in [("good", None), ("bad", Some("permanent"))] {
            let input = steps(json!({ "step": "Three", "fail": fail }));
            alone.start(&start("three", key, input)).await.unwrap();
            alone.wait(&saga_key(key), scenarios::stage::PATIENCE).await.unwrap();
        }
        let rows = alone.list(&List::default()).await.unwrap();
        let names: Vec<_> = rows.iter().map(|row| (row.saga.as_str(), row.status)).collect();
        assert_eq!(names, [("listed/bad", Status::Failed), ("listed/good", Status::Succeeded)], "newest first");
        let failed = List { status: Some(Status::Failed), ..List::default() };
        assert_eq!(alone.list(&failed).await.unwrap().len(), 1);
        assert_eq!(alone.list(&List { limit: Some(1), ..List::default() }).await.unwrap().len(), 1);
        let none = List { definition: Some("human".into()), ..List::default() };
        assert!(alone.list(&none).await.unwrap().is_empty());

        let history = alone.history(&saga_key("good")).await.unwrap();
        assert!(!history.cut);
        let facts: Vec<_> = history.entries.iter().map(|entry| entry.fact.as_str()).collect();
        let expected =
            ["started by ann as three v1", "step One #1 succeeded", "step Two #1 succeeded", "step Three #1 succeeded"];
        assert_eq!(facts, expected);
        let numbers: Vec<_> = history.entries.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert!(history.entries.is_sorted_by_key(|entry| (entry.position, entry.at)));
        let described = alone.describe(&saga_key("good")).await.unwrap();
        assert_eq!((described.records, described.node.as_str(), described.awake), (4, "n0", false));
    });
}
