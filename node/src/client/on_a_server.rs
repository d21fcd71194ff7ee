//! The client against a real server, with a node played by the test.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::StreamExt as _;
use protocol::command::{EventPage, ReadEvents, Release, ReleaseDecision, Start, Started};
use protocol::query::{Answer, Body, HealthView, Query};
use protocol::{Code, NodeId, SagaKey, Time};

use super::*;
use crate::server::{Finder, Server, ServerConfig};

struct Stage {
    server: Server,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let found = Finder::new(None).find(|_| ()).await.expect("a nats-server");
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&found.path, ServerConfig::new(dir.path())).await.unwrap();
        Self { server, _dir: dir }
    }

    async fn client(&self) -> Client {
        let (tenant, principal) = (Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
        Client::connect(Settings::new(self.server.url(), tenant, principal)).await.unwrap()
    }

    /// Answers everything on `subject` with what `answer` makes of it, in a task of its own.
    async fn play(&self, subject: &str, answer: impl Fn(&async_nats::Message) -> Option<Vec<u8>> + Send + 'static) {
        let nats = async_nats::connect(self.server.url()).await.unwrap();
        let mut asked = nats.subscribe(subject.to_owned()).await.unwrap();
        // The server reads a connection in order: what comes back was sent after the subscription.
        let inbox = nats.new_inbox();
        let mut back = nats.subscribe(inbox.clone()).await.unwrap();
        nats.publish(inbox, "".into()).await.unwrap();
        back.next().await.unwrap();
        tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                if let (Some(bytes), Some(reply)) = (answer(&message), message.reply.clone()) {
                    nats.publish(reply, bytes.into()).await.unwrap();
                }
            }
        });
    }
}

fn start(key: Option<&str>) -> Start {
    let key = key.map(|key| SagaKey::new(key).unwrap());
    Start { definition: "order".into(), version: None, key, input: serde_json::Value::Null, wait_ms: None }
}

fn json<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    Some(serde_json::to_vec(value).unwrap())
}

