//! A worker in another language: Python, plain NATS, and nothing of ours but the words in the
//! headers (`workers/pricing.py`).

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use futures::StreamExt as _;
use protocol::Code;
use protocol::command::ActivityAnswer;
use protocol::view::{SagaView, Status};
use scenarios::cluster::TestCluster;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const QUOTED: &str = r#"
name: quoted
definition:
  StartAt: Quote
  States:
    Quote:
      Type: Task
      Resource: activity:price.quote
      Compensate: none
      TimeoutSeconds: 20
      HeartbeatSeconds: 2
      Retry: [{ ErrorEquals: [States.TaskFailed], IntervalSeconds: 0.2, BackoffRate: 1, MaxAttempts: 100 }]
      End: true
"#;

/// The client library of the worker; the version that this test was written with.
const LIBRARY: &str = "nats-py==2.16.0";

/// A directory with the worker's library, filled once and kept with what is built.
async fn library() -> anyhow::Result<PathBuf> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let dir = target.join("python").join(LIBRARY);
    if !dir.join("nats").is_dir() {
        let install =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", LIBRARY, "--target"];
        let output = Command::new("python3").args(install).arg(&dir).output().await?;
        ensure!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(dir)
}

/// Whether python3 with pip is on this machine.
async fn has_python() -> bool {
    let mut ask = Command::new("python3");
    ask.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().await.is_ok_and(|status| status.success())
}

