//! No saga keeps a shard from starting: one that cannot be rebuilt is parked with the reason, the others
//! go on. It is taken up again once what it lacked is there, or abandoned. What would make a lie of
//! everything else stops the shard all the same.

use crate::common::*;
use bytes::Bytes;
use protocol::command::ReleaseDecision;
use protocol::view::Status;
use protocol::{Code, codec};
use serde_json::json;
use supervisor::journal::Frame;
use supervisor::machine::{FactKind, Operator};
use supervisor::ports::Parcel;
use supervisor::tree::engine::Limits;
use supervisor::tree::shard::Right;

const ONE: &str = "name: one\naccess: { cancel: [ada], view: [ada] }\ndefinition:\n  StartAt: W\n  States:\n    W: { Type: Task, Resource: 'signal:go', Next: X }\n    X: { Type: Task, Resource: 'signal:go', End: true }\n";
const TWO: &str =
    "name: two\ndefinition:\n  StartAt: W\n  States:\n    W: { Type: Task, Resource: 'signal:go', End: true }\n";

fn operator(decision: ReleaseDecision, reason: &str) -> FactKind {
    FactKind::Operator(Operator { decision, by: "ada".into(), reason: reason.into() })
}

fn retry() -> FactKind {
    operator(ReleaseDecision::Retry, "")
}

fn abandon() -> FactKind {
    operator(ReleaseDecision::Abandon, "nobody has a copy")
}

/// `a` runs `one`, `b` runs `two`, and both wait.
async fn two_sagas(outside: &std::sync::Arc<Outside>) -> World {
    let world = World::take_over(outside, 1, Limits::default()).await;
    world.start("a", "one", json!(1)).await.unwrap();
    world.start("b", "two", json!(1)).await.unwrap();
    world
}

async fn ends(world: &World, key: &str) {
    world.signal(key, "go", json!(7), &format!("{key}-last")).await.unwrap();
    world.pass(1).await;
    assert_eq!(world.show(key).await.status, Status::Succeeded, "{key}");
}

/// Writes over what is stored under `name`.
fn spoil(outside: &Outside, name: &str) -> Bytes {
    let mut values = outside.values.lock().unwrap();
    let (_, bytes) = values.get_mut(name).unwrap_or_else(|| panic!("{name} is stored"));
    std::mem::replace(bytes, "nonsense".into())
}

/// Makes a later release's of the records of `key` after its `after`th: their changes are not known here.
/// Answers the frames as they were.
fn spoil_records(outside: &Outside, key: &str, after: u64, whole: bool) -> Vec<(u64, Bytes)> {
    unchain(outside);
    let mut frames = outside.frames.lock().unwrap();
    let mut were = Vec::new();
    for (position, bytes) in frames.iter_mut() {
        let mut frame = Frame::read(bytes).unwrap();
        let mut spoiled = false;
        for record in &mut frame.records {
            let mut read: serde_json::Value = codec::load(record).unwrap();
            if read["saga"]["key"] == key && read["number"].as_u64().unwrap() > after {
                read["changes"] = json!([{ "Dreamed": { "of": "sheep" } }]);
                *record = if whole { codec::store(&json!("nonsense")).into() } else { codec::store(&read).into() };
                spoiled = true;
            }
        }
        if spoiled {
            were.push((*position, std::mem::replace(bytes, codec::store(&frame).into())));
        }
    }
    assert!(!were.is_empty());
    were
}

/// The frames as they would be without a chain of digests, which is not what this is about.
fn unchain(outside: &Outside) {
    for bytes in outside.frames.lock().unwrap().values_mut() {
        let mut frame = Frame::read(bytes).unwrap();
        frame.header.after = None;
        *bytes = codec::store(&frame).into();
    }
}

