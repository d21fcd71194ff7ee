//! A compensation that cannot be done: the saga stands still until an operator says how to go on.

use protocol::Code;
use protocol::command::{Release, ReleaseDecision};
use protocol::view::{SagaView, Status};
use scenarios::stage::{Stage, saga_key};
use serde_json::json;

use super::STAGE;

/// A saga whose second step cannot be undone in the first `fails` attempts, at that point.
async fn stuck(stage: &Stage, key: &str, fails: u32) -> SagaView {
    let input = json!({
        "one": { "step": "One" }, "two": { "step": "Two", "undo_fails": fails },
        "three": { "step": "Three", "fail": "permanent" },
    });
    stage.begin("three", key, input).await;
    stage.until(key, "stuck", |view| view.status == Status::Stuck).await
}

fn word(key: &str, decision: ReleaseDecision, reason: &str) -> Release {
    Release { key: saga_key(key), decision, reason: reason.into() }
}

#[test]
fn a_stuck_saga_says_why_and_a_retry_finishes_it() {
    STAGE.play(async |stage| {
        let view = stuck(&stage, "retried", 1).await;
        assert_eq!(view.waiting[0].kind, "operator");
        assert_eq!(view.waiting[0].last_error.as_deref(), Some("Permanent: the story: asked for it"));
        assert_eq!(view.compensations, ["Two (ledger.erase)", "One (ledger.erase)"]);
        stage.client.release(&word("retried", ReleaseDecision::Retry, "")).await.unwrap();
        assert_eq!(stage.end("retried").await.status, Status::Failed);
        assert_eq!(stage.told("retried"), ["run One", "run Two", "undo Three", "undo Two", "undo One"]);
    });
}

#[test]
fn a_skip_needs_a_reason_and_leaves_one_step_undone() {
    STAGE.play(async |stage| {
        stuck(&stage, "skipped", 99).await;
        let bare = stage.client.release(&word("skipped", ReleaseDecision::Skip, " ")).await.unwrap_err();
        assert_eq!(bare.code(), Some(Code::BadRequest), "{bare}");
        stage.client.release(&word("skipped", ReleaseDecision::Skip, "taken back by hand")).await.unwrap();
        assert_eq!(stage.end("skipped").await.status, Status::Failed);
        assert_eq!(stage.told("skipped"), ["run One", "run Two", "undo Three", "undo One"]);
        let history = stage.client.history(&saga_key("skipped")).await.unwrap();
        let settled: Vec<_> = history.entries.iter().flat_map(|entry| &entry.settled).collect();
        assert!(settled.iter().any(|line| line.contains("left Two undone, ann: taken back by hand")), "{settled:#?}");
    });
}

#[test]
fn an_abandoned_saga_ends_with_the_rest_not_undone() {
    STAGE.play(async |stage| {
        stuck(&stage, "abandoned", 99).await;
        stage.client.release(&word("abandoned", ReleaseDecision::Abandon, "the target is gone")).await.unwrap();
        let view = stage.end("abandoned").await;
        assert_eq!(view.status, Status::Abandoned, "{view:#?}");
        assert_eq!(stage.told("abandoned"), ["run One", "run Two", "undo Three"]);
        let again = stage.client.release(&word("abandoned", ReleaseDecision::Retry, "")).await.unwrap_err();
        assert_eq!(again.code(), Some(Code::NotNow), "{again}");
    });
}
