//! The socket of a gateway and the connections to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Settings;
use super::proxy::Proxy;
use super::table::Table;

/// The pause after the system refused a socket: it is out of descriptors, or the address is taken,
/// and that does not pass in an instant.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);

/// The gateway of one environment.
#[derive(Clone)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it knows.
    pub table: Arc<Table>,
}

impl Gateway {
    /// Answers requests until it is dropped, and with it every connection. Without a `listener` it
    /// listens at the address as soon as that is free.
    pub async fn serve(self, environment: String, settings: Arc<Settings>, listener: Option<TcpListener>) {
        let listener = match listener {
            Some(listener) => listener,
            None => self.listen(&environment).await,
        };
        let proxy = Proxy::new(&environment, settings.clone(), self.table.clone());
        let free = Arc::new(Semaphore::new(settings.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = free.clone().acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(environment, %error, "the gateway cannot accept a connection");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    continue;
                }
            };
            let (proxy, settings) = (proxy.clone(), settings.clone());
            connections.spawn(async move {
                let _place = place;
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%peer, %error, "the connection stays slow");
                }
                let answer = service_fn(|request| {
                    let proxy = proxy.clone();
                    async move { Ok::<_, std::convert::Infallible>(proxy.answer(request, peer).await) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(settings.header_time)
                    .max_buf_size(settings.header_bytes)
                    .max_headers(settings.headers_max)
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
                if let Err(error) = served {
                    debug!(%peer, %error, "a connection broke");
                }
            });
        }
    }

    async fn listen(&self, environment: &str) -> TcpListener {
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(error) => {
                    warn!(environment, address = %self.address, %error, "the gateway cannot listen, will try again");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    /// Takes a free port on `address`'s host, or `address` itself.
    pub async fn bind(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
        let listener = TcpListener::bind(address).await?;
        Ok((listener.local_addr()?, listener))
    }
}
