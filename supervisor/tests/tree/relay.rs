//! What a shard sends, and what does not wait for what.

use std::sync::atomic::Ordering::SeqCst;

use std::time::Duration;

use crate::common::*;
use protocol::Code;
use serde_json::json;
use supervisor::tree::engine::Limits;

const TELLING: &str = r#"
name: telling
definition:
  StartAt: Tell
  States:
    Tell: { Type: Task, Resource: "event:Told", Arguments: { n: 1 }, End: true }
"#;
const CALLING: &str = r#"
name: calling
definition:
  StartAt: Tell
  States:
    Tell: { Type: Task, Resource: "event:Before", Arguments: { n: 1 }, Next: Call }
    Call: { Type: Task, Resource: "saga:other", Compensate: none, Next: Then }
    Then: { Type: Task, Resource: "event:After", Arguments: { n: 2 }, End: true }
"#;

#[tokio::test(start_paused = true)]
async fn events_do_not_wait_for_parcels_that_cannot_be_delivered() {
    let outside = Outside::new(&[TELLING, CALLING]);
    outside.peers_away.store(true, SeqCst);
    let limits = Limits { parcels_in_flight: 4, unsent_max: 10, ..Limits::default() };
    let world = World::take_over(&outside, 1, limits).await;
    for n in 0..10 {
        world.start(&format!("c{n}"), "calling", json!(1)).await.unwrap();
        world.pass(1).await;
    }
    assert_eq!(outside.events.lock().unwrap().len(), 10, "each told before it called");
    let busy = world.start("t", "telling", json!(1)).await.unwrap_err();
    assert_eq!(busy.code, Code::Busy);
    world.start_child("t", "telling", json!(1), Some(("parent".parse().unwrap(), 1))).await.unwrap();
    world.until("its event", || outside.events.lock().unwrap().iter().any(|event| event.event_type == "Told")).await;
    assert_eq!(world.show("c1").await.status.word(), "waiting", "who only looks is answered");
    outside.peers_away.store(false, SeqCst);
    world.until("the parcels", || outside.parcels.lock().unwrap().len() == 11).await;
    world.start("u", "telling", json!(1)).await.unwrap();
}

fn numbers(outside: &Outside) -> Vec<u64> {
    outside.places.lock().unwrap().iter().map(|(place, _)| place.number).collect()
}

/// A node publishes, dies before it notes that down, and its successor comes when the stream has long
/// forgotten the ids.
#[tokio::test(start_paused = true)]
async fn after_an_outage_longer_than_the_window_no_event_comes_twice() {
    let outside = Outside::new(&[TELLING, CALLING]);
    *outside.window.lock().unwrap() = Duration::from_millis(10);
    // Nothing is ever written down of how far the relay is.
    let limits = Limits { sweep_every: Duration::from_secs(3_600), ..Limits::default() };
    let world = World::take_over(&outside, 1, limits.clone()).await;
    for n in 0..20 {
        world.start(&format!("t{n}"), "telling", json!(1)).await.unwrap();
    }
    world.until("their events", || outside.events.lock().unwrap().len() == 20).await;
    world.shard.kill();
    world.pass(600).await;
    let world = World::take_over(&outside, 2, limits).await;
    world.start("late", "telling", json!(1)).await.unwrap();
    world.until("the event of the next owner", || outside.events.lock().unwrap().len() > 20).await;
    world.pass(60).await;
    assert_eq!(numbers(&outside), (1..=21).collect::<Vec<_>>(), "each once, and the count goes on");
}

/// Its mark is gone with all snapshots, and the journal is read from its beginning.
#[tokio::test(start_paused = true)]
async fn the_count_of_events_goes_on_where_the_snapshots_are_lost() {
    let outside = Outside::new(&[TELLING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    for n in 0..3 {
        world.start(&format!("t{n}"), "telling", json!(1)).await.unwrap();
    }
    world.pass(60).await;
    world.shard.kill();
    world.pass(1).await;
    outside.values.lock().unwrap().clear();
    let world = World::take_over(&outside, 2, Limits::default()).await;
    world.start("late", "telling", json!(1)).await.unwrap();
    world.until("the event of the next owner", || outside.events.lock().unwrap().len() > 3).await;
    assert_eq!(numbers(&outside), [1, 2, 3, 4]);
}

/// The stream keeps an event and nobody hears of it for longer than it remembers.
#[tokio::test(start_paused = true)]
async fn an_event_whose_acknowledgement_is_late_is_looked_for_before_it_is_sent_again() {
    let outside = Outside::new(&[TELLING]);
    *outside.window.lock().unwrap() = Duration::from_secs(1);
    outside.events_deaf.store(true, SeqCst);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("t", "telling", json!(1)).await.unwrap();
    world.pass(3).await;
    // What was sent within the window is one message; from then on nothing is sent unseen.
    assert_eq!(outside.events.lock().unwrap().len(), 1);
    world.pass(60).await;
    outside.events_deaf.store(false, SeqCst);
    world.start("u", "telling", json!(1)).await.unwrap();
    world.until("the other event", || outside.events.lock().unwrap().len() > 1).await;
    world.pass(60).await;
    assert_eq!(numbers(&outside), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_for_good_is_buried_and_the_others_go_on() {
    let outside = Outside::new(&[TELLING, CALLING]);
    outside.refused_events.lock().unwrap().push("Before".into());
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("c", "calling", json!(1)).await.unwrap();
    for n in 0..3 {
        world.start(&format!("t{n}"), "telling", json!(1)).await.unwrap();
    }
    world.until("the others", || outside.events.lock().unwrap().len() == 3).await;
    assert!(outside.buried.lock().unwrap().is_empty(), "it is tried again first");
    world.until("the letter", || !outside.buried.lock().unwrap().is_empty()).await;
    let (event, place, why) = outside.buried.lock().unwrap()[0].clone();
    assert_eq!((event.event_type.as_str(), place.number), ("Before", 1));
    assert!(why.contains("the stream is sealed") && why.contains("recorded in its journal at"), "{why}");
    world.until("the child that comes after it", || outside.parcels.lock().unwrap().len() == 1).await;
    assert_eq!(world.engine.pulses.all(world.engine.now())[0].buried, 1);
    world.pass(30).await;
    assert_eq!((numbers(&outside), outside.buried.lock().unwrap().len()), (vec![2, 3, 4], 1));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_stands_still_is_seen_without_asking_it() {
    let outside = Outside::new(&[TELLING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    let still = || {
        let pulses = world.engine.pulses.all(world.engine.now());
        pulses.iter().flat_map(|pulse| pulse.troubles(world.engine.limits.still_after)).collect::<Vec<_>>()
    };
    outside.events_deaf.store(true, SeqCst);
    world.start("t", "telling", json!(1)).await.unwrap();
    world.pass(10).await;
    assert_eq!(still(), Vec::<String>::new());
    world.pass(30).await;
    assert!(still()[0].starts_with("the relay of shard 0 stands still: 1 events"), "{:?}", still());
    outside.events_deaf.store(false, SeqCst);
    world.pass(10).await;
    assert_eq!(still(), Vec::<String>::new());
}
