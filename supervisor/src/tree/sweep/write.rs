//! The writing side of a sweep: runs in a task of its own and reports what it did.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use protocol::{SagaId, ShardId, codec};
use tracing::{debug, warn};

use super::super::engine::Engine;
use super::super::load::snapshot_name;
use super::super::pages::Page;
use super::super::recovery::{MARK, Mark};
use super::super::slot::EndedEntry;
use super::page::NewPage;
use crate::journal::Anchor;
use crate::machine::Execution;
use crate::ports::PutError;

/// What a sweep's task did.
pub struct Swept {
    pub(super) snapshots: Vec<SnapshotPut>,
    pub(super) pages: Vec<Result<NewPage, PageLost>>,
    /// Pages that have another name now.
    pub(super) moved: Vec<(Arc<str>, Page)>,
    pub(super) removed: Vec<Gone>,
    pub(super) mark: Option<Result<(Mark, u64), NotMoved>>,
}

/// Why the mark did not move.
pub(super) enum NotMoved {
    /// Something before it was not written; the next sweep tries again.
    TooEarly,
    /// The store did not take it.
    Refused(PutError),
    /// The one that was written before is not there any more: nor are the snapshots.
    Gone,
}

/// What became of one snapshot.
pub(super) struct SnapshotPut {
    pub saga: Arc<SagaId>,
    pub records: u64,
    pub bytes: usize,
    pub result: Result<u64, PutError>,
}

/// A page that was not written: its sagas go into the next one.
pub(super) type PageLost = (Vec<Arc<SagaId>>, PutError);

/// What a sweep is to do.
pub(super) struct Work {
    pub(super) snapshots: Vec<(Arc<SagaId>, Bytes, u64, u64)>,
    pub(super) pages: Vec<NewPage>,
    /// Pages of a former release.
    pub(super) old: Vec<Page>,
    /// What is not wanted any more.
    pub(super) remove: Vec<Gone>,
    pub(super) mark: Option<(Mark, u64)>,
}

/// Something that is removed from the store.
pub(super) enum Gone {
    /// The snapshot of a saga that ended, and its revision.
    Snapshot(Arc<SagaId>, u64),
    /// A page: its sagas are forgotten.
    Page(Page),
}

impl Gone {
    fn name(&self) -> String {
        match self {
            Self::Snapshot(saga, _) => snapshot_name(saga),
            Self::Page(page) => page.name.to_string(),
        }
    }
}

