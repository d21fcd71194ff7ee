//! Finding, starting and stopping a nats-server, and connecting to one that is not as it should be.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::program;
use node::nats::{Auth, ConnectConfig, ConnectError, connect};
use node::server::{FindError, Finder, Origin, Server, ServerConfig, StartError};

/// A program that claims to be a nats-server.
fn pretender(dir: &Path, says: &str) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let path = dir.join("nats-server");
    std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn nowhere(dir: &Path) -> Finder {
    Finder { setting: None, environment: None, path: vec![], cache: dir.join("cache"), obtain: false }
}

#[tokio::test]
async fn the_first_usable_server_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let old = pretender(&dir.path().join("old"), "nats-server: v2.10.26");
    let new = pretender(&dir.path().join("new"), "nats-server: v2.12.1");
    let nowhere = nowhere(dir.path());
    let find = |finder: Finder| async move { finder.find(|_| {}).await };

    let path = vec![old.parent().unwrap().into(), new.parent().unwrap().into()];
    let found = find(Finder { path: path.clone(), ..nowhere.clone() }).await.unwrap();
    assert_eq!((found.path, found.origin), (new.clone(), Origin::Path), "an old one on the path is passed over");
    let found = find(Finder { environment: Some(new.clone()), ..nowhere.clone() }).await.unwrap();
    assert_eq!(found.origin, Origin::Environment);
    assert_eq!(found.version.to_string(), "2.12.1");
    // One that is asked for by name is not replaced silently.
    let error = find(Finder { setting: Some(old.clone()), path, ..nowhere.clone() }).await.unwrap_err();
    assert!(matches!(error, FindError::TooOld { .. }), "{error}");
    assert!(error.to_string().contains("2.10.26") && error.to_string().contains("upgrade"), "{error}");
    let odd = pretender(&dir.path().join("odd"), "hello");
    let error = find(Finder { setting: Some(odd), ..nowhere.clone() }).await.unwrap_err();
    assert!(matches!(error, FindError::Unusable { .. }), "{error}");
    let error = find(Finder { path: vec![old.parent().unwrap().into()], ..nowhere.clone() }).await.unwrap_err();
    assert!(error.to_string().contains("2.10.26, too old"), "{error}");
    let cached = nowhere.cached();
    pretender(cached.parent().unwrap(), "nats-server: v2.15.1");
    assert_eq!(find(nowhere).await.unwrap().origin, Origin::Cache);
}

#[tokio::test]
async fn a_server_starts_on_a_free_port_and_comes_back_on_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&program().await, ServerConfig::new(dir.path())).await.unwrap();
    let (url, pid) = (server.url(), server.pid());
    connect(ConnectConfig::new([&url])).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    connect(ConnectConfig::new([&url])).await.unwrap();
    server.stop().await;
    assert!(!Path::new(&format!("/proc/{}", server.pid())).exists());
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_said() {
    let program = program().await;
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = ServerConfig { port, ..ServerConfig::new(dir.path().join("a")) };
    let error = Server::start(&program, config).await.unwrap_err();
    assert!(matches!(error, StartError::PortTaken { port: it, .. } if it == port), "{error}");
    assert!(error.to_string().contains("address already in use"), "{error}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Server::start(&program, ServerConfig::new(file.join("data"))).await.unwrap_err();
    assert!(matches!(error, StartError::Disk { .. }), "{error}");

    let config = ServerConfig { extra: "no_such_setting: 1".into(), ..ServerConfig::new(dir.path().join("b")) };
    let error = Server::start(&program, config).await.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");

    let silent = pretender(&dir.path().join("silent"), "nats-server: v2.15.1");
    let error = Server::start(&silent, ServerConfig::new(dir.path().join("c"))).await.unwrap_err();
    assert!(matches!(error, StartError::Ended { .. }), "{error}");
    let error = Server::start(&dir.path().join("missing"), ServerConfig::new(dir.path().join("d"))).await.unwrap_err();
    assert!(matches!(error, StartError::Spawn { .. } | StartError::Ended { .. }), "{error}");
}

#[tokio::test]
async fn two_servers_never_share_a_directory() {
    let program = program().await;
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start(&program, ServerConfig::new(dir.path())).await.unwrap();
    let error = Server::start(&program, ServerConfig::new(dir.path())).await.unwrap_err();
    assert!(matches!(error, StartError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("pid {}", first.pid())), "{error}");
    first.kill().await;
    Server::start(&program, ServerConfig::new(dir.path())).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_not_let_in_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let users = "authorization { users: [ { user: ann, password: right } ] }";
    let config = ServerConfig { extra: users.into(), ..ServerConfig::new(dir.path()) };
    let server = Server::start(&program().await, config).await.unwrap();
    let as_ann = |password: &str| ConnectConfig {
        auth: Auth::User { user: "ann".into(), password: password.into() },
        ..ConnectConfig::new([server.url()])
    };
    connect(as_ann("right")).await.unwrap();
    let error = connect(as_ann("wrong")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("user ann") && !error.to_string().contains("wrong"), "{error}");
    let error = connect(ConnectConfig::new([server.url()])).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    let missing = ConnectConfig { auth: Auth::Credentials("/no/such.creds".into()), ..as_ann("right") };
    let error = connect(missing).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Settings(why) if why.contains("/no/such.creds")), "{error}");
}

