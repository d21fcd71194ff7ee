//! Streams and buckets: made when they are missing, followed when a setting changed, and refused
//! when they are something else.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use protocol::Time;
use supervisor::machine::stores::Seen;
use supervisor::ports::Unavailable;
use tokio::time::Instant;

use super::connect::{Bus, chain};

/// How long setting up may wait for a cluster that is still electing or not complete yet.
const SETUP_WITHIN: Duration = Duration::from_secs(30);
/// The pause between two tries.
const SETUP_PAUSE: Duration = Duration::from_millis(250);

/// Makes `attempt` again while its error `may_pass` and a node that starts may wait: whoever starts one beside servers
/// that elect or come back should not have to start it twice.
pub(crate) async fn setting_up<T, E: std::fmt::Display>(
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Err(error) if may_pass(&error) && begun.elapsed() < SETUP_WITHIN => {
                tracing::debug!(%error, "not possible yet");
                tokio::time::sleep(SETUP_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// On how many servers every message is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Replicas {
    /// One: as durable as its disk.
    #[default]
    One,
    /// Three: one server may fail.
    Three,
    /// Five: two servers may fail.
    Five,
}

impl Replicas {
    /// The number.
    pub const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Three => 3,
            Self::Five => 5,
        }
    }

    /// The shape with `count` replicas, if it is one.
    pub const fn of(count: usize) -> Option<Self> {
        match count {
            1 => Some(Self::One),
            3 => Some(Self::Three),
            5 => Some(Self::Five),
            _ => None,
        }
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.count())
    }
}

/// Why the streams are not as Skald needs them.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The cluster was created with another shape, which cannot change.
    #[error(
        "this cluster was created with {stored}, but this node is set to {wanted}: \
         set the node to what is stored, or start with an empty cluster"
    )]
    OtherShape {
        /// What is stored.
        stored: String,
        /// What the node is set to.
        wanted: String,
    },
    /// A stream of that name is something else.
    #[error("stream {stream} exists and is not Skald's: {why}; rename or remove it, or use another account")]
    OtherStream {
        /// The stream.
        stream: String,
        /// What differs.
        why: String,
    },
    /// Another process goes by this node's name.
    #[error("{0}")]
    NameTaken(String),
    /// The setting makes no sense.
    #[error("the setting is not usable: {0}")]
    Setting(String),
    /// The server does not do it.
    #[error("{what}: {why}")]
    Failed {
        /// What was tried.
        what: String,
        /// What the server said.
        why: String,
    },
}

impl SetupError {
    /// Whether trying again may help.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::OtherShape { .. } | Self::OtherStream { .. } | Self::NameTaken(_) | Self::Setting(_) => false,
        }
    }
}

