//! A cluster that the stories of one test program share. It lives as long as a story uses it, on a
//! runtime of its own, because each test otherwise ends the runtime that its nodes run on.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use node::client::{Client, StartAnswer};
use protocol::command::Start;
use protocol::view::SagaView;
use protocol::{Code, SagaKey, Value};
use tokio::runtime::Runtime;

use crate::activities;
use crate::cluster::TestCluster;
use crate::definitions;
use crate::ledger::Ledger;

/// How long a story waits for the end of a saga: far longer than any takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes, a server, a ledger and somebody who speaks to them.
pub struct Stage {
    runtime: Option<Runtime>,
    /// The cluster.
    pub cluster: TestCluster,
    /// What really happened.
    pub ledger: Ledger,
    /// Speaks as `ann` of tenant `acme`.
    pub client: Client,
}

/// The place where a test program keeps its stage.
pub struct Shared {
    stage: Mutex<Weak<Stage>>,
    nodes: usize,
}

impl Shared {
    /// A stage with `nodes` nodes, built when the first story wants it.
    pub const fn new(nodes: usize) -> Self {
        Self { stage: Mutex::new(Weak::new()), nodes }
    }

    /// Plays a story.
    pub fn play<F: Future<Output = ()>>(&self, story: impl FnOnce(Arc<Stage>) -> F) {
        let stage = {
            let mut kept = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            kept.upgrade().unwrap_or_else(|| {
                let stage = Arc::new(Stage::build(self.nodes));
                *kept = Arc::downgrade(&stage);
                stage
            })
        };
        let runtime = stage.runtime.as_ref().expect("a stage that is played on has its runtime").handle().clone();
        runtime.block_on(story(stage));
    }
}

impl Stage {
    fn build(nodes: usize) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let cluster = runtime
            .block_on(TestCluster::start(nodes, |dir| activities::all(&ledger(dir)), definitions::ALL))
            .expect("a cluster");
        let client = runtime.block_on(cluster.client()).expect("a client");
        let ledger = ledger(cluster.dir.path());
        Self { runtime: Some(runtime), cluster, ledger, client }
    }

    /// Starts a saga and waits until it has ended.
    pub async fn run(&self, definition: &str, key: &str, input: Value) -> SagaView {
        self.begin(definition, key, input).await;
        self.end(key).await
    }

    /// Starts a saga.
    pub async fn begin(&self, definition: &str, key: &str, input: Value) -> StartAnswer {
        self.client.start(&start(definition, key, input)).await.expect("the start is accepted")
    }

    /// Waits until a saga has ended.
    pub async fn end(&self, key: &str) -> SagaView {
        let view = self.client.wait(&saga_key(key), PATIENCE).await.expect("an answer");
        assert!(view.status.is_final(), "{key} has not ended: {view:#?}");
        view
    }

    /// Looks until the saga is as `wanted`, and shows it. It need not exist yet: a parent already
    /// waits for a child whose start is still on its way.
    pub async fn until(&self, key: &str, what: &str, wanted: impl Fn(&SagaView) -> bool) -> SagaView {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let seen = match self.client.describe(&saga_key(key)).await {
                Ok(view) if wanted(&view) => return view,
                Err(error) if error.code() != Some(Code::NotFound) => panic!("a description of {key}: {error}"),
                seen => seen,
            };
            assert!(tokio::time::Instant::now() < end, "{key} never came to {what}: {seen:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the ledger says of a saga of `acme`.
    pub fn told(&self, key: &str) -> Vec<String> {
        self.ledger.told(&format!("acme/{key}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The nodes end with it, without ado; the server is killed when the cluster is dropped.
            runtime.shutdown_background();
        }
    }
}

fn ledger(dir: &std::path::Path) -> Ledger {
    Ledger::open(&dir.join("ledger")).expect("a ledger")
}

/// A key.
pub fn saga_key(key: &str) -> SagaKey {
    SagaKey::new(key).expect("a usable key")
}

/// The command that starts `definition` under `key` and does not wait.
pub fn start(definition: &str, key: &str, input: Value) -> Start {
    Start { definition: definition.into(), version: None, key: Some(saga_key(key)), input, wait_ms: None }
}
