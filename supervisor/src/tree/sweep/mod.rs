//! Writing down what changed, now and then, so that a takeover has little to replay: snapshots of
//! live sagas, pages of ended ones, and at last the mark from which a replay must start.
//!
//! A sweep begins at a journal position. When everything that was changed up to there is in the
//! store, the mark moves to it. Nothing here is needed for correctness: a sweep that fails leaves
//! the old mark, and the next takeover replays more.

mod page;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use protocol::SagaId;
use tracing::{debug, warn};

use super::recovery::{Mark, PAGE_PREFIX};
use super::saga;
use super::shard::{Message, ShardActor, State};
use super::shell::Me;
use super::slot::{EndedEntry, Life};
use crate::machine::definition::Definition;
use crate::ports::{Position, PutError};
pub use page::{Page, Span};
pub use write::Swept;
use write::{Gone, SnapshotPut, Work, write};

/// Ended sagas per page, so that forgetting goes in small steps.
const PAGE_ENTRIES_MAX: usize = 1_000;
/// A page takes no more once it has so many bytes: it stays well below what the bus carries.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// The sweeping side of a shard's state.
pub struct Sweeper {
    mark: (Mark, u64),
    /// Snapshots to write: state, records, revision to expect.
    given: BTreeMap<Arc<SagaId>, (Bytes, u64, u64)>,
    /// Sagas that were asked for their state and have not answered.
    asked: BTreeSet<Arc<SagaId>>,
    /// Ended since the last page.
    ended: Vec<Arc<SagaId>>,
    pages: Vec<Page>,
    under_way: Option<UnderWay>,
    writing: bool,
    /// Sagas whose state the store refuses; told of once.
    refused: BTreeSet<Arc<SagaId>>,
}

struct UnderWay {
    at: Position,
    failed: bool,
}

impl Sweeper {
    /// Begins with the mark that the takeover found.
    pub fn new(mark: (Mark, u64)) -> Self {
        Self {
            mark,
            given: BTreeMap::new(),
            asked: BTreeSet::new(),
            ended: Vec::new(),
            pages: Vec::new(),
            under_way: None,
            writing: false,
            refused: BTreeSet::new(),
        }
    }

    /// The mark as last written.
    pub const fn mark(&self) -> Mark {
        self.mark.0
    }

    /// Whether a sweep waits for this saga's state.
    pub fn waits_for(&self, saga: &Arc<SagaId>) -> bool {
        self.asked.contains(saga)
    }

    /// Whether a sweep is under way.
    pub const fn is_busy(&self) -> bool {
        self.under_way.is_some() || self.writing
    }

    /// A page that the store holds.
    pub fn know_page(&mut self, page: Page) {
        self.pages.push(page);
        self.pages.sort_by_key(|page| page.span.newest);
    }

    /// A saga that ended and is in no page yet.
    pub fn note_ended(&mut self, saga: Arc<SagaId>) {
        self.asked.remove(&saga);
        self.given.remove(&saga);
        self.refused.remove(&saga);
        self.ended.push(saga);
    }

    /// A saga's state, to be written.
    pub fn give(&mut self, saga: Arc<SagaId>, bytes: Bytes, records: u64, revision: u64) {
        self.asked.remove(&saga);
        self.given.insert(saga, (bytes, records, revision));
    }
}

impl ShardActor {
    /// Begins a sweep, unless one is under way.
    pub(super) fn sweep(&self, me: &Me<Message>, state: &mut State) {
        if state.sweeper.under_way.is_some() {
            // A saga that was asked and put to sleep before it read the question never answers, and
            // nothing else may come that goes on with the sweep.
            self.go_on_sweeping(me, state);
            return;
        }
        let at = state.meters.position.load(Relaxed);
        if at == state.sweeper.mark.0.low_water && state.relayed.load(Relaxed) == state.sweeper.mark.0.relayed {
            if state.is_settled() {
                me.stop();
            }
            return;
        }
        let mut failed = false;
        for (saga, slot) in &state.slots {
            // Its records must be found again: the mark stays before them.
            failed |= slot.broken.as_ref().is_some_and(|broken| broken.unsaved);
            match &slot.life {
                Life::Awake { .. } => {
                    state.sweeper.asked.insert(saga.clone());
                }
                Life::Asleep(asleep) => {
                    if let Some(bytes) = &asleep.bytes {
                        let given = (bytes.clone(), asleep.records, slot.revision);
                        state.sweeper.given.insert(saga.clone(), given);
                    }
                }
                // Its state is on its way between here and its actor: the mark waits for the next
                // sweep.
                Life::Loading { .. } => failed = true,
                Life::Ended(_) => {}
            }
        }
        // Asked in the order of their names, so that the same shard does the same again.
        for saga in &state.sweeper.asked {
            let Some(Life::Awake { handle, .. }) = state.slots.get(saga).map(|slot| &slot.life) else { continue };
            // One that died a moment ago is found by its slot: nobody knows its state until then.
            failed |= !handle.tell(saga::Message::Snapshot);
        }
        state.sweeper.under_way = Some(UnderWay { at, failed });
        self.go_on_sweeping(me, state);
    }

