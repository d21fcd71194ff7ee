//! What the workers of this node work with: everything of the machine by way of its keeper.

use std::sync::Arc;

use actors::runtime::control::{Ports, Sagas};
use actors::runtime::ports::desired::DesiredState;
use actors::runtime::store::RuntimeStore;
use supervisor::ports::{Clock, Outbox};

use super::keeper::FarKeeper;
use crate::nats::Bus;

/// The ports of the runtime platform's workers. What is wanted is read by each node itself.
pub fn worker_ports(
    bus: &Bus,
    store: Arc<dyn RuntimeStore>,
    sagas: Arc<dyn Sagas>,
    (outbox, clock): (Arc<dyn Outbox>, Arc<dyn Clock>),
    desired: Option<Arc<dyn DesiredState>>,
) -> Ports {
    let keeper = Arc::new(FarKeeper::new(bus));
    Ports {
        store,
        compute: keeper.clone(),
        prober: keeper.clone(),
        metrics: Some(keeper.clone()),
        desired,
        secrets: keeper,
        sagas,
        outbox,
        clock,
    }
}
