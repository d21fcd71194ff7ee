//! Where events go, and what could not be understood: the streams `SKALD_EVENTS` and `SKALD_DEAD`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::stream::{Config, PersistenceMode};
use async_trait::async_trait;
use bytes::Bytes;
use protocol::codec::{CONTENT_TYPE, Format};
use protocol::text::{identity, shortened};
use protocol::{Envelope, subjects};
use supervisor::ports::{Outbox, Unavailable};

use super::connect::Bus;
use super::letters::{Kept, LetterLimits, Letters};
use super::names::{encode, one_line};
use super::publish::publish;
use super::streams::{Replicas, SetupError, ensure, stream};

/// The stream of events.
pub const EVENTS: &str = "SKALD_EVENTS";
/// The stream of dead letters.
pub const DEAD: &str = "SKALD_DEAD";
/// Header of a dead letter: the short reason, as in its subject.
pub const REASON: &str = "Skald-Reason";
/// Header of a dead letter: the reason for a person.
pub const WHY: &str = "Skald-Why";
/// Header of a dead letter of which only the head is kept: how long the whole was, in bytes.
pub const BYTES: &str = "Skald-Bytes";
/// Header of such a letter: the digest of the whole.
pub const DIGEST: &str = "Skald-Digest";
/// The longest reason for a person, in bytes: a header is read by eye.
pub(super) const WHY_MAX_BYTES: usize = 1_024;
/// The longest header that names something, in bytes: longer ones end with a digest of the whole, which
/// stands in the body.
const NAMED_MAX_BYTES: usize = 1_024;
/// How long events are kept for consumers that were away: two weeks of holidays.
const EVENTS_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long dead letters are kept: as long as the journal that explains them.
const DEAD_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long the server remembers an event's id. What may be in the stream for longer is looked for
/// before it is sent again, so this need not outlive an outage.
const DEDUPE_WINDOW: Duration = Duration::from_secs(120);

/// The settings of the event and dead letter streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutboxConfig {
    /// On how many servers each is kept.
    pub replicas: Replicas,
    /// How long events are kept.
    pub events_kept: Duration,
    /// How long the server remembers an event's id.
    pub dedupe_window: Duration,
    /// Whether every event is on the disk before it counts as published. Synced one by one, events
    /// are what bounds a busy node on one server; unsynced, those of the last moments before a
    /// power cut can be missing from the stream, though never from the journal. Only for one
    /// server, and only when the stream is first made.
    pub events_synced: bool,
    /// How much of the dead letters is kept.
    pub letters: LetterLimits,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            replicas: Replicas::One,
            events_kept: EVENTS_KEPT,
            dedupe_window: DEDUPE_WINDOW,
            events_synced: true,
            letters: LetterLimits {
                per_second: const { NonZeroU32::new(20).unwrap() },
                bytes_per_second: const { NonZeroU32::new(65_536).unwrap() },
                bytes_kept: const { NonZeroU32::new(67_108_864).unwrap() },
                kept_for: DEAD_KEPT,
                whole_bytes: 1_048_576,
                heads_at_once: const { NonZeroUsize::new(4).unwrap() },
                per_reason: 1_000,
                stream_bytes: -1,
            },
        }
    }
}

/// [`Outbox`] on two streams. Publish concurrently: every call waits for its own acknowledgement,
/// and those of many calls are on their way together.
#[derive(Debug)]
pub struct StreamOutbox {
    pub(super) bus: Bus,
    pub(super) window: Duration,
    pub(super) letters: Letters,
}

impl StreamOutbox {
    /// How many dead letters were counted and not kept since the node began.
    pub fn letters_counted(&self) -> u64 {
        self.letters.counted()
    }

    /// Opens both streams, making them if they are missing.
    pub async fn open(bus: &Bus, config: &OutboxConfig) -> Result<Self, SetupError> {
        let events = stream(EVENTS, vec![subjects::EVENTS.into()], config.replicas, config.events_kept);
        let loose = !config.events_synced && config.replicas == Replicas::One;
        let persist_mode = loose.then_some(PersistenceMode::Async);
        ensure(bus, Config { duplicate_window: config.dedupe_window, persist_mode, ..events }).await?;
        let dead = stream(DEAD, vec![subjects::DEAD.into()], config.replicas, config.letters.kept_for);
        // Dead letters may be removed one by one once they were dealt with.
        let dead = Config {
            deny_delete: false,
            duplicate_window: config.dedupe_window,
            max_messages_per_subject: config.letters.per_reason,
            max_bytes: config.letters.stream_bytes,
            ..dead
        };
        ensure(bus, dead).await?;
        Ok(Self { bus: bus.clone(), window: config.dedupe_window, letters: Letters::new(config.letters) })
    }

    async fn send(&self, subject: String, headers: HeaderMap, body: Bytes) -> Result<(), Unavailable> {
        let sent = publish(&self.bus, subject, headers, body, self.bus.request_within).await;
        sent.map(drop).map_err(|fault| Unavailable(fault.to_string()))
    }
}

/// An event as it travels: subject, headers and body.
pub(super) fn written(event: &Envelope) -> (String, HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    for (name, value) in event.headers() {
        headers.insert(name, one_line(&identity(&value, NAMED_MAX_BYTES)));
    }
    headers.insert(NATS_MESSAGE_ID, event.event_id.as_str());
    headers.insert(CONTENT_TYPE, Format::Json.content_type());
    let subject = subjects::event(&event.tenant_id, &encode(&event.event_type));
    (subject, headers, Format::Json.write(event).into())
}

#[async_trait]
impl Outbox for StreamOutbox {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        let (subject, headers, body) = written(event);
        self.send(subject, headers, body).await
    }

    async fn bury(&self, tenant: &str, reason: &str, why: &str, whole: Bytes) -> Result<(), Unavailable> {
        let mut headers = HeaderMap::new();
        headers.insert(REASON, one_line(&identity(reason, NAMED_MAX_BYTES)));
        headers.insert(WHY, one_line(&shortened(why, WHY_MAX_BYTES)));
        // Held until the head is stored: the caller may keep the whole letter in memory that long.
        let (body, _permit) = match self.letters.admit(tenant, whole) {
            Kept::Whole(whole) => (whole, None),
            Kept::Head { head, whole, permit } => {
                headers.insert(BYTES, whole.len().to_string());
                headers.insert(DIGEST, format!("sha256:{}", self.letters.digest(whole).await));
                (head, Some(permit))
            }
            Kept::Counted { warn_of } => {
                if let Some(setting) = warn_of {
                    tracing::warn!(tenant, reason, setting, "dead letters beyond this limit are only counted");
                }
                return Ok(());
            }
        };
        self.send(subjects::dead(&encode(tenant), &encode(reason)), headers, body).await
    }
}
