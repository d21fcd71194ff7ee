//! The journal of one shard: frames, and the protocol by which its single writer makes them
//! durable. All of it is free of IO, so that the tree and a simulator run the same code.

pub mod anchor;
mod digest;
pub mod frame;
pub mod writer;

pub use anchor::{Anchor, Loss, Stream};
pub use digest::Digest;
pub use frame::{Frame, Header};
pub use writer::{Request, Settled, Writer};
