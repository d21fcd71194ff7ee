//! What comes to the doors of a node: heads that never end, more connections than there is room for,
//! slow bodies, floods of what cannot be understood, answers wanted in other people's inboxes, and texts
//! that would command a terminal. The other tenant hardly notices.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use futures::future::join_all;
use node::config::Config;
use node::http::token::digest;
use node::secret::Secret;
use scenarios::cluster::until;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::House;
use super::beside::{Bystander, alone};

/// The tokens of the stories: one of each tenant.
const TOKENS: [(&str, &str, &str); 2] = [("acme", "ann", "token-of-ann"), ("evil", "eve", "token-of-eve")];
/// How long connections and bodies that never end are held.
const HELD: Duration = Duration::from_secs(4);

/// A house with a node that has an HTTP door.
async fn house(adjust: impl Fn(&mut Config)) -> House {
    let mut house = House::build(0, &[]).await;
    let line = |(tenant, principal, token): (&str, &str, &str)| {
        let scopes = r#"["runtime.deployments.read", "runtime.configurations.write"]"#;
        let sha256 = digest(&Secret::from(token));
        format!("[[token]]\nsha256 = {sha256:?}\ntenant = {tenant:?}\nprincipal = {principal:?}\nscopes = {scopes}\n")
    };
    let file = house.dir.path().join("tokens.toml");
    std::fs::write(&file, TOKENS.map(line).concat()).unwrap();
    let node = house
        .node_with(0, &[], |config| {
            config.http.bind = Some(([127, 0, 0, 1], 0).into());
            config.http.tokens = Some(file.clone());
            config.debug.bind = ([127, 0, 0, 1], 0).into();
            config.debug.enabled = true;
            adjust(config);
        })
        .await
        .unwrap();
    house.nodes.push(node);
    house
}

fn doors(house: &House) -> (SocketAddr, SocketAddr) {
    (house.nodes[0].debug().unwrap(), house.nodes[0].http().unwrap())
}

/// One request on a connection of its own; the status.
async fn asks(door: SocketAddr, path: &str, token: Option<&str>) -> Option<u16> {
    // One for all, because each reads the machine's certificates; no connection is kept.
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        reqwest::Client::builder().timeout(Duration::from_secs(10)).pool_max_idle_per_host(0).build().unwrap()
    });
    let request = CLIENT.get(format!("http://{door}{path}"));
    let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_heads_and_idle_connections_keep_nobody_out() {
    let _alone = alone().await;
    let house = house(|config| (config.http.connections, config.debug.connections) = (200, 100)).await;
    let (debug, http) = doors(&house);
    let mut held = Vec::new();
    for number in 0..1_000 {
        for door in [debug, http] {
            let Ok(mut stream) = TcpStream::connect(door).await else { continue };
            // Those that say nothing are as many as those that begin and never end.
            if number % 2 == 0 {
                let _ = stream.write_all(b"GET /v1/runtime/services HTTP/1.1\r\nHost: localhost\r\nX:").await;
            }
            held.push(stream);
        }
    }
    // The bus has its descriptors, too.
    let ann = house.client("acme.ann", "acme", "ann").await;
    let bystander = Bystander::of("2,000 heads that never end", &ann).await;
    let bystander = bystander.and("http", move |_| async move {
        assert_eq!(asks(http, "/v1/runtime/services", Some("token-of-ann")).await, Some(200));
    });
    let bystander = bystander.and("healthz", move |_| async move {
        assert_eq!(asks(debug, "/healthz", None).await, Some(200));
    });
    bystander.notices(tokio::time::sleep(HELD)).await;
    drop(held);
}

