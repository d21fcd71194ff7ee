//! What is as long or as large as it may be, and larger: on a real server with the limits that it has
//! unless told otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream::Config};
use async_trait::async_trait;
use futures::StreamExt;
use node::client::Client;
use protocol::envelope::header::{NUMBER, POSITION};
use protocol::view::SagaView;
use protocol::{Code, SagaKey};
use scenarios::cluster::{TestCluster, until};
use scenarios::stage::start;
use serde_json::{Value, json};
use supervisor::activity::{Activity, Attempt, Failure};
use supervisor::ports::Place;

/// 200,000 bytes that are 1,200,000 bytes of JSON.
const GROW: &str = r#"
name: grow
definition:
  StartAt: Grow
  States:
    Grow: { Type: Pass, Output: { text: "{% $pad('', 200000, '\\u0001') %}" }, Next: Tell }
    Tell: { Type: Task, Resource: "event:Grown", Arguments: "{% $states.input %}", Next: Small }
    Small: { Type: Pass, Output: {}, Next: After }
    After: { Type: Task, Resource: "event:AfterGrown", End: true }
"#;
const WRAP: &str = r#"
name: wrap
definition:
  StartAt: Child
  States:
    Child: { Type: Task, Resource: "saga:grow", Compensate: none, End: true }
"#;
const TELL: &str = r#"
name: tell
definition:
  StartAt: Tell
  States:
    Tell: { Type: Task, Resource: "event:Told", Arguments: "{% $states.input %}", End: true }
"#;
/// Its history has what went wrong sixty times, each written six times as long as it is.
const LOUD: &str = r#"
name: loud
definition:
  StartAt: Shout
  States:
    Shout:
      Type: Task
      Resource: "activity:shout"
      Compensate: none
      Retry: [{ ErrorEquals: [Transient], IntervalSeconds: 0.05, BackoffRate: 1, MaxAttempts: 60 }]
      End: true
"#;

/// Fails with a long word.
struct Shout;

#[async_trait]
impl Activity for Shout {
    fn name(&self) -> &str {
        "shout"
    }

    async fn run(&self, _: &Attempt, _: Value) -> Result<Value, Failure> {
        Err(Failure::transient("shouting", "\u{1}".repeat(4_000)))
    }
}

fn shout(_: &Path) -> Vec<Arc<dyn Activity>> {
    vec![Arc::new(Shout)]
}

fn key(text: &str) -> SagaKey {
    SagaKey::new(text).unwrap()
}

async fn run(client: &Client, definition: &str, name: &str, input: Value) -> SagaView {
    client.start(&start(definition, name, input)).await.unwrap();
    let view = client.wait(&key(name), Duration::from_secs(30)).await.unwrap();
    assert!(view.status.is_final(), "{name} has not ended: {view:#?}");
    view
}

/// Every event of the stream, with its type and its place.
async fn told(client: &Client) -> Vec<(String, Place)> {
    let stream = jetstream::new(client.nats().clone()).get_stream("SKALD_EVENTS").await.unwrap();
    let mut all = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let header = |name: &str| message.headers.get(name).unwrap().as_str().to_owned();
        let place = Place::read(&header(POSITION), &header(NUMBER)).unwrap();
        all.push((message.subject.rsplit('.').next().unwrap().to_owned(), place));
    }
    all
}

async fn heard(client: &Client, event: &str) -> usize {
    told(client).await.iter().filter(|(kind, _)| kind == event).count()
}

/// Numbered from 1 without a gap in each shard.
fn assert_numbered(told: &[(String, Place)]) {
    let mut shards: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for (event, place) in told {
        assert!(shards.entry(place.shard).or_default().insert(place.number), "{event} {place:?} came twice");
    }
    for (shard, numbers) in shards {
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "shard {shard}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_message_does_not_carry_is_refused_when_it_is_decided_and_nothing_else_waits() {
    let serve = |server: &mut node::server::ServerConfig| server.max_payload = 1 << 20;
    let cluster = TestCluster::start_with(1, shout, &[GROW, WRAP, TELL, LOUD], |_| {}, serve).await.unwrap();
    let client = cluster.client().await.unwrap();
    for name in ["grow", "wrap"] {
        let outcome = run(&client, name, name, json!({})).await.outcome.unwrap();
        assert_eq!(outcome.error.as_deref(), Some("States.DataLimitExceeded"), "{outcome:?}");
    }
    let begun = Instant::now();
    let waited = protocol::command::Start { wait_ms: Some(20_000), ..start("grow", "grow-2", json!({})) };
    client.start(&waited).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "a start that waits is answered");
    for n in 0..8 {
        run(&client, "tell", &format!("tell-{n}"), json!({ "n": n })).await;
    }
    until(Duration::from_secs(20), "the events of the others", || async { heard(&client, "Told").await == 8 }).await;
    assert_eq!(heard(&client, "Grown").await, 0);
    assert_numbered(&told(&client).await);

    run(&client, "loud", "loud", json!({})).await;
    let begun = Instant::now();
    let refused = client.history(&key("loud")).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::TooLarge), "{refused:?}");
    assert!(refused.to_string().contains("one message of the bus takes"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(5), "and not by silence");
}

