//! With the configuration that is written, everything that should work does.

use std::time::Duration;

use futures::StreamExt;
use node::client::{Error, Since, StartAnswer};
use protocol::Code;
use protocol::command::{Deploy, ShowDefinition, Signal};
use protocol::query::Query;
use protocol::view::Status;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::{Value, json};

use super::House;

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
      Retry: [{ ErrorEquals: [NoWorker], IntervalSeconds: 0.1, BackoffRate: 1, MaxAttempts: 100 }]
      Next: Later
    Later:
      Type: Task
      Resource: activity:price.later
      Compensate: none
      TimeoutSeconds: 20
      HeartbeatSeconds: 5
      End: true
"#;

/// A worker in plain NATS: quotes at once, and later by token.
async fn work(raw: super::Raw) {
    let mut asked = raw.nats.subscribe("skald.act.acme.>").await.unwrap();
    raw.nats.flush().await.unwrap();
    while let Some(message) = asked.next().await {
        let reply = message.reply.clone().unwrap();
        if message.subject.ends_with("price.quote") {
            raw.nats.publish(reply, "7".into()).await.unwrap();
            continue;
        }
        let token = message.headers.as_ref().unwrap().get("Skald-Token").unwrap().to_string();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Skald-Status", "accepted");
        raw.nats.publish_with_headers(reply, headers, "".into()).await.unwrap();
        for verb in ["heartbeat", "complete"] {
            let body = json!({ "token": token, "output": { "late": true } });
            let subject = format!("skald.cmd.acme.pricing.activity.{verb}");
            let body = serde_json::to_vec(&body).unwrap();
            let answer = raw.nats.request(subject, body.into()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert!(answer.get("error").is_none(), "{verb}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_its_clients_and_its_workers_go_about_their_business() {
    let house = House::build(2, &[QUOTED]).await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    let eve = house.client("evil.eve", "evil", "eve").await;

    // Sagas, over both nodes, with their events.
    let mut heard = ann.events(Since::Now, None).await.unwrap();
    for number in 0..8 {
        let key = format!("told-{number}");
        ann.start(&start("telling", &key, json!({ "title": number }))).await.unwrap();
        let view = ann.wait(&saga_key(&key), PATIENCE).await.unwrap();
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        let event = tokio::time::timeout(PATIENCE, heard.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((event.event_type.as_str(), event.tenant_id.as_str()), ("StoryTold", "acme"));
    }
    eve.start(&start("telling", "told-0", json!({ "title": "evil" }))).await.unwrap();
    eve.wait(&saga_key("told-0"), PATIENCE).await.unwrap();
    for (client, count) in [(&ann, 8), (&eve, 1)] {
        let mut all = client.events(Since::Beginning, Some("StoryTold")).await.unwrap();
        assert_eq!(all.backlog, count, "each tenant reads its own");
        let recent = client.events(Since::Ago(Duration::from_secs(3_600)), None).await.unwrap();
        assert_eq!(recent.backlog, count);
        let first = all.next().await.unwrap().unwrap();
        assert_eq!(&first.tenant_id, &client.settings().tenant);
    }
    assert_eq!(eve.events(Since::Beginning, Some(">")).await.unwrap().backlog, 0, "a type is no pattern");

    // A worker; before it is there, nobody answers.
    ann.start(&start("quoted", "q", json!({}))).await.unwrap();
    let worker = tokio::spawn(work(house.raw("acme.pricing").await));
    let view = ann.wait(&saga_key("q"), PATIENCE).await.unwrap();
    assert_eq!(view.outcome.unwrap().output, Some(json!({ "late": true })));
    worker.abort();

    // Definitions are everybody's, so only who was named deploys them, and it is written down.
    let deploy = Deploy { source: QUOTED.replace("quoted", "mine"), file: None };
    assert!(matches!(ann.deploy(&deploy).await, Err(Error::NotAllowed { .. })));
    ann.check(&deploy).await.unwrap();
    let ops = house.client("acme.ops", "acme", "ops").await;
    assert!(ops.deploy(&deploy).await.unwrap().created);
    let which = ShowDefinition { name: "mine".into(), version: None };
    assert_eq!(ann.definition(&which).await.unwrap().name, "mine");

    // An observer looks at everything and changes nothing.
    let eye = house.client("observer.eye", "acme", "eye").await;
    assert_eq!(eye.query(&Query::Tree).await.unwrap().len(), 2);
    let node = house.nodes[1].id().clone();
    assert_eq!(eye.query_node(&node, &Query::Health).await.unwrap().node, node);
    let mut live = house.raw("observer.eye").await.nats.subscribe("skald.evt.>").await.unwrap();
    ann.start(&start("telling", "seen", json!({ "title": 1 }))).await.unwrap();
    assert_eq!(
        tokio::time::timeout(PATIENCE, live.next()).await.unwrap().unwrap().subject.as_str(),
        "skald.evt.acme.StoryTold"
    );

    // A node that goes leaves its shards to the other.
    let mut house = house;
    house.nodes.remove(0).drain().await.unwrap();
    ann.start(&start("signalled", "after", json!({ "ms": 0 }))).await.unwrap();
    let signal = Signal { key: saga_key("after"), name: "go".into(), payload: json!(1), id: Some("s".into()) };
    ann.signal(&signal).await.unwrap();
    assert_eq!(ann.wait(&saga_key("after"), PATIENCE).await.unwrap().status, Status::Succeeded);
    for node in house.nodes.drain(..) {
        node.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_do_nothing_is_told_so_and_does_not_wait() {
    let house = House::build(1, &[]).await;
    let begun = std::time::Instant::now();
    // Credentials of one, words of another.
    let cases = [("acme.ann", "acme", "bob"), ("acme.ann", "evil", "ann"), ("observer.eye", "acme", "ann")];
    for (user, tenant, principal) in cases {
        let client = house.client(user, tenant, principal).await;
        let error = client.start(&start("telling", "x", json!({}))).await.unwrap_err();
        let subject = format!("skald.cmd.{tenant}.{principal}.saga.start");
        // Whichever the server refuses first: the words, or the inbox for the answer.
        let inbox = format!("_INBOX.{tenant}.{principal}.");
        let told = error.to_string();
        let named = told.contains(&subject) || told.contains(&inbox);
        assert!(matches!(error, Error::NotAllowed { .. }) && named, "{error}");
        let mend = error.mend().unwrap();
        assert!(mend.contains(&format!("--user {tenant}:{principal}")), "{mend}");
        assert!(client.events(Since::Now, None).await.is_err());
    }
    let ann = house.client("acme.ann", "acme", "ann").await;
    assert!(matches!(ann.query(&Query::Tree).await, Err(Error::NotAllowed { .. })), "the tree is all tenants'");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let started = ann.start(&start("telling", "x", json!({ "title": 1 }))).await.unwrap();
    assert!(matches!(started, StartAnswer::Started(started) if started.created));
    let unknown = ann.describe(&saga_key("never-was")).await.unwrap_err();
    assert_eq!(unknown.code(), Some(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_speaks_as_its_credentials_say() {
    let house = House::build(1, &[]).await;
    let skald = async |user: &str, args: &[&str]| house.skald(user, args).await;
    let (code, started) = skald("evil.eve", &["start", "telling", "--key", "mine", "--input", "{\"title\": 1}"]).await;
    assert_eq!((code, &started["saga"]), (Some(0), &json!("evil/mine")), "{started}");
    let (code, refused) = skald("evil.eve", &["--tenant", "acme", "list"]).await;
    assert_eq!((code, &refused["error"]["code"]), (Some(1), &json!("forbidden")), "{refused}");
    assert!(refused["error"]["mend"].as_str().unwrap().contains("--user acme:eve"), "{refused}");
    let (code, tree) = skald("observer.eye", &["tree", "--cluster"]).await;
    assert_eq!(code, Some(0), "{tree}");
    // What only nodes may ask, the doctor leaves to them.
    let (_, findings) = skald("observer.eye", &["doctor"]).await;
    let of =
        |check: &str| findings.as_array().unwrap().iter().find(|it| it["check"] == check).cloned().unwrap_or_default();
    for check in ["jetstream", "dead letters"] {
        assert_eq!(of(check)["verdict"], "ok", "{findings}");
        assert!(of(check)["found"].as_str().unwrap().starts_with("not asked"), "{findings}");
    }
    assert_eq!(of("shards")["verdict"], "ok", "{findings}");
}
