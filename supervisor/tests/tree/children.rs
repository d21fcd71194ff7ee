//! Parents and children in a shard: who is whose, who is not, and how many there may be.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::common::*;
use protocol::{Code, SagaKey};
use serde_json::json;
use supervisor::machine::{FactKind, Family};
use supervisor::ports::Parcel;
use supervisor::tree::engine::Limits;
use supervisor::tree::reply::Answer;
use supervisor::tree::shard::{Message, Right};

/// A child that waits; only ops may cancel it.
const LEG: &str = r#"
name: leg
access: { cancel: [ops] }
definition:
  StartAt: Fly
  States: { Fly: { Type: Task, Resource: "signal:landed", End: true } }
"#;
const TRIP: &str = r#"
name: trip
definition:
  StartAt: Go
  States:
    Go: { Type: Task, Resource: "signal:go", Next: Leg }
    Leg: { Type: Task, Resource: "saga:leg", End: true }
"#;
/// One branch starts a child, the other fails before anything is written.
const TORN: &str = r#"
name: torn
definition:
  StartAt: Both
  States:
    Both:
      Type: Parallel
      End: true
      Branches:
        - { StartAt: Child, States: { Child: { Type: Task, Resource: "saga:leg", End: true } } }
        - { StartAt: Fails, States: { Fails: { Type: Fail, Error: Torn } } }
"#;

fn key(text: &str) -> SagaKey {
    text.parse().unwrap()
}

async fn world(limits: Limits) -> World {
    World::take_over(&Outside::new(&[LEG, TRIP, TORN]), 1, limits).await
}

