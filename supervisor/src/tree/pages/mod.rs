//! Ended sagas, as their shard knows them: not one by one, but as pages in the snapshot store, each
//! with an index that says what may be in it. The indexes are read at a takeover and held in memory,
//! some seven bytes for each saga; a page is read when somebody asks for one of its sagas.
//!
//! The index of a page is written before it and removed after it. What is in no index is in no page;
//! what is in an index may be in its page, and only reading it tells.

mod filter;
mod read;

use std::sync::Arc;
use std::time::Duration;

use protocol::command::List;
use protocol::view::Status;
use protocol::{SagaId, Tenant, Time, codec};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::engine::Limits;
use super::slot::EndedEntry;
use crate::machine::definition::Definition;
use crate::ports::{INDEX_PREFIX, OLD_PAGE_PREFIX, PAGE_PREFIX, Position};
use filter::Filter;
pub use read::{Found, entries, find, rows, unreadable};

/// Tenants that an index names; a page of more may be anybody's.
const TENANTS_MAX: usize = 16;

/// A page in the store, as its shard knows it.
#[derive(Clone)]
pub struct Page {
    /// Its name in the store.
    pub name: Arc<str>,
    /// Its revision; 0 when it was not seen.
    pub revision: u64,
    /// The revision of its index; 0 when that was not seen.
    pub index_revision: u64,
    /// What its entries reach to.
    pub span: Span,
    /// Whose sagas are in it; empty when it is not known.
    tenants: Vec<Tenant>,
    /// How its sagas ended.
    statuses: Vec<Status>,
    /// A print of each saga, in order.
    prints: Box<[u32]>,
}

/// What the entries of a page reach to.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When the last of those may be forgotten whose definition says how long it is remembered.
    own_until: Time,
    /// When the last of the others ended: the node says how long they are remembered.
    others_ended: Time,
    /// When the last of all ended.
    pub newest: Time,
    /// Where the first of them ended.
    from: Position,
    /// Where the last of them ended. A saga that goes on after it is a new run of its key.
    pub upto: Position,
}

/// An index as it is stored.
#[derive(Serialize, Deserialize)]
struct Index {
    span: Span,
    #[serde(default)]
    tenants: Vec<Tenant>,
    #[serde(default)]
    statuses: Vec<Status>,
    /// Four bytes for each saga, the highest first.
    prints: ByteBuf,
}

impl Page {
    /// A page of `entries`, each with its definition where that is known.
    pub fn of<'a>(name: Arc<str>, entries: impl IntoIterator<Item = (&'a EndedEntry, Option<&'a Definition>)>) -> Self {
        let mut page = Self {
            name,
            revision: 0,
            index_revision: 0,
            span: Span::default(),
            tenants: Vec::new(),
            statuses: Vec::new(),
            prints: Box::default(),
        };
        let mut prints = Vec::new();
        for (entry, definition) in entries {
            page.span.add(entry, definition);
            prints.push(print(&entry.saga));
            if !page.tenants.contains(&entry.saga.tenant) && page.tenants.len() <= TENANTS_MAX {
                page.tenants.push(entry.saga.tenant.clone());
            }
            if !page.statuses.contains(&entry.status) {
                page.statuses.push(entry.status);
            }
        }
        if page.tenants.len() > TENANTS_MAX {
            page.tenants.clear();
        }
        prints.sort_unstable();
        page.prints = prints.into();
        page
    }

    /// The page whose index is stored as `bytes` under `name`.
    pub fn load(name: &str, revision: u64, bytes: &[u8]) -> Result<Self, codec::StoredError> {
        let Index { span, tenants, statuses, prints } = codec::load(bytes)?;
        let prints = prints.chunks_exact(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
        let mut prints: Box<[u32]> = prints.collect();
        prints.sort_unstable();
        let name = page_name(name).into();
        Ok(Self { name, revision: 0, index_revision: revision, span, tenants, statuses, prints })
    }

    /// Its index, to be stored.
    pub fn index(&self) -> Vec<u8> {
        codec::store(&Index {
            span: self.span,
            tenants: self.tenants.clone(),
            statuses: self.statuses.clone(),
            prints: self.prints.iter().flat_map(|print| print.to_be_bytes()).collect::<Vec<u8>>().into(),
        })
    }

    /// The name of its index in the store.
    pub fn index_name(&self) -> String {
        index_name(&self.name)
    }

    /// Whether it was written by a release whose pages have no index.
    pub fn is_old(&self) -> bool {
        self.name.starts_with(OLD_PAGE_PREFIX)
    }

    /// The same page, with the revisions of it and of its index.
    pub fn seen(self, (revision, index_revision): (u64, u64)) -> Self {
        Self { revision, index_revision, ..self }
    }

    /// The same page where pages are now.
    pub fn moved(self) -> Self {
        Self { name: moved_name(&self.name).into(), revision: 0, index_revision: 0, ..self }
    }

    /// How many sagas are in it.
    pub fn count(&self) -> usize {
        self.prints.len()
    }

    /// Whose sagas all of them are, where that is one tenant.
    pub fn tenant(&self) -> Option<&Tenant> {
        match &*self.tenants {
            [tenant] => Some(tenant),
            _ => None,
        }
    }

    /// Whether something that `list` asks for may be in it.
    fn may_show(&self, tenant: &Tenant, list: &List) -> bool {
        (self.tenants.is_empty() || self.tenants.contains(tenant))
            && list.status.is_none_or(|wanted| self.statuses.contains(&wanted))
    }
}

