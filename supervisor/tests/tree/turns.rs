//! Decisions that take long stand in nobody's way: not in that of other sagas, of other tenants, of
//! questions, nor of a person who cancels.

use std::time::{Duration, Instant};

use crate::common::*;
use protocol::view::Status;
use serde_json::json;
use supervisor::machine::FactKind;
use supervisor::tree::engine::Limits;
use supervisor::tree::shard::Right;

const HOG: &str = r#"
name: hog
definition:
  StartAt: W
  States:
    W: { Type: Wait, Seconds: 2, Next: A }
    A:
      Type: Task
      Resource: event:X
      Arguments: "{% ($f:=function($n){$n<2?$n:$f($n-1)+$f($n-2)};$f(40)) %}"
      Catch: [{ ErrorEquals: [States.ALL], Next: A }]
      Next: Z
    Z: { Type: Succeed }
"#;

const LOOP: &str = r#"
name: loop
definition:
  StartAt: Init
  States:
    Init: { Type: Pass, Assign: { n: 0, max: "{% $states.input.max %}" }, Next: Turn }
    Turn: { Type: Task, Resource: "event:Turned", Next: Count }
    Count: { Type: Pass, Assign: { n: "{% $n + 1 %}" }, Next: More }
    More: { Type: Choice, Choices: [{ Condition: "{% $n < $max %}", Next: Turn }], Default: Done }
    Done: { Type: Succeed }
"#;

const ECHO: &str = r#"
name: echo
definition:
  StartAt: E
  States:
    E: { Type: Task, Resource: "activity:echo", Arguments: { said: "{% $states.input %}" }, Compensate: none, End: true }
"#;

fn cancel() -> FactKind {
    FactKind::CancelRequested { by: "ada".into(), reason: "enough".into(), parent: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sagas_that_only_compute_are_parked_and_the_others_never_wait_for_them() {
    let outside = Outside::new(&[HOG, ECHO]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    for n in 0..4 {
        world.start(&format!("hog-{n}"), "hog", json!(1)).await.unwrap();
    }
    let mut slowest = Duration::ZERO;
    let mut cancelled = false;
    for n in 0.. {
        let began = Instant::now();
        world.start(&format!("echo-{n}"), "echo", json!("hello")).await.unwrap();
        while world.show(&format!("echo-{n}")).await.status != Status::Succeeded {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        slowest = slowest.max(began.elapsed());
        let mut hogs = Vec::new();
        for n in 0..4 {
            hogs.push(world.show(&format!("hog-{n}")).await);
        }
        if !cancelled && hogs[3].waiting.iter().any(|waiting| waiting.kind == "turn") {
            let began = Instant::now();
            world.fact("hog-3", cancel(), Right::Cancel).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(3), "after one decision at most: {:?}", began.elapsed());
            cancelled = true;
        }
        if hogs[..3].iter().all(|hog| hog.status == Status::Stuck) {
            assert_eq!(hogs[3].status, Status::Cancelled);
            assert!(hogs[0].waiting[0].what.contains("ran into the limit of 1000 ms 5 times"), "{:?}", hogs[0].waiting);
            break;
        }
        assert!(n < 100_000);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("slowest start to end beside four hogs: {slowest:?}");
    assert!(slowest < Duration::from_millis(900), "one thread carries all messages, and none of the hogs: {slowest:?}");
    // A successor finds them as they are.
    let next = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(next.show("hog-0").await.status, Status::Stuck);
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_many_records_goes_on_after_a_takeover_and_says_every_event_under_its_own_id() {
    let outside = Outside::new(&[LOOP]);
    let limits = || Limits { decision_threads: None, ..Limits::default() };
    let first = World::take_over(&outside, 1, limits()).await;
    first.start("round", "loop", json!({ "max": 3_000 })).await.unwrap();
    first.until("the loop is under way", || outside.frames.lock().unwrap().len() > 4).await;
    let second = World::take_over(&outside, 2, limits()).await;
    second
        .until("the loop has ended", || {
            let ids: std::collections::BTreeSet<_> =
                outside.events.lock().unwrap().iter().map(|event| event.event_id.clone()).collect();
            ids.len() == 3_000
        })
        .await;
    second.pass(5).await;
    assert_eq!(second.show("round").await.status, Status::Succeeded);
    // Whoever reads them sees by their numbers that none is missing, and which came twice.
    let events = outside.events.lock().unwrap();
    let numbers: std::collections::BTreeMap<u64, _> =
        events.iter().map(|event| (event.sequence, &event.event_id)).collect();
    assert_eq!((numbers.len(), numbers.first_key_value().unwrap().0), (3_000, &1));
    assert_eq!(numbers.last_key_value().unwrap().0, &3_000);
    assert!(events.iter().all(|event| numbers[&event.sequence] == &event.event_id), "one number, one event");
}
