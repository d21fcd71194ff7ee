//! What the node stands on: every stream and bucket that it opened, how each was left, and how it is
//! found. Looked at when it is opened and every second from then on.
//!
//! How each was left is kept in the bucket of the cluster, beside the leases. That bucket itself holds
//! nothing that running nodes do not know, so they make it again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, Info};
use bytes::Bytes;
use protocol::{ShardId, Time, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;
use supervisor::journal::anchor::Accepted;
use supervisor::machine::stores::{Seen, Step, Worth, settle as decide};
use supervisor::ports::Unavailable;
use tokio::sync::mpsc;

use super::bucket::{Bucket, Write, WriteError};
use super::connect::Bus;
use super::journal::accepted_key;
use super::streams::{Replicas, SetupError, look, make, seen};
use super::{cluster, definitions, outbox, runtime_store, scan, snapshots, workers};

/// How often everything is looked at: one question to the server for each.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sequences that are left out when a stream is made again: those after the last look were given out
/// too, and readers and leases know them. More than a server gives out in ten minutes.
const SEQUENCES_SKIPPED: u64 = 10_000_000;
/// How many more sequences must have been given out until that is written down again.
const KEPT_EVERY: u64 = 100_000;
/// Looks that must find a stream shorter before it counts as such.
const SHORTER_LOOKS: u32 = 3;

/// What all who share a connection know of what they stand on.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    stands: Mutex<BTreeMap<String, Stand>>,
    told: Mutex<Option<mpsc::UnboundedSender<Lost>>>,
}

/// One stream.
#[derive(Debug)]
struct Stand {
    wanted: Config,
    left: Option<Seen>,
    /// Why nothing may be read or written.
    refused: Option<String>,
    /// Whether it is not what was left.
    off: bool,
    /// Looks in a row that found it shorter: a leader that was cut off without knowing it can answer with
    /// what it had.
    shorter: u32,
    /// How it was left, as written down.
    written: Option<Seen>,
    /// What happened to it while this node ran, and is over.
    past: Option<String>,
}

/// Something happened to a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The stream.
    pub stream: String,
    /// What happened and what it means, for a person.
    pub what: String,
    /// Whether it was made again.
    pub remade: bool,
}

/// What is kept of a stream in the bucket of the cluster. Without `seen` its loss was accepted: the
/// next look takes what it finds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    #[serde(default, flatten)]
    seen: Option<Seen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<Value>,
}

/// What a stream is to those who read it, and what its loss means to them.
fn about(name: &str) -> (Worth, &'static str) {
    let bucket = name.strip_prefix("KV_").unwrap_or_default();
    match bucket {
        cluster::BUCKET => (Worth::Remade, "nodes write their beats and leases again"),
        snapshots::BUCKET => (Worth::Remade, "shards read their whole journal again; one whose journal is cut stops"),
        definitions::BUCKET => (
            Worth::Remade,
            "nodes put back the definitions that come with them and those that they have run; deploy the others again",
        ),
        workers::BUCKET => (Worth::Remade, "workers that were paused run again: pause them anew"),
        runtime_store::BUCKET => {
            (Worth::Truth, "environments, services and their owners stood there: bring back a copy")
        }
        _ if name == outbox::EVENTS => {
            (Worth::Remade, "events that consumers had not read are lost; journal and sagas are not")
        }
        _ if name == outbox::DEAD => (Worth::Remade, "the dead letters are lost"),
        _ => (Worth::Truth, "it is the journal: bring back a copy"),
    }
}

impl Ground {
    fn stands(&self) -> MutexGuard<'_, BTreeMap<String, Stand>> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `stream` may be read and written.
    pub(super) fn usable(&self, stream: &str) -> Result<(), Unavailable> {
        match self.stands().get(stream).and_then(|stand| stand.refused.clone()) {
            Some(why) => Err(Unavailable(why)),
            None => Ok(()),
        }
    }

    /// When `stream` was made, as last seen.
    pub(super) fn born(&self, stream: &str) -> Option<Time> {
        self.stands().get(stream)?.left.map(|seen| seen.born)
    }

