//! What the tests against real servers share: a found server, own data directories, and waiting
//! for a condition within a bound.
#![allow(dead_code, reason = "every test file uses another part")]

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::nats::{Bus, ConnectConfig, connect};
use node::server::{Finder, Server, ServerCluster, ServerConfig};
use tempfile::TempDir;

/// Nothing here takes longer, on a busy machine either.
pub const SOON: Duration = Duration::from_secs(30);

/// The nats-server to test against, obtained once where there is none.
pub async fn program() -> PathBuf {
    static FOUND: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
    let find = || async { Finder::new(None).find(|line| println!("{line}")).await.expect("a nats-server").path };
    FOUND.get_or_init(find).await.clone()
}

/// One server with a connection to it.
pub struct One {
    pub server: Server,
    pub bus: Bus,
    pub dir: TempDir,
}

/// Starts one server.
pub async fn one() -> One {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&program().await, ServerConfig::new(dir.path())).await.unwrap();
    let bus = bus([server.url()]).await;
    One { server, bus, dir }
}

/// Three servers with a connection to them.
pub struct Three {
    pub servers: ServerCluster,
    pub bus: Bus,
    pub dir: TempDir,
}

/// Starts three servers.
pub async fn three() -> Three {
    let dir = tempfile::tempdir().unwrap();
    let servers = ServerCluster::start(&program().await, dir.path(), 3).await.unwrap();
    let bus = bus(servers.urls()).await;
    Three { servers, bus, dir }
}

/// Connects.
pub async fn bus(urls: impl IntoIterator<Item = String>) -> Bus {
    connect(ConnectConfig { request_within: Duration::from_secs(3), ..ConnectConfig::new(urls) }).await.unwrap()
}

/// Tries until `look` answers something, or fails after [`SOON`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < SOON, "{what} did not happen within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