fn health(node: &str, members: &[&str]) -> Answer {
    let body = Body::Health(Box::new(HealthView {
        ready: true,
        version: "0.1.0".into(),
        server: "2.12".into(),
        sync: "always".into(),
        replicas: 1,
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        shards: Vec::new(),
        shards_in_all: 0,
        happened: Vec::new(),
        troubles: Vec::new(),
        lost: Vec::new(),
        warnings: Vec::new(),
        since: Time::from_micros(0),
    }));
    Answer::new(NodeId::new(node).unwrap(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_cluster_is_asked_again_when_that_is_safe() {
    let stage = Stage::set().await;
    let client = stage.client().await;
    // A server without a node: nobody hears the command, and that is said.
    let alone = client.release(&release()).await.unwrap_err();
    assert!(matches!(alone, Error::NoNode { .. }), "{alone}");

    let asked = Arc::new(AtomicUsize::new(0));
    let (count, ids) = (asked.clone(), Arc::new(Mutex::new(Vec::new())));
    let heard = ids.clone();
    stage
        .play(subjects::COMMANDS, move |message| {
            let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
            heard.lock().unwrap().push(id.map(ToString::to_string).unwrap_or_default());
            assert!(message.subject.starts_with("skald.cmd.acme.ann."), "{}", message.subject);
            if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return json(&Refused { error: Problem::new(Code::Busy, "busy").retry_after_ms(1) });
            }
            let key = SagaKey::new("order-7").unwrap();
            json(&Started { saga: "acme/order-7".into(), key, created: true, definition: "order v1".into() })
        })
        .await;
    let answer = client.start(&start(Some("order-7"))).await.unwrap();
    assert!(matches!(answer, StartAnswer::Started(started) if started.created));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    client.start(&start(None)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    let ids = ids.lock().unwrap().clone();
    assert_eq!((&ids[0], &ids[2]), (&ids[1], &ids[3]), "each try is the same message");
    assert!(ids[1] != ids[2] && !ids[0].is_empty(), "and each start another one");
    stage.server.stop().await;
}

fn release() -> Release {
    let key = SagaKey::new("order-7").unwrap();
    Release { key, decision: ReleaseDecision::Retry, reason: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_is_heard_and_a_silent_one_is_not_waited_for_long() {
    let stage = Stage::set().await;
    let client = stage.client().await;
    assert!(matches!(client.query(&Query::Health).await.unwrap_err(), Error::NoNode { .. }));
    for node in ["n1", "n2"] {
        stage.play(subjects::CLUSTER_QUERY, move |_| json(&health(node, &["n1", "n2"]))).await;
    }
    let names = |answers: Vec<Answer>| answers.into_iter().map(|answer| answer.node.to_string()).collect::<Vec<_>>();
    assert_eq!(names(client.query(&Query::Health).await.unwrap()), ["n1", "n2"]);
    let gone = BTreeSet::from([NodeId::new("gone").unwrap()]);
    let begun = Instant::now();
    assert_eq!(names(client.query_expecting(&Query::Health, &gone).await.unwrap()), ["n1", "n2"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let node = NodeId::new("n1").unwrap();
    stage.play(&subjects::node(&node), |_| json(&health("n1", &["n1"]))).await;
    assert_eq!(client.query_node(&node, &Query::Health).await.unwrap().node, node);
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_page_by_page_and_told_once() {
    let stage = Stage::set().await;
    let client = stage.client().await;
    let event = |number: u64| {
        serde_json::json!({
            "eventId": format!("e{number}"), "eventType": "OrderPlaced", "tenantId": "acme", "traceId": "t1",
            "correlationId": "acme/order-7", "causationId": "c", "occurredAt": "2026-01-01T00:00:00Z", "payload": {}
        })
    };
    // A node that keeps as many events as `kept` says, and gives out two at a time.
    let kept = Arc::new(AtomicUsize::new(3));
    let there = kept.clone();
    stage
        .play("skald.cmd.acme.ann.event.read", move |message| {
            let asked: ReadEvents = serde_json::from_slice(&message.payload).unwrap();
            let kept = there.load(Ordering::SeqCst) as u64;
            if asked.limit == Some(0) {
                return json(&EventPage { after: kept, ..EventPage::default() });
            }
            let (from, to) = (asked.after.unwrap_or(0), kept.min(asked.after.unwrap_or(0) + 2));
            json(&EventPage { events: (from + 1..=to).map(event).collect(), after: to, left: kept - to })
        })
        .await;
    let mut all = client.events(Since::Beginning, None).await.unwrap();
    let mut new = client.events(Since::Now, Some("OrderPlaced")).await.unwrap();
    assert_eq!((all.backlog, new.backlog), (3, 0));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(all.next().await.unwrap().unwrap().event_id.to_string());
    }
    assert_eq!(ids, ["e1", "e2", "e3"]);
    // The bus speaks of an event a moment before it is kept.
    let begun = Instant::now();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "e4");
    client.nats().publish_with_headers("skald.evt.acme.OrderPlaced", headers, "".into()).await.unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        kept.store(4, Ordering::SeqCst);
    };
    let (fourth, fresh, ()) = tokio::join!(all.next(), new.next(), later);
    for event in [fourth, fresh] {
        assert_eq!(event.unwrap().unwrap().event_id.to_string(), "e4");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "the hint was not heard: {:?}", begun.elapsed());
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_said_at_once_and_not_timed_out() {
    let found = Finder::new(None).find(|_| ()).await.expect("a nats-server");
    let dir = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::new(dir.path());
    config.extra = "authorization { default_permissions: { publish: [\"skald.cmd.acme.ann.>\"] }, users: [
      { user: ann, password: a }, { user: deaf, password: d, permissions: { subscribe: [\"other\"], publish: [\">\"] } } ] }"
        .into();
    let server = Server::start(&found.path, config).await.unwrap();
    let connect = async |user: &str, tenant: &str| {
        let (tenant, principal) = (Tenant::new(tenant).unwrap(), Principal::new("ann").unwrap());
        let url = server.url().replace("nats://", &format!("nats://{user}@"));
        Client::connect(Settings::new(url, tenant, principal)).await.unwrap()
    };
    let begun = Instant::now();
    let stranger = connect("ann:a", "other").await;
    let deaf = connect("deaf:d", "acme").await;
    let refusals = [
        (stranger.release(&release()).await.unwrap_err(), "Publish to \"skald.cmd.other.ann.saga.release\""),
        (stranger.query(&Query::Health).await.unwrap_err(), "Publish to \"skald.cluster.query\""),
        (deaf.release(&release()).await.unwrap_err(), "Subscription to \"_INBOX."),
    ];
    for (error, words) in refusals {
        assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        let mend = error.mend().unwrap();
        assert!(mend.contains("--creds") && !mend.contains("ann:a"), "{mend}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // What is allowed and unanswered still says so.
    assert!(
        matches!(connect("ann:a", "acme").await.release(&release()).await, Err(Error::NoNode { server, .. }) if !server.contains("ann:a"))
    );
    server.stop().await;
}
