//! What a takeover cannot read, and whom that concerns: one saga, which is parked, or the shard, where
//! going on without it would be a lie.

use std::sync::Arc;

use protocol::{Code, DefinitionRef, SagaId, ShardId, Value, codec};
use serde::Deserialize;
use tracing::warn;

use super::{NotTaken, Recovery};
use crate::journal::frame::Frame;
use crate::machine::definition::Definition;
use crate::machine::{Driver, Record};
use crate::ports::{Position, Snapshot};
use crate::tree::engine::Engine;
use crate::tree::load::Whose;
use crate::tree::pages::{self, Page};

/// A saga whose snapshot or records cannot be read: it is parked, and the others go on.
pub struct Damaged {
    /// Which.
    pub saga: SagaId,
    /// Why.
    pub why: String,
    /// Its state before what cannot be read, where there is one.
    pub last: Option<Box<Driver>>,
    /// Revision of its snapshot in the store.
    pub revision: u64,
    /// The last frame with a record of it; 0 where none was seen.
    pub position: Position,
}

impl Recovery {
    /// A page whose index cannot be read: its entries say the same.
    pub(super) async fn page_without_index(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        found: &Snapshot,
        error: &codec::StoredError,
    ) -> Result<Page, NotTaken> {
        let name = pages::page_name(&found.name);
        warn!(%shard, index = found.name, %error, "the index of a page cannot be read; the page is read instead");
        let entries = match pages::entries(engine, shard, &name).await {
            Ok(entries) => entries.unwrap_or_default(),
            Err(problem) if problem.code == Code::Unavailable => return Err(NotTaken::of(problem)),
            Err(problem) => return Err(unknown_ends(&found.name, &problem)),
        };
        Ok(self.page(engine, &name, &entries).await?.seen((0, found.revision)))
    }

    /// A saga of which something cannot be read: what is known of it.
    pub(super) fn damage(&mut self, saga: SagaId, why: String, revision: u64, position: Position) {
        if let Some(known) = self.damaged.get_mut(&saga) {
            known.position = known.position.max(position);
            return;
        }
        let damaged = match self.drivers.remove(&saga) {
            Some((driver, revision, _)) => {
                let position = position.max(driver.execution().position());
                // What ended was another run of the key.
                let last = (!driver.execution().is_final()).then(|| Box::new(driver));
                Damaged { saga: saga.clone(), why, last, revision, position }
            }
            None => Damaged { saga: saga.clone(), why, last: None, revision, position },
        };
        self.damaged.insert(saga, damaged);
    }

    /// The records of a frame. One that cannot be read is its saga's trouble, not the shard's, unless
    /// nobody can say whose it is: any saga might go on from before it.
    pub(super) async fn records(
        &mut self,
        engine: &Engine,
        shard: ShardId,
        position: Position,
        frame: &Frame,
    ) -> Result<Vec<Result<Record, u64>>, NotTaken> {
        let mut records = Vec::with_capacity(frame.records.len());
        for bytes in &frame.records {
            let error = match codec::load::<Record>(bytes) {
                Ok(record) => {
                    records.push(Ok(record));
                    continue;
                }
                Err(error) => error,
            };
            let whose = codec::load::<Whose>(bytes)
                .map_err(|_| NotTaken(format!("frame {position} has a record that nobody can read: {error}")))?;
            let over = self.in_a_page(engine, shard, &whose.saga).await?;
            if !over.is_ok_and(|ended| ended.is_some_and(|ended| position <= ended.position)) {
                let why = format!("its record in frame {position} cannot be read: {error}");
                self.damage(whose.saga, why, 0, position);
            }
            records.push(Err(codec::load::<Said>(bytes).map_or(0, |said| said.events())));
        }
        Ok(records)
    }

    /// A saga of which only the name is known.
    pub(super) fn unknown(&mut self, engine: &Engine, saga: &SagaId) -> Driver {
        let definition = Arc::new(unknown_definition(engine));
        self.definitions.insert(definition.reference().clone(), definition.clone());
        Driver::new(saga.clone(), definition)
    }
}

/// What can be read of a record whose changes are not all known: what it publishes is counted.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    changes: Vec<Value>,
}

impl Said {
    fn events(&self) -> u64 {
        self.changes.iter().filter(|change| change.get("Published").is_some()).count() as u64
    }
}

/// A page of which not even the index can be read. This stops the shard: a start of a saga that ended
/// long ago would run it a second time.
pub(super) fn unknown_ends(name: &str, why: &dyn std::fmt::Display) -> NotTaken {
    NotTaken(format!(
        "{name} cannot be read, so nobody knows which sagas ended: {why}; run the newest release on every node, or put \
         the value back; where it is removed its sagas are forgotten, and their keys are taken for new ones"
    ))
}

/// Stands for the definition of a saga of which only the name can be read.
pub fn unknown_definition(engine: &Engine) -> Definition {
    let unknown = DefinitionRef { tenant: None, name: "unknown".into(), version: 0, digest: "".into() };
    Definition::stand_in(unknown, engine.definitions.deployers())
}
