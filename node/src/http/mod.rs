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

use actors::listener::{self, Bounds, Crowd};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower::Service as _;

pub use door::{Door, Limits};
pub use routes::{BASE, Method, ROUTES, Route};

/// Serves the door until `stop` is done, then finishes what it is answering. Returns the address it
/// listens on.
pub async fn serve(
    bind: SocketAddr,
    door: Door,
    connections: (Crowd, Bounds),
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(bind).await?;
    let address = listener.local_addr()?;
    let router = door::router(door);
    let served = tokio::spawn(serve_router(listener, router, connections, stop));
    Ok((address, served))
}

/// Answers what comes to `listener` by `router`, within the bounds of `connections`, until `stop` is done.
pub(crate) async fn serve_router(
    listener: TcpListener,
    router: Router,
    (crowd, bounds): (Crowd, Bounds),
    stop: impl Future<Output = ()>,
) {
    let answer = move |mut request: hyper::Request<hyper::body::Incoming>, peer: SocketAddr| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answered = router.clone().call(request.map(Body::new));
        async move { answered.await.unwrap_or_else(|never| match never {}) }
    };
    listener::serve(listener, crowd, bounds, answer, stop).await;
}
