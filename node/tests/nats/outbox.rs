//! Events, dead letters, and activities on the bus.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{One, one};
use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use node::nats::{Bus, BusActivities, EventReader, NO_WORKER, OutboxConfig, StreamOutbox, SyncMode, sync_mode};
use protocol::command::ReadEvents;
use protocol::{Envelope, EventId, Principal, Tenant, Time, TraceId, activity};
use serde_json::json;
use supervisor::activity::{Attempt, Heartbeat};
use supervisor::ports::{Outbox, RemoteActivities, RemoteAnswer};

fn event(id: &str) -> Envelope {
    Envelope {
        event_id: EventId::new(id).unwrap(),
        event_type: "AssetInstalled".into(),
        tenant_id: Tenant::new("acme").unwrap(),
        project_id: None,
        module_id: None,
        trace_id: TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
        correlation_id: "acme/install-7".into(),
        causation_id: "cmd-1".into(),
        causes: 0,
        sequence: 0,
        occurred_at: Time::from_micros(1_700_000_000_000_000),
        payload: json!({"asset": "a-1"}),
    }
}

#[tokio::test]
async fn an_event_is_published_once_and_other_tools_can_read_it() {
    let One { bus, server, dir: _dir } = one().await;
    let outbox = StreamOutbox::open(&bus, &OutboxConfig::default()).await.unwrap();
    outbox.publish(&event("e-1")).await.unwrap();
    outbox.publish(&event("e-1")).await.unwrap();
    let many = (2..100).map(|n| event(&format!("e-{n}"))).collect::<Vec<_>>();
    futures::future::try_join_all(many.iter().map(|it| outbox.publish(it))).await.unwrap();
    let stream = bus.jetstream.get_stream("SKALD_EVENTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 99);
    let first = stream.get_raw_message(1).await.unwrap();
    assert_eq!(first.subject.as_str(), "skald.evt.acme.AssetInstalled");
    let header = |name: &str| first.headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header("ce-id"), "e-1");
    assert_eq!(header("Nats-Msg-Id"), "e-1");
    assert_eq!(header("Content-Type"), "application/json");
    assert_eq!(header("traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-a3ce929d0e0e4736-01");
    assert_eq!(serde_json::from_slice::<Envelope>(&first.payload).unwrap(), event("e-1"));

    outbox.bury("not a tenant", "no trace", "line one\r\nline two", Bytes::from_static(b"\xff\0whole")).await.unwrap();
    let dead = bus.jetstream.get_stream("SKALD_DEAD").await.unwrap().get_raw_message(1).await.unwrap();
    assert_eq!(dead.subject.as_str(), "skald.dead.not=20a=20tenant.no=20trace");
    assert_eq!(dead.payload.as_ref(), b"\xff\0whole");
    assert_eq!(dead.headers.get("Skald-Reason").unwrap().as_str(), "no trace");
    assert_eq!(dead.headers.get("Skald-Why").unwrap().as_str(), "line one  line two");

    assert_eq!(sync_mode(&[server.monitor_url()]).await, SyncMode::Always);
    assert!(matches!(sync_mode(&[]).await, SyncMode::Unknown(_)));
    assert!(matches!(sync_mode(&["http://127.0.0.1:1".into()]).await, SyncMode::Unknown(_)));
}

fn attempt() -> Attempt {
    Attempt {
        saga: "acme/install-7".parse().unwrap(),
        key: "acme/install-7/Prüfen".into(),
        number: 2,
        deadline: None,
        principal: Principal::new("ann").unwrap(),
        trace: TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
        heartbeat_every: Some(Duration::from_secs(5)),
        token: "t-1".into(),
        heartbeat: Heartbeat::default(),
    }
}

/// A worker that answers as the input's field `do` says.
async fn worker(bus: &Bus) {
    let mut asked = bus.client.subscribe("skald.act.acme.license.grant").await.unwrap();
    bus.client.flush().await.unwrap();
    let client = bus.client.clone();
    tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            let input: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let sent = message.headers.clone().unwrap();
            let mut headers = HeaderMap::new();
            let mut body = Bytes::new();
            match input["do"].as_str().unwrap() {
                "echo" => {
                    let all: std::collections::BTreeMap<_, _> =
                        sent.iter().map(|(name, value)| (name.to_string(), value[0].to_string())).collect();
                    body = serde_json::to_vec(&all).unwrap().into();
                }
                "nothing" => {}
                "accept" => headers.insert(activity::STATUS, "accepted"),
                "refuse" => {
                    headers.insert(activity::STATUS, "failed");
                    headers.insert(activity::ERROR, "LicenseDenied");
                    headers.insert(activity::CAUSE, "no seats");
                    headers.insert(activity::KIND, "permanent");
                }
                "stumble" => headers.insert(activity::STATUS, "failed"),
                "service" => {
                    headers.insert("Nats-Service-Error", "overloaded");
                    headers.insert("Nats-Service-Error-Code", "503");
                }
                "mumble" => body = Bytes::from_static(b"{"),
                "silence" => continue,
                other => panic!("{other}"),
            }
            client.publish_with_headers(message.reply.unwrap(), headers, body).await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_worker_on_the_bus_is_asked_and_understood() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let (bus, activities, tenant) = (bus.clone(), BusActivities::new(&bus), Tenant::new("acme").unwrap());
    let ask = |what: &'static str, attempt: Attempt| {
        let (activities, tenant) = (activities.clone(), tenant.clone());
        async move { activities.call(&tenant, "license.grant", &attempt, json!({"do": what})).await }
    };
    let nobody = ask("echo", attempt()).await.unwrap_err();
    assert_eq!((nobody.error.as_str(), nobody.permanent), (NO_WORKER, false));
    assert!(nobody.cause.contains("skald.act.acme.license.grant"), "{nobody}");

    worker(&bus).await;
    let Ok(RemoteAnswer::Done(sent)) = ask("echo", attempt()).await else { panic!("an answer") };
    assert_eq!(sent["Skald-Key"], "acme/install-7/Prüfen");
    assert_eq!(sent["Skald-Attempt"], "2");
    assert_eq!(sent["Skald-Token"], "t-1");
    assert_eq!(sent["Skald-Heartbeat-Seconds"], "5");
    assert_eq!(ask("nothing", attempt()).await, Ok(RemoteAnswer::Done(json!(null))));
    assert_eq!(ask("accept", attempt()).await, Ok(RemoteAnswer::Accepted));
    let failed = |it: Result<RemoteAnswer, supervisor::activity::Failure>| {
        let it = it.unwrap_err();
        (it.error, it.permanent)
    };
    assert_eq!(failed(ask("refuse", attempt()).await), ("LicenseDenied".into(), true));
    assert_eq!(failed(ask("stumble", attempt()).await), ("Transient".into(), false));
    assert_eq!(failed(ask("service", attempt()).await), ("Transient".into(), false));
    assert_eq!(failed(ask("mumble", attempt()).await), ("BadAnswer".into(), false));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
    let soon = Attempt { deadline: Some(Time::from_micros(now + 200_000)), ..attempt() };
    assert_eq!(failed(ask("silence", soon).await), ("States.Timeout".into(), false));
    let past = Attempt { deadline: Some(Time::from_micros(now - 1)), ..attempt() };
    assert_eq!(failed(ask("echo", past).await), ("States.Timeout".into(), false));
}

