//! What a shard sends, and what does not wait for what.

mod tree_common;

use std::sync::atomic::Ordering::SeqCst;

use protocol::Code;
use serde_json::json;
use supervisor::tree::engine::Limits;
use tree_common::*;

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
