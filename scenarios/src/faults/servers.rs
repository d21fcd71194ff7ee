//! The nats-servers of a run, each on a host of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::process::Child;

use super::net::{Net, address};
use super::read::JOURNAL_STREAMS;
use super::tools::run;
use crate::dice::Dice;

/// The cluster's metadata, among the streams.
const META: &str = "metadata";
/// Where clients connect, where servers meet and where each says how it does.
const PORTS: (u16, u16, u16) = (4222, 6222, 8222);
/// How long a server may take until it is healthy: it reads its store and finds a leader.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long an orderly stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How long one question may take.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The size of the small disk while it is not full; only what is used takes memory.
const DISK: &str = "size=8g";
/// How often it is tried to make it as small as what is on it, while that grows.
const FILL_TRIES_MAX: u32 = 20;
/// What is left of it when it is full, in bytes.
const LEFT: u64 = 256 * 1024;

/// All of them.
#[derive(Debug)]
pub struct Servers {
    net: Net,
    program: PathBuf,
    dir: PathBuf,
    servers: Vec<Option<Child>>,
    http: reqwest::Client,
}

impl Servers {
    /// Writes their settings; none runs yet.
    pub fn new(net: &Net, program: &Path, dir: &Path, count: usize) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(ASK_WITHIN).build()?;
        let servers = (0..count).map(|_| None).collect();
        let this = Self { net: net.clone(), program: program.to_owned(), dir: dir.to_owned(), servers, http };
        for number in 0..count {
            std::fs::create_dir_all(this.store(number))?;
            std::fs::write(this.config(number), this.render(number))?;
        }
        Ok(this)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Its host.
    pub fn host(number: usize) -> String {
        format!("s{number}")
    }

    /// Where clients reach one.
    pub fn url(number: usize) -> String {
        format!("nats://{}:{}", address(&Self::host(number)), PORTS.0)
    }

    /// Where it can be asked how it does.
    pub fn monitor(number: usize) -> String {
        format!("http://{}:{}", address(&Self::host(number)), PORTS.2)
    }

    /// The one whose disk can be filled.
    pub fn small(&self) -> usize {
        self.servers.len() - 1
    }

    fn store(&self, number: usize) -> PathBuf {
        self.dir.join(Self::host(number)).join("store")
    }

    fn config(&self, number: usize) -> PathBuf {
        self.dir.join(Self::host(number)).join("nats-server.conf")
    }

    fn render(&self, number: usize) -> String {
        let host = Self::host(number);
        let (at, store) = (address(&host), self.store(number));
        let log = self.dir.join(&host).join("log");
        let (clients, peers, monitor) = PORTS;
        let mut text = format!(
            "server_name: {host}\nhost: \"{at}\"\nport: {clients}\nhttp: \"{at}:{monitor}\"\n\
             max_payload: 8388608\nmax_pending: 134217728\nlog_file: {log:?}\n\
             jetstream {{\n  store_dir: {store:?}\n  sync_interval: always\n}}\n"
        );
        if self.servers.len() > 1 {
            let routes = (0..self.servers.len()).filter(|other| *other != number).map(Self::host);
            let routes: Vec<_> = routes.map(|it| format!("\"nats-route://{}:{peers}\"", address(&it))).collect();
            text += &format!(
                "cluster {{\n  name: skald\n  listen: \"{at}:{peers}\"\n  routes: [{}]\n}}\n",
                routes.join(", ")
            );
        }
        text
    }

