//! A cluster on this machine: NATS servers of our own and nodes as processes, so that killing one
//! is as real as it gets. Nodes are stopped before the servers they speak through, and a node whose
//! parent dies ends by itself.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use protocol::query::{Body, Query};
use protocol::{NodeId, Principal, Tenant};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::client::{Client, Settings};

use super::fault::Fault;
use super::parts::{Servers, runtime_dir};
use super::state::NodeState;

/// The variable for where installations may go.
const ROOTS: &str = "SKALD_CATALOG__TARGET_ROOTS";
/// How long a node may take to join: a takeover of everything, on a slow disk.
const JOIN: Duration = Duration::from_secs(60);
/// How long a node may take to drain before it is killed; longer than its own patience.
const DRAIN: Duration = Duration::from_secs(20);
/// How often a file or a process is looked at while something starts.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where the debug endpoint of the first node is looked for first.
const DEBUG_PORT: u16 = 7070;

/// What to start.
pub(super) struct Plan {
    pub(super) data: PathBuf,
    pub(super) nodes: usize,
    pub(super) servers: usize,
    /// A settings file for the nodes.
    pub(super) config: Option<PathBuf>,
    /// What nodes log, if not what their settings say.
    pub(super) log: Option<String>,
    /// Whether the nodes can do the bench's work.
    pub(super) bench: bool,
}

/// One node's process.
pub(super) struct Member {
    pub(super) state: NodeState,
    pub(super) log: PathBuf,
    child: Child,
}

/// A running cluster.
pub(super) struct Local {
    pub(super) members: Vec<Member>,
    pub(super) catalog: PathBuf,
    /// What was lost since it last ran and waits for a word, in sentences. Until then not all of it serves.
    pub(super) lost: Vec<String>,
    servers: Servers,
}

impl Local {
    /// Starts servers and nodes, and returns when every node serves, or says what it lost.
    pub(super) async fn start(plan: &Plan, say: &(dyn Fn(&str) + Send + Sync)) -> Result<Self, Fault> {
        let make = |dir: &Path| {
            std::fs::create_dir_all(dir)
                .map_err(|error| Fault::new(format!("cannot make {}", dir.display())).why(error.to_string()))
        };
        let catalog = plan.data.join("catalog");
        make(&catalog)?;
        let servers = Servers::start(&plan.data.join("server"), plan.servers, say).await?;
        let mut local = Self { members: Vec::new(), catalog, lost: Vec::new(), servers };
        match local.join(plan, say).await {
            Ok(()) => Ok(local),
            Err(fault) => {
                local.stop(&|_| {}).await;
                Err(fault)
            }
        }
    }

    /// Where clients connect.
    pub(super) fn urls(&self) -> Vec<String> {
        self.servers.urls()
    }

    /// The servers' processes.
    pub(super) fn server_pids(&self) -> Vec<u32> {
        self.servers.pids()
    }

    async fn join(&mut self, plan: &Plan, say: &(dyn Fn(&str) + Send + Sync)) -> Result<(), Fault> {
        for number in 1..=plan.nodes {
            let node = NodeId::new(format!("n{number}")).map_err(|error| Fault::usage(error.to_string()))?;
            let dir = plan.data.join("nodes").join(node.as_str());
            std::fs::create_dir_all(&dir)?;
            self.members.push(self.spawn(plan, &node, &dir)?);
        }
        for member in &mut self.members {
            say(&format!("waiting for node {}", member.state.node));
            member.joined().await?;
        }
        self.lost = self.all_serve(say).await?;
        Ok(())
    }

    fn spawn(&self, plan: &Plan, node: &NodeId, dir: &Path) -> Result<Member, Fault> {
        let program = std::env::current_exe()?;
        let log = dir.join("log");
        let ready = ready_file(&log);
        let _ = std::fs::remove_file(&ready);
        let port = if node.as_str() == "n1" && is_free(DEBUG_PORT) { DEBUG_PORT } else { 0 };
        let mut command = Command::new(program);
        command.args(["node", "--until-stdin-ends", "--node", node.as_str()]);
        command.arg("--ready-file").arg(&ready).arg("--data").arg(dir);
        if plan.bench {
            command.arg("--bench");
        }
        if let Some(config) = &plan.config {
            command.arg("--config").arg(config);
        }
        if let Some(log) = &plan.log {
            command.env("SKALD_TELEMETRY__LOG", log);
        }
        if plan.config.is_none() && std::env::var_os(ROOTS).is_none() {
            // One machine, one person: wherever that person may write.
            command.env(ROOTS, "/");
        }
        command
            .env("SKALD_SERVER", self.urls().join(","))
            .env("SKALD_MONITORS", self.servers.monitors().join(","))
            .env("SKALD_CATALOG__DIR", &self.catalog)
            .env("SKALD_RUNTIME__DIR", runtime_dir(&plan.data))
            .env("SKALD_DEBUG__BIND", format!("127.0.0.1:{port}"))
            .env("SKALD_JOURNAL__REPLICAS", plan.servers.to_string())
            // Ctrl-C in the terminal is for us; we stop nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = command
            .spawn()
            .map_err(|error| Fault::new(format!("node {node} cannot be started")).why(error.to_string()))?;
        let pid = child.id().unwrap_or_default();
        Ok(Member { state: NodeState { node: node.clone(), pid, debug: None }, log, child })
    }

