//! The server's disk fills up while sagas run, and there is room again. Needs to be root, to mount a small
//! file system.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use node::client::{Client, Settings};
use node::node::{Node, Parts};
use node::server::{Finder, Server, ServerConfig};
use protocol::command::{Deploy, Start};
use protocol::query::{Body, HealthView, Query};
use protocol::view::Status;
use protocol::{Principal, SagaKey, Tenant};
use scenarios::activities;
use scenarios::cluster::{config, until};
use scenarios::ledger::Ledger;
use serde_json::json;

use super::up::{skald, stop};

const STORY: &str = r#"
name: large
definition:
  StartAt: One
  States:
    One: { Type: Task, Resource: activity:ledger.write, Arguments: { step: one }, Compensate: none, Next: Two }
    Two: { Type: Task, Resource: activity:ledger.write, Arguments: { step: two }, Compensate: none, End: true }
"#;
const SHORT: &str = "name: short\ndefinition: { StartAt: Only, States: { Only: { Type: Pass, End: true } } }\n";
/// Room for the server's streams and some two hundred of the sagas.
const SMALL: &str = "size=64m";
const LARGE: &str = "size=512m";
const PATIENCE: Duration = Duration::from_secs(60);

/// A small file system, unmounted when dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn new(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SMALL, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    fn grow(&self) {
        let options = format!("remount,{LARGE}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.0).status().unwrap().success());
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Lazily: the server may still hold a file while it dies.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

async fn health(client: &Client) -> Option<HealthView> {
    let answers = client.query(&Query::Health).await.unwrap_or_default();
    answers.into_iter().find_map(|answer| match answer.body {
        Body::Health(health) => Some(*health),
        Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => None,
    })
}

async fn names_it(client: &Client) -> bool {
    let named = |health: &HealthView| health.troubles.iter().any(|trouble| trouble.contains("no space left"));
    health(client).await.is_some_and(|health| !health.ready && named(&health))
}

async fn is_well(client: &Client, shards: usize) -> bool {
    health(client).await.is_some_and(|health| health.ready && health.shards.len() == shards)
}

/// Whoever runs `skald up` has nothing to do but to make room.
#[tokio::test(flavor = "multi_thread")]
async fn up_starts_a_server_again_that_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let Some(mount) = Mount::new(&store) else {
        eprintln!("skipped: a small file system cannot be mounted here (not root?)");
        return;
    };
    mount.grow();
    let left = dir.path().join("state");
    let mut up = skald(dir.path(), &["up", "--data", store.join("up").to_str().unwrap()]);
    let up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until(PATIENCE, "it runs", || async { left.exists() }).await;
    let left: serde_json::Value = serde_json::from_slice(&std::fs::read(&left).unwrap()).unwrap();
    let (tenant, principal) = (Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
    let settings = Settings::new(left["servers"][0].as_str().unwrap(), tenant, principal);
    let client = Client::connect(settings).await.unwrap();
    let deploy = Deploy { source: SHORT.into(), file: None };
    until(PATIENCE, "it takes a definition", || async { client.deploy(&deploy).await.is_ok() }).await;

    // Somebody else takes all the room.
    let filler = store.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&vec![1; 64 << 10]).is_ok() {}
    let start = |number: usize| {
        let (key, input) =
            (SagaKey::new(format!("short-{number}")).unwrap(), json!({ "ballast": "x".repeat(100_000) }));
        Start { definition: "short".into(), version: None, key: Some(key), input, wait_ms: None }
    };
    let mut taken = 0;
    while client.start(&start(taken)).await.is_ok() {
        taken += 1;
        assert!(taken < 100, "the disk never filled up");
    }
    until(PATIENCE, "health names the full disk", || names_it(&client)).await;

    std::fs::remove_file(&filler).unwrap();
    drop(file);
    until(PATIENCE, "every shard has its owner again", || is_well(&client, 4)).await;
    until(PATIENCE, "new sagas are accepted again", || async { client.start(&start(taken)).await.is_ok() }).await;
    for number in 0..=taken {
        let view = client.wait(&start(number).key.unwrap(), PATIENCE).await.unwrap();
        assert_eq!(view.status, Status::Succeeded, "{number}");
    }
    stop(up, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("server");
    let Some(mount) = Mount::new(&store) else {
        eprintln!("skipped: a small file system cannot be mounted here (not root?)");
        return;
    };
    let found = Finder::new(None).find(|_| {}).await.unwrap();
    let mut settings = ServerConfig::new(&store);
    // Otherwise the server counts, and refuses before the disk does.
    settings.jetstream.as_mut().unwrap().max_file_bytes = Some(1 << 30);
    let mut server = Server::start(&found.path, settings).await.unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger")).unwrap();
    let definitions = vec![("large.yaml".into(), STORY.into())];
    let parts = Parts { activities: activities::all(&ledger), definitions, ..Parts::default() };
    let node = Node::start(config(dir.path(), &server, 0).unwrap(), parts).await.unwrap();
    let (tenant, principal) = (Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
    let client = Client::connect(Settings::new(server.url(), tenant, principal)).await.unwrap();

    let ballast = "x".repeat(200_000);
    let mut acknowledged = Vec::new();
    let refused = loop {
        assert!(acknowledged.len() < 2_000, "the disk never filled up");
        let key = SagaKey::new(format!("large-{}", acknowledged.len())).unwrap();
        let input = json!({ "ballast": ballast });
        let start = Start { definition: "large".into(), version: None, key: Some(key.clone()), input, wait_ms: None };
        match client.start(&start).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => break error.to_string(),
        }
    };
    println!("after {} sagas: {refused}", acknowledged.len());
    assert!(refused.contains("journal"), "the refusal says what is wrong: {refused}");
    assert!(acknowledged.len() > 20, "only {} were accepted: {refused}", acknowledged.len());

    // Health says that it does not serve, and why; the server names the reason on its monitor.
    until(PATIENCE, "health names the full disk", || names_it(&client)).await;
    assert!(!server.heal().await.unwrap(), "there is no room yet");

    // Room again: the server refuses until it is started anew, which whoever runs it does by itself.
    mount.grow();
    assert!(server.heal().await.unwrap(), "a server with room again is started anew");
    until(PATIENCE, "every shard has its owner again", || is_well(&client, 8)).await;
    until(PATIENCE, "new sagas are accepted again", || async {
        let key = SagaKey::new("after").unwrap();
        let start =
            Start { definition: "large".into(), version: None, key: Some(key), input: json!({}), wait_ms: None };
        client.start(&start).await.is_ok()
    })
    .await;
    for key in &acknowledged {
        let view = client.wait(key, PATIENCE).await.unwrap();
        assert_eq!(view.status, Status::Succeeded, "{key}");
    }
    let done = ledger.done().unwrap();
    let keys: std::collections::BTreeSet<_> = done.iter().map(|effect| &effect.key).collect();
    assert_eq!(keys.len(), done.len(), "an effect was done twice");
    node.drain().await.unwrap();
    server.stop().await;
}
