//! Everything that a user might try and may not, one line each.

use futures::StreamExt;
use serde_json::json;

use super::{House, Raw};

/// Publishing, as a client or a worker of `acme`.
const PUBLISH: &[(&str, &str)] = &[
    ("speaks as another principal", "skald.cmd.acme.bob.saga.start"),
    ("speaks for another tenant", "skald.cmd.evil.ann.saga.start"),
    ("speaks for a tenant that is none", "skald.cmd.>.ann.saga.start"),
    ("gives a command that is none", "skald.cmd.acme.ann.internal.parcel"),
    ("deploys what all tenants use", "skald.cmd.acme.ann.definition.deploy"),
    ("comes by another tenant's door", "skald.door.7.acme.ann.saga.start"),
    ("comes by its own door as another principal", "skald.door.15.acme.bob.saga.start"),
    ("comes by its own door for another tenant", "skald.door.15.evil.ann.saga.start"),
    ("writes an event", "skald.evt.acme.Made"),
    ("writes the journal", "skald.journal.0"),
    ("asks for work", "skald.act.acme.price.quote"),
    ("writes a dead letter", "skald.dead.acme.forbidden"),
    ("speaks as a node", "skald.node.n0.command"),
    ("asks a node", "skald.node.n0.query"),
    ("asks all nodes", "skald.cluster.query"),
    ("asks a shard", "skald.shard.0"),
    ("takes a lease", "$KV.skald_cluster.lease.0"),
    ("changes a snapshot", "$KV.skald_snapshots.0.x"),
    ("changes a definition", "$KV.skald_definitions.three.1"),
    ("changes what a worker remembers", "$KV.skald_workers.acme.health.prod"),
    ("pauses another tenant's worker", "skald.cmd.evil.ann.worker.pause"),
    ("reads a bucket", "$JS.API.DIRECT.GET.KV_skald_cluster.$KV.skald_cluster.lease.0"),
    ("reads a bucket from its leader", "$JS.API.STREAM.MSG.GET.KV_skald_cluster"),
    ("asks about JetStream", "$JS.API.INFO"),
    ("lists streams", "$JS.API.STREAM.LIST"),
    ("names streams", "$JS.API.STREAM.NAMES"),
    ("looks at a stream", "$JS.API.STREAM.INFO.SKALD_EVENTS"),
    ("makes a stream", "$JS.API.STREAM.CREATE.MINE"),
    ("changes a stream", "$JS.API.STREAM.UPDATE.SKALD_EVENTS"),
    ("deletes a stream", "$JS.API.STREAM.DELETE.SKALD_EVENTS"),
    ("purges a stream", "$JS.API.STREAM.PURGE.SKALD_EVENTS"),
    ("deletes a message", "$JS.API.STREAM.MSG.DELETE.SKALD_DEAD"),
    ("copies a stream away", "$JS.API.STREAM.SNAPSHOT.SKALD_EVENTS"),
    ("reads the journal", "$JS.API.STREAM.MSG.GET.SKALD_JOURNAL_0"),
    ("reads the journal from a replica", "$JS.API.DIRECT.GET.SKALD_JOURNAL_0"),
    ("reads dead letters", "$JS.API.STREAM.MSG.GET.SKALD_DEAD"),
    ("reads an event past the node", "$JS.API.DIRECT.GET.SKALD_EVENTS.skald.evt.acme.Made"),
    ("follows the journal", "$JS.API.CONSUMER.CREATE.SKALD_JOURNAL_0.x.skald.journal.0"),
    ("follows another tenant", "$JS.API.CONSUMER.CREATE.SKALD_EVENTS.x.skald.evt.evil.>"),
    ("follows its own tenant past the node", "$JS.API.CONSUMER.CREATE.SKALD_EVENTS.x.skald.evt.acme.>"),
    ("follows everything", "$JS.API.CONSUMER.CREATE.SKALD_EVENTS.x"),
    ("follows everything, unnamed", "$JS.API.CONSUMER.CREATE.SKALD_EVENTS"),
    ("follows in the old way", "$JS.API.CONSUMER.DURABLE.CREATE.SKALD_EVENTS.x"),
    ("takes another's messages", "$JS.API.CONSUMER.MSG.NEXT.SKALD_EVENTS.x"),
    ("deletes a consumer", "$JS.API.CONSUMER.DELETE.SKALD_EVENTS.x"),
    ("acknowledges for another", "$JS.ACK.SKALD_EVENTS.x.1.1.1.1.1"),
    ("disturbs the flow", "$JS.FC.SKALD_EVENTS.x.1"),
    ("answers for a node", "_INBOX_skald.x.y"),
    ("answers for another", "_INBOX.acme.bob.x"),
    ("asks services", "$SRV.PING"),
    ("looks at the server", "$SYS.REQ.SERVER.PING"),
    ("looks at connections", "$SYS.REQ.ACCOUNT.SKALD.CONNZ"),
];

/// Subscribing.
const SUBSCRIBE: &[(&str, &str)] = &[
    ("hears everything", ">"),
    ("hears all events", "skald.evt.>"),
    ("hears another tenant's events", "skald.evt.evil.>"),
    ("hears a pattern of tenants", "skald.evt.*.Made"),
    ("hears commands", "skald.cmd.>"),
    ("hears its own commands, as a node would", "skald.cmd.acme.ann.saga.start"),
    ("hears its own door", "skald.door.15.acme.ann.>"),
    ("hears the journal", "skald.journal.>"),
    ("hears dead letters", "skald.dead.>"),
    ("hears another tenant's work", "skald.act.evil.>"),
    ("hears nodes", "skald.node.>"),
    ("hears questions", "skald.cluster.query"),
    ("hears buckets", "$KV.>"),
    ("hears JetStream", "$JS.>"),
    ("hears all answers", "_INBOX.>"),
    ("hears another's answers", "_INBOX.acme.bob.>"),
    ("hears another tenant's answers", "_INBOX.evil.eve.>"),
    ("hears answers to nodes", "_INBOX_skald.>"),
    ("hears answers of imports", "_R_.>"),
    ("is a service", "$SRV.PING"),
    ("hears the server", "$SYS.>"),
];

