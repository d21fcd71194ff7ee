//! What is acknowledged is in the journal, also when the journal is away.

use std::time::Duration;

use futures::FutureExt;
use futures::future::join;
use protocol::codec::Format;
use protocol::command::{Routed, name};
use protocol::{Code, Principal, Problem, Tenant, Time, Value};
use scenarios::activities;
use scenarios::cluster::TestCluster;
use scenarios::definitions::HUMAN;
use scenarios::ledger::Ledger;
use scenarios::stage::start;
use serde_json::json;

/// Longer than anything on this machine takes, shorter than anybody waits for an answer.
const A_WHILE: Duration = Duration::from_millis(700);

/// How often a start that is not decided yet is repeated; each waits for five seconds.
const TRIES_MAX: u32 = 20;

/// A start as it stands before the dispatcher, which works without the bus.
fn routed(key: &str, input: Value) -> Routed {
    Routed {
        tenant: Tenant::new("acme").unwrap(),
        principal: Principal::new("ann").unwrap().to_string(),
        command: name::SAGA_START.into(),
        received_at: Time::from_micros(0),
        trace: None,
        id: format!("cmd-{key}"),
        causes: 0,
        hops: 0,
        content_type: Format::Json.content_type().into(),
        body: Format::Json.write(&start("human", key, input)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_acknowledged_only_when_it_is_durable_and_so_is_its_repetition() {
    let make = |dir: &std::path::Path| activities::all(&Ledger::open(&dir.join("ledger")).unwrap());
    let mut cluster = TestCluster::start(1, make, &[HUMAN]).await.unwrap();
    let dispatcher = cluster.nodes[0].dispatcher().clone();
    let give = |key: &'static str| dispatcher.handle(routed(key, json!({ "n": 1 }))).boxed();
    // The definition is known for a moment, so that nothing but the journal is missing.
    give("before").await.unwrap();
    cluster.server.kill().await;
    let (mut first, mut again) = (give("kept"), give("kept"));
    tokio::select! {
        biased;
        answer = &mut first => panic!("acknowledged without a journal: {answer:?}"),
        answer = &mut again => panic!("a repetition was acknowledged without a journal: {answer:?}"),
        () = tokio::time::sleep(A_WHILE) => {}
    }
    cluster.server.restart().await.unwrap();
    // Where the server comes back later than anybody waits, the answer is that nobody knows yet, and
    // that asking again is safe.
    let (first, again) = join(first, again).await;
    for answer in [&first, &again] {
        assert!(answer.as_ref().err().is_none_or(|problem| problem.code == Code::Unavailable), "{answer:?}");
    }
    let created = |answer: &Result<Value, Problem>| answer.as_ref().ok().and_then(|it| it["created"].as_bool());
    assert_ne!((created(&first), created(&again)), (Some(true), Some(true)), "one saga, one beginning");
    let mut tries = 0;
    let last = loop {
        match give("kept").await {
            Err(problem) if problem.code == Code::Unavailable && tries < TRIES_MAX => tries += 1,
            answer => break answer,
        }
    };
    let known = created(&first).is_some() || created(&again).is_some();
    assert!(last.is_ok() && (created(&last) == Some(false) || !known), "{first:?}, {again:?}, then {last:?}");
    assert_eq!(created(&give("kept").await), Some(false));
}
