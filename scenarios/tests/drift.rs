//! What is written down in a repository is brought, what somebody changes by hand is put right or
//! shown, a configuration reaches what runs, and a secret is rotated under traffic: with real
//! processes, a real repository and the real workers (R060-R076, W030-W049, H01, H02, F43, F51-F53).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use node::client::Client;
use protocol::command::{RunWorker, Start};
use protocol::runtime::{
    BindEnvironment, BindSecret, CreateEnvironment, DriftRow, ListDrift, ListSecrets, ListServices, OfFinding,
    PublishConfiguration, PutSecret, SecretValue, ServiceRow,
};
use protocol::view::Status;
use protocol::{Environment, SagaKey, Tenant, WorkerKind};
use scenarios::cluster::TestCluster;
use scenarios::service::{Left, Traffic, has_python, server};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);

struct World {
    client: Client,
    artifact: String,
    repository: tempfile::TempDir,
    _cluster: TestCluster,
    _left: Left,
}

fn git(dir: &Path, arguments: &[&str]) {
    let run = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgSign=false"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(run.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
}

impl World {
    async fn build() -> Self {
        let repository = tempfile::tempdir().unwrap();
        git(repository.path(), &["init", "--quiet", "--initial-branch=main"]);
        git(repository.path(), &["commit", "--quiet", "--allow-empty", "-m", "begin"]);
        let address = format!("file://{}", repository.path().display());
        let definitions: Vec<&str> = actors::definitions().iter().map(|(_, source)| *source).collect();
        let adjust = move |config: &mut node::config::Config| {
            config.runtime.dir = config.data_dir.parent().map(|dir| dir.join("runtime"));
            (config.runtime.drain_ms, config.runtime.stop_ms) = (1_000, 500);
            config.runtime.desired = Some(address.clone());
        };
        let cluster = TestCluster::start_with(1, |_| Vec::new(), &definitions[1..], adjust, |_| {}).await.unwrap();
        let client = cluster.client().await.unwrap();
        let dir = cluster.dir.path().canonicalize().unwrap();
        let artifacts = DirectoryArtifacts::open(dir.join("runtime/published")).unwrap();
        let artifact = format!("sha256:{}", artifacts.add(server("v1", false).as_bytes()).unwrap());
        for (name, stage) in [("dev", "dev"), ("live", "prod")] {
            let create = CreateEnvironment { environment: name.into(), stage: Some(stage.into()), region: None };
            client.create_environment(&create).await.unwrap();
        }
        let tenant = Tenant::new("acme").unwrap();
        let bind = BindEnvironment { environment: "live".into(), tenant, max_replicas: 10 };
        client.bind_environment(&bind).await.unwrap();
        Self { client, artifact, repository, _cluster: cluster, _left: Left(dir) }
    }

    /// Writes a service down; with a version, under that configuration of its own.
    fn write_down(&self, environment: &str, service: &str, configuration: Option<u64>) {
        let mut file = json!({
            "serviceId": service, "tenantId": "acme", "environmentId": environment, "image": self.artifact,
            "version": "1.0", "replicas": 2, "target": "continuous",
        });
        if let Some(version) = configuration {
            file["configuration"] = json!({ "configurationId": service, "version": version });
        }
        let dir = self.repository.path().join("environments").join(environment);
        std::fs::create_dir_all(&dir).unwrap();
        // What is JSON is YAML.
        std::fs::write(dir.join(format!("{service}.yaml")), file.to_string()).unwrap();
        git(self.repository.path(), &["add", "."]);
        git(self.repository.path(), &["commit", "--quiet", "-m", "wanted"]);
    }

    async fn publish(&self, environment: &str, service: &str, colour: &str) -> u64 {
        let publish = PublishConfiguration {
            environment: environment.into(),
            service: service.into(),
            entries: [("COLOUR".to_owned(), colour.to_owned())].into(),
        };
        self.client.publish_configuration(&publish).await.unwrap().version
    }

    /// Runs a worker now instead of waiting for its time.
    async fn run(&self, kind: &str, environment: &str) {
        let run = RunWorker {
            kind: WorkerKind::new(kind).unwrap(),
            environment: Environment::new(environment).unwrap(),
            wait_ms: Some(60_000),
        };
        self.client.run_worker(&run).await.unwrap();
    }

    async fn service(&self, environment: &str, service: &str) -> Option<ServiceRow> {
        let list = ListServices { environment: Some(environment.into()) };
        let listed = self.client.services(&list).await.unwrap();
        listed.services.into_iter().find(|row| row.service == service)
    }