    /// What is wrong now, in sentences.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.stands().values().filter_map(|stand| stand.refused.clone()).collect()
    }

    /// What happened while this node ran and is over, in sentences.
    pub(crate) fn past(&self) -> Vec<String> {
        self.stands().values().filter_map(|stand| stand.past.clone()).collect()
    }

    fn tell(&self, lost: Lost) {
        tracing::error!(stream = lost.stream, what = lost.what, "something that the node stands on was lost");
        if let Some(told) = &*self.told.lock().unwrap_or_else(PoisonError::into_inner) {
            // Whoever listened may be gone.
            let _ = told.send(lost);
        }
    }
}

/// Decides about `wanted`, which was just looked at. Answers whether it is there to be brought in line.
pub(super) async fn settle(bus: &Bus, wanted: &Config, found: Option<&Info>) -> Result<bool, SetupError> {
    let name = wanted.name.clone();
    let failed =
        |error: Unavailable| SetupError::Failed { what: format!("what is kept of {name}"), why: error.to_string() };
    let (known, mut written, shorter) = match bus.ground.stands().get(&name) {
        Some(stand) => (stand.left, stand.written, stand.shorter),
        None => (None, None, 0),
    };
    let known = match known {
        Some(known) => Some(known),
        None => {
            written = read(bus, &name).await.map_err(failed)?;
            written
        }
    };
    let (worth, meaning) = about(&name);
    let found_as = found.map(seen);
    let mut step = decide(worth, known, found_as);
    let is_shorter = matches!(step, Step::Shorter | Step::Shortened);
    let shorter = if is_shorter { shorter + 1 } else { 0 };
    let waits = is_shorter && shorter < SHORTER_LOOKS;
    if waits {
        step = Step::Fine;
    }
    let (mut refused, mut past, mut made) = (None, None, None);
    match step {
        Step::Fine | Step::Adopt => {}
        Step::Make => {
            make(bus, Config { first_sequence: beginning(bus, &name).await.map_err(failed)?, ..wanted.clone() })
                .await?;
            made = look(bus, &name).await.map_err(failed)?.as_ref().map(seen);
        }
        Step::MakeAgain { above } => {
            make(bus, Config { first_sequence: Some(above + SEQUENCES_SKIPPED), ..wanted.clone() }).await?;
            made = look(bus, &name).await.map_err(failed)?.as_ref().map(seen);
            past = Some(format!("{name} was deleted and is made again: {meaning}"));
        }
        Step::Replaced => past = Some(format!("{name} was deleted and made again by somebody: {meaning}")),
        Step::Shortened => past = Some(format!("{name} ends before what it acknowledged: {meaning}")),
        Step::Gone => refused = Some(format!("{name} was deleted: {meaning}, or `{}`", accept(&name))),
        Step::Another => {
            refused =
                Some(format!("{name} was deleted and another stands in its place: {meaning}, or `{}`", accept(&name)));
        }
        Step::Shorter => {
            refused = Some(format!(
                "{name} ends before what it acknowledged; it is an older copy, or its server is damaged: {meaning}, or `{}`",
                accept(&name)
            ));
        }
    }
    // Of the journal each shard knows more, and decides for itself.
    let journal = is_journal(&name);
    let left = match step {
        Step::Gone | Step::Another | Step::Shorter => known,
        Step::Fine if waits => known,
        Step::Fine | Step::Make | Step::Adopt | Step::MakeAgain { .. } | Step::Replaced | Step::Shortened => {
            made.or(found_as)
        }
    };
    let lost = {
        let mut stands = bus.ground.stands();
        let stand = stands.entry(name.clone()).or_insert_with(|| Stand {
            wanted: wanted.clone(),
            left: None,
            refused: None,
            off: false,
            shorter: 0,
            written: None,
            past: None,
        });
        stand.left = left;
        stand.shorter = shorter;
        let told = refused.clone().filter(|_| !stand.off).or(past.clone());
        stand.off = refused.is_some();
        stand.refused = refused.filter(|_| !journal);
        stand.past = past.or(stand.past.take());
        told.map(|what| Lost { stream: name.clone(), what, remade: made.is_some() })
    };
    if let Some(lost) = lost {
        bus.ground.tell(lost);
    }
    let news = match (written, left) {
        (Some(written), Some(left)) => {
            written.born != left.born || left.last < written.last || left.last >= written.last + KEPT_EVERY
        }
        (None, Some(_)) => true,
        (Some(_) | None, None) => false,
    };
    if news && let Some(seen) = left {
        keep(bus, wanted, Kept { seen: Some(seen), accepted: None }).await.map_err(failed)?;
        written = left;
    }
    if let Some(stand) = bus.ground.stands().get_mut(&name) {
        stand.written = written;
    }
    Ok(found.is_some())
}

