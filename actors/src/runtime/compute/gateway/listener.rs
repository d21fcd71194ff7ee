//! The socket of a gateway.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::warn;

use super::Settings;
use super::proxy::Proxy;
use super::table::Table;
use crate::listener;

/// The pause after the address was taken, which does not pass in an instant.
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
        let answer = move |request, peer| {
            let proxy = proxy.clone();
            async move { proxy.answer(request, peer).await }
        };
        listener::serve(listener, settings.crowd.clone(), settings.bounds(), answer, std::future::pending()).await;
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
