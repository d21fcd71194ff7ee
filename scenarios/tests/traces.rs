//! One trace from the command to the last event, as a collector sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::HeaderMap;
use node::config::Telemetry;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use scenarios::activities;
use scenarios::cluster::{TestCluster, until};
use scenarios::ledger::Ledger;
use serde_json::json;

const STORY: &str = r#"
name: traced
definition:
  StartAt: One
  States:
    One: { Type: Task, Resource: activity:ledger.write, Arguments: { step: one }, Compensate: none, Next: Told }
    Told: { Type: Task, Resource: event:OneDone, Arguments: { step: one }, End: true }
"#;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Names of the spans that arrived, by trace.
type Seen = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// An OTLP collector that remembers names and traces.
async fn collector() -> (String, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let take = move |body: axum::body::Bytes| async move {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let spans = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        for span in spans.flat_map(|scope| scope.spans) {
            let trace: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
            kept.lock().unwrap().entry(trace).or_default().push(span.name);
        }
    };
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn command_attempt_and_event_are_one_trace() {
    let (endpoint, seen) = collector().await;
    let settings = Telemetry { otlp_endpoint: Some(endpoint), log: "warn".into(), ..Telemetry::default() };
    let guard = node::telemetry::init(&settings, "n0").unwrap();
    let ledger = |dir: &Path| activities::all(&Ledger::open(&dir.join("ledger")).unwrap());
    let cluster = TestCluster::start(1, ledger, &[STORY]).await.unwrap();
    let client = cluster.client().await.unwrap();

    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01").as_str());
    let body = json!({ "definition": "traced", "key": "traced-1", "input": {}, "waitMs": 10_000 }).to_string();
    let subject = "skald.cmd.acme.ann.saga.start";
    let answer = client.nats().request_with_headers(subject, headers, body.into()).await.unwrap();
    assert!(answer.payload.windows(9).any(|part| part == b"succeeded"), "{:?}", answer.payload);

    until(Duration::from_secs(30), "the whole trace is collected", || async {
        let seen = seen.lock().unwrap();
        let names = seen.get(TRACE).cloned().unwrap_or_default();
        ["command", "attempt", "event"].iter().all(|name| names.iter().any(|found| found == name))
    })
    .await;
    drop(guard);
}
