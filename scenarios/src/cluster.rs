//! A cluster for a story: a real nats-server on free ports, and nodes in this process or as
//! processes of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use node::client::{Client, Settings};
use node::config::Config;
use node::node::{Node, Parts};
use node::server::{Finder, Server, ServerConfig};
use protocol::{NodeId, Principal, Tenant};
use supervisor::activity::Activity;
use supervisor::ports::Environments;
use supervisor::worker::Worker;
use tempfile::TempDir;

/// Makes the activities of a node; it is given the cluster's directory.
type MakeActivities = Box<dyn Fn(&Path) -> Vec<Arc<dyn Activity>> + Send + Sync>;
/// Makes the workers of the node of this number, and says which environments there are.
type MakeWorkers = Box<dyn Fn(usize) -> (Vec<Arc<dyn Worker>>, Arc<dyn Environments>) + Send + Sync>;
/// Changes a node's settings.
type Adjust = Box<dyn Fn(&mut Config) + Send + Sync>;

/// A server and nodes, gone when dropped.
pub struct TestCluster {
    /// Where everything is.
    pub dir: TempDir,
    /// The server.
    pub server: Server,
    /// The nodes of this process.
    pub nodes: Vec<Node>,
    activities: MakeActivities,
    definitions: Vec<(String, String)>,
    workers: Option<MakeWorkers>,
    adjust: Adjust,
}

impl TestCluster {
    /// Starts a server and `nodes` nodes with `activities` and `definitions` (YAML sources).
    pub async fn start(
        nodes: usize,
        activities: impl Fn(&Path) -> Vec<Arc<dyn Activity>> + Send + Sync + 'static,
        definitions: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_with(nodes, activities, definitions, |_| {}, |_| {}).await
    }

    /// The same, with the settings of nodes and server changed by `adjust` and `serve`.
    pub async fn start_with(
        nodes: usize,
        activities: impl Fn(&Path) -> Vec<Arc<dyn Activity>> + Send + Sync + 'static,
        definitions: &[&str],
        adjust: impl Fn(&mut Config) + Send + Sync + 'static,
        serve: impl FnOnce(&mut ServerConfig),
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = server(dir.path(), serve).await?;
        let definitions = definitions.iter().enumerate();
        let definitions = definitions.map(|(index, source)| (format!("story-{index}.yaml"), (*source).to_owned()));
        let cluster = Self {
            dir,
            server,
            nodes: Vec::new(),
            activities: Box::new(activities),
            definitions: definitions.collect(),
            workers: None,
            adjust: Box::new(adjust),
        };
        cluster.populate(nodes).await
    }

    /// A server and `nodes` nodes that have workers and nothing else.
    pub async fn of_workers(
        nodes: usize,
        workers: impl Fn(usize) -> (Vec<Arc<dyn Worker>>, Arc<dyn Environments>) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self::start(0, |_| Vec::new(), &[]).await?;
        cluster.workers = Some(Box::new(workers));
        cluster.populate(nodes).await
    }

    async fn populate(mut self, nodes: usize) -> anyhow::Result<Self> {
        self.nodes = futures::future::try_join_all((0..nodes).map(|number| self.node(number))).await?;
        Ok(self)
    }

    /// Starts node `number`, anew or again.
    pub async fn node(&self, number: usize) -> anyhow::Result<Node> {
        let mut config = config(self.dir.path(), &self.server, number)?;
        (self.adjust)(&mut config);
        let workers = self.workers.as_ref().map(|make| make(number));
        let (workers, environments) = workers.map_or_else(Default::default, |(workers, all)| (workers, Some(all)));
        let (activities, definitions) = ((self.activities)(self.dir.path()), self.definitions.clone());
        let parts = Parts { activities, definitions, workers, environments };
        Node::start(config, parts).await.with_context(|| format!("starting node {number}"))
    }

    /// A client of tenant `acme`, as `ann`.
    pub async fn client(&self) -> anyhow::Result<Client> {
        self.client_as("acme", "ann").await
    }

    /// A client.
    pub async fn client_as(&self, tenant: &str, principal: &str) -> anyhow::Result<Client> {
        let settings = Settings::new(self.server.url(), Tenant::new(tenant)?, Principal::new(principal)?);
        Ok(Client::connect(settings).await?)
    }
}

/// A server with its data below `dir`, its settings changed by `serve`.
pub async fn server(dir: &Path, serve: impl FnOnce(&mut ServerConfig)) -> anyhow::Result<Server> {
    let found = Finder::new(None).find(|_| {}).await?;
    let mut config = ServerConfig::new(dir.join("server"));
    serve(&mut config);
    Ok(Server::start(&found.path, config).await?)
}

/// The settings of node `number` on `server`.
pub fn config(dir: &Path, server: &Server, number: usize) -> anyhow::Result<Config> {
    let mut config = Config {
        node: Some(NodeId::new(format!("n{number}"))?),
        servers: vec![server.url()],
        // More than by default, so that each of three nodes has some to lose.
        shards: 8,
        data_dir: dir.join(format!("n{number}")),
        ..Config::default()
    };
    config.monitors = vec![server.monitor_url()];
    config.debug.bind = ([127, 0, 0, 1], 0).into();
    Ok(config)
}

/// Looks until `done` is true, at most `patience`.
pub async fn until<F: Future<Output = bool>>(patience: Duration, what: &str, mut done: impl FnMut() -> F) {
    let end = tokio::time::Instant::now() + patience;
    while !done().await {
        assert!(tokio::time::Instant::now() < end, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
