//! A saga that starts two of itself is stopped by its cancel, and the other tenant does not feel it.

use std::time::{Duration, Instant};

use protocol::command::{Cancel, List};
use protocol::view::Status;
use scenarios::cluster::until;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;

use super::House;

const FORK: &str = r#"
name: fork
definition:
  StartAt: A
  States:
    A:
      Type: Parallel
      End: true
      Branches:
        - { StartAt: B1, States: { B1: { Type: Task, Resource: "saga:fork", Arguments: {}, End: true } } }
        - { StartAt: B2, States: { B2: { Type: Task, Resource: "saga:fork", Arguments: {}, End: true } } }
"#;
/// How long the attack goes on.
const ATTACK: Duration = Duration::from_secs(5);
/// How long it may take until nothing of it lives: far longer than it takes on a machine with nothing
/// else to do. The cancel follows growth from parent to child, at the latest to `limits.child_depth`.
const END_WITHIN: Duration = Duration::from_secs(150);
/// What the other tenant's commands may take meanwhile: a node that is stopped takes many times as long,
/// and a machine that does other things besides does not.
const P99_MAX: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_grows_without_end_ends_with_its_root() {
    let house = House::build(2, &[FORK]).await;
    let (ann, eve) = (house.client("acme.ann", "acme", "ann").await, house.client("evil.eve", "evil", "eve").await);
    ann.start(&start("telling", "before", json!({ "title": 1 }))).await.unwrap();
    ann.wait(&saga_key("before"), PATIENCE).await.unwrap();

    eve.start(&start("fork", "root", json!({}))).await.unwrap();
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < ATTACK {
        let asked = Instant::now();
        ann.start(&start("telling", &format!("told-{}", took.len()), json!({ "title": 1 }))).await.unwrap();
        took.push(asked.elapsed());
    }
    // It may have grown into a limit and failed by itself.
    let _ = eve.cancel(&Cancel { key: saga_key("root"), reason: String::new() }).await;
    let living = async || {
        let mut count = 0;
        for status in Status::ALL.into_iter().filter(|status| !status.is_final()) {
            let which = List { status: Some(status), limit: Some(10_000), ..List::default() };
            count += eve.list(&which).await.unwrap().len();
        }
        count
    };
    assert!(living().await > 0, "it grew");
    until(END_WITHIN, "nothing of it lives", || async { living().await == 0 }).await;
    let ended = begun.elapsed() - ATTACK;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(living().await, 0, "something was born after the end");

    took.sort_unstable();
    let (count, p99) = (took.len(), took[took.len() * 99 / 100]);
    println!("all ended {ended:?} after the cancel; {count} starts of the other, p99 {p99:?}");
    assert!(p99 < P99_MAX, "the other tenant waited {p99:?}");
}
