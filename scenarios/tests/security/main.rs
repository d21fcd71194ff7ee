//! A server that keeps its users apart, as `skald nats config` sets it up: what is allowed works, and
//! everything else is refused by the server and said to whoever tried.

mod allowed;
mod audit;
mod beside;
mod busy;
mod certificates;
mod children;
mod crowds;
mod doors;
mod four_eyes;
mod growth;
mod hog;
mod logins;
mod ownership;
mod processes;
mod quotas;
mod refused;
mod replay;
mod written;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{Event, ServerError};
use node::client::{Client, Settings};
use node::config::Config;
use node::http::token::{digest, scopes};
use node::nats::{About, seed_of};
use node::node::{Node, Parts};
use node::secret::Secret;
use node::server::Server;
use protocol::{Principal, Tenant};
use scenarios::activities;
use scenarios::cluster::{config, server, until};
use scenarios::definitions;
use scenarios::ledger::Ledger;
use scenarios::stage::PATIENCE;
use serde_json::Value;
use tempfile::TempDir;

/// The users of the stories.
const USERS: [&str; 12] = [
    "--user",
    "acme:ann",
    "--user",
    "acme:bob",
    "--user",
    "evil:eve",
    "--worker",
    "acme:pricing",
    "--deployer",
    "acme:ops",
    "--observer",
    "eye",
];

/// Runs `skald nats config` and gives back what it said.
fn write_config(out: &Path, more: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skald_under_test"));
    command.args(["nats", "config", "--out"]).arg(out).args(more).output().expect("the program runs")
}

/// A server with users, and nodes.
struct House {
    nodes: Vec<Node>,
    server: Server,
    dir: TempDir,
}

impl House {
    /// A server whose users and permissions are those that were written for [`USERS`], and nodes that
    /// run the stories' definitions and `more`.
    async fn build(nodes: usize, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let written = write_config(&dir.path().join("nats"), &USERS);
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        let file = std::fs::read_to_string(dir.path().join("nats/nats-server.conf")).unwrap();
        let users = file[file.find("accounts {").unwrap()..].to_owned();
        let server = server(dir.path(), |config| config.extra = users).await.unwrap();
        let mut house = Self { nodes: Vec::new(), server, dir };
        let started = futures::future::try_join_all((0..nodes).map(|number| house.node(number, more))).await;
        house.nodes = started.unwrap();
        house
    }

    /// The same with one node, which keeps processes and answers over HTTP to `acme` and `evil`: each of
    /// their people has a token by the name.
    async fn platform() -> Self {
        let platform: Vec<&str> = actors::definitions().iter().map(|(_, source)| *source).collect();
        let mut house = Self::build(0, &[]).await;
        let mut config = config(house.dir.path(), &house.server, 0).unwrap();
        config.runtime.dir = Some(house.dir.path().join("runtime"));
        config.http.bind = Some(([127, 0, 0, 1], 0).into());
        let holder = |(tenant, principal): (&str, &str)| {
            let (sha256, scopes) = (digest(&Secret::new(principal)), serde_json::to_string(&scopes()).unwrap());
            format!(
                "[[token]]\nsha256 = \"{sha256}\"\ntenant = \"{tenant}\"\nprincipal = \"{principal}\"\nscopes = {scopes}\n"
            )
        };
        let tokens: String = [("acme", "ann"), ("acme", "bob"), ("evil", "eve")].into_iter().map(holder).collect();
        std::fs::create_dir_all(&config.data_dir).unwrap();
        std::fs::write(config.data_dir.join("http-tokens.toml"), tokens).unwrap();
        // Only the deployment: the installation's activities are not offered here.
        let node = house.start(config, &[&platform[1..], &[definitions::TELLING]].concat()).await.unwrap();
        house.nodes.push(node);
        house
    }

