//! Pages of ended sagas: how long they are kept, and what is forgotten with them.

use std::sync::Arc;
use std::time::Duration;

use protocol::view::Status;
use protocol::{SagaId, Time};

use super::super::engine::Limits;
use super::super::shard::{ShardActor, State};
use super::super::slot::{EndedEntry, Life};
use super::Sweeper;
use super::write::Gone;
use crate::machine::definition::Definition;
use crate::ports::Position;

/// A page of ended sagas in the store.
pub struct Page {
    pub(super) name: String,
    pub(super) revision: u64,
    pub(super) span: Span,
    pub(super) sagas: Vec<Arc<SagaId>>,
}

/// What the entries of a page reach to.
#[derive(Clone, Copy, Default)]
pub struct Span {
    /// When the last of them may be forgotten.
    until: Time,
    /// When the last of them ended.
    pub(super) newest: Time,
    /// Where the first of them ended.
    from: Position,
    /// Where the last of them ended. A saga that goes on after it is a new run of its key.
    upto: Position,
}

impl Page {
    /// A page that is to be written.
    pub(super) fn new(name: String, sagas: Vec<Arc<SagaId>>) -> Self {
        Self::found(name, 0, Span::default(), sagas)
    }

    /// A page that the store has.
    pub fn found(name: String, revision: u64, span: Span, sagas: Vec<Arc<SagaId>>) -> Self {
        Self { name, revision, span, sagas }
    }
}

impl Span {
    /// Takes in an entry of a saga that ran `definition`.
    pub fn add(&mut self, entry: &EndedEntry, definition: &Definition, limits: &Limits) {
        self.until = self.until.max(entry.at.after(kept_for(entry.status, definition, limits)));
        self.newest = self.newest.max(entry.at);
        self.from = if self.upto == 0 { entry.position } else { self.from.min(entry.position) };
        self.upto = self.upto.max(entry.position);
    }
}

/// How long a saga that ended like this is remembered: as its definition says, or else the node.
fn kept_for(status: Status, definition: &Definition, limits: &Limits) -> Duration {
    let retention = definition.header().retention;
    let own = match status {
        Status::Succeeded => retention.succeeded,
        Status::Failed | Status::Cancelled | Status::Abandoned => retention.failed,
        // These have not ended.
        Status::Running | Status::Waiting | Status::Undoing | Status::Stuck => None,
    };
    own.unwrap_or(limits.ended_for)
}

impl ShardActor {
    /// Pages whose last saga may be forgotten, and the oldest when there are too many. A page goes
    /// only after the snapshots of its sagas: a snapshot that outlived it would bring an ended saga
    /// back to life. Its sagas are forgotten once it is gone: a page that outlived them would
    /// swallow the next run of a key.
    pub(super) fn old_pages(&self, state: &State, remove: &mut Vec<(Gone, u64)>) {
        let now = self.engine.now();
        let mut kept: usize = state.sweeper.pages.iter().map(|page| page.sagas.len()).sum();
        for page in &state.sweeper.pages {
            if kept <= self.engine.limits.ended_per_shard && now <= page.span.until {
                continue;
            }
            let before = remove.len();
            for saga in &page.sagas {
                if let Some(slot) = state.slots.get(saga)
                    && slot.revision > 0
                    && slot.has_ended_by(page.span.upto)
                {
                    remove.push((Gone::Snapshot(saga.clone()), slot.revision));
                }
            }
            if remove.len() == before {
                kept -= page.sagas.len();
                remove.push((Gone::Page(page.name.clone()), page.revision));
            }
        }
    }
}

impl Sweeper {
    /// Pages that may hold what ended at `position`.
    pub fn pages_at(&self, position: Position) -> Vec<String> {
        let here = |page: &&Page| (page.span.from..=page.span.upto).contains(&position);
        self.pages.iter().filter(here).map(|page| page.name.clone()).collect()
    }
}

impl State {
    /// A page is written: what it holds need not be kept here as well.
    pub(super) fn page_written(&mut self, page: Page) {
        for saga in &page.sagas {
            if let Some(Life::Ended(ended)) = self.slots.get_mut(saga).map(|slot| &mut slot.life) {
                ended.remains = None;
            }
        }
        self.sweeper.know_page(page);
    }

    /// A page is gone from the store: nothing there swallows its keys any more.
    pub(super) fn forget_page(&mut self, name: &str) {
        let Some(index) = self.sweeper.pages.iter().position(|page| page.name == name) else { return };
        let page = self.sweeper.pages.remove(index);
        for saga in &page.sagas {
            if self.slots.get(saga).is_some_and(|slot| slot.has_ended_by(page.span.upto)) {
                self.slots.remove(saga);
            }
        }
    }
}