/// Settings follow what a node of today is told, also on a stream that an older release made.
#[tokio::test]
async fn a_stream_of_dead_letters_that_is_there_takes_the_settings() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let first = OutboxConfig::default();
    StreamOutbox::open(&bus, &first).await.unwrap();
    let made = bus.jetstream.get_stream("SKALD_DEAD").await.unwrap().cached_info().config.clone();
    let older = async_nats::jetstream::stream::Config { max_messages_per_subject: -1, max_bytes: -1, ..made };
    bus.jetstream.update_stream(&older).await.unwrap();
    StreamOutbox::open(&bus, &first).await.unwrap();
    let mut second = first.clone();
    (second.letters.per_reason, second.letters.stream_bytes) = (500, 10_000_000);
    StreamOutbox::open(&bus, &second).await.unwrap();
    let kept = bus.jetstream.get_stream("SKALD_DEAD").await.unwrap().cached_info().config.clone();
    assert_eq!((kept.max_messages_per_subject, kept.max_bytes), (500, 10_000_000));
}

/// Whoever asks for what is after the end of all numbers gets nothing, and not the beginning.
#[tokio::test]
async fn there_are_no_events_after_the_last_number_or_the_last_moment() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let outbox = StreamOutbox::open(&bus, &OutboxConfig::default()).await.unwrap();
    outbox.publish(&event("e-1")).await.unwrap();
    let (reader, tenant) = (EventReader::new(&bus), Tenant::new("acme").unwrap());
    let late = "9999-12-31T23:59:59Z".parse().unwrap();
    for asked in [
        ReadEvents { after: Some(u64::MAX), ..ReadEvents::default() },
        ReadEvents { since: Some(late), ..ReadEvents::default() },
    ] {
        assert!(reader.page(&tenant, &asked).await.unwrap().events.is_empty(), "{asked:?}");
    }
    assert_eq!(reader.page(&tenant, &ReadEvents::default()).await.unwrap().events.len(), 1);
}
