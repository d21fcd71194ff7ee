//! The HTTP door of the runtime platform: `/v1/runtime/…`.
//!
//! One table of [routes], each a command of the [dispatcher](crate::service::Dispatcher) with its
//! scope. Nothing is decided here but who may ask: a [token] says tenant, principal and scopes, and no
//! body, path or header can say otherwise. The tenant's right to an environment is asked before the
//! command is (W073), and a change of production needs the word of somebody else. What a command
//! answers is the body; what refuses is a problem (RFC 9457).
//!
//! Deliberately absent: TLS, which a proxy speaks where this does not listen on loopback, and gRPC.

mod answer;
mod asked;
mod door;
mod routes;
#[cfg(test)]
mod tests;
pub mod token;

use std::net::SocketAddr;

use tokio::task::JoinHandle;

pub use door::{Door, Limits};
pub use routes::{BASE, Method, ROUTES, Route};

/// Serves the door until `stop` is done, then finishes what it is answering. Returns the address it
/// listens on.
pub async fn serve(
    bind: SocketAddr,
    door: Door,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<(SocketAddr, JoinHandle<std::io::Result<()>>)> {
    let listener = tokio::net::TcpListener::bind(bind).await?;
    let address = listener.local_addr()?;
    let router = door::router(door);
    let served = tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop).await });
    Ok((address, served))
}
