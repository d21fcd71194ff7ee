//! The nodes of a run, each a process on a host of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::net::Net;
use super::servers::Servers;
use super::tools::Tools;

/// Tells this program that it is a node.
pub const ROLE: &str = "STORY_ROLE";
/// Shards of the cluster: more than by default, so that each node has some to lose.
pub const SHARDS: u16 = 8;
/// How long a node may take to hand its shards over and end.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// What a node says when another wrote to its shard: its own write was refused.
const FENCED: &str = "fenced: another node owns the shard";
/// Lines of a log that are shown.
const LAST_LINES: usize = 12;

/// All of them.
#[derive(Debug)]
pub struct Nodes {
    net: Net,
    program: PathBuf,
    dir: PathBuf,
    servers: usize,
    faketime: Option<PathBuf>,
    nodes: Vec<Option<Child>>,
}

/// Sends a signal to a process that has not been waited for.
pub fn signal(process: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    Ok(kill_process(pid.context("the process has ended")?, signal)?)
}

impl Nodes {
    /// `count` nodes; none runs yet.
    pub fn new(net: &Net, dir: &Path, servers: usize, count: usize, tools: &Tools) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let nodes = (0..count).map(|_| None).collect();
        let faketime = tools.faketime.clone();
        Ok(Self { net: net.clone(), program, dir: dir.to_owned(), servers, faketime, nodes })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Its host, and its name.
    pub fn host(number: usize) -> String {
        format!("n{number}")
    }

    /// The one whose clock can be stepped.
    pub fn stepped(&self) -> usize {
        self.nodes.len() - 1
    }

    fn clock(&self) -> PathBuf {
        self.dir.join(Self::host(self.stepped())).join("clock")
    }

    /// Sets that clock off by so many seconds; 0 is the true time.
    pub fn step(&self, seconds: i64) -> anyhow::Result<()> {
        // Put into place whole: a process reads it at any time.
        let (clock, draft) = (self.clock(), self.clock().with_extension("draft"));
        std::fs::write(&draft, format!("{seconds:+}s\n"))?;
        Ok(std::fs::rename(draft, clock)?)
    }

    /// Starts one.
    pub fn start(&mut self, number: usize) -> anyhow::Result<()> {
        let name = Self::host(number);
        let home = self.dir.join(&name);
        std::fs::create_dir_all(&home)?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(home.join("log"))?;
        let list = |of: fn(usize) -> String| (0..self.servers).map(of).collect::<Vec<_>>().join(",");
        let mut command = self.net.command(&name, &self.program);
        command
            .args(["node", "--until-stdin-ends", "--node", &name])
            .arg("--data")
            .arg(&home)
            .env(ROLE, "node")
            .env_remove("SKALD_SERVER")
            .env("SKALD_SERVERS", list(Servers::url))
            .env("SKALD_MONITORS", list(Servers::monitor))
            .env("SKALD_SHARDS", SHARDS.to_string())
            .env("SKALD_JOURNAL__REPLICAS", if self.servers > 1 { "3" } else { "1" })
            .env("SKALD_DEBUG__BIND", "127.0.0.1:0")
            .env("SKALD_SAGAS__SNAPSHOT_EVERY_MS", "2000")
            .env("SKALD_TELEMETRY__FORMAT", "human")
            .env("STORY_LEDGER", self.dir.join("ledger"));
        if let (true, Some(library)) = (number == self.stepped(), &self.faketime) {
            if !self.clock().exists() {
                self.step(0)?;
            }
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock())
                .env("FAKETIME_CACHE_DURATION", "1")
                // The wall clock jumps, the steady clock does not: as when an administrator sets it.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        self.nodes[number] = Some(command.spawn().with_context(|| format!("starting node {name}"))?);
        Ok(())
    }

    /// Kills some at once: `SIGKILL`.
    pub async fn kill(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for number in which {
            if let Some(process) = &mut self.nodes[*number] {
                process.start_kill()?;
            }
        }
        for number in which {
            if let Some(mut process) = self.nodes[*number].take() {
                process.wait().await?;
            }
        }
        Ok(())
    }

    /// Lets one stand still, or go on.
    pub fn freeze(&self, number: usize, still: bool) -> anyhow::Result<()> {
        let process = self.nodes[number].as_ref().context("the node does not run")?;
        signal(process, if still { Signal::STOP } else { Signal::CONT })
    }

    /// One leaves in order. Answers what was wrong with how it left.
    pub async fn drain(&mut self, number: usize) -> anyhow::Result<Option<String>> {
        let Some(mut process) = self.nodes[number].take() else { return Ok(None) };
        // Waiting closes its input, which would be a second word to go.
        let _input = process.stdin.take();
        signal(&process, Signal::TERM)?;
        let name = Self::host(number);
        match tokio::time::timeout(DRAIN_WITHIN, process.wait()).await {
            Ok(status) => {
                let status = status?;
                Ok((!status.success()).then(|| format!("{name} left with {status}:\n{}", self.last_words(number))))
            }
            Err(_) => {
                process.kill().await?;
                Ok(Some(format!("{name} did not leave within {DRAIN_WITHIN:?}:\n{}", self.last_words(number))))
            }
        }
    }

    /// Nodes that ended although nobody ended them, started again as whoever runs services would;
    /// each with what it said last.
    pub fn revive(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ended = Vec::new();
        for number in 0..self.nodes.len() {
            let Some(process) = &mut self.nodes[number] else { continue };
            if let Some(status) = process.try_wait()? {
                ended.push(format!("node n{number} ended by itself with {status}:\n{}", self.last_words(number)));
                self.start(number)?;
            }
        }
        Ok(ended)
    }

    /// How often a node was told that its write was refused because another owns the shard.
    pub fn fenced(&self) -> u64 {
        let logs = (0..self.nodes.len()).map(|number| self.log(number));
        logs.map(|log| log.lines().filter(|line| line.contains(FENCED)).count() as u64).sum()
    }

    /// Panics in the logs.
    pub fn panics(&self) -> Vec<String> {
        let logs = (0..self.nodes.len()).map(|number| (number, self.log(number)));
        let lines = |(number, log): (usize, String)| {
            let panics = log.lines().filter(|line| line.contains("panicked at"));
            panics.map(|line| format!("n{number}: {line}")).collect::<Vec<_>>()
        };
        logs.flat_map(lines).collect()
    }

    fn log(&self, number: usize) -> String {
        let bytes = std::fs::read(self.dir.join(Self::host(number)).join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn last_words(&self, number: usize) -> String {
        let log = self.log(number);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}
