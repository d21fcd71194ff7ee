//! Pages of ended sagas: what goes into them, how long they are kept, and what is forgotten with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use protocol::{SagaId, Tenant, Time, codec};

use super::super::pages::{self, Page, Pages};
use super::super::shard::{ShardActor, State};
use super::super::slot::{EndedEntry, Life};
use super::Sweeper;
use super::write::Gone;
use crate::machine::definition::Definition;
use crate::ports::{PAGE_PREFIX, Position};

/// Ended sagas per page, so that forgetting goes in small steps.
const PAGE_ENTRIES_MAX: usize = 1_000;
/// A page takes no more once it has so many bytes: it stays well below what the bus carries.
const PAGE_BYTES_MAX: usize = 512 * 1024;
/// A page with fewer bytes than this is written again with what ends next: where little ends, a page for
/// each sweep would be sixty thousand a week. Small, because all of it is written each time, and is kept
/// in memory until it is full.
const OPEN_BYTES_MAX: usize = 64 * 1024;
/// A page is not written again once its first saga ended so long ago, or a part of the time that it is
/// remembered: nothing is kept much longer than it should be.
const OPEN_FOR: Duration = Duration::from_secs(3_600);
/// That part: one of so many.
const OPEN_FOR_PART: u32 = 24;
/// Pages that are open at once: one for each sort. Those of more sorts are not opened again.
const OPEN_MAX: usize = 64;
/// A tenant of which so many ended since the last sweep has pages of its own, so that it is its own that
/// are forgotten when there are too many. Fewer share a page: a page for each would be mostly empty.
const OWN_PAGE_MIN: usize = 16;

/// Pages of a former release that one sweep moves to where pages are now.
const MOVED_MAX: usize = 16;

/// A page that may take more.
pub(super) struct Open {
    name: Arc<str>,
    revisions: (u64, u64),
    entries: Vec<Filed>,
    bytes: usize,
}

impl Open {
    fn is_young(&self, now: Time, kept_for: Duration) -> bool {
        let most = OPEN_FOR.min(kept_for / OPEN_FOR_PART);
        self.entries.first().is_some_and(|(entry, _)| now.since(entry.at) < most)
    }
}

/// What the entries of a page have in common: whose they are, where that tenant has pages of its own, and
/// how long they are remembered.
pub(super) type Sort = (Option<Tenant>, Duration);

/// An entry of a page, with the version that its saga ran.
type Filed = (EndedEntry, Arc<Definition>);

/// A page that is to be written.
pub(super) struct NewPage {
    pub page: Page,
    pub entries: Vec<Filed>,
    /// Those that were in no page before.
    pub sagas: Vec<Arc<SagaId>>,
    sort: Sort,
    bytes: usize,
}

impl ShardActor {
    /// Pages of what ended since the last sweep, apart for each sort.
    pub(super) fn new_pages(&self, ended: &[Arc<SagaId>], state: &mut State) -> Vec<NewPage> {
        let mut each: BTreeMap<&Tenant, usize> = BTreeMap::new();
        ended.iter().for_each(|saga| *each.entry(&saga.tenant).or_default() += 1);
        let mut apart: BTreeMap<Sort, Vec<(Arc<SagaId>, Filed)>> = BTreeMap::new();
        for saga in ended {
            let Some(filed) = entry(saga, state) else { continue };
            let kept_for = pages::own_time(filed.0.status, &filed.1).unwrap_or(self.engine.limits.ended_for);
            let own = each.get(&saga.tenant).is_some_and(|count| *count >= OWN_PAGE_MIN);
            let sort = (own.then(|| saga.tenant.clone()), kept_for);
            apart.entry(sort).or_default().push((saga.clone(), filed));
        }
        let mut new = Vec::new();
        for (sort, ended) in apart {
            let at = state.meters.position.load(Relaxed);
            let mut page = match state.sweeper.open.remove(&sort) {
                Some(open) if open.is_young(self.engine.now(), sort.1) => Draft { open, sagas: Vec::new() },
                Some(_) | None => self.draft(at, &mut state.sweeper),
            };
            for (saga, filed) in ended {
                let bytes = codec::stored_len(&filed.0);
                let full = page.open.entries.len() == PAGE_ENTRIES_MAX || page.open.bytes + bytes > PAGE_BYTES_MAX;
                if full && !page.open.entries.is_empty() {
                    let next = self.draft(at, &mut state.sweeper);
                    new.push(std::mem::replace(&mut page, next).finish(sort.clone()));
                }
                page.open.bytes += bytes;
                page.open.entries.push(filed);
                page.sagas.push(saga);
            }
            new.push(page.finish(sort));
        }
        new
    }

