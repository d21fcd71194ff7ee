//! A saga that starts two of itself is stopped by its cancel, and the other tenant does not feel it.

use std::time::{Duration, Instant};

use protocol::command::{Cancel, List};
use protocol::view::Status;
use scenarios::cluster::until;
use scenarios::stage::{saga_key, start};
use serde_json::json;

use super::House;
use super::beside::{Bystander, alone};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_grows_without_end_ends_with_its_root() {
    let _alone = alone().await;
    let house = House::build(2, &[FORK]).await;
    let (ann, eve) = (house.client("acme.ann", "acme", "ann").await, house.client("evil.eve", "evil", "eve").await);
    let grows = async {
        eve.start(&start("fork", "root", json!({}))).await.unwrap();
        tokio::time::sleep(ATTACK).await;
    };
    Bystander::of("a family that grows", &ann).await.notices(grows).await;
    let cancelled = Instant::now();
    if let Err(refused) = eve.cancel(&Cancel { key: saga_key("root"), reason: String::new() }).await {
        // It may have grown into a limit and failed by itself.
        let root = eve.describe(&saga_key("root")).await.unwrap();
        assert!(root.status.is_final(), "{refused}");
    }
    let living = async || {
        let mut count = 0;
        for status in Status::ALL.into_iter().filter(|status| !status.is_final()) {
            let which = List { status: Some(status), limit: Some(10_000), ..List::default() };
            count += eve.list(&which).await.unwrap().len();
        }
        count
    };
    until(END_WITHIN, "nothing of it lives", || async { living().await == 0 }).await;
    let ended = cancelled.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(living().await, 0, "something was born after the end");
    println!("all ended {ended:?} after the cancel");
}
