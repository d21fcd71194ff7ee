//! Workers that wake each other, and never end: the row of their events is stopped and told (H05).

use std::sync::Arc;

use async_trait::async_trait;
use node::client::{Client, Since};
use protocol::codec::Format;
use protocol::command::{Deploy, ListWorkers, Routed, name};
use protocol::worker::WorkerStatus;
use protocol::{Envelope, Environment, Tenant, Time, WorkerKind};
use scenarios::cluster::{TestCluster, until};
use scenarios::stage::{PATIENCE, start};
use serde_json::json;
use supervisor::ports::{Environments, Unavailable};
use supervisor::worker::{ALARM, CAUSES_MAX, Failure, Report, Rhythm, Run, Worker};

/// A saga that begins it.
const SERVE: &str = "
name: serve
definition:
  StartAt: Pinged
  States:
    Pinged: { Type: Task, Resource: event:Pinged, End: true }
";

/// Answers what one says with what wakes the other.
struct Player {
    kind: &'static str,
    hears: [&'static str; 1],
    says: &'static str,
}

#[async_trait]
impl Worker for Player {
    fn kind(&self) -> &str {
        self.kind
    }

    fn rhythm(&self) -> Rhythm {
        Rhythm::on_events()
    }

    fn triggers(&self) -> &[&str] {
        &self.hears
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        run.publish(self.says, "ball", json!({})).await?;
        Ok(Report::changed("the ball", "played it back", "it came"))
    }
}

struct Table;

#[async_trait]
impl Environments for Table {
    async fn of(&self, _: &WorkerKind) -> Result<Vec<(Tenant, Environment)>, Unavailable> {
        Ok(vec![(Tenant::new("acme").unwrap(), Environment::new("table").unwrap())])
    }
}

/// All that is said of one saga, up to the alarm.
async fn said(client: &Client, saga: &str) -> Vec<Envelope> {
    let mut tail = client.events(Since::Beginning, None).await.unwrap();
    let mut events: Vec<Envelope> = Vec::new();
    while events.last().is_none_or(|event| event.event_type != ALARM) {
        let next = tokio::time::timeout(PATIENCE, tail.next()).await.expect("an alarm in the end").unwrap().unwrap();
        if next.correlation_id == saga {
            events.push(next);
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_wake_each_other_are_stopped_and_people_are_told() {
    let make = |_| {
        let player = |kind, hears, says| Arc::new(Player { kind, hears: [hears], says }) as Arc<dyn Worker>;
        let players = vec![player("ping", "Ponged", "Pinged"), player("pong", "Pinged", "Ponged")];
        (players, Arc::new(Table) as Arc<dyn Environments>)
    };
    // One node: an event that meets a worker on its way to another one wakes nobody, and the row ends.
    let cluster = TestCluster::of_workers(1, make).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.deploy(&Deploy { source: SERVE.into(), file: None }).await.unwrap();
    until(PATIENCE, "both players are there", || async {
        let listed = client.workers(&ListWorkers::default()).await.map(|listed| listed.workers).unwrap_or_default();
        listed.len() == 2 && listed.iter().all(|worker| worker.status == WorkerStatus::Idle)
    })
    .await;
    client.start(&start("serve", "first", json!({}))).await.unwrap();
    let events = said(&client, "acme/first").await;
    let causes: Vec<u32> = events.iter().map(|event| event.causes).collect();
    assert_eq!(causes, (0..=CAUSES_MAX).collect::<Vec<_>>(), "twelve, and the alarm");
    let (alarm, last) = (&events[events.len() - 1], &events[events.len() - 2]);
    assert_eq!(
        (alarm.causation_id.as_str(), &alarm.payload["environmentId"]),
        (last.event_id.as_str(), &json!("table"))
    );
    let why = alarm.payload["why"].as_str().unwrap();
    assert!(why.contains("12 events") && why.contains("circle"), "{why}");

    // A saga that a worker starts stands in the row of the worker.
    let routed = Routed {
        tenant: Tenant::new("acme").unwrap(),
        principal: "worker".into(),
        command: name::SAGA_START.into(),
        received_at: Time::from_micros(0),
        trace: None,
        id: "cmd".into(),
        causes: CAUSES_MAX - 2,
        hops: 0,
        content_type: Format::Json.content_type().into(),
        body: Format::Json.write(&start("serve", "second", json!({}))),
    };
    cluster.nodes[0].dispatcher().handle(routed).await.unwrap();
    let types: Vec<String> = said(&client, "acme/second").await.into_iter().map(|event| event.event_type).collect();
    assert_eq!(types, ["Pinged", "Ponged", ALARM]);
}