/// Where a page of a former release is now, or will be: the same name for whoever moves it.
pub fn moved_name(old: &str) -> String {
    format!("{PAGE_PREFIX}{}", old.strip_prefix(OLD_PAGE_PREFIX).unwrap_or(old))
}

/// The name of the page whose index is called `index`.
pub fn page_name(index: &str) -> String {
    format!("{PAGE_PREFIX}{}", index.strip_prefix(INDEX_PREFIX).unwrap_or(index))
}

/// The name of the index of the page `name`.
pub fn index_name(page: &str) -> String {
    format!("{INDEX_PREFIX}{}", page.strip_prefix(PAGE_PREFIX).unwrap_or(page))
}

impl Span {
    /// Takes in an entry of a saga that ran `definition`.
    fn add(&mut self, entry: &EndedEntry, definition: Option<&Definition>) {
        match definition.and_then(|definition| own_time(entry.status, definition)) {
            Some(time) => self.own_until = self.own_until.max(entry.at.after(time)),
            None => self.others_ended = self.others_ended.max(entry.at),
        }
        self.newest = self.newest.max(entry.at);
        self.from = if self.upto == 0 { entry.position } else { self.from.min(entry.position) };
        self.upto = self.upto.max(entry.position);
    }

    /// When the last of them may be forgotten.
    pub fn until(&self, limits: &Limits) -> Time {
        if self.others_ended == Time::default() {
            return self.own_until;
        }
        self.own_until.max(self.others_ended.after(limits.ended_for))
    }

    /// Whether one of them may have ended at `position`.
    pub fn holds(&self, position: Position) -> bool {
        (self.from..=self.upto).contains(&position)
    }
}

/// How long its definition says that a saga that ended like this is remembered, if it says so.
pub fn own_time(status: Status, definition: &Definition) -> Option<Duration> {
    let retention = definition.header().retention;
    match status {
        Status::Succeeded => retention.succeeded,
        Status::Failed | Status::Cancelled | Status::Abandoned => retention.failed,
        // These have not ended.
        Status::Running | Status::Waiting | Status::Undoing | Status::Stuck => None,
    }
}

/// All pages of a shard.
#[derive(Default)]
pub struct Pages {
    /// The oldest first.
    pages: Vec<Page>,
    count: usize,
    filter: Filter,
    /// Sagas that the filter still has though their pages are gone.
    stale: usize,
}

impl Pages {
    /// These pages.
    pub fn new(pages: Vec<Page>) -> Self {
        let mut all = Self { count: pages.iter().map(Page::count).sum(), pages, ..Self::default() };
        all.pages.sort_by_key(|page| page.span.newest);
        all.fill();
        all
    }

    /// One more, or one of this name with more in it.
    pub fn add(&mut self, page: Page) {
        self.pages.retain(|other| other.name != page.name);
        for print in &page.prints {
            if !self.filter.may_have(*print) {
                self.filter.put(*print);
            }
        }
        let at = self.pages.partition_point(|other| other.span.newest <= page.span.newest);
        self.pages.insert(at, page);
        self.count = self.pages.iter().map(Page::count).sum();
        if self.filter.is_full() {
            self.fill();
        }
    }

    /// A page has another name now.
    pub fn moved(&mut self, old: &str, page: Page) {
        self.pages.retain(|other| *other.name != *old);
        self.add(page);
    }

    /// Those of these names are gone.
    pub fn remove(&mut self, gone: &[Arc<str>]) {
        if gone.is_empty() {
            return;
        }
        let before = self.count;
        self.pages.retain(|page| !gone.contains(&page.name));
        self.count = self.pages.iter().map(Page::count).sum();
        self.stale += before - self.count;
        // It must not say "perhaps" of everything that was ever there.
        if self.stale > self.count {
            self.fill();
        }
    }

    /// The filter anew: it grows, and forgets what is gone.
    fn fill(&mut self) {
        self.filter = Filter::with_room(self.count);
        self.stale = 0;
        for print in self.pages.iter().flat_map(|page| &page.prints) {
            self.filter.put(*print);
        }
    }

