//! The events of shards in the stream: each with its place, looked for when it may be there already,
//! and buried when it can never be there.

use std::time::{Duration, UNIX_EPOCH};

use async_nats::HeaderMap;
use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_trait::async_trait;
use bytes::Bytes;
use protocol::envelope::header::{NUMBER, POSITION};
use protocol::text::{beginning, shortened};
use protocol::{Envelope, EventId, ShardId, Time, subjects};
use supervisor::ports::{EVENT_REFUSED, Events, Held, Place, SendError, Unavailable};

use super::connect::chain;
use super::names::one_line;
use super::outbox::{BYTES, DIGEST, EVENTS, REASON, StreamOutbox, WHY, WHY_MAX_BYTES, written};
use super::publish::{Fault, publish};
use super::scan::Scan;

/// How much is kept of an event that is too large to be a dead letter either.
const HEAD_BYTES: usize = 16 * 1024;
/// Room for the headers of a dead letter.
const HEADERS_BYTES: usize = 4 * 1024;
/// How wrong the clocks of two nodes may be where the stream is searched by time: it is read from
/// that much earlier.
const CLOCKS_APART: Duration = Duration::from_secs(600);

#[async_trait]
impl Events for StreamOutbox {
    async fn say(&self, event: &Envelope, place: &Place) -> Result<u64, SendError> {
        // What waited in the client for a connection would go out long after we were told that it did
        // not, and perhaps after the stream forgot that it has it.
        if self.bus.client.connection_state() != State::Connected {
            return Err(Unavailable("NATS cannot be reached".into()).into());
        }
        let (subject, mut headers, body) = written(event);
        for (name, value) in placed(place) {
            headers.insert(name, value);
        }
        self.sent(subject, headers, body).await
    }

    fn window(&self) -> Duration {
        self.window
    }

    async fn held(&self, shard: ShardId, after: u64, since: Time) -> Result<Held, Unavailable> {
        let stream = self.bus.jetstream.get_stream(EVENTS).await.map_err(|error| Unavailable(chain(&error)))?;
        let last = stream.cached_info().state.last_sequence;
        if last == after {
            return Ok(Held { events: Vec::new(), read_to: last });
        }
        // A stream that was made anew counts from the beginning.
        let from = if after == 0 || after > last {
            let micros = u64::try_from(since.as_micros()).unwrap_or(0);
            let since = (UNIX_EPOCH + Duration::from_micros(micros)).checked_sub(CLOCKS_APART).unwrap_or(UNIX_EPOCH);
            DeliverPolicy::ByStartTime { start_time: since.into() }
        } else {
            DeliverPolicy::ByStartSequence { start_sequence: after + 1 }
        };
        let mut scan = Scan::open(&self.bus, EVENTS, subjects::EVENTS, from, true).await?;
        let mut held = Held { events: Vec::new(), read_to: last };
        while let Some(item) = scan.next(last).await? {
            let header = |name: &str| item.headers.get(name).map(|value| value.as_str());
            let place = header(POSITION).zip(header(NUMBER)).and_then(|(at, number)| Place::read(at, number));
            // Older releases gave events no place.
            let ours = place.is_none_or(|place| place.shard == shard);
            let id = header(NATS_MESSAGE_ID.as_ref()).and_then(|id| EventId::new(id).ok());
            held.events.extend(id.filter(|_| ours).map(|id| (id, item.sequence)));
        }
        Ok(held)
    }

    async fn bury(&self, event: &Envelope, place: &Place, why: &str) -> Result<(), SendError> {
        let (_, mut headers, whole) = written(event);
        // The letter is no copy of the event, which is not in the stream.
        headers.insert(NATS_MESSAGE_ID, format!("{}.buried", event.event_id));
        for (name, value) in placed(place) {
            headers.insert(name, value);
        }
        headers.insert(REASON, EVENT_REFUSED);
        headers.insert(WHY, one_line(&shortened(why, WHY_MAX_BYTES)));
        let subject = subjects::dead(event.tenant_id.as_str(), EVENT_REFUSED);
        let room = self.bus.max_payload().saturating_sub(HEADERS_BYTES);
        if whole.len() <= room {
            match self.sent(subject.clone(), headers.clone(), whole.clone()).await {
                Ok(_) => return Ok(()),
                Err(error @ SendError::Unavailable(_)) => return Err(error),
                // The stream of dead letters takes less than the bus.
                Err(SendError::Refused(_)) => {}
            }
        }
        headers.insert(BYTES, whole.len().to_string());
        headers.insert(DIGEST, format!("sha256:{}", self.letters.digest(whole.clone()).await));
        let text = String::from_utf8_lossy(&whole);
        let head = Bytes::copy_from_slice(beginning(&text, HEAD_BYTES.min(room)).as_bytes());
        self.sent(subject, headers, head).await.map(drop)
    }
}

impl StreamOutbox {
    async fn sent(&self, subject: String, headers: HeaderMap, body: Bytes) -> Result<u64, SendError> {
        match publish(&self.bus, subject, headers, body, self.bus.request_within).await {
            Ok(ack) => Ok(ack.sequence),
            Err(Fault::Never(why)) => Err(SendError::Refused(why)),
            Err(fault @ (Fault::WrongLast | Fault::Undecided(_) | Fault::Refused(_))) => {
                Err(Unavailable(fault.to_string()).into())
            }
        }
    }
}

fn placed(place: &Place) -> [(&'static str, String); 2] {
    [(POSITION, place.written()), (NUMBER, place.number.to_string())]
}