#[tokio::test(start_paused = true)]
async fn a_stranger_under_a_childs_key_is_not_taken_for_the_child() {
    let world = world(Limits::default()).await;
    // Keys of children as the first releases gave them could be taken by anybody.
    world.start("trip.1", "leg", json!({ "n": 1 })).await.unwrap();
    world.start_child("trip~1", "leg", json!({ "n": 1 }), Some((key("other"), 1))).await.unwrap();
    world.start_child("trip~2", "leg", json!({ "n": 1 }), Some((key("trip"), 9))).await.unwrap();
    let children = [("trip.1", 1), ("trip~1", 1), ("trip~2", 2)];
    for ended in [false, true] {
        for (child, step) in children {
            let refused = world.start_child(child, "leg", json!({ "n": 1 }), Some((key("trip"), step))).await;
            let refused = refused.expect_err("it is another's");
            assert_eq!(refused.code, Code::Conflict, "{child}, ended: {ended}: {refused}");
            assert_eq!(world.show(child).await.status.is_final(), ended, "{child} goes on as it was");
            if !ended {
                world.signal(child, "landed", json!("the stranger's"), "s-1").await.unwrap();
            }
        }
    }
    let told = world.outside.parcels.lock().unwrap().iter().filter(|(to, _)| *to == saga("trip")).count();
    assert_eq!(told, 1, "of these, the trip hears from its own step 9 alone");
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_asks_again_hears_of_its_own_child() {
    let world = world(Limits::default()).await;
    let parent = || Some((key("trip"), 2));
    for again in [true, false, false] {
        let answer = world.start_child("trip~2", "leg", json!({}), parent()).await.unwrap();
        assert_eq!(answer["created"], again);
    }
    world.outside.peers_away.store(true, SeqCst);
    world.signal("trip~2", "landed", json!("well"), "s-1").await.unwrap();
    world.pass(30).await;
    let unheard = world.start_child("trip~2", "leg", json!({}), parent()).await.unwrap_err();
    assert_eq!(unheard.code, Code::Unavailable, "a start counts once the parent knows: {unheard}");
    world.outside.peers_away.store(false, SeqCst);
    world.outside.parcels.lock().unwrap().clear();
    world.start_child("trip~2", "leg", json!({}), parent()).await.unwrap();
    let parcels = world.outside.parcels.lock().unwrap();
    let Parcel::ChildEnded { step: 2, outcome, .. } = &parcels[0].1 else { panic!("{parcels:?}") };
    assert_eq!(outcome.output, Some(json!("well")));
}

#[tokio::test(start_paused = true)]
async fn no_start_from_outside_has_the_key_of_a_child() {
    let world = world(Limits::default()).await;
    let refused = world.start("trip~1", "leg", json!({})).await.unwrap_err();
    assert_eq!(refused.code, Code::BadRequest, "{refused}");
    assert!(refused.message.contains('~') && refused.mend.is_some());
}

#[tokio::test(start_paused = true)]
async fn only_the_parent_cancels_past_the_access_of_its_child() {
    let world = world(Limits::default()).await;
    world.start_child("trip~2", "leg", json!({}), Some((key("trip"), 2))).await.unwrap();
    world.start("alone", "leg", json!({})).await.unwrap();
    let cancel = |parent: Option<(&str, Option<u64>)>| FactKind::CancelRequested {
        by: "trip".into(),
        reason: String::new(),
        parent: parent.map(|(parent, step)| (key(parent), step)),
    };
    let refused = world.fact("trip~2", cancel(None), Right::Cancel).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden, "ada is not ops");
    for (who, parent) in [("trip~2", ("trip", Some(3))), ("trip~2", ("tripp", Some(2))), ("alone", ("trip", None))] {
        let answer = world.fact(who, cancel(Some(parent)), Right::Internal).await.unwrap();
        assert_eq!(answer["ignored"], "it is not the child of the saga that wants it cancelled");
        assert!(!world.show(who).await.status.is_final(), "{who} goes on");
    }
    world.fact("trip~2", cancel(Some(("trip", Some(2)))), Right::Internal).await.unwrap();
    assert_eq!(world.show("trip~2").await.status.word(), "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_cancelled_as_it_is_started_is_not_born() {
    let world = world(Limits { parcels_in_flight: 1, ..Limits::default() }).await;
    world.start("torn", "torn", json!({})).await.unwrap();
    world.pass(1).await;
    assert_eq!(world.show("torn").await.status.word(), "failed");
    assert_eq!(*world.outside.parcels.lock().unwrap(), [], "started and cancelled in one record");

    // One parcel is on its way and holds up the next saga's, which is cancelled meanwhile.
    world.outside.peers_away.store(true, SeqCst);
    for trip in ["a", "b"] {
        world.start(trip, "trip", json!({})).await.unwrap();
        world.signal(trip, "go", json!({}), "s-1").await.unwrap();
    }
    for trip in ["a", "b"] {
        let cancel = FactKind::CancelRequested { by: "ada".into(), reason: String::new(), parent: None };
        world.fact(trip, cancel, Right::Cancel).await.unwrap();
    }
    world.outside.peers_away.store(false, SeqCst);
    world.until("everything is sent", || world.outside.parcels.lock().unwrap().len() >= 2).await;
    world.pass(20).await;
    let parcels = world.outside.parcels.lock().unwrap();
    let (first, last) = (&parcels[0], &parcels[1]);
    assert!(matches!(first.1, Parcel::Child { .. }) && matches!(last.1, Parcel::Cancel { .. }), "{parcels:?}");
    assert_eq!((first.0.key.as_str(), &last.0, parcels.len()), ("a~2", &first.0, 2), "of b nothing is heard");
}

/// The former owner sent both children and did not write that down.
#[tokio::test(start_paused = true)]
async fn a_child_that_a_former_owner_may_have_sent_is_cancelled() {
    let limits = || Limits { parcels_in_flight: 1, sweep_every: Duration::from_secs(3_600), ..Limits::default() };
    let outside = Outside::new(&[LEG, TRIP, TORN]);
    let former = World::take_over(&outside, 1, limits()).await;
    former.start("torn", "torn", json!({})).await.unwrap();
    for trip in ["a", "b"] {
        former.start(trip, "trip", json!({})).await.unwrap();
        former.signal(trip, "go", json!({}), "s-1").await.unwrap();
    }
    former.until("both children", || outside.parcels.lock().unwrap().len() == 2).await;
    former.shard.kill();
    outside.peers_away.store(true, SeqCst);
    outside.parcels.lock().unwrap().clear();

    // The successor's first parcel holds up the others, and b is cancelled meanwhile.
    let world = World::take_over(&outside, 2, limits()).await;
    let cancel = FactKind::CancelRequested { by: "ada".into(), reason: String::new(), parent: None };
    world.fact("b", cancel, Right::Cancel).await.unwrap();
    outside.peers_away.store(false, SeqCst);
    let to_b = || {
        let parcels = outside.parcels.lock().unwrap();
        parcels.iter().filter(|(to, _)| *to == saga("b~2")).map(|(_, parcel)| parcel.clone()).collect::<Vec<_>>()
    };
    world.until("b's child is cancelled", || matches!(to_b().last(), Some(Parcel::Cancel { .. }))).await;
    world.pass(20).await;
    assert!(matches!(to_b().last(), Some(Parcel::Cancel { .. })), "nothing comes after it: {:?}", to_b());
    let heard = outside.parcels.lock().unwrap().iter().any(|(to, _)| to.key.as_str().starts_with("torn"));
    assert!(!heard, "what one record starts and cancels nobody sends");
}

/// The former owner's start is under way for a long time: the successor's word is there before it.
#[tokio::test(start_paused = true)]
async fn a_start_that_comes_after_the_cancel_bears_no_child() {
    let outside = Outside::new(&[LEG, TRIP]);
    let former = World::take_over(&outside, 1, Limits::default()).await;
    former.start("a", "trip", json!({})).await.unwrap();
    former.signal("a", "go", json!({}), "s-1").await.unwrap();
    former.until("the child", || outside.parcels.lock().unwrap().len() == 1).await;
    let (late, cause) = outside.parcels.lock().unwrap().remove(0);
    let Parcel::Child { parent, input, .. } = cause else { panic!("{cause:?}") };
    former.shard.kill();

    let world = World::take_over(&outside, 2, Limits::default()).await;
    let cancel = FactKind::CancelRequested { by: "ada".into(), reason: String::new(), parent: None };
    world.fact("a", cancel, Right::Cancel).await.unwrap();
    let last = || outside.parcels.lock().unwrap().last().cloned();
    world.until("the cancel", || matches!(last(), Some((_, Parcel::Cancel { .. })))).await;
    let (to, cancel) = last().unwrap();
    assert_eq!(to, late);
    let cancel = cancel.fact().unwrap();
    world.fact(late.key.as_str(), cancel.clone(), Right::Internal).await.unwrap();

    let mut world = world;
    // In memory, in the journal, in a page, and read from there.
    for epoch in [3, 4, 5] {
        let start = world.start_child(late.key.as_str(), "leg", input.clone(), Some(parent.clone())).await;
        assert_eq!(start.expect_err("nobody wants it").code, Code::Conflict, "before epoch {epoch}");
        assert_eq!(world.show(late.key.as_str()).await.status.word(), "cancelled");
        let again = world.fact(late.key.as_str(), cancel.clone(), Right::Internal).await;
        assert_eq!(again.unwrap_err().code, Code::NotNow, "it has ended");
        if epoch > 3 {
            world.pass(30).await;
        }
        world.shard.kill();
        world = World::take_over(&outside, epoch, Limits::default()).await;
    }
    let alone = FactKind::CancelRequested { by: "a".into(), reason: String::new(), parent: Some((key("a"), None)) };
    let refused = world.fact("alone", alone, Right::Internal).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound, "no parent takes a key that is not its child's");
    world.start("alone", "leg", json!({})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_more_are_let_in_than_may_live() {
    let limits = || Limits { sagas_per_tenant: 5, descendants: 2, ..Limits::default() };
    let outside = Outside::new(&[LEG]);
    let former = World::take_over(&outside, 1, limits()).await;
    let below = async |world: &World, child: &str| {
        let (mut start, definition) = world.starting("leg", json!({}), Some((key("trip"), 2)));
        start.family = Family::default().below(&key("trip"));
        world.ask(|accepted| Message::Start { saga: saga(child), start, definition, accepted, outcome: None }).await
    };
    let limit = |answer: Answer| {
        let refused = answer.expect_err("it is one too many");
        assert_eq!(refused.code, Code::Quota, "{refused}");
        refused.message
    };
    for child in ["trip~1", "trip~2"] {
        below(&former, child).await.unwrap();
    }
    for alone in ["x", "y", "z"] {
        former.start(alone, "leg", json!({})).await.unwrap();
    }
    // Whoever takes the shard over counts the same, from what is there.
    for world in [former, World::take_over(&outside, 2, limits()).await] {
        below(&world, "trip~1").await.expect("it is there already");
        assert!(limit(below(&world, "trip~3").await).contains("limits.descendants"));
        assert!(limit(world.start("w", "leg", json!({})).await).contains("limits.sagas_per_tenant"));
    }
    let world = World::take_over(&outside, 3, limits()).await;
    world.signal("trip~1", "landed", json!(1), "s-1").await.unwrap();
    world.pass(1).await;
    below(&world, "trip~3").await.expect("one has ended");
    assert!(limit(below(&world, "trip~4").await).contains("limits.descendants"));
}

#[tokio::test(start_paused = true)]
async fn no_more_are_let_in_than_the_journal_keeps_bytes_for() {
    let limits = || Limits { journal_bytes_per_tenant: 150_000, ..Limits::default() };
    let outside = Outside::new(&[LEG]);
    let former = World::take_over(&outside, 1, limits()).await;
    let large = |number: u32| json!({ "n": number, "text": "x".repeat(20_000) });
    let refused = async |world: &World| {
        let refused = world.start("late", "leg", json!({})).await.expect_err("it is one too many");
        assert_eq!(refused.code, Code::Quota, "{refused}");
        assert!(refused.message.contains("limits.journal_bytes_per_tenant"), "{refused}");
    };
    let mut let_in = 0;
    while former.start(&format!("leg-{let_in}"), "leg", large(let_in)).await.is_ok() {
        let_in += 1;
        assert!(let_in < 10, "each has at least its input of 20,000 bytes");
        former.pass(2).await;
    }
    assert!(let_in >= 2, "{let_in}");
    refused(&former).await;
    // Whoever takes the shard over counts the same: from the journal, and then from the snapshots.
    former.shard.kill();
    let second = World::take_over(&outside, 2, limits()).await;
    refused(&second).await;
    second.pass(60).await;
    let third = World::take_over(&outside, 3, limits()).await;
    refused(&third).await;
    third.start("leg-0", "leg", large(0)).await.expect("it is there already");
    third.signal("leg-0", "landed", json!(1), "s-1").await.expect("what lives goes on");
    third.pass(1).await;
    assert!(third.show("leg-0").await.status.is_final());
    third.start("late", "leg", json!({})).await.expect("one has ended");
}