fn is_journal(name: &str) -> bool {
    name.starts_with("SKALD_JOURNAL")
}

fn accept(name: &str) -> String {
    format!("skald accept-loss --stream {name} --reason '…'")
}

/// Where a stream that never was begins. Epochs are sequences of the bucket of the cluster: made for
/// journals that are older than it, it begins above every one of theirs.
async fn beginning(bus: &Bus, name: &str) -> Result<Option<u64>, Unavailable> {
    if name != stream_of(cluster::BUCKET) {
        return Ok(None);
    }
    let journals = futures::try_join!(look(bus, "SKALD_JOURNAL"), look(bus, "SKALD_JOURNAL_0"))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let above = u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 2);
    Ok((journals.0.is_some() || journals.1.is_some()).then_some(above))
}

fn stream_of(bucket: &str) -> String {
    format!("KV_{bucket}")
}

fn key(name: &str) -> String {
    format!("stream.{name}")
}

/// How `name` was left, as it is kept.
async fn read(bus: &Bus, name: &str) -> Result<Option<Seen>, Unavailable> {
    if name == stream_of(cluster::BUCKET) || look(bus, &stream_of(cluster::BUCKET)).await?.is_none() {
        return Ok(None);
    }
    let subject = format!("$KV.{}.{}", cluster::BUCKET, key(name));
    let entry = scan::last_of(bus, &stream_of(cluster::BUCKET), &subject).await?;
    let unreadable = |error| Unavailable(format!("what is kept of {name} cannot be read: {error}"));
    let kept = entry.map(|it| serde_json::from_slice::<Kept>(&it.payload).map_err(unreadable)).transpose()?;
    Ok(kept.and_then(|kept| kept.seen))
}

async fn keep(bus: &Bus, wanted: &Config, kept: Kept) -> Result<(), Unavailable> {
    let name = &wanted.name;
    let home = stream_of(cluster::BUCKET);
    if *name == home {
        return Ok(());
    }
    if look(bus, &home).await?.is_none() {
        let replicas = Replicas::of(wanted.num_replicas).unwrap_or_default();
        let first_sequence = beginning(bus, &home).await?;
        let made = make(bus, Config { first_sequence, ..cluster::wanted(replicas) }).await;
        made.map_err(|error| Unavailable(error.to_string()))?;
    }
    let bytes = serde_json::to_vec(&kept).map_err(|error| Unavailable(error.to_string()))?;
    match Bucket::there(bus, cluster::BUCKET).write(&key(name), bytes.into(), Write::default()).await {
        Ok(_) | Err(WriteError::Stale(_)) => Ok(()),
        Err(WriteError::Refused(why)) => Err(Unavailable(why)),
        Err(WriteError::Unavailable(unavailable)) => Err(unavailable),
    }
}

/// Writes down how a stream is that was just made in the place of a lost one.
pub(super) async fn adopt(bus: &Bus, wanted: &Config) -> Result<(), Unavailable> {
    let found = look(bus, &wanted.name).await?.as_ref().map(seen);
    if let Some(stand) = bus.ground.stands().get_mut(&wanted.name) {
        (stand.left, stand.written) = (found, found);
    }
    keep(bus, wanted, Kept { seen: found, accepted: None }).await
}

/// What an operator accepts the loss of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Of {
    /// What this shard's journal or snapshots held.
    Shard(ShardId),
    /// What this stream held, which is no journal.
    Stream(String),
}

