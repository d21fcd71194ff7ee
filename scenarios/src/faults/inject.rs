//! Makes one fault, holds it as long as the dice say, and mends it.

use std::time::Duration;

use super::cluster::{Cluster, NODES};
use super::kinds::Kind;
use super::nodes::Nodes;
use super::progress::{Fault, Victim};
use super::servers::Servers;
use super::strict::{Figures, Strict};
use crate::dice::Dice;

/// How far a stepped clock is off, in seconds.
const STEP: i64 = 20;
/// How long a stepped clock stays so.
const STEPPED: Duration = Duration::from_secs(2);
/// How long the network is bad.
const BAD: Duration = Duration::from_secs(3);
/// How long the disk stays full.
const FULL: Duration = Duration::from_secs(3);

/// Streams in which a bit flips: one of the journal, and what takeovers begin with.
const FLIPPED: [&str; 2] = ["SKALD_JOURNAL_0", "KV_skald_snapshots"];
/// How often the deletion of a stream is tried; each try takes some seconds at most.
const DELETE_TRIES: u32 = 10;
/// How long a damaged server goes on.
const FLIPPED_FOR: Duration = Duration::from_secs(3);
/// Buckets that nodes make again from what they know.
const DELETED: [&str; 3] = ["KV_skald_cluster", "KV_skald_definitions", "KV_skald_snapshots"];

/// What was done.
#[derive(Default)]
pub struct Done {
    /// The faults; several for what is done to one after another.
    pub faults: Vec<Fault>,
    /// What a strict client saw meanwhile.
    pub strict: Figures,
    /// What is wrong, in sentences.
    pub wrong: Vec<String>,
}

/// Between nothing and so many milliseconds.
fn pause(dice: &mut Dice, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(from_ms + dice.roll(to_ms - from_ms))
}

fn one_of(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.roll(count as u64)).unwrap_or(0)
}

