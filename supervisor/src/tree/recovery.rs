//! Taking a shard over: first a frame of our own, from which moment the former owner is fenced
//! whatever it believes; then the snapshots, the tail of the journal, and what was still to be
//! sent.

mod damaged;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use protocol::{Code, DefinitionRef, Epoch, SagaId, ShardId, codec};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::engine::Engine;
use super::ground::Ground;
use super::load;
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
use crate::ports::{AppendError, OLD_PAGE_PREFIX, Position, Shelf, Snapshot, Unavailable};
use damaged::unknown_ends;
pub use damaged::{Damaged, unknown_definition};

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
    /// Who wrote it, by epoch: a former owner's does not replace a later one's, also where the store was lost
    /// between the two and its revisions say nothing.
    #[serde(default)]
    pub epoch: Epoch,
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
    /// Definitions among them that are lost, and why their sagas stand still.
    pub lost: HashMap<DefinitionRef, String>,
    /// Sagas whose snapshot or records cannot be read.
    pub damaged: Vec<Damaged>,
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
    recovery.mark_first(engine, shard, epoch).await?;
    let digest = Digest::of(&frame);
    recovery.replay(engine, shard, (position, digest), &mut ground).await?;
    ground.confirm(engine, shard).await?;
    if !recovery.from_the_beginning && !is_marked(engine, shard, recovery.mark.1).await.map_err(NotTaken::of)? {
        return Err(NotTaken("the snapshots were lost while they were read".into()).into());
    }
    let (mark, revision) = &recovery.mark;
    if let Some(anchor) = ground.anchor(epoch, engine.now(), (position, digest), (mark, *revision)) {
        match engine.journal.keep(shard, &anchor).await {
            Ok(true) => {}
            Ok(false) => return Err(NotTaken("another node took it over under a later epoch".into()).into()),
            Err(error) => {
                warn!(%shard, %error, "where the journal stands could not be written down beside the lease; the next second tries again");
            }
        }
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

/// Whether the mark that was written at `revision`, or a later one, is there: without it the snapshots that
/// were written before it are gone too.
pub async fn is_marked(engine: &Engine, shard: ShardId, revision: u64) -> Result<bool, Unavailable> {
    let found = engine.snapshots.get(shard, MARK).await?;
    Ok(found.map_or(0, |found| found.revision) >= revision)
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
    read: HashMap<Arc<str>, Result<HashMap<SagaId, EndedEntry>, String>>,
    definitions: HashMap<DefinitionRef, Arc<Definition>>,
    lost: HashMap<DefinitionRef, String>,
    damaged: BTreeMap<SagaId, Damaged>,
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
            pages.push(match Page::load(&found.name, found.revision, &found.bytes) {
                Ok(page) => page,
                Err(error) => recovery.page_without_index(engine, shard, &found, &error).await?,
            });
        }
        let mut executions = Vec::new();
        for found in states {
            let damaged = |error| NotTaken(format!("snapshot {}: {error}", found.name));
            if found.name == MARK {
                recovery.mark = (codec::load(&found.bytes).map_err(damaged)?, found.revision);
            } else if found.name.starts_with(OLD_PAGE_PREFIX) {
                let entries = codec::load::<Vec<EndedEntry>>(&found.bytes);
                let entries = entries.map_err(|error| unknown_ends(&found.name, &error))?;
                pages.push(recovery.old_page(engine, &found, &entries).await?);
            } else {
                match codec::load::<Execution>(&found.bytes) {
                    Ok(execution) => executions.push((execution, found.revision, found.bytes.len())),
                    Err(error) => {
                        let saga = found.name.strip_prefix("saga/").and_then(|name| name.parse::<SagaId>().ok());
                        let why = format!("its snapshot cannot be read: {error}");
                        let Some(saga) = saga else { return Err(damaged(error)) };
                        recovery.damage(saga, why, found.revision, 0);
                    }
                }
            }
        }
        recovery.pages = Pages::new(pages);
        for (execution, revision, bytes) in executions {
            let (saga, position) = (execution.saga().clone(), execution.position());
            let ended = recovery.in_a_page(engine, shard, &saga).await?.map(Option::<&EndedEntry>::cloned);
            if let Ok(Some(ended)) = &ended
                && position <= ended.position
            {
                recovery.definition(engine, &ended.definition).await?;
                recovery.orphans.push((ended.clone(), revision));
                continue;
            }
            let definition = recovery.definition(engine, execution.definition()).await?;
            recovery.drivers.insert(saga.clone(), (Driver::restore(definition, execution), revision, Some(bytes)));
            if let Err(why) = ended {
                recovery.damage(saga, why, revision, position);
            }
        }
        Ok(recovery)
    }

    /// A page of a release whose pages had no index: one is made of its entries. The sweep writes it
    /// down, so that the next takeover need not read the page.
    async fn old_page(&mut self, engine: &Engine, found: &Snapshot, entries: &[EndedEntry]) -> Result<Page, NotTaken> {
        Ok(self.page(engine, &found.name, entries).await?.seen((found.revision, 0)))
    }

    async fn page(&mut self, engine: &Engine, name: &str, entries: &[EndedEntry]) -> Result<Page, NotTaken> {
        for entry in entries {
            self.definition(engine, &entry.definition).await?;
        }
        let entries = entries.iter().map(|entry| (entry, self.definitions.get(&entry.definition).map(|it| &**it)));
        Ok(Page::of(name.into(), entries))
    }

    /// What a page has of `saga`, if one has it; an error where that page cannot be read, so that nobody
    /// knows whether it ended. Nearly always memory says that none has.
    async fn in_a_page(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        saga: &SagaId,
    ) -> Result<Result<Option<&EndedEntry>, String>, NotTaken> {
        let names = self.pages.of(saga);
        for name in &names {
            if !self.read.contains_key(name) {
                let page = match pages::entries(engine, shard, name).await {
                    Ok(entries) => Ok(last_runs(entries.unwrap_or_default())),
                    Err(problem) if problem.code == Code::Unavailable => return Err(NotTaken::of(problem)),
                    Err(problem) => {
                        error!(%shard, page = &**name, %problem, "a page of ended sagas cannot be read");
                        Err(format!("nobody can say whether it ended: {}", problem.message))
                    }
                };
                self.read.insert(name.clone(), page);
            }
        }
        let mut last: Option<&EndedEntry> = None;
        for page in names.iter().filter_map(|name| self.read.get(name)) {
            match page {
                Ok(page) => {
                    last = last
                        .into_iter()
                        .chain(page.get(saga))
                        .max_by_key(|entry| (entry.position, entry.remains.is_some()))
                }
                Err(why) => return Ok(Err(why.clone())),
            }
        }
        Ok(Ok(last))
    }

    async fn definition(&mut self, engine: &Engine, which: &DefinitionRef) -> Result<Arc<Definition>, NotTaken> {
        if let Some(definition) = self.definitions.get(which) {
            return Ok(definition.clone());
        }
        let found = engine.definitions.get(which).await.map_err(|error| NotTaken(error.to_string()))?;
        // No saga keeps a shard from starting: those that run it are folded, and stand still.
        let definition = found.unwrap_or_else(|| {
            self.lost.insert(which.clone(), load::lost(which));
            Arc::new(Definition::stand_in(which.clone(), engine.definitions.deployers()))
        });
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

    /// Writes the first mark, before any page: whatever is written later stands behind one, and a store that
    /// is lost in between is known by its absence.
    async fn mark_first(&mut self, engine: &Engine, shard: ShardId, epoch: Epoch) -> Result<(), NotTaken> {
        let (mark, revision) = &mut self.mark;
        if *revision == 0 {
            mark.epoch = epoch;
            let bytes = codec::store(&*mark).into();
            *revision = engine.snapshots.put(shard, MARK, bytes, 0).await.map_err(NotTaken::of)?;
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
        let entries = match pages::entries(engine, shard, &page.name).await {
            Err(problem) if problem.code == Code::Unavailable => return Err(NotTaken::of(problem)),
            entries => entries.ok().flatten(),
        };
        let last = entries.into_iter().flatten().find(|entry| entry.position == page.span.upto);
        // An index that outlived its page is named itself: it too knows more than the journal.
        let name = last.map_or_else(|| page.index_name(), |entry| entry.saga.to_string());
        Ok(Some((name, page.span.upto)))
    }

    async fn replay(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        (until, own): (Position, Digest),
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
            let records = self.records(engine, shard, position, &frame).await?;
            let mut unsent = Unsent { position, outbox: Vec::new(), lost: Vec::new() };
            let mut events = 0;
            for record in records {
                self.replayed += 1;
                let record = match record {
                    Ok(record) => record,
                    Err(said) => {
                        unsent.say(Vec::new(), said, &mut events);
                        continue;
                    }
                };
                match self.in_a_page(engine, shard, &record.saga).await?.map(Option::<&EndedEntry>::cloned) {
                    Ok(Some(ended)) if position <= ended.position => {
                        // It ended and its page is written, but what it said may not be sent.
                        if position > relayed {
                            let sendings = self.send_again(engine, shard, &record, ended).await?;
                            unsent.say(sendings, record.events() as u64, &mut events);
                        }
                        continue;
                    }
                    Ok(_) => {}
                    Err(_) if record.is_burial() => {}
                    Err(why) => {
                        unsent.say(Vec::new(), record.events() as u64, &mut events);
                        self.damage(record.saga, why, 0, position);
                        continue;
                    }
                }
                if let FactKind::Started(start) = &record.fact.kind {
                    // The key of a saga that ended and was forgotten may be used again.
                    let former = self.drivers.get(&record.saga).map(|(driver, revision, _)| {
                        (driver.execution().is_final() && driver.execution().position() < position, *revision)
                    });
                    // A snapshot that cannot be read is not needed where the journal has the beginning.
                    let former = self.damaged.remove(&record.saga).map(|it| (true, it.revision)).or(former);
                    if let (true, revision) = former.unwrap_or((true, 0)) {
                        let definition = self.definition(engine, &start.definition).await?;
                        let driver = Driver::new(record.saga.clone(), definition);
                        self.drivers.insert(record.saga.clone(), (driver, revision, None));
                    }
                }
                if record.is_burial() && !self.drivers.contains_key(&record.saga) {
                    let (last, revision) =
                        self.damaged.remove(&record.saga).map_or((None, 0), |it| (it.last, it.revision));
                    let driver = last.map_or_else(|| self.unknown(engine, &record.saga), |last| *last);
                    self.drivers.insert(record.saga.clone(), (driver, revision, None));
                }
                if self.damaged.contains_key(&record.saga) {
                    unsent.say(Vec::new(), record.events() as u64, &mut events);
                    self.damage(record.saga, String::new(), 0, position);
                    continue;
                }
                let Some((driver, _, stored)) = self.drivers.get_mut(&record.saga) else {
                    warn!(%shard, position, saga = %record.saga, "a record without a beginning is passed over");
                    unsent.say(Vec::new(), record.events() as u64, &mut events);
                    continue;
                };
                let fresh = record.number > driver.execution().records();
                let effects = match driver.replay(&record, position) {
                    Ok(effects) => effects,
                    Err(error) => {
                        let why = format!("its record in frame {position} does not fit: {error}");
                        unsent.say(Vec::new(), record.events() as u64, &mut events);
                        self.damage(record.saga, why, 0, position);
                        continue;
                    }
                };
                if fresh {
                    *stored = None;
                }
                if position > relayed {
                    unsent.say(Sending::of(driver, effects), record.events() as u64, &mut events);
                }
            }
            if position > relayed && !(unsent.outbox.is_empty() && unsent.lost.is_empty()) {
                self.outbox.push(unsent);
            }
        }
        if before != Some(own) {
            // It was lost, or another one was brought back, while it was read.
            return Err(NotTaken(format!("the journal was not read up to the takeover's own frame {until}")).into());
        }
        Ok(())
    }

    /// What this record of a saga that ended and is in a page says is to be sent. Nothing where the page
    /// does not tell: it ended, so there is nobody to be parked for it.
    async fn send_again(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        record: &Record,
        ended: EndedEntry,
    ) -> Result<Vec<Arc<Sending>>, NotTaken> {
        let remains = ended.remains.ok_or_else(|| "nothing remains of it".to_owned());
        let remains = remains.and_then(|bytes| codec::load::<Remains>(&bytes).map_err(|error| error.to_string()));
        let remains = match remains {
            Ok(remains) => remains,
            Err(why) => {
                error!(%shard, saga = %record.saga, why, "what a saga said last cannot be sent: its page does not tell");
                return Ok(Vec::new());
            }
        };
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
            lost: self.lost,
            damaged: self.damaged.into_values().collect(),
            replayed: self.replayed,
        }
    }
}

/// Of each saga its last run.
fn last_runs(entries: Vec<EndedEntry>) -> HashMap<SagaId, EndedEntry> {
    let mut by_saga: HashMap<SagaId, EndedEntry> = HashMap::new();
    for entry in entries {
        if by_saga.get(&entry.saga).is_none_or(|other| other.position <= entry.position) {
            by_saga.insert(entry.saga.clone(), entry);
        }
    }
    by_saga
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
