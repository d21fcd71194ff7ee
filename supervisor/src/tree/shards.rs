//! Where every shard is, as this node sees it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use dashmap::DashMap;
use protocol::{NodeId, ShardId};

use super::shard;
use super::shell::Handle;

/// Where every shard is, for whoever routes to it. Kept by the root.
#[derive(Default)]
pub struct Shards {
    local: DashMap<ShardId, Handle<shard::Message>>,
    pub(super) owners: DashMap<ShardId, NodeId>,
    pub(super) live: Mutex<BTreeSet<NodeId>>,
    /// Shards that this node should run and may not, each with the reason and what to do.
    stopped: DashMap<ShardId, String>,
    /// Why this node cannot say that it is alive, or see who else is.
    trouble: Mutex<Option<String>>,
    /// Counts what this node gained and lost.
    changes: tokio::sync::watch::Sender<u64>,
}

impl Shards {
    /// This node runs `shard` from now on.
    pub fn gain(&self, shard: ShardId, handle: Handle<shard::Message>) {
        self.local.insert(shard, handle);
        self.changes.send_modify(|count| *count += 1);
    }

    /// This node does not run `shard` any more, or is handing it over.
    pub fn lose(&self, shard: ShardId) {
        if self.local.remove(&shard).is_some() {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Counts how often this node gained or lost a shard; whoever looks again after each change
    /// misses none.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// This node cannot take its part in the cluster because of this, or can again.
    pub fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why this node cannot take its part in the cluster now.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shard may not run on what is there; answers whether that is news.
    pub fn stop(&self, shard: ShardId, why: String) -> bool {
        self.stopped.insert(shard, why.clone()).is_none_or(|before| before != why)
    }

    /// The shard is not stopped any more; answers whether it was.
    pub fn go_on(&self, shard: ShardId) -> bool {
        self.stopped.remove(&shard).is_some()
    }

    /// Shards that this node should run and may not, each with the reason and what to do.
    pub fn stopped(&self) -> Vec<(ShardId, String)> {
        let mut all: Vec<_> = self.stopped.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        all.sort();
        all
    }

    /// The shard, if this node runs it.
    pub fn local(&self, shard: ShardId) -> Option<Handle<shard::Message>> {
        self.local.get(&shard).map(|handle| handle.clone())
    }

    /// Every shard that this node runs.
    pub fn all_local(&self) -> Vec<(ShardId, Handle<shard::Message>)> {
        let mut all: Vec<_> = self.local.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        all.sort_by_key(|(shard, _)| *shard);
        all
    }

    /// Who owns the shard by its lease, when that node is alive.
    pub fn owner(&self, shard: ShardId) -> Option<NodeId> {
        self.owners.get(&shard).map(|owner| owner.clone())
    }

    /// Who is alive.
    pub fn live(&self) -> BTreeSet<NodeId> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
