//! Shards change hands: in order, after a crash, after the server was away, and after everything
//! was away. Nothing that was acknowledged is lost, and every saga ends as it should.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use node::client::{Client, StartAnswer};
use protocol::Code;
use protocol::command::{Cancel, List, Release, ReleaseDecision, Signal};
use protocol::query::{Body, HealthView, Query, ShardView};
use protocol::view::Status;
use scenarios::activities;
use scenarios::cluster::{TestCluster, until};
use scenarios::definitions;
use scenarios::dice::Dice;
use scenarios::ledger::Ledger;
use scenarios::load::{Clocks, Planned, plan, violations};
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;
use tokio::task::JoinHandle;

async fn cluster(nodes: usize, snapshot_every_ms: u64) -> (TestCluster, Client, Ledger) {
    let ledger = |dir: &std::path::Path| Ledger::open(&dir.join("ledger")).unwrap();
    let adjust = move |config: &mut node::config::Config| config.sagas.snapshot_every_ms = snapshot_every_ms;
    let make = move |dir: &std::path::Path| activities::all(&ledger(dir));
    let cluster = TestCluster::start_with(nodes, make, definitions::ALL, adjust, |_| {}).await.unwrap();
    let client = cluster.client().await.unwrap();
    let ledger = ledger(cluster.dir.path());
    (cluster, client, ledger)
}

/// Every node's health.
async fn health(client: &Client) -> Vec<HealthView> {
    let answers = client.query(&Query::Health).await.unwrap_or_default();
    let health = answers.into_iter().map(|answer| match answer.body {
        Body::Health(health) => *health,
        other => panic!("health was asked for: {other:?}"),
    });
    health.collect()
}

/// Every shard as its owner sees it.
async fn shards(client: &Client) -> Vec<ShardView> {
    let answers = client.query(&Query::Owners).await.unwrap_or_default();
    let shards = answers.into_iter().flat_map(|answer| match answer.body {
        Body::Owners(shards) => shards,
        other => panic!("owners were asked for: {other:?}"),
    });
    shards.collect()
}

/// Waits until `nodes` nodes are ready, own about as many shards each, and together own each shard once.
async fn settled(client: &Client, nodes: usize) {
    until(PATIENCE, &format!("{nodes} nodes own all shards"), || async {
        let health = health(client).await;
        let mut owned: Vec<u16> = health.iter().flat_map(|node| node.shards.clone()).collect();
        owned.sort_unstable();
        let share = 8 / nodes.max(1);
        health.len() == nodes
            && health.iter().all(|node| node.ready && (share..=share + 1).contains(&node.shards.len()))
            && owned == [0, 1, 2, 3, 4, 5, 6, 7]
    })
    .await;
}

/// Sagas that are kept running.
struct Load {
    stop: Arc<AtomicBool>,
    /// All of them, what is wrong with how they ended, and the longest time a start took.
    load: JoinHandle<(Vec<Planned>, Vec<String>, Duration)>,
}

