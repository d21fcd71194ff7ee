//! Pages of ended sagas: what they keep, and when it is forgotten.

mod tree_common;

use std::time::Duration;

use serde_json::json;
use supervisor::tree::engine::Limits;
use tree_common::*;

const PASSING: &str = r#"
name: passing
definition:
  StartAt: Only
  States: { Only: { Type: Pass, End: true } }
"#;
const WAITING: &str = r#"
name: waiting
definition:
  StartAt: Only
  States: { Only: { Type: Task, Resource: "signal:go", End: true } }
"#;

fn soon_forgotten() -> Limits {
    Limits { ended_for: Duration::from_secs(60), ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_could_not_be_removed_keeps_its_keys() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let world = World::take_over(&outside, 1, soon_forgotten()).await;
    world.start("a", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names("ended/").len(), 1);
    outside.unremovable.lock().unwrap().push("ended/".into());
    world.pass(60).await;
    world.start("b", "waiting", json!(1)).await.unwrap();
    world.pass(30).await;
    let again = world.start("a", "waiting", json!(1)).await;
    assert!(again.is_err(), "its page is there, and with it the key: {again:?}");
    outside.unremovable.lock().unwrap().clear();
    world.signal("b", "go", json!(1), "s-1").await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names("ended/").len(), 1, "the old page is gone, the new one is there");
    world.start("a", "waiting", json!(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_used_again_is_not_swallowed_by_the_page_of_its_former_run() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let world = World::take_over(&outside, 1, soon_forgotten()).await;
    world.start("a", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    let name = outside.names("ended/").remove(0);
    let value = outside.values.lock().unwrap()[&name].clone();
    world.pass(60).await;
    world.start("b", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    world.start("a", "waiting", json!(1)).await.unwrap();
    // The removal of the page had not arrived everywhere when the shard changed hands.
    outside.values.lock().unwrap().insert(name, value);
    let next = World::take_over(&outside, 2, soon_forgotten()).await;
    assert_eq!(next.show("a").await.state, "Only");
    assert_eq!(next.show("a").await.status.word(), "waiting");
    next.signal("a", "go", json!(1), "s-1").await.unwrap();
    assert_eq!(next.show("a").await.status.word(), "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_definition_says_how_long_its_ended_sagas_are_remembered() {
    let brief = PASSING.replace("name: passing", "name: brief\nretention: { succeeded: 10m, failed: 30d }");
    let outside = Outside::new(&[PASSING, &brief]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("a", "brief", json!(1)).await.unwrap();
    world.pass(30).await;
    world.start("b", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names("ended/").len(), 2);
    world.pass(600).await;
    world.start("c", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    assert!(world.start("a", "passing", json!(1)).await.is_ok(), "its ten minutes are over");
    assert!(world.start("b", "brief", json!(1)).await.is_err(), "the node remembers it for a week");
}
