//! Control loops on a real cluster with real processes: what is killed or hangs comes back, and
//! replicas follow the load that the workload itself reports (W016-W029, W050-W056).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use node::client::{EventTail, Since};
use protocol::Envelope;
use protocol::runtime::{ApplyScalingPolicy, ListServices, SteerService};
use rustix::process::{Pid, Signal, kill_process};
use scenarios::cluster::until;
use scenarios::platform::{DEV, Platform};
use scenarios::service::has_python;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);

/// A server of which one at a time reports the queue, whose length stands in a file that the service
/// keeps: whoever has the lock, until it ends.
const SERVER: &str = r#"#!/usr/bin/env python3
import fcntl, http.server, os
QUEUE = os.environ["SKALD_STATE"] + "/queue"
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
        body = "well"
        if self.path == "/metrics":
            waits = open(QUEUE).read().strip() if os.path.exists(QUEUE) else 2
            body = "queue_depth %s\n" % (waits if reports() else 0)
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
    platform: Platform,
    queue: PathBuf,
}

impl World {
    async fn build() -> Option<Self> {
        if !has_python() {
            println!("skipped: this machine has no python3");
            return None;
        }
        // Three nodes: one keeps the processes, and the workers are wherever their shards are.
        let platform = Platform::start(3).await.unwrap();
        let queue = platform.state(DEV, "web").join("queue");
        let input = json!({
            "environment": DEV, "service": "web", "version": "v1", "replicas": 2, "artifact": platform.add(SERVER),
            "probe": { "path": "/health" },
        });
        platform.deployed("deploy-v1", input).await.unwrap();
        Some(Self { platform, queue })
    }

    fn pids(&self) -> BTreeSet<i32> {
        self.platform.processes(DEV, "web")
    }

    async fn wanted(&self) -> u32 {
        let services = self.platform.client.services(&ListServices::default()).await.unwrap();
        services.services[0].sets.iter().map(|set| set.wanted).sum()
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_killed_or_hangs_comes_back() {
    let Some(world) = World::build().await else { return };
    a_killed_replica_comes_back(&world).await;
    a_replica_that_hangs_is_seen_and_started_anew(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_what_is_asked_of_them() {
    let Some(world) = World::build().await else { return };
    replicas_follow_the_load(&world).await;
    what_waits_for_events_sleeps_until_it_is_called(&world).await;
}

async fn a_killed_replica_comes_back(world: &World) {
    let before = world.pids();
    assert_eq!(before.len(), 2, "{before:?}");
    let killed = *before.first().unwrap();
    kill_process(Pid::from_raw(killed).unwrap(), Signal::KILL).unwrap();
    until(PATIENCE, "another one answers", || async {
        let now = world.pids();
        now.len() == 2 && !now.contains(&killed)
    })
    .await;
}

/// Its process is there, and only the probes tell that it does not live.
async fn a_replica_that_hangs_is_seen_and_started_anew(world: &World) {
    let mut tail = world.platform.client.events(Since::Now, Some("HealthCheckCompleted")).await.unwrap();
    let stopped = *world.pids().last().unwrap();
    kill_process(Pid::from_raw(stopped).unwrap(), Signal::STOP).unwrap();
    let degraded = health(&mut tail, "Degraded").await;
    assert_eq!((&degraded.payload["serviceId"], &degraded.payload["environmentId"]), (&json!("web"), &json!("dev")));
    let well = health(&mut tail, "Healthy").await;
    assert_eq!(well.payload["ready"], 2, "{well:?}");
    let now = world.pids();
    assert!(now.len() == 2 && !now.contains(&stopped), "{now:?} without {stopped}");
}

/// F45, H02: up with the load, and down again after it.
async fn replicas_follow_the_load(world: &World) {
    let policy = json!({
        "minReplicas": 1, "maxReplicas": 4, "cooldownMs": 0, "down": { "stabilizationMs": 0 },
        "targets": [{ "metric": "queue", "perReplica": 1.0 }],
    });
    let apply = ApplyScalingPolicy { environment: DEV.into(), service: "web".into(), policy };
    world.platform.client.apply_policy(&apply).await.unwrap();
    let mut tail = world.platform.client.events(Since::Now, Some("ScalingPolicyApplied")).await.unwrap();
    for (load, replicas) in [("9", 4), ("1", 1)] {
        std::fs::write(&world.queue, load).unwrap();
        until(PATIENCE, "replicas follow", || async {
            world.platform.run("scaling", DEV).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.wanted().await == replicas && world.pids().len() == replicas as usize
        })
        .await;
        let applied = tokio::time::timeout(PATIENCE, tail.next()).await.expect("it is said").unwrap().unwrap();
        assert_eq!((&applied.payload["rule"], &applied.payload["to"]), (&json!("target"), &json!(replicas)));
        assert_eq!(applied.payload["inputs"]["readings"][0]["metric"], "queue", "F48");
    }
}

/// R087, D307: nothing runs until a request comes, and nobody else wakes it.
async fn what_waits_for_events_sleeps_until_it_is_called(world: &World) {
    let input = json!({
        "environment": DEV, "service": "idle", "version": "v1", "replicas": 1, "target": "eventDriven",
        "artifact": world.platform.release("v1", false),
    });
    let url = world.platform.deployed("deploy-idle", input).await.unwrap();
    let sleepy = |service: &str| ApplyScalingPolicy {
        environment: DEV.into(),
        service: service.into(),
        policy: json!({
            "minReplicas": 1, "maxReplicas": 2, "scaleToZero": true, "zeroAfterMs": 1_000, "cooldownMs": 0,
            "targets": [{ "metric": "rps", "perReplica": 1_000.0 }], "down": { "stabilizationMs": 0 },
        }),
    };
    assert!(world.platform.client.apply_policy(&sleepy("web")).await.is_err(), "its requests find it at once");
    world.platform.client.apply_policy(&sleepy("idle")).await.unwrap();
    let wanted = async || {
        let services = world.platform.client.services(&ListServices::default()).await.unwrap();
        let idle = services.services.into_iter().find(|row| row.service == "idle").unwrap();
        idle.sets.iter().map(|set| set.wanted).sum::<u32>()
    };
    let end = tokio::time::Instant::now() + PATIENCE;
    while wanted().await > 0 {
        assert!(tokio::time::Instant::now() < end, "it does not sleep");
        world.platform.run("scaling", DEV).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let answer = reqwest::Client::new().get(format!("{url}/")).timeout(PATIENCE).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    assert_eq!(wanted().await, 1);
    let why = Some("nobody uses it".to_owned());
    let steer = SteerService { environment: DEV.into(), service: "idle".into(), why };
    // What woke it is under way until its replica is seen; a drain is told so, and comes again.
    until(PATIENCE, "it is let be drained", || async { world.platform.client.drain_service(&steer).await.is_ok() })
        .await;
    until(PATIENCE, "it is gone", || async { wanted().await == 0 }).await;
}
