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

use bytes::Bytes;
use protocol::SagaId;
use tracing::{debug, warn};

use super::pages::Pages;
use super::progress::Sent;
use super::recovery::{self, Mark};
use super::saga;
use super::shard::{Message, ShardActor, State};
use super::shell::Me;
use super::slot::{Life, Slot};
use crate::journal::Digest;
use crate::ports::{Position, PutError};
use page::{Open, Sort, to_move};
pub use write::Swept;
use write::{Gone, NotMoved, SnapshotPut, Work, write};

/// The sweeping side of a shard's state.
pub struct Sweeper {
    mark: (Mark, u64),
    /// Snapshots to write: state, records, revision to expect.
    given: BTreeMap<Arc<SagaId>, (Bytes, u64, u64)>,
    /// Sagas that were asked for their state and have not answered.
    asked: BTreeSet<Arc<SagaId>>,
    /// Ended since the last page.
    ended: Vec<Arc<SagaId>>,
    /// In a page, but with a snapshot that is still to be removed.
    removing: BTreeSet<Arc<SagaId>>,
    /// Pages of ended sagas.
    pub pages: Pages,
    /// Those that may take more, by how long their sagas are remembered.
    open: BTreeMap<Sort, Open>,
    /// Pages that got a name.
    named: u64,
    under_way: Option<UnderWay>,
    writing: bool,
    /// Sagas whose state the store refuses; told of once.
    refused: BTreeSet<Arc<SagaId>>,
}

struct UnderWay {
    at: Position,
    /// Of the frame there.
    digest: Digest,
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
            removing: BTreeSet::new(),
            pages: Pages::default(),
            open: BTreeMap::new(),
            named: 0,
            under_way: None,
            writing: false,
            refused: BTreeSet::new(),
        }
    }

    /// The mark as last written.
    pub const fn mark(&self) -> Mark {
        self.mark.0
    }

    /// The same with its revision.
    pub const fn marked(&self) -> (Mark, u64) {
        self.mark
    }

    /// Whether a sweep waits for this saga's state.
    pub fn waits_for(&self, saga: &Arc<SagaId>) -> bool {
        self.asked.contains(saga)
    }

    /// Whether a sweep is under way.
    pub const fn is_busy(&self) -> bool {
        self.under_way.is_some() || self.writing
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
        let (at, digest) = state.meters.last();
        if at == state.sweeper.mark.0.low_water && state.relayed.get().position == state.sweeper.mark.0.relayed {
            if state.is_settled() {
                me.stop();
            } else {
                self.look_for_mark(me, state);
            }
            return;
        }
        let mut failed = false;
        for (saga, slot) in state.slots.iter() {
            // Its records must be found again: the mark stays before them.
            failed |= slot.is_unsaved();
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
        state.sweeper.under_way = Some(UnderWay { at, digest, failed });
        self.go_on_sweeping(me, state);
    }

    /// A shard that rests writes no mark, and would not notice that it is gone, with the pages of what ended.
    fn look_for_mark(&self, me: &Me<Message>, state: &State) {
        let (engine, shard, (_, revision)) = (self.engine.clone(), self.shard, state.sweeper.mark);
        let me = me.clone();
        tokio::spawn(async move {
            if let Ok(false) = recovery::is_marked(&engine, shard, revision).await {
                me.tell(Message::Lost("the snapshots are gone or older than what was written".into()));
            }
        });
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
        let (mut pages, mut old, mut remove, mut mark) = (Vec::new(), Vec::new(), Vec::new(), None);
        let under_way = state.sweeper.under_way.as_ref().map(|it| (it.at, it.digest, it.failed));
        if last && let Some((at, digest, failed)) = under_way {
            let ended = std::mem::take(&mut state.sweeper.ended);
            pages = self.new_pages(&ended, state);
            for saga in ended.iter().chain(&state.sweeper.removing) {
                if let Some(Slot { revision, life: Life::Ended(_), .. }) = state.slots.get(saga)
                    && *revision > 0
                {
                    remove.push(Gone::Snapshot(saga.clone(), *revision));
                }
            }
            self.old_pages(state, &pages, &mut remove);
            old = to_move(&state.sweeper.pages, &remove);
            if !failed {
                let Sent { position: relayed, events, stream } = state.relayed.get();
                // The relay reads its frames again from the journal, so the replay starts no later.
                let low_water = at.min(relayed);
                let (former, revision) = state.sweeper.mark;
                let digest = match low_water {
                    _ if low_water == at => Some(digest),
                    _ if low_water == former.low_water => former.digest,
                    _ => None,
                };
                let anchor =
                    state.ground.anchor(self.epoch, self.engine.now(), state.meters.last(), (&former, revision));
                let epoch = self.epoch;
                mark = Some((Mark { low_water, relayed, events, stream, digest, anchor, epoch }, revision));
            }
        }
        Work { snapshots, pages, old, remove, mark }
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
                        // It landed after its saga ended: the next sweep removes it.
                        Life::Ended(ended) if ended.remains.is_none() => state.let_go(&saga),
                        Life::Ended(_) if state.sweeper.ended.contains(&saga) => {}
                        Life::Ended(_) => state.sweeper.ended.push(saga),
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
        for (name, page) in swept.moved {
            state.sweeper.pages.moved(&name, page);
        }
        let mut gone_pages = Vec::new();
        for gone in swept.removed {
            match gone {
                Gone::Snapshot(saga, _) => {
                    if let Some(slot) = state.slots.get_mut(&saga) {
                        slot.revision = 0;
                    }
                    state.let_go(&saga);
                }
                Gone::Page(page) => gone_pages.push(page.name),
            }
        }
        state.pages_gone(&gone_pages);
        match swept.mark {
            Some(Ok(mark)) => {
                state.sweeper.mark = mark;
                state.sweeper.under_way = None;
            }
            Some(Err(NotMoved::Gone)) => {
                me.tell(Message::Lost("the snapshots are gone or older than what was written".into()));
            }
            Some(Err(NotMoved::Refused(error))) => {
                warn!(shard = %self.shard, %error, "the low-water mark was not moved");
                state.sweeper.under_way = None;
            }
            Some(Err(NotMoved::TooEarly)) => state.sweeper.under_way = None,
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
