//! The runtime platform in a node: whoever holds the state directory's lock keeps the processes,
//! answers at the gateways and serves the activities of deployments to all nodes.
//!
//! The activities are asked for over the bus, also by the node that serves them: so it does not
//! matter which node owns a saga, and when the keeper dies another node of the same machine takes
//! the directory, the processes and the work over. Nodes of other machines have no part in it but
//! their sagas: processes run on the one machine whose nodes have `runtime.dir` set.

mod calls;
mod commands;
mod host;
pub mod keeper;
mod local;
mod ports;
mod sagas;
mod worker;

pub use commands::RuntimeDesk;
pub use host::RuntimeHost;
pub use local::Local;
pub use ports::worker_ports;
pub use sagas::OwnSagas;

/// One of all that listen is asked: the keeper is one, and during a takeover nobody is asked twice.
const GROUP: &str = "skald-runtime";
