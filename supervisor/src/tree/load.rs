//! Getting a saga's state back: from its snapshot and the end of its chain in the journal. Waking,
//! restarting a failed actor, describing an ended saga and showing history all come through here.

use std::sync::Arc;

use protocol::{Code, DefinitionRef, Problem, SagaId, ShardId, codec};
use serde::Deserialize;
use tracing::warn;

use super::engine::Engine;
use super::pages;
use crate::journal::Frame;
use crate::machine::definition::Definition;
use crate::machine::{Driver, Execution, FactKind, Record, Remains};
use crate::ports::Position;

/// The snapshot store's name for a saga.
pub fn snapshot_name(saga: &SagaId) -> String {
    format!("saga/{}/{}", saga.tenant, saga.key)
}

/// The beginning of a stored record.
#[derive(Deserialize)]
pub(super) struct Whose {
    pub(super) saga: SagaId,
}

/// The records of `saga` after its `after`th, oldest first: found by walking its chain back from
/// `position`. The first one has a number above `after + 1` when older frames are no longer kept.
pub async fn chain(
    engine: &Engine,
    shard: ShardId,
    saga: &SagaId,
    position: Position,
    after: u64,
) -> Result<Vec<(Position, Record)>, Problem> {
    let mut found = Vec::new();
    let mut at = position;
    while at > 0 {
        let bytes = engine.journal.get(shard, at).await.map_err(|error| unavailable(&error.to_string()))?;
        let Some(bytes) = bytes else {
            expect_cut(engine, shard, at).await?;
            break;
        };
        let mut own = match own(&bytes, saga) {
            Ok(own) => own,
            // What is before a burial does not count.
            Err(_) if found.iter().any(|(_, record): &(_, Record)| record.is_burial()) => break,
            Err(error) => return Err(damaged(at, &error)),
        };
        own.sort_by_key(|record| record.number);
        let Some(first) = own.first() else {
            return Err(Problem::new(
                Code::Internal,
                format!("frame {at} does not hold {saga} though its chain says so"),
            ));
        };
        let (next, number) = (first.previous, first.number);
        found.extend(own.into_iter().rev().filter(|record| record.number > after).map(|record| (at, record)));
        if number <= after + 1 || next >= at {
            break;
        }
        at = next;
    }
    found.reverse();
    Ok(found)
}

/// Fails unless the journal was cut after frame `at`. A frame that is missing for another reason was lost with
/// its stream, and may be brought back.
async fn expect_cut(engine: &Engine, shard: ShardId, at: Position) -> Result<(), Problem> {
    let stream = engine.journal.stream(shard).await.map_err(|error| unavailable(&error.to_string()))?;
    match stream {
        Some(stream) if stream.first > at => Ok(()),
        Some(_) | None => Err(Problem::new(Code::Unavailable, format!("frame {at} of shard {shard} is missing"))
            .mend("`skald doctor` says what was lost: bring the stream back, or accept the loss")),
    }
}

/// The records of `saga` in a frame, which holds many sagas'; only its own are worth decoding whole.
fn own(frame: &[u8], saga: &SagaId) -> Result<Vec<Record>, codec::StoredError> {
    let mut own = Vec::new();
    for bytes in &Frame::read(frame)?.records {
        if codec::load::<Whose>(bytes)?.saga == *saga {
            own.push(codec::load(bytes)?);
        }
    }
    Ok(own)
}

/// The snapshot of `saga`: the one that is at hand, or else the store's.
async fn stored(
    engine: &Engine,
    shard: ShardId,
    saga: &SagaId,
    at_hand: Option<bytes::Bytes>,
) -> Result<Option<bytes::Bytes>, Problem> {
    if at_hand.is_some() {
        return Ok(at_hand);
    }
    let stored = engine.snapshots.get(shard, &snapshot_name(saga)).await;
    Ok(stored.map_err(|error| unavailable(&error.to_string()))?.map(|stored| stored.bytes))
}

