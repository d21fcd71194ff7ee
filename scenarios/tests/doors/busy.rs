//! A node that has as much to do as it may.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use protocol::Code;
use protocol::command::{Decide, Wait};
use scenarios::activities;
use scenarios::cluster::{TestCluster, until};
use scenarios::definitions::HUMAN;
use scenarios::ledger::Ledger;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;

async fn narrow(adjust: impl Fn(&mut node::config::Limits) + Send + Sync + 'static) -> TestCluster {
    let ledger = |dir: &std::path::Path| activities::all(&Ledger::open(&dir.join("ledger")).unwrap());
    let adjust = move |config: &mut node::config::Config| adjust(&mut config.limits);
    TestCluster::start_with(1, ledger, &[HUMAN], adjust, |_| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_says_busy_and_when_to_come_again_and_keeps_what_nobody_waits_for() {
    let cluster = narrow(|limits| limits.commands_in_flight = 1).await;
    let client = Arc::new(cluster.client().await.unwrap());
    client.start(&start("human", "holds", json!({}))).await.unwrap();
    // Many at once, and one that nobody hears of.
    let lost = serde_json::to_vec(&start("human", "unheard", json!({ "mark": "unheard" }))).unwrap();
    let stream = async_nats::jetstream::new(client.nats().clone()).get_stream("SKALD_DEAD").await.unwrap();
    let show = || async {
        let message = client.nats().request("skald.cmd.acme.ann.saga.describe", r#"{"key": "holds"}"#.into()).await;
        serde_json::from_slice::<serde_json::Value>(&message.unwrap().payload).unwrap()
    };
    until(PATIENCE, "a command that nobody hears of is refused and kept", || async {
        let many = join_all((0..64).map(|_| show()));
        let published = client.nats().publish("skald.cmd.acme.ann.saga.start", lost.clone().into());
        let (answers, _) = futures::join!(many, published);
        let busy: Vec<_> = answers.iter().filter(|answer| answer["error"]["code"] == "busy").collect();
        assert!(busy.iter().all(|answer| answer["error"]["retryAfterMs"] == 100), "{busy:?}");
        let letter = stream.get_last_raw_message_by_subject("skald.dead.acme.not-done").await;
        let kept = letter.is_ok_and(|letter| String::from_utf8_lossy(&letter.payload).contains("unheard"));
        !busy.is_empty() && kept
    })
    .await;
    // What is safe to repeat comes through by itself once there is room.
    client.describe(&saga_key("holds")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_wait_do_not_stand_in_the_way_and_one_tenant_does_not_take_all_the_room() {
    let cluster = narrow(|limits| (limits.commands_in_flight, limits.waits_per_tenant) = (2, 1)).await;
    let client = Arc::new(cluster.client().await.unwrap());
    client.start(&start("human", "holds", json!({}))).await.unwrap();
    let body = serde_json::to_vec(&Wait { key: saga_key("holds"), wait_ms: 20_000 }).unwrap();
    let wait = || {
        let request = async_nats::Request::new().payload(body.clone().into()).timeout(Some(Duration::from_secs(30)));
        let client = client.clone();
        async move {
            let message = client.nats().send_request("skald.cmd.acme.ann.saga.wait", request).await.unwrap();
            serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap()
        }
    };
    // Two that wait, as many as the node works on at once: one has the tenant's place to wait in, the
    // other hears so at once.
    let (first, second) = (tokio::spawn(wait()), tokio::spawn(wait()));
    let (refused, held) = futures::future::select(first, second).await.factor_first();
    let refused = refused.unwrap();
    assert_eq!(refused["error"]["code"], "busy", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("limits.waits_per_tenant"), "{refused}");
    // Another tenant has a place, and what is done at once is done although somebody waits.
    let other = cluster.client_as("other", "oda").await.unwrap();
    let unknown = other.wait(&saga_key("holds"), Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(unknown.code(), Some(Code::NotFound), "{unknown}");
    client.describe(&saga_key("holds")).await.unwrap();
    let decide = Decide { key: saga_key("holds"), step: None, output: json!({ "yes": true }) };
    client.decide(&decide).await.unwrap();
    assert_eq!(held.await.unwrap()["status"], "succeeded");
}
