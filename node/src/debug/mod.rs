//! The debug endpoint, and how views read as text.
//!
//! It shows and never changes anything: there is deliberately no route but `GET`. On loopback it is
//! open to whoever is on the machine, but for the programs of services, which run as users of their own
//! ([`neighbour`]). It checks the `Host` and `Origin` headers, because a web page
//! elsewhere can make a browser ask loopback, under its own name or under ours. Off loopback every answer needs a token.

mod guard;
mod neighbour;
mod page;
mod paint;
mod routes;
#[cfg(test)]
pub(crate) mod sample;
mod tree;
mod views;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actors::listener::{Bounds, Crowd};
use async_trait::async_trait;
use protocol::query::{Answer, Query};
use protocol::view::{History, SagaView};
use protocol::{Problem, SagaId};
use tokio::task::JoinHandle;

pub use guard::{Access, HttpLimits};
pub use paint::Paint;
pub(crate) use routes::merge_rows;
pub use routes::router;
pub use tree::{render_tree, render_tree_with};
pub use views::{
    clock, moment, render_health, render_history, render_outcome, render_owners, render_rows, render_saga, table,
};
pub(crate) use workers::merge_workers;
pub use workers::{render_run, render_workers};

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// This node.
    Node,
    /// Every node.
    Cluster,
}

/// What the endpoint shows.
#[async_trait]
pub trait DebugSource: Send + Sync + 'static {
    /// Asks this node or all; a node that does not answer in time is missing.
    async fn query(&self, scope: Scope, query: Query) -> Vec<Answer>;
    /// One saga, wherever it lives.
    async fn saga(&self, saga: SagaId) -> Result<SagaView, Problem>;
    /// What happened to one saga.
    async fn history(&self, saga: SagaId) -> Result<History, Problem>;
    /// This node's figures as OpenMetrics text.
    async fn metrics(&self) -> String;
}

/// Serves the endpoint until `stop` is done, then finishes what it is answering. Returns the address
/// it listens on. `access` is the rule for a listener on `bind`.
pub async fn serve(
    bind: SocketAddr,
    access: Access,
    connections: (Crowd, Bounds),
    source: Arc<dyn DebugSource>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind(bind).await?;
    let address = listener.local_addr()?;
    let router = router(source, access.listening(address));
    let served = tokio::spawn(crate::http::serve_router(listener, router, connections, stop));
    Ok((address, served))
}

#[cfg(test)]
mod tests;