/// One address, whatever it does with its connections, leaves room for others.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_address_leave_connections_for_another() {
    let _alone = alone().await;
    let house = house(|config| config.http.connections = 20).await;
    let (_, http) = doors(&house);
    let head = "POST /v1/runtime/environments/dev/services/web/configurations HTTP/1.1\r\nHost: localhost\r\n\
                Authorization: Bearer token-of-eve\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(http).await.unwrap();
        // The door may have closed it already.
        let _ = stream.write_all(head.as_bytes()).await;
        held.push(stream);
    }
    let full = || async { asks(http, "/v1/runtime/services", Some("token-of-ann")).await.is_none() };
    until(PATIENCE, "every connection of this address waits for a body", full).await;
    let elsewhere = reqwest::Client::builder().local_address(IpAddr::from([127, 0, 0, 2])).build().unwrap();
    let ann = elsewhere.get(format!("http://{http}/v1/runtime/services")).bearer_auth("token-of-ann");
    assert_eq!(ann.send().await.unwrap().status(), 200);
    assert!(full().await, "they still wait");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_of_one_tenant_take_no_place_of_another() {
    let _alone = alone().await;
    let house = house(|config| (config.http.in_flight, config.http.in_flight_per_tenant) = (32, 16)).await;
    let (_, http) = doors(&house);
    let mut slow = Vec::new();
    for _ in 0..256 {
        let mut stream = TcpStream::connect(http).await.unwrap();
        let head = "POST /v1/runtime/environments/dev/services/web/configurations HTTP/1.1\r\nHost: localhost\r\n\
                    Authorization: Bearer token-of-eve\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let ask = move |token| asks(http, "/v1/runtime/services", Some(token));
    until(PATIENCE, "the slow tenant has all its places", || async { ask("token-of-eve").await == Some(429) }).await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    let bystander = Bystander::of("256 bodies that never end", &ann).await;
    let bystander = bystander.and("http", move |_| async move {
        assert_eq!(ask("token-of-ann").await, Some(200));
    });
    bystander.notices(tokio::time::sleep(HELD)).await;
    // A body that does not come ends: its place is free again.
    until(Duration::from_secs(30), "the slow tenant may ask again", || async {
        ask("token-of-eve").await == Some(200)
    })
    .await;
    let answers = join_all(slow.iter_mut().map(|stream| async {
        let mut head = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut head)).await;
        matches!(read, Ok(Ok(_))).then(|| String::from_utf8_lossy(&head).into_owned())
    }));
    let answers = answers.await;
    assert!(answers.iter().flatten().all(|it| it.ends_with("429") || it.ends_with("504")), "{answers:?}");
    assert!(answers.iter().flatten().any(|it| it.ends_with("504")), "{answers:?}");
}

