//! What a saga says to the world: one event, whole, once, in the trace of the command.

use async_nats::HeaderMap;
use async_nats::jetstream;
use node::client::{EVENT_STREAM, Since};
use scenarios::stage::start;
use serde_json::{Value, json};

use super::STAGE;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn an_event_carries_the_envelope_and_the_trace_of_the_command_and_comes_once() {
    STAGE.play(async |stage| {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01").as_str());
        headers.insert("Nats-Msg-Id", "cmd-of-the-story");
        let body = serde_json::to_vec(&start("telling", "told", json!({ "title": "Skald" }))).unwrap();
        let request = async_nats::Request::new().headers(headers).payload(body.into());
        stage.client.nats().send_request("skald.cmd.acme.ann.saga.start", request).await.unwrap();
        let view = stage.end("told").await;
        assert_eq!(view.trace_id.as_str(), TRACE);

        let mut tail = stage.client.events(Since::Beginning, Some("StoryTold")).await.unwrap();
        let event = loop {
            let event = tail.next().await.unwrap().unwrap();
            if event.correlation_id == "acme/told" {
                break event;
            }
        };
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            json!({
                "eventId": event.event_id, "eventType": "StoryTold", "tenantId": "acme", "traceId": TRACE,
                "correlationId": "acme/told", "causationId": event.causation_id, "sequence": 1,
                "occurredAt": event.occurred_at,
                "payload": { "title": "Skald" },
            })
        );

        let stream = jetstream::new(stage.client.nats().clone()).get_stream(EVENT_STREAM).await.unwrap();
        // Other stories tell theirs on the same subject.
        let mut copies = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            if String::from_utf8_lossy(&message.payload).contains("acme/told") {
                copies.push(message);
            }
        }
        assert_eq!(copies.len(), 1, "once");
        let stored = copies.remove(0);
        let header = |name: &str| stored.headers.get(name).map(ToString::to_string).unwrap_or_default();
        assert_eq!(header("Nats-Msg-Id"), event.event_id.to_string(), "the bus knows it by its id");
        assert_eq!(header("ce-id"), event.event_id.to_string());
        assert_eq!((header("ce-specversion"), header("ce-type")), ("1.0".into(), "StoryTold".into()));
        assert_eq!((header("ce-source"), header("ce-tenantid")), ("skald/acme/acme/told".into(), "acme".into()));
        assert_eq!(header("ce-causationid"), event.causation_id);
        assert!(header("traceparent").starts_with(&format!("00-{TRACE}-")), "{}", header("traceparent"));
        let body: Value = serde_json::from_slice(&stored.payload).unwrap();
        assert_eq!(body, serde_json::to_value(&event).unwrap());
    });
}
