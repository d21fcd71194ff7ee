//! Reading pages: one saga of them, or the newest for a list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use protocol::command::List;
use protocol::view::SagaRow;
use protocol::{Code, DefinitionRef, Principal, Problem, SagaId, ShardId, Tenant, Time, codec};

use super::moved_name;
use crate::machine::definition::{Access, Definition};
use crate::ports::{OLD_PAGE_PREFIX, Unavailable};
use crate::tree::engine::Engine;
use crate::tree::slot::EndedEntry;

/// Pages that one list reads of a shard: with full ones half a second's work where nothing is in the
/// caches. A list that would need more says that older ones are missing.
const PAGES_PER_LIST_MAX: usize = 32;
/// Pages that a list reads at once.
const AT_ONCE: usize = 4;

/// The store of ended sagas does not answer.
pub fn unreadable(error: Unavailable) -> Problem {
    Problem::new(Code::Unavailable, format!("ended sagas cannot be read: {error}"))
        .mend("try again")
        .retry_after_ms(500)
}

/// What is in the page `name`; `None` when there is no such page.
pub async fn entries(engine: &Engine, shard: ShardId, name: &str) -> Result<Option<Vec<EndedEntry>>, Problem> {
    let mut found = engine.snapshots.get(shard, name).await.map_err(unreadable)?;
    if found.is_none() && name.starts_with(OLD_PAGE_PREFIX) {
        // Another owner, former or present, has moved it meanwhile.
        found = engine.snapshots.get(shard, &moved_name(name)).await.map_err(unreadable)?;
    }
    let Some(found) = found else { return Ok(None) };
    codec::load(&found.bytes).map(Some).map_err(|error| {
        Problem::new(Code::Internal, format!("the page {name} of shard {shard} cannot be understood: {error}"))
            .mend("was it written by a later release? run the newest release on every node")
    })
}

/// What pages have of a saga.
#[derive(Debug)]
pub struct Found {
    /// Its last run.
    pub entry: Option<EndedEntry>,
    /// Whether all pages were there.
    pub whole: bool,
}

/// The last run of `saga` that is in one of these pages.
pub async fn find(engine: &Engine, shard: ShardId, pages: &[Arc<str>], saga: &SagaId) -> Result<Found, Problem> {
    let (mut last, mut whole): (Option<EndedEntry>, bool) = (None, true);
    for name in pages {
        let Some(entries) = entries(engine, shard, name).await? else {
            whole = false;
            continue;
        };
        for entry in entries.into_iter().filter(|entry| entry.saga == *saga) {
            // The same run may be in two pages, and an old page may have nothing else of it.
            let later = last
                .as_ref()
                .is_none_or(|last| (entry.position, entry.remains.is_some()) > (last.position, last.remains.is_some()));
            if later {
                last = Some(entry);
            }
        }
    }
    Ok(Found { entry: last, whole })
}

/// Adds to `rows` what pages have of the list, the newest first, and says what is not in it. `pages`
/// come with the end of their newest entry, the newest first.
pub async fn rows(
    engine: &Engine,
    shard: ShardId,
    pages: Vec<(Arc<str>, Time)>,
    (tenant, by, list): (&Tenant, Option<&Principal>, &List),
    (mut rows, limit): (Vec<SagaRow>, usize),
) -> (Vec<SagaRow>, Option<String>) {
    let newest_first = |rows: &mut Vec<SagaRow>| {
        rows.sort_by(|a, b| b.changed_at.cmp(&a.changed_at).then_with(|| a.saga.cmp(&b.saga)));
        rows.truncate(limit);
    };
    newest_first(&mut rows);
    let mut known: HashSet<String> = rows.iter().map(|row| row.saga.clone()).collect();
    let mut definitions: HashMap<DefinitionRef, Option<Arc<Definition>>> = HashMap::new();
    let mut missing = None;
    let ends: Vec<Time> = pages.iter().map(|(_, newest)| *newest).collect();
    let mut read = futures::stream::iter(pages.into_iter().take(PAGES_PER_LIST_MAX))
        .map(|(name, _)| async move { entries(engine, shard, &name).await })
        .buffered(AT_ONCE);
    let mut count = 0;
    loop {
        let enough = |end: &Time| rows.len() >= limit && rows.last().is_none_or(|row| row.changed_at >= *end);
        match ends.get(count) {
            None => break,
            Some(end) if enough(end) => break,
            Some(_) => {}
        }
        let Some(page) = read.next().await else {
            missing = Some(format!(
                "shard {shard}: what ended before {} is not listed; ask for one status or for fewer",
                ends[count]
            ));
            break;
        };
        count += 1;
        let page = match page {
            Ok(page) => page.unwrap_or_default(),
            Err(problem) => {
                missing = Some(format!("shard {shard}: {problem}"));
                continue;
            }
        };
        for entry in page.into_iter().filter(|entry| asked_for(entry, tenant, list)) {
            let definition = match definitions.get(&entry.definition) {
                Some(known) => known.clone(),
                None => {
                    let found = engine.definitions.get(&entry.definition).await.ok().flatten();
                    definitions.insert(entry.definition.clone(), found.clone());
                    found
                }
            };
            // Without its definition nobody knows who may see it.
            let may = |by: &Principal| {
                definition.as_ref().is_some_and(|it| Access::allows(&it.header().access.view, by.as_str()))
            };
            if by.is_none_or(may) && known.insert(entry.saga.to_string()) {
                rows.push(SagaRow {
                    saga: entry.saga.to_string(),
                    definition: entry.definition.to_string(),
                    status: entry.status,
                    state: entry.state,
                    changed_at: entry.at,
                    node: engine.node.to_string(),
                });
            }
        }
        newest_first(&mut rows);
    }
    (rows, missing)
}

fn asked_for(entry: &EndedEntry, tenant: &Tenant, list: &List) -> bool {
    entry.saga.tenant == *tenant
        && list.definition.as_deref().is_none_or(|wanted| *wanted == *entry.definition.name)
        && list.status.is_none_or(|wanted| wanted == entry.status)
}
