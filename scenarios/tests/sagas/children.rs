//! A saga that runs another saga as one of its steps.

use protocol::command::Cancel;
use protocol::view::Status;
use scenarios::stage::{Stage, saga_key};
use serde_json::{Value, json};

use super::{STAGE, trouble};

fn child(three: Value) -> Value {
    json!({ "child": { "one": { "step": "One" }, "two": { "step": "Two" }, "three": three } })
}

/// The key of the child that `parent` waits for.
async fn child_of(stage: &Stage, parent: &str) -> String {
    let view = stage.until(parent, "its child", |view| view.waiting.iter().any(|it| it.kind == "child")).await;
    let what = &view.waiting[0].what;
    what.split_whitespace().nth(3).unwrap_or_else(|| panic!("{what:?} names no child")).to_owned()
}

#[test]
fn a_child_that_ends_well_gives_its_output_to_the_parent() {
    STAGE.play(async |stage| {
        stage.begin("parent", "mother", child(json!({ "step": "Three", "ms": 300 }))).await;
        let child = child_of(&stage, "mother").await;
        let view = stage.end("mother").await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        assert_eq!(view.outcome.unwrap().output.unwrap()["step"], "Three");
        let described = stage.end(&child).await;
        assert_eq!((described.status, described.trace_id), (Status::Succeeded, view.trace_id), "one trace");
        assert_eq!(described.started_by, "ann", "a child acts for whoever started its parent");
        assert_eq!(stage.told(&child), ["run One", "run Two", "run Three"]);
        assert_eq!(stage.told("mother"), ["run Before"]);
    });
}

#[test]
fn a_child_that_fails_undoes_itself_and_then_its_parent() {
    STAGE.play(async |stage| {
        stage.begin("parent", "sad", child(json!({ "step": "Three", "ms": 300, "fail": "Sold" }))).await;
        let child = child_of(&stage, "sad").await;
        let view = stage.end("sad").await;
        assert_eq!((view.status, trouble(&view).as_str()), (Status::Failed, "Sold: the story asked for it"));
        assert_eq!(stage.told(&child), ["run One", "run Two", "undo Three", "undo Two", "undo One"]);
        assert_eq!(stage.told("sad"), ["run Before", "undo Before"]);
    });
}

#[test]
fn cancelling_a_parent_cancels_its_child() {
    STAGE.play(async |stage| {
        stage.begin("parent", "gone", child(json!({ "step": "Three", "ms": 60_000 }))).await;
        let child = child_of(&stage, "gone").await;
        stage.until(&child, "its third step", |view| view.state == "Three").await;
        stage.client.cancel(&Cancel { key: saga_key("gone"), reason: String::new() }).await.unwrap();
        assert_eq!(stage.end("gone").await.status, Status::Cancelled);
        assert_eq!(stage.end(&child).await.status, Status::Cancelled);
        assert_eq!(stage.told(&child), ["run One", "run Two", "undo Three", "undo Two", "undo One"]);
    });
}
