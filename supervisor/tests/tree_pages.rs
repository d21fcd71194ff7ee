//! Pages of ended sagas: what they keep, and when it is forgotten.

mod tree_common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::json;
use supervisor::ports::Parcel;
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

#[tokio::test(start_paused = true)]
async fn a_saga_older_than_its_journal_is_shown_and_its_parent_is_told() {
    let outside = Outside::new(&[PASSING]);
    outside.peers_away.store(true, SeqCst);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    let parent = || Some(("parent".parse().unwrap(), 7));
    world.start_child("small", "passing", json!("answer"), parent()).await.unwrap();
    world.start_child("large", "passing", json!("x".repeat(10_000)), parent()).await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names("ended/").len(), 1);
    let begun = *outside.frames.lock().unwrap().last_key_value().unwrap().0;
    world.start("b", "passing", json!(1)).await.unwrap();
    world.shard.kill();
    outside.cut(begun);
    let next = World::take_over(&outside, 2, Limits::default()).await;
    outside.peers_away.store(false, SeqCst);
    let view = next.show("small").await;
    assert_eq!((view.status.word(), view.outcome.unwrap().output), ("succeeded", Some(json!("answer"))));
    // The parent asks again by starting its children again.
    next.start_child("small", "passing", json!("answer"), parent()).await.unwrap();
    next.start_child("large", "passing", json!("x".repeat(10_000)), parent()).await.unwrap();
    next.pass(10).await;
    let parcels = outside.parcels.lock().unwrap();
    let told = |key: &str| {
        parcels.iter().find_map(|(_, parcel)| match parcel {
            Parcel::ChildEnded { step: 7, child: Some(child), outcome } if child.as_str() == key => Some(outcome),
            Parcel::ChildEnded { .. } | Parcel::Child { .. } | Parcel::Cancel { .. } => None,
        })
    };
    assert_eq!(told("small").unwrap().output, Some(json!("answer")));
    assert_eq!(told("large").unwrap().error.as_deref(), Some("States.DataLimitExceeded"), "its output is gone");
}

#[tokio::test(start_paused = true)]
async fn last_words_are_said_again_without_the_beginning_of_the_journal() {
    let outside = Outside::new(&[WAITING]);
    outside.peers_away.store(true, SeqCst);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start_child("a", "waiting", json!(1), Some(("parent".parse().unwrap(), 7))).await.unwrap();
    world.pass(30).await;
    let begun = *outside.frames.lock().unwrap().last_key_value().unwrap().0;
    world.signal("a", "go", json!("y".repeat(10_000)), "s-1").await.unwrap();
    world.pass(30).await;
    world.shard.kill();
    assert_eq!(outside.names("ended/").len(), 1, "its page is written, its parent knows nothing");
    outside.cut(begun);
    let _next = World::take_over(&outside, 2, Limits::default()).await;
    outside.peers_away.store(false, SeqCst);
    world.until("the end", || !outside.parcels.lock().unwrap().is_empty()).await;
    let (to, parcel) = outside.parcels.lock().unwrap()[0].clone();
    let Parcel::ChildEnded { step: 7, outcome, .. } = parcel else { panic!("{parcel:?}") };
    assert_eq!((to.to_string().as_str(), outcome.output.unwrap()), ("acme/parent", json!("y".repeat(10_000))));
}
