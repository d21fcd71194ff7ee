//! A tenant whose sagas only compute slows down and parks itself, and nobody else.

use std::time::{Duration, Instant};

use node::client::Client;
use protocol::command::{Cancel, List};
use protocol::view::Status;
use scenarios::cluster::until;
use scenarios::stage::{saga_key, start};
use serde_json::json;

use super::House;
use super::beside::{Bystander, alone};

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

/// Hogs that are started; one of them is cancelled.
const HOGS: usize = 8;
/// Turns of a loop beside them.
const TURNS: usize = if cfg!(debug_assertions) { 3_000 } else { 30_000 };
/// A saga that waits for a turn is cancelled at once; builds without optimisation share the machine.
const CANCELLED_WITHIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5_000 } else { 500 });
/// The node is restarted in the middle of it.
const RESTARTED_AFTER: Duration = Duration::from_secs(12);
/// Longest for all of them to be parked: five seconds of expressions each, one at a time, on a machine
/// that does other things as well.
const PARKED_WITHIN: Duration = Duration::from_secs(180);

async fn statuses(client: &Client) -> Vec<Status> {
    let list = List { definition: Some("hog".into()), ..List::default() };
    client.list(&list).await.unwrap().into_iter().map(|row| row.status).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_sagas_that_only_compute_are_parked_and_the_other_tenant_does_not_feel_them() {
    let _alone = alone().await;
    let mut house = House::build(1, &[HOG, LOOP]).await;
    let eve = house.client("evil.eve", "evil", "eve").await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    for n in 0..HOGS {
        eve.start(&start("hog", &format!("hog-{n}"), json!(1))).await.unwrap();
    }
    // A loop of many turns beside them ends.
    ann.start(&start("loop", "round", json!({ "max": TURNS }))).await.unwrap();

    let health = format!("http://{}/healthz", house.nodes[0].debug().expect("it listens"));
    // One client for all: each reads the machine's certificates.
    let http = reqwest::Client::new();
    let bystander = Bystander::of("sagas that only compute", &ann).await.and("healthz", move |_| {
        let asked = http.get(&health).send();
        async move { assert_eq!(asked.await.unwrap().status(), 200) }
    });
    let began = Instant::now();
    let computing = until(PARKED_WITHIN, "hog-7 waits for a turn", || async {
        eve.describe(&saga_key("hog-7")).await.unwrap().waiting.iter().any(|it| it.kind == "turn")
    });
    let attack = async {
        computing.await;
        let asked = Instant::now();
        eve.cancel(&Cancel { key: saga_key("hog-7"), reason: "it computes".into() }).await.unwrap();
        println!("cancelled in {:?}", asked.elapsed());
        assert!(asked.elapsed() < CANCELLED_WITHIN, "whatever sagas do, a person's word is heard");
        tokio::time::sleep(RESTARTED_AFTER.saturating_sub(began.elapsed())).await;
    };
    bystander.notices(attack).await;

    house.nodes.pop().unwrap().drain().await.unwrap();
    let node = house.node(0, &[HOG, LOOP]).await.unwrap();
    house.nodes.push(node);
    let parked = until(PARKED_WITHIN, "all but the cancelled one are parked", || async {
        statuses(&eve).await.iter().filter(|status| **status == Status::Stuck).count() == HOGS - 1
    });
    Bystander::of("the same after a restart", &ann).await.notices(parked).await;
    let hog = eve.describe(&saga_key("hog-0")).await.unwrap();
    assert!(hog.waiting[0].what.contains("ran into the limit of 1000 ms 5 times"), "{:?}", hog.waiting);
    assert_eq!(eve.describe(&saga_key("hog-7")).await.unwrap().status, Status::Cancelled);
    let round = ann.wait(&saga_key("round"), PARKED_WITHIN).await.unwrap();
    assert_eq!(round.status, Status::Succeeded, "{round:#?}");
}
