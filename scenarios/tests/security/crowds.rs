//! A tenant with very many sagas, or very large ones: starts as fast as they are taken, timers that are
//! due at once, and states as large as they may be.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use node::client::{Client, Error};
use node::node::SystemClock;
use protocol::Value;
use protocol::command::{Deploy, List};
use protocol::view::Status;
use scenarios::cluster::until;
use scenarios::stage::start;
use serde_json::json;
use supervisor::ports::Clock as _;

use super::House;
use super::beside::{Bystander, alone};

const DUE: &str = r#"
name: due
definition:
  StartAt: W
  States:
    W: { Type: Wait, Timestamp: "{% $states.input.at %}", Next: Z }
    Z: { Type: Succeed }
"#;
/// Carries as much as a value may have from turn to turn, tells it, and tries to tell more.
const LARGE: &str = r#"
name: large
definition:
  StartAt: Init
  States:
    Init: { Type: Pass, Assign: { n: 0, text: "{% $pad('', 200000, 'x') %}" }, Next: Turn }
    Turn: { Type: Task, Resource: "event:Turned", Arguments: { text: "{% $text %}" }, Next: Grow }
    Grow:
      Type: Task
      Resource: "event:Grown"
      Arguments: { text: "{% $pad('', 200000, '\\u0001') %}" }
      Catch: [{ ErrorEquals: [States.ALL], Next: Count }]
      Next: Count
    Count: { Type: Pass, Assign: { n: "{% $n + 1 %}" }, Next: More }
    More: { Type: Choice, Choices: [{ Condition: "{% $n < $states.context.Execution.Input.turns %}", Next: Turn }], Default: Z }
    Z: { Type: Succeed }
"#;

/// Fewer where nothing is optimised: the starts alone would take minutes.
const CROWD: usize = if cfg!(debug_assertions) { 3_000 } else { 50_000 };
/// When the crowd's timers are due, after the first start: when all have been started.
const DUE_AFTER: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 45 });
/// Starts under way at once.
const AT_ONCE: usize = 200;
/// Sagas with large states, and how often each goes round.
const LARGE_SAGAS: usize = 16;
const TURNS: usize = if cfg!(debug_assertions) { 10 } else { 60 };
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Sources that are checked, and how many of them at once.
const CHECKS: usize = if cfg!(debug_assertions) { 64 } else { 512 };
const CHECKS_AT_ONCE: usize = 32;
/// Longest until a crowd has ended, on a machine that does other things as well.
const ENDED_WITHIN: Duration = Duration::from_secs(240);

/// Starts so many sagas of the same definition and input.
async fn crowd(client: &Client, definition: &str, count: usize, input: &Value) {
    let starts = (0..count).map(|number| start(definition, &format!("{definition}-{number}"), input.clone()));
    let starts = stream::iter(starts).for_each_concurrent(AT_ONCE, |start| async move {
        client.start(&start).await.unwrap();
    });
    starts.await;
}

/// Waits until none of `definition` lives.
async fn ended(client: &Client, definition: &str) {
    let list = |status| List { status: Some(status), definition: Some(definition.into()), limit: Some(1) };
    until(ENDED_WITHIN, "all have ended", || async {
        // Each look goes over all of them; looking all the time would be an attack of its own.
        tokio::time::sleep(LOOK_EVERY).await;
        client.list(&list(Status::Waiting)).await.unwrap().is_empty()
            && client.list(&list(Status::Running)).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_is_started_at_once_and_is_due_at_once_stands_in_nobodys_way() {
    let _alone = alone().await;
    let house = House::build(1, &[DUE]).await;
    let (ann, eve) = (house.client("acme.ann", "acme", "ann").await, house.client("evil.eve", "evil", "eve").await);
    let at = SystemClock.now().after(DUE_AFTER);
    let input = json!({ "at": at.to_string() });
    Bystander::of("a flood of starts", &ann).await.notices(crowd(&eve, "due", CROWD, &input)).await;
    let left = at.since(SystemClock.now());
    assert!(left > Duration::ZERO, "they were due before all were started: it was no crowd");
    tokio::time::sleep(left).await;
    Bystander::of("timers that are due at once", &ann).await.notices(ended(&eve, "due")).await;
}

/// What everything else is compared with.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_noticed_where_nobody_attacks() {
    let _alone = alone().await;
    let house = House::build(1, &[]).await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    Bystander::of("nobody attacks", &ann).await.notices(tokio::time::sleep(Duration::from_secs(4))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_as_large_as_they_may_be_stand_in_nobodys_way() {
    let _alone = alone().await;
    let house = House::build(1, &[LARGE]).await;
    let (ann, eve) = (house.client("acme.ann", "acme", "ann").await, house.client("evil.eve", "evil", "eve").await);
    crowd(&eve, "large", LARGE_SAGAS, &json!({ "turns": TURNS })).await;
    Bystander::of("sagas with large states", &ann).await.notices(ended(&eve, "large")).await;
}

/// As many states as there may be, each with something to compile.
fn long_source() -> String {
    let state = |n: usize| {
        let output = format!("$map([1..$count($states.input)], function($v) {{ $v + {n} }})");
        format!("    S{n}: {{ Type: Pass, Output: '{{% {output} %}}', Next: S{} }}\n", n + 1)
    };
    let states: String = (0..999).map(state).collect();
    format!("name: long\ndefinition:\n  StartAt: S0\n  States:\n{states}    S999: {{ Type: Succeed }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_take_long_to_read_stand_in_nobodys_way() {
    let _alone = alone().await;
    let house = House::build(1, &[]).await;
    let (ann, eve) = (house.client("acme.ann", "acme", "ann").await, house.client("evil.eve", "evil", "eve").await);
    let deploy = Deploy { source: long_source(), file: None };
    let flood = async {
        let checks = stream::iter(0..CHECKS).for_each_concurrent(CHECKS_AT_ONCE, |_| async {
            // Her own flood she may wait for, and longer than she likes.
            match eve.check(&deploy).await {
                Ok(_) | Err(Error::Timeout { .. }) => {}
                Err(refused) => panic!("{refused}"),
            }
        });
        checks.await;
    };
    Bystander::of("sources that take long to read", &ann).await.notices(flood).await;
}
