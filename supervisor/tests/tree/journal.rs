//! What reaches the journal, and when.

use std::sync::atomic::Ordering::SeqCst;

use crate::common::*;
use serde_json::json;
use supervisor::journal::Frame;
use supervisor::tree::engine::Limits;

const COLLECTING: &str = r#"
name: collecting
definition:
  StartAt: Each
  States:
    Each:
      Type: Map
      Items: "{% [1..40] %}"
      ItemProcessor:
        StartAt: Wait
        States: { Wait: { Type: Task, Resource: "signal:go", Output: 1, End: true } }
      End: true
"#;

#[tokio::test(start_paused = true)]
async fn much_that_comes_at_once_is_spread_over_frames() {
    let outside = Outside::new(&[COLLECTING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("a", "collecting", json!(1)).await.unwrap();
    outside.journal_held.store(true, SeqCst);
    let signals = (0..40).map(|n| (format!("s-{n}"), json!("x".repeat(30_000))));
    let told = futures::future::join_all(signals.map(|(id, payload)| {
        let world = &world;
        async move { world.signal("a", "go", payload, &id).await }
    }));
    let (told, ()) = tokio::join!(told, async {
        world.pass(1).await;
        outside.journal_held.store(false, SeqCst);
    });
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    assert_eq!(world.show("a").await.status.word(), "succeeded");
    let frames = outside.frames.lock().unwrap();
    assert!(frames.values().all(|frame| frame.len() < 960 * 1024));
    assert_eq!(frames.values().map(|frame| Frame::read(frame).unwrap().records.len()).sum::<usize>(), 41);
}

const FORGETTING: &str = r#"
name: forgetting
definition:
  StartAt: Echo
  States:
    Echo: { Type: Task, Resource: "activity:echo", Compensate: none, Next: Again }
    Again: { Type: Task, Resource: "activity:echo", Compensate: none, Next: Which }
    Which: { Type: Choice, Choices: [{ Condition: "{% $states.input = 0 %}", Next: Done }], Default: Echo }
    Done: { Type: Succeed }
"#;

#[tokio::test(start_paused = true)]
async fn a_barrier_waits_for_what_was_there_and_no_longer() {
    let world = World::take_over(&Outside::new(&[FORGETTING]), 1, Limits::default()).await;
    // Sagas that never rest: there is always a batch on its way or waiting.
    for key in ["a", "b", "c"] {
        world.start(key, "forgetting", json!(1)).await.unwrap();
    }
    world.shard.tell(supervisor::tree::shard::Message::Drain);
    let mut ended = false;
    for _ in 0..60 {
        world.pass(1).await;
        ended |= world.shard.cell().get_status() >= ractor::ActorStatus::Stopping;
    }
    assert!(ended, "a busy shard is handed over all the same");
}