/// Carries a sweep out.
pub(super) async fn write(engine: &Engine, shard: ShardId, work: Work) -> Swept {
    let at_once = engine.limits.sweep_in_flight;
    let snapshots: Vec<_> = futures::stream::iter(work.snapshots)
        .map(|(saga, bytes, records, revision)| async move {
            let size = bytes.len();
            let result = put_snapshot(engine, shard, &saga, bytes, revision).await;
            SnapshotPut { saga, records, bytes: size, result }
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    let snapshots_fine = snapshots.iter().all(|put| put.result.is_ok());
    let pages: Vec<_> = futures::stream::iter(work.pages)
        .map(|mut new| async move {
            match put_page(engine, shard, &new).await {
                Ok(revisions) => {
                    new.page = new.page.seen(revisions);
                    Ok(new)
                }
                Err(error) => Err((new.sagas, error)),
            }
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    let fine = snapshots_fine && pages.iter().all(|page: &Result<_, PageLost>| page.is_ok());
    let (mut moved, mut removed) = (Vec::new(), Vec::new());
    for old in work.old {
        let name = old.name.clone();
        match move_page(engine, shard, old).await {
            Ok(done) => moved.push(done),
            Err(error) => debug!(%shard, page = &*name, %error, "not moved, will try again"),
        }
    }
    if fine {
        for gone in work.remove {
            match remove(engine, shard, &gone).await {
                Ok(()) => removed.push(gone),
                Err(error) => debug!(%shard, what = gone.name(), %error, "not removed, will try again"),
            }
        }
    }
    let mark = match work.mark {
        Some((mark, expected)) if fine => Some(put_mark(engine, shard, mark, expected).await),
        Some(_) => Some(Err(NotMoved::TooEarly)),
        None => None,
    };
    Swept { snapshots, pages, moved, removed, mark }
}

/// Puts a page, and its index before it: a page without one would never be found nor removed. Answers
/// the revisions of both.
async fn put_page(engine: &Engine, shard: ShardId, new: &NewPage) -> Result<(u64, u64), PutError> {
    let page = &new.page;
    let entries: Vec<&EndedEntry> = new.entries.iter().map(|(entry, _)| entry).collect();
    let index = engine.snapshots.put(shard, &page.index_name(), page.index().into(), page.index_revision).await?;
    let put = engine.snapshots.put(shard, &page.name, codec::store_packed(&entries).into(), page.revision).await;
    if put.is_err()
        && page.revision == 0
        && let Err(error) = engine.snapshots.remove(shard, &page.index_name(), index).await
    {
        debug!(%shard, page = &*page.name, %error, "an index without a page stays; it goes when the page would have");
    }
    Ok((put?, index))
}

/// Moves a page of a former release to where pages are now, with an index. Whoever else moves it does
/// the same under the same names; what is there already is what would be written.
async fn move_page(engine: &Engine, shard: ShardId, old: Page) -> Result<(Arc<str>, Page), PutError> {
    let name = old.name.clone();
    let found = engine.snapshots.get(shard, &name).await?;
    let page = old.moved();
    if let Some(found) = found {
        for (name, bytes) in [(page.index_name(), page.index().into()), (page.name.to_string(), found.bytes)] {
            match engine.snapshots.put(shard, &name, bytes, 0).await {
                Ok(_) | Err(PutError::Stale) => {}
                Err(error) => return Err(error),
            }
        }
        engine.snapshots.remove(shard, &name, found.revision).await?;
    }
    Ok((name, page))
}

async fn remove(engine: &Engine, shard: ShardId, gone: &Gone) -> Result<(), PutError> {
    match gone {
        Gone::Snapshot(saga, revision) => engine.snapshots.remove(shard, &snapshot_name(saga), *revision).await,
        Gone::Page(page) => {
            remove_value(engine, shard, &page.name, page.revision).await?;
            match page.is_old() {
                true => Ok(()),
                false => remove_value(engine, shard, &page.index_name(), page.index_revision).await,
            }
        }
    }
}

/// Removes what only owners of the shard write. Its revision is not always known: of a former owner's
/// page only the index was read.
async fn remove_value(engine: &Engine, shard: ShardId, name: &str, known: u64) -> Result<(), PutError> {
    if known > 0 {
        match engine.snapshots.remove(shard, name, known).await {
            Err(PutError::Stale) => {}
            other => return other,
        }
    }
    match engine.snapshots.get(shard, name).await? {
        Some(found) => engine.snapshots.remove(shard, name, found.revision).await,
        None => Ok(()),
    }
}

/// Puts a snapshot. Where another revision is in the way, what it holds decides: an older state of
/// the same saga, left by a former owner, is replaced; a newer one means that we are the former
/// owner.
async fn put_snapshot(
    engine: &Engine,
    shard: ShardId,
    saga: &SagaId,
    bytes: Bytes,
    revision: u64,
) -> Result<u64, PutError> {
    let name = snapshot_name(saga);
    match engine.snapshots.put(shard, &name, bytes.clone(), revision).await {
        Err(PutError::Stale) => {}
        other => return other,
    }
    match engine.snapshots.get(shard, &name).await? {
        Some(found) => match (codec::load::<Execution>(&found.bytes), codec::load::<Execution>(&bytes)) {
            // A later run of the key has fewer records.
            (Ok(theirs), Ok(ours)) if theirs.position() > ours.position() => Err(PutError::Stale),
            (Ok(_) | Err(_), _) => engine.snapshots.put(shard, &name, bytes, found.revision).await,
        },
        None => engine.snapshots.put(shard, &name, bytes, 0).await,
    }
}

/// Writes the mark, and then where the journal stood beside the lease.
async fn put_mark(engine: &Engine, shard: ShardId, mark: Mark, expected: u64) -> Result<(Mark, u64), NotMoved> {
    let put = engine.snapshots.put(shard, MARK, codec::store(&mark).into(), expected).await;
    let revision = match put {
        Err(PutError::Stale) => put_mark_again(engine, shard, mark, expected).await?,
        other => other.map_err(NotMoved::Refused)?,
    };
    if let Some(anchor) = mark.anchor {
        let anchor = Anchor {
            low_water: mark.low_water,
            relayed: mark.relayed,
            events: mark.events,
            stream: mark.stream,
            mark: revision,
            ..anchor
        };
        if let Err(error) = engine.journal.keep(shard, &anchor).await {
            warn!(%shard, %error, "where the journal stands could not be written down beside the lease");
        }
    }
    Ok((mark, revision))
}

async fn put_mark_again(engine: &Engine, shard: ShardId, mark: Mark, expected: u64) -> Result<u64, NotMoved> {
    let found = engine.snapshots.get(shard, MARK).await.map_err(|error| NotMoved::Refused(error.into()))?;
    let revision = found.as_ref().map_or(0, |found| found.revision);
    if revision < expected {
        return Err(NotMoved::Gone);
    }
    let theirs: Mark = found.and_then(|found| codec::load(&found.bytes).ok()).unwrap_or_default();
    if theirs.epoch > mark.epoch || theirs.low_water > mark.low_water {
        return Err(NotMoved::Refused(PutError::Stale));
    }
    engine.snapshots.put(shard, MARK, codec::store(&mark).into(), revision).await.map_err(NotMoved::Refused)
}