    /// How many sagas are in them.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Page> {
        self.pages.iter()
    }

    /// Pages that may have `saga`, the newest first. For nearly every saga that is in none this costs
    /// a glance into memory.
    pub fn of(&self, saga: &SagaId) -> Vec<Arc<str>> {
        let print = print(saga);
        if !self.filter.may_have(print) {
            return Vec::new();
        }
        let may_have = self.pages.iter().rev().filter(|page| page.prints.binary_search(&print).is_ok());
        may_have.map(|page| page.name.clone()).collect()
    }

    /// Pages that may have what `list` asks for, the newest first, each with the end of its newest.
    pub fn to_show(&self, tenant: &Tenant, list: &List) -> Vec<(Arc<str>, Time)> {
        let shown = self.pages.iter().rev().filter(|page| page.may_show(tenant, list));
        shown.map(|page| (page.name.clone(), page.span.newest)).collect()
    }
}

/// Four bytes that stand for a saga in an index: FNV-1a, folded. Stored, so it never changes.
fn print(saga: &SagaId) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in saga.tenant.as_str().bytes().chain(*b"/").chain(saga.key.as_str().bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(saga: &str, position: Position) -> EndedEntry {
        EndedEntry {
            saga: saga.parse().unwrap(),
            definition: protocol::DefinitionRef { tenant: None, name: "d".into(), version: 1, digest: "x".into() },
            status: Status::Succeeded,
            state: "Only".into(),
            at: Time::from_micros(position as i64 * 1_000_000),
            records: 2,
            position,
            start_digest: 1,
            remains: None,
        }
    }

    fn page(name: &str, entries: &[EndedEntry]) -> Page {
        Page::of(name.into(), entries.iter().map(|entry| (entry, None)))
    }

    #[test]
    fn an_index_finds_again_what_is_in_its_page() {
        let entries: Vec<_> = (1..=1_000).map(|n| entry(&format!("acme/order-{n}"), n)).collect();
        let written = page("page/7.1.0", &entries);
        let read = Page::load(&written.index_name(), 9, &written.index()).unwrap();
        assert_eq!((&*read.name, read.revision, read.index_revision, read.count()), ("page/7.1.0", 0, 9, 1_000));
        assert_eq!((read.span, &read.tenants, &read.prints), (written.span, &written.tenants, &written.prints));
        assert!(read.span.holds(1) && read.span.holds(1_000) && !read.span.holds(1_001));
        let pages = Pages::new(vec![read, page("page/8.1.0", &[entry("acme/order-7", 1_007)])]);
        assert_eq!(pages.count(), 1_001);
        assert_eq!(pages.of(&"acme/order-7".parse().unwrap()), ["page/8.1.0".into(), "page/7.1.0".into()]);
        assert_eq!(pages.of(&"acme/order-8".parse().unwrap()), ["page/7.1.0".into()]);
        assert!(pages.of(&"acme/never".parse().unwrap()).is_empty());
    }

    /// Stored indexes are read by every later release.
    #[test]
    fn a_print_never_changes() {
        assert_eq!(print(&"acme/order-7".parse().unwrap()), 0xc077_77e7);
    }

    #[test]
    fn what_is_gone_is_not_looked_for() {
        let mut pages = Pages::default();
        for number in 0..20u64 {
            let entries: Vec<_> = (0..500).map(|n| entry(&format!("acme/p{number}-{n}"), number + 1)).collect();
            pages.add(page(&format!("page/{number}"), &entries));
        }
        let saga: SagaId = "acme/p3-499".parse().unwrap();
        assert_eq!(pages.of(&saga), ["page/3".into()]);
        pages.remove(&["page/3".into()]);
        assert!(pages.of(&saga).is_empty());
        assert_eq!((pages.count(), pages.iter().next().unwrap().name.as_ref()), (9_500, "page/0"));
        let gone: Vec<Arc<str>> = (0..19).map(|number| format!("page/{number}").into()).collect();
        pages.remove(&gone);
        assert_eq!((pages.count(), pages.stale), (500, 0), "the filter was made anew");
        assert_eq!(pages.of(&"acme/p19-0".parse().unwrap()), ["page/19".into()]);
    }

    #[test]
    fn a_list_reads_only_pages_that_may_have_what_it_asks_for() {
        let mut failed = entry("acme/b", 2);
        failed.status = Status::Failed;
        let many: Vec<_> = (0..40).map(|n| entry(&format!("t{n}/c"), 3)).collect();
        let pages =
            Pages::new(vec![page("page/1", &[entry("acme/a", 1)]), page("page/2", &[failed]), page("page/3", &many)]);
        let shown = |tenant: &str, status: Option<Status>| -> Vec<String> {
            let list = List { status, ..List::default() };
            let tenant = Tenant::new(tenant).unwrap();
            pages.to_show(&tenant, &list).into_iter().map(|(name, _)| name.to_string()).collect()
        };
        assert_eq!(shown("acme", None), ["page/3", "page/2", "page/1"], "the newest first");
        assert_eq!(shown("acme", Some(Status::Failed)), ["page/2"]);
        assert_eq!(shown("else", None), ["page/3"], "one page has too many to be named");
        assert!(shown("acme", Some(Status::Running)).is_empty());
    }
}
