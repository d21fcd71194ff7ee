//! The journal of one shard: frames, and the protocol by which its single writer makes them
//! durable. Both are free of IO, so that the tree and a simulator run the same code.

pub mod frame;
pub mod writer;

pub use frame::{Frame, Header};
pub use writer::{Request, Settled, Writer};
