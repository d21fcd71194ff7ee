//! One event on its way to the event stream, until the stream holds it or it is buried.
//!
//! What the stream drops by itself as a repetition it knows for a while only. So an event that may be
//! in it already, because a former owner had it or because an acknowledgement did not come, is looked
//! for before it is said again. What is refused for good would stand in front of everything that comes
//! after it: it is buried whole, with an alarm, and the relay goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use protocol::Envelope;
use tokio::time::Instant;
use tracing::{Instrument, error, warn};

use super::engine::Engine;
use super::journal::Meters;
use super::ledger::Ledger;
use super::relay::{AGAIN_MAX, AGAIN_MIN};
use crate::ports::{EVENT_REFUSED, Place, SendError};

/// What is known about an event that is to be said.
pub(super) struct Saying {
    pub place: Place,
    pub ledger: Arc<Ledger>,
    pub meters: Arc<Meters>,
    /// It may be in the stream since before this moment, longer ago than the stream remembers.
    pub unsure: Option<Instant>,
}

impl Saying {
    /// Says the event until that is settled. Answers its sequence in the stream, if it has one; nothing
    /// when the shard stops meanwhile.
    pub async fn until_settled(
        mut self,
        engine: &Engine,
        event: &Envelope,
        stopping: impl Fn() -> bool,
    ) -> Option<Option<u64>> {
        let span = tracing::debug_span!("event", name = event.event_type, id = %event.event_id);
        engine.observer.joins(&span, &event.trace_id);
        let (mut again, mut first, mut refused) = (AGAIN_MIN, None, None);
        loop {
            let began = Instant::now();
            let settled = async {
                if let Some(sequence) = self.look(engine, event).await? {
                    return Ok(sequence);
                }
                engine.events.say(event, &self.place).await
            };
            let error = match settled.instrument(span.clone()).await {
                Ok(sequence) => {
                    engine.observer.published();
                    self.ledger.forget(event);
                    return Some(Some(sequence));
                }
                Err(error) => error,
            };
            #[cfg(feature = "simulation")]
            if crate::simulation::planted(crate::simulation::Bug::Relay) {
                return Some(None);
            }
            match &error {
                SendError::Refused(why) => {
                    let since = *refused.get_or_insert(began);
                    if since.elapsed() >= engine.limits.refused_for && self.bury(engine, event, why).await {
                        self.ledger.forget(event);
                        return Some(None);
                    }
                }
                SendError::Unavailable(_) => {
                    refused = None;
                    // The stream remembers it from the first try on, if it came that far.
                    let first = *first.get_or_insert(began);
                    if first.elapsed() >= engine.events.window() / 2 {
                        self.ledger.expect(event);
                        self.unsure = Some(Instant::now() + Duration::from_nanos(1));
                    }
                }
            }
            let Place { shard, position, number } = self.place;
            warn!(%shard, position, number, %error, "event not sent yet, will try again");
            tokio::time::sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
            if stopping() {
                return None;
            }
        }
    }

    /// Where the stream holds the event already.
    async fn look(&mut self, engine: &Engine, event: &Envelope) -> Result<Option<u64>, SendError> {
        let Some(unsure) = self.unsure else { return Ok(None) };
        #[cfg(feature = "simulation")]
        if crate::simulation::planted(crate::simulation::Bug::Resend) {
            return Ok(None);
        }
        Ok(self.ledger.find(&*engine.events, &event.event_id, unsure).await?)
    }

    /// Keeps the event as a dead letter; whether that went well.
    async fn bury(&self, engine: &Engine, event: &Envelope, why: &str) -> bool {
        let Place { shard, position, number } = self.place;
        let why = format!("{why}; it is event {number} of shard {shard}, recorded in its journal at {position}");
        match engine.events.bury(event, &self.place, &why).await {
            Ok(()) => {
                self.meters.buried.fetch_add(1, Relaxed);
                engine.observer.buried(EVENT_REFUSED);
                error!(
                    event = %event.event_id, kind = event.event_type, saga = event.correlation_id, why,
                    "an event is refused for good and lies among the dead letters; the others go on"
                );
                true
            }
            Err(error) => {
                error!(event = %event.event_id, why, %error, "an event is refused for good and cannot be buried either");
                false
            }
        }
    }
}