/// The driver of `saga` as of `position`: from `snapshot`, or else the store's, or else its first
/// record.
pub async fn load(
    engine: &Engine,
    shard: ShardId,
    saga: &SagaId,
    definition: Arc<Definition>,
    position: Position,
    snapshot: Option<bytes::Bytes>,
) -> Result<Driver, Problem> {
    let bytes = stored(engine, shard, saga, snapshot).await?;
    // Where a snapshot cannot be read, the journal has everything as long as it reaches back.
    let execution = bytes.and_then(|bytes| match codec::load::<Execution>(&bytes) {
        Ok(execution) => Some(execution),
        Err(error) => {
            warn!(%shard, %saga, %error, "a snapshot cannot be read; the journal is read instead");
            None
        }
    });
    let mut driver = match execution {
        Some(execution) => Driver::restore(definition, execution),
        None => Driver::new(saga.clone(), definition),
    };
    if driver.execution().position() < position {
        let after = driver.execution().records();
        let chain = chain(engine, shard, saga, position, after).await?;
        if chain.first().is_none_or(|(_, record)| record.number > after + 1) {
            return Err(cut_away(saga));
        }
        for (at, record) in chain {
            driver.replay(&record, at).map_err(|error| damaged(at, &error))?;
        }
    }
    Ok(driver)
}

/// A broken saga, looked at again: its definition is asked for anew.
pub async fn rebuild(
    engine: &Engine,
    shard: ShardId,
    saga: &SagaId,
    position: Position,
    snapshot: Option<bytes::Bytes>,
) -> Result<Driver, Problem> {
    let bytes = stored(engine, shard, saga, snapshot).await?;
    let which = match bytes.as_ref().map(|bytes| codec::load::<Execution>(bytes)) {
        Some(Ok(execution)) => execution.definition().clone(),
        // Where no frame of it was seen, only the snapshot tells of it.
        Some(Err(error)) if position == 0 => {
            let message = format!("the snapshot of {saga} cannot be read: {error}");
            return Err(Problem::new(Code::Internal, message).mend("run the newest release on every node"));
        }
        Some(Err(_)) | None => {
            let chain = chain(engine, shard, saga, position, 0).await?;
            match chain.first().map(|(_, record)| &record.fact.kind) {
                Some(FactKind::Started(start)) => start.definition.clone(),
                Some(_) | None => return Err(cut_away(saga)),
            }
        }
    };
    let definition = engine.definitions.get(&which).await.map_err(|error| unavailable(&error.to_string()))?;
    let definition = definition.ok_or_else(|| {
        Problem::new(Code::NotFound, lost(&which)).mend("deploy the same source again, then release the saga")
    })?;
    load(engine, shard, saga, definition, position, bytes).await
}

/// Why a saga of this definition stands still.
pub fn lost(which: &DefinitionRef) -> String {
    format!("its definition {which} ({}) is not stored, or cannot be read by this release", which.digest)
}

/// An ended saga as it is remembered when its journal is cut: from `own`, what the shard still holds,
/// or else from one of `pages`.
pub async fn remembered(
    engine: &Engine,
    shard: ShardId,
    saga: &SagaId,
    own: Option<bytes::Bytes>,
    pages: Vec<Arc<str>>,
) -> Result<Remains, Problem> {
    if let Some(bytes) = own {
        return codec::load(&bytes).map_err(|error| damaged(0, &error));
    }
    let remains = pages::find(engine, shard, &pages, saga).await?.entry.and_then(|entry| entry.remains);
    remains.map_or_else(|| Err(cut_away(saga)), |bytes| codec::load(&bytes).map_err(|error| damaged(0, &error)))
}

fn cut_away(saga: &SagaId) -> Problem {
    Problem::new(Code::NotFound, format!("the beginning of {saga} is older than what the journal keeps"))
        .mend("keep the journal longer: journal.retention")
}

fn unavailable(why: &str) -> Problem {
    Problem::new(Code::Unavailable, format!("the journal cannot be read: {why}")).mend("try again").retry_after_ms(500)
}

fn damaged(position: Position, why: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, format!("the journal at {position} cannot be understood: {why}"))
        .mend("was it written by a later release? run the newest release on every node")
}
