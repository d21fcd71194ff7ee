//! Items and branches side by side.

use protocol::view::Status;
use serde_json::json;

use super::{STAGE, trouble};

#[test]
fn every_item_of_a_map_is_worked_on_and_results_keep_their_order() {
    STAGE.play(async |stage| {
        let items: Vec<_> = (0..5).map(|n| json!({ "step": format!("Item{n}"), "ms": 50 * (5 - n) })).collect();
        let view = stage.run("each", "all", json!({ "items": items })).await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        let output = view.outcome.unwrap().output.unwrap();
        let steps: Vec<_> = output.as_array().unwrap().iter().map(|item| item["step"].as_str().unwrap()).collect();
        assert_eq!(steps, ["Item0", "Item1", "Item2", "Item3", "Item4"]);
        assert_eq!(stage.told("all").len(), 5);
    });
}

#[test]
fn a_failing_item_stops_the_others_and_all_that_ran_are_undone() {
    STAGE.play(async |stage| {
        let items = json!([
            { "step": "Good" }, { "step": "Bad", "ms": 200, "fail": "Broken" },
            { "step": "Long", "ms": 60_000 }, { "step": "Never" }
        ]);
        let view = stage.run("each", "some", json!({ "items": items })).await;
        assert_eq!((view.status, trouble(&view).as_str()), (Status::Failed, "Broken: the story asked for it"));
        let mut told = stage.told("some");
        assert_eq!(told.remove(0), "run Good");
        told.sort();
        assert_eq!(told, ["undo Bad", "undo Good", "undo Long"], "what never began is not undone");
    });
}

#[test]
fn a_failing_branch_stops_the_other_and_both_are_undone() {
    STAGE.play(async |stage| {
        let left = json!({ "step": "Left" });
        let right = json!({ "step": "Right", "ms": 200, "fail": "Broken" });
        let view = stage.run("both", "branches", json!({ "left": left, "right": right })).await;
        assert_eq!((view.status, trouble(&view).as_str()), (Status::Failed, "Broken: the story asked for it"));
        let mut told = stage.told("branches");
        assert_eq!(told.remove(0), "run Left");
        told.sort();
        assert_eq!(told, ["undo Left", "undo Right"]);
    });
}
