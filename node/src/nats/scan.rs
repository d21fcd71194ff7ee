//! Reads many messages of a stream quickly, through an ordered push consumer.
//!
//! Such a consumer lives on one server, which in a replicated stream can lag behind the leader. It
//! can therefore say "nothing is left" too early, and never says it when the messages it still
//! counts on were cut meanwhile. Both are settled by asking the leader what comes next.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use bytes::Bytes;
use futures::StreamExt;
use supervisor::ports::Unavailable;
use tokio::sync::OwnedSemaphorePermit;

use super::connect::{Bus, chain};

/// How long a consumer may be silent before the leader is asked whether anything is left.
const SILENCE: Duration = Duration::from_millis(500);

/// A message of a stream.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// Readings at once of each connection; more wait. A server gives a stream a thousand consumers, and some
/// nodes share them.
pub(super) const AT_ONCE: usize = 64;

/// The consumer of a reading. Dropped, it is taken away: a server has few, and keeps one that is forgotten
/// for half a minute.
struct Used {
    bus: Bus,
    stream: String,
    consumer: String,
    /// Its place among those at once; none for what reads as long as the node lives.
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Used {
    fn drop(&mut self) {
        let (bus, stream, consumer) = (self.bus.clone(), self.stream.clone(), self.consumer.clone());
        let place = self.place.take();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Ok(stream) = no_info(&bus, &stream).await {
                // One that is gone already is gone.
                let _ = stream.delete_consumer(&consumer).await;
            }
            drop(place);
        });
    }
}

/// A reading under way.
pub(super) struct Scan {
    used: Used,
    filter: String,
    messages: Ordered,
    /// How many messages the consumer still had when it sent the last one.
    left: u64,
    last: u64,
}

impl Scan {
    /// Starts to read what matches `filter`.
    pub(super) async fn open(
        bus: &Bus,
        stream: &str,
        filter: &str,
        from: DeliverPolicy,
        headers_only: bool,
    ) -> Result<Self, Unavailable> {
        let place = tokio::time::timeout(bus.request_within, bus.scans.clone().acquire_owned()).await;
        // Never closed.
        let place = place.ok().and_then(Result::ok);
        let place = place.ok_or_else(|| Unavailable(format!("reading {stream}: too much is read at once")))?;
        let mut scan = Self::watch(bus, stream, filter, from, headers_only).await?;
        scan.used.place = Some(place);
        Ok(scan)
    }

    /// The same for what goes on as long as the node lives.
    pub(super) async fn watch(
        bus: &Bus,
        stream: &str,
        filter: &str,
        from: DeliverPolicy,
        headers_only: bool,
    ) -> Result<Self, Unavailable> {
        let config = OrderedConfig {
            deliver_subject: bus.client.new_inbox(),
            filter_subject: filter.to_owned(),
            deliver_policy: from,
            headers_only,
            ..OrderedConfig::default()
        };
        let last = match from {
            DeliverPolicy::ByStartSequence { start_sequence } => start_sequence.saturating_sub(1),
            _ => 0,
        };
        let create = bus.jetstream.create_consumer_on_stream(config, stream);
        let consumer = create.await.map_err(|error| Unavailable(format!("reading {stream}: {}", chain(&error))))?;
        let (left, name) = (consumer.cached_info().num_pending, consumer.cached_info().name.clone());
        let messages =
            consumer.messages().await.map_err(|error| Unavailable(format!("reading {stream}: {}", chain(&error))))?;
        let used = Used { bus: bus.clone(), stream: stream.to_owned(), consumer: name, place: None };
        Ok(Self { used, filter: filter.to_owned(), messages, left, last })
    }

    /// How many messages the consumer still had when it last said so.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next message up to sequence `to`. `None` when the leader has no more of them.
    pub(super) async fn next(&mut self, to: u64) -> Result<Option<Item>, Unavailable> {
        if self.last >= to {
            return Ok(None);
        }
        let begun = Instant::now();
        loop {
            if self.left > 0
                && let Ok(item) = tokio::time::timeout(SILENCE, self.wait()).await
            {
                return item.map(|item| (item.sequence <= to).then_some(item));
            }
            // Nothing is left, or nothing comes: the leader knows which.
            match next_of(&self.used.bus, &self.used.stream, &self.filter, self.last + 1).await? {
                None => return Ok(None),
                Some(next) if next.sequence > to => return Ok(None),
                Some(_) => {}
            }
            if begun.elapsed() > self.used.bus.request_within {
                return Err(Unavailable(format!("{} stopped answering after message {}", self.used.stream, self.last)));
            }
            self.left = self.left.max(1);
        }
    }

    /// Waits for the next message, however long it takes; reconnects by itself.
    pub(super) async fn wait(&mut self) -> Result<Item, Unavailable> {
        let ended = |why: String| Unavailable(format!("reading {} ended: {why}", self.used.stream));
        let message = match self.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(ended(chain(&error))),
            None => return Err(ended("the consumer is gone".into())),
        };
        let info = message.info().map_err(|error| ended(error.to_string()))?;
        let sequence = info.stream_sequence;
        self.left = info.pending;
        self.last = sequence;
        let message = message.message;
        Ok(Item {
            subject: message.subject.to_string(),
            sequence,
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
        })
    }
}

/// The last message of `subject`, from the stream's leader. Only a leader that lost a network
/// split without knowing can still answer with something old; whatever is done on that ground is
/// then refused by the expected sequence it carries.
pub(super) async fn last_of(bus: &Bus, stream: &str, subject: &str) -> Result<Option<StreamMessage>, Unavailable> {
    let stream = no_info(bus, stream).await?;
    found(stream.raw_message_builder().last_by_subject(subject).send().await)
}

/// The first message matching `filter` at or after `from`, from the stream's leader.
pub(super) async fn next_of(
    bus: &Bus,
    stream: &str,
    filter: &str,
    from: u64,
) -> Result<Option<StreamMessage>, Unavailable> {
    let stream = no_info(bus, stream).await?;
    found(stream.raw_message_builder().sequence(from).next_by_subject(filter).send().await)
}

/// The message at `sequence`, from the stream's leader.
pub(super) async fn at(bus: &Bus, stream: &str, sequence: u64) -> Result<Option<StreamMessage>, Unavailable> {
    let stream = no_info(bus, stream).await?;
    found(stream.raw_message_builder().sequence(sequence).send().await)
}

/// The message at `sequence` from any replica; `None` also when that replica lags.
pub(super) async fn at_any(bus: &Bus, stream: &str, sequence: u64) -> Option<StreamMessage> {
    no_info(bus, stream).await.ok()?.direct_get(sequence).await.ok()
}

/// Whether there is no such stream at all.
pub(super) async fn is_missing(bus: &Bus, stream: &str) -> Result<bool, Unavailable> {
    Ok(super::streams::look(bus, stream).await?.is_none())
}

async fn no_info(bus: &Bus, name: &str) -> Result<async_nats::jetstream::stream::Stream<()>, Unavailable> {
    bus.jetstream.get_stream_no_info(name).await.map_err(|error| Unavailable(chain(&error)))
}

fn found(
    answer: Result<StreamMessage, async_nats::jetstream::stream::RawMessageError>,
) -> Result<Option<StreamMessage>, Unavailable> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::InvalidSubject
            | LastRawMessageErrorKind::JetStream(_)
            | LastRawMessageErrorKind::Other => Err(Unavailable(chain(&error))),
        },
    }
}
