//! Deployments with real processes and real traffic: a first revision, a canary that passes, one
//! that does not and stays away, and a node that dies on the way (R036-R059, F33, F36, F38, F56).

use std::time::Duration;

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use node::client::{Client, Since};
use protocol::command::Start;
use protocol::runtime::{CreateEnvironment, ListServices};
use protocol::view::{SagaView, Status};
use protocol::{Envelope, SagaKey, Value};
use scenarios::cluster::{TestCluster, until};
use scenarios::service::{Left, Seen, Traffic, has_python, server};
use serde_json::json;

/// Long enough for a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(180);

struct World {
    cluster: TestCluster,
    client: Client,
    artifacts: DirectoryArtifacts,
    _left: Left,
}

impl World {
    async fn build() -> Self {
        let definitions: Vec<&str> = actors::definitions().iter().map(|(_, source)| *source).collect();
        let adjust = |config: &mut node::config::Config| {
            config.runtime.dir = config.data_dir.parent().map(|dir| dir.join("runtime"));
            (config.runtime.drain_ms, config.runtime.stop_ms) = (1_000, 500);
        };
        // Only the deployment; the installation's activities are not offered here.
        let cluster = TestCluster::start_with(1, |_| Vec::new(), &definitions[1..], adjust, |_| {}).await.unwrap();
        let client = cluster.client().await.unwrap();
        let dir = cluster.dir.path().canonicalize().unwrap();
        let artifacts = DirectoryArtifacts::open(dir.join("runtime/published")).unwrap();
        client.create_environment(&environment("dev")).await.unwrap();
        Self { cluster, client, artifacts, _left: Left(dir) }
    }

    fn publish(&self, version: &str, broken: bool) -> String {
        format!("sha256:{}", self.artifacts.add(server(version, broken).as_bytes()).unwrap())
    }

    async fn begin(&self, key: &str, input: Value) -> SagaKey {
        let key = SagaKey::new(key).unwrap();
        let definition = "runtime_deployment".into();
        let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
        self.client.start(&start).await.unwrap();
        key
    }

    async fn deploy(&self, version: &str, artifact: &str, change: impl FnOnce(&mut Value)) -> SagaView {
        let key = self.begin(&format!("deploy-{version}"), input(version, artifact, change)).await;
        self.end(&key).await
    }

    /// How it ended; what it waits for, where it does not.
    async fn end(&self, key: &SagaKey) -> SagaView {
        let view = self.client.wait(key, PATIENCE).await.unwrap();
        if !view.status.is_final() {
            panic!("{key} goes on: {:#?}", self.client.services(&ListServices::default()).await);
        }
        view
    }

    /// The types of the events of one saga, in order, up to the first of type `last`.
    async fn events(&self, key: &str, last: &str) -> Vec<Envelope> {
        let mut tail = self.client.events(Since::Beginning, None).await.unwrap();
        let mut events: Vec<Envelope> = Vec::new();
        while events.last().is_none_or(|event| event.event_type != last) {
            let next = tokio::time::timeout(PATIENCE, tail.next()).await.expect("the event comes").unwrap().unwrap();
            if next.correlation_id == format!("acme/{key}") && !events.iter().any(|one| one.event_id == next.event_id) {
                events.push(next);
            }
        }
        events
    }
}

fn environment(name: &str) -> CreateEnvironment {
    CreateEnvironment { environment: name.into(), stage: None, region: None }
}

fn input(version: &str, artifact: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut input = json!({
        "environment": "dev", "service": "web", "artifact": artifact, "version": version, "replicas": 2,
        "probe": { "path": "/health", "timeoutMs": 8_000 }, "projectId": "shop",
    });
    change(&mut input);
    input
}

/// A tenth, then half of the traffic, each watched until a second of it says something.
fn canary(input: &mut Value) {
    let analysis = json!({ "type": "analysis", "analysis": {
        "intervalMs": 1_000, "requestsMin": 1, "count": 100, "consecutiveSuccessLimit": 1, "inconclusiveLimit": 99,
        "success": [{ "figure": "failurePercent", "is": "atMost", "bound": 1.0 }],
    }});
    input["strategy"] = json!({ "name": "Canary", "scaleDownDelayMs": 500, "steps": [
        { "type": "weight", "percent": 10 }, analysis, { "type": "weight", "percent": 50 }, analysis,
    ]});
}

fn ended(view: &SagaView) -> (Status, &str) {
    (view.status, view.state.as_str())
}

fn types(events: &[Envelope]) -> Vec<&str> {
    events.iter().map(|event| event.event_type.as_str()).filter(|name| !name.starts_with("RuntimeAction")).collect()
}

/// One story after the other on one world, as a service lives.
#[tokio::test(flavor = "multi_thread")]
async fn revisions_come_and_go_under_traffic() {
    if !has_python() {
        println!("skipped: this machine has no python3");
        return;
    }
    let mut world = World::build().await;
    let url = a_first_revision_is_reachable_once_it_is_well(&world).await;
    a_canary_takes_over_without_a_failed_request(&world, &url).await;
    a_broken_canary_is_taken_back_and_stays_away(&world, &url).await;
    a_stranger_is_refused_on_record(&world).await;
    a_node_that_dies_on_the_way_changes_nothing(&mut world, &url).await;
    the_last_good_revision_comes_back(&world, &url).await;
}

