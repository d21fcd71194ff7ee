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
use super::ground::Ground;
use super::pages::{self, Page, Pages};
use super::progress::Sent;
use super::relay::Unsent;
use super::shell::Fault;
use super::slot::EndedEntry;
use crate::journal::Digest;
use crate::journal::anchor::{Anchor, Loss};
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
    /// Events of the shard up to there; older releases did not count them.
    #[serde(default)]
    pub events: u64,
    /// A sequence of the event stream behind which everything else of the shard stands; 0 where
    /// nobody knows one.
    #[serde(default)]
    pub stream: u64,
    /// The digest of the frame at `low_water`, when it is known: the first frame of a replay follows
    /// it. Absent from marks of former releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Where the journal stood when the mark was written: the copy of what stands beside the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
}

impl Mark {
    /// What was sent.
    pub const fn sent(&self) -> Sent {
        Sent { position: self.relayed, events: self.events, stream: self.stream }
    }
}

/// The snapshot store's name of the mark.
pub const MARK: &str = "mark";

/// A shard, recovered.
pub struct Recovered {
    /// Our takeover frame.
    pub header: Header,
    /// Where it is.
    pub position: Position,
    /// Its digest.
    pub digest: Digest,
    /// What the shard stands on.
    pub ground: Ground,
    /// Live sagas: driver, snapshot revision, and the bytes of the snapshot if it is this very state.
    pub live: Vec<(Driver, u64, Option<usize>)>,
    /// Ended sagas that are not in a page yet, with the revision of a snapshot left behind.
    pub ended: Vec<(EndedEntry, u64)>,
    /// Pages of ended sagas, of which only the indexes were read.
    pub pages: Pages,
    /// What may not be sent yet.
    pub outbox: Vec<Unsent>,
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

impl NotTaken {
    /// Because of `error`, in its words.
    pub fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Takes `shard` over under `epoch`. Fails with [`Stopped`](super::ground::Stopped) when the journal
/// is not the one that its last owner left.
pub async fn take_over(engine: &Engine, shard: ShardId, epoch: Epoch) -> Result<Recovered, Fault> {
    let mark = found_mark(engine, shard).await?;
    let mut ground = Ground::look(engine, shard, mark.as_ref()).await?;
    let header = Header { node: engine.node.clone(), epoch, counter: 0, nonce: engine.seeds.next(), after: None };
    // What an idle shard wrote last may be cut for its age; the chain goes on behind it all the same.
    let left = ground.left().or(mark.and_then(|mark| mark.digest)).unwrap_or(Digest::NONE);
    let (position, frame) = append_takeover(engine, shard, &header, left).await?;
    let mut recovery = Recovery::read(engine, shard).await?;
    recovery.check(engine, shard, position, &mut ground).await?;
    recovery.replay(engine, shard, position, &mut ground).await?;
    let digest = Digest::of(&frame);
    let (mark, revision) = &recovery.mark;
    if let Some(anchor) = ground.anchor(epoch, engine.now(), (position, digest), (mark, *revision))
        && let Err(error) = engine.journal.keep(shard, &anchor).await
    {
        warn!(%shard, %error, "where the journal stands could not be written down beside the lease; the next sweep tries again");
    }
    let recovered = recovery.finish(header, (position, digest), ground);
    info!(
        %shard, epoch = epoch.0, position, live = recovered.live.len(), replayed = recovered.replayed,
        "shard taken over"
    );
    Ok(recovered)
}

/// The mark, read by itself before anything is written. One that cannot be read is met again, and
/// told of, when all snapshots are read.
async fn found_mark(engine: &Engine, shard: ShardId) -> Result<Option<Mark>, NotTaken> {
    let found = engine.snapshots.get(shard, MARK).await.map_err(NotTaken::of)?;
    Ok(found.and_then(|found| codec::load(&found.bytes).ok()))
}

/// Appends the takeover frame behind the shard's last one, or behind `left` where that is cut off.
/// Answers where it is, and its bytes.
async fn append_takeover(
    engine: &Engine,
    shard: ShardId,
    header: &Header,
    left: Digest,
) -> Result<(Position, bytes::Bytes), NotTaken> {
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
        let mut after = left;
        if let Some((position, bytes)) = last {
            let found = Frame::read(&bytes).map_err(|error| NotTaken(format!("frame {position}: {error}")))?;
            if found.header.is_of(header) {
                return Ok((position, bytes));
            }
            after = Digest::of(&bytes);
            if found.header.epoch > header.epoch {
                let (node, epoch) = (found.header.node, found.header.epoch.0);
                return Err(NotTaken(format!("{node} owns it under the later epoch {epoch}")));
            }
        }
        let header = Header { after: Some(after), ..header.clone() };
        let frame = bytes::Bytes::from(Frame::write(&header, Vec::new()));
        match engine.journal.append(shard, frame.clone(), expected, &frame_id(&header)).await {
            Ok(position) => return Ok((position, frame)),
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
    drivers: BTreeMap<SagaId, (Driver, u64, Option<usize>)>,
    pages: Pages,
    /// Pages that had to be read: where each of their sagas ended. What is later is another run of the
    /// key.
    read: HashMap<Arc<str>, HashMap<SagaId, EndedEntry>>,
    definitions: HashMap<DefinitionRef, Arc<Definition>>,
    outbox: Vec<Unsent>,
    mark: (Mark, u64),
    orphans: Vec<(EndedEntry, u64)>,
    replayed: u64,
    /// Set when no snapshot counts.
    from_the_beginning: bool,
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
                executions.push((execution, found.revision, found.bytes.len()));
            }
        }
        recovery.pages = Pages::new(pages);
        for (execution, revision, bytes) in executions {
            let ended = recovery.in_a_page(engine, shard, execution.saga()).await?;
            match ended.filter(|ended| execution.position() <= ended.position).cloned() {
                Some(ended) => {
                    recovery.definition(engine, &ended.definition).await?;
                    recovery.orphans.push((ended, revision));
                }
                None => {
                    let definition = recovery.definition(engine, execution.definition()).await?;
                    let saga = execution.saga().clone();
                    recovery.drivers.insert(saga, (Driver::restore(definition, execution), revision, Some(bytes)));
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

    /// Compares the snapshots with what was left and with the journal, whose takeover frame is at
    /// `until`. Snapshots that are older than what was left are not used: where the journal reaches
    /// back to its beginning everything is told anew by it.
    async fn check(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        until: Position,
        ground: &mut Ground,
    ) -> Result<(), Fault> {
        if ground.outlives(self.mark.1) {
            warn!(%shard, found = self.mark.1, "the snapshots are older than what was left; the whole journal is read instead");
            let mark = Mark { low_water: 0, ..ground.marked() };
            *self = Self { from_the_beginning: true, mark: (mark, self.mark.1), ..Self::default() };
            return Ok(());
        }
        let mut live = self.drivers.values().map(|(driver, ..)| driver.execution());
        let ahead = live.find(|execution| execution.position() >= until);
        let ahead = match ahead.map(|execution| (execution.saga().to_string(), execution.position())) {
            Some(live) => Some(live),
            None => self.ended_ahead(engine, shard, until).await?,
        };
        if let Some((name, position)) = ahead {
            ground.refuse(shard, Loss::Ahead { name, position })?;
        }
        Ok(())
    }

    /// Of the pages that know of ends at `until` or later: the last saga that ended, and where. The
    /// indexes say whether there is one; only then is a page read.
    async fn ended_ahead(
        &self,
        engine: &Engine,
        shard: ShardId,
        until: Position,
    ) -> Result<Option<(String, Position)>, NotTaken> {
        let ahead = self.pages.iter().filter(|page| page.span.upto >= until);
        let Some(page) = ahead.max_by_key(|page| (page.span.upto, page.name.clone())) else { return Ok(None) };
        let entries = pages::entries(engine, shard, &page.name).await.map_err(NotTaken::of)?;
        let last = entries.into_iter().flatten().find(|entry| entry.position == page.span.upto);
        // An index that outlived its page is named itself: it too knows more than the journal.
        let name = last.map_or_else(|| page.index_name(), |entry| entry.saga.to_string());
        Ok(Some((name, page.span.upto)))
    }

    async fn replay(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        until: Position,
        ground: &mut Ground,
    ) -> Result<(), Fault> {
        let Mark { low_water, relayed, digest, .. } = self.mark.0;
        let mut before = if self.from_the_beginning { Some(Digest::NONE) } else { digest };
        let mut begun = false;
        let mut frames = engine.journal.read(shard, low_water + 1, until);
        while let Some(frame) = frames.next().await {
            let (position, bytes) = frame.map_err(|error| NotTaken(error.to_string()))?;
            let damaged = |error: &dyn std::fmt::Display| NotTaken(format!("frame {position}: {error}"));
            let frame = Frame::read(&bytes).map_err(|error| damaged(&error))?;
            let whole = match frame.header.after {
                Some(after) => before.is_none_or(|before| before == after),
                // Of a release that did not chain: nobody can say what was before it.
                None => begun || !self.from_the_beginning,
            };
            if !whole {
                ground.refuse(
                    shard,
                    match begun {
                        true => Loss::Altered { position },
                        false if self.from_the_beginning => Loss::Snapshots { low_water: ground.marked().low_water },
                        false => Loss::Cut { low_water },
                    },
                )?;
            }
            (before, begun) = (Some(Digest::of(&bytes)), true);
            let records = frame.decode().map_err(|error| damaged(&error))?;
            let mut unsent = Unsent { position, outbox: Vec::new(), lost: Vec::new() };
            let mut events = 0;
            for record in records {
                self.replayed += 1;
                let ended = self.in_a_page(engine, shard, &record.saga).await?;
                if let Some(ended) = ended.filter(|ended| position <= ended.position).cloned() {
                    // It ended and its page is written, but what it said may not be sent.
                    if position > relayed {
                        unsent.say(self.send_again(engine, &record, ended).await?, &record, &mut events);
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
                        self.drivers.insert(record.saga.clone(), (driver, revision, None));
                    }
                }
                let Some((driver, _, stored)) = self.drivers.get_mut(&record.saga) else {
                    warn!(%shard, position, saga = %record.saga, "a record without a beginning is passed over");
                    unsent.say(Vec::new(), &record, &mut events);
                    continue;
                };
                let fresh = record.number > driver.execution().records();
                let effects = driver.replay(&record, position).map_err(|error| damaged(&error))?;
                if fresh {
                    *stored = None;
                }
                if position > relayed {
                    unsent.say(Sending::of(driver, effects), &record, &mut events);
                }
            }
            if position > relayed && !(unsent.outbox.is_empty() && unsent.lost.is_empty()) {
                self.outbox.push(unsent);
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

    fn finish(self, header: Header, (position, digest): (Position, Digest), ground: Ground) -> Recovered {
        let mut live = Vec::new();
        let mut ended = Vec::new();
        for (_, (driver, revision, stored)) in self.drivers {
            if driver.execution().is_final() {
                ended.push((ended_entry(driver.execution()), revision));
            } else if driver.execution().records() > 0 {
                live.push((driver, revision, stored));
            }
        }
        Recovered {
            header,
            position,
            digest,
            ground,
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
