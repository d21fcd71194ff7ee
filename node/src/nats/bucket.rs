//! A bucket: one value per key, each with a revision, and writes that expect the last one.
//!
//! Every write carries an id of its own. When an acknowledgement is lost, the bucket looks whether
//! the value that stands there is the one it wrote, so that a caller hears of the outcome and not
//! of the network. Where even looking fails, the id is remembered until the next write of the key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL};
use async_nats::jetstream::consumer::DeliverPolicy;
use bytes::Bytes;
use protocol::Time;
use supervisor::ports::Unavailable;

use super::connect::Bus;
use super::publish::{Fault, publish};
use super::scan::{Scan, last_of};
use super::streams::{Replicas, SetupError, bucket, ensure};

/// Names one write: who and the how-manyeth.
const WRITE: &str = "Skald-Write";
/// What NATS tools write for a key that is gone.
const OPERATION: &str = "KV-Operation";
/// What the server writes for a key that ran out.
const MARKER: &str = "Nats-Marker-Reason";
/// How often a write that is neither done nor refused is tried again.
const TRIES: u32 = 6;
/// The first pause between tries; doubles each time.
const PAUSE: Duration = Duration::from_millis(5);
/// How many writes of unknown outcome are remembered. More than that were lost together, and the
/// keys beyond are then seen as written by somebody else, which is safe.
const UNKNOWN_MAX: usize = 10_000;

/// What stands under a key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) revision: u64,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
    /// The key was removed or ran out; only the note of it is left.
    pub(super) gone: bool,
}

impl Entry {
    fn new(key: &str, revision: u64, headers: HeaderMap, bytes: Bytes) -> Self {
        let gone = headers.get(MARKER).is_some()
            || headers.get(OPERATION).is_some_and(|it| ["DEL", "PURGE"].contains(&it.as_str()));
        Self { key: key.to_owned(), revision, headers, bytes, gone }
    }

    /// Whether this bucket object wrote it.
    pub(super) fn written_by(&self, bucket: &Bucket) -> bool {
        let write = self.headers.get(WRITE).map_or("", |it| it.as_str());
        write.rsplit_once('-').is_some_and(|(writer, _)| writer == bucket.writer)
    }
}

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Something else stands there than was expected.
    Stale(Option<Entry>),
    /// The server refuses, and will again until somebody does something.
    Refused(String),
    /// The server cannot be reached.
    Unavailable(Unavailable),
}

/// How to write.
#[derive(Debug, Default)]
pub(super) struct Write {
    /// The revision that must be the last one; 0: there must be none. `None` writes over anything.
    pub(super) expected: Option<u64>,
    /// How long the value lives.
    pub(super) ttl: Option<Duration>,
    /// Whether this is the note that the key is gone.
    pub(super) gone: bool,
    /// More headers.
    pub(super) headers: HeaderMap,
}

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) bus: Bus,
    name: String,
    stream: String,
    writer: String,
    writes: AtomicU64,
    unknown: Mutex<HashMap<String, String>>,
}

impl Bucket {
    /// Opens the bucket, making it if it is missing.
    pub(super) async fn open(
        bus: &Bus,
        name: &str,
        about: &str,
        replicas: Replicas,
        markers: Option<Duration>,
    ) -> Result<Self, SetupError> {
        ensure(bus, bucket(name, about, replicas, markers)).await?;
        Ok(Self::there(bus, name))
    }

    /// A bucket that is there.
    pub(super) fn there(bus: &Bus, name: &str) -> Self {
        Self {
            bus: bus.clone(),
            name: name.to_owned(),
            stream: format!("KV_{name}"),
            writer: uuid::Uuid::now_v7().simple().to_string(),
            writes: AtomicU64::new(0),
            unknown: Mutex::default(),
        }
    }

    /// When it was made, as last seen.
    pub(super) fn born(&self) -> Option<Time> {
        self.bus.ground.born(&self.stream)
    }

