//! A command that somebody kept and sends again does nothing a second time.

use node::client::StartAnswer;
use protocol::Code;
use protocol::command::{ActivityAnswer, Cancel, Signal};
use protocol::view::Status;
use scenarios::stage::{Shared, Stage, saga_key, start};
use serde_json::{Value, json};

static STAGE: Shared = Shared::new(1);

async fn records(stage: &Stage, key: &str) -> usize {
    stage.client.history(&saga_key(key)).await.unwrap().entries.len()
}

#[test]
fn a_start_that_was_captured_starts_nothing_again() {
    STAGE.play(async |stage| {
        let begin = start("telling", "once", json!({ "title": "one" }));
        let body = serde_json::to_vec(&begin).unwrap();
        let again = async || {
            let answer =
                stage.client.nats().request("skald.cmd.acme.ann.saga.start", body.clone().into()).await.unwrap();
            serde_json::from_slice::<Value>(&answer.payload).unwrap()
        };
        assert_eq!(again().await["created"], true);
        assert_eq!(again().await["created"], false, "the same key is the same saga");
        stage.end("once").await;
        let (count, told) = (records(&stage, "once").await, stage.told("once"));
        for _ in 0..3 {
            assert_eq!(again().await["created"], false);
        }
        assert_eq!((records(&stage, "once").await, stage.told("once")), (count, told), "nothing ran again");
        // Another's words under the same key are not taken for it.
        let other = stage.client.start(&start("telling", "once", json!({ "title": "two" }))).await.unwrap_err();
        assert_eq!(other.code(), Some(Code::Conflict));
        assert!(matches!(stage.client.start(&begin).await.unwrap(), StartAnswer::Started(started) if !started.created));
    });
}

#[test]
fn a_signal_counts_once_also_after_the_end() {
    STAGE.play(async |stage| {
        stage.begin("signalled", "rung", json!({ "ms": 0 })).await;
        let ring =
            |id: &str| Signal { key: saga_key("rung"), name: "go".into(), payload: json!(id), id: Some(id.into()) };
        stage.client.signal(&ring("first")).await.unwrap();
        let view = stage.end("rung").await;
        assert_eq!(view.outcome.unwrap().output, Some(json!({ "said": "first" })));
        let count = records(&stage, "rung").await;
        let echo = stage.client.signal(&ring("first")).await.unwrap();
        assert_eq!(echo["ignored"], "the signal came before, under the same id");
        let late = stage.client.signal(&ring("second")).await.unwrap_err();
        assert_eq!(late.code(), Some(Code::NotNow), "another one is too late: {late}");
        assert_eq!((records(&stage, "rung").await, stage.told("rung").len()), (count, 2));
    });
}

#[test]
fn a_second_cancel_undoes_nothing_twice() {
    STAGE.play(async |stage| {
        stage.begin("signalled", "stopped", json!({ "ms": 0 })).await;
        stage.until("stopped", "waiting", |view| view.status == Status::Waiting).await;
        let cancel = Cancel { key: saga_key("stopped"), reason: "no".into() };
        stage.client.cancel(&cancel).await.unwrap();
        stage.end("stopped").await;
        let count = records(&stage, "stopped").await;
        assert_eq!(stage.client.cancel(&cancel).await.unwrap_err().code(), Some(Code::NotNow));
        assert_eq!(records(&stage, "stopped").await, count);
        assert_eq!(stage.told("stopped"), ["run Before", "undo Before"]);
    });
}

#[test]
fn an_answer_with_a_token_that_nobody_gave_out_is_refused() {
    STAGE.play(async |stage| {
        stage.begin("signalled", "answered", json!({ "ms": 0 })).await;
        stage.until("answered", "waiting", |view| view.status == Status::Waiting).await;
        let count = records(&stage, "answered").await;
        let answer =
            |token: &str| ActivityAnswer { token: token.into(), output: json!("forged"), error: None, cause: None };
        for token in ["1:1:acme/answered", "1:2:acme/answered", "2:1:acme/answered", "9:1:acme/answered"] {
            let refused = stage.client.activity_complete(&answer(token)).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::Forbidden), "{token}: {refused}");
            let refused = stage.client.activity_fail(&answer(token)).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::Forbidden), "{token}: {refused}");
        }
        assert_eq!(records(&stage, "answered").await, count);
        stage.client.cancel(&Cancel { key: saga_key("answered"), reason: String::new() }).await.unwrap();
        stage.end("answered").await;
        let said = stage.client.activity_complete(&answer("1:1:acme/answered")).await.unwrap();
        assert!(said["ignored"].is_string(), "after the end: {said}");
    });
}