/// A world whose frames may be changed: nothing is kept of them elsewhere.
fn changeable() -> std::sync::Arc<Outside> {
    let outside = Outside::new(&[ONE, TWO]);
    *outside.born.lock().unwrap() = 0;
    outside
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_definition_is_lost_is_parked_and_goes_on_when_it_is_back() {
    let outside = Outside::new(&[ONE, TWO]);
    two_sagas(&outside).await;
    outside.lost.lock().unwrap().push("one".into());
    let second = World::take_over(&outside, 2, Limits::default()).await;
    let shown = second.show("a").await;
    assert_eq!((shown.status, shown.state.as_str()), (Status::Stuck, "W"));
    assert!(shown.waiting[0].what.contains("its definition one v1"), "{:?}", shown.waiting);
    assert_eq!(second.list(Some(Status::Stuck)).await.0, ["acme/a"]);
    assert!(second.shard.card().view().last_failure.unwrap_or_default().contains("acme/a is parked"));
    let refused = second.signal("a", "go", json!(1), "s-0").await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden, "whom its access names nobody knows: {refused}");
    let cancel = FactKind::CancelRequested { by: "ada".into(), reason: String::new(), parent: None };
    let refused = second.fact("a", cancel, Right::Cancel).await.unwrap_err();
    assert!(refused.message.contains("is stuck") && refused.mend.unwrap().contains("abandon"));
    let refused = second.fact("a", retry(), Right::Cancel).await.unwrap_err();
    assert!(refused.message.contains("is not stored"), "{refused}");
    assert_eq!(second.start("a", "one", json!(1)).await.unwrap()["created"], false, "it is there");
    ends(&second, "b").await;
    let broken = || second.engine.pulses.all(second.engine.now())[0].broken;
    assert_eq!(broken(), 1);
    outside.lost.lock().unwrap().clear();
    second.fact("a", retry(), Right::Cancel).await.unwrap();
    assert_eq!(broken(), 0);
    second.signal("a", "go", json!(1), "s-1").await.unwrap();
    ends(&second, "a").await;
}

