//! The whole platform as one story: three nodes, a service under real HTTP traffic all the while,
//! and everything that befalls one: releases good and bad, load, accidents, hands, a rotation, and
//! the death of the node that keeps the processes (H01, H02, F33, F36, F38, F39, F45, F53).

use std::time::Duration;

use protocol::runtime::{ApplyScalingPolicy, BindSecret, ListSecrets, OfService};
use protocol::view::Status;
use protocol::{SagaKey, Value};
use rustix::process::{Pid, Signal, kill_process};
use scenarios::cluster::until;
use scenarios::platform::{
    DEV, LIVE, PATIENCE, Platform, canary, none_failed, only_its_share_failed, said, slow_canary,
};
use scenarios::service::{Traffic, has_python};
use serde_json::json;

const WEB: (&str, &str) = (DEV, "web");
/// Between the requests of one patient client: less than one replica is meant for.
const CALM: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_service_lives_through_everything() {
    if !has_python() {
        println!("skipped: this machine has no python3");
        return;
    }
    let mut platform = Platform::start(3).await.unwrap();
    let url = the_first_version_is_brought(&platform).await;
    let mut traffic = Traffic::paced(&url, CALM);
    a_canary_is_promoted(&platform, &mut traffic).await;
    a_broken_canary_goes_by_itself_and_stays_away(&platform, &mut traffic).await;
    replicas_follow_the_load_within_bounds(&platform, &url).await;
    a_killed_replica_comes_back(&platform, &url).await;
    a_setting_changed_by_hand_is_put_right_or_shown(&platform, &url).await;
    a_secret_is_rotated(&platform).await;
    none_failed(&traffic.look(), "since the broken canary");
    the_keeper_of_the_processes_dies(&mut platform, &url).await;
    traffic.end().await;
}

/// What the file says of a version: it is to be well at `/health`, and comes as a canary.
fn file(artifact: &str, version: &str, configuration: u64) -> Value {
    json!({
        "image": artifact, "version": version, "strategy": canary(),
        "configuration": { "configurationId": "web", "version": configuration },
        "probes": [{ "kind": "readiness", "probe": { "type": "http", "port": 80, "path": "/health" } }],
    })
}

async fn the_first_version_is_brought(platform: &Platform) -> String {
    platform.put_secret(DEV, "first").await.unwrap();
    let bind =
        BindSecret { environment: DEV.into(), secret: "db".into(), service: Some("web".into()), rotate_every_ms: None };
    platform.client.bind_secret(&bind).await.unwrap();
    let red = platform.publish(DEV, "web", "red").await.unwrap();
    platform.write_down(DEV, "web", file(&platform.release("v1", false), "v1", red)).unwrap();
    platform.until_it_says("deployment", WEB, "/", "v1").await
}

async fn a_canary_is_promoted(platform: &Platform, traffic: &mut Traffic) {
    platform.write_down(DEV, "web", file(&platform.release("v2", false), "v2", 1)).unwrap();
    platform.until_it_says("deployment", WEB, "/", "v2").await;
    let seen = traffic.look();
    none_failed(&seen, "while v2 came");
    let of = |version: &str| seen.iter().filter(|one| one.as_deref() == Ok(version)).count();
    assert!(of("v1") > 0 && of("v2") > 0, "both answered: {} and {}", of("v1"), of("v2"));
}

async fn a_broken_canary_goes_by_itself_and_stays_away(platform: &Platform, traffic: &mut Traffic) {
    let broken = platform.release("v3", true);
    platform.write_down(DEV, "web", file(&broken, "v3", 1)).unwrap();
    until(PATIENCE, "v3 was tried and is held", || async {
        platform.run("deployment", DEV).await;
        let row = platform.service(DEV, "web").await.unwrap();
        row.under_way.is_none() && !row.held.is_empty()
    })
    .await;
    only_its_share_failed(&traffic.look());
    // Git still asks for it.
    let image = |row: Option<protocol::runtime::ServiceRow>| row.and_then(|row| row.version);
    for _ in 0..3 {
        platform.run("drift", DEV).await;
        platform.run("deployment", DEV).await;
    }
    assert_eq!(image(platform.service(DEV, "web").await).as_deref(), Some("v2"));
    none_failed(&traffic.look(), "although git asks for v3");
    // Desired state moves on.
    platform.write_down(DEV, "web", file(&platform.release("v2", false), "v2", 1)).unwrap();
    platform.run("deployment", DEV).await;
}