async fn all_refused(raw: &Raw, publish: &[(&str, &str)], subscribe: &[(&str, &str)]) {
    for (what, subject) in publish {
        // What JetStream would answer must not come either.
        let mut answers = raw.nats.subscribe(format!("{}.answers", raw.inbox)).await.unwrap();
        let (subject, reply) = ((*subject).to_owned(), format!("{}.answers", raw.inbox));
        raw.nats.publish_with_reply(subject.clone(), reply, "{}".into()).await.unwrap();
        raw.nats.flush().await.unwrap();
        assert!(raw.told("Publish", &subject).await.is_some(), "{what}: nothing was said about {subject}");
        let answer = tokio::time::timeout(std::time::Duration::from_millis(20), answers.next()).await;
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    for (what, subject) in subscribe {
        for queue in [None, Some("skald")] {
            let subject = (*subject).to_owned();
            let subscribed = match queue {
                None => raw.nats.subscribe(subject.clone()).await,
                Some(queue) => raw.nats.queue_subscribe(subject.clone(), queue.into()).await,
            };
            let _kept = subscribed.unwrap();
            raw.nats.flush().await.unwrap();
            assert!(raw.told("Subscription", &subject).await.is_some(), "{what}: nothing was said about {subject}");
            raw.said.lock().unwrap().clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_refused_by_the_server_and_said() {
    let house = House::build(1, &[]).await;
    let before = (house.messages("SKALD_JOURNAL_0").await, house.messages("SKALD_EVENTS").await);
    all_refused(&house.raw("acme.ann").await, PUBLISH, SUBSCRIBE).await;

    let worker = house.raw("acme.pricing").await;
    let speaks =
        [("starts a saga", "skald.cmd.acme.pricing.saga.start"), ("reads events", "skald.cmd.acme.pricing.event.read")];
    let publish: Vec<_> = PUBLISH.iter().chain(&speaks).copied().collect();
    let hears = [("hears events", "skald.evt.acme.>")];
    let subscribe: Vec<_> = SUBSCRIBE.iter().chain(&hears).copied().collect();
    all_refused(&worker, &publish, &subscribe).await;
    // It may answer what it is asked, and only that.
    worker.nats.publish("_INBOX_skald.guess", "1".into()).await.unwrap();
    assert!(worker.told("Publish", "_INBOX_skald.guess").await.is_some());

    let eye = house.raw("observer.eye").await;
    let asks = ["skald.node.n0.query", "skald.cluster.query"];
    let publish: Vec<_> = PUBLISH.iter().filter(|(_, subject)| !asks.contains(subject)).copied().collect();
    let hears = ["skald.evt.>", "skald.evt.evil.>", "skald.evt.*.Made", "skald.dead.>"];
    let subscribe: Vec<_> = SUBSCRIBE.iter().filter(|(_, subject)| !hears.contains(subject)).copied().collect();
    all_refused(&eye, &publish, &subscribe).await;

    // A node destroys nothing and speaks as nobody.
    let node = house.raw("node").await;
    let destroys = [
        ("deletes a stream", "$JS.API.STREAM.DELETE.SKALD_EVENTS"),
        ("purges a stream", "$JS.API.STREAM.PURGE.SKALD_EVENTS"),
        ("speaks as a person", "skald.cmd.acme.ann.saga.start"),
        ("looks at the server", "$SYS.REQ.SERVER.PING"),
    ];
    all_refused(&node, &destroys, &[("hears everything", ">"), ("hears clients' answers", "_INBOX.>")]).await;
    let after = (house.messages("SKALD_JOURNAL_0").await, house.messages("SKALD_EVENTS").await);
    assert_eq!(before, after, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_to_an_inbox_whatever_whoever_asks_wants() {
    let house = House::build(1, &[]).await;
    let (ann, eye) = (house.raw("acme.ann").await, house.raw("observer.eye").await);
    let before = house.messages("SKALD_JOURNAL_0").await;
    // A node may write the journal, take leases and speak to its peers; with an answer it must not.
    for reply in [
        "skald.journal.0",
        "$KV.skald_cluster.lease.0",
        "skald.node.n0.command",
        "_INBOX_skald.x.1",
        "skald.evt.evil.X",
    ] {
        let body = serde_json::to_vec(&json!({})).unwrap();
        ann.nats.publish_with_reply("skald.cmd.acme.ann.saga.list", reply, body.into()).await.unwrap();
        house.dead("skald.dead.acme.forbidden", &format!("the answer is wanted at {reply}")).await;
        eye.nats.publish_with_reply("skald.cluster.query", reply, "\"health\"".into()).await.unwrap();
    }
    ann.nats.flush().await.unwrap();
    eye.nats.flush().await.unwrap();
    // Whatever was asked before is answered before.
    let client = house.client("observer.eye", "acme", "eye").await;
    client.query(&protocol::query::Query::Health).await.unwrap();
    assert_eq!(house.messages("SKALD_JOURNAL_0").await, before, "nothing came into the journal");
    assert_eq!(house.messages("SKALD_EVENTS").await, 0);
}
