//! Who changed what, and when, is written down.

use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

use protocol::Code;
use protocol::command::{ActivityAnswer, Cancel, Decide, Deploy, Signal};
use protocol::view::Status;
use scenarios::stage::{PATIENCE, Shared, saga_key, start};
use serde_json::{Value, json};

static STAGE: Shared = Shared::new(1);

/// What was logged for the audit by the nodes of this program.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let audit = "skald::audit=info";
        tracing_subscriber::fmt().with_env_filter(audit).with_ansi(false).with_writer(|| Log).init();
    });
}

/// Whether a line of the log holds all of `words`.
fn logged(words: &[&str]) -> bool {
    let log = String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    log.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn a_forbidden_command_is_logged_with_who_tried_what() {
    listen();
    STAGE.play(async |stage| {
        let eve = stage.cluster.client_as("evil", "eve").await.unwrap();
        let answer = ActivityAnswer { token: "1:1:acme/x".into(), output: json!(1), error: None, cause: None };
        assert_eq!(eve.activity_complete(&answer).await.unwrap_err().code(), Some(Code::Forbidden));
        assert!(logged(&["skald.cmd.evil.eve.activity.complete", "another tenant"]));
        let mallory = stage.cluster.client_as("acme", "mallory").await.unwrap();
        let error = mallory.start(&start("guarded", "g", json!({}))).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Forbidden));
        assert!(logged(&["skald.cmd.acme.mallory.saga.start", "mallory may not start guarded"]));
    });
}

#[test]
fn the_history_of_a_saga_names_who_did_what_to_it() {
    STAGE.play(async |stage| {
        let bob = stage.cluster.client_as("acme", "bob").await.unwrap();
        let facts = async |key: &str| {
            let history = stage.client.history(&saga_key(key)).await.unwrap();
            assert!(history.entries.iter().all(|entry| entry.at.as_micros() > 0));
            history.entries.into_iter().map(|entry| entry.fact).collect::<Vec<_>>().join("\n")
        };
        stage.begin("signalled", "watched", json!({ "ms": 0 })).await;
        let signal = Signal { key: saga_key("watched"), name: "go".into(), payload: json!(1), id: Some("s1".into()) };
        bob.signal(&signal).await.unwrap();
        stage.end("watched").await;
        let told = facts("watched").await;
        assert!(told.contains("started by ann") && told.contains("signal go from bob (s1)"), "{told}");

        stage.begin("human", "asked", json!({})).await;
        bob.decide(&Decide { key: saga_key("asked"), step: None, output: json!({ "yes": true }) }).await.unwrap();
        stage.end("asked").await;
        let told = facts("asked").await;
        assert!(told.contains("bob"), "{told}");

        stage.begin("signalled", "dropped", json!({ "ms": 0 })).await;
        let cancel = Cancel { key: saga_key("dropped"), reason: "not wanted".into() };
        bob.cancel(&cancel).await.unwrap();
        assert_eq!(bob.wait(&saga_key("dropped"), PATIENCE).await.unwrap().status, Status::Cancelled);
        let told = facts("dropped").await;
        assert!(told.contains("bob") && told.contains("not wanted"), "{told}");
    });
}

#[test]
fn a_definition_says_who_deployed_it_and_when() {
    listen();
    STAGE.play(async |stage| {
        let bob = stage.cluster.client_as("acme", "bob").await.unwrap();
        let source = "name: audited\ndefinition:\n  StartAt: A\n  States: { A: { Type: Succeed } }\n";
        let deploy = Deploy { source: source.into(), file: None };
        bob.deploy(&deploy).await.unwrap();
        assert!(logged(&["definition deployed", "audited v1", "acme/bob"]));
        // The same again is the same version, and its maker stays.
        stage.client.deploy(&deploy).await.unwrap();
        let ask = async |command: &str, body: Value| {
            let subject = format!("skald.cmd.acme.ann.definition.{command}");
            let body = serde_json::to_vec(&body).unwrap();
            let answer = stage.client.nats().request(subject, body.into()).await.unwrap();
            serde_json::from_slice::<Value>(&answer.payload).unwrap()
        };
        let shown = ask("show", json!({ "name": "audited" })).await;
        assert_eq!(shown["deployedBy"], "acme/bob", "{shown}");
        assert!(shown["deployedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{shown}");
        let list = ask("list", json!({})).await;
        let of = |name: &str| {
            let rows = list["definitions"].as_array().unwrap();
            rows.iter().find(|row| row["name"] == name).unwrap()["deployedBy"].clone()
        };
        assert_eq!((of("audited"), of("three")), (json!("acme/bob"), json!("node n0")));
        stage.client.start(&start("audited", "runs", json!({}))).await.unwrap();
    });
}
