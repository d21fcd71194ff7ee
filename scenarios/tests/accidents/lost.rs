//! What the nodes stand on is taken away: streams and buckets are deleted while nodes run and while
//! none does. Each loss is told, nothing goes on where that would be a lie, and what can be made again
//! is.

use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream;
use futures::TryStreamExt as _;
use node::client::Client;
use node::nats::{ConnectConfig, connect};
use protocol::command::{ReadEvents, Signal, Start};
use protocol::query::{Body, HealthView, Query};
use protocol::view::Status;
use protocol::{SagaId, Tenant};
use scenarios::activities;
use scenarios::cluster::{TestCluster, until};
use scenarios::definitions;
use scenarios::ledger::Ledger;
use scenarios::stage::{saga_key, start};
use serde_json::json;

use super::up::{skald, stop};

/// Longer than a look, a takeover and a try again take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Shards of the cluster.
const SHARDS: u16 = 8;

async fn cluster(nodes: usize) -> (TestCluster, Client, jetstream::Context) {
    let make = |dir: &std::path::Path| activities::all(&Ledger::open(&dir.join("ledger")).unwrap());
    let adjust = |config: &mut node::config::Config| config.sagas.snapshot_every_ms = 300;
    let cluster = TestCluster::start_with(nodes, make, definitions::ALL, adjust, |_| {}).await.unwrap();
    let client = cluster.client().await.unwrap();
    let server = async_nats::connect(cluster.server.url()).await.unwrap();
    (cluster, client, jetstream::new(server))
}

async fn health(client: &Client) -> Vec<HealthView> {
    let answers = client.query(&Query::Health).await.unwrap_or_default();
    let health = answers.into_iter().filter_map(|answer| match answer.body {
        Body::Health(health) => Some(*health),
        Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => None,
    });
    health.collect()
}

async fn is_well(client: &Client, nodes: usize) -> bool {
    let health = health(client).await;
    let owned: usize = health.iter().map(|node| node.shards.len()).sum();
    health.len() == nodes && health.iter().all(|node| node.ready) && owned == usize::from(SHARDS)
}