/// The limit of the stream is set by hand while sagas run: what it refuses is kept whole, and the rest
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_refuses_for_good_is_buried_whole_and_the_relay_goes_on() {
    let adjust = |config: &mut node::config::Config| config.events.refused_for_ms = 500;
    let cluster = TestCluster::start_with(1, |_| Vec::new(), &[TELL], adjust, |_| {}).await.unwrap();
    let client = cluster.client().await.unwrap();
    let context = jetstream::new(client.nats().clone());
    let events = context.get_stream("SKALD_EVENTS").await.unwrap();
    let smaller = Config { max_message_size: 4_096, ..events.cached_info().config.clone() };
    context.update_stream(smaller).await.unwrap();
    run(&client, "tell", "large", json!({ "text": "x".repeat(10_000) })).await;
    for n in 0..8 {
        run(&client, "tell", &format!("small-{n}"), json!({ "n": n })).await;
    }
    until(Duration::from_secs(20), "the events of the others", || async { heard(&client, "Told").await == 8 }).await;
    let dead = context.get_stream("SKALD_DEAD").await.unwrap();
    let subject = "skald.dead.acme.event-refused";
    until(Duration::from_secs(20), "the letter", || async {
        dead.get_last_raw_message_by_subject(subject).await.is_ok()
    })
    .await;
    let letter = dead.get_last_raw_message_by_subject(subject).await.unwrap();
    let whole: Value = serde_json::from_slice(&letter.payload).unwrap();
    assert_eq!(whole["payload"]["text"].as_str().map(str::len), Some(10_000), "it is whole");
    assert!(letter.headers.get("Skald-Why").unwrap().as_str().contains("recorded in its journal at"));
    let shown = page(&cluster, "/metrics").await;
    assert!(shown.contains("skald_dead_letters_total{name=\"event-refused\"} 1"), "{shown}");
    let health = page(&cluster, "/healthz?format=text").await;
    assert!(health.contains("1 events of shard"), "{health}");
}

async fn page(cluster: &TestCluster, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let at = cluster.nodes[0].debug().unwrap();
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The node dies when its events are in the stream and it has noted nothing down, and the stream forgets
/// ids within a tenth of a second.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_comes_twice_when_the_outage_is_longer_than_the_window() {
    let adjust = |config: &mut node::config::Config| {
        config.events.dedupe_window_ms = 100;
        config.sagas.snapshot_every_ms = 3_600_000;
    };
    let mut cluster = TestCluster::start_with(1, |_| Vec::new(), &[TELL], adjust, |_| {}).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..40 {
        run(&client, "tell", &format!("tell-{n}"), json!({ "n": n })).await;
    }
    until(Duration::from_secs(20), "the events", || async { heard(&client, "Told").await == 40 }).await;
    cluster.nodes.pop().unwrap().kill();
    let window = Duration::from_millis(300);
    tokio::time::sleep(window).await;
    let again = cluster.node(0).await.unwrap();
    cluster.nodes.push(again);
    for n in 40..48 {
        run(&client, "tell", &format!("tell-{n}"), json!({ "n": n })).await;
    }
    until(Duration::from_secs(20), "the new events", || async { heard(&client, "Told").await >= 48 }).await;
    // What was sent again would have come before them: each shard sends in order.
    let told = told(&client).await;
    assert_eq!(told.len(), 48);
    assert_numbered(&told);
}

/// `cases`: two Maps and two steps with names of 80 characters of four bytes; the worker does its work
/// once for each key.
#[tokio::test(flavor = "multi_thread")]
async fn each_step_has_a_key_of_its_own_on_the_bus_however_long_its_name_is() {
    let (a, b) = ("\u{20000}".repeat(80), "\u{20001}".repeat(80));
    let step = |last: &str| format!("{}{last}", "\u{20002}".repeat(79));
    let work = |more: Value| {
        let mut state = json!({
            "Type": "Task", "Resource": "activity:keys.note", "Compensate": { "Resource": "activity:keys.undo" },
        });
        state.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        state
    };
    let steps = json!({ step("1"): work(json!({ "Next": step("2") })), step("2"): work(json!({ "End": true })) });
    let inner = json!({ &b: {
        "Type": "Map", "Items": [0, 1], "End": true,
        "ItemProcessor": { "StartAt": step("1"), "States": steps },
    } });
    let states = json!({
        &a: { "Type": "Map", "Items": [0], "ItemProcessor": { "StartAt": b, "States": inner }, "Next": "Bad" },
        "Bad": { "Type": "Fail", "Error": "E" },
    });
    let source = json!({ "name": "cut", "definition": { "StartAt": a, "States": states } }).to_string();
    let cluster = TestCluster::start(1, |_| Vec::new(), &[source.as_str()]).await.unwrap();
    let client = cluster.client().await.unwrap();
    let worker = cluster.client_as("acme", "worker").await.unwrap();
    let mut asked = worker.nats().subscribe("skald.act.acme.keys.*").await.unwrap();
    worker.nats().flush().await.unwrap();
    let work = tokio::spawn(async move {
        let (mut done, mut undone) = (Vec::new(), Vec::new());
        while let Some(message) = asked.next().await {
            let key = message.headers.as_ref().unwrap().get("Skald-Key").unwrap().as_str().to_owned();
            if message.subject.ends_with("note") {
                done.push(key)
            } else {
                undone.push(key)
            }
            worker.nats().publish(message.reply.unwrap(), "null".into()).await.unwrap();
            if undone.len() == 4 {
                worker.nats().flush().await.unwrap();
                break;
            }
        }
        (done, undone)
    });
    let view = run(&client, "cut", &"k".repeat(128), json!({})).await;
    assert_eq!(view.status.word(), "failed");
    let (mut done, mut undone) = tokio::time::timeout(Duration::from_secs(20), work).await.unwrap().unwrap();
    done.sort();
    undone.sort();
    assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), 4, "{done:#?}");
    assert!(done.iter().all(|key| key.len() <= protocol::activity::KEY_MAX_BYTES));
    assert_eq!(done, undone, "each is undone under the key under which it was done");
}
