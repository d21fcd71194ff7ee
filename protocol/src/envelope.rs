//! The canonical event envelope (M006, W003): every event and dead letter travels in it.

use serde::{Deserialize, Serialize};

use crate::{EventId, Tenant, Time, TraceId, Value};

/// One event. Without `eventId`, `tenantId` or `traceId` it is refused and kept as a dead letter.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Identity; consumers drop what they have seen.
    pub event_id: EventId,
    /// `NounVerbPastTense`.
    pub event_type: String,
    /// Whose event it is.
    pub tenant_id: Tenant,
    /// Set on events that belong to a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Set on events that belong to a module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// The same from the first command to the last event.
    pub trace_id: TraceId,
    /// The saga (or conversation) the event belongs to.
    pub correlation_id: String,
    /// The id of what caused it.
    pub causation_id: String,
    /// How many events led to it, one after the other: 0 for what a person, a timer or a program
    /// outside began, and in what older releases wrote. Workers stop a row that is too long (H05).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub causes: u32,
    /// Its number among the events of its saga, counted from 1 without a gap: whoever reads a saga's events
    /// sees by it what is missing or came twice. 0 for events of no saga, and of older releases.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sequence: u64,
    /// When it happened.
    pub occurred_at: Time,
    /// What happened. Fields are only ever added.
    pub payload: Value,
}

/// For fields that are left out while they say nothing.
pub fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Header names under which an envelope's fields also travel, so that CloudEvents readers and
/// tracers understand it without decoding the body.
/// Source: CloudEvents NATS protocol binding 1.0.2 (`ce-` prefix), W3C Trace Context.
pub mod header {
    /// CloudEvents version, always "1.0".
    pub const SPEC_VERSION: &str = "ce-specversion";
    /// The event's id.
    pub const ID: &str = "ce-id";
    /// The event's type.
    pub const TYPE: &str = "ce-type";
    /// `skald/<tenant>/<correlation>`.
    pub const SOURCE: &str = "ce-source";
    /// When it happened, RFC 3339.
    pub const TIME: &str = "ce-time";
    /// Skald's extension attribute for the tenant.
    pub const TENANT: &str = "ce-tenantid";
    /// Skald's extension attribute for the correlation.
    pub const CORRELATION: &str = "ce-correlationid";
    /// Skald's extension attribute for the cause.
    pub const CAUSATION: &str = "ce-causationid";
    /// The event's number in its saga, by the name of CloudEvents' extension `sequence`.
    pub const SEQUENCE: &str = "ce-sequence";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
    /// Which shard published it, and the frame of that shard's journal that holds its record:
    /// `2/8812`. Later events of a shard have later frames.
    pub const POSITION: &str = "Skald-Position";
    /// The event's number among all of its shard, counted from 1 without a gap: two events with the
    /// same are one. A number that never comes is a dead letter (`event-refused`), or was an event of a
    /// saga that cannot be read.
    pub const NUMBER: &str = "Skald-Number";
}

impl Envelope {
    /// The headers that go with the body, as name and value.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (header::SPEC_VERSION, "1.0".to_owned()),
            (header::ID, self.event_id.to_string()),
            (header::TYPE, self.event_type.clone()),
            (header::SOURCE, format!("skald/{}/{}", self.tenant_id, self.correlation_id)),
            (header::TIME, self.occurred_at.to_string()),
            (header::TENANT, self.tenant_id.to_string()),
            (header::CORRELATION, self.correlation_id.clone()),
            (header::CAUSATION, self.causation_id.clone()),
        ];
        if self.sequence > 0 {
            headers.push((header::SEQUENCE, self.sequence.to_string()));
        }
        if let Some(parent) = traceparent(&self.trace_id) {
            headers.push((header::TRACEPARENT, parent));
        }
        headers
    }
}

/// The W3C `traceparent` for a trace id of 32 hexadecimal digits; the span is derived from it, so
/// the same trace gives the same parent. `None` for other ids.
pub fn traceparent(trace: &TraceId) -> Option<String> {
    let id = trace.as_str();
    let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| format!("00-{}-{}-01", id.to_ascii_lowercase(), id[16..].to_ascii_lowercase()))
}

/// The trace id inside a W3C `traceparent`, if it is one.
pub fn trace_of(traceparent: &str) -> Option<TraceId> {
    let mut parts = traceparent.split('-');
    let (_version, id) = (parts.next()?, parts.next()?);
    let usable = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0');
    if usable { TraceId::new(id.to_ascii_lowercase()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_without_an_identity_is_refused() {
        let whole = serde_json::json!({
            "eventId": "evt-1", "eventType": "AssetInstalled", "tenantId": "acme", "traceId": "t1",
            "correlationId": "acme/install-7", "causationId": "cmd-1",
            "occurredAt": "2026-01-01T00:00:00Z", "payload": {}
        });
        assert!(serde_json::from_value::<Envelope>(whole.clone()).is_ok());
        for field in ["eventId", "tenantId", "traceId"] {
            let mut partial = whole.clone();
            partial.as_object_mut().unwrap().remove(field);
            let error = serde_json::from_value::<Envelope>(partial).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn what_led_to_an_event_travels_and_an_old_event_has_nothing_before_it() {
        let mut text = serde_json::json!({
            "eventId": "evt-1", "eventType": "AssetInstalled", "tenantId": "acme", "traceId": "t1",
            "correlationId": "acme/install-7", "causationId": "cmd-1",
            "occurredAt": "2026-01-01T00:00:00Z", "payload": {}
        });
        let old: Envelope = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(old.causes, 0);
        assert_eq!(serde_json::to_value(&old).unwrap(), text, "and is written as before");
        text["causes"] = 3.into();
        assert_eq!(serde_json::from_value::<Envelope>(text).unwrap().causes, 3);
    }

    #[test]
    fn traceparent_round_trips() {
        let trace = trace_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(trace_of(&traceparent(&trace).unwrap()).unwrap(), trace);
        assert_eq!(trace_of("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
        assert_eq!(traceparent(&TraceId::new("mine").unwrap()), None);
    }
}
