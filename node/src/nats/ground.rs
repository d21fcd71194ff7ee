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
use supervisor::machine::stores::{Action, Seen, Watched, Worth};
use supervisor::ports::Unavailable;
use tokio::sync::{OnceCell, mpsc};

use super::bucket::{Bucket, Write, WriteError};
use super::connect::Bus;
use super::journal::accepted_key;
use super::streams::{Replicas, SetupError, look, make, seen, take_limits_away};
use super::{cluster, definitions, outbox, runtime_store, scan, snapshots, workers};

/// How often everything is looked at: one question to the server for each.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many more sequences must have been given out until it is written down again how a stream is. What is
/// the truth and changes seldom is written down with each change; of journals each shard writes down more.
const WRITTEN_EVERY: u64 = 100_000;
/// Sequences that are left out when a stream is made again: those after the last look were given out
/// too, and readers and leases know them. More than a server gives out in ten minutes.
const SEQUENCES_SKIPPED: u64 = 10_000_000;

/// What all who share a connection know of what they stand on.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    stands: Mutex<BTreeMap<String, Stand>>,
    told: Mutex<Option<mpsc::UnboundedSender<Lost>>>,
    /// Whether nodes had run on these servers before this one made anything.
    history: OnceCell<bool>,
}

/// One stream.
#[derive(Debug)]
struct Stand {
    wanted: Config,
    watched: Watched,
    /// Why nothing may be read or written.
    refused: Option<String>,
    /// Whether it is not what was left.
    off: bool,
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
        _ if is_journal(name) => (Worth::Truth, "it is the journal: bring back a copy"),
        _ => (Worth::Truth, "bring back a copy"),
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
        self.stands().get(stream)?.watched.left.map(|seen| seen.born)
    }

    /// The last sequence that `stream`, made at `born`, was seen to have given out, where it ends before that
    /// now.
    pub(super) fn reached(&self, stream: &str, born: Time) -> Option<u64> {
        let left = self.stands().get(stream).filter(|stand| stand.off)?.watched.left?;
        (left.born == born).then_some(left.last)
    }

    /// Whether `stream` is not what was left.
    pub(super) fn is_off(&self, stream: &str) -> bool {
        self.stands().get(stream).is_some_and(|stand| stand.off)
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

/// Does what is to be done about `wanted`, which was just looked at: see [`Watched::look`].
pub(super) async fn settle(bus: &Bus, wanted: &Config, found: Option<&Info>) -> Result<(), SetupError> {
    let name = wanted.name.clone();
    let failed =
        |error: Unavailable| SetupError::Failed { what: format!("what is kept of {name}"), why: error.to_string() };
    let mut watched = bus.ground.stands().get(&name).map(|stand| stand.watched).unwrap_or_default();
    let mut found = found.map(seen);
    if watched.left.is_none() {
        watched = Watched::as_written(read(bus, &name).await.map_err(failed)?);
        // Another node may have made it between the look and what it wrote down of it.
        if found.is_none() && watched.left.is_some() {
            found = look(bus, &name).await.map_err(failed)?.as_ref().map(seen);
        }
    }
    let (worth, meaning) = about(&name);
    let mut action = watched.look(worth, found);
    if action == Action::Make && is_journal(&name) {
        let history = bus.ground.history.get_or_try_init(|| has_history(bus, wanted)).await.map_err(failed)?;
        action = if *history { Action::Gone } else { Action::Make };
    }
    let first_sequence = match action {
        Action::Make => Some(beginning(bus, &name).await.map_err(failed)?),
        Action::MakeAgain { above } => Some(Some(above + SEQUENCES_SKIPPED)),
        Action::Fine
        | Action::Adopt
        | Action::Replaced
        | Action::Gone
        | Action::Another
        | Action::Shorter
        | Action::Shortened => None,
    };
    if let Some(first_sequence) = first_sequence {
        make(bus, Config { first_sequence, ..wanted.clone() }).await?;
        watched.left = look(bus, &name).await.map_err(failed)?.as_ref().map(seen);
    }
    let remade = first_sequence.is_some() && watched.left.is_some();
    let (refused, past) = said(action, &name, meaning);
    let lost = {
        let mut stands = bus.ground.stands();
        let stand = stands.entry(name.clone()).or_insert_with(|| Stand {
            wanted: wanted.clone(),
            watched,
            refused: None,
            off: false,
            past: None,
        });
        stand.watched = watched;
        let told = refused.clone().filter(|_| !stand.off).or(past.clone());
        stand.off = refused.is_some();
        // Of the journal each shard knows more, and decides for itself.
        stand.refused = refused.filter(|_| !is_journal(&name));
        stand.past = past.or(stand.past.take());
        told.map(|what| Lost { stream: name.clone(), what, remade })
    };
    if let Some(lost) = lost {
        bus.ground.tell(lost);
    }
    let every = if worth == Worth::Truth && !is_journal(&name) { 1 } else { WRITTEN_EVERY };
    if let Some(seen) = watched.left.filter(|_| watched.is_news(every)) {
        keep(bus, wanted, Kept { seen: Some(seen), accepted: None }).await.map_err(failed)?;
        if let Some(stand) = bus.ground.stands().get_mut(&name) {
            stand.watched.written = Some(seen);
        }
    }
    Ok(())
}

/// Why nothing may be read or written, and what happened and is over, in sentences.
fn said(action: Action, name: &str, meaning: &str) -> (Option<String>, Option<String>) {
    let or = match is_journal(name) {
        true => "`skald doctor` says how the loss of each of its shards is accepted".to_owned(),
        false => format!("`skald accept-loss --stream {name} --reason '…'`"),
    };
    let refused = |what: &str| (Some(format!("{name} {what}: {meaning}, or {or}")), None);
    let past = |what: &str| (None, Some(format!("{name} {what}: {meaning}")));
    match action {
        Action::Fine | Action::Adopt | Action::Make => (None, None),
        Action::MakeAgain { .. } => past("was deleted and is made again"),
        Action::Replaced => past("was deleted and made again by somebody"),
        Action::Shortened => past("ends before what it acknowledged"),
        Action::Gone => refused("was deleted"),
        Action::Another => refused("was deleted and another stands in its place"),
        Action::Shorter => refused("ends before what it acknowledged; it is an older copy, or its server is damaged"),
    }
}

fn is_journal(name: &str) -> bool {
    name.starts_with("SKALD_JOURNAL")
}

/// Whether nodes have run on these servers before: then a part of the journal that nothing is known of was
/// lost with all that knew of it, and did not never exist. Every part is made before the first node writes.
async fn has_history(bus: &Bus, wanted: &Config) -> Result<bool, Unavailable> {
    let buckets = [definitions::BUCKET, runtime_store::BUCKET, snapshots::BUCKET].map(stream_of);
    let others = [outbox::EVENTS, outbox::DEAD].map(str::to_owned);
    for name in super::layout::journals(wanted).into_iter().chain(others).chain(buckets) {
        if look(bus, &name).await?.is_some_and(|found| found.state.last_sequence > 0) {
            return Ok(true);
        }
    }
    Ok(false)
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
        stand.watched = Watched::as_written(found);
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
                    stand.watched.reread(kept);
                }
            }
            let before = bus.ground.stands().get(&name).and_then(|stand| stand.watched.left);
            settle(bus, &wanted, found.as_ref()).await.map_err(|error| Unavailable(error.to_string()))?;
            if let Some(found) = &found
                && take_limits_away(bus, &wanted, found).await?
            {
                let what =
                    format!("somebody limited {name}, which may have lost messages by it: the limits are taken away");
                if let Some(stand) = bus.ground.stands().get_mut(&name) {
                    stand.past = Some(what.clone());
                }
                bus.ground.tell(Lost { stream: name.clone(), what, remade: false });
            }
            let after = bus.ground.stands().get(&name).and_then(|stand| stand.watched.left);
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
    let others: Vec<_> = bus.ground.stands().values().map(|stand| (stand.wanted.clone(), stand.watched.left)).collect();
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
