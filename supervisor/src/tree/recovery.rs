//! Taking a shard over: first a frame of our own, from which moment the former owner is fenced
//! whatever it believes; then the snapshots, the tail of the journal, and what was still to be
//! sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use protocol::{DefinitionRef, Epoch, SagaId, ShardId, codec};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::engine::Engine;
use super::pages::{self, Page, Pages};
use super::slot::EndedEntry;
use crate::journal::frame::{Frame, Header, Sending};
use crate::journal::writer::frame_id;
use crate::machine::definition::Definition;
use crate::machine::{Driver, Execution, FactKind, Record, Remains};
use crate::ports::{AppendError, OLD_PAGE_PREFIX, Position, Shelf, Snapshot};

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
    /// Pages of ended sagas, of which only the indexes were read.
    pub pages: Pages,
    /// What is to be sent again.
    pub outbox: Vec<(Position, Vec<Arc<Sending>>)>,
    /// The mark found, and its revision.
    pub mark: (Mark, u64),
    /// Sagas that are in a page and left a snapshot behind, with its revision: it is to be removed.
    pub orphans: Vec<(EndedEntry, u64)>,
    /// Every definition that any of them runs.
    pub definitions: HashMap<DefinitionRef, Arc<Definition>>,
    /// Records replayed.
    pub replayed: u64,
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
    pages: Pages,
    /// Pages that had to be read: where each of their sagas ended. What is later is another run of the
    /// key.
    read: HashMap<Arc<str>, HashMap<SagaId, EndedEntry>>,
    definitions: HashMap<DefinitionRef, Arc<Definition>>,
    outbox: Vec<(Position, Vec<Arc<Sending>>)>,
    mark: (Mark, u64),
    orphans: Vec<(EndedEntry, u64)>,
    replayed: u64,
}

impl Recovery {
    async fn read(engine: &Engine, shard: ShardId) -> Result<Self, NotTaken> {
        let mut recovery = Self::default();
        // Indexes after states: whoever removes a snapshot, or moves a page, writes the index first. What
        // is gone from the one is then found by the other, also while a former owner is still busy.
        let states = shelf(engine, shard, Shelf::States).await?;
        let indexes = shelf(engine, shard, Shelf::Indexes).await?;
        let mut pages = Vec::new();
        for found in indexes {
            let page = Page::load(&found.name, found.revision, &found.bytes);
            pages.push(page.map_err(|error| NotTaken(format!("index {}: {error}", found.name)))?);
        }
        let mut executions = Vec::new();
        for found in states {
            let damaged = |error| NotTaken(format!("snapshot {}: {error}", found.name));
            if found.name == MARK {
                recovery.mark = (codec::load(&found.bytes).map_err(damaged)?, found.revision);
            } else if found.name.starts_with(OLD_PAGE_PREFIX) {
                let entries: Vec<EndedEntry> = codec::load(&found.bytes).map_err(damaged)?;
                pages.push(recovery.old_page(engine, &found, &entries).await?);
            } else {
                let execution: Execution = codec::load(&found.bytes).map_err(damaged)?;
                executions.push((execution, found.revision));
            }
        }
        recovery.pages = Pages::new(pages);
        for (execution, revision) in executions {
            let ended = recovery.in_a_page(engine, shard, execution.saga()).await?;
            match ended.filter(|ended| execution.position() <= ended.position).cloned() {
                Some(ended) => {
                    recovery.definition(engine, &ended.definition).await?;
                    recovery.orphans.push((ended, revision));
                }
                None => {
                    let definition = recovery.definition(engine, execution.definition()).await?;
                    let saga = execution.saga().clone();
                    recovery.drivers.insert(saga, (Driver::restore(definition, execution), revision, true));
                }
            }
        }
        Ok(recovery)
    }

