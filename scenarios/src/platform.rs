//! A cluster that looks after services: real processes behind a real gateway, and a git repository
//! in which it is written down how they should be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::compute::process::proc::marked;
use actors::runtime::deployment::DEFINITION;
use anyhow::{Context, bail, ensure};
use node::client::Client;
use protocol::command::{RunWorker, Start};
use protocol::runtime::{
    BindEnvironment, CreateEnvironment, DriftRow, ListDrift, ListServices, PublishConfiguration, PutSecret,
    SecretValue, ServiceRow,
};
use protocol::view::{SagaView, Status};
use protocol::{Environment, SagaKey, Tenant, Value, WorkerKind};
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::TestCluster;
use crate::service::{Left, Seen, server};

/// Long enough for a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// An environment for trying things out, in which drift is put right by itself.
pub const DEV: &str = "dev";
/// An environment of stage `prod`, in which a person decides.
pub const LIVE: &str = "live";

/// The share of requests that a [`canary`] may see first, in percent.
pub const FIRST_SHARE: usize = 10;

/// A canary: its first share, then half of the traffic, each watched until a second of it says something.
pub fn canary() -> Value {
    let analysis = json!({ "type": "analysis", "analysis": {
        "intervalMs": 1_000, "requestsMin": 1, "count": 100, "consecutiveSuccessLimit": 1, "inconclusiveLimit": 99,
        "success": [{ "figure": "failurePercent", "is": "atMost", "bound": 1.0 }],
    }});
    json!({ "name": "Canary", "scaleDownDelayMs": 500, "steps": [
        { "type": "weight", "percent": FIRST_SHARE }, analysis, { "type": "weight", "percent": 50 }, analysis,
    ]})
}

/// A canary that takes its time, so that something can happen meanwhile.
pub fn slow_canary() -> Value {
    json!({ "name": "Canary", "scaleDownDelayMs": 200, "steps": [
        { "type": "weight", "percent": 20 }, { "type": "pause", "durationMs": 3_000 },
    ]})
}

/// Nobody was refused.
pub fn none_failed(seen: &[Seen], when: &str) {
    let failed: Vec<_> = seen.iter().filter(|one| one.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} requests failed {when}: {:?}", failed.len(), seen.len(), failed[0]);
    assert!(!seen.is_empty(), "nobody asked {when}");
}

/// Somebody saw that the canary is broken, and from the first request that it got to the last it got no
/// more than its first share (F33).
pub fn only_its_share_failed(seen: &[Seen]) {
    let bad: Vec<usize> = (0..seen.len()).filter(|n| seen[*n].is_err()).collect();
    let (first, last) = (*bad.first().expect("somebody has to see that it is broken"), bad[bad.len() - 1]);
    let within = last - first + 1;
    assert!(bad.len() <= within * FIRST_SHARE / 100 + 1, "{} of {within} requests failed", bad.len());
}

/// The cluster, the repository, and whoever asks for things.
pub struct Platform {
    /// Its nodes. One keeps the processes; when it dies, another one of the machine goes on.
    pub cluster: TestCluster,
    /// Tenant `acme`, as `ann`.
    pub client: Client,
    artifacts: DirectoryArtifacts,
    repository: TempDir,
    _left: Left,
}

