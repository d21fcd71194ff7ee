//! One commit of one shard: the records that were gathered while the commit before was on its way.

use std::sync::Arc;

use protocol::codec::{self, StoredError};
use protocol::{Epoch, NodeId, Principal, SagaId, TraceId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::Digest;
use crate::machine::{Driver, Effect, Family, Record};

/// Who wrote a frame. Node, epoch and counter together are unique: a writer recognises its own
/// frame by them when an acknowledgement was lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The node that wrote it.
    pub node: NodeId,
    /// Under which ownership.
    pub epoch: Epoch,
    /// Counted from 0 within the epoch; frame 0 is the takeover.
    pub counter: u64,
    /// Distinguishes two ownerships that were given the same epoch by a lease store that lost its
    /// memory: made fresh at each takeover.
    #[serde(default)]
    pub nonce: u64,
    /// The digest of the shard's frame before this one; [`Digest::NONE`] in its first. Absent from
    /// frames of releases that did not chain them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
}

impl Header {
    /// Whether both are of one writing: what it was written after may differ from try to try.
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.node, self.epoch, self.nonce, self.counter) == (&other.node, other.epoch, other.nonce, other.counter)
    }
}

/// What a record costs in a frame besides its own bytes: a mark, and a length of four bytes at most.
pub const RECORD_OVERHEAD: usize = 5;

/// A frame, read back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// Who wrote it.
    pub header: Header,
    /// Each as stored by the codec; a takeover frame has none.
    pub records: Vec<ByteBuf>,
}

impl Frame {
    /// Reads a frame's header and its records, still encoded.
    pub fn read(bytes: &[u8]) -> Result<Self, StoredError> {
        codec::load(bytes)
    }

    /// The bytes of a frame.
    pub fn write(header: &Header, records: Vec<Vec<u8>>) -> Vec<u8> {
        codec::store(&Self { header: header.clone(), records: records.into_iter().map(ByteBuf::from).collect() })
    }

    /// Bytes of a frame without records, with the largest counter and number of records it may have.
    pub fn overhead(header: &Header) -> usize {
        let header = Header { counter: u64::MAX, after: Some(Digest::NONE), ..header.clone() };
        // An empty list has one byte of its own, a long one five.
        Self::write(&header, Vec::new()).len() + 4
    }

    /// Decodes the records.
    pub fn decode(&self) -> Result<Vec<Record>, StoredError> {
        self.records.iter().map(|bytes| codec::load(bytes)).collect()
    }
}

/// One saga's records of one decision or more, ready for a frame. They always stay together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Each as stored by the codec.
    pub records: Vec<Vec<u8>>,
    /// What the relay is to send once they are durable.
    pub outbox: Vec<Arc<Sending>>,
}

/// Something that a record says is to be sent, with what the receiver needs to know of the sender.
#[derive(Clone, PartialEq, Debug)]
pub struct Sending {
    /// The saga that sends.
    pub saga: SagaId,
    /// Who started it.
    pub by: Principal,
    /// Its trace.
    pub trace: TraceId,
    /// How many events led to it, one after the other.
    pub causes: u32,
    /// Where it stands among its own.
    pub family: Family,
    /// `Publish`, `StartChild`, `CancelChild` or `Ended`.
    pub effect: Effect,
}

impl Batch {
    /// Bytes of the records in a frame.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.len() + RECORD_OVERHEAD).sum()
    }
}

impl Sending {
    /// `effects` of the saga that `driver` runs, which has been started.
    pub fn of(driver: &Driver, effects: impl IntoIterator<Item = Effect>) -> Vec<Arc<Self>> {
        let execution = driver.execution();
        let (Some(by), Some(trace)) = (execution.started_by(), execution.trace()) else { return Vec::new() };
        let sending = |effect| {
            let (saga, by, trace) = (execution.saga().clone(), by.clone(), trace.clone());
            let (causes, family) = (execution.causes(), execution.family());
            Arc::new(Self { saga, by, trace, causes, family, effect })
        };
        effects.into_iter().map(sending).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back() {
        let header = Header {
            node: NodeId::new("a").unwrap(),
            epoch: Epoch(7),
            counter: 3,
            nonce: 9,
            after: Some(Digest::NONE),
        };
        let bytes = Frame::write(&header, vec![vec![1, 2], vec![3]]);
        let frame = Frame::read(&bytes).unwrap();
        assert_eq!(frame.header, header);
        assert_eq!(frame.records, [ByteBuf::from(vec![1, 2]), ByteBuf::from(vec![3])]);
        assert!(Frame::read(&bytes[..bytes.len() - 1]).is_err());
    }
}
