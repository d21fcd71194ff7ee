//! Two tenants have services on one machine, and one of them tries everything (A3). What its programs can
//! do at all is tried one by one in `actors/tests/compute_confined`; here it comes through the doors.

use std::time::Duration;

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::deployment::DEFINITION;
use node::client::Client;
use node::node::{Node, Parts};
use protocol::SagaKey;
use protocol::command::Start;
use protocol::runtime::CreateEnvironment;
use protocol::view::{SagaView, Status};
use scenarios::cluster::config;
use scenarios::definitions::TELLING;
use scenarios::service::Left;
use scenarios::stage::PATIENCE;
use serde_json::{Value, json};

use super::House;
use super::beside::{Bystander, alone};

/// What Ann's service knows and nobody else may.
const SECRET: &str = "hunter2-of-ann";

/// How long her program writes while others are asked.
const FLOOD: Duration = Duration::from_secs(5);

/// Says what it finds of others' variables and of a file, and writes without end when it is asked to.
const EVIL: &str = r#"#!/usr/bin/env python3
import http.server, json, os, threading, urllib.error, urllib.request
def read(path):
    try:
        return open(path, errors="replace").read()
    except OSError as error:
        return type(error).__name__
def everything():
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    return "".join(read("/proc/%s/environ" % pid) for pid in pids)
def fetched(url):
    try:
        return urllib.request.urlopen("http://" + url).status
    except urllib.error.HTTPError as error:
        return error.code
def flood():
    while True:
        os.write(1, b"x" * 4095 + b"\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/flood":
            for _ in range(4):
                threading.Thread(target=flood, daemon=True).start()
        said = {"user": os.getuid(), "environs": everything(), "file": read(self.path)}
        if self.path.startswith("/fetch/"):
            said["fetched"] = fetched(self.path[len("/fetch/"):])
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A secured house whose node keeps processes.
struct Machine {
    house: House,
    node: Node,
    artifact: String,
    _left: Left,
}

impl Machine {
    async fn build(operator: &str) -> Self {
        let house = House::build(0, &[]).await;
        let dir = house.dir.path().canonicalize().unwrap();
        let mut config = config(&dir, &house.server, 0).unwrap();
        config.credentials = Some(house.file("node"));
        config.runtime.dir = Some(dir.join("runtime"));
        config.runtime.operator = operator.to_owned();
        (config.runtime.drain_ms, config.runtime.stop_ms) = (1_000, 500);
        let sources = actors::definitions().iter().filter(|(_, source)| source.contains("deployment.claim"));
        let definitions = sources.copied().chain([("telling.yaml", TELLING)]);
        let definitions = definitions.map(|(file, source)| (file.to_owned(), source.to_owned())).collect();
        let node = Node::start(config, Parts { definitions, ..Parts::default() }).await.unwrap();
        let artifacts = DirectoryArtifacts::open(dir.join("runtime/published")).unwrap();
        let artifact = format!("sha256:{}", artifacts.add(EVIL.as_bytes()).unwrap());
        Self { house, node, artifact, _left: Left(dir) }
    }

    /// Deploys into an environment of the tenant's own, with `more`, and says how it ended.
    async fn deploy(&self, client: &Client, environment: &str, key: &str, more: Value) -> SagaView {
        let create = CreateEnvironment { environment: environment.into(), stage: Some("dev".into()), region: None };
        client.create_environment(&create).await.unwrap();
        let mut input =
            json!({ "environment": environment, "service": "web", "artifact": self.artifact, "replicas": 1 });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let key = SagaKey::new(key).unwrap();
        let start =
            Start { definition: DEFINITION.into(), version: None, key: Some(key.clone()), input, wait_ms: None };
        client.start(&start).await.unwrap();
        client.wait(&key, PATIENCE).await.unwrap()
    }
}

fn address(view: &SagaView) -> String {
    assert_eq!(view.status, Status::Succeeded, "{view:#?}");
    let output = view.outcome.as_ref().and_then(|outcome| outcome.output.as_ref()).unwrap();
    output["endpointUrl"].as_str().unwrap().to_owned()
}

async fn asked(url: &str, path: &str) -> Value {
    let answer = reqwest::get(format!("{url}{path}")).await.unwrap().bytes().await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_programs_are_kept_from_the_other_and_from_the_node() {
    let _alone = alone().await;
    let root = rustix::process::geteuid().is_root();
    let machine = Machine::build("acme").await;
    let ann = machine.house.client("acme.ann", "acme", "ann").await;
    let eve = machine.house.client("evil.eve", "evil", "eve").await;
    let knows = json!({ "configuration": { "PASSWORD": SECRET } });
    let anns = address(&machine.deploy(&ann, "anns", "ann-1", knows).await);
    let refused = machine.deploy(&eve, "refused", "eve-0", json!({ "command": ["/bin/sh", "-c", "id"] })).await;
    let why = format!("{refused:?}");
    assert!(refused.status == Status::Failed && why.contains("NotPermitted"), "{why}");
    assert!(why.contains(if root { "runtime.commands" } else { "runs as the node's own user" }) || !root, "{why}");
    let deployed = machine.deploy(&eve, "eves", "eve-1", json!({})).await;
    if !root {
        // Without users of their own only the operator's may run, and that is said.
        let why = format!("{deployed:?}");
        assert!(deployed.status == Status::Failed && why.contains("only those of tenant acme may"), "{why}");
        return;
    }
    let eves = address(&deployed);
    let key = machine.house.file("node");
    std::fs::metadata(&key).expect("the node's key is there");
    let seen = asked(&eves, &key.display().to_string()).await;
    assert_eq!(seen["file"], "FileNotFoundError", "the node's key");
    assert!(!seen["environs"].as_str().unwrap().contains(SECRET), "Ann's variables");
    assert_ne!(seen["user"], asked(&anns, "/").await["user"]);

    // What others do stands on the debug endpoint, which is open to the people of the machine.
    let tree = format!("{}/tree", machine.node.debug().expect("it listens"));
    assert_eq!(reqwest::get(format!("http://{tree}")).await.unwrap().status(), 200);
    assert_eq!(asked(&eves, &format!("/fetch/{tree}")).await["fetched"], 403);
    let flood = async {
        asked(&eves, "/flood").await;
        tokio::time::sleep(FLOOD).await;
    };
    Bystander::of("a program that writes without end", &ann).await.notices(flood).await;
    let logs = machine.house.dir.path().join("runtime/environments/eves/logs");
    let taken: u64 = std::fs::read_dir(logs).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(taken < 40 << 20, "her log takes {taken} bytes");
}