/// Starts a worker and waits until it serves.
async fn worker(server: &str) -> anyhow::Result<Child> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers/pricing.py");
    let mut command = Command::new("python3");
    command.arg(script).args([server, "acme"]).env("PYTHONPATH", library().await?);
    let mut child = command.kill_on_drop(true).stdout(Stdio::piped()).spawn().context("python3")?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
    ensure!(line.as_deref() == Some("serving"), "the worker said {line:?}");
    Ok(child)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_another_language_serves_an_activity() -> anyhow::Result<()> {
    if !has_python().await {
        println!("skipped: this machine has no python3 with pip");
        return Ok(());
    }
    let cluster = TestCluster::start(1, |_| Vec::new(), &[QUOTED]).await?;
    let client = cluster.client().await?;
    let begin = async |key: &str, input: Value| client.start(&start("quoted", key, input)).await;
    let end = async |key: &str| -> anyhow::Result<(SagaView, String)> {
        let view = client.wait(&saga_key(key), PATIENCE).await?;
        ensure!(view.status.is_final(), "{key} has not ended: {view:#?}");
        let history = client.history(&saga_key(key)).await?;
        let facts: Vec<_> = history.entries.into_iter().map(|entry| entry.fact).collect();
        Ok((view, facts.join("\n")))
    };

    // Nobody serves it yet: it says so, and is tried again until somebody does.
    begin("patient", json!({ "amount": 2 })).await?;
    let waits = async || client.describe(&saga_key("patient")).await.map(|view| view.waiting);
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            let waiting = waits().await?;
            if let Some(error) = waiting.first().and_then(|waiting| waiting.last_error.clone()) {
                return anyhow::Ok(error);
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    let told = told.await??;
    assert!(told.contains("no worker listens on skald.act.acme.price.quote"), "{told}");
    let _worker = worker(&cluster.server.url()).await?;
    let (view, _) = end("patient").await?;
    let output = view.outcome.and_then(|outcome| outcome.output).context("an output")?;
    assert_eq!((&output["price"], &output["currency"]), (&json!(14), &json!("EUR")));
    assert!(output["attempt"].as_u64() > Some(1), "{output}");
    assert!(output["key"].as_str().is_some_and(|key| key.starts_with("acme/patient/Quote")), "{output}");
    assert!(output["deadline"].as_str().is_some_and(|at| at.ends_with('Z')), "RFC 3339: {output}");

    begin("busy", json!({ "amount": 1, "mood": "busy" })).await?;
    let (view, facts) = end("busy").await?;
    assert_eq!(view.status, Status::Succeeded, "{facts}");
    assert!(facts.contains("step Quote #1 failed: Transient: too much to do"), "{facts}");
    assert!(facts.contains("step Quote #2 succeeded"), "{facts}");

    begin("never", json!({ "amount": 1, "mood": "never" })).await?;
    let (view, facts) = end("never").await?;
    assert_eq!(view.status, Status::Failed, "{facts}");
    assert!(facts.contains("#1 failed: NotForSale: we keep it"), "a permanent failure is not tried again: {facts}");

    // Accepted; alive for longer than the heartbeat allows silence; answered by token.
    begin("later", json!({ "amount": 3, "mood": "later", "beats": 25 })).await?;
    let (view, facts) = end("later").await?;
    assert_eq!(view.status, Status::Succeeded, "{facts}");
    assert_eq!(view.outcome.and_then(|outcome| outcome.output).context("an output")?["attempt"], 1, "{facts}");

    begin("closed", json!({ "amount": 3, "mood": "later", "fails": true })).await?;
    tokio::time::timeout(PATIENCE, async {
        loop {
            let history = client.history(&saga_key("closed")).await?;
            if history.entries.iter().any(|entry| entry.fact.contains("#2 failed: NoPrice: the market is closed")) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await??;
    Ok(())
}

const ASKED: &str = r#"
name: asked
definition:
  StartAt: Quote
  States:
    Quote: { Type: Task, Resource: "activity:price.ask", Compensate: none, Next: InTime }
    InTime: { Type: Task, Resource: "activity:price.ask", Compensate: none, TimeoutSeconds: 20, End: true }
"#;

/// Without a deadline the bus decides how long an answer may take, which is a minute, and not the
/// day that an accepted attempt may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_without_a_time_out_names_no_deadline() -> anyhow::Result<()> {
    let cluster = TestCluster::start(1, |_| Vec::new(), &[ASKED]).await?;
    let client = cluster.client().await?;
    let bus = async_nats::connect(cluster.server.url()).await?;
    let mut asked = bus.subscribe("skald.act.acme.price.ask").await?;
    bus.flush().await?;
    client.start(&start("asked", "deadlines", json!({}))).await?;
    let mut deadlines = Vec::new();
    for _ in 0..2 {
        let message = tokio::time::timeout(PATIENCE, asked.next()).await?.context("a request")?;
        deadlines.push(message.headers.as_ref().is_some_and(|headers| headers.get("Skald-Deadline").is_some()));
        bus.publish(message.reply.context("a reply subject")?, "1".into()).await?;
    }
    assert_eq!(deadlines, [false, true]);
    Ok(())
}

/// Whoever may speak for the tenant does not yet speak for its workers: an answer needs the token
/// that the worker was given, and nothing in it can be guessed.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_needs_the_token_that_was_given_out() -> anyhow::Result<()> {
    let cluster = TestCluster::start(1, |_| Vec::new(), &[ASKED]).await?;
    let client = cluster.client().await?;
    let bus = async_nats::connect(cluster.server.url()).await?;
    let mut asked = bus.subscribe("skald.act.acme.price.ask").await?;
    bus.flush().await?;
    client.start(&start("asked", "guarded", json!({}))).await?;
    let message = tokio::time::timeout(PATIENCE, asked.next()).await?.context("a request")?;
    let headers = message.headers.context("headers")?;
    let token = headers.get("Skald-Token").context("a token")?.to_string();
    let accepted = async_nats::HeaderMap::from_iter([("Skald-Status".parse()?, "accepted".parse()?)]);
    bus.publish_with_headers(message.reply.context("a reply subject")?, accepted, "".into()).await?;

    let eve = cluster.client_as("acme", "eve").await?;
    let answer = |token: &str| ActivityAnswer { token: token.into(), output: json!(0), error: None, cause: None };
    let (named, proof) = token.rsplit_once(':').context("a proof")?;
    let other = proof.chars().rev().collect::<String>();
    for forged in [named.to_owned(), format!("{named}:"), format!("{named}:{other}"), token.replacen(":1:", ":2:", 1)] {
        for refused in [eve.activity_complete(&answer(&forged)).await, eve.activity_heartbeat(&answer(&forged)).await] {
            assert_eq!(refused.unwrap_err().code(), Some(Code::Forbidden), "{forged}");
        }
    }
    client.activity_heartbeat(&answer(&token)).await?;
    client.activity_complete(&answer(&token)).await?;
    // Answered; what comes later under the same token changes nothing.
    client.activity_complete(&answer(&token)).await?;
    let view = client.describe(&saga_key("guarded")).await?;
    assert_eq!(view.state, "InTime", "{view:#?}");
    Ok(())
}