/// Waits until a node names a loss that `told` recognises, and answers what it says.
async fn told(client: &Client, what: &str, told: impl Fn(&str) -> bool) -> String {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let health = health(client).await;
        let lost = health.iter().flat_map(|node| &node.lost).find(|lost| told(lost));
        if let Some(lost) = lost {
            assert!(health.iter().any(|node| node.troubles.contains(lost)), "healthz says it too: {health:?}");
            return lost.clone();
        }
        assert!(tokio::time::Instant::now() < end, "nobody told of {what}: {health:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Accepts a loss as an operator types it; answers the exit code and all that is said.
async fn accept(cluster: &TestCluster, what: &str) -> (i32, String) {
    let accept = ["accept-loss", "--reason", "no copy"];
    typed(cluster, &accept.into_iter().chain(what.split(' ')).collect::<Vec<_>>()).await
}

/// Carries out a command as an operator types it; answers the exit code and all that is said.
async fn typed(cluster: &TestCluster, words: &[&str]) -> (i32, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_skald_under_test"));
    let said = command.args(words).args(["--server", &cluster.server.url()]).kill_on_drop(true).output();
    let said = tokio::time::timeout(PATIENCE, said).await.unwrap().unwrap();
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (said.status.code().unwrap(), text)
}

fn shard_of(key: &str) -> u16 {
    SagaId::new(Tenant::new("acme").unwrap(), saga_key(key)).shard(SHARDS).0
}

/// What is kept of losses of shards that were accepted.
async fn accepted(server: &jetstream::Context) -> Vec<String> {
    let cluster = server.get_key_value("skald_cluster").await.unwrap();
    let keys: Vec<String> = cluster.keys().await.unwrap().try_collect().await.unwrap();
    keys.into_iter().filter(|key| key.starts_with("accepted.")).collect()
}

/// A key on `shard`.
fn key_on(shard: u16, prefix: &str) -> String {
    (0..).map(|number| format!("{prefix}-{number}")).find(|key| shard_of(key) == shard).unwrap()
}

async fn begin(client: &Client, key: &str) {
    client.start(&start("signalled", key, json!({ "ms": 0 }))).await.unwrap();
    until(PATIENCE, "it waits for a signal", || async {
        client.describe(&saga_key(key)).await.is_ok_and(|view| view.status == Status::Waiting)
    })
    .await;
}

async fn goes_on(client: &Client, key: &str) {
    let signal = Signal { key: saga_key(key), name: "go".into(), payload: json!(1), id: None };
    until(PATIENCE, "the signal is taken", || async { client.signal(&signal).await.is_ok() }).await;
    let view = client.wait(&saga_key(key), PATIENCE).await.unwrap();
    assert_eq!(view.status, Status::Succeeded, "{view:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_journal_is_never_begun_anew_in_silence() {
    let (mut cluster, client, server) = cluster(1).await;
    let (lost, other) = (key_on(2, "lost"), key_on(3, "other"));
    begin(&client, &lost).await;
    begin(&client, &other).await;
    // Its snapshot is written.
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.delete_stream("SKALD_JOURNAL_2").await.unwrap();

    let loss = told(&client, "the deleted journal", |lost| lost.starts_with("shard 2 is stopped")).await;
    assert!(loss.contains("skald accept-loss --shard 2 --loss "), "{loss}");
    assert!(health(&client).await.iter().all(|node| !node.ready));
    let refused = client.start(&start("signalled", &key_on(2, "late"), json!({ "ms": 0 }))).await.unwrap_err();
    assert!(refused.to_string().contains("shard 2 is stopped"), "{refused}");
    goes_on(&client, &other).await;

    // Nor by a node that starts anew.
    cluster.nodes.pop().unwrap().drain().await.unwrap();
    cluster.nodes.push(cluster.node(0).await.unwrap());
    told(&client, "the deleted journal again", |lost| lost.starts_with("shard 2 is stopped")).await;
    assert!(server.get_stream("SKALD_JOURNAL_2").await.is_err(), "nobody made it again");

    // What no node names cannot be accepted: that would be a mistake that nobody notices.
    let code = loss.split("--loss ").nth(1).unwrap().split(' ').next().unwrap();
    for mistyped in [format!("--shard 2 --loss {code}0"), format!("--shard 3 --loss {code}"), "--stream X".to_owned()] {
        let (exit, said) = accept(&cluster, &mistyped).await;
        assert!(exit == 2 && said.contains(&format!("--shard 2 --loss {code}\n")), "{mistyped}: {exit} {said}");
    }
    assert!(accepted(&server).await.is_empty());
    // An operator accepts exactly this loss; what snapshots hold goes on.
    let (exit, said) = accept(&cluster, &format!("--shard 2 --loss {code}")).await;
    assert!(exit == 0 && !said.contains("not checked"), "{exit} {said}");
    let bus = connect(ConnectConfig::new([cluster.server.url()])).await.unwrap();
    until(PATIENCE, "all is well again", || is_well(&client, 1)).await;
    goes_on(&client, &lost).await;
    let events = node::nats::EventReader::new(&bus);
    let own = events.page(&Tenant::new("skald").unwrap(), &ReadEvents::default()).await.unwrap();
    let types: Vec<_> = own.events.iter().filter_map(|event| event["eventType"].as_str()).collect();
    assert!(types.contains(&"ShardStopped") && types.contains(&"ShardResumed"), "{types:?}");
    let (exit, said) = accept(&cluster, &format!("--shard 2 --loss {code}")).await;
    assert!(exit == 2 && said.contains("name nothing"), "nothing is lost any more: {exit} {said}");
    cluster.nodes.pop().unwrap().drain().await.unwrap();
    // Nobody is there to say whether it is so.
    let (exit, said) = accept(&cluster, "--shard 3 --loss 1fa").await;
    assert!(exit == 0 && said.contains("not checked: no node could say"), "{exit} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_journal_that_is_lost_with_all_that_knew_of_it_is_missed() {
    let (mut cluster, client, server) = cluster(1).await;
    let (lost, other) = (key_on(2, "lost"), key_on(3, "other"));
    begin(&client, &lost).await;
    begin(&client, &other).await;
    cluster.nodes.pop().unwrap().drain().await.unwrap();
    for stream in ["KV_skald_cluster", "KV_skald_snapshots", "SKALD_JOURNAL_2"] {
        server.delete_stream(stream).await.unwrap();
    }
    cluster.nodes.push(cluster.node(0).await.unwrap());
    let loss = told(&client, "the part of the journal", |lost| lost.starts_with("shard 2 is stopped")).await;
    assert!(server.get_stream("SKALD_JOURNAL_2").await.is_err(), "nobody made it again");
    let refused = client.start(&start("signalled", &lost, json!({ "ms": 0 }))).await.unwrap_err();
    assert!(refused.to_string().contains("shard 2 is stopped"), "{refused}");
    goes_on(&client, &other).await;
    let code = loss.split("--loss ").nth(1).unwrap().split(' ').next().unwrap();
    let (exit, said) = accept(&cluster, &format!("--shard 2 --loss {code}")).await;
    assert!(exit == 0 && !said.contains("not checked"), "{exit} {said}");
    until(PATIENCE, "all is well again", || is_well(&client, 1)).await;
    begin(&client, &lost).await;
    goes_on(&client, &lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_made_again_is_and_what_cannot_waits_for_a_word() {
    let (mut cluster, client, server) = cluster(2).await;
    begin(&client, "sleeper").await;
    let steps = json!({ "one": { "step": "One" }, "two": { "step": "Two" }, "three": { "step": "Three" } });
    for stream in ["KV_skald_definitions", "KV_skald_cluster", "KV_skald_snapshots", "SKALD_EVENTS", "SKALD_DEAD"] {
        server.delete_stream(stream).await.unwrap();
        // Meanwhile nobody is told that what was deployed never was.
        let run: Start = start("three", &format!("amid-{stream}"), steps.clone());
        until(PATIENCE, &format!("sagas start amid the loss of {stream}"), || async {
            let started = client.start(&run).await;
            let said = started.as_ref().err().map(ToString::to_string).unwrap_or_default();
            assert!(!said.contains("there is no definition"), "{said}");
            started.is_ok()
        })
        .await;
        until(PATIENCE, &format!("{stream} is made again and all is well"), || async {
            server.get_stream(stream).await.is_ok() && is_well(&client, 2).await
        })
        .await;
        until(PATIENCE, &format!("the loss of {stream} is told"), || async {
            health(&client).await.iter().any(|node| node.happened.iter().any(|told| told.starts_with(stream)))
        })
        .await;
        let run: Start = start("three", &format!("after-{stream}"), steps.clone());
        until(PATIENCE, &format!("sagas start after the loss of {stream}"), || async {
            client.start(&run).await.inspect_err(|error| println!("after the loss of {stream}: {error}")).is_ok()
        })
        .await;
        client.wait(run.key.as_ref().unwrap(), PATIENCE).await.unwrap();
    }
    let metrics = cluster.nodes[0].debug().unwrap();
    let page = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    assert!(page.contains("skald_stores_lost_total{name=\"SKALD_EVENTS\"}"), "{page}");

    // The runtime's store is the only place of what stands in it.
    server.delete_stream("KV_skald_runtime").await.unwrap();
    told(&client, "the runtime's store", |lost| lost.starts_with("KV_skald_runtime was deleted")).await;
    assert!(server.get_stream("KV_skald_runtime").await.is_err(), "nobody made it again");
    let (exit, said) = typed(&cluster, &["doctor"]).await;
    assert!(exit != 0 && said.contains("KV_skald_runtime was deleted"), "{exit} {said}");
    // Each loss is an event, but for those that went with the stream of events.
    let bus = connect(ConnectConfig::new([cluster.server.url()])).await.unwrap();
    let skald = Tenant::new("skald").unwrap();
    for stream in ["SKALD_DEAD", "KV_skald_runtime"] {
        until(PATIENCE, &format!("an event tells of {stream}"), || async {
            let own = node::nats::EventReader::new(&bus).page(&skald, &ReadEvents::default()).await.unwrap();
            let lost = own.events.iter().filter(|event| event["eventType"] == "StoreLost");
            lost.into_iter().any(|event| event.to_string().contains(stream))
        })
        .await;
    }
    // Nor when everybody starts anew. Of the definitions nobody knows any, and the built-in ones come back.
    for node in std::mem::take(&mut cluster.nodes) {
        node.drain().await.unwrap();
    }
    server.delete_stream("KV_skald_definitions").await.unwrap();
    for number in 0..2 {
        cluster.nodes.push(cluster.node(number).await.unwrap());
    }
    told(&client, "the runtime's store again", |lost| lost.starts_with("KV_skald_runtime was deleted")).await;
    let (exit, said) = accept(&cluster, "--stream KV_skald_runtim").await;
    assert!(exit == 2 && said.contains("--stream KV_skald_runtime\n"), "{exit} {said}");
    let (exit, said) = accept(&cluster, "--stream KV_skald_runtime").await;
    assert_eq!(exit, 0, "{said}");
    until(PATIENCE, "nothing is lost any more", || async {
        let health = health(&client).await;
        is_well(&client, 2).await && health.iter().all(|node| node.lost.is_empty())
    })
    .await;
    goes_on(&client, "sleeper").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_comes_back_after_a_loss_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("up");
    let start = async || {
        let mut command = skald(dir.path(), &["up", "--data", data.to_str().unwrap()]);
        let said = std::fs::File::create(dir.path().join("said")).unwrap();
        let up = command.stdout(Stdio::null()).stderr(said).spawn().unwrap();
        until(PATIENCE, "it runs", || async { dir.path().join("state").exists() }).await;
        up
    };
    stop(start().await, PATIENCE).await;
    std::fs::remove_dir_all(data.join("server/jetstream/$G/streams/KV_skald_runtime")).unwrap();

    let again = start().await;
    let told = |words: &str| std::fs::read_to_string(dir.path().join("said")).unwrap().contains(words);
    until(PATIENCE, "it says what it lost", || async { told("lost: KV_skald_runtime was deleted") }).await;
    let typed = async |words: &[&str]| {
        let output = skald(dir.path(), words).output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (exit, said) = typed(&["doctor"]).await;
    assert!(exit != 0 && said.contains("KV_skald_runtime was deleted"), "{exit} {said}");
    let (exit, said) = typed(&["accept-loss", "--stream", "KV_skald_runtime", "--reason", "no copy"]).await;
    assert_eq!(exit, 0, "{said}");
    until(PATIENCE, "doctor finds nothing that fails", || async { typed(&["doctor"]).await.0 == 0 }).await;
    stop(again, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_of_one_name_do_not_take_each_others_shards() {
    let (mut cluster, client, _server) = cluster(1).await;
    let Err(refused) = cluster.node(0).await else { panic!("a second node of the same name started") };
    let refused = format!("{refused:#}");
    assert!(refused.contains("another node named n0 runs on "), "{refused}");
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    assert!(is_well(&client, 1).await, "the first one never noticed");
    // After its end the name is free.
    cluster.nodes.pop().unwrap().kill();
    cluster.nodes.push(cluster.node(0).await.unwrap());
    until(PATIENCE, "all is well", || is_well(&client, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_before_a_former_state_is_served() {
    let (mut cluster, client, _server) = cluster(1).await;
    let key = key_on(5, "flipped");
    begin(&client, &key).await;
    // Swept, so that where the journal stands is known outside of it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.server.kill().await;
    let block = cluster.dir.path().join("server/jetstream/$G/streams/SKALD_JOURNAL_5/msgs/1.blk");
    let whole = std::fs::read(&block).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() * 3 / 4;
    flipped[middle] ^= 0b100;
    std::fs::write(&block, flipped).unwrap();
    cluster.server.restart().await.unwrap();
    told(&client, "the flipped bit", |lost| lost.starts_with("shard 5 is stopped")).await;
    let signal = Signal { key: saga_key(&key), name: "go".into(), payload: json!(1), id: None };
    assert!(client.signal(&signal).await.is_err(), "nothing is decided on a former state");
    assert!(client.describe(&saga_key(&key)).await.is_err(), "nor shown");

    // Somebody brings back the whole copy.
    cluster.server.kill().await;
    std::fs::remove_file(block.with_file_name("index.db")).ok();
    std::fs::write(&block, whole).unwrap();
    cluster.server.restart().await.unwrap();
    until(PATIENCE, "all is well again", || is_well(&client, 1)).await;
    goes_on(&client, &key).await;
}
