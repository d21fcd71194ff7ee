//! Events of the runtime itself: what happened to what it stands on. They belong to no tenant's saga,
//! so they are the tenant [`OWN`]'s, whom observers hear.

use protocol::{Envelope, EventId, Tenant, Time, TraceId, Value};
use uuid::Uuid;

/// Whose the runtime's own events are.
pub const OWN: &str = "skald";

/// An event of the runtime's own; `random` makes its ids.
///
/// # Panics
/// Never: hexadecimal digits are ids.
pub fn own_event(event_type: &str, about: String, payload: Value, at: Time, random: (u64, u64)) -> Envelope {
    let id = Uuid::from_u64_pair(random.0, random.1).simple().to_string();
    Envelope {
        event_id: EventId::new(format!("own-{id}")).expect("hexadecimal digits are an event id"),
        event_type: event_type.to_owned(),
        tenant_id: Tenant::new(OWN).expect("letters are a tenant"),
        project_id: None,
        module_id: None,
        trace_id: TraceId::new(id).expect("32 hexadecimal digits are a trace"),
        correlation_id: about.clone(),
        causation_id: about,
        causes: 0,
        sequence: 0,
        occurred_at: at,
        payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_event_can_be_sent() {
        let event = own_event("ShardStopped", "shard-1".into(), serde_json::json!({}), Time::from_micros(0), (0, 1));
        assert_eq!((event.tenant_id.as_str(), event.event_type.as_str()), ("skald", "ShardStopped"));
        assert!(event.event_id.as_str().starts_with("own-0000"), "{}", event.event_id);
    }
}