/// Writes down that a loss is accepted, by whom and why. Nodes then go on in what they find, and make
/// what is missing.
pub async fn accept_loss(bus: &Bus, of: &Of, accepted: &Accepted) -> Result<(), Unavailable> {
    if look(bus, &stream_of(cluster::BUCKET)).await?.is_none() {
        return Err(Unavailable("there is no cluster of Skald on these servers".into()));
    }
    let said = |error: serde_json::Error| Unavailable(error.to_string());
    let (key, bytes) = match of {
        Of::Shard(shard) => (accepted_key(*shard), serde_json::to_vec(accepted).map_err(said)?),
        Of::Stream(stream) => {
            let accepted = Some(serde_json::to_value(accepted).map_err(said)?);
            (key(stream), serde_json::to_vec(&Kept { seen: None, accepted }).map_err(said)?)
        }
    };
    match Bucket::there(bus, cluster::BUCKET).write(&key, bytes.into(), Write::default()).await {
        Ok(_) => Ok(()),
        Err(WriteError::Stale(_)) => Err(Unavailable("somebody else wrote it in this moment; say it again".into())),
        Err(WriteError::Refused(why)) => Err(Unavailable(why)),
        Err(WriteError::Unavailable(unavailable)) => Err(unavailable),
    }
}

/// What of the cluster's bucket is written again when it was lost.
pub struct Known {
    /// The key.
    pub key: String,
    /// The value.
    pub bytes: Bytes,
}

/// Looks at everything every second for as long as somebody listens to what is lost.
pub fn watch(bus: &Bus, known: Vec<Known>) -> mpsc::UnboundedReceiver<Lost> {
    let (tell, told) = mpsc::unbounded_channel();
    *bus.ground.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell.clone());
    let bus = bus.clone();
    tokio::spawn(async move {
        while !tell.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
            look_at_all(&bus, &known).await;
        }
    });
    told
}

async fn look_at_all(bus: &Bus, known: &[Known]) {
    let stands: Vec<_> = bus.ground.stands().values().map(|stand| (stand.wanted.clone(), stand.off)).collect();
    let cluster = stream_of(cluster::BUCKET);
    for (wanted, off) in stands {
        let name = wanted.name.clone();
        let looked = async {
            let found = look(bus, &name).await?;
            if off {
                // Somebody may have accepted the loss, or a shard of another node made its journal again.
                let kept = read(bus, &name).await?;
                if let Some(stand) = bus.ground.stands().get_mut(&name) {
                    (stand.left, stand.written) = (kept, kept);
                }
            }
            let before = bus.ground.stands().get(&name).and_then(|stand| stand.left);
            settle(bus, &wanted, found.as_ref()).await.map_err(|error| Unavailable(error.to_string()))?;
            let after = bus.ground.stands().get(&name).and_then(|stand| stand.left);
            if name == cluster && before.map(|seen| seen.born) != after.map(|seen| seen.born) {
                write_again(bus, known).await?;
            }
            Ok::<_, Unavailable>(())
        };
        if let Err(error) = looked.await {
            tracing::debug!(stream = name, %error, "what the node stands on cannot be looked at now");
        }
    }
}

/// The bucket of the cluster is another one: what is known is written into it again.
async fn write_again(bus: &Bus, known: &[Known]) -> Result<(), Unavailable> {
    let cluster = Bucket::there(bus, cluster::BUCKET);
    for Known { key, bytes } in known {
        // Whoever was first wrote the same.
        let how = Write { expected: Some(0), ..Write::default() };
        if let Err(WriteError::Unavailable(error)) = cluster.write(key, bytes.clone(), how).await {
            return Err(error);
        }
    }
    let others: Vec<_> = bus.ground.stands().values().map(|stand| (stand.wanted.clone(), stand.left)).collect();
    for (wanted, left) in others {
        if let Some(seen) = left {
            keep(bus, &wanted, Kept { seen: Some(seen), accepted: None }).await?;
        }
    }
    Ok(())
}

/// What a lost store is in an event.
pub fn told(lost: &Lost) -> Value {
    json!({ "stream": lost.stream, "what": lost.what, "remade": lost.remade })
}