    /// Writes what is there to write, when nothing is being written.
    pub(super) fn go_on_sweeping(&self, me: &Me<Message>, state: &mut State) {
        if state.sweeper.writing {
            return;
        }
        // A saga that fell asleep or ended meanwhile does not answer; its slot has its state.
        let asked: Vec<_> = state.sweeper.asked.iter().cloned().collect();
        for saga in asked {
            match state.slots.get(&saga).map(|slot| (&slot.life, slot.revision)) {
                Some((Life::Awake { .. }, _)) => {}
                Some((Life::Asleep(asleep), revision)) => {
                    if let Some(bytes) = &asleep.bytes {
                        let given = (bytes.clone(), asleep.records, revision);
                        state.sweeper.given.insert(saga.clone(), given);
                    }
                    state.sweeper.asked.remove(&saga);
                }
                Some((Life::Loading { .. }, _)) => {
                    state.sweeper.asked.remove(&saga);
                    if let Some(under_way) = &mut state.sweeper.under_way {
                        under_way.failed = true;
                    }
                }
                Some((Life::Ended(_), _)) | None => {
                    state.sweeper.asked.remove(&saga);
                }
            }
        }
        let sweeping = state.sweeper.under_way.is_some();
        if state.sweeper.given.is_empty() && !(sweeping && state.sweeper.asked.is_empty()) {
            return;
        }
        let work = self.work(state);
        state.sweeper.writing = true;
        let (engine, shard, me) = (self.engine.clone(), self.shard, me.clone());
        tokio::spawn(async move {
            me.tell(Message::Swept(write(&engine, shard, work).await));
        });
    }

    fn work(&self, state: &mut State) -> Work {
        let last = state.sweeper.under_way.is_some() && state.sweeper.asked.is_empty();
        let snapshots = std::mem::take(&mut state.sweeper.given)
            .into_iter()
            .map(|(saga, (bytes, records, revision))| (saga, bytes, records, revision))
            .collect();
        let (mut pages, mut remove, mut mark) = (Vec::new(), Vec::new(), None);
        let under_way = state.sweeper.under_way.as_ref().map(|under_way| (under_way.at, under_way.failed));
        if last && let Some((at, failed)) = under_way {
            let ended = std::mem::take(&mut state.sweeper.ended);
            pages = self.new_pages(&ended, state);
            for saga in &ended {
                if let Some(slot) = state.slots.get(saga)
                    && slot.revision > 0
                {
                    remove.push((Gone::Snapshot(saga.clone()), slot.revision));
                }
            }
            self.old_pages(state, &mut remove);
            if !failed {
                let relayed = state.relayed.load(Relaxed);
                // The relay reads its frames again from the journal, so the replay starts no later.
                let low_water = at.min(relayed);
                mark = Some((Mark { low_water, relayed }, state.sweeper.mark.1));
            }
        }
        Work { snapshots, pages, remove, mark }
    }

