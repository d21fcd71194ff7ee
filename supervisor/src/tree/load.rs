//! Getting a saga's state back: from its snapshot and the end of its chain in the journal. Waking,
//! restarting a failed actor, describing an ended saga and showing history all come through here.

use std::sync::Arc;

use protocol::{Code, Problem, SagaId, ShardId, codec};
use serde::Deserialize;

use super::engine::Engine;
use super::pages;
use crate::journal::Frame;
use crate::machine::definition::Definition;
use crate::machine::{Driver, Execution, Record, Remains};
use crate::ports::Position;

/// The snapshot store's name for a saga.
pub fn snapshot_name(saga: &SagaId) -> String {
    format!("saga/{}/{}", saga.tenant, saga.key)
}

/// The beginning of a stored record.
#[derive(Deserialize)]
struct Whose {
    saga: SagaId,
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
        let Some(bytes) = bytes else { break };
        let frame = Frame::read(&bytes).map_err(|error| damaged(at, &error))?;
        let mut own: Vec<Record> = Vec::new();
        for bytes in &frame.records {
            // A frame holds many sagas' records; only ours are worth decoding whole.
            let whose: Whose = codec::load(bytes).map_err(|error| damaged(at, &error))?;
            if whose.saga == *saga {
                own.push(codec::load(bytes).map_err(|error| damaged(at, &error))?);
            }
        }
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
    let bytes = match snapshot {
        Some(bytes) => Some(bytes),
        None => {
            let stored = engine.snapshots.get(shard, &snapshot_name(saga)).await;
            stored.map_err(|error| unavailable(&error.to_string()))?.map(|stored| stored.bytes)
        }
    };
    let mut driver = match bytes {
        Some(bytes) => {
            let execution: Execution = codec::load(&bytes).map_err(|error| damaged(position, &error))?;
            Driver::restore(definition, execution)
        }
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
    let remains = pages::find(engine, shard, &pages, saga).await?.and_then(|entry| entry.remains);
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