/// Letters of the flood. An unoptimised node takes some forty in a second.
const LETTERS: usize = if cfg!(debug_assertions) { 30 } else { 120 };

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_dead_letters_is_cut_down_and_costs_the_node_nothing() {
    let _alone = alone().await;
    let house = house(|_| {}).await;
    let (ann, eve) = (house.client("acme.ann", "acme", "ann").await, house.raw("evil.eve").await);
    let size = eve.nats.server_info().max_payload - 1_024;
    let large = bytes::Bytes::from(vec![b'x'; size.min(7 << 20)]);
    let flood = async {
        for _ in 0..LETTERS {
            eve.nats.publish("skald.cmd.evil.eve.saga.start", large.clone()).await.unwrap();
            eve.nats.flush().await.unwrap();
        }
    };
    Bystander::of("a flood of letters of 7 MB", &ann).await.notices(flood).await;
    let jetstream = async_nats::jetstream::new(house.raw("node").await.nats);
    let mut kept = Value::Null;
    until(PATIENCE, "a letter says how large it was", || {
        let jetstream = jetstream.clone();
        async move {
            let stream = jetstream.get_stream("SKALD_DEAD").await.unwrap();
            stream.get_last_raw_message_by_subject("skald.dead.evil.not-understood").await.is_ok()
        }
    })
    .await;
    let mut stream = jetstream.get_stream("SKALD_DEAD").await.unwrap();
    let letter = stream.get_last_raw_message_by_subject("skald.dead.evil.not-understood").await.unwrap();
    for name in ["Skald-Bytes", "Skald-Digest"] {
        kept[name] = letter.headers.get(name).map(ToString::to_string).into();
    }
    assert!(kept["Skald-Digest"].as_str().is_some_and(|it| it.starts_with("sha256:")), "{kept}");
    assert!(letter.payload.len() < 8_192, "{} bytes", letter.payload.len());
    assert!(stream.info().await.unwrap().state.bytes < 16 << 20, "the flood had {} bytes", size * LETTERS);
    assert_eq!(asks(doors(&house).0, "/readyz", None).await, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_go_to_the_askers_inbox_only() {
    let house = house(|_| {}).await;
    let (ann, bob) = (house.raw("acme.ann").await, house.raw("acme.bob").await);
    let mut bobs = bob.nats.subscribe("_INBOX.acme.bob.>").await.unwrap();
    bob.nats.flush().await.unwrap();
    let ask = |reply: &str| {
        let reply = reply.to_owned();
        ann.nats.publish_with_reply("skald.cmd.acme.ann.saga.list", reply, "{}".into())
    };
    ask("_INBOX.acme.bob.guess").await.unwrap();
    house.dead("skald.dead.acme.forbidden", "_INBOX.acme.bob.guess").await;
    assert!(tokio::time::timeout(Duration::from_millis(200), futures::StreamExt::next(&mut bobs)).await.is_err());
    let answer = ann.nats.request("skald.cmd.acme.ann.saga.list", "{}".into()).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.payload).contains("sagas"));
}

/// Clears the screen, sets the title, turns the direction, and colours the rest; as 7 bits, 8 bits and text.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}nwo\u{200b}\r\u{1b}[31m";
const TELLS: &str = r#"
name: tells
definition:
  StartAt: Tell
  States:
    Tell: { Type: Task, Resource: "event:Told", Arguments: "{% $states.input %}", Next: Fail }
    Fail: { Type: Fail, Error: "{% $states.input.text %}", Cause: "{% $states.input.text %}" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_does_not_command_a_terminal() {
    let mut house = House::build(0, &[]).await;
    let node = house.node(0, &[TELLS]).await.unwrap();
    house.nodes.push(node);
    let ann = house.client("acme.ann", "acme", "ann").await;
    let input = json!({ "text": HOSTILE, HOSTILE: [HOSTILE] });
    ann.start(&start("tells", "hostile", input)).await.unwrap();
    ann.wait(&saga_key("hostile"), PATIENCE).await.unwrap();
    let run = |words: Vec<&'static str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skald_under_test"));
        command.args(["--server", &house.server.url(), "--creds"]).arg(house.file("acme.ann")).args(words);
        async move { tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap() }
    };
    let printing: [&[&str]; 7] = [
        &["show", "hostile"],
        &["history", "hostile"],
        &["list"],
        &["wait", "hostile"],
        &["events", "--all", "--no-follow"],
        &["definition", "list"],
        &["signal", "hostile", HOSTILE],
    ];
    for words in printing {
        for (how, colours) in [("--color=never", false), ("--color=always", true), ("--json", false)] {
            let said = run([&[how], words].concat()).await;
            let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
            assert!(!text.is_empty(), "{words:?}");
            let bad: Vec<char> = text.chars().filter(|c| !"\n\t".contains(*c) && hidden(*c)).collect();
            let escapes = bad.iter().filter(|c| **c == '\u{1b}').count();
            assert_eq!(bad.len(), escapes, "{words:?} {how}: {text:?}");
            assert!(colours || escapes == 0, "{words:?} {how}: {text:?}");
            assert!(!text.contains("\u{1b}[2J") && !text.contains("\u{1b}]"), "{words:?} {how}: {text:?}");
        }
    }
}

fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{200b}')
}