    /// Takes in what a sweep's task did.
    pub(super) fn swept(&self, me: &Me<Message>, swept: Swept, state: &mut State) {
        state.sweeper.writing = false;
        for SnapshotPut { saga, records, bytes, result } in swept.snapshots {
            match result {
                Ok(revision) => {
                    state.sweeper.refused.remove(&saga);
                    let Some(slot) = state.slots.get_mut(&saga) else { continue };
                    slot.revision = revision;
                    match &mut slot.life {
                        Life::Asleep(asleep) if asleep.records == records => asleep.bytes = None,
                        Life::Ended(_) => state.sweeper.ended_with_snapshot(&saga),
                        Life::Asleep(_) | Life::Awake { .. } | Life::Loading { .. } => {}
                    }
                }
                Err(error) => {
                    match &error {
                        PutError::Refused(why) if state.sweeper.refused.insert(saga.clone()) => {
                            warn!(
                                shard = %self.shard, %saga, bytes, why,
                                "the store refuses a saga's snapshot; until it takes it, a takeover replays more and more"
                            );
                            me.card().note_failure(format!("the snapshot of {saga} ({bytes} bytes) is refused: {why}"));
                        }
                        PutError::Refused(_) | PutError::Stale | PutError::Unavailable(_) => {
                            debug!(shard = %self.shard, %saga, %error, "snapshot not written");
                        }
                    }
                    if let Some(under_way) = &mut state.sweeper.under_way {
                        under_way.failed = true;
                    }
                }
            }
        }
        for page in swept.pages {
            match page {
                Ok(page) => state.page_written(page),
                Err((sagas, error)) => {
                    warn!(shard = %self.shard, %error, "a page of ended sagas was not written, will try again");
                    state.sweeper.ended.extend(sagas);
                }
            }
        }
        for gone in swept.removed {
            match gone {
                Gone::Snapshot(saga) => {
                    if let Some(slot) = state.slots.get_mut(&saga) {
                        slot.revision = 0;
                    }
                }
                Gone::Page(name) => state.forget_page(&name),
            }
        }
        match swept.mark {
            Some(Ok(mark)) => {
                state.sweeper.mark = mark;
                state.sweeper.under_way = None;
            }
            Some(Err(error)) => {
                warn!(shard = %self.shard, %error, "the low-water mark was not moved");
                state.sweeper.under_way = None;
            }
            None => {
                let sweeper = &mut state.sweeper;
                let failed = sweeper.under_way.as_ref().is_some_and(|under_way| under_way.failed);
                if failed && sweeper.asked.is_empty() && sweeper.given.is_empty() {
                    sweeper.under_way = None;
                }
            }
        }
    }
}

impl Sweeper {
    /// A snapshot landed after its saga ended: the next sweep removes it.
    fn ended_with_snapshot(&mut self, saga: &Arc<SagaId>) {
        if !self.ended.contains(saga) {
            self.ended.push(saga.clone());
        }
    }
}

impl ShardActor {
    /// Pages of what ended since the last sweep.
    fn new_pages(&self, ended: &[Arc<SagaId>], state: &State) -> Vec<(Page, Vec<EndedEntry>)> {
        let mut pages: Vec<(Page, Vec<EndedEntry>)> = Vec::new();
        let mut bytes = 0;
        for saga in ended {
            let Some((entry, definition)) = entry(saga, state) else { continue };
            let size = protocol::codec::stored_len(&entry);
            let full = pages
                .last()
                .is_none_or(|(_, entries)| entries.len() == PAGE_ENTRIES_MAX || bytes + size > PAGE_BYTES_MAX);
            if full {
                let name = format!("{PAGE_PREFIX}{:020}.{}", state.meters.position.load(Relaxed), pages.len());
                pages.push((Page::new(name, Vec::new()), Vec::new()));
                bytes = 0;
            }
            bytes += size;
            if let Some((page, entries)) = pages.last_mut() {
                page.span.add(&entry, definition, &self.engine.limits);
                page.sagas.push(saga.clone());
                entries.push(entry);
            }
        }
        pages
    }
}

fn entry<'a>(saga: &Arc<SagaId>, state: &'a State) -> Option<(EndedEntry, &'a Definition)> {
    let slot = state.slots.get(saga)?;
    let Life::Ended(ended) = &slot.life else { return None };
    // What is in a page already is not put into another one: nothing remains of it here.
    let remains = ended.remains.as_ref()?;
    let entry = EndedEntry {
        saga: (**saga).clone(),
        definition: slot.definition.reference().clone(),
        status: ended.status,
        state: ended.state.to_string(),
        at: ended.at,
        records: ended.records,
        position: ended.position,
        start_digest: slot.start_digest,
        remains: Some(remains.to_vec().into()),
    };
    Some((entry, &slot.definition))
}