    /// An empty page under a name that none ever had: one that could not be written is not in the way
    /// of the next.
    fn draft(&self, at: Position, sweeper: &mut Sweeper) -> Draft {
        sweeper.named += 1;
        let name = format!("{PAGE_PREFIX}{at:020}.{}.{}", self.epoch.0, sweeper.named).into();
        Draft { open: Open { name, revisions: (0, 0), entries: Vec::new(), bytes: 0 }, sagas: Vec::new() }
    }

    /// Pages whose last saga may be forgotten, and when there are too many the oldest of whoever has the
    /// most: nobody makes another's keys free by ending much. A page goes
    /// only after the snapshots of its sagas: a snapshot that outlived it would bring an ended saga
    /// back to life. Its sagas are forgotten once it is gone: a page that outlived them would
    /// swallow the next run of a key.
    pub(super) fn old_pages(&self, state: &State, new: &[NewPage], remove: &mut Vec<Gone>) {
        let now = self.engine.now();
        // What is in a page and still here has a snapshot that is not removed yet.
        let left_behind: BTreeSet<Position> =
            state.sweeper.removing.iter().filter_map(|saga| state.slots.get(saga)?.paged_at()).collect();
        let is_used = |page: &Page| {
            left_behind.iter().any(|position| page.span.holds(*position))
                || new.iter().any(|new| new.page.name == page.name)
        };
        let mut kept = state.sweeper.pages.count();
        let mut stay: BTreeMap<Option<&Tenant>, (usize, VecDeque<&Page>)> = BTreeMap::new();
        for page in state.sweeper.pages.iter() {
            if now > page.span.until(&self.engine.limits) && !is_used(page) {
                kept -= page.count();
                remove.push(Gone::Page(page.clone()));
            } else {
                let (count, pages) = stay.entry(page.tenant()).or_default();
                *count += page.count();
                pages.push_back(page);
            }
        }
        while kept > self.engine.limits.ended_per_shard
            && let Some((count, pages)) = stay.values_mut().max_by_key(|(count, _)| *count)
            // What is used goes with a later sweep, and nobody else's in its place.
            && let Some(oldest) = pages.pop_front().filter(|page| !is_used(page))
        {
            *count -= oldest.count();
            kept -= oldest.count();
            remove.push(Gone::Page(oldest.clone()));
        }
    }
}

/// Pages of a former release that stay and are moved this time.
pub(super) fn to_move(pages: &Pages, remove: &[Gone]) -> Vec<Page> {
    let goes = |page: &Page| remove.iter().any(|gone| matches!(gone, Gone::Page(it) if it.name == page.name));
    pages.iter().filter(|page| page.is_old() && !goes(page)).take(MOVED_MAX).cloned().collect()
}

/// A page that is being filled.
struct Draft {
    open: Open,
    sagas: Vec<Arc<SagaId>>,
}

impl Draft {
    fn finish(self, sort: Sort) -> NewPage {
        let Open { name, revisions, entries, bytes } = self.open;
        let page = Page::of(name, entries.iter().map(|(entry, definition)| (entry, Some(&**definition))));
        NewPage { page: page.seen(revisions), entries, sagas: self.sagas, sort, bytes }
    }
}

impl State {
    /// A page is written: what it holds need not be kept here as well.
    pub(super) fn page_written(&mut self, new: NewPage) {
        let NewPage { page, entries, sagas, sort, bytes } = new;
        if bytes < OPEN_BYTES_MAX && self.sweeper.open.len() < OPEN_MAX {
            let revisions = (page.revision, page.index_revision);
            self.sweeper.open.insert(sort, Open { name: page.name.clone(), revisions, entries, bytes });
        }
        self.sweeper.pages.add(page);
        for saga in &sagas {
            if let Some(Life::Ended(ended)) = self.slots.get_mut(saga).map(|slot| &mut slot.life) {
                ended.remains = None;
            }
            self.let_go(saga);
        }
    }

    /// Pages are gone from the store: nothing there swallows their keys any more.
    pub(super) fn pages_gone(&mut self, names: &[Arc<str>]) {
        self.sweeper.open.retain(|_, open| !names.contains(&open.name));
        self.sweeper.pages.remove(names);
    }

    /// Forgets a saga that is in a page and in nothing else.
    pub(in crate::tree) fn let_go(&mut self, saga: &Arc<SagaId>) {
        let Some(slot) = self.slots.get(saga) else { return };
        if slot.paged_at().is_none() {
            return;
        }
        if slot.revision == 0 {
            self.sweeper.removing.remove(saga);
            self.slots.remove(saga);
        } else {
            self.sweeper.removing.insert(saga.clone());
        }
    }
}

fn entry(saga: &Arc<SagaId>, state: &State) -> Option<Filed> {
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
    Some((entry, slot.definition.clone()))
}
