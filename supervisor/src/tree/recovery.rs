//! Taking a shard over: first a frame of our own, from which moment the former owner is fenced
//! whatever it believes; then the snapshots, the tail of the journal, and what was still to be
//! sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use protocol::view::Status;
use protocol::{DefinitionRef, Epoch, SagaId, ShardId, Time, codec};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tracing::{error, info, warn};

use super::engine::Engine;
use super::load;
use super::saga::Seen;
use super::slot::EndedEntry;
use crate::journal::frame::{Frame, Header, Sending};
use crate::journal::writer::frame_id;
use crate::machine::definition::Definition;
use crate::machine::{Driver, Execution, FactKind, Record, Remains};
use crate::ports::{AppendError, Position};

/// Tries of the takeover frame before the shard is given up for now.
const TRIES_MAX: u32 = 20;

/// Where a replay must start, kept in the snapshot store as `mark`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Mark {
    /// Everything up to here is in snapshots and pages.
    pub low_water: Position,
    /// Everything up to here was sent.
    pub relayed: Position,
}

/// The snapshot store's name of the mark.
pub const MARK: &str = "mark";
/// What the names of pages of ended sagas begin with.
pub const PAGE_PREFIX: &str = "ended/";

/// A shard, recovered.
pub struct Recovered {
    /// Our takeover frame.
    pub header: Header,
    /// Where it is.
    pub position: Position,
    /// Live sagas: driver, snapshot revision, whether the store has this very state.
    pub live: Vec<(Driver, u64, bool)>,
    /// Ended sagas that are not in a page yet, with the revision of a snapshot left behind.
    pub ended: Vec<(EndedEntry, u64)>,
    /// Pages of ended sagas: name, revision, entries.
    pub pages: Vec<(String, u64, Vec<EndedEntry>)>,
    /// What is to be sent again.
    pub outbox: Vec<(Position, Vec<Arc<Sending>>)>,
    /// The mark found, and its revision.
    pub mark: (Mark, u64),
    /// Snapshots left behind by sagas that are in a page: to be removed.
    pub orphans: HashMap<SagaId, u64>,
    /// Every definition that any of them runs.
    pub definitions: HashMap<DefinitionRef, Arc<Definition>>,
    /// Definitions among them that are lost, and why their sagas stand still.
    pub lost: HashMap<DefinitionRef, String>,
    /// Sagas whose snapshot or records cannot be read.
    pub damaged: Vec<Damaged>,
    /// Records replayed.
    pub replayed: u64,
}

/// A saga whose snapshot or records cannot be read: it is parked, and the others go on.
pub struct Damaged {
    /// Which.
    pub saga: SagaId,
    /// Why.
    pub why: String,
    /// What it runs, or a stand-in where that is not known.
    pub definition: Arc<Definition>,
    /// Tells a repeated start from a different one; 0 where it is not known.
    pub start_digest: u64,
    /// Revision of its snapshot in the store.
    pub revision: u64,
    /// Where it stood when it could be read last.
    pub seen: Seen,
    /// The last frame with a record of it.
    pub position: Position,
}

/// Why a shard was not taken over.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotTaken(pub String);

/// Takes `shard` over under `epoch`.
pub async fn take_over(engine: &Engine, shard: ShardId, epoch: Epoch) -> Result<Recovered, NotTaken> {
    let header = Header { node: engine.node.clone(), epoch, counter: 0, nonce: engine.seeds.next() };
    let position = append_takeover(engine, shard, &header).await?;
    let mut recovery = Recovery::read(engine, shard).await?;
    recovery.replay(engine, shard, position).await?;
    let recovered = recovery.finish(header, position);
    info!(
        %shard, epoch = epoch.0, position, live = recovered.live.len(), replayed = recovered.replayed,
        "shard taken over"
    );
    Ok(recovered)
}