    /// Waits until every node says that it is ready. One that lost something says so, and will not be ready
    /// until somebody decides: that is answered.
    async fn all_serve(&self, say: &(dyn Fn(&str) + Send + Sync)) -> Result<Vec<String>, Fault> {
        let client = self.client("default").await?;
        // Nodes that have just joined do not all know each other yet.
        let ours = self.members.iter().map(|member| member.state.node.clone()).collect();
        let until = Instant::now() + JOIN;
        loop {
            let answers = client.query_expecting(&Query::Health, &ours).await.unwrap_or_default();
            let ready: Vec<_> = answers
                .iter()
                .filter(|answer| matches!(&answer.body, Body::Health(health) if health.ready))
                .map(|answer| &answer.node)
                .collect();
            if self.members.iter().all(|member| ready.contains(&&member.state.node)) {
                return Ok(Vec::new());
            }
            let lost = answers.iter().filter_map(|answer| match &answer.body {
                Body::Health(health) => Some(&health.lost),
                Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => None,
            });
            let lost: BTreeSet<String> = lost.flatten().cloned().collect();
            if answers.len() == self.members.len() && !lost.is_empty() {
                return Ok(lost.into_iter().collect());
            }
            if Instant::now() > until {
                let logs = self.members.iter().find(|member| !ready.contains(&&member.state.node));
                let mut fault = Fault::new(format!("only {} of {} nodes serve", ready.len(), self.members.len()));
                if let Some(member) = logs {
                    fault = fault.why(last_lines(&member.log));
                }
                return Err(fault.mend("run `skald doctor` beside it, or look into the log of the node"));
            }
            say(&format!("{} of {} nodes serve", ready.len(), self.members.len()));
            tokio::time::sleep(LOOK_EVERY * 4).await;
        }
    }

    /// A client of this cluster.
    pub(super) async fn client(&self, tenant: &str) -> Result<Client, Fault> {
        let name = |error: protocol::ids::BadName| Fault::usage(error.to_string());
        let (tenant, principal) = (Tenant::new(tenant).map_err(name)?, Principal::new("up").map_err(name)?);
        // A command that a killed node took with it is asked again soon.
        let timeout = Duration::from_secs(2);
        let settings = Settings { servers: self.urls(), timeout, ..Settings::new("", tenant, principal) };
        Ok(Client::connect(settings).await?)
    }

    /// Waits until a node or a server ended by itself; a node is taken off the list.
    pub(super) async fn something_ended(&mut self) -> Gone {
        let ended = async {
            loop {
                for (index, member) in self.members.iter_mut().enumerate() {
                    if let Ok(Some(status)) = member.child.try_wait() {
                        return (index, status.to_string());
                    }
                }
                tokio::time::sleep(LOOK_EVERY * 4).await;
            }
        };
        let (index, how) = tokio::select! {
            ended = ended => ended,
            how = self.servers.ended() => return Gone::Server(how),
        };
        Gone::Node(Box::new(self.members.remove(index)), how)
    }

    /// Starts servers again whose disk was full and is not any more; answers how many.
    pub(super) async fn heal(&mut self) -> usize {
        self.servers.heal().await
    }

    /// Kills a node at once, as a crash would.
    pub(super) fn kill(&self, node: &str) -> bool {
        let member = self.members.iter().find(|member| member.state.node.as_str() == node);
        member.is_some_and(|member| member.signal(Signal::KILL))
    }

    /// Stops nodes, then servers.
    pub(super) async fn stop(mut self, say: &(dyn Fn(&str) + Send + Sync)) {
        for member in &self.members {
            member.signal(Signal::TERM);
        }
        let until = Instant::now() + DRAIN;
        for member in &mut self.members {
            say(&format!("node {} hands its shards over", member.state.node));
            if tokio::time::timeout_at(until, member.child.wait()).await.is_err() {
                say(&format!("node {} takes too long and is killed", member.state.node));
                let _ = member.child.kill().await;
            }
        }
        say("stopping nats-server");
        self.servers.stop().await;
    }
}

/// What ended by itself.
pub(super) enum Gone {
    Node(Box<Member>, String),
    Server(String),
}

impl Member {
    /// Waits until the node has written where it is.
    async fn joined(&mut self) -> Result<(), Fault> {
        let ready = ready_file(&self.log);
        let until = Instant::now() + JOIN;
        loop {
            let written = std::fs::read(&ready).ok();
            if let Some(state) = written.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                self.state = state;
                return Ok(());
            }
            let node = &self.state.node;
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(
                    Fault::new(format!("node {node} ended while it started ({status})")).why(last_lines(&self.log))
                );
            }
            if Instant::now() > until {
                return Err(Fault::new(format!("node {node} did not join within {} s", JOIN.as_secs()))
                    .why(last_lines(&self.log)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn signal(&self, signal: Signal) -> bool {
        // The child is not waited for yet, so its id cannot belong to another process.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}

fn ready_file(log: &Path) -> PathBuf {
    log.with_file_name("ready.json")
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The end of a log, which says why.
pub(super) fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(12)..].join("\n");
    if tail.is_empty() { format!("{} is empty", log.display()) } else { format!("{} ends with\n{tail}", log.display()) }
}