async fn replicas_follow_the_load_within_bounds(platform: &Platform, url: &str) {
    let policy = json!({
        "policyId": "web", "serviceId": "web", "minReplicas": 2, "maxReplicas": 4,
        "targets": [{ "metric": "rps", "perReplica": 30.0 }],
        "cooldownMs": 1_000, "down": { "stabilizationMs": 5_000 },
    });
    let apply = ApplyScalingPolicy { environment: DEV.into(), service: "web".into(), policy };
    platform.client.apply_policy(&apply).await.unwrap();
    let crowd: Vec<_> = (0..8).map(|_| Traffic::begin(url)).collect();
    follow(platform, 4).await;
    for one in crowd {
        none_failed(&one.end().await, "while it grew");
    }
    follow(platform, 2).await;
    // What a policy owns is no drift.
    platform.run("drift", DEV).await;
    assert!(platform.drift(DEV).await.unwrap().iter().all(|row| row.kind != "replicas"), "H02");
    let of = OfService { environment: DEV.into(), service: "web".into() };
    platform.client.remove_policy(&of).await.unwrap();
}

async fn follow(platform: &Platform, expected: u32) {
    until(PATIENCE, "replicas follow", || async {
        platform.run("scaling", DEV).await;
        let row = platform.service(DEV, "web").await.unwrap();
        let (wanted, ready) = row.sets.iter().fold((0, 0), |sum, set| (sum.0 + set.wanted, sum.1 + set.ready));
        assert!((2..=4).contains(&wanted), "never out of bounds: {row:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        (wanted, ready) == (expected, expected)
    })
    .await;
}

async fn a_killed_replica_comes_back(platform: &Platform, url: &str) {
    let before = platform.processes(DEV, "web");
    let killed = *before.first().unwrap();
    kill_process(Pid::from_raw(killed).unwrap(), Signal::KILL).unwrap();
    until(PATIENCE, "another one answers", || async {
        let now = platform.processes(DEV, "web");
        now.len() == 2 && !now.contains(&killed) && said(url, "/").await.is_some()
    })
    .await;
    let row = platform.service(DEV, "web").await.unwrap();
    assert_eq!(row.version.as_deref(), Some("v2"));
}

async fn a_setting_changed_by_hand_is_put_right_or_shown(platform: &Platform, url: &str) {
    let artifact = platform.release("v2", false);
    platform.change_by_hand(DEV, "web", &artifact).await.unwrap();
    assert_eq!(said(url, "/of/COLOUR").await.as_deref(), Some("pink"));
    platform.until_it_says("drift", WEB, "/of/COLOUR", "red").await;
    // In production it is shown, and nothing is done.
    let red = platform.publish(LIVE, "web", "red").await.unwrap();
    platform.write_down(LIVE, "web", file(&artifact, "v2", red)).unwrap();
    let live = platform.until_it_says("deployment", (LIVE, "web"), "/of/COLOUR", "red").await;
    platform.change_by_hand(LIVE, "web", &artifact).await.unwrap();
    for _ in 0..2 {
        platform.run("drift", LIVE).await;
    }
    let findings = platform.drift(LIVE).await.unwrap();
    assert_eq!((findings.len(), findings[0].state.as_str()), (1, "open"), "{findings:?}");
    assert_eq!(said(&live, "/of/COLOUR").await.as_deref(), Some("pink"));
}

async fn a_secret_is_rotated(platform: &Platform) {
    platform.put_secret(DEV, "second").await.unwrap();
    platform.until_it_says("secrets", WEB, "/of/DB", "second").await;
    platform.run("secrets", DEV).await;
    let listed = platform.client.secrets(&ListSecrets { environment: DEV.into() }).await.unwrap();
    let row = &listed.secrets[0];
    assert_eq!((row.version, row.bound["web"], row.rotation.as_deref()), (2, 2, None), "{row:?}");
}

/// In the middle of a canary. Its gateway is gone for a moment; the end is the same.
async fn the_keeper_of_the_processes_dies(platform: &mut Platform, url: &str) {
    let input = json!({
        "environment": DEV, "service": "web", "artifact": platform.release("v4", false), "version": "v4",
        "strategy": slow_canary(), "probe": { "path": "/health", "timeoutMs": 8_000 },
    });
    let key: SagaKey = platform.begin("deploy-v4", input).await.unwrap();
    until(PATIENCE, "it is gated", || async {
        platform.client.describe(&key).await.is_ok_and(|view| view.state == "HealthGating")
    })
    .await;
    platform.restart_keeper().await.unwrap();
    let view = platform.end(&key).await.unwrap();
    assert_eq!((view.status, view.state.as_str()), (Status::Succeeded, "Completed"), "{view:#?}");
    until(PATIENCE, "v4 answers", || async { said(url, "/").await.as_deref() == Some("v4") }).await;
    let row = platform.service(DEV, "web").await.unwrap();
    let weights: Vec<u32> = row.sets.iter().map(|set| set.weight).collect();
    assert_eq!((weights, row.under_way), (vec![100], None));
    assert_eq!(said(url, "/of/DB").await.as_deref(), Some("second"), "with the secret that counts");
}
