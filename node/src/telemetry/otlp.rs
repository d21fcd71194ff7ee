//! Traces to an OTLP collector over HTTP.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Tracer};
use tracing_subscriber::registry::LookupSpan;

/// A collector that does not answer within this is skipped; traces are not worth a queue.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// A provider that sends to `endpoint` in batches.
pub(super) fn provider(endpoint: &str, service: &str, ratio: f64) -> anyhow::Result<SdkTracerProvider> {
    let client = reqwest::Client::builder().timeout(EXPORT_TIMEOUT).build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(OnRuntime { client, runtime: tokio::runtime::Handle::current() })
        .with_endpoint(traces_url(endpoint))
        .build()
        .with_context(|| format!("telemetry.otlp_endpoint: {endpoint:?} is not usable"))?;
    let resource = Resource::builder()
        .with_service_name("skald")
        .with_attribute(KeyValue::new("service.instance.id", service.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource)
        .build())
}

/// The layer that turns spans into traces.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> tracing_opentelemetry::OpenTelemetryLayer<S, Tracer>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer("skald"))
}

/// Collectors are named by their base address; a full path is taken as it is.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }
}

/// The batch processor sends from a thread of its own, where no runtime is entered; the request is
/// therefore carried over to ours.
#[derive(Debug)]
struct OnRuntime {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let work = async move {
            let request: reqwest::Request = request.map(reqwest::Body::from).try_into()?;
            let answer = client.execute(request).await?.error_for_status()?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = answer.headers().clone();
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        };
        self.runtime.spawn(work).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_its_base_address() {
        assert_eq!(traces_url("http://c:4318"), "http://c:4318/v1/traces");
        assert_eq!(traces_url("http://c:4318/v1/traces/"), "http://c:4318/v1/traces");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_reach_the_collector() {
        use opentelemetry::trace::{Span as _, Tracer as _};
        let (sent, mut received) = tokio::sync::mpsc::channel(8);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().route(
            "/v1/traces",
            axum::routing::post(move |body: Bytes| async move {
                let _ = sent.send(body.len()).await;
            }),
        );
        tokio::spawn(async move { axum::serve(listener, router).await });
        let provider = provider(&format!("http://{address}"), "n1", 1.0).unwrap();
        provider.tracer("test").start("saga").end();
        tokio::task::spawn_blocking(move || provider.shutdown()).await.unwrap().unwrap();
        assert!(received.recv().await.unwrap() > 0);
    }
}
