//! One way to listen for HTTP/1.1, for every door of a node: the debug endpoint, `/v1`, the gateways.
//!
//! A connection costs a descriptor, and a process has only so many: without bounds, whoever opens
//! enough of them takes the bus and the files with them. So each listener has a number of places
//! ([`Crowd`]), in all and for each address that connects. When they are taken, the connection that
//! has been without a request for the longest is closed for the new one: heads that never end and
//! connections kept open cost their owner, and nobody else. A connection whose request is being
//! answered is never closed for another; when all are, the new one is closed at once.
//!
//! Deliberately absent: TLS, HTTP/2, and any bound on a request's body, which only its reader knows.

mod crowd;
mod descriptors;
mod held;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, warn};

use held::Held;

pub use crowd::Crowd;
pub use descriptors::{descriptors, raise_descriptors};

/// The pause after the system refused a socket: it is out of descriptors, and that does not pass in
/// an instant.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);
/// How long connections may take to finish what they answer when a listener stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What one connection may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// How long a client may take to send a head, and how long it may be silent before the next one.
    pub head_within: Duration,
    /// How long a client may take nothing of an answer that is being written.
    pub write_within: Duration,
    /// The longest head of a request, in bytes; at least 8 KiB.
    pub head_bytes: usize,
    /// Lines in a head.
    pub headers_max: usize,
}

/// Answers the requests that come to `listener` until `stop` is done, then finishes what is being
/// answered.
pub async fn serve<S, F, B>(
    listener: TcpListener,
    crowd: Crowd,
    bounds: Bounds,
    answer: S,
    stop: impl Future<Output = ()>,
) where
    S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (stopping, stopped) = tokio::sync::watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if passes(&error) => continue,
            Err(error) => {
                warn!(%error, "cannot accept a connection, will try again");
                tokio::time::sleep(REFUSED_PAUSE).await;
                continue;
            }
        };
        let Some(place) = crowd.enter(peer.ip()) else {
            debug!(%peer, "closed at once: every connection is answering a request");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "small answers on this connection are slow");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(bounds.write_within));
        let (answer, mut stopped) = (answer.clone(), stopped.clone());
        connections.spawn(async move {
            let busy = place.clone();
            let service = service_fn(move |request| {
                let (answer, busy) = (answer.clone(), busy.clone());
                async move {
                    let under_way = busy.answering();
                    Ok::<_, Infallible>(answer(request, peer).await.map(|body| Held { body, _under_way: under_way }))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(bounds.head_within)
                .max_buf_size(bounds.head_bytes)
                .max_headers(bounds.headers_max)
                .serve_connection(TokioIo::new(Box::pin(stream)), service);
            tokio::pin!(connection);
            let served = tokio::select! {
                served = &mut connection => served,
                () = place.unwanted() => return,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                debug!(%peer, %error, "a connection broke");
            }
        });
    }
    drop(listener);
    drop(stopping);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WITHIN, finish).await.is_err() {
        debug!("connections that did not finish in time are closed");
    }
}

/// Errors of one connection, which say nothing about the next.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
