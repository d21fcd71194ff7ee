//! What a worker says, under an id that hangs on what it is about and not on the run: whoever says it
//! again, after a crash or on another node, says the same event.

use protocol::{Envelope, Tenant, Value};
use supervisor::activity::Failure;
use supervisor::worker::Run;

use crate::runtime::control::desk::Desk;
use crate::runtime::records::events::event_id;

/// The event of a loop that does the same again and again without effect, and of a rotation that
/// does not get on, as of a row of events that turns in a circle: people should look.
pub use supervisor::worker::ALARM;

impl Desk {
    /// Says it to `tenant`, with the trace, correlation and cause of `run` (W076).
    pub(in crate::runtime) async fn tell(
        &self,
        run: &Run,
        tenant: &Tenant,
        event_type: &str,
        about: &[&str],
        payload: Value,
    ) -> Result<(), Failure> {
        let event = Envelope {
            event_id: event_id(event_type, about, 1)?,
            event_type: event_type.to_owned(),
            tenant_id: tenant.clone(),
            project_id: None,
            module_id: None,
            trace_id: run.trace.clone(),
            correlation_id: run.correlation.clone(),
            causation_id: run.cause.clone(),
            causes: run.causes,
            sequence: 0,
            occurred_at: run.now(),
            payload,
        };
        let told = self.ports.outbox.publish(&event).await;
        told.map_err(|error| Failure::transient("telling what a worker found", error))
    }
}
