//! Several nats-servers on this machine that form one cluster: for tests of replication, and for
//! trying the replicated shape out. Real clusters run one server per machine.

use std::net::TcpListener;
use std::path::Path;

use super::config::{ClusterRoutes, ServerConfig};
use super::process::{Server, StartError};

/// How often other ports are tried when somebody took one in between.
const PORT_TRIES: usize = 5;

/// Servers that form one cluster.
#[derive(Debug)]
pub struct ServerCluster {
    servers: Vec<Server>,
}

impl ServerCluster {
    /// Starts `count` servers below `dir` and waits until they have elected a leader.
    pub async fn start(program: &Path, dir: &Path, count: usize) -> Result<Self, StartError> {
        Self::start_with(program, dir, count, |config| config).await
    }

    /// Like [`ServerCluster::start`], with settings changed by `adjust`.
    pub async fn start_with(
        program: &Path,
        dir: &Path,
        count: usize,
        adjust: impl Fn(ServerConfig) -> ServerConfig,
    ) -> Result<Self, StartError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(program, dir, count, &adjust).await {
                Err(StartError::PortTaken { .. }) if tries < PORT_TRIES => {}
                other => return other,
            }
        }
    }

    async fn try_start(
        program: &Path,
        dir: &Path,
        count: usize,
        adjust: &impl Fn(ServerConfig) -> ServerConfig,
    ) -> Result<Self, StartError> {
        // Servers must know each other's ports before the first one starts, so these are found by
        // listening and letting go; whoever snatches one in between only causes another try.
        let held: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().map_err(no_ports)?;
        let peers: Vec<u16> =
            held.iter().map(|it| it.local_addr().map(|at| at.port())).collect::<Result<_, _>>().map_err(no_ports)?;
        drop(held);
        let mut servers = Vec::with_capacity(count);
        for (n, port) in peers.iter().enumerate() {
            let mut config = adjust(ServerConfig::new(dir.join(format!("n{n}"))));
            config.name = format!("n{n}");
            config.cluster = Some(ClusterRoutes { name: "skald".into(), port: *port, peers: peers.clone() });
            servers.push(Server::launch(program, config, None).await?);
        }
        for server in &servers {
            server.wait_ready().await?;
        }
        Ok(Self { servers })
    }

    /// Where clients connect: every server.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }

    /// The servers; server `n` is named `n<n>`.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The servers, to be stopped and started.
    pub fn servers_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// The server named `name`, as streams name their leaders.
    pub fn named(&mut self, name: &str) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.config().name == name)
    }

    /// Stops all of them.
    pub async fn stop(&self) {
        futures::future::join_all(self.servers.iter().map(Server::stop)).await;
    }
}

fn no_ports(source: std::io::Error) -> StartError {
    StartError::Disk { what: "cannot listen on a free port of", path: "127.0.0.1".into(), source }
}
