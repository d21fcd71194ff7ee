//! Events, read for a tenant. Tenants ask a node instead of JetStream: whoever may ask JetStream
//! anything chooses where its answer goes, and the server sends it there with permissions of its own.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use protocol::command::{EventPage, ReadEvents};
use protocol::{Tenant, Value, subjects};
use supervisor::ports::Unavailable;

use super::connect::{Bus, chain};
use super::names::encode;
use super::outbox::EVENTS;
use super::scan::{Scan, next_of};

/// The last moment that a server knows, in microseconds: its nanoseconds have 64 bits.
const SERVER_TIME_MAX_MICROS: u64 = i64::MAX as u64 / 1_000;
/// Events of one page unless fewer are asked for.
const PAGE: usize = 500;
/// How much of the largest message a page may fill, as one part of so many: its JSON is wrapped once
/// more, and one event alone may be as large as a message.
const PART: usize = 4;

/// Reads the stream of events.
#[derive(Clone, Debug)]
pub struct EventReader {
    bus: Bus,
}

impl EventReader {
    /// Reads over `bus`.
    pub fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone() }
    }

    /// One page of `tenant`'s events.
    pub async fn page(&self, tenant: &Tenant, asked: &ReadEvents) -> Result<EventPage, Unavailable> {
        let filter = match asked.event_type.as_deref() {
            Some(event_type) => subjects::event(tenant, &encode(event_type)),
            None => subjects::events_of(tenant),
        };
        let limit = asked.limit.unwrap_or(PAGE).min(PAGE);
        if limit == 0 {
            return Ok(EventPage { after: self.newest().await?, ..EventPage::default() });
        }
        let from = match (asked.after, asked.since) {
            (None, Some(since)) => {
                // The server counts nanoseconds in 64 bits; nothing has happened after their end.
                let since = u64::try_from(since.as_micros()).unwrap_or(0);
                if since > SERVER_TIME_MAX_MICROS {
                    return Ok(EventPage { after: self.newest().await?, ..EventPage::default() });
                }
                let since = std::time::UNIX_EPOCH + Duration::from_micros(since);
                DeliverPolicy::ByStartTime { start_time: since.into() }
            }
            (after, _) => {
                // Nothing new is the usual answer, and asking for it costs the server no consumer.
                let after = after.unwrap_or(0);
                match next_of(&self.bus, EVENTS, &filter, after.saturating_add(1)).await? {
                    None => return Ok(EventPage { after, ..EventPage::default() }),
                    Some(next) => DeliverPolicy::ByStartSequence { start_sequence: next.sequence },
                }
            }
        };
        // Read first: what comes later is for the next page.
        let newest = self.newest().await?;
        let mut scan = Scan::open(&self.bus, EVENTS, &filter, from, false).await?;
        let mut page = EventPage { after: newest, ..EventPage::default() };
        let mut room = self.bus.max_payload() / PART;
        while scan.left() > 0 && page.events.len() < limit {
            let Some(item) = scan.next(u64::MAX).await? else { break };
            let size = item.payload.len();
            if size > room && !page.events.is_empty() {
                page.left = scan.left() + 1;
                return Ok(page);
            }
            room = room.saturating_sub(size);
            page.after = item.sequence;
            page.left = scan.left();
            let text = || Value::String(String::from_utf8_lossy(&item.payload).into_owned());
            page.events.push(serde_json::from_slice(&item.payload).unwrap_or_else(|_| text()));
        }
        Ok(page)
    }

    /// Where the newest event stands, of whichever tenant.
    async fn newest(&self) -> Result<u64, Unavailable> {
        let stream = self.bus.jetstream.get_stream(EVENTS).await.map_err(|error| Unavailable(chain(&error)))?;
        Ok(stream.cached_info().state.last_sequence)
    }
}