#[tokio::test(start_paused = true)]
async fn sagas_go_on_by_themselves_once_their_definition_is_back() {
    let outside = Outside::new(&[ONE, TWO]);
    let first = two_sagas(&outside).await;
    for key in ["c", "d"] {
        first.start(key, "one", json!(1)).await.unwrap();
    }
    outside.lost.lock().unwrap().push("one".into());
    let second = World::take_over(&outside, 2, Limits::default()).await;
    second.pass(30).await;
    assert_eq!(second.list(Some(Status::Stuck)).await.0, ["acme/d", "acme/c", "acme/a"]);
    outside.lost.lock().unwrap().clear();
    second.pass(30).await;
    assert!(second.list(Some(Status::Stuck)).await.0.is_empty());
    second.signal("a", "go", json!(1), "s-1").await.unwrap();
    ends(&second, "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_definition_is_lost_is_abandoned_and_its_parent_hears_of_it() {
    let outside = Outside::new(&[ONE, TWO]);
    let first = World::take_over(&outside, 1, Limits::default()).await;
    let parent = Some(("trip".parse().unwrap(), 2));
    first.start_child("trip~2", "one", json!(1), parent).await.unwrap();
    outside.lost.lock().unwrap().push("one".into());
    let second = World::take_over(&outside, 2, Limits::default()).await;
    let refused = second.fact("trip~2", operator(ReleaseDecision::Abandon, " "), Right::Cancel).await.unwrap_err();
    assert!(refused.message.contains("needs a reason"), "{refused}");
    second.fact("trip~2", abandon(), Right::Cancel).await.unwrap();
    second.until("the parent hears", || !outside.parcels.lock().unwrap().is_empty()).await;
    let parcel = outside.parcels.lock().unwrap()[0].1.clone();
    let Parcel::ChildEnded { outcome, .. } = parcel else { panic!("{parcel:?}") };
    assert_eq!((outcome.status, outcome.error.as_deref()), (Status::Abandoned, Some("Saga.Lost")));
    let mut world = second;
    for epoch in [3, 4] {
        world.pass(30).await;
        assert_eq!(world.show("trip~2").await.status, Status::Abandoned);
        let history = world.ask(|reply| history("trip~2", reply)).await.unwrap();
        assert_eq!(history["entries"].as_array().unwrap().len(), 2, "it began, and was abandoned: {history}");
        world = World::take_over(&outside, epoch, Limits::default()).await;
    }
}

fn history(key: &str, reply: supervisor::tree::reply::Reply) -> supervisor::tree::shard::Message {
    supervisor::tree::shard::Message::History(saga(key), protocol::Principal::new("ada").unwrap(), reply)
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_snapshot_cannot_be_read_is_parked_and_the_others_go_on() {
    let outside = Outside::new(&[ONE, TWO]);
    let first = two_sagas(&outside).await;
    first.until("everything is written down", || outside.is_written_down()).await;
    first.shard.kill();
    let was = spoil(&outside, "saga/acme/a");
    for epoch in 2..4 {
        let world = World::take_over(&outside, epoch, Limits::default()).await;
        let shown = world.show("a").await;
        assert_eq!(shown.status, Status::Stuck);
        assert!(shown.waiting[0].what.contains("its snapshot cannot be read"), "{:?}", shown.waiting);
        let refused = world.start("a", "one", json!(1)).await.unwrap_err();
        assert_eq!(refused.code, Code::Unavailable, "nobody knows whether it is the same: {refused}");
        world.fact("a", retry(), Right::Cancel).await.unwrap_err();
        world.start(&format!("new-{epoch}"), "two", json!(1)).await.unwrap();
        ends(&world, &format!("new-{epoch}")).await;
        world.pass(30).await;
    }
    let world = World::take_over(&outside, 4, Limits::default()).await;
    outside.values.lock().unwrap().get_mut("saga/acme/a").unwrap().1 = was;
    world.fact("a", retry(), Right::Cancel).await.unwrap();
    world.signal("a", "go", json!(1), "s-1").await.unwrap();
    ends(&world, "a").await;
    ends(&world, "b").await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_of_which_only_the_name_is_left_can_be_abandoned_and_its_key_is_not_free() {
    let outside = Outside::new(&[ONE, TWO]);
    let first = two_sagas(&outside).await;
    first.until("everything is written down", || outside.is_written_down()).await;
    first.shard.kill();
    spoil(&outside, "saga/acme/a");
    let second = World::take_over(&outside, 2, Limits::default()).await;
    second.fact("a", abandon(), Right::Cancel).await.unwrap();
    second.shard.kill();
    // Whether its end is in a page or in the journal alone.
    for epoch in [3, 4] {
        let world = World::take_over(&outside, epoch, Limits::default()).await;
        assert_eq!(world.show("a").await.status, Status::Abandoned, "under epoch {epoch}");
        assert_eq!(world.start("a", "one", json!(1)).await.unwrap_err().code, Code::Conflict);
        world.pass(30).await;
        assert_eq!(outside.names("saga/acme/a"), [""; 0], "what nobody can read is gone with its saga");
        world.shard.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_records_cannot_be_read_goes_on_where_they_can() {
    let outside = changeable();
    let first = two_sagas(&outside).await;
    first.until("everything is written down", || outside.is_written_down()).await;
    first.signal("a", "go", json!(1), "s-1").await.unwrap();
    first.shard.kill();
    let were = spoil_records(&outside, "a", 1, false);
    // Sweeps of an owner that cannot read them do not lose them.
    for epoch in 2..4 {
        let world = World::take_over(&outside, epoch, Limits::default()).await;
        let shown = world.show("a").await;
        assert_eq!((shown.status, shown.state.as_str()), (Status::Stuck, "W"), "as it could be read last");
        assert!(shown.waiting[0].what.contains("its record in frame"), "{:?}", shown.waiting);
        assert_eq!(world.start("a", "one", json!(1)).await.unwrap()["created"], false);
        world.fact("a", retry(), Right::Cancel).await.unwrap_err();
        world.pass(30).await;
        world.shard.kill();
    }
    outside.frames.lock().unwrap().extend(were);
    unchain(&outside);
    let world = World::take_over(&outside, 4, Limits::default()).await;
    assert_eq!(world.show("a").await.state, "X");
    ends(&world, "a").await;
    ends(&world, "b").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_abandoned_unread_stays_abandoned_where_it_can_be_read() {
    let outside = changeable();
    let first = two_sagas(&outside).await;
    first.signal("a", "go", json!(1), "s-1").await.unwrap();
    first.shard.kill();
    let were = spoil_records(&outside, "a", 1, false);
    let second = World::take_over(&outside, 2, Limits::default()).await;
    second.fact("a", abandon(), Right::Cancel).await.unwrap();
    second.shard.kill();
    outside.frames.lock().unwrap().extend(were);
    unchain(&outside);
    let world = World::take_over(&outside, 3, Limits::default()).await;
    assert_eq!(world.show("a").await.status, Status::Abandoned);
    ends(&world, "b").await;
}

#[tokio::test(start_paused = true)]
async fn a_record_of_nobody_knows_whom_stops_the_shard() {
    let outside = changeable();
    let first = two_sagas(&outside).await;
    first.shard.kill();
    spoil_records(&outside, "a", 0, true);
    let refused = World::try_take_over(&outside, 2, Limits::default()).await;
    let refused = format!("{:?}", refused.err().expect("any saga might go on from before it"));
    assert!(refused.contains("a record that nobody can read"), "{refused}");
}

/// `past` ended and is in a page, `a` and `b` live.
async fn with_a_page(outside: &std::sync::Arc<Outside>) -> (String, String) {
    let first = two_sagas(outside).await;
    first.start("past", "two", json!(1)).await.unwrap();
    ends(&first, "past").await;
    first.pass(30).await;
    first.shard.kill();
    let [page, index] = ["page/", "index/"].map(|prefix| outside.names(prefix).remove(0));
    (page, index)
}

#[tokio::test(start_paused = true)]
async fn an_index_that_cannot_be_read_is_made_anew_from_its_page() {
    let outside = Outside::new(&[ONE, TWO]);
    let (page, index) = with_a_page(&outside).await;
    spoil(&outside, &index);
    let world = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(world.start("past", "two", json!(1)).await.unwrap()["created"], false);
    ends(&world, "b").await;
    world.shard.kill();
    spoil(&outside, &page);
    let refused = World::try_take_over(&outside, 3, Limits::default()).await;
    let refused = format!("{:?}", refused.err().expect("what ended would be started again"));
    assert!(refused.contains("nobody knows which sagas ended"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_cannot_be_read_stops_only_the_keys_in_it() {
    let outside = Outside::new(&[ONE, TWO]);
    let (page, _) = with_a_page(&outside).await;
    spoil(&outside, &page);
    let world = World::take_over(&outside, 2, Limits::default()).await;
    let refused = world.start("past", "two", json!(1)).await.unwrap_err();
    assert!(refused.code == Code::Internal && refused.message.contains("cannot be understood"), "{refused}");
    world.start("new", "two", json!(1)).await.unwrap();
    ends(&world, "b").await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_may_have_ended_in_a_page_that_cannot_be_read_does_not_run_again() {
    let outside = Outside::new(&[ONE, TWO]);
    let first = two_sagas(&outside).await;
    first.start("past", "two", json!(1)).await.unwrap();
    first.until("it has a snapshot", || !outside.names("saga/acme/past").is_empty()).await;
    outside.unremovable.lock().unwrap().push("saga/acme/past".into());
    ends(&first, "past").await;
    first.pass(30).await;
    first.shard.kill();
    let page = outside.names("page/").remove(0);
    let was = spoil(&outside, &page);
    let world = World::take_over(&outside, 2, Limits::default()).await;
    let shown = world.show("past").await;
    assert_eq!(shown.status, Status::Stuck);
    assert!(shown.waiting[0].what.contains("nobody can say whether it ended"), "{:?}", shown.waiting);
    ends(&world, "b").await;
    world.shard.kill();
    outside.values.lock().unwrap().get_mut(&page).unwrap().1 = was;
    let world = World::take_over(&outside, 3, Limits::default()).await;
    assert_eq!(world.show("past").await.status, Status::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_page_without_an_index_that_cannot_be_read_stops_the_shard() {
    let outside = Outside::new(&[ONE, TWO]);
    two_sagas(&outside).await.shard.kill();
    outside.values.lock().unwrap().insert("ended/7.1.0".into(), (1, "nonsense".into()));
    let refused = World::try_take_over(&outside, 2, Limits::default()).await;
    let refused = format!("{:?}", refused.err().expect("what ended would be started again"));
    assert!(refused.contains("ended/7.1.0 cannot be read, so nobody knows which sagas ended"), "{refused}");
}
