//! The workload that durable execution engines are compared by, measured from outside: clients
//! speak NATS, as users do, to a node that is a process of its own, so that time, CPU and memory
//! can be attributed. The node only gains the activities of [`work`]; nothing else is special.
//!
//! Starting servers and nodes is the command's business (`cli/bench.rs`); here is what is measured
//! once they run.

mod drive;
mod figures;
mod floor;
mod process;
mod recovery;
mod waiting;
pub mod work;

use crate::client::Client;

pub use drive::{Load, first_done, load};
pub use figures::Figures;
pub use floor::{compare, floor};
pub use process::cpu_ms;
pub use recovery::{NODES as RECOVERY_NODES, recovery};
pub use waiting::waiting;

/// What runs while something is measured.
pub struct Stage {
    /// Connections; the clients in flight share them. One moves thousands of messages a second,
    /// several keep a reader from being the limit.
    pub clients: Vec<Client>,
    /// The nodes' processes.
    pub nodes: Vec<u32>,
    /// The servers' processes.
    pub servers: Vec<u32>,
}