    /// The subject of `key`, or the filter for a pattern of keys.
    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// What stands under `key`, from the leader; also a note that it is gone.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, Unavailable> {
        self.bus.ground.usable(&self.stream)?;
        let message = last_of(&self.bus, &self.stream, &self.subject(key)).await?;
        Ok(message.map(|it| Entry::new(key, it.sequence, it.headers, it.payload)))
    }

    /// The value written last of all whose keys match `pattern`. One request, and no consumer: this
    /// is asked again and again.
    pub(super) async fn last(&self, pattern: &str) -> Result<Option<Entry>, Unavailable> {
        self.bus.ground.usable(&self.stream)?;
        let message = last_of(&self.bus, &self.stream, &self.subject(pattern)).await?;
        let prefix = self.subject("");
        Ok(message.map(|it| {
            let key = it.subject.strip_prefix(&prefix).unwrap_or(&it.subject).to_owned();
            Entry::new(&key, it.sequence, it.headers, it.payload)
        }))
    }

    /// Writes `bytes` under `key` and answers the revision.
    pub(super) async fn write(&self, key: &str, bytes: Bytes, how: Write) -> Result<u64, WriteError> {
        self.bus.ground.usable(&self.stream).map_err(WriteError::Unavailable)?;
        let write = format!("{}-{}", self.writer, self.writes.fetch_add(1, Ordering::Relaxed));
        let mut expected = how.expected;
        let mut pause = PAUSE;
        let mut why = String::new();
        for _ in 0..TRIES {
            let headers = headers(&how, expected, &write);
            let fault =
                match publish(&self.bus, self.subject(key), headers, bytes.clone(), self.bus.request_within).await {
                    Ok(ack) => {
                        self.unknown().remove(key);
                        return Ok(ack.sequence);
                    }
                    Err(Fault::Refused(why) | Fault::Never(why)) => return Err(WriteError::Refused(why)),
                    Err(fault @ (Fault::WrongLast | Fault::Undecided(_))) => fault,
                };
            let there = match self.get(key).await {
                Ok(there) => there,
                Err(unavailable) => {
                    self.remember(key, write);
                    return Err(WriteError::Unavailable(unavailable));
                }
            };
            let by = there.as_ref().and_then(|it| it.headers.get(WRITE)).map_or("", |it| it.as_str());
            if by == write {
                self.unknown().remove(key);
                return Ok(there.map_or(0, |it| it.revision));
            }
            let revision = there.as_ref().map_or(0, |it| it.revision);
            if expected.is_some_and(|expected| expected != revision) {
                // An earlier write of ours, whose outcome nobody could tell, stands there.
                let ours = !by.is_empty() && self.unknown().get(key).is_some_and(|it| it == by);
                if !ours {
                    return Err(WriteError::Stale(there));
                }
                expected = Some(revision);
                continue;
            }
            why = fault.to_string();
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.remember(key, write);
        Err(WriteError::Unavailable(Unavailable(format!("{key} could not be written in {TRIES} tries: {why}"))))
    }

    fn unknown(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: &str, write: String) {
        let mut unknown = self.unknown();
        if unknown.len() < UNKNOWN_MAX || unknown.contains_key(key) {
            unknown.insert(key.to_owned(), write);
        }
    }

    /// Everything that matches the pattern of keys, each key's last value once, notes of gone keys
    /// left out; and the highest revision that was seen, notes included.
    pub(super) async fn all(&self, pattern: &str, headers_only: bool) -> Result<(Vec<Entry>, u64), Unavailable> {
        self.bus.ground.usable(&self.stream)?;
        let filter = self.subject(pattern);
        let policy = DeliverPolicy::LastPerSubject;
        let mut scan = Scan::open(&self.bus, &self.stream, &filter, policy, headers_only).await?;
        let prefix = self.subject("");
        let mut entries: HashMap<String, Entry> = HashMap::new();
        let mut seen = 0;
        while let Some(item) = scan.next(u64::MAX).await? {
            seen = item.sequence;
            let key = item.subject.strip_prefix(&prefix).unwrap_or(&item.subject).to_owned();
            let entry = Entry::new(&key, item.sequence, item.headers, item.payload);
            if entry.gone {
                entries.remove(&key);
            } else {
                entries.insert(key, entry);
            }
        }
        Ok((entries.into_values().collect(), seen))
    }

    /// Reads what changes, the last value of each key first.
    pub(super) async fn watch(&self) -> Result<Watch, Unavailable> {
        let everything = self.subject(">");
        let scan = Scan::watch(&self.bus, &self.stream, &everything, DeliverPolicy::LastPerSubject, false).await?;
        Ok(Watch { scan, prefix: self.subject("") })
    }
}

/// Changes of a bucket, as they happen.
pub(super) struct Watch {
    scan: Scan,
    prefix: String,
}

impl Watch {
    /// Waits for the next change.
    pub(super) async fn next(&mut self) -> Result<Entry, Unavailable> {
        let item = self.scan.wait().await?;
        let key = item.subject.strip_prefix(&self.prefix).unwrap_or(&item.subject).to_owned();
        Ok(Entry::new(&key, item.sequence, item.headers, item.payload))
    }
}

fn headers(how: &Write, expected: Option<u64>, write: &str) -> HeaderMap {
    let mut headers = how.headers.clone();
    headers.insert(WRITE, write);
    if let Some(expected) = expected {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
    }
    if let Some(ttl) = how.ttl {
        headers.insert(NATS_MESSAGE_TTL, whole_seconds(ttl));
    }
    if how.gone {
        headers.insert(OPERATION, "DEL");
    }
    headers
}

/// The server counts time to live in whole seconds, at least one.
fn whole_seconds(ttl: Duration) -> String {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    format!("{}s", seconds.max(1))
}