impl Cluster {
    /// Makes one fault of `kind` and mends it; `number` is its place in the run.
    pub async fn inject(&mut self, kind: Kind, number: usize, dice: &mut Dice) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let owners = self.owners().await;
        let node = owners[one_of(dice, owners.len())];
        let server = one_of(dice, self.servers.len());
        match kind {
            Kind::KillNode => {
                self.nodes.kill(&[node]).await?;
                done.faults.push(self.fault(kind, Some(node)));
                tokio::time::sleep(pause(dice, 0, 3_000)).await;
                self.nodes.start(node)?;
            }
            Kind::KillServer => self.kill_server(kind, server, dice, &mut done).await?,
            Kind::KillLeader => {
                let leader = self.servers.leader(dice.roll(3)).await.unwrap_or(server);
                self.kill_server(kind, leader, dice, &mut done).await?;
            }
            Kind::KillServers | Kind::KillEverything => {
                let servers: Vec<_> = (0..self.servers.len()).collect();
                let nodes: Vec<_> = (0..NODES).filter(|_| kind == Kind::KillEverything).collect();
                let (servers_gone, nodes_gone) = tokio::join!(self.servers.kill(&servers), self.nodes.kill(&nodes));
                servers_gone?;
                nodes_gone?;
                done.faults.push(self.fault(kind, None));
                tokio::time::sleep(pause(dice, 0, 3_000)).await;
                for server in servers {
                    self.servers.start(server)?;
                }
                for node in nodes {
                    self.nodes.start(node)?;
                }
            }
            Kind::FreezeNode => {
                self.nodes.freeze(node, true)?;
                done.faults.push(self.fault(kind, Some(node)));
                tokio::time::sleep(pause(dice, 2_000, 6_000)).await;
                self.nodes.freeze(node, false)?;
            }
            Kind::CutNode => {
                for server in (0..self.servers.len()).map(Servers::host) {
                    self.net.deafen(&Nodes::host(node), &server)?;
                    self.net.deafen(&server, &Nodes::host(node))?;
                }
                done.faults.push(self.fault(kind, Some(node)));
                tokio::time::sleep(pause(dice, 2_000, 6_000)).await;
            }
            Kind::CutServer => {
                self.note_leaders().await;
                self.timeline.note(&format!("cut off s{server}"));
                for other in (0..self.servers.len()).filter(|other| *other != server).map(Servers::host) {
                    self.net.deafen(&Servers::host(server), &other)?;
                    self.net.deafen(&other, &Servers::host(server))?;
                }
                done.faults.push(self.fault(kind, None));
                tokio::time::sleep(pause(dice, 4_000, 8_000)).await;
            }
            Kind::OneWay => {
                let deaf = dice.roll(2) == 0;
                for server in (0..self.servers.len()).map(Servers::host) {
                    let node = Nodes::host(node);
                    let (to, from) = if deaf { (node, server) } else { (server, node) };
                    self.net.deafen(&to, &from)?;
                }
                done.faults.push(self.fault(kind, Some(node)));
                tokio::time::sleep(pause(dice, 2_000, 6_000)).await;
            }
            Kind::Lossy => {
                for host in [Nodes::host(node), Servers::host(server)] {
                    self.net.lossy(&host)?;
                }
                done.faults.push(self.fault(kind, None));
                tokio::time::sleep(BAD).await;
            }
            Kind::Slow => {
                let hosts = [Nodes::host(node), Servers::host(server)];
                for host in &hosts {
                    self.net.slow(host, "100ms", "10%")?;
                }
                done.faults.push(self.fault(kind, None));
                tokio::time::sleep(BAD).await;
                for host in &hosts {
                    self.net.fast(host)?;
                }
            }
            Kind::FullDisk => {
                self.servers.fill()?;
                done.faults.push(self.fault(kind, None));
                tokio::time::sleep(FULL).await;
                self.servers.free()?;
                // A server switches its store off when its disk is full, until it is started again.
                let small = self.servers.small();
                self.servers.stop(small).await?;
                self.servers.start(small)?;
            }
            Kind::FlipBit => {
                let stream = FLIPPED[one_of(dice, FLIPPED.len())];
                self.servers.kill(&[server]).await?;
                let what = self.servers.flip(server, stream, dice)?;
                self.timeline.note(&what);
                self.servers.start(server)?;
                done.faults.push(self.fault(kind, None));
                tokio::time::sleep(FLIPPED_FOR).await;
                // What is damaged is thrown away as a whole; the others have it.
                self.servers.kill(&[server]).await?;
                self.servers.wipe(server)?;
                self.servers.start(server)?;
                self.servers.ready().await?;
            }
            Kind::DeleteStream => {
                let stream = DELETED[one_of(dice, DELETED.len())];
                self.delete(stream).await?;
                self.timeline.note(&format!("deleted {stream}"));
                done.faults.push(self.fault(kind, None));
                tokio::time::sleep(pause(dice, 0, 3_000)).await;
            }
            Kind::Clock => {
                for offset in [STEP, -STEP, 0] {
                    self.nodes.step(offset)?;
                    done.faults.push(self.fault(kind, None));
                    tokio::time::sleep(STEPPED).await;
                }
            }
            Kind::RollNodes => self.roll_nodes(number, &mut done).await?,
            Kind::RollServers => self.roll_servers(number, &mut done).await?,
        }
        self.net.heal()?;
        self.timeline.note(&format!("{kind} is mended"));
        Ok(done)
    }

    /// Deletes a stream, as soon as the servers do that: after some faults they still look for a leader.
    async fn delete(&self, stream: &str) -> anyhow::Result<()> {
        let jetstream = async_nats::jetstream::new(self.clients[0].nats().clone());
        for _ in 0..DELETE_TRIES {
            match jetstream.delete_stream(stream).await {
                Ok(_) => return Ok(()),
                // A try that was not heard of had done it.
                Err(error) if error.to_string().contains("not found") => return Ok(()),
                Err(error) => self.timeline.note(&format!("{stream} could not be deleted yet: {error}")),
            };
        }
        anyhow::bail!("{stream} could not be deleted in {DELETE_TRIES} tries")
    }

    fn fault(&self, kind: Kind, node: Option<usize>) -> Fault {
        let victim = node.map_or(Victim::Everybody, |node| Victim::Node(Nodes::host(node)));
        let at = self.timeline.note(&format!("{kind} {victim:?}"));
        Fault { kind, at, victim }
    }

    /// Notes which server leads what: the time to first progress depends on whether the victim led.
    async fn note_leaders(&self) {
        let leaders = self.servers.leaders().await;
        let leaders: Vec<_> = leaders.iter().map(|(what, server)| format!("{what} {server}")).collect();
        self.timeline.note(&format!("leaders: {}", leaders.join(", ")));
    }

    async fn kill_server(&mut self, kind: Kind, server: usize, dice: &mut Dice, done: &mut Done) -> anyhow::Result<()> {
        self.note_leaders().await;
        self.servers.kill(&[server]).await?;
        self.timeline.note(&format!("killed s{server}"));
        done.faults.push(self.fault(kind, None));
        tokio::time::sleep(pause(dice, 0, 4_000)).await;
        self.servers.start(server)
    }

    async fn roll_nodes(&mut self, number: usize, done: &mut Done) -> anyhow::Result<()> {
        self.calm(number).await?;
        let strict = Strict::begin(&self.clients[0], &format!("strict-{number}"));
        for node in 0..NODES {
            done.faults.push(self.fault(Kind::RollNodes, Some(node)));
            done.wrong.extend(self.nodes.drain(node).await?);
            self.timeline.note(&format!("n{node} has left"));
            self.nodes.start(node)?;
            self.settled().await?;
        }
        let figures = strict.end().await;
        done.wrong
            .extend(figures.failed.iter().map(|failed| format!("a command failed while nodes restarted: {failed}")));
        done.strict = figures;
        Ok(())
    }

    async fn roll_servers(&mut self, number: usize, done: &mut Done) -> anyhow::Result<()> {
        self.calm(number).await?;
        let strict = Strict::begin(&self.clients[0], &format!("strict-{number}"));
        for server in 0..self.servers.len() {
            done.faults.push(self.fault(Kind::RollServers, None));
            self.servers.stop(server).await?;
            self.timeline.note(&format!("s{server} has stopped"));
            self.servers.start(server)?;
            self.settled().await?;
        }
        // A connection ends with its server: what was under way on it fails, and is only counted.
        done.strict = strict.end().await;
        Ok(())
    }
}
