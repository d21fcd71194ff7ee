//! What a shard does with its sagas' lives.

use std::sync::atomic::Ordering::SeqCst;

use crate::common::*;
use bytes::Bytes;
use protocol::view::{Outcome, Status};
use protocol::{Code, Time};
use ractor::ActorId;
use serde_json::json;
use supervisor::machine::FactKind;
use supervisor::tree::engine::Limits;
use supervisor::tree::saga::Seen;
use supervisor::tree::shard::{Message, Right};

const TWO_SIGNALS: &str = r#"
name: two-signals
definition:
  StartAt: First
  States:
    First: { Type: Task, Resource: "signal:go", Next: Far }
    Far: { Type: Task, Resource: "activity:somewhere.else", Compensate: none, Next: Second }
    Second: { Type: Task, Resource: "signal:go", End: true }
"#;

#[tokio::test(start_paused = true)]
async fn what_a_former_incarnation_said_puts_nobody_to_sleep() {
    let world = World::take_over(&Outside::new(&[TWO_SIGNALS]), 1, Limits::default()).await;
    world.start("a", "two-signals", json!(1)).await.unwrap();
    world.pass(1).await;
    // It sleeps; the signal wakes the next incarnation, which waits for an activity and is awake.
    world.signal("a", "go", json!(2), "s-1").await.unwrap();
    let seen = Seen { status: Status::Waiting, state: "First".into(), changed_at: Time::default(), records: 1 };
    let (saga, actor, bytes) = (std::sync::Arc::new(saga("a")), ActorId::Local(u64::MAX), Bytes::from_static(b"old"));
    world.shard.tell(Message::Sleep { saga: saga.clone(), actor, taken: 1, bytes: bytes.clone(), seen });
    world.shard.tell(Message::Snapshot { saga, actor, bytes, records: 1 });
    let view = world.show("a").await;
    assert_eq!((view.state.as_str(), view.records, view.awake), ("Far", 2, true));
}

const CHILD_LATER: &str = r#"
name: child-later
definition:
  StartAt: First
  States:
    First: { Type: Task, Resource: "signal:go", Next: Child }
    Child: { Type: Task, Resource: "saga:two-signals", Compensate: none, End: true }
"#;

/// Seed 9318: the end of a child that the new owner had started was thrown away by the former one,
/// which had not noticed yet; the parent waited for ever.
#[tokio::test(start_paused = true)]
async fn a_former_owner_says_of_nothing_that_nobody_waits_for_it() {
    let outside = Outside::new(&[CHILD_LATER, TWO_SIGNALS]);
    let former = World::take_over(&outside, 1, Limits::default()).await;
    former.start("a", "child-later", json!(1)).await.unwrap();
    let ended = || FactKind::ChildEnded {
        step: 2,
        child: None,
        outcome: Box::new(Outcome {
            status: Status::Succeeded,
            state: "End".into(),
            output: Some(json!("done")),
            error: None,
            cause: None,
        }),
    };
    let owner_knows = former.fact("a", ended(), Right::Internal).await.unwrap();
    assert_eq!(owner_knows["ignored"], "nothing waits for this child any more");

    let owner = World::take_over(&outside, 2, Limits::default()).await;
    owner.signal("a", "go", json!(1), "s-1").await.unwrap();
    let refused = former.fact("a", ended(), Right::Internal).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    owner.fact("a", ended(), Right::Internal).await.unwrap();
    assert_eq!(owner.show("a").await.status, Status::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_refused_snapshot_is_shown() {
    let outside = Outside::new(&[TWO_SIGNALS]);
    outside.refused.lock().unwrap().push("saga/acme/large".into());
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("large", "two-signals", json!(1)).await.unwrap();
    world.pass(30).await;
    let shown = world.shard.card().view().last_failure.unwrap();
    assert!(shown.starts_with("the snapshot of acme/large (") && shown.ends_with("is refused: too large"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_shard_answers_while_a_saga_is_parked() {
    let outside = Outside::new(&[TWO_SIGNALS]);
    let mut limits = Limits::default();
    limits.writer.batch_max_bytes = 4_096;
    let world = World::take_over(&outside, 1, limits).await;
    world.start("a", "two-signals", json!(1)).await.unwrap();
    // Each is a decision that no frame of this bus can carry, which its actor does not survive.
    for n in 0..6 {
        outside.journal_held.store(n == 5, SeqCst);
        assert!(world.signal("a", "go", json!("x".repeat(8_000)), &format!("s-{n}")).await.is_err());
        world.pass(3).await;
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    world.shard.tell(Message::View(tell));
    let shown = tokio::time::timeout(std::time::Duration::from_secs(60), told).await;
    assert!(shown.is_ok(), "the journal is held, and the shard waits for it");
    outside.journal_held.store(false, SeqCst);
    world.pass(3).await;
    assert_eq!(world.show("a").await.status, Status::Stuck);
}

const SIDE_BY_SIDE: &str = r#"
name: side-by-side
definition:
  StartAt: Both
  States:
    Both:
      Type: Parallel
      Branches:
        - { StartAt: Pause, States: { Pause: { Type: Wait, Seconds: 2, End: true } } }
        - { StartAt: Wait, States: { Wait: { Type: Task, Resource: "signal:go", Next: More }, More: { Type: Task, Resource: "signal:more", End: true } } }
      End: true
"#;

#[tokio::test(start_paused = true)]
async fn a_timer_is_heard_however_many_wait_outside() {
    let outside = Outside::new(&[SIDE_BY_SIDE]);
    let limits = Limits { facts_per_saga: 2, ..Limits::default() };
    let world = World::take_over(&outside, 1, limits).await;
    world.start("a", "side-by-side", json!(1)).await.unwrap();
    outside.journal_held.store(true, SeqCst);
    let signals = futures::future::join_all((0..4).map(|n| {
        let world = &world;
        async move { world.signal("a", "go", json!(n), &format!("s-{n}")).await }
    }));
    let (told, ()) = tokio::join!(signals, async {
        world.pass(5).await;
        outside.journal_held.store(false, SeqCst);
    });
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 3, "one on its way, two wait, one is too many");
    let waits: Vec<_> = world.show("a").await.waiting.into_iter().map(|waiting| waiting.kind).collect();
    assert_eq!(waits, ["signal"], "the pause is over");
}

const LONG_WAIT: &str = r#"
name: long-wait
definition:
  StartAt: Pause
  States: { Pause: { Type: Wait, Seconds: 86400, End: true } }
"#;

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_is_noticed_within_a_minute() {
    let outside = Outside::new(&[LONG_WAIT]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("a", "long-wait", json!(1)).await.unwrap();
    world.pass(10).await;
    *outside.ahead.lock().unwrap() = std::time::Duration::from_secs(86_400);
    world.pass(61).await;
    assert_eq!(world.show("a").await.status, Status::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_saga_that_never_was_is_told() {
    let mut limits = Limits::default();
    limits.writer.batch_max_bytes = 4_096;
    let world = World::take_over(&Outside::new(&[LONG_WAIT]), 1, limits).await;
    let (start, definition) = world.starting("long-wait", json!("x".repeat(8_000)), None);
    let (outcome, ended) = supervisor::tree::reply::Reply::channel();
    let outcome = Some(outcome);
    let answer = world.ask(|accepted| Message::Start { saga: saga("a"), start, definition, accepted, outcome }).await;
    assert!(answer.is_err(), "no frame of this bus can carry it");
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await;
    assert!(told.expect("within a minute").unwrap().is_err());
}
