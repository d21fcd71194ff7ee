//! A child is its parent's: whoever takes its key before it is born, or looks like it, is nobody's child.

use node::client::{Client, StartAnswer};
use protocol::Code;
use protocol::command::Cancel;
use protocol::ids::KEY_MAX_BYTES;
use protocol::view::Status;
use scenarios::cluster::until;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;

use super::House;
use super::beside::{Bystander, alone};

const LEG: &str = r#"
name: leg
description: A child that takes a while. Only ops may cancel it.
access: { start: ["*"], cancel: [ops] }
definition:
  StartAt: Fly
  States:
    Fly: { Type: Wait, Seconds: 600, Next: Landed }
    Landed: { Type: Succeed }
"#;
const TRIP: &str = r#"
name: trip
definition:
  StartAt: Leg
  States:
    Leg: { Type: Task, Resource: "saga:leg", Arguments: { n: 1 }, Next: Home }
    Home: { Type: Succeed }
"#;

/// The key of the child that `trip` waits for, once it is born.
async fn born(client: &Client, trip: &str) -> String {
    let child = async || {
        let view = client.describe(&saga_key(trip)).await.unwrap();
        let waiting = view.waiting.into_iter().find(|it| it.kind == "child")?;
        waiting.what.split_whitespace().nth(3).map(str::to_owned)
    };
    until(PATIENCE, "the child is born", || async {
        let Some(child) = child().await else { return false };
        client.describe(&saga_key(&child)).await.is_ok()
    })
    .await;
    child().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_a_childs_key_changes_nothing() {
    let _alone = alone().await;
    let house = House::build(1, &[LEG, TRIP]).await;
    let eve = house.client("evil.eve", "evil", "eve").await;
    Bystander::of("strangers with the keys of children", &eve).await.notices(strangers(&house)).await;
}

async fn strangers(house: &House) {
    let (ann, bob) = (house.client("acme.ann", "acme", "ann").await, house.client("acme.bob", "acme", "bob").await);
    let leg = |key: &str| start("leg", key, json!({ "n": 1 }));

    // As the keys of children once were, and as they are.
    bob.start(&leg("trip-b.1")).await.unwrap();
    let refused = bob.start(&leg("trip-b~1")).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::BadRequest), "{refused}");

    let long = "t".repeat(KEY_MAX_BYTES);
    for trip in ["trip-b", long.as_str()] {
        ann.start(&start("trip", trip, json!({}))).await.unwrap();
        let born = born(&ann, trip).await;
        assert!(born.contains('~') && born.len() <= KEY_MAX_BYTES, "{born}");
        let refused = ann.cancel(&Cancel { key: saga_key(&born), reason: String::new() }).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Forbidden), "ann is not ops: {refused}");
        let again = bob.start(&leg(&born)).await;
        assert!(again.is_err_and(|refused| refused.code() == Some(Code::BadRequest)));
        ann.cancel(&Cancel { key: saga_key(trip), reason: String::new() }).await.unwrap();
        let view = ann.wait(&saga_key(&born), PATIENCE).await.unwrap();
        assert_eq!(view.status, Status::Cancelled, "its parent is the one who may: {view:#?}");
    }
    let stranger = bob.describe(&saga_key("trip-b.1")).await.unwrap();
    assert_eq!(stranger.status, Status::Waiting, "{stranger:#?}");
    let answer = bob.start(&leg("trip-b.1")).await.unwrap();
    assert!(matches!(answer, StartAnswer::Started(started) if !started.created), "and it is bob's");
}

/// A definition is no way around another one's `access`.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_started_by_whom_its_definition_allows() {
    let guarded = LEG.replace("name: leg", "name: guarded").replace("start: [\"*\"]", "start: [ops]");
    let wrap = TRIP.replace("name: trip", "name: wrap").replace("saga:leg", "saga:guarded");
    let house = House::build(1, &[&guarded, &wrap]).await;
    let bob = house.client("acme.bob", "acme", "bob").await;
    let refused = bob.start(&start("guarded", "mine", json!({}))).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Forbidden), "{refused}");
    bob.start(&start("wrap", "around", json!({}))).await.unwrap();
    let view = bob.wait(&saga_key("around"), PATIENCE).await.unwrap();
    assert_eq!(view.status, Status::Failed, "{view:#?}");
    assert!(format!("{view:?}").contains("bob may not start guarded"), "{view:#?}");
}
