//! Control loops on a real cluster with real processes: what is killed or hangs comes back, and
//! replicas follow the load that the workload itself reports (W016-W029, W050-W056).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::model::scaling::{Metric, Target};
use actors::runtime::model::{EnvironmentId, PolicyId, ReplicaRange, ScalingPolicy, ServiceId, TargetKind};
use actors::runtime::place::Place;
use actors::runtime::policies::Policies;
use node::client::{Client, EventTail, Since};
use node::nats::{ConnectConfig, KvRuntime, Replicas, connect};
use protocol::command::{RunWorker, Start};
use protocol::runtime::{ApplyScalingPolicy, CreateEnvironment, ListServices, SteerService};
use protocol::view::Status;
use protocol::{Envelope, Environment, SagaKey, Tenant, WorkerKind};
use rustix::process::{Pid, Signal, kill_process};
use scenarios::cluster::{TestCluster, until};
use scenarios::service::{Left, has_python, server};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);

/// A server that says which process it is. One of them at a time reports the queue, whose length
/// stands in a file: whoever has the lock, until it ends.
const SERVER: &str = r#"#!/usr/bin/env python3
import fcntl, http.server, os
QUEUE = os.environ["QUEUE"]
LOCK = open(QUEUE + ".reporter", "w")
def reports():
    try:
        fcntl.flock(LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = str(os.getpid())
        if self.path == "/metrics":
            body = "queue_depth %s\n" % (open(QUEUE).read().strip() if reports() else 0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

struct World {
    cluster: TestCluster,
    client: Client,
    queue: PathBuf,
    /// A service that counts its requests.
    idle: String,
    url: String,
    _left: Left,
}

impl World {
    async fn build() -> Self {
        let definitions: Vec<&str> = actors::definitions().iter().map(|(_, source)| *source).collect();
        let adjust = |config: &mut node::config::Config| {
            config.runtime.dir = config.data_dir.parent().map(|dir| dir.join("runtime"));
            (config.runtime.drain_ms, config.runtime.stop_ms) = (1_000, 500);
        };
        // Three nodes: one keeps the processes, and the workers are wherever their shards are.
        let cluster = TestCluster::start_with(3, |_| Vec::new(), &definitions[1..], adjust, |_| {}).await.unwrap();
        let client = cluster.client().await.unwrap();
        let dir = cluster.dir.path().canonicalize().unwrap();
        let artifacts = DirectoryArtifacts::open(dir.join("runtime/published")).unwrap();
        let create = CreateEnvironment { environment: "dev".into(), stage: None, region: None };
        client.create_environment(&create).await.unwrap();
        let queue = dir.join("queue");
        std::fs::write(&queue, "2").unwrap();
        let key = SagaKey::new("deploy-v1").unwrap();
        let publish = |program: &str| format!("sha256:{}", artifacts.add(program.as_bytes()).unwrap());
        let idle = publish(&server("v1", false));
        let input = json!({
            "environment": "dev", "service": "web", "version": "v1", "replicas": 2, "artifact": publish(SERVER),
            "probe": { "path": "/health" }, "configuration": { "QUEUE": queue },
        });
        let definition = "runtime_deployment".into();
        let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
        client.start(&start).await.unwrap();
        let view = client.wait(&key, PATIENCE).await.unwrap();
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        let url = view.outcome.unwrap().output.unwrap()["endpointUrl"].as_str().unwrap().to_owned();
        Self { cluster, client, queue, idle, url, _left: Left(dir) }
    }

    /// The processes that answer: asked often enough that each had its turn.
    async fn pids(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        let client = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
        for _ in 0..20 {
            if let Ok(answer) = client.get(format!("{}/", self.url)).send().await {
                pids.extend(answer.text().await.ok().and_then(|text| text.parse::<i32>().ok()));
            }
        }
        pids
    }

    async fn wanted(&self) -> u32 {
        let services = self.client.services(&ListServices::default()).await.unwrap();
        services.services[0].sets.iter().map(|set| set.wanted).sum()
    }

    async fn run(&self, kind: &str) {
        let run = RunWorker {
            kind: WorkerKind::new(kind).unwrap(),
            environment: Environment::new("dev").unwrap(),
            wait_ms: None,
        };
        // A new environment is seen within seconds.
        until(PATIENCE, "somebody looks after it", || async { self.client.run_worker(&run).await.is_ok() }).await;
    }
}

/// The next event of one service's health with that status.
async fn health(tail: &mut EventTail, status: &str) -> Envelope {
    loop {
        let next = tokio::time::timeout(PATIENCE, tail.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{status} is never said")).unwrap().unwrap();
        if next.payload["status"] == status {
            return next;
        }
    }
}

/// One story after the other on one world.
#[tokio::test(flavor = "multi_thread")]
async fn services_are_looked_after() {
    if !has_python() {
        println!("skipped: this machine has no python3");
        return;
    }
    let world = World::build().await;
    a_killed_replica_comes_back(&world).await;
    a_replica_that_hangs_is_seen_and_started_anew(&world).await;
    replicas_follow_the_load(&world).await;
    what_waits_for_events_sleeps_until_it_is_called(&world).await;
    drop(world.cluster);
}

async fn a_killed_replica_comes_back(world: &World) {
    let before = world.pids().await;
    assert_eq!(before.len(), 2, "{before:?}");
    let killed = *before.first().unwrap();
    kill_process(Pid::from_raw(killed).unwrap(), Signal::KILL).unwrap();
    until(PATIENCE, "another one answers", || async {
        let now = world.pids().await;
        now.len() == 2 && !now.contains(&killed)
    })
    .await;
}

/// Its process is there, and only the probes tell that it does not live.
async fn a_replica_that_hangs_is_seen_and_started_anew(world: &World) {
    let mut tail = world.client.events(Since::Now, Some("HealthCheckCompleted")).await.unwrap();
    let stopped = *world.pids().await.last().unwrap();
    kill_process(Pid::from_raw(stopped).unwrap(), Signal::STOP).unwrap();
    let degraded = health(&mut tail, "Degraded").await;
    assert_eq!((&degraded.payload["serviceId"], &degraded.payload["environmentId"]), (&json!("web"), &json!("dev")));
    let well = health(&mut tail, "Healthy").await;
    assert_eq!(well.payload["ready"], 2, "{well:?}");
    let now = world.pids().await;
    assert!(now.len() == 2 && !now.contains(&stopped), "{now:?} without {stopped}");
}

/// F45, H02: up with the load, and down again after it.
async fn replicas_follow_the_load(world: &World) {
    let bus = connect(ConnectConfig::new([world.cluster.server.url()])).await.unwrap();
    let store = Arc::new(KvRuntime::open(&bus, Replicas::One).await.unwrap());
    let place = Place {
        owner: Tenant::new("acme").unwrap(),
        environment: EnvironmentId::new("dev").unwrap(),
        service: ServiceId::new("web").unwrap(),
    };
    let target = Target { metric: Metric::Queue, per_replica: 1.0, activation: 0.0 };
    let range = ReplicaRange { min: 1, max: 4 };
    let mut policy = ScalingPolicy::new(PolicyId::new("p").unwrap(), place.service.clone(), range, vec![target]);
    (policy.cooldown, policy.down.stabilization) = (Duration::ZERO, Duration::ZERO);
    let policies = Policies::new(store);
    assert!(policies.apply(&place, &policy, TargetKind::Continuous).await.unwrap());
    let mut tail = world.client.events(Since::Now, Some("ScalingPolicyApplied")).await.unwrap();
    for (load, replicas) in [("9", 4), ("1", 1)] {
        std::fs::write(&world.queue, load).unwrap();
        until(PATIENCE, "replicas follow", || async {
            world.run("scaling").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.wanted().await == replicas && world.pids().await.len() == replicas as usize
        })
        .await;
        let applied = tokio::time::timeout(PATIENCE, tail.next()).await.expect("it is said").unwrap().unwrap();
        assert_eq!((&applied.payload["rule"], &applied.payload["to"]), (&json!("target"), &json!(replicas)));
        assert_eq!(applied.payload["inputs"]["readings"][0]["metric"], "queue", "F48");
    }
}

/// R087, D307: nothing runs until a request comes, and nobody else wakes it.
async fn what_waits_for_events_sleeps_until_it_is_called(world: &World) {
    let key = SagaKey::new("deploy-idle").unwrap();
    let input = json!({
        "environment": "dev", "service": "idle", "version": "v1", "replicas": 1, "target": "eventDriven",
        "artifact": world.idle,
    });
    let definition = "runtime_deployment".into();
    let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
    world.client.start(&start).await.unwrap();
    let view = world.client.wait(&key, PATIENCE).await.unwrap();
    let url = view.outcome.unwrap().output.unwrap()["endpointUrl"].as_str().unwrap().to_owned();
    let sleepy = |service: &str| ApplyScalingPolicy {
        environment: "dev".into(),
        service: service.into(),
        policy: json!({
            "minReplicas": 1, "maxReplicas": 2, "scaleToZero": true, "zeroAfterMs": 1_000, "cooldownMs": 0,
            "targets": [{ "metric": "rps", "perReplica": 1_000.0 }], "down": { "stabilizationMs": 0 },
        }),
    };
    assert!(world.client.apply_policy(&sleepy("web")).await.is_err(), "its requests find it at once");
    world.client.apply_policy(&sleepy("idle")).await.unwrap();
    let wanted = async || {
        let services = world.client.services(&ListServices::default()).await.unwrap();
        let idle = services.services.into_iter().find(|row| row.service == "idle").unwrap();
        idle.sets.iter().map(|set| set.wanted).sum::<u32>()
    };
    let end = tokio::time::Instant::now() + PATIENCE;
    while wanted().await > 0 {
        assert!(tokio::time::Instant::now() < end, "it does not sleep");
        world.run("scaling").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let answer = reqwest::Client::new().get(format!("{url}/")).timeout(PATIENCE).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    assert_eq!(wanted().await, 1);
    let why = Some("nobody uses it".to_owned());
    let steer = SteerService { environment: "dev".into(), service: "idle".into(), why };
    world.client.drain_service(&steer).await.unwrap();
    until(PATIENCE, "it is gone", || async { wanted().await == 0 }).await;
}
