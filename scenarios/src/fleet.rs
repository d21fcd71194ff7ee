//! Nodes as processes of their own, so that they can be killed as a machine is: at any instruction,
//! without a word.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use node::server::Server;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cluster::server;
use crate::faults::nodes::signal;
use crate::ledger::Ledger;

/// Words of the environment that are for the test and no settings of a node.
const OURS: [&str; 2] = ["SKALD_KILLS", "SKALD_SEED"];

/// More variables for the node of this number, given the directory in which everything is.
type Variables = Box<dyn Fn(&Path, usize) -> Vec<(&'static str, String)> + Send + Sync>;

/// A server and node processes, gone when dropped.
pub struct Fleet {
    /// The server.
    pub server: Server,
    /// What really happened.
    pub ledger: Ledger,
    program: PathBuf,
    variables: Variables,
    nodes: Vec<Child>,
    dir: TempDir,
}

impl Fleet {
    /// Starts a server and `nodes` processes of `program`.
    pub async fn start(program: &str, nodes: usize) -> anyhow::Result<Self> {
        Self::start_with(program, nodes, |_, _| Vec::new()).await
    }

    /// The same, with more settings as variables for each node.
    pub async fn start_with(
        program: &str,
        nodes: usize,
        variables: impl Fn(&Path, usize) -> Vec<(&'static str, String)> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = server(dir.path(), |_| {}).await?;
        let ledger = Ledger::open(&dir.path().join("ledger"))?;
        let variables = Box::new(variables);
        let mut fleet = Self { server, ledger, program: program.into(), variables, nodes: Vec::new(), dir };
        for number in 0..nodes {
            let node = fleet.spawn(number)?;
            fleet.nodes.push(node);
        }
        Ok(fleet)
    }

    fn spawn(&self, number: usize) -> anyhow::Result<Child> {
        let name = format!("n{number}");
        let home = self.dir.path().join(&name);
        std::fs::create_dir_all(&home)?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(home.join("log"))?;
        let mut command = Command::new(&self.program);
        for word in OURS {
            command.env_remove(word);
        }
        command
            .args(["node", "--until-stdin-ends", "--node", &name])
            .arg("--data")
            .arg(&home)
            .env("SKALD_SERVER", self.server.url())
            .env("SKALD_MONITORS", self.server.monitor_url())
            .env("SKALD_DEBUG__BIND", "127.0.0.1:0")
            .env("SKALD_SAGAS__SNAPSHOT_EVERY_MS", "500")
            .env("STORY_LEDGER", self.dir.path().join("ledger"))
            .envs((self.variables)(self.dir.path(), number))
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        command.spawn().with_context(|| format!("starting {name}"))
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Kills a node: `SIGKILL`.
    pub async fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        Ok(self.nodes[number].kill().await?)
    }

    /// Lets a node stand still, or go on.
    pub fn freeze(&self, number: usize, still: bool) -> anyhow::Result<()> {
        signal(&self.nodes[number], if still { Signal::STOP } else { Signal::CONT })
    }

    /// Starts a node that was killed.
    pub fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes[number] = self.spawn(number)?;
        Ok(())
    }

    /// Nodes that ended although nobody killed them, with the end of their logs.
    pub fn ended_by_themselves(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for number in 0..self.nodes.len() {
            if let Ok(Some(status)) = self.nodes[number].try_wait() {
                ended.push(format!("n{number} ended with {status}:\n{}", self.log(number)));
            }
        }
        ended
    }

    /// The end of a node's log.
    pub fn log(&self, number: usize) -> String {
        let path = self.dir.path().join(format!("n{number}/log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the directory for somebody to look into.
    pub fn keep(mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }
}