async fn append_takeover(engine: &Engine, shard: ShardId, header: &Header) -> Result<Position, NotTaken> {
    let frame = bytes::Bytes::from(Frame::write(header, Vec::new()));
    let mut why = String::new();
    for _ in 0..TRIES_MAX {
        let last = match engine.journal.last(shard).await {
            Ok(last) => last,
            Err(error) => {
                why = error.to_string();
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let expected = last.as_ref().map_or(0, |(position, _)| *position);
        if let Some((position, bytes)) = &last {
            let found = Frame::read(bytes).map_err(|error| NotTaken(format!("frame {position}: {error}")))?;
            if found.header == *header {
                return Ok(*position);
            }
            if found.header.epoch > header.epoch {
                let (node, epoch) = (found.header.node, found.header.epoch.0);
                return Err(NotTaken(format!("{node} owns it under the later epoch {epoch}")));
            }
        }
        match engine.journal.append(shard, frame.clone(), expected, &frame_id(header)).await {
            Ok(position) => return Ok(position),
            // The former owner is still writing, or nobody knows: look again.
            Err(error @ (AppendError::Conflict | AppendError::Undecided(_))) => why = error.to_string(),
            Err(error @ AppendError::Refused(_)) => return Err(NotTaken(error.to_string())),
        }
    }
    Err(NotTaken(format!("no takeover frame after {TRIES_MAX} tries: {why}")))
}

#[derive(Default)]
struct Recovery {
    /// In the order of their names: what follows from it is done in this order.
    drivers: BTreeMap<SagaId, (Driver, u64, bool)>,
    /// Where each saga that is in a page ended, and its remains. What is later is another run of the
    /// key.
    in_pages: HashMap<SagaId, (Position, Option<ByteBuf>)>,
    pages: Vec<(String, u64, Vec<EndedEntry>)>,
    definitions: HashMap<DefinitionRef, Arc<Definition>>,
    lost: HashMap<DefinitionRef, String>,
    damaged: BTreeMap<SagaId, Damaged>,
    outbox: Vec<(Position, Vec<Arc<Sending>>)>,
    mark: (Mark, u64),
    orphans: HashMap<SagaId, u64>,
    replayed: u64,
}

impl Recovery {
    async fn read(engine: &Engine, shard: ShardId) -> Result<Self, NotTaken> {
        let mut recovery = Self::default();
        let mut executions = Vec::new();
        let mut all = engine.snapshots.all(shard);
        while let Some(found) = all.next().await {
            let found = found.map_err(|error| NotTaken(error.to_string()))?;
            let damaged = |error| NotTaken(format!("snapshot {}: {error}", found.name));
            if found.name == MARK {
                recovery.mark = (codec::load(&found.bytes).map_err(damaged)?, found.revision);
            } else if found.name.starts_with(PAGE_PREFIX) {
                let mut entries: Vec<EndedEntry> = codec::load(&found.bytes).map_err(damaged)?;
                for entry in &mut entries {
                    let remains = entry.remains.take();
                    let ended = recovery.in_pages.entry(entry.saga.clone()).or_default();
                    if entry.position > ended.0 || (entry.position == ended.0 && ended.1.is_none()) {
                        *ended = (entry.position, remains);
                    }
                }
                recovery.pages.push((found.name, found.revision, entries));
            } else {
                match codec::load::<Execution>(&found.bytes) {
                    Ok(execution) => executions.push((execution, found.revision)),
                    Err(error) => {
                        let saga = found.name.strip_prefix("saga/").and_then(|name| name.parse::<SagaId>().ok());
                        let why = format!("its snapshot cannot be read: {error}");
                        let Some(saga) = saga else { return Err(damaged(error)) };
                        recovery.damage(saga, why, found.revision, 0);
                    }
                }
            }
        }
        // Of two runs of a key the later one counts; a page's name begins with its position.
        recovery.pages.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut ran: Vec<DefinitionRef> = Vec::new();
        for entry in recovery.pages.iter().flat_map(|(_, _, entries)| entries) {
            if ran.last() != Some(&entry.definition) {
                ran.push(entry.definition.clone());
            }
        }
        for which in ran {
            recovery.definition(engine, &which).await?;
        }
        for (execution, revision) in executions {
            let gone = recovery.in_pages.get(execution.saga()).is_some_and(|(ended, _)| execution.position() <= *ended);
            if gone {
                recovery.orphans.insert(execution.saga().clone(), revision);
            } else {
                let definition = recovery.definition(engine, execution.definition()).await?;
                let saga = execution.saga().clone();
                recovery.drivers.insert(saga, (Driver::restore(definition, execution), revision, true));
            }
        }
        Ok(recovery)
    }

    async fn definition(&mut self, engine: &Engine, which: &DefinitionRef) -> Result<Arc<Definition>, NotTaken> {
        if let Some(definition) = self.definitions.get(which) {
            return Ok(definition.clone());
        }
        let found = engine.definitions.get(which).await.map_err(|error| NotTaken(error.to_string()))?;
        // No saga keeps a shard from starting: those that run it are folded, and stand still.
        let definition = found.unwrap_or_else(|| {
            self.lost.insert(which.clone(), load::lost(which));
            Arc::new(Definition::stand_in(which.clone()))
        });
        self.definitions.insert(which.clone(), definition.clone());
        Ok(definition)
    }

    /// What is known of a saga of which something cannot be read.
    fn damage(&mut self, saga: SagaId, why: String, revision: u64, position: Position) {
        if let Some(known) = self.damaged.get_mut(&saga) {
            known.position = known.position.max(position);
            return;
        }
        let damaged = match self.drivers.remove(&saga) {
            Some((driver, revision, _)) => {
                let x = driver.execution();
                let start_digest =
                    super::slot::start_digest(&x.definition().name, x.input().unwrap_or(&protocol::Value::Null));
                let seen = Seen { status: Status::Stuck, ..Seen::of(x) };
                let (definition, position) = (driver.definition().clone(), position.max(x.position()));
                Damaged { saga: saga.clone(), why, definition, start_digest, revision, seen, position }
            }
            None => {
                let unknown = DefinitionRef { tenant: None, name: "unknown".into(), version: 0, digest: "".into() };
                let (status, state) = (Status::Stuck, String::new());
                let seen = Seen { status, state, changed_at: Time::default(), records: 0 };
                let definition = Arc::new(Definition::stand_in(unknown));
                Damaged { saga: saga.clone(), why, definition, start_digest: 0, revision, seen, position }
            }
        };
        self.damaged.insert(saga, damaged);
    }

    /// The records of a frame. One that cannot be read is its saga's trouble, not the shard's.
    fn records(&mut self, shard: ShardId, position: Position, frame: &Frame) -> Vec<Record> {
        let mut records = Vec::with_capacity(frame.records.len());
        for bytes in &frame.records {
            let error = match codec::load::<Record>(bytes) {
                Ok(record) => {
                    records.push(record);
                    continue;
                }
                Err(error) => error,
            };
            let Ok(load::Whose { saga }) = codec::load(bytes) else {
                error!(%shard, position, %error, "a record cannot be read, nor whose it is; it is passed over");
                continue;
            };
            if self.in_pages.get(&saga).is_none_or(|(ended, _)| position > *ended) {
                self.damage(saga, format!("its record in frame {position} cannot be read: {error}"), 0, position);
            }
        }
        records
    }

    async fn replay(&mut self, engine: &Engine, shard: ShardId, until: Position) -> Result<(), NotTaken> {
        let Mark { low_water, relayed } = self.mark.0;
        let mut frames = engine.journal.read(shard, low_water + 1, until);
        while let Some(frame) = frames.next().await {
            let (position, bytes) = frame.map_err(|error| NotTaken(error.to_string()))?;
            let damaged = |error: &dyn std::fmt::Display| NotTaken(format!("frame {position}: {error}"));
            let frame = Frame::read(&bytes).map_err(|error| damaged(&error))?;
            let records = self.records(shard, position, &frame);
            let mut sendings = Vec::new();
            for record in records {
                self.replayed += 1;
                if self.in_pages.get(&record.saga).is_some_and(|(ended, _)| position <= *ended) {
                    // It ended and its page is written, but what it said may not be sent.
                    if position > relayed {
                        sendings.extend(self.send_again(engine, &record).await?);
                    }
                    continue;
                }
                if let FactKind::Started(start) = &record.fact.kind {
                    // The key of a saga that ended and was forgotten may be used again.
                    let former = self.drivers.get(&record.saga).map(|(driver, revision, _)| {
                        (driver.execution().is_final() && driver.execution().position() < position, *revision)
                    });
                    if let (true, revision) = former.unwrap_or((true, 0)) {
                        let definition = self.definition(engine, &start.definition).await?;
                        let driver = Driver::new(record.saga.clone(), definition);
                        self.drivers.insert(record.saga.clone(), (driver, revision, false));
                    }
                }
                if self.damaged.contains_key(&record.saga) {
                    self.damage(record.saga, String::new(), 0, position);
                    continue;
                }
                let Some((driver, _, clean)) = self.drivers.get_mut(&record.saga) else {
                    warn!(%shard, position, saga = %record.saga, "a record without a beginning is passed over");
                    continue;
                };
                let fresh = record.number > driver.execution().records();
                let effects = match driver.replay(&record, position) {
                    Ok(effects) => effects,
                    Err(error) => {
                        let why = format!("its record in frame {position} does not fit: {error}");
                        self.damage(record.saga, why, 0, position);
                        continue;
                    }
                };
                *clean &= !fresh;
                if position > relayed {
                    sendings.extend(Sending::of(driver, effects));
                }
            }
            if !sendings.is_empty() {
                self.outbox.push((position, sendings));
            }
        }
        Ok(())
    }

    /// What this record of a saga that ended and is in a page says is to be sent.
    async fn send_again(&mut self, engine: &Engine, record: &Record) -> Result<Vec<Arc<Sending>>, NotTaken> {
        let damaged = |why: String| NotTaken(format!("the page entry of {}: {why}", record.saga));
        let remains = self.in_pages.get(&record.saga).and_then(|(_, remains)| remains.as_ref());
        let bytes = remains.ok_or_else(|| damaged("nothing remains of it".into()))?;
        let remains: Remains = codec::load(bytes).map_err(|error| damaged(error.to_string()))?;
        let words = remains.last_words(record);
        let definition = self.definition(engine, remains.execution.definition()).await?;
        Ok(Sending::of(&Driver::restore(definition, remains.execution), words))
    }

    fn finish(self, header: Header, position: Position) -> Recovered {
        let mut live = Vec::new();
        let mut ended = Vec::new();
        for (_, (driver, revision, clean)) in self.drivers {
            if driver.execution().is_final() {
                ended.push((ended_entry(driver.execution()), revision));
            } else if driver.execution().records() > 0 {
                live.push((driver, revision, clean));
            }
        }
        Recovered {
            header,
            position,
            live,
            ended,
            pages: self.pages,
            outbox: self.outbox,
            mark: self.mark,
            orphans: self.orphans,
            definitions: self.definitions,
            lost: self.lost,
            damaged: self.damaged.into_values().collect(),
            replayed: self.replayed,
        }
    }
}

/// What is kept of an execution that ended.
pub fn ended_entry(execution: &Execution) -> EndedEntry {
    EndedEntry {
        saga: execution.saga().clone(),
        definition: execution.definition().clone(),
        status: execution.status(),
        state: execution.state(),
        at: execution.changed_at(),
        records: execution.records(),
        position: execution.position(),
        start_digest: super::slot::start_digest(
            &execution.definition().name,
            execution.input().unwrap_or(&protocol::Value::Null),
        ),
        remains: Some(codec::store(&Remains::of(execution)).into()),
    }
}