#[tokio::test]
async fn a_server_that_keeps_nothing_or_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = ServerConfig { jetstream: None, ..ServerConfig::new(dir.path()) };
    let server = Server::start(&program().await, config).await.unwrap();
    let error = connect(ConnectConfig::new([server.url()])).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoJetStream { .. }), "{error}");
    let url = server.url();
    server.stop().await;
    let brief = ConnectConfig { start_within: Duration::from_millis(300), ..ConnectConfig::new([url]) };
    let error = connect(brief).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

/// Set for the process that [`a_server_ends_with_its_node`] kills: where it keeps its server.
const HOLDER: &str = "SKALD_TEST_HOLDS_SERVER_IN";

/// Not a test by itself: holds a server until it is killed, when told to.
#[tokio::test]
async fn holds_a_server() {
    let Some(dir) = std::env::var_os(HOLDER).map(PathBuf::from) else { return };
    let server = Server::start(&program().await, ServerConfig::new(dir.join("data"))).await.unwrap();
    std::fs::write(dir.join("pid.new"), server.pid().to_string()).unwrap();
    std::fs::rename(dir.join("pid.new"), dir.join("pid")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_ends_with_its_node() {
    let setpriv = std::process::Command::new("setpriv").args(["--pdeathsig", "TERM", "--", "true"]).status();
    if !setpriv.is_ok_and(|it| it.success()) {
        println!("setpriv is not here; a server then outlives a killed node");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut node = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::holds_a_server"])
        .env(HOLDER, dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid =
        crate::support::until("the server's pid", || async { std::fs::read_to_string(dir.path().join("pid")).ok() })
            .await;
    // SIGKILL: nothing in the node can run any more.
    node.kill().unwrap();
    node.wait().unwrap();
    crate::support::until("the server's end", || async {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (status.is_empty() || status.contains(") Z ")).then_some(())
    })
    .await;
    Server::start(&program().await, ServerConfig::new(dir.path().join("data"))).await.unwrap();
}

/// A server that says it is older than it may be.
#[tokio::test]
async fn an_old_server_is_refused() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (read, mut write) = stream.into_split();
            let info = r#"INFO {"server_id":"X","version":"2.10.26","headers":true,"max_payload":1048576}"#;
            let _ = write.write_all(format!("{info}\r\n").as_bytes()).await;
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("PING") {
                    let _ = write.write_all(b"PONG\r\n").await;
                }
            }
        }
    });
    let error = connect(ConnectConfig::new([url])).await.unwrap_err();
    assert!(matches!(&error, ConnectError::TooOld { version, .. } if version == "2.10.26"), "{error}");
}
