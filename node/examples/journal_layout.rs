//! Measures how the layout of shards on streams and the number of servers change the time of an
//! append, and prints a table.
//!
//! `cargo run --release -p skald --example journal_layout [seconds per cell]`
//!
//! Everything runs on this machine: three servers share its cores and its disk, so read the rows
//! for three servers as a comparison of layouts and measure again on three machines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use node::nats::{Bus, ConnectConfig, JetStreamJournal, JournalConfig, Replicas, connect};
use node::server::{Finder, Server, ServerCluster, ServerConfig};
use protocol::ShardId;
use supervisor::ports::{AppendError, Journal};

const SHARDS: u16 = 8;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(4.0), |it| it.parse())?;
    let cell = Duration::from_secs_f64(seconds);
    let program = Finder::new(None).find(|line| eprintln!("{line}")).await?.path;
    println!(
        "| servers | streams | 1 writer, 700 B: p50 / p99 (frames/s) | 8 writers, 16 KiB: p50 / p99 (frames/s) | undecided |"
    );
    println!("|---|---|---|---|---|");
    for replicas in [Replicas::One, Replicas::Three] {
        for streams in [1, 3, SHARDS] {
            let dir = tempfile::tempdir()?;
            let (_one, _three, urls) = if replicas == Replicas::One {
                let server = Server::start(&program, ServerConfig::new(dir.path())).await?;
                let urls = vec![server.url()];
                (Some(server), None, urls)
            } else {
                let servers = ServerCluster::start(&program, dir.path(), 3).await?;
                let urls = servers.urls();
                (None, Some(servers), urls)
            };
            let bus = connect(ConnectConfig::new(urls)).await?;
            let config =
                JournalConfig { shards: Some(SHARDS), streams: Some(streams), replicas, ..JournalConfig::default() };
            let journal = Arc::new(JetStreamJournal::open(&bus, &config).await?);
            measure(&journal, 1, 700, cell / 4).await;
            let one = measure(&journal, 1, 700, cell).await;
            let eight = measure(&journal, SHARDS, 16 * 1024, cell).await;
            println!("| {replicas} | {streams} | {one} | {eight} | {} |", one.undecided + eight.undecided);
            if replicas == Replicas::One && streams == 1 {
                raw(&bus, cell).await?;
            }
        }
    }
    Ok(())
}

/// The same publish without the journal, in the two ways the client library offers.
async fn raw(bus: &Bus, cell: Duration) -> anyhow::Result<()> {
    for way in ["jetstream.publish", "client.request"] {
        let begun = Instant::now();
        let mut times = vec![];
        while begun.elapsed() < cell {
            let at = Instant::now();
            let (subject, body) = ("skald.journal.7777", Bytes::from(vec![7; 700]));
            if way == "client.request" {
                bus.client.request(subject, body).await?;
            } else {
                bus.jetstream.publish(subject, body).await?.await?;
            }
            times.push(at.elapsed());
        }
        println!("| R1 {way} | 1 | {} | | |", Figures::of(times, cell, 0));
    }
    Ok(())
}

struct Figures {
    p50: Duration,
    p99: Duration,
    rate: f64,
    undecided: usize,
}

impl Figures {
    fn of(mut times: Vec<Duration>, within: Duration, undecided: usize) -> Self {
        times.sort();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        Self { p50: at(0.5), p99: at(0.99), rate: times.len() as f64 / within.as_secs_f64(), undecided }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |it: Duration| it.as_secs_f64() * 1e3;
        write!(f, "{:.2} / {:.2} ms ({:.0})", ms(self.p50), ms(self.p99), self.rate)
    }
}

/// Appends one frame after another on each of `writers` shards.
async fn measure(journal: &Arc<JetStreamJournal>, writers: u16, bytes: usize, within: Duration) -> Figures {
    let begun = Instant::now();
    let writers = (0..writers).map(ShardId).map(|shard| {
        let journal = Arc::clone(journal);
        tokio::spawn(async move {
            let frame = Bytes::from(vec![7; bytes]);
            let mut last = journal.last(shard).await.ok().flatten().map_or(0, |(at, _)| at);
            let (mut times, mut undecided) = (vec![], 0);
            while begun.elapsed() < within {
                let at = Instant::now();
                let id = format!("{shard}-{last}");
                last = loop {
                    match journal.append(shard, frame.clone(), last, &id).await {
                        Ok(at) => break at,
                        Err(AppendError::Undecided(_)) => undecided += 1,
                        Err(other) => panic!("{other}"),
                    }
                };
                times.push(at.elapsed());
            }
            (times, undecided)
        })
    });
    let (mut times, mut undecided) = (vec![], 0);
    for writer in writers.collect::<Vec<_>>() {
        let (more, also) = writer.await.expect("a writer");
        times.extend(more);
        undecided += also;
    }
    Figures::of(times, within, undecided)
}
