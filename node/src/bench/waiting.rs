//! What a saga costs that waits for a signal: memory, and no CPU.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use protocol::command::{Signal, Wait};
use protocol::query::{Body, Query};
use protocol::{SagaKey, Value};

use super::drive::{Keys, start};
use super::figures::Figures;
use super::{Stage, process, work};
use crate::client::Client;

/// How many wait.
pub const COUNTS: [usize; 2] = [10_000, 100_000];
/// Starts on their way at once.
const STARTERS: usize = 256;
/// How long CPU is watched: longer than the pause between two sweeps, which write snapshots and
/// free what they wrote.
const WATCH: Duration = Duration::from_secs(12);
/// Below this share of one CPU the node counts as quiet: heartbeats and leases go on.
const QUIET_PERCENT: f64 = 3.0;
/// How long it may take until all sleep and their snapshots are written: every one is synced.
const SETTLE: Duration = Duration::from_secs(240);

/// Measures memory and CPU with every count of waiting sagas, the later ones on top of the earlier.
pub async fn waiting(stage: &Stage, figures: &mut Figures, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let client = stage.clients.first().context("no client")?;
    let (_, idle) = quiet(stage).await?;
    let keys = Keys::new();
    let mut started = 0;
    figures.set("waiting.idle_node_bytes", idle as f64);
    for count in COUNTS {
        say(&format!("starting {} sagas that will wait", count - started));
        let begun = Instant::now();
        let some = start_many(stage, &keys, count - started).await?;
        let rate = (count - started) as f64 / begun.elapsed().as_secs_f64();
        started = count;
        all_asleep(client, count).await?;
        all_written(client).await?;
        say(&format!("{count} sleep after {:.1} s; waiting until all is quiet", begun.elapsed().as_secs_f64()));
        let (percent, now) = quiet(stage).await?;
        let bytes = now.saturating_sub(idle) as f64;
        let mut set = |name: &str, figure: f64| figures.set(&format!("waiting.{count}.{name}"), figure);
        set("started_per_s", rate.round());
        set("settled_s", begun.elapsed().as_secs_f64());
        set("bytes", bytes);
        set("bytes_per_saga", (bytes / count as f64).round());
        set("idle_cpu_percent", percent);
        set("wake_us", wake(client, &some).await?);
        say(&format!("{count} waiting: {:.1} MB above idle, {percent:.1} % CPU", bytes / 1e6));
        // The one that was woken has ended; another takes its place.
        start_many(stage, &keys, 1).await?;
    }
    Ok(())
}

/// Starts so many, and answers the last one's key.
async fn start_many(stage: &Stage, keys: &std::sync::Arc<Keys>, count: usize) -> anyhow::Result<SagaKey> {
    let mut starters = tokio::task::JoinSet::new();
    let workers = STARTERS.min(count);
    for (client, number) in stage.clients.iter().cycle().zip(0..workers) {
        let (client, keys) = (client.clone(), keys.clone());
        let share = count / workers + usize::from(number < count % workers);
        starters.spawn(async move {
            let mut last = None;
            for _ in 0..share {
                let key = keys.next()?;
                client.start(&start(work::SIGNALLED, &key, None)).await?;
                last = Some(key);
            }
            anyhow::Ok(last)
        });
    }
    let mut last = None;
    while let Some(done) = starters.join_next().await {
        last = done??.or(last);
    }
    last.context("nothing was started")
}

/// Waits until so many sagas sleep.
async fn all_asleep(client: &Client, count: usize) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLE;
    loop {
        let answers = client.query(&Query::Owners).await?;
        let shards = answers.iter().filter_map(|answer| match &answer.body {
            Body::Owners(shards) => Some(shards),
            Body::Actor(_) | Body::Sagas(_) | Body::Workers(_) | Body::Health(_) | Body::Nothing => None,
        });
        let (asleep, awake) = shards.flatten().fold((0, 0), |sum, it| (sum.0 + it.asleep, sum.1 + it.awake));
        if asleep >= count as u64 && awake == 0 {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("only {asleep} of {count} sagas sleep after {} s, {awake} are awake", SETTLE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until every shard has written down what changed: until then a sleeper's state is in memory.
async fn all_written(client: &Client) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLE;
    loop {
        let mut behind = 0;
        for answer in client.query(&Query::Owners).await? {
            if let Body::Owners(shards) = answer.body {
                behind += shards.iter().filter(|shard| shard.low_water < shard.position).count();
            }
        }
        if behind == 0 {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("{behind} shards have not written everything down after {} s", SETTLE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until the nodes do nothing for a whole watch, and answers the share of one CPU that they
/// used in it and their memory.
async fn quiet(stage: &Stage) -> anyhow::Result<(f64, u64)> {
    let until = Instant::now() + SETTLE;
    loop {
        let (before, begun) = (process::cpu_ms(&stage.nodes), Instant::now());
        tokio::time::sleep(WATCH).await;
        let percent = (process::cpu_ms(&stage.nodes) - before) / begun.elapsed().as_millis() as f64 * 100.0;
        if percent < QUIET_PERCENT || Instant::now() > until {
            return Ok((percent, process::memory_bytes(&stage.nodes)));
        }
    }
}

/// Signals a sleeping saga, and answers how long it took until its end was known.
async fn wake(client: &Client, key: &SagaKey) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let signal = Signal { key: key.clone(), name: work::SIGNAL.into(), payload: Value::Null, id: Some("s".into()) };
    client.signal(&signal).await?;
    let view = client.wait(key, Duration::from_millis(Wait::MAX_MS)).await?;
    anyhow::ensure!(view.status.is_final(), "{key} was signalled and is {}", view.status.word());
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}