    /// Runs `kind` until the service answers `expected` at `path`, and nothing is under way.
    async fn until_it_says(&self, kind: &str, environment: &str, service: &str, path: &str, expected: &str) -> String {
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

    /// Somebody deploys another setting, past the repository.
    async fn change_by_hand(&self, environment: &str, key: &str) {
        let key = SagaKey::new(key).unwrap();
        let input = json!({
            "environment": environment, "service": "web", "artifact": self.artifact, "version": "1.0", "replicas": 2,
            "configuration": { "COLOUR": "pink" },
        });
        let definition = "runtime_deployment".into();
        let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
        self.client.start(&start).await.unwrap();
        let view = self.client.wait(&key, PATIENCE).await.unwrap();
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
    }

    async fn drift(&self, environment: &str) -> Vec<DriftRow> {
        let list = ListDrift { environment: Some(environment.into()), all: true };
        self.client.drift(&list).await.unwrap().findings
    }
}

async fn said(url: &str, path: &str) -> Option<String> {
    let answer = reqwest::get(format!("{url}{path}")).await.ok()?;
    if answer.status().is_success() { answer.text().await.ok() } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_is_held_to_what_is_written_down() {
    if !has_python() {
        println!("skipped: this machine has no python3");
        return;
    }
    let world = World::build().await;
    what_is_written_down_is_brought(&world).await;
    a_change_by_hand_is_put_right_in_dev(&world).await;
    in_production_it_waits_for_a_person(&world).await;
    let url = a_published_configuration_reaches_the_processes(&world).await;
    a_secret_is_rotated_under_traffic(&world, &url).await;
}

async fn what_is_written_down_is_brought(world: &World) {
    for environment in ["dev", "live"] {
        let version = world.publish(environment, "web", "red").await;
        world.write_down(environment, "web", Some(version));
        world.until_it_says("deployment", environment, "web", "/of/COLOUR", "red").await;
    }
}

async fn a_change_by_hand_is_put_right_in_dev(world: &World) {
    world.change_by_hand("dev", "by-hand-dev").await;
    world.until_it_says("drift", "dev", "web", "/of/COLOUR", "red").await;
    world.run("drift", "dev").await;
    let findings = world.drift("dev").await;
    assert_eq!(
        (findings.len(), findings[0].kind.as_str(), findings[0].state.as_str()),
        (1, "configuration", "resolved")
    );
}

async fn in_production_it_waits_for_a_person(world: &World) {
    world.change_by_hand("live", "by-hand-live").await;
    for _ in 0..3 {
        world.run("drift", "live").await;
    }
    let url = world.service("live", "web").await.unwrap().endpoint_url.unwrap();
    assert_eq!(said(&url, "/of/COLOUR").await.as_deref(), Some("pink"), "nobody approved it");
    let findings = world.drift("live").await;
    assert_eq!((findings.len(), findings[0].state.as_str()), (1, "open"), "F43: seen often, one finding");
    let of = OfFinding { environment: "live".into(), finding: findings[0].finding.clone() };
    world.client.approve_drift(&of).await.unwrap();
    world.until_it_says("drift", "live", "web", "/of/COLOUR", "red").await;
}

async fn a_published_configuration_reaches_the_processes(world: &World) -> String {
    let secret = |value: &str| PutSecret {
        environment: "dev".into(),
        secret: "db".into(),
        value: SecretValue(value.into()),
        id: None,
    };
    world.client.put_secret(&secret("first")).await.unwrap();
    let bind = BindSecret {
        environment: "dev".into(),
        secret: "db".into(),
        service: Some("api".into()),
        rotate_every_ms: None,
    };
    world.client.bind_secret(&bind).await.unwrap();
    // Its file names no configuration: that is the publisher's.
    world.write_down("dev", "api", None);
    let url = world.until_it_says("deployment", "dev", "api", "/of/DB", "first").await;
    let traffic = Traffic::begin(&url);
    world.publish("dev", "api", "green").await;
    world.publish("dev", "api", "blue").await;
    world.until_it_says("configuration", "dev", "api", "/of/COLOUR", "blue").await;
    let seen = traffic.end().await;
    assert!(seen.len() > 10 && seen.iter().all(Result::is_ok), "{:?}", seen.iter().find(|one| one.is_err()));
    world.run("drift", "dev").await;
    assert!(world.drift("dev").await.iter().all(|row| row.service != "api"), "H02: nobody takes it back");
    url
}

async fn a_secret_is_rotated_under_traffic(world: &World, url: &str) {
    let traffic = Traffic::begin(url);
    let id = Some("second".to_owned());
    let value = SecretValue("second".into());
    let put = PutSecret { environment: "dev".into(), secret: "db".into(), value, id };
    assert_eq!(world.client.put_secret(&put).await.unwrap()["current"], false);
    world.until_it_says("secrets", "dev", "api", "/of/DB", "second").await;
    world.run("secrets", "dev").await;
    let seen = traffic.end().await;
    assert!(seen.len() > 10 && seen.iter().all(Result::is_ok), "{:?}", seen.iter().find(|one| one.is_err()));
    let listed = world.client.secrets(&ListSecrets { environment: "dev".into() }).await.unwrap();
    let row = &listed.secrets[0];
    assert_eq!((row.version, row.bound["api"], row.rotation.as_deref()), (2, 2, None), "{row:?}");
    assert!(!format!("{listed:?}").contains("second"));
}