    /// Asks over HTTP with a token; answers the status and the body.
    async fn http(&self, token: &str, method: &str, path: &str, body: Value, key: Option<&str>) -> (u16, Value) {
        let at = self.nodes[0].http().unwrap();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = reqwest::Client::new().request(method, format!("http://{at}/v1/runtime{path}"));
        request = request.bearer_auth(token).json(&body).timeout(PATIENCE);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Runs the program with the credentials of `user`; answers how it ended and what it said.
    async fn skald(&self, user: &str, args: &[&str]) -> (Option<i32>, Value) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_skald_under_test"));
        command.args(["--json", "--server", &self.server.url(), "--creds"]).arg(self.file(user)).args(args);
        for name in ["SKALD_TENANT", "SKALD_AS"] {
            command.env_remove(name);
        }
        let output = command.output().await.unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    async fn end(mut self) {
        for node in self.nodes.drain(..) {
            node.drain().await.unwrap();
        }
    }

    async fn node(&self, number: usize, more: &[&str]) -> anyhow::Result<Node> {
        self.node_with(number, more, |_| {}).await
    }

    /// A node with other settings.
    async fn node_with(&self, number: usize, more: &[&str], adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Node> {
        let mut config = config(self.dir.path(), &self.server, number)?;
        adjust(&mut config);
        let sources: Vec<&str> = definitions::ALL.iter().chain(more).copied().collect();
        self.start(config, &sources).await
    }

    async fn start(&self, mut config: Config, sources: &[&str]) -> anyhow::Result<Node> {
        config.credentials = Some(self.file("node"));
        let sources = sources.iter().enumerate();
        let ledger = Ledger::open(&self.dir.path().join("ledger"))?;
        let parts = Parts {
            activities: activities::all(&ledger),
            definitions: sources.map(|(at, source)| (format!("story-{at}.yaml"), (*source).to_owned())).collect(),
            ..Parts::default()
        };
        Node::start(config, parts).await
    }

    /// The credentials file of a user.
    fn file(&self, user: &str) -> PathBuf {
        self.dir.path().join(format!("nats/{user}.nk"))
    }

    /// A client with the credentials of `user`, which speaks as `principal` of `tenant`.
    async fn client(&self, user: &str, tenant: &str, principal: &str) -> Client {
        let (tenant, principal) = (Tenant::new(tenant).unwrap(), Principal::new(principal).unwrap());
        let settings = Settings::new(self.server.url(), tenant, principal);
        Client::connect(Settings { credentials: Some(self.file(user)), ..settings }).await.unwrap()
    }

    /// A plain NATS connection with the credentials of `user`.
    async fn raw(&self, user: &str) -> Raw {
        let file = self.file(user);
        let seed = seed_of(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let inbox = About::read(&file).inbox.unwrap_or_else(|| "_INBOX".into());
        let nats = async_nats::ConnectOptions::with_nkey(seed.reveal().to_owned())
            .custom_inbox_prefix(&inbox)
            .event_callback(move |event| {
                let heard = heard.clone();
                async move {
                    if let Event::ServerError(ServerError::Other(said)) = event {
                        heard.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                    }
                }
            })
            .connect(self.server.url())
            .await
            .unwrap();
        Raw { nats, said, inbox }
    }

    /// What stands in the stream of `subject`: how many messages, by the nodes' credentials.
    async fn messages(&self, stream: &str) -> u64 {
        let jetstream = async_nats::jetstream::new(self.raw("node").await.nats);
        jetstream.get_stream(stream).await.unwrap().cached_info().state.messages
    }

    /// A dead letter on `subject` that contains `mark`.
    async fn dead(&self, subject: &str, mark: &str) {
        let jetstream = async_nats::jetstream::new(self.raw("node").await.nats);
        until(PATIENCE, "the dead letter is kept", || async {
            let mut stream = jetstream.get_stream("SKALD_DEAD").await.unwrap();
            let last = stream.info().await.unwrap().state.last_sequence;
            for sequence in 1..=last {
                let Ok(letter) = stream.get_raw_message(sequence).await else { continue };
                let why = letter.headers.get("Skald-Why").map(ToString::to_string).unwrap_or_default();
                let whole = format!("{why} {}", String::from_utf8_lossy(&letter.payload));
                if letter.subject.as_str() == subject && whole.contains(mark) {
                    return true;
                }
            }
            false
        })
        .await;
    }
}

/// A plain connection that remembers what the server complains about.
struct Raw {
    nats: async_nats::Client,
    said: Arc<Mutex<Vec<String>>>,
    inbox: String,
}

impl Raw {
    /// What the server says about `subject`, after it is `act`.
    async fn told(&self, act: &str, subject: &str) -> Option<String> {
        let words = format!("Permissions Violation for {act} to \"");
        // Of a command the server names what it made of it.
        let about = |said: &str| {
            let named = said.split(&words).nth(1).and_then(|rest| rest.split('"').next());
            named.is_some_and(|it| it == subject || protocol::subjects::behind_door(it).is_some_and(|it| it == subject))
        };
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_secs(5) {
            let heard = || self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(said) = heard().into_iter().find(|said| about(said)) {
                return Some(said);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        None
    }
}
