//! Pages of ended sagas: what they keep, and when it is forgotten.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::common::*;
use protocol::view::Status;
use protocol::{Code, Principal};
use serde_json::json;
use supervisor::journal::Loss;
use supervisor::ports::Parcel;
use supervisor::tree::engine::Limits;
use supervisor::tree::recovery::MARK;
use supervisor::tree::reply::Reply;
use supervisor::tree::root::NotStarted;
use supervisor::tree::shard::Message;

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

/// `past` has ended and is in a page.
async fn one_ended() -> (std::sync::Arc<Outside>, World) {
    let outside = Outside::new(&[PASSING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("past", "passing", json!(7)).await.unwrap();
    world.pass(30).await;
    (outside, world)
}

/// Nothing happens in the shard any more, and it notices all the same.
#[tokio::test(start_paused = true)]
async fn a_shard_that_rests_notices_that_its_snapshots_are_gone() {
    let (outside, world) = one_ended().await;
    world.pass(30).await;
    assert_eq!(world.show("past").await.status, Status::Succeeded);
    outside.values.lock().unwrap().clear();
    world.pass(30).await;
    assert_eq!(world.start("new", "passing", json!(7)).await.unwrap_err().code, Code::Unavailable, "it stopped");
    let second = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(second.show("past").await.status, Status::Succeeded);
}

/// The store of snapshots is deleted, and made again empty, while the shard runs.
#[tokio::test(start_paused = true)]
async fn what_ended_is_not_begun_anew_because_its_page_is_lost() {
    let (outside, world) = one_ended().await;
    outside.values.lock().unwrap().clear();
    let frames = outside.frames.lock().unwrap().len();
    let refused = world.start("past", "passing", json!(7)).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    world.pass(1).await;
    assert_eq!(outside.frames.lock().unwrap().len(), frames, "nothing was begun");
    assert_eq!(world.start("new", "passing", json!(7)).await.unwrap_err().code, Code::Unavailable, "it stopped");
    // The journal tells all of it.
    let second = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(second.start("past", "passing", json!(7)).await.unwrap()["created"], false);
}

/// Found by real faults: a node was killed, the store of snapshots deleted at once, and a sweep that was under
/// way then wrote its mark over that of the owner that was reading the whole journal: the next one lost what
/// stood before it.
#[tokio::test(start_paused = true)]
async fn a_former_owners_mark_does_not_replace_a_later_one() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let first = World::take_over(&outside, 1, Limits::default()).await;
    first.start("live", "waiting", json!(1)).await.unwrap();
    first.start("past", "passing", json!(7)).await.unwrap();
    first.pass(30).await;
    first.start("later", "waiting", json!(1)).await.unwrap();
    *outside.held.lock().unwrap() = Some(MARK.into());
    first.pass(30).await;
    assert_eq!(*outside.held.lock().unwrap(), None, "its sweep is about to write its mark");
    outside.values.lock().unwrap().clear();
    let second = World::take_over(&outside, 2, Limits::default()).await;
    outside.let_go.notify_one();
    second.pass(1).await;
    second.shard.kill();
    let third = World::take_over(&outside, 3, Limits::default()).await;
    for saga in ["live", "later"] {
        assert_eq!(third.show(saga).await.status, Status::Waiting, "{saga}");
    }
    assert_eq!(third.start("past", "passing", json!(7)).await.unwrap()["created"], false);
}

#[tokio::test(start_paused = true)]
async fn what_ended_long_ago_is_in_the_store_and_not_in_memory() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    for number in 0..50 {
        world.start(&format!("past-{number}"), "passing", json!(number)).await.unwrap();
    }
    world.start("live", "waiting", json!(1)).await.unwrap();
    world.pass(30).await;
    outside.pages_read();
    for epoch in [1, 2] {
        let again;
        let owner = if epoch == 1 {
            &world
        } else {
            world.shard.kill();
            outside.pages_read();
            again = World::take_over(&outside, 2, Limits::default()).await;
            &again
        };
        assert_eq!(outside.pages_read(), 0, "a takeover reads no page");
        owner.start(&format!("new-{epoch}"), "waiting", json!(1)).await.unwrap();
        assert_eq!(owner.list(Some(Status::Waiting)).await.0.len(), 1 + epoch);
        assert_eq!(outside.pages_read(), 0, "nor does a new key, nor a list of what lives");
        let told = owner.start("past-7", "passing", json!(7)).await.unwrap();
        assert_eq!((&told["created"], &told["saga"]), (&json!(false), &json!("acme/past-7")));
        assert_eq!(outside.pages_read(), 1, "one page has it");
        let other = owner.start("past-7", "passing", json!(8)).await.unwrap_err();
        assert_eq!(other.code, Code::Conflict, "{other}");
        assert_eq!(owner.start("past-7", "waiting", json!(7)).await.unwrap_err().code, Code::Conflict);
        let (start, definition) = owner.starting("passing", json!(9), None);
        let (outcome, told) = Reply::channel();
        let accepted = Reply::nobody();
        owner.shard.tell(Message::Start { saga: saga("past-9"), start, definition, accepted, outcome: Some(outcome) });
        assert_eq!(told.await.unwrap().unwrap()["output"], json!(9), "whoever waits hears the first one's outcome");
        let view = owner.show("past-7").await;
        assert_eq!((view.status.word(), view.outcome.unwrap().output), ("succeeded", Some(json!(7))));
        let ada = || Principal::new("ada").unwrap();
        let waited = owner.ask(|reply| Message::Wait(saga("past-8"), ada(), reply)).await.unwrap();
        assert_eq!(waited["status"], "succeeded");
        let history = owner.ask(|reply| Message::History(saga("past-8"), ada(), reply)).await.unwrap();
        assert!(!history["entries"].as_array().unwrap().is_empty());
        assert_eq!(owner.signal("past-8", "go", json!(1), "s-1").await.unwrap_err().code, Code::NotNow);
        let never = owner.ask(|reply| Message::Describe(saga("never"), ada(), reply)).await;
        assert_eq!(never.unwrap_err().code, Code::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_cannot_be_read_now_starts_nothing_twice() {
    let outside = Outside::new(&[PASSING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("a", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    outside.unreadable.lock().unwrap().push("page/".into());
    let refused = world.start("a", "passing", json!(1)).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms), (Code::Unavailable, Some(500)));
    world.start("b", "passing", json!(1)).await.expect("a new key needs no page");
    outside.unreadable.lock().unwrap().clear();
    assert_eq!(world.start("a", "passing", json!(1)).await.unwrap()["created"], false);
}

#[tokio::test(start_paused = true)]
async fn little_that_ends_now_and_then_does_not_make_a_page_each_time() {
    let brief = PASSING.replace("name: passing", "name: brief\nretention: { succeeded: 10d }");
    let outside = Outside::new(&[PASSING, &brief]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    for number in 0..30 {
        world.start(&format!("a-{number}"), "passing", json!(number)).await.unwrap();
        world.start(&format!("b-{number}"), "brief", json!(number)).await.unwrap();
        world.pass(15).await;
    }
    assert_eq!(outside.names("page/").len(), 2, "one for each time that they are remembered");
    assert_eq!(outside.names("index/").len(), 2);
    world.shard.kill();
    let next = World::take_over(&outside, 2, Limits::default()).await;
    for number in 0..30 {
        assert_eq!(next.start(&format!("a-{number}"), "passing", json!(number)).await.unwrap()["created"], false);
        assert_eq!(next.start(&format!("b-{number}"), "brief", json!(number)).await.unwrap()["created"], false);
    }
    next.start("c", "passing", json!(1)).await.unwrap();
    next.pass(15).await;
    assert_eq!(outside.names("page/").len(), 3, "another owner begins a page of its own");
    next.pass(3_700).await;
    next.start("d", "passing", json!(1)).await.unwrap();
    next.pass(15).await;
    assert_eq!(outside.names("page/").len(), 4, "and another one after an hour");
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_former_release_are_understood_and_moved() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("a", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    world.shard.kill();
    {
        let mut values = outside.values.lock().unwrap();
        let index = values.keys().find(|name| name.starts_with("index/")).unwrap().clone();
        values.remove(&index);
        let page = values.keys().find(|name| name.starts_with("page/")).unwrap().clone();
        let value = values.remove(&page).unwrap();
        values.insert("ended/00000000000000000002.0".into(), value);
    }
    let next = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(next.start("a", "passing", json!(1)).await.unwrap()["created"], false);
    assert!(next.start("a", "passing", json!(2)).await.is_err());
    next.start("b", "waiting", json!(1)).await.unwrap();
    next.pass(30).await;
    assert_eq!(outside.names("ended/"), Vec::<String>::new());
    assert_eq!(outside.names("page/"), ["page/00000000000000000002.0"]);
    assert_eq!(outside.names("index/"), ["index/00000000000000000002.0"]);
    assert_eq!(next.start("a", "passing", json!(1)).await.unwrap()["created"], false);
    next.shard.kill();
    outside.pages_read();
    let last = World::take_over(&outside, 3, Limits::default()).await;
    assert_eq!(outside.pages_read(), 0);
    assert_eq!(last.start("a", "passing", json!(1)).await.unwrap()["created"], false);
}

/// A snapshot that is older than its saga's end, written late by a former owner, brings nobody back.
#[tokio::test(start_paused = true)]
async fn a_snapshot_left_behind_does_not_bring_its_saga_back() {
    let outside = Outside::new(&[WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("a", "waiting", json!(1)).await.unwrap();
    world.pass(30).await;
    let name = outside.names("saga/").remove(0);
    let (_, bytes) = outside.values.lock().unwrap()[&name].clone();
    world.signal("a", "go", json!(1), "s-1").await.unwrap();
    world.pass(30).await;
    assert!(outside.names("saga/").is_empty() && outside.names("page/").len() == 1);
    world.shard.kill();
    outside.values.lock().unwrap().insert(name, (1_000, bytes));
    let next = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(next.show("a").await.status.word(), "succeeded");
    next.start("b", "waiting", json!(1)).await.unwrap();
    next.pass(30).await;
    assert_eq!(outside.names("saga/"), ["saga/acme/b"], "it is removed");
    assert_eq!(next.start("a", "waiting", json!(1)).await.unwrap()["created"], false);
}

/// Whose child it is, its own record says, in a page as in memory, and also when the journal has not got it.
#[tokio::test(start_paused = true)]
async fn a_child_in_a_page_is_its_own_parents_alone() {
    let outside = Outside::new(&[PASSING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    let trip = |step: u64| Some(("trip".parse().unwrap(), step));
    world.start_child("trip~1", "passing", json!("well"), trip(1)).await.unwrap();
    world.start_child("trip~2", "passing", json!("well"), trip(9)).await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names("page/").len(), 1);
    let ended = *outside.frames.lock().unwrap().last_key_value().unwrap().0;
    world.shard.kill();
    for epoch in [2, 3] {
        let next = World::take_over(&outside, epoch, Limits::default()).await;
        next.pass(1).await;
        outside.parcels.lock().unwrap().clear();
        let told = next.start_child("trip~1", "passing", json!("well"), trip(1)).await.unwrap();
        assert_eq!(told["created"], false);
        let refused = next.start_child("trip~2", "passing", json!("well"), trip(2)).await.unwrap_err();
        assert_eq!(refused.code, Code::Conflict, "{refused}");
        {
            let parcels = outside.parcels.lock().unwrap();
            let [(to, Parcel::ChildEnded { step: 1, outcome, .. })] = &parcels[..] else { panic!("{parcels:?}") };
            assert_eq!((to, outcome.output.as_ref()), (&saga("trip"), Some(&json!("well"))));
        }
        next.shard.kill();
        next.pass(1).await;
        outside.cut(ended);
    }
}

/// The indexes say that an end is beyond the journal's, and the page says whose.
#[tokio::test(start_paused = true)]
async fn a_page_that_knows_more_than_the_journal_stops_the_shard() {
    let outside = Outside::new(&[PASSING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("a", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    world.shard.kill();
    world.pass(1).await;
    let (position, _) = outside.frames.lock().unwrap().pop_last().unwrap();
    // An older copy of the journal is in its place, and nothing else that was kept says so.
    outside.frames.lock().unwrap().clear();
    outside.last.store(0, SeqCst);
    *outside.anchor.lock().unwrap() = None;
    outside.values.lock().unwrap().remove(MARK);
    let Err(NotStarted::Stopped(stopped)) = World::try_take_over(&outside, 2, Limits::default()).await else {
        panic!("it went on in what was left")
    };
    assert_eq!(stopped.loss, Loss::Ahead { name: "acme/a".into(), position });
}

#[tokio::test(start_paused = true)]
async fn a_list_has_what_ended_newest_first_and_says_what_it_left_out() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    for number in 0..40 {
        world.start(&format!("p-{number}"), "passing", json!(number)).await.unwrap();
        // Long enough for a page of its own.
        world.pass(3_700).await;
    }
    world.start("live", "waiting", json!(1)).await.unwrap();
    world.start("last", "passing", json!(1)).await.unwrap();
    assert_eq!(outside.names("page/").len(), 40);
    let (rows, missing) = world.list(None).await;
    assert_eq!(rows[..4], ["acme/last", "acme/live", "acme/p-39", "acme/p-38"]);
    assert_eq!(rows.len(), 34, "a list reads no more than so many pages");
    let missing = missing.expect("older ones are missing");
    assert!(missing.starts_with("shard 0: what ended before ") && missing.ends_with("for fewer"), "{missing}");
    outside.pages_read();
    assert_eq!(world.list(Some(Status::Waiting)).await, (vec!["acme/live".into()], None));
    assert_eq!(world.list(Some(Status::Failed)).await, (vec![], None), "no page has one");
    assert_eq!(outside.pages_read(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_are_forgotten_when_there_are_too_many() {
    let outside = Outside::new(&[PASSING]);
    let limits = Limits { ended_per_shard: 25, ..Limits::default() };
    let world = World::take_over(&outside, 1, limits).await;
    for hour in 0..4 {
        for number in 0..10 {
            world.start(&format!("h{hour}-{number}"), "passing", json!(1)).await.unwrap();
        }
        world.pass(3_700).await;
    }
    assert_eq!(outside.names("page/").len(), 3, "a sweep forgets what was too much before it");
    assert_eq!(world.start("h0-1", "passing", json!(1)).await.unwrap()["created"], true);
    assert_eq!(world.start("h1-1", "passing", json!(1)).await.unwrap()["created"], false);
}

/// What a tenant ends much of is forgotten, and nobody else's: a key that is free again is an effect done
/// twice.
#[tokio::test(start_paused = true)]
async fn nobody_makes_anothers_keys_free_by_ending_much() {
    let outside = Outside::new(&[PASSING]);
    let limits = Limits { ended_per_shard: 100, ..Limits::default() };
    let world = World::take_over(&outside, 1, limits).await;
    let evils = async |number: usize| {
        let (start, definition) = world.starting("passing", json!(1), None);
        let saga = format!("evil/{number}").parse().unwrap();
        world.ask(|accepted| Message::Start { saga, start, definition, accepted, outcome: None }).await.unwrap()
    };
    world.start("pay-1", "passing", json!(1)).await.unwrap();
    for round in 0..6 {
        for number in 0..50 {
            evils(50 * round + number).await;
        }
        world.pass(60).await;
    }
    assert_eq!(evils(0).await["created"], true, "there are too many of evil's");
    assert_eq!(world.start("pay-1", "passing", json!(1)).await.unwrap()["created"], false);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_could_not_be_removed_keeps_its_keys() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let world = World::take_over(&outside, 1, soon_forgotten()).await;
    world.start("a", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names("page/").len(), 1);
    outside.unremovable.lock().unwrap().push("page/".into());
    world.pass(60).await;
    world.start("b", "waiting", json!(1)).await.unwrap();
    world.pass(30).await;
    let again = world.start("a", "waiting", json!(1)).await;
    assert!(again.is_err(), "its page is there, and with it the key: {again:?}");
    outside.unremovable.lock().unwrap().clear();
    world.signal("b", "go", json!(1), "s-1").await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names("page/").len(), 1, "the old page is gone, the new one is there");
    world.start("a", "waiting", json!(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_used_again_is_not_swallowed_by_the_page_of_its_former_run() {
    let outside = Outside::new(&[PASSING, WAITING]);
    let world = World::take_over(&outside, 1, soon_forgotten()).await;
    world.start("a", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    let removed: Vec<_> = [outside.names("page/"), outside.names("index/")].concat();
    let removed = removed.into_iter().map(|name| (name.clone(), outside.values.lock().unwrap()[&name].clone()));
    let removed: Vec<_> = removed.collect();
    world.pass(60).await;
    world.start("b", "passing", json!(1)).await.unwrap();
    world.pass(30).await;
    world.start("a", "waiting", json!(1)).await.unwrap();
    // The removal of the page had not arrived everywhere when the shard changed hands.
    outside.values.lock().unwrap().extend(removed);
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
    assert_eq!(outside.names("page/").len(), 2);
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
    assert_eq!(outside.names("page/").len(), 1);
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

/// Frames that are missing may be brought back: nobody is told what would not be true then.
#[tokio::test(start_paused = true)]
async fn what_went_with_the_journal_is_not_taken_for_what_is_too_old() {
    let outside = Outside::new(&[PASSING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("large", "passing", json!("x".repeat(10_000))).await.unwrap();
    world.pass(30).await;
    let describe = || {
        let by = Principal::new("ada").unwrap();
        world.ask(|reply| Message::Describe(saga("large"), by, reply))
    };
    let lost = std::mem::take(&mut *outside.frames.lock().unwrap());
    assert_eq!(describe().await.unwrap_err().code, Code::Unavailable);
    *outside.frames.lock().unwrap() = lost;
    assert_eq!(describe().await.unwrap()["outcome"]["output"], json!("x".repeat(10_000)));
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
    assert_eq!(outside.names("page/").len(), 1, "its page is written, its parent knows nothing");
    outside.cut(begun);
    let _next = World::take_over(&outside, 2, Limits::default()).await;
    outside.peers_away.store(false, SeqCst);
    world.until("the end", || !outside.parcels.lock().unwrap().is_empty()).await;
    let (to, parcel) = outside.parcels.lock().unwrap()[0].clone();
    let Parcel::ChildEnded { step: 7, outcome, .. } = parcel else { panic!("{parcel:?}") };
    assert_eq!((to.to_string().as_str(), outcome.output.unwrap()), ("acme/parent", json!("y".repeat(10_000))));
}
