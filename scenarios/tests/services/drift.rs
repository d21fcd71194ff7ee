//! What is written down in a repository is brought, what somebody changes by hand is put right or
//! shown, a configuration reaches what runs, and a secret is rotated under traffic: with real
//! processes, a real repository and the real workers (R060-R076, W030-W049, H01, H02, F43, F51-F53).

use protocol::runtime::{BindSecret, DriftRow, ListSecrets, OfFinding};
use scenarios::platform::{DEV, LIVE, Platform, said};
use scenarios::service::{Traffic, has_python};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_world_is_held_to_what_is_written_down() {
    if !has_python() {
        println!("skipped: this machine has no python3");
        return;
    }
    let platform = Platform::start(1).await.unwrap();
    let artifact = platform.release("v1", false);
    what_is_written_down_is_brought(&platform, &artifact).await;
    a_change_by_hand_is_put_right_in_dev(&platform, &artifact).await;
    in_production_it_waits_for_a_person(&platform, &artifact).await;
    let url = a_published_configuration_reaches_the_processes(&platform, &artifact).await;
    a_secret_is_rotated_under_traffic(&platform, &url).await;
}

/// A service at version 1.0; with a number, under that version of its configuration.
fn file(artifact: &str, service: &str, configuration: Option<u64>) -> Value {
    let mut file = json!({ "image": artifact, "version": "1.0" });
    if let Some(version) = configuration {
        file["configuration"] = json!({ "configurationId": service, "version": version });
    }
    file
}

async fn what_is_written_down_is_brought(platform: &Platform, artifact: &str) {
    for environment in [DEV, LIVE] {
        let version = platform.publish(environment, "web", "red").await.unwrap();
        platform.write_down(environment, "web", file(artifact, "web", Some(version))).unwrap();
        platform.until_it_says("deployment", (environment, "web"), "/of/COLOUR", "red").await;
    }
}

async fn a_change_by_hand_is_put_right_in_dev(platform: &Platform, artifact: &str) {
    platform.change_by_hand(DEV, "web", artifact).await.unwrap();
    platform.until_it_says("drift", (DEV, "web"), "/of/COLOUR", "red").await;
    platform.run("drift", DEV).await;
    let findings = changed(platform, DEV).await;
    assert_eq!((findings.len(), findings[0].state.as_str()), (1, "resolved"), "{findings:#?}");
}

/// What was found of configurations. That a service was missing before it was brought may have been found too.
async fn changed(platform: &Platform, environment: &str) -> Vec<DriftRow> {
    let mut findings = platform.drift(environment).await.unwrap();
    findings.retain(|finding| finding.kind == "configuration");
    findings
}

async fn in_production_it_waits_for_a_person(platform: &Platform, artifact: &str) {
    platform.change_by_hand(LIVE, "web", artifact).await.unwrap();
    for _ in 0..3 {
        platform.run("drift", LIVE).await;
    }
    let url = platform.service(LIVE, "web").await.unwrap().endpoint_url.unwrap();
    assert_eq!(said(&url, "/of/COLOUR").await.as_deref(), Some("pink"), "nobody approved it");
    let findings = changed(platform, LIVE).await;
    assert_eq!((findings.len(), findings[0].state.as_str()), (1, "open"), "F43: seen often, one finding: {findings:?}");
    let of = OfFinding { environment: LIVE.into(), finding: findings[0].finding.clone() };
    platform.client.approve_drift(&of).await.unwrap();
    platform.until_it_says("drift", (LIVE, "web"), "/of/COLOUR", "red").await;
}

async fn a_published_configuration_reaches_the_processes(platform: &Platform, artifact: &str) -> String {
    platform.put_secret(DEV, "first").await.unwrap();
    let bind =
        BindSecret { environment: DEV.into(), secret: "db".into(), service: Some("api".into()), rotate_every_ms: None };
    platform.client.bind_secret(&bind).await.unwrap();
    // Its file names no configuration: that is the publisher's.
    platform.write_down(DEV, "api", file(artifact, "api", None)).unwrap();
    let url = platform.until_it_says("deployment", (DEV, "api"), "/of/DB", "first").await;
    let traffic = Traffic::begin(&url);
    platform.publish(DEV, "api", "green").await.unwrap();
    platform.publish(DEV, "api", "blue").await.unwrap();
    platform.until_it_says("configuration", (DEV, "api"), "/of/COLOUR", "blue").await;
    let seen = traffic.end().await;
    assert!(seen.len() > 10 && seen.iter().all(Result::is_ok), "{:?}", seen.iter().find(|one| one.is_err()));
    platform.run("drift", DEV).await;
    assert!(platform.drift(DEV).await.unwrap().iter().all(|row| row.service != "api"), "H02: nobody takes it back");
    url
}

async fn a_secret_is_rotated_under_traffic(platform: &Platform, url: &str) {
    let traffic = Traffic::begin(url);
    assert_eq!(platform.put_secret(DEV, "second").await.unwrap()["current"], false);
    platform.until_it_says("secrets", (DEV, "api"), "/of/DB", "second").await;
    platform.run("secrets", DEV).await;
    let seen = traffic.end().await;
    assert!(seen.len() > 10 && seen.iter().all(Result::is_ok), "{:?}", seen.iter().find(|one| one.is_err()));
    let listed = platform.client.secrets(&ListSecrets { environment: DEV.into() }).await.unwrap();
    let row = &listed.secrets[0];
    assert_eq!((row.version, row.bound["api"], row.rotation.as_deref()), (2, 2, None), "{row:?}");
    assert!(!format!("{listed:?}").contains("second"));
}
