//! A node that has as much to do as it may.

use std::sync::Arc;
use std::time::Duration;

use protocol::Code;
use protocol::command::{Decide, Wait};
use scenarios::activities;
use scenarios::cluster::{TestCluster, until};
use scenarios::definitions::HUMAN;
use scenarios::ledger::Ledger;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_says_busy_and_when_to_come_again_and_keeps_what_nobody_waits_for() {
    let ledger = |dir: &std::path::Path| activities::all(&Ledger::open(&dir.join("ledger")).unwrap());
    let narrow = |config: &mut node::config::Config| config.limits.commands_in_flight = 1;
    let cluster = TestCluster::start_with(1, ledger, &[HUMAN], narrow, |_| {}).await.unwrap();
    let client = Arc::new(cluster.client().await.unwrap());
    client.start(&start("human", "holds", json!({}))).await.unwrap();

    // One that waits takes the only place.
    let body = serde_json::to_vec(&Wait { key: saga_key("holds"), wait_ms: 2_000 }).unwrap();
    let holder = client.clone();
    let held = tokio::spawn(async move {
        loop {
            let request = async_nats::Request::new().payload(body.clone().into()).timeout(Some(Duration::from_secs(5)));
            let answer = holder.nats().send_request("skald.cmd.acme.ann.saga.wait", request).await.unwrap();
            // One of the looks below may have been first.
            if !String::from_utf8_lossy(&answer.payload).contains("\"busy\"") {
                return;
            }
        }
    });
    let show = || async {
        let message = client.nats().request("skald.cmd.acme.ann.saga.describe", r#"{"key": "holds"}"#.into()).await;
        serde_json::from_slice::<serde_json::Value>(&message.unwrap().payload).unwrap()
    };
    until(PATIENCE, "the node is full", || async { show().await["error"]["code"] == "busy" }).await;
    let refusal = show().await;
    assert_eq!(refusal["error"]["retryAfterMs"], 100, "{refusal}");
    let decide = Decide { key: saga_key("holds"), step: None, output: json!({ "yes": true }) };
    let error = client.decide(&decide).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Busy), "what is not safe to repeat is not repeated: {error}");

    // Nobody hears a refusal of this one, so it is kept.
    let lost = serde_json::to_vec(&start("human", "unheard", json!({ "mark": "unheard" }))).unwrap();
    client.nats().publish("skald.cmd.acme.ann.saga.start", lost.into()).await.unwrap();
    let stream = async_nats::jetstream::new(client.nats().clone()).get_stream("SKALD_DEAD").await.unwrap();
    until(PATIENCE, "it is kept", || async {
        let letter = stream.get_last_raw_message_by_subject("skald.dead.acme.not-done").await;
        letter.is_ok_and(|letter| String::from_utf8_lossy(&letter.payload).contains("unheard"))
    })
    .await;

    // What is safe to repeat comes through by itself once there is room.
    client.describe(&saga_key("holds")).await.unwrap();
    held.await.unwrap();
    client.decide(&decide).await.unwrap();
}