    /// Gives the small one a disk of its own.
    pub fn mount(&self) -> anyhow::Result<()> {
        run("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs", &self.store(self.small()).to_string_lossy()])
    }

    /// Fills that disk: nothing more can be written to it.
    pub fn fill(&self) -> anyhow::Result<()> {
        let store = self.store(self.small());
        let mut tries = 0;
        loop {
            let stat = rustix::fs::statvfs(&store)?;
            let size = (stat.f_blocks - stat.f_bfree) * stat.f_frsize + LEFT;
            match run("mount", &["-o", &format!("remount,size={size}"), &store.to_string_lossy()]) {
                // A disk cannot become smaller than what was written since we looked.
                Err(_) if tries < FILL_TRIES_MAX => tries += 1,
                done => return done,
            }
        }
    }

    /// Frees it.
    pub fn free(&self) -> anyhow::Result<()> {
        run("mount", &["-o", &format!("remount,{DISK}"), &self.store(self.small()).to_string_lossy()])
    }

    /// Flips one bit in the last block that a server, which is down, keeps of `stream`. Says where.
    pub fn flip(&self, number: usize, stream: &str, dice: &mut Dice) -> anyhow::Result<String> {
        let blocks = self.store(number).join("jetstream/$G/streams").join(stream).join("msgs");
        let number_of = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let all = std::fs::read_dir(&blocks).with_context(|| format!("reading {}", blocks.display()))?;
        let all = all.filter_map(|entry| Some(entry.ok()?.path()));
        let last = all.filter(|path| path.extension().is_some_and(|it| it == "blk")).max_by_key(number_of);
        let last = last.with_context(|| format!("{} holds no block", blocks.display()))?;
        let mut bytes = std::fs::read(&last)?;
        anyhow::ensure!(!bytes.is_empty(), "{} is empty", last.display());
        let at = usize::try_from(dice.roll(bytes.len() as u64))?;
        bytes[at] ^= 1 << dice.roll(8);
        std::fs::write(&last, bytes)?;
        Ok(format!("flipped a bit of byte {at} of {}", last.display()))
    }

    /// Removes everything that a server, which is down, keeps: its disk is replaced.
    pub fn wipe(&self, number: usize) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(self.store(number).join("jetstream"))?)
    }

    /// Starts one.
    pub fn start(&mut self, number: usize) -> anyhow::Result<()> {
        let said = self.dir.join(Self::host(number)).join("stderr");
        let said = std::fs::OpenOptions::new().create(true).append(true).open(said)?;
        let mut command = self.net.command(&Self::host(number), &self.program);
        command.arg("--config").arg(self.config(number));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).kill_on_drop(true);
        self.servers[number] = Some(command.spawn().with_context(|| format!("starting server s{number}"))?);
        Ok(())
    }

    /// Kills some at once: `SIGKILL`.
    pub async fn kill(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for number in which {
            if let Some(process) = &mut self.servers[*number] {
                process.start_kill()?;
            }
        }
        for number in which {
            if let Some(mut process) = self.servers[*number].take() {
                process.wait().await?;
            }
        }
        Ok(())
    }

    /// Stops one in order; kills it when that takes too long.
    pub async fn stop(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(mut process) = self.servers[number].take() else { return Ok(()) };
        super::nodes::signal(&process, rustix::process::Signal::TERM)?;
        if tokio::time::timeout(STOP_WITHIN, process.wait()).await.is_err() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Servers that ended although nobody ended them, started again; each with what it said last.
    pub fn revive(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ended = Vec::new();
        for number in 0..self.servers.len() {
            let Some(process) = &mut self.servers[number] else { continue };
            if let Some(status) = process.try_wait()? {
                ended.push(format!("server s{number} ended by itself with {status}"));
                self.start(number)?;
            }
        }
        Ok(ended)
    }

    /// Waits until every one that runs is healthy, with every stream as far as its leader; says which
    /// is not when it takes too long.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let begun = tokio::time::Instant::now();
        for number in (0..self.servers.len()).filter(|number| self.servers[*number].is_some()) {
            let url = format!("{}/healthz", Self::monitor(number));
            loop {
                let answer = self.http.get(&url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                let log = self.dir.join(Self::host(number)).join("log");
                anyhow::ensure!(
                    begun.elapsed() < READY_WITHIN,
                    "server s{number} is not healthy within {READY_WITHIN:?}; see {}",
                    log.display()
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Who leads each stream, and the cluster's metadata as [`META`].
    pub async fn leaders(&self) -> BTreeMap<String, String> {
        for number in 0..self.servers.len() {
            let url = format!("{}/jsz?streams=true", Self::monitor(number));
            let Ok(answer) = self.http.get(url).send().await else { continue };
            let Ok(said) = answer.json::<Value>().await else { continue };
            let accounts = said["account_details"].as_array().into_iter().flatten();
            let streams = accounts.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
            let led = streams.map(|stream| (&stream["name"], &stream["cluster"]["leader"]));
            let meta = Value::from(META);
            let led = led.chain([(&meta, &said["meta_cluster"]["leader"])]);
            let leaders: BTreeMap<_, _> =
                led.filter_map(|(what, who)| Some((what.as_str()?.to_owned(), who.as_str()?.to_owned()))).collect();
            if !leaders.is_empty() {
                return leaders;
            }
        }
        BTreeMap::new()
    }

    /// The server that leads most streams of the journal, or, on another `toss`, the cluster's metadata.
    pub async fn leader(&self, toss: u64) -> Option<usize> {
        let leaders = self.leaders().await;
        let mut led = BTreeMap::<_, usize>::new();
        for (_, server) in leaders.iter().filter(|(what, _)| what.starts_with(JOURNAL_STREAMS)) {
            *led.entry(server).or_default() += 1;
        }
        let journal = led.into_iter().max_by_key(|(_, streams)| *streams).map(|(server, _)| server);
        let meta = leaders.get(META);
        let name = if toss == 0 { meta.or(journal) } else { journal.or(meta) };
        name?.strip_prefix('s')?.parse().ok()
    }
}
