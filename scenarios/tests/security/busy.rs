//! A tenant with thousands of sagas that decide all the time, each decision too short to wait for a turn.

use std::time::Duration;

use futures::{StreamExt, stream};
use scenarios::stage::{saga_key, start};
use serde_json::json;

use super::House;
use super::beside::{Bystander, alone};

/// Each second of it computes for about a millisecond in an optimised build.
const BUSY: &str = r#"
name: busy
definition:
  StartAt: A
  States:
    A: { Type: Wait, Seconds: 1, Next: B }
    B:
      Type: Pass
      Assign: { n: "{% ($f:=function($n){$n<2?$n:$f($n-1)+$f($n-2)};$f($states.input)) %}" }
      Next: More
    More: { Type: Choice, Choices: [{ Condition: "{% $states.input > 0 %}", Next: A }], Default: Done }
    Done: { Type: Succeed }
"#;

/// More than two processors can carry.
const SAGAS: usize = if cfg!(debug_assertions) { 600 } else { 4_000 };
/// The depth that takes a millisecond.
const DEPTH: usize = if cfg!(debug_assertions) { 7 } else { 11 };
const WATCHED_FOR: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_sagas_that_decide_briefly_without_end_leave_the_other_tenant_its_share() {
    let _alone = alone().await;
    let house = House::build(1, &[BUSY]).await;
    let eve = house.client("evil.eve", "evil", "eve").await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    let begun = stream::iter(0..SAGAS).for_each_concurrent(64, |n| {
        let eve = eve.clone();
        async move { drop(eve.start(&start("busy", &format!("busy-{n}"), json!(DEPTH))).await.unwrap()) }
    });
    let attack = async {
        begun.await;
        tokio::time::sleep(WATCHED_FOR).await;
    };
    Bystander::of("sagas that decide all the time", &ann).await.notices(attack).await;
    let told = eve.history(&saga_key("busy-0")).await.unwrap().entries.len();
    assert!(told > 2, "it decides all the time, and has {told} records");
    println!("{told} records of one saga meanwhile");
}