/// Keeps sagas of known outcome running until told to stop.
fn load(client: &Client) -> Load {
    let (stop, client) = (Arc::new(AtomicBool::new(false)), client.clone());
    let told = stop.clone();
    let load = tokio::spawn(async move {
        let (mut dice, mut all, mut running) = (Dice::from_environment(), Vec::new(), Vec::new());
        while !told.load(Relaxed) {
            let (saga, client) = (plan(&mut dice, all.len()), client.clone());
            all.push(saga.clone());
            running.push(tokio::spawn(async move {
                let mut played = saga.play(&client).await;
                played.wrong.extend(saga.check_end(&client).await);
                (played.wrong, played.took)
            }));
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let (mut wrong, mut slowest) = (Vec::new(), Duration::ZERO);
        for saga in running {
            let (faults, took) = saga.await.unwrap();
            wrong.extend(faults);
            slowest = slowest.max(took);
        }
        (all, wrong, slowest)
    });
    Load { stop, load }
}

async fn judge(what: &str, client: &Client, ledger: &Ledger, Load { stop, load }: Load) -> Duration {
    stop.store(true, Relaxed);
    let (sagas, mut wrong, slowest) = load.await.unwrap();
    wrong.extend(violations(client, ledger, &sagas, Clocks::True, &[]).await.unwrap());
    println!("{what}: {} sagas, slowest start {slowest:.2?}", sagas.len());
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_in_order_hands_over_and_its_sagas_go_on() {
    let (mut cluster, client, ledger) = cluster(3, 10_000).await;
    settled(&client, 3).await;
    let load = load(&client);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    cluster.nodes.remove(1).drain().await.unwrap();
    println!("drained in {:.2?}", began.elapsed());
    settled(&client, 2).await;
    let health = health(&client).await;
    assert!(health.iter().all(|node| node.members == ["n0", "n2"]), "{health:#?}");
    judge("drain", &client, &ledger, load).await;
}

/// Not so yet: a command that reaches a draining shard, or that a peer passed on to the node that
/// leaves, is answered "unavailable, try again". Clients repeat what is safe to repeat; the rest is
/// for their callers.
#[tokio::test(flavor = "multi_thread")]
async fn no_command_is_refused_while_a_node_leaves_in_order() {
    let (mut cluster, client, ledger) = cluster(3, 10_000).await;
    settled(&client, 3).await;
    let load = load(&client);
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Commands of somebody who gives each one once and takes no refusal.
    let (stop, strict) = (load.stop.clone(), client.clone());
    let strict = tokio::spawn(async move {
        let mut given = 0;
        while !stop.load(Relaxed) {
            let command = start("telling", &format!("strict-{given}"), json!({ "title": "x" }));
            let body = serde_json::to_vec(&command).unwrap();
            let answer = strict.nats().request("skald.cmd.acme.ann.saga.start", body.into()).await.expect("an answer");
            let text = String::from_utf8_lossy(&answer.payload).into_owned();
            assert!(text.contains("\"created\":true"), "command {given}: {text}");
            given += 1;
        }
        given
    });
    cluster.nodes.remove(1).drain().await.unwrap();
    settled(&client, 2).await;
    judge("drain", &client, &ledger, load).await;
    assert!(strict.await.unwrap() > 0, "somebody gave commands all the while");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_is_replaced_within_seconds_and_its_sagas_go_on() {
    let (mut cluster, client, ledger) = cluster(3, 500).await;
    settled(&client, 3).await;
    let load = load(&client);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    cluster.nodes.remove(2).kill();
    until(PATIENCE, "the others own all shards", || async {
        let owned: usize =
            health(&client).await.iter().filter(|node| node.members.len() == 2).map(|node| node.shards.len()).sum();
        owned == 8
    })
    .await;
    let took = began.elapsed();
    println!("taken over in {took:.2?}");
    assert!(took < Duration::from_secs(10), "a takeover takes seconds: {took:?}");
    // And it comes back under its name.
    let node = cluster.node(2).await.unwrap();
    cluster.nodes.push(node);
    settled(&client, 3).await;
    judge("kill", &client, &ledger, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_under_load_takes_nothing_with_it() {
    let (mut cluster, client, ledger) = cluster(2, 500).await;
    settled(&client, 2).await;
    let load = load(&client);
    for away in [Duration::ZERO, Duration::from_secs(2)] {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.server.kill().await;
        tokio::time::sleep(away).await;
        cluster.server.restart().await.unwrap();
    }
    settled(&client, 2).await;
    judge("server", &client, &ledger, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_remembered_when_all_nodes_come_back() {
    let (mut cluster, client, ledger) = cluster(2, 150).await;
    let steps = |three| json!({ "one": { "step": "One" }, "two": { "step": "Two", "undo_fails": 1 }, "three": three });
    let good = steps(json!({ "step": "Three" }));
    client.start(&start("three", "ended", good.clone())).await.unwrap();
    client.start(&start("three", "stuck", steps(json!({ "step": "Three", "fail": "permanent" })))).await.unwrap();
    client.start(&start("resting", "rests", json!({ "seconds": 6, "fail": null }))).await.unwrap();
    for key in ["woken", "cancelled"] {
        client.start(&start("signalled", key, json!({ "ms": 0 }))).await.unwrap();
    }
    client.wait(&saga_key("ended"), PATIENCE).await.unwrap();
    let status = async |key: &str| client.describe(&saga_key(key)).await.unwrap().status;
    until(PATIENCE, "they wait", || async {
        status("stuck").await == Status::Stuck
            && status("rests").await == Status::Waiting
            && status("woken").await == Status::Waiting
            && status("cancelled").await == Status::Waiting
    })
    .await;
    let before = client.describe(&saga_key("stuck")).await.unwrap().compensations;
    // The mark moves to the last frame once everything is in snapshots: then nothing is replayed.
    until(PATIENCE, "the low-water mark reaches the end", || async {
        let shards = shards(&client).await;
        shards.len() == 8 && shards.iter().all(|shard| shard.low_water == shard.position)
    })
    .await;
    for node in cluster.nodes.drain(..) {
        node.kill();
    }
    let node = cluster.node(0).await.unwrap();
    cluster.nodes.push(node);
    settled(&client, 1).await;

    // Ended sagas are remembered, under the same key and input.
    match client.start(&start("three", "ended", good)).await.unwrap() {
        StartAnswer::Started(started) => assert!(!started.created, "{started:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.start(&start("three", "ended", json!(1))).await.unwrap_err().code(), Some(Code::Conflict));
    assert_eq!(client.history(&saga_key("ended")).await.unwrap().entries.len(), 4);
    assert_eq!(client.describe(&saga_key("ended")).await.unwrap().status, Status::Succeeded);
    let list = List { status: Some(Status::Succeeded), ..List::default() };
    let listed = client.list(&list).await.unwrap();
    assert!(listed.iter().any(|row| row.saga == "acme/ended"), "{listed:?}");
    // The compensation stack is whole.
    let stuck = client.describe(&saga_key("stuck")).await.unwrap();
    assert_eq!((stuck.status, &stuck.compensations), (Status::Stuck, &before));
    let retry = Release { key: saga_key("stuck"), decision: ReleaseDecision::Retry, reason: String::new() };
    client.release(&retry).await.unwrap();
    client.cancel(&Cancel { key: saga_key("cancelled"), reason: String::new() }).await.unwrap();
    let go = Signal { key: saga_key("woken"), name: "go".into(), payload: json!(7), id: Some("go".into()) };
    client.signal(&go).await.unwrap();
    for (key, ends, told) in [
        ("stuck", Status::Failed, vec!["run One", "run Two", "undo Three", "undo Two", "undo One"]),
        ("cancelled", Status::Cancelled, vec!["run Before", "undo Before"]),
        ("woken", Status::Succeeded, vec!["run Before", "run After"]),
        ("rests", Status::Succeeded, vec!["run Before", "run After"]),
    ] {
        let view = client.wait(&saga_key(key), PATIENCE).await.unwrap();
        assert_eq!(view.status, ends, "{view:#?}");
        assert_eq!(ledger.told(&format!("acme/{key}")), told, "{key}");
    }
}
