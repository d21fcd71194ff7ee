//! Sagas that wait: for signals, for people, for time; and what a cancel does to them.

use std::time::Duration;

use protocol::Code;
use protocol::command::{Cancel, Decide, Signal};
use protocol::query::{Body, Query};
use protocol::view::Status;
use scenarios::cluster::until;
use scenarios::stage::{PATIENCE, Stage, saga_key};
use serde_json::{Value, json};

use super::{STAGE, trouble};

fn go(key: &str, id: &str, payload: Value) -> Signal {
    Signal { key: saga_key(key), name: "go".into(), payload, id: Some(id.into()) }
}

fn cancel(key: &str) -> Cancel {
    Cancel { key: saga_key(key), reason: "changed my mind".into() }
}

async fn asleep(stage: &Stage) -> u64 {
    let answers = stage.client.query(&Query::Owners).await.unwrap();
    let shards = answers.into_iter().flat_map(|answer| match answer.body {
        Body::Owners(shards) => shards,
        other => panic!("owners were asked for: {other:?}"),
    });
    shards.map(|shard| shard.asleep).sum()
}

#[test]
fn a_signal_wakes_the_state_that_waits_for_it() {
    STAGE.play(async |stage| {
        stage.begin("signalled", "woken", json!({ "ms": 0 })).await;
        let waits = stage.until("woken", "waiting", |view| view.status == Status::Waiting).await;
        assert_eq!((waits.waiting[0].kind.as_str(), waits.waiting[0].what.as_str()), ("signal", "waits for signal go"));
        stage.client.signal(&go("woken", "s1", json!({ "n": 1 }))).await.unwrap();
        let view = stage.end("woken").await;
        assert_eq!(view.outcome.unwrap().output, Some(json!({ "said": { "n": 1 } })));
        assert_eq!(stage.told("woken"), ["run Before", "run After"]);
    });
}

#[test]
fn a_signal_that_comes_before_its_state_is_kept() {
    STAGE.play(async |stage| {
        stage.begin("signalled", "early", json!({ "ms": 300 })).await;
        stage.client.signal(&go("early", "s1", json!("first"))).await.unwrap();
        let view = stage.end("early").await;
        assert_eq!(view.outcome.unwrap().output, Some(json!({ "said": "first" })));
    });
}

#[test]
fn a_signal_id_counts_once_and_an_unknown_signal_is_refused() {
    STAGE.play(async |stage| {
        stage.begin("signalled", "twice", json!({ "ms": 300 })).await;
        stage.client.signal(&go("twice", "same", json!("first"))).await.unwrap();
        let again = stage.client.signal(&go("twice", "same", json!("second"))).await.unwrap();
        assert_eq!(again, json!({ "ignored": "the signal came before, under the same id" }));
        let wrong = Signal { name: "stop".into(), ..go("twice", "other", json!(null)) };
        let refused = stage.client.signal(&wrong).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::BadRequest), "{refused}");
        assert!(refused.mend().unwrap().contains("go"), "{refused:?}");
        let view = stage.end("twice").await;
        assert_eq!(view.outcome.unwrap().output, Some(json!({ "said": "first" })));
        let history = stage.client.history(&saga_key("twice")).await.unwrap();
        assert_eq!(history.entries.iter().filter(|entry| entry.fact.contains("signal go")).count(), 1);
    });
}

#[test]
fn a_person_decides_and_the_saga_goes_that_way() {
    STAGE.play(async |stage| {
        for (key, yes, status) in [("granted", true, Status::Succeeded), ("refused", false, Status::Failed)] {
            stage.begin("human", key, json!({})).await;
            let view = stage.until(key, "a task", |view| !view.waiting.is_empty()).await;
            assert_eq!(view.waiting[0].kind, "task");
            let step = view.waiting[0].step;
            let unknown = Decide { key: saga_key(key), step: Some(9_999), output: json!({ "yes": yes }) };
            assert_eq!(stage.client.decide(&unknown).await.unwrap_err().code(), Some(Code::NotFound));
            stage.client.decide(&Decide { step, ..unknown.clone() }).await.unwrap();
            assert_eq!(stage.end(key).await.status, status);
            let late = stage.client.decide(&Decide { step, ..unknown }).await.unwrap_err();
            assert_eq!(late.code(), Some(Code::NotNow), "{late}");
        }
    });
}

#[test]
fn a_cancel_stops_the_work_and_undoes_what_was_done() {
    STAGE.play(async |stage| {
        stage.begin("signalled", "cancelled", json!({ "ms": 0 })).await;
        stage.until("cancelled", "waiting", |view| view.status == Status::Waiting).await;
        stage.client.cancel(&cancel("cancelled")).await.unwrap();
        let view = stage.end("cancelled").await;
        assert_eq!(
            (view.status, trouble(&view).as_str()),
            (Status::Cancelled, "Cancelled: cancelled by ann: changed my mind")
        );
        assert_eq!(stage.told("cancelled"), ["run Before", "undo Before"]);
        let again = stage.client.cancel(&cancel("cancelled")).await.unwrap_err();
        assert_eq!(again.code(), Some(Code::NotNow), "{again}");

        // An attempt under way is stopped, and undone because it may have acted.
        let long = json!({ "one": { "step": "One" }, "two": { "step": "Two", "ms": 60_000 }, "three": {} });
        stage.begin("three", "stopped", long).await;
        stage.until("stopped", "its second step", |view| view.state == "Two").await;
        stage.client.cancel(&cancel("stopped")).await.unwrap();
        assert_eq!(stage.end("stopped").await.status, Status::Cancelled);
        assert_eq!(stage.told("stopped"), ["run One", "undo Two", "undo One"]);
    });
}

#[test]
fn a_saga_that_is_being_undone_cannot_be_cancelled() {
    STAGE.play(async |stage| {
        let input = json!({ "one": { "step": "One", "undo_ms": 700 }, "two": { "step": "Two", "fail": "permanent" }, "three": {} });
        stage.begin("three", "undoing", input).await;
        stage.until("undoing", "undoing", |view| view.status == Status::Undoing).await;
        let refused = stage.client.cancel(&cancel("undoing")).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::NotNow), "{refused}");
        assert!(refused.to_string().contains("is being undone"), "{refused}");
        assert_eq!(stage.end("undoing").await.status, Status::Failed);
        assert_eq!(stage.told("undoing"), ["run One", "undo Two", "undo One"]);
    });
}

#[test]
fn a_waiting_saga_sleeps_and_time_or_a_signal_wakes_it() {
    STAGE.play(async |stage| {
        stage.begin("resting", "rested", json!({ "seconds": 2.5, "fail": null })).await;
        stage.begin("signalled", "slept", json!({ "ms": 0 })).await;
        let sleeps = stage.until("rested", "asleep", |view| view.status == Status::Waiting && !view.awake).await;
        assert_eq!(sleeps.waiting[0].kind, "timer");
        stage.until("slept", "asleep", |view| view.status == Status::Waiting && !view.awake).await;
        until(PATIENCE, "two sagas sleep", || async { asleep(&stage).await >= 2 }).await;
        stage.client.signal(&go("slept", "s1", json!(1))).await.unwrap();
        assert_eq!(stage.end("slept").await.status, Status::Succeeded);
        let began = std::time::Instant::now();
        let view = stage.end("rested").await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        assert!(began.elapsed() < Duration::from_secs(10), "the timer rang late");
        assert_eq!(stage.told("rested"), ["run Before", "run After"]);
    });
}
