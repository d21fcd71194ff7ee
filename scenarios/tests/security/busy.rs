//! A tenant with hundreds of sagas that decide all the time, each decision too short to wait for a turn.

use std::time::Duration;

use scenarios::stage::{saga_key, start};
use serde_json::json;

use super::House;
use super::beside::{Bystander, alone};

/// Each turn computes for about a millisecond in an optimised build, and begins an event.
const BUSY: &str = r#"
name: busy
definition:
  StartAt: A
  States:
    A:
      Type: Task
      Resource: event:X
      Arguments: "{% ($f:=function($n){$n<2?$n:$f($n-1)+$f($n-2)};{ \"n\": $f($states.input) }) %}"
      Output: "{% $states.input %}"
      Next: A
"#;

const SAGAS: usize = if cfg!(debug_assertions) { 60 } else { 300 };
/// The depth that takes a millisecond.
const DEPTH: usize = if cfg!(debug_assertions) { 7 } else { 11 };
const WATCHED_FOR: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_sagas_that_decide_briefly_without_end_leave_the_other_tenant_its_share() {
    let _alone = alone().await;
    let house = House::build(1, &[BUSY]).await;
    let eve = house.client("evil.eve", "evil", "eve").await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    for n in 0..SAGAS {
        eve.start(&start("busy", &format!("busy-{n}"), json!(DEPTH))).await.unwrap();
    }
    Bystander::of("sagas that decide all the time", &ann).await.notices(tokio::time::sleep(WATCHED_FOR)).await;
    let told = eve.history(&saga_key("busy-0")).await.unwrap().entries.len();
    assert!(told > 2, "it decides all the time, and has {told} records");
    println!("{told} records of one saga meanwhile");
}