async fn a_first_revision_is_reachable_once_it_is_well(world: &World) -> String {
    let view = world.deploy("v1", &world.publish("v1", false), |_| {}).await;
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    let output = view.outcome.unwrap().output.unwrap();
    let url = output["endpointUrl"].as_str().unwrap().to_owned();
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v1");
    let events = world.events("deploy-v1", "RuntimeDeploymentCompleted").await;
    let expected = [
        "RuntimeDeploymentRequested",
        "RuntimeEnvironmentProvisioned",
        "RuntimeConfigurationBound",
        "RuntimeWorkloadsStarted",
        "HealthCheckCompleted",
        "RuntimeTrafficShifted",
        "RuntimeInventoryUpdated",
        "RuntimeDeploymentCompleted",
    ];
    assert_eq!(types(&events), expected);
    let told = events.iter().filter(|event| !event.event_type.starts_with("RuntimeAction"));
    assert!(told.clone().all(|event| event.project_id.as_deref() == Some("shop") && event.trace_id == view.trace_id));
    let services = world.client.services(&ListServices::default()).await.unwrap();
    let web = &services.services[0];
    assert_eq!((web.version.as_deref(), web.sets[0].ready, web.sets[0].weight), (Some("v1"), 2, 100), "{services:#?}");
    assert_eq!(web.endpoint_url.as_deref(), Some(url.as_str()));
    url
}

async fn a_canary_takes_over_without_a_failed_request(world: &World, url: &str) {
    let traffic = Traffic::begin(url);
    let view = world.deploy("v2", &world.publish("v2", false), canary).await;
    let seen = traffic.end().await;
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    let failed: Vec<&Seen> = seen.iter().filter(|one| one.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {:?}", failed.len(), seen.len(), &failed[..1]);
    let of = |version: &str| seen.iter().filter(|one| one.as_deref() == Ok(version)).count();
    assert!(of("v1") > 0 && of("v2") > 0, "both were asked");
    assert_eq!(seen.last().unwrap().as_deref(), Ok("v2"));
}

async fn a_broken_canary_is_taken_back_and_stays_away(world: &World, url: &str) {
    let broken = world.publish("v3", true);
    let traffic = Traffic::begin(url);
    let view = world.deploy("v3", &broken, canary).await;
    let seen = traffic.end().await;
    assert_eq!(ended(&view), (Status::Failed, "RolledBack"), "{view:#?}");
    // F33: from the first request that it got to the last, it got no more than its tenth.
    let bad: Vec<usize> = (0..seen.len()).filter(|n| seen[*n].is_err()).collect();
    assert!(!bad.is_empty(), "somebody has to see that it is broken");
    let (first, last) = (bad[0], bad[bad.len() - 1]);
    let within = last - first + 1;
    assert!(bad.len() <= within / 10 + 1, "{} of {within} requests failed", bad.len());
    assert_eq!(seen.last().unwrap().as_deref(), Ok("v2"), "all traffic went back");
    let events = world.events("deploy-v3", "RuntimeDeploymentRolledBack").await;
    let told = types(&events);
    assert!(told.contains(&"RuntimeReleaseHeld") && told.contains(&"HealthCheckCompleted"), "{told:?}");
    let gate = events.iter().find(|event| event.event_type == "HealthCheckCompleted").unwrap();
    assert_eq!(gate.payload["status"], "Unhealthy", "{gate:?}");
    // F36: whoever reads desired state does not bring it again.
    let view = world.deploy("v3-again", &broken, |input| input["source"] = json!("sync")).await;
    assert_eq!(ended(&view), (Status::Failed, "Failed"), "{view:#?}");
    let outcome = view.outcome.unwrap();
    assert_eq!(outcome.error.as_deref(), Some("Held"), "{outcome:?}");
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v2");
}

async fn a_stranger_is_refused_on_record(world: &World) {
    let stranger = world.cluster.client_as("other", "eve").await.unwrap();
    let key = SagaKey::new("intrusion").unwrap();
    let input = input("v9", &world.publish("v9", false), |_| {});
    let definition = "runtime_deployment".into();
    let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
    stranger.start(&start).await.unwrap();
    let view = stranger.wait(&key, PATIENCE).await.unwrap();
    assert_eq!(ended(&view), (Status::Failed, "Failed"), "{view:#?}");
    assert_eq!(view.outcome.unwrap().error.as_deref(), Some("TenantRefused"));
    let mut tail = stranger.events(Since::Beginning, Some("RuntimeAccessRefused")).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, tail.next()).await.expect("it is audited").unwrap().unwrap();
    assert_eq!((told.tenant_id.as_str(), &told.payload["environmentId"]), ("other", &json!("dev")));
    assert!(stranger.services(&ListServices::default()).await.unwrap().services.is_empty());
}

async fn a_node_that_dies_on_the_way_changes_nothing(world: &mut World, url: &str) {
    let good = world.publish("v4", false);
    let slowly = |input: &mut Value| {
        input["strategy"] = json!({ "name": "Canary", "scaleDownDelayMs": 200, "steps": [
            { "type": "weight", "percent": 20 }, { "type": "pause", "durationMs": 3_000 },
        ]});
    };
    let key = world.begin("deploy-v4", input("v4", &good, slowly)).await;
    let (client, gating) = (world.client.clone(), key.clone());
    until(PATIENCE, "it is gated", || async { client.describe(&gating).await.unwrap().state == "HealthGating" }).await;
    world.cluster.nodes.remove(0).kill();
    let again = world.cluster.node(0).await.unwrap();
    world.cluster.nodes.push(again);
    let view = world.end(&key).await;
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v4");
    let services = world.client.services(&ListServices::default()).await.unwrap();
    let sets: Vec<u32> = services.services[0].sets.iter().map(|set| set.weight).collect();
    assert_eq!(sets, [100], "{services:#?}");
}

async fn the_last_good_revision_comes_back(world: &World, url: &str) {
    let back = json!({ "environment": "dev", "service": "web", "kind": "restore", "why": "it is slow" });
    let key = world.begin("rollback", back).await;
    let view = world.end(&key).await;
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v2");
}