/// A stream of Skald's: on disk, kept until it is old, not to be deleted from.
pub(super) fn stream(name: &str, subjects: Vec<String>, replicas: Replicas, max_age: Duration) -> Config {
    Config {
        name: name.to_owned(),
        subjects,
        num_replicas: replicas.count(),
        max_age,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        allow_direct: true,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// A bucket: a stream in the shape that NATS tools know as a key-value store, one value per key.
/// `markers` lets the server leave a note for that long when a key runs out.
pub(super) fn bucket(name: &str, about: &str, replicas: Replicas, markers: Option<Duration>) -> Config {
    Config {
        description: Some(about.to_owned()),
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_purge: false,
        allow_message_ttl: true,
        subject_delete_marker_ttl: markers,
        // Revisions guard every write here; a window of message ids would only cost memory.
        duplicate_window: Duration::from_secs(1),
        ..stream(&format!("KV_{name}"), vec![format!("$KV.{name}.>")], replicas, Duration::ZERO)
    }
}

/// What the server says of a stream; `None`: there is none.
pub(super) async fn look(bus: &Bus, name: &str) -> Result<Option<Info>, Unavailable> {
    match bus.jetstream.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(Unavailable(format!("cannot look at stream {name}: {}", chain(&error)))),
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// When a stream was made.
pub(super) fn born(info: &Info) -> Time {
    let micros = info.created.unix_timestamp_nanos() / 1_000;
    Time::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// How a stream is, for whoever compares.
pub(super) fn seen(info: &Info) -> Seen {
    Seen { born: born(info), last: info.state.last_sequence }
}

/// Makes the stream `wanted`, or brings an existing one in line where a setting may change. What was
/// left of it under this name decides whether it may be made: see [`ground`](super::ground).
pub(super) async fn ensure(bus: &Bus, wanted: Config) -> Result<(), SetupError> {
    setting_up(SetupError::may_pass, async || try_ensure(bus, &wanted).await).await
}

fn failed(what: &str, wanted: &Config, why: String) -> SetupError {
    SetupError::Failed { what: format!("{what} stream {} ({} replicas)", wanted.name, wanted.num_replicas), why }
}

/// Makes a stream that is missing.
pub(super) async fn make(bus: &Bus, wanted: Config) -> Result<(), SetupError> {
    match bus.jetstream.create_stream(wanted.clone()).await {
        Ok(_) => {
            tracing::info!(stream = wanted.name, replicas = wanted.num_replicas, "stream created");
            Ok(())
        }
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP => {
                let why = format!("another stream already takes its subjects {:?}", wanted.subjects);
                Err(SetupError::OtherStream { stream: wanted.name, why })
            }
            // Another node may have made it meanwhile: the next look tells.
            _ => Err(failed("cannot create", &wanted, chain(&error))),
        },
    }
}

/// Whether somebody limited a stream in a way that no setting of Skald does: it would throw away what it
/// acknowledged. One that refuses what is large says so to whoever sends it.
fn is_limited(wanted: &Config, existing: &Config) -> bool {
    existing.max_messages > 0 || existing.discard != wanted.discard
}

fn unlimited(wanted: &Config, existing: Config) -> Config {
    Config { max_messages: -1, discard: wanted.discard, ..existing }
}

/// Takes limits away that somebody gave a stream since it was looked at last; answers whether there were any.
pub(super) async fn take_limits_away(bus: &Bus, wanted: &Config, found: &Info) -> Result<bool, Unavailable> {
    if !is_limited(wanted, &found.config) {
        return Ok(false);
    }
    let update = bus.jetstream.update_stream(unlimited(wanted, found.config.clone())).await;
    update
        .map(|_| true)
        .map_err(|error| Unavailable(format!("cannot change stream {}: {}", wanted.name, chain(&error))))
}

async fn try_ensure(bus: &Bus, wanted: &Config) -> Result<(), SetupError> {
    let name = &wanted.name;
    let found = look(bus, name).await.map_err(|error| failed("cannot look at", wanted, error.to_string()))?;
    super::ground::settle(bus, wanted, found.as_ref()).await?;
    let Some(Info { config: existing, .. }) = found else { return Ok(()) };
    let other = |why: String| SetupError::OtherStream { stream: name.clone(), why };
    let sorted = |config: &Config| {
        let mut subjects = config.subjects.clone();
        subjects.sort();
        subjects
    };
    if sorted(&existing) != sorted(wanted) {
        return Err(other(format!("it takes {:?}, not {:?}", existing.subjects, wanted.subjects)));
    }
    if existing.storage != wanted.storage || existing.retention != wanted.retention {
        return Err(other("it is not kept on disk until it is old".into()));
    }
    if wanted.allow_message_ttl && !existing.allow_message_ttl {
        return Err(other("it does not take messages with a time to live".into()));
    }
    if existing.max_age == wanted.max_age
        && existing.num_replicas == wanted.num_replicas
        && existing.duplicate_window == wanted.duplicate_window
        && existing.max_messages_per_subject == wanted.max_messages_per_subject
        && existing.max_bytes == wanted.max_bytes
        && !is_limited(wanted, &existing)
    {
        return Ok(());
    }
    let changed = Config {
        max_age: wanted.max_age,
        num_replicas: wanted.num_replicas,
        duplicate_window: wanted.duplicate_window,
        max_messages_per_subject: wanted.max_messages_per_subject,
        max_bytes: wanted.max_bytes,
        ..unlimited(wanted, existing)
    };
    bus.jetstream.update_stream(changed).await.map_err(|error| failed("cannot change", wanted, chain(&error)))?;
    tracing::info!(stream = name, replicas = wanted.num_replicas, max_age = ?wanted.max_age, "stream changed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_starts_waits_for_servers_and_not_for_ever() {
        let failed = || SetupError::Failed { what: "reading".into(), why: "no leader".into() };
        let mut tries = 0;
        let third = setting_up(SetupError::may_pass, async || {
            tries += 1;
            if tries < 3 { Err(failed()) } else { Ok(tries) }
        });
        assert_eq!(third.await.unwrap(), 3);
        let begun = Instant::now();
        assert!(setting_up(SetupError::may_pass, async || Err::<(), _>(failed())).await.is_err());
        assert!((SETUP_WITHIN..2 * SETUP_WITHIN).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let begun = Instant::now();
        let taken = setting_up(SetupError::may_pass, async || Err::<(), _>(SetupError::NameTaken("n1".into())));
        assert!(taken.await.is_err() && begun.elapsed().is_zero(), "that does not pass");
    }
}
