//! The cluster of a run: servers, nodes, the network between them, and clients.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use node::client::{Client, Settings};
use protocol::command::Deploy;
use protocol::query::{Answer, Body, HealthView, Query};
use protocol::{Principal, Tenant};
use tokio::time::Instant;

use super::net::Net;
use super::nodes::{Nodes, SHARDS};
use super::servers::Servers;
use super::strict::Strict;
use super::timeline::Timeline;
use super::tools::Tools;
use crate::definitions;
use crate::ledger::Ledger;
use crate::load::{Keeping, TENANT};

/// An answer that was killed with its node is not waited for as long as a person would.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long all may take until everything is owned and everybody is ready.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// How long every command must be answered promptly until the cluster counts as calm.
const CALM: Duration = Duration::from_secs(3);
/// What prompt is.
const PROMPT: Duration = Duration::from_millis(500);
/// Sagas that must have ended until the load counts as going on again.
const GOING_ON: u64 = 5;
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nodes of a run.
pub const NODES: usize = 3;

/// All of it.
pub struct Cluster {
    /// The network.
    pub net: Net,
    /// The servers.
    pub servers: Servers,
    /// The nodes.
    pub nodes: Nodes,
    /// One client for each server, connected to it first.
    pub clients: Vec<Client>,
    /// What really happened.
    pub ledger: Ledger,
    /// What was done when.
    pub timeline: Timeline,
    /// Nodes and servers that ended by themselves, with what they said last.
    pub gave_up: Vec<String>,
}

impl Cluster {
    /// Starts everything and waits until it is ready.
    pub async fn start(net: Net, program: &Path, dir: &Path, servers: usize, tools: &Tools) -> anyhow::Result<Self> {
        let timeline = Timeline::open(&dir.join("timeline"))?;
        let mut all = Servers::new(&net, program, dir, servers)?;
        if tools.mount && servers > 1 {
            all.mount()?;
        }
        for number in 0..servers {
            all.start(number)?;
        }
        all.ready().await?;
        let mut nodes = Nodes::new(&net, dir, servers, NODES, tools)?;
        for number in 0..NODES {
            nodes.start(number)?;
        }
        let mut clients = Vec::new();
        for number in 0..servers {
            clients.push(client(number, TENANT).await?);
        }
        let ledger = Ledger::open(&dir.join("ledger"))?;
        let mut cluster = Self { net, servers: all, nodes, clients, ledger, timeline, gave_up: Vec::new() };
        cluster.settled().await.context("the cluster did not come up")?;
        for source in definitions::ALL {
            cluster.clients[0].deploy(&Deploy { source: (*source).into(), file: None }).await?;
        }
        Ok(cluster)
    }

    /// What each node says of itself.
    async fn health(&self) -> Vec<HealthView> {
        for client in &self.clients {
            let answers = client.query(&Query::Health).await.unwrap_or_default();
            let health: Vec<_> = answers
                .into_iter()
                .filter_map(|answer| match answer.body {
                    Body::Health(health) => Some(*health),
                    Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => None,
                })
                .collect();
            if !health.is_empty() {
                return health;
            }
        }
        Vec::new()
    }

    /// Nodes that own something, whom a fault of a node hits; all of them when nobody answers.
    pub async fn owners(&self) -> Vec<usize> {
        let owns = |answer: &Answer| match &answer.body {
            Body::Health(health) => !health.shards.is_empty(),
            Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => false,
        };
        let answers = self.clients[0].query(&Query::Health).await.unwrap_or_default();
        let owners: Vec<_> =
            answers.iter().filter(|answer| owns(answer)).map(|answer| answer.node.to_string()).collect();
        let owners: Vec<_> = (0..NODES).filter(|number| owners.contains(&Nodes::host(*number))).collect();
        if owners.is_empty() { (0..NODES).collect() } else { owners }
    }

    /// Waits until every server is healthy, every node is ready and every shard has one owner.
    pub async fn settled(&mut self) -> anyhow::Result<()> {
        self.servers.ready().await?;
        let begun = Instant::now();
        loop {
            self.revive()?;
            let health = self.health().await;
            let ready = health.len() == NODES && health.iter().all(|node| node.ready && node.members.len() == NODES);
            if ready && all_owned(&health) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < SETTLED_WITHIN, "not settled within {SETTLED_WITHIN:?}: {health:#?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the faults before are over for good: servers hold elections for a while after they
    /// all came back, and a restart in order is judged by itself.
    pub async fn calm(&mut self, number: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        for look in 0.. {
            self.settled().await?;
            let strict = Strict::begin(&self.clients[0], &format!("calm-{number}-{look}"));
            tokio::time::sleep(CALM).await;
            let figures = strict.end().await;
            if figures.failed.is_empty() && figures.took.iter().all(|took| *took < PROMPT) {
                break;
            }
            anyhow::ensure!(begun.elapsed() < SETTLED_WITHIN, "not calm within {SETTLED_WITHIN:?}: {figures:?}");
        }
        Ok(())
    }

    /// Waits until every shard has an owner and sagas end again; says what is wrong when that takes
    /// too long.
    pub async fn goes_on(&mut self, load: &Keeping) -> anyhow::Result<Result<(), String>> {
        let (begun, before) = (Instant::now(), load.ended());
        loop {
            self.revive()?;
            let health = self.health().await;
            let ended = load.ended() - before;
            if all_owned(&health) && ended >= GOING_ON {
                return Ok(Ok(()));
            }
            if begun.elapsed() > SETTLED_WITHIN {
                return Ok(Err(format!("only {ended} sagas ended within {SETTLED_WITHIN:?}; nodes say {health:?}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts what ended by itself, and keeps what it said.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        let mut ended = self.nodes.revive()?;
        ended.extend(self.servers.revive()?);
        for line in &ended {
            self.timeline.note(line);
        }
        self.gave_up.extend(ended);
        Ok(())
    }
}

fn all_owned(health: &[HealthView]) -> bool {
    let mut owned: Vec<u16> = health.iter().flat_map(|node| node.shards.iter().copied()).collect();
    owned.sort_unstable();
    owned.into_iter().eq(0..SHARDS)
}

/// A client of `tenant` that knows server `number` first and finds the others by itself.
pub async fn client(number: usize, tenant: &str) -> anyhow::Result<Client> {
    let settings = Settings::new(Servers::url(number), Tenant::new(tenant)?, Principal::new("ann")?);
    Ok(Client::connect(Settings { timeout: ANSWER_WITHIN, ..settings }).await?)
}
