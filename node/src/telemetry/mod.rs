//! Logs, traces and figures of one process.
//!
//! Logs go to standard error, so that standard output stays what a command answers. Traces leave
//! only when a collector is named. Spans are made where the work is; here is only where they go.

mod lines;
mod metrics;
mod observer;
mod otlp;

use std::io::IsTerminal as _;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceState};
use protocol::TraceId;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::{LogFormat, Telemetry};

pub use metrics::Metrics;
pub use observer::{Observed, Troubles};

/// The spans that make up a trace, whatever is logged: commands, attempts and events.
const TRACED: &str = "warn,node=debug,supervisor=debug";

/// Flushes what is still to be sent when it is dropped; keep it until the process ends.
#[must_use = "traces are flushed when the guard is dropped"]
pub struct Guard {
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            eprintln!("skald: the last traces could not be sent: {error}");
        }
    }
}

/// Sends logs to standard error and, when a collector is named, traces to it. Call it once, inside
/// the tokio runtime. `service` names this process in traces (the node's name).
pub fn init(settings: &Telemetry, service: &str) -> anyhow::Result<Guard> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| settings.log.clone());
    let filter = without_actor_spans(filter);
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| anyhow::anyhow!("telemetry.log: {filter:?} is not a filter: {error}"))?;
    let provider = match &settings.otlp_endpoint {
        Some(endpoint) => Some(otlp::provider(endpoint, service, settings.sample_ratio)?),
        None => None,
    };
    match &provider {
        Some(provider) => {
            let traces = otlp::layer(provider).with_filter(EnvFilter::new(TRACED));
            let lines = lines(settings.format).with_filter(filter);
            tracing_subscriber::registry().with(lines).with(traces).try_init()?;
        }
        // One filter for all: what it refuses is not even made. A filter for each layer, and a layer
        // that is absent, would make every span of every actor.
        None => tracing_subscriber::registry().with(filter).with(lines(settings.format)).try_init()?,
    }
    Ok(Guard { provider })
}

/// Log lines on standard error.
fn lines<S>(format: LogFormat) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    if human {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines::human(std::io::stderr, colours)
    } else {
        lines::objects(std::io::stderr)
    }
}

/// ractor opens two spans at level `info` for every actor, with its id as text, and enters one at
/// every poll: a quarter of what a busy node computes, for a number that nobody looks up. Ours name
/// the saga and the state. A filter that names ractor itself is left as it is.
fn without_actor_spans(filter: String) -> String {
    if filter.contains("ractor") { filter } else { format!("ractor=warn,{filter}") }
}

/// Makes `span` part of `trace`, so that everything from the first command to the last event is
/// one trace. A trace id that is not a W3C one stays a field of the span and nothing else.
pub fn set_parent(span: &tracing::Span, trace: &TraceId) {
    if let Some(parent) = remote(trace) {
        // Without a collector there is no layer to tell, and nothing is lost.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }
}

/// The span context that stands for the trace as a whole: its span id is derived from the trace id,
/// as in the `traceparent` that events carry, so every node names the same parent.
fn remote(trace: &TraceId) -> Option<SpanContext> {
    let parent = protocol::envelope::traceparent(trace)?;
    let mut parts = parent.split('-').skip(1);
    let trace = opentelemetry::TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_joins_the_trace_of_its_saga() {
        let trace = TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        let context = remote(&trace).unwrap();
        assert_eq!(context.trace_id().to_string(), trace.as_str());
        assert!(context.is_remote() && context.is_sampled());
        assert!(remote(&TraceId::new("mine").unwrap()).is_none());
    }

    #[test]
    fn a_bad_filter_is_named() {
        let settings = Telemetry { log: "info,=,".into(), ..Telemetry::default() };
        if std::env::var_os("RUST_LOG").is_none() {
            let said = init(&settings, "n1").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains("telemetry.log"), "{said}");
        }
    }
}