impl Platform {
    /// Starts `nodes` nodes, with the environments [`DEV`] and [`LIVE`].
    pub async fn start(nodes: usize) -> anyhow::Result<Self> {
        let repository = tempfile::tempdir()?;
        git(repository.path(), &["init", "--quiet", "--initial-branch=main"])?;
        git(repository.path(), &["commit", "--quiet", "--allow-empty", "-m", "begin"])?;
        let address = format!("file://{}", repository.path().display());
        let definitions: Vec<&str> = actors::definitions().iter().map(|(_, source)| *source).collect();
        let adjust = move |config: &mut node::config::Config| {
            config.runtime.dir = config.data_dir.parent().map(|dir| dir.join("runtime"));
            (config.runtime.drain_ms, config.runtime.stop_ms) = (1_000, 500);
            config.runtime.desired = Some(address.clone());
            // Who tests without root is the one tenant whose services may run.
            config.runtime.operator = "acme".to_owned();
        };
        // Only the deployment; the installation's activities are not offered here.
        let mut cluster = TestCluster::start_with(1, |_| Vec::new(), &definitions[1..], adjust, |_| {}).await?;
        let client = cluster.client().await?;
        let dir = cluster.dir.path().canonicalize()?;
        let artifacts = DirectoryArtifacts::open(dir.join("runtime/published"))?;
        // The first one keeps the processes.
        for number in 1..nodes {
            let node = cluster.node(number).await?;
            cluster.nodes.push(node);
        }
        let platform = Self { cluster, client, artifacts, repository, _left: Left(dir) };
        for (name, stage) in [(DEV, "dev"), (LIVE, "prod")] {
            let create = CreateEnvironment { environment: name.into(), stage: Some(stage.into()), region: None };
            platform.client.create_environment(&create).await?;
        }
        let tenant = Tenant::new("acme")?;
        let bind = BindEnvironment { environment: LIVE.into(), tenant, max_replicas: 10 };
        platform.client.bind_environment(&bind).await?;
        // A new environment is seen within seconds.
        for environment in [DEV, LIVE] {
            let end = tokio::time::Instant::now() + PATIENCE;
            while let Err(error) = platform.try_run("deployment", environment).await {
                ensure!(tokio::time::Instant::now() < end, "nobody looks after {environment}: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(platform)
    }

    /// The numbers that the processes of a service have on this machine; they themselves see others.
    pub fn processes(&self, environment: &str, service: &str) -> BTreeSet<i32> {
        let runtime = self.cluster.dir.path().join("runtime");
        let instance = std::fs::read_to_string(runtime.join("instance")).unwrap_or_default();
        let found = marked(&instance).unwrap_or_default().into_iter().filter(|found| {
            let marker = &found.marker;
            !found.keeper && marker.environment == environment && marker.replica.starts_with(&format!("{service}-"))
        });
        found.filter_map(|found| i32::try_from(found.pid).ok()).collect()
    }

    /// Where a service may write.
    pub fn state(&self, environment: &str, service: &str) -> PathBuf {
        self.cluster.dir.path().join("runtime/state").join(environment).join("of-acme").join(service)
    }

    /// The node that keeps the processes dies, and comes back.
    pub async fn restart_keeper(&mut self) -> anyhow::Result<()> {
        self.cluster.nodes.remove(0).kill();
        let again = self.cluster.node(0).await?;
        self.cluster.nodes.push(again);
        Ok(())
    }

    /// Makes a program available, and says its digest.
    pub fn add(&self, program: &str) -> String {
        format!("sha256:{}", self.artifacts.add(program.as_bytes()).expect("there is room"))
    }

    /// Makes a version of the service available, and says its digest.
    pub fn release(&self, version: &str, broken: bool) -> String {
        self.add(&server(version, broken))
    }

    /// Writes down how a service should be: `file` over what a small one of two replicas is.
    pub fn write_down(&self, environment: &str, service: &str, file: Value) -> anyhow::Result<()> {
        let mut whole = json!({
            "serviceId": service, "tenantId": "acme", "environmentId": environment, "replicas": 2,
            "target": "continuous",
        });
        let fields = file.as_object().context("a file has fields")?;
        for (name, value) in fields {
            whole[name] = value.clone();
        }
        let dir = self.repository.path().join("environments").join(environment);
        std::fs::create_dir_all(&dir)?;
        // What is JSON is YAML.
        std::fs::write(dir.join(format!("{service}.yaml")), whole.to_string())?;
        git(self.repository.path(), &["add", "."])?;
        git(self.repository.path(), &["commit", "--quiet", "--allow-empty", "-m", "wanted"])
    }

    /// Publishes a configuration that says so much, and says its version.
    pub async fn publish(&self, environment: &str, service: &str, colour: &str) -> anyhow::Result<u64> {
        let publish = PublishConfiguration {
            environment: environment.into(),
            service: service.into(),
            entries: [("COLOUR".to_owned(), colour.to_owned())].into(),
        };
        Ok(self.client.publish_configuration(&publish).await?.version)
    }

    /// Puts a value of the secret `db`.
    pub async fn put_secret(&self, environment: &str, value: &str) -> anyhow::Result<Value> {
        let put = PutSecret {
            environment: environment.into(),
            secret: "db".into(),
            value: SecretValue(value.into()),
            id: Some(value.into()),
        };
        Ok(self.client.put_secret(&put).await?)
    }

    async fn try_run(&self, kind: &str, environment: &str) -> anyhow::Result<()> {
        let run = RunWorker {
            kind: WorkerKind::new(kind)?,
            environment: Environment::new(environment)?,
            wait_ms: Some(60_000),
        };
        self.client.run_worker(&run).await?;
        Ok(())
    }

    /// Runs a worker now instead of waiting for its time, and waits for the run.
    pub async fn run(&self, kind: &str, environment: &str) {
        let tried = self.try_run(kind, environment).await;
        tried.unwrap_or_else(|error| panic!("{kind} does not run for {environment}: {error}"));
    }

    /// What is known of a service.
    pub async fn service(&self, environment: &str, service: &str) -> Option<ServiceRow> {
        let list = ListServices { environment: Some(environment.into()), service: None };
        let listed = self.client.services(&list).await.ok()?;
        listed.services.into_iter().find(|row| row.service == service)
    }

    /// Runs `kind` until the service answers `expected` at `path`, and nothing is under way; says
    /// where it answers.
    pub async fn until_it_says(
        &self,
        kind: &str,
        (environment, service): (&str, &str),
        path: &str,
        expected: &str,
    ) -> String {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let row = self.service(environment, service).await;
            if let Some(row) = row.as_ref().filter(|row| row.under_way.is_none())
                && let Some(url) = &row.endpoint_url
                && said(url, path).await.as_deref() == Some(expected)
            {
                return url.clone();
            }
            assert!(tokio::time::Instant::now() < end, "{environment}/{service} never says {expected}: {row:#?}");
            self.run(kind, environment).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Begins a deployment past the repository.
    pub async fn begin(&self, key: &str, input: Value) -> anyhow::Result<SagaKey> {
        let key = SagaKey::new(key)?;
        let definition = DEFINITION.into();
        let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
        self.client.start(&start).await?;
        Ok(key)
    }

    /// How a deployment ended.
    pub async fn end(&self, key: &SagaKey) -> anyhow::Result<SagaView> {
        let view = self.client.wait(key, PATIENCE).await?;
        if !view.status.is_final() {
            bail!("{key} goes on: {view:#?}\n{:#?}", self.client.services(&ListServices::default()).await);
        }
        Ok(view)
    }

    /// Deploys past the repository, and says where the service answers.
    pub async fn deployed(&self, key: &str, input: Value) -> anyhow::Result<String> {
        let key = self.begin(key, input).await?;
        let view = self.end(&key).await?;
        ensure!(view.status == Status::Succeeded, "{view:#?}");
        let output = view.outcome.and_then(|outcome| outcome.output).context("a deployment says where it answers")?;
        Ok(output["endpointUrl"].as_str().context("an address is text")?.to_owned())
    }

    /// Somebody deploys another setting, past the repository.
    pub async fn change_by_hand(&self, environment: &str, service: &str, artifact: &str) -> anyhow::Result<()> {
        let input = json!({
            "environment": environment, "service": service, "artifact": artifact,
            "configuration": { "COLOUR": "pink" },
        });
        self.deployed(&format!("by-hand-{environment}"), input).await?;
        Ok(())
    }

    /// What was found in an environment, also what is put right.
    pub async fn drift(&self, environment: &str) -> anyhow::Result<Vec<DriftRow>> {
        let list = ListDrift { environment: Some(environment.into()), all: true };
        Ok(self.client.drift(&list).await?.findings)
    }
}

/// What the service at `url` answers at `path`; `None` when it does not.
pub async fn said(url: &str, path: &str) -> Option<String> {
    let answer = reqwest::get(format!("{url}{path}")).await.ok()?;
    if answer.status().is_success() { answer.text().await.ok() } else { None }
}

fn git(dir: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let run = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgSign=false"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()?;
    ensure!(run.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    Ok(())
}