    /// A page of a release whose pages had no index: one is made of its entries. The sweep writes it
    /// down, so that the next takeover need not read the page.
    async fn old_page(&mut self, engine: &Engine, found: &Snapshot, entries: &[EndedEntry]) -> Result<Page, NotTaken> {
        for entry in entries {
            self.definition(engine, &entry.definition).await?;
        }
        let entries = entries.iter().map(|entry| (entry, self.definitions.get(&entry.definition).map(|it| &**it)));
        Ok(Page::of(found.name.as_str().into(), entries).seen((found.revision, 0)))
    }

    /// What a page has of `saga`, if one has it. Nearly always memory says that none has.
    async fn in_a_page(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        saga: &SagaId,
    ) -> Result<Option<&EndedEntry>, NotTaken> {
        let names = self.pages.of(saga);
        for name in &names {
            if !self.read.contains_key(name) {
                let entries = pages::entries(engine, shard, name).await;
                let entries = entries.map_err(|problem| NotTaken(problem.to_string()))?.unwrap_or_default();
                let mut by_saga: HashMap<SagaId, EndedEntry> = HashMap::new();
                for entry in entries {
                    let earlier = by_saga.get(&entry.saga).is_none_or(|other| other.position <= entry.position);
                    if earlier {
                        by_saga.insert(entry.saga.clone(), entry);
                    }
                }
                self.read.insert(name.clone(), by_saga);
            }
        }
        let found = names.iter().filter_map(|name| self.read.get(name)?.get(saga));
        Ok(found.max_by_key(|entry| (entry.position, entry.remains.is_some())))
    }

    async fn definition(&mut self, engine: &Engine, which: &DefinitionRef) -> Result<Arc<Definition>, NotTaken> {
        if let Some(definition) = self.definitions.get(which) {
            return Ok(definition.clone());
        }
        let found = engine.definitions.get(which).await.map_err(|error| NotTaken(error.to_string()))?;
        let definition =
            found.ok_or_else(|| NotTaken(format!("definition {which} ({}) is not stored", which.digest)))?;
        self.definitions.insert(which.clone(), definition.clone());
        Ok(definition)
    }

    async fn replay(&mut self, engine: &Engine, shard: ShardId, until: Position) -> Result<(), NotTaken> {
        let Mark { low_water, relayed } = self.mark.0;
        let mut frames = engine.journal.read(shard, low_water + 1, until);
        while let Some(frame) = frames.next().await {
            let (position, bytes) = frame.map_err(|error| NotTaken(error.to_string()))?;
            let damaged = |error: &dyn std::fmt::Display| NotTaken(format!("frame {position}: {error}"));
            let records = Frame::read(&bytes).and_then(|frame| frame.decode()).map_err(|error| damaged(&error))?;
            let mut sendings = Vec::new();
            for record in records {
                self.replayed += 1;
                let ended = self.in_a_page(engine, shard, &record.saga).await?;
                if let Some(ended) = ended.filter(|ended| position <= ended.position).cloned() {
                    // It ended and its page is written, but what it said may not be sent.
                    if position > relayed {
                        sendings.extend(self.send_again(engine, &record, ended).await?);
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
                let Some((driver, _, clean)) = self.drivers.get_mut(&record.saga) else {
                    warn!(%shard, position, saga = %record.saga, "a record without a beginning is passed over");
                    continue;
                };
                let fresh = record.number > driver.execution().records();
                let effects = driver.replay(&record, position).map_err(|error| damaged(&error))?;
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
    async fn send_again(
        &mut self,
        engine: &Engine,
        record: &Record,
        ended: EndedEntry,
    ) -> Result<Vec<Arc<Sending>>, NotTaken> {
        let damaged = |why: String| NotTaken(format!("the page entry of {}: {why}", record.saga));
        let bytes = ended.remains.ok_or_else(|| damaged("nothing remains of it".into()))?;
        let remains: Remains = codec::load(&bytes).map_err(|error| damaged(error.to_string()))?;
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
            replayed: self.replayed,
        }
    }
}

/// Every value on a shelf.
async fn shelf(engine: &Engine, shard: ShardId, shelf: Shelf) -> Result<Vec<Snapshot>, NotTaken> {
    engine.snapshots.all(shard, shelf).try_collect().await.map_err(|error| NotTaken(error.to_string()))
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
