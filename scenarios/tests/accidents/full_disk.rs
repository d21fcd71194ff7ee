//! The server's disk fills up while sagas run. Needs to be root, to mount a small file system.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use node::client::{Client, Settings};
use node::node::{Node, Parts};
use node::server::{Finder, Server, ServerConfig};
use protocol::command::Start;
use protocol::query::{Body, Query};
use protocol::view::Status;
use protocol::{Principal, SagaKey, Tenant};
use scenarios::activities;
use scenarios::cluster::{config, until};
use scenarios::ledger::Ledger;
use serde_json::json;

const STORY: &str = r#"
name: large
definition:
  StartAt: One
  States:
    One: { Type: Task, Resource: activity:ledger.write, Arguments: { step: one }, Compensate: none, Next: Two }
    Two: { Type: Task, Resource: activity:ledger.write, Arguments: { step: two }, Compensate: none, End: true }
"#;
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
    let health = || async {
        let answers = client.query(&Query::Health).await.unwrap_or_default();
        answers.into_iter().find_map(|answer| match answer.body {
            Body::Health(health) => Some(health),
            Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => None,
        })
    };
    until(PATIENCE, "health names the full disk", || async {
        health().await.is_some_and(|health| {
            !health.ready && health.troubles.iter().any(|trouble| trouble.contains("no space left"))
        })
    })
    .await;
    assert!(!server.heal().await.unwrap(), "there is no room yet");

    // Room again: the server refuses until it is started anew, which whoever runs it does by itself.
    mount.grow();
    assert!(server.heal().await.unwrap(), "a server with room again is started anew");
    until(PATIENCE, "every shard has its owner again", || async {
        health().await.is_some_and(|health| health.ready && health.shards.len() == 8)
    })
    .await;
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
