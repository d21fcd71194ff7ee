//! No saga keeps a shard from starting: one that cannot be rebuilt is parked with the reason, the others
//! go on, and it is taken up again once what it lacked is there.

mod tree_common;

use protocol::command::ReleaseDecision;
use protocol::view::Status;
use serde_json::json;
use supervisor::machine::{FactKind, Operator};
use supervisor::tree::engine::Limits;
use supervisor::tree::shard::Right;
use tree_common::*;

const ONE: &str =
    "name: one\ndefinition:\n  StartAt: W\n  States:\n    W: { Type: Task, Resource: 'signal:go', End: true }\n";
const TWO: &str =
    "name: two\ndefinition:\n  StartAt: W\n  States:\n    W: { Type: Task, Resource: 'signal:go', End: true }\n";

fn retry() -> FactKind {
    FactKind::Operator(Operator { decision: ReleaseDecision::Retry, by: "ops".into(), reason: "it is back".into() })
}

async fn ends(world: &World, key: &str) {
    world.signal(key, "go", json!(7), "s-1").await.unwrap();
    for _ in 0..1_000 {
        if world.show(key).await.status == Status::Succeeded {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{key} does not end");
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_definition_is_lost_is_parked_and_goes_on_when_it_is_back() {
    let outside = Outside::new(&[ONE, TWO]);
    let first = World::take_over(&outside, 1, Limits::default()).await;
    first.start("a", "one", json!(1)).await.unwrap();
    first.start("b", "two", json!(1)).await.unwrap();
    outside.lost.lock().unwrap().push("one".into());
    let second = World::take_over(&outside, 2, Limits::default()).await;
    let shown = second.show("a").await;
    assert_eq!((shown.status, shown.state.as_str()), (Status::Stuck, "W"));
    assert!(shown.waiting[0].what.contains("its definition one v1"), "{:?}", shown.waiting);
    let refused = second.signal("a", "go", json!(1), "s-0").await.unwrap_err();
    assert!(refused.message.contains("is stuck"), "{refused}");
    let refused = second.fact("a", retry(), Right::Cancel).await.unwrap_err();
    assert!(refused.message.contains("is not stored"), "{refused}");
    ends(&second, "b").await;
    outside.lost.lock().unwrap().clear();
    second.fact("a", retry(), Right::Cancel).await.unwrap();
    ends(&second, "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_snapshot_cannot_be_read_is_parked_and_the_others_go_on() {
    let outside = Outside::new(&[ONE, TWO]);
    let first = World::take_over(&outside, 1, Limits::default()).await;
    first.start("a", "one", json!(1)).await.unwrap();
    first.start("b", "two", json!(1)).await.unwrap();
    first.until("the snapshots are written", || outside.names("saga/").len() == 2).await;
    outside.values.lock().unwrap().get_mut("saga/acme/a").unwrap().1 = "nonsense".into();
    let second = World::take_over(&outside, 2, Limits::default()).await;
    let shown = second.show("a").await;
    assert_eq!(shown.status, Status::Stuck);
    assert!(shown.waiting[0].what.contains("its snapshot cannot be read"), "{:?}", shown.waiting);
    ends(&second, "b").await;
}
