//! Closed loops: each client starts a saga, learns its outcome, and starts the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use protocol::command::{Signal, Start, Wait};
use protocol::query::{Body, Query};
use protocol::view::Status;
use protocol::{SagaKey, Value};

use super::figures::Figures;
use super::{Stage, process, work};
use crate::client::{Client, StartAnswer};

/// Clients in flight.
pub const CLIENTS: [usize; 3] = [1, 64, 256];
/// The share of a measurement's length that runs before it, uncounted.
const WARM_UP_SHARE: f64 = 0.15;

/// One of the workloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// Five steps.
    A,
    /// The fourth fails, the three before it are undone.
    B,
    /// Waits for a signal after the second step.
    C,
}

impl Load {
    const fn definition(self) -> &'static str {
        match self {
            Self::A => work::FIVE,
            Self::B => work::UNDONE,
            Self::C => work::SIGNALLED,
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::A => 'A',
            Self::B => 'B',
            Self::C => 'C',
        }
    }

    const fn end(self) -> Status {
        match self {
            Self::A | Self::C => Status::Succeeded,
            Self::B => Status::Failed,
        }
    }
}

/// Names of one run's sagas, used by nobody before.
#[derive(Debug)]
pub(super) struct Keys {
    run: String,
    next: AtomicU64,
}

impl Keys {
    pub(super) fn new() -> Arc<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Arc::new(Self { run: id[..8].to_owned(), next: AtomicU64::new(0) })
    }

    pub(super) fn next(&self) -> anyhow::Result<SagaKey> {
        Ok(SagaKey::new(format!("bench-{}-{}", self.run, self.next.fetch_add(1, Relaxed)))?)
    }
}

pub(super) fn start(definition: &str, key: &SagaKey, wait_ms: Option<u64>) -> Start {
    let input = Value::Object(serde_json::Map::new());
    Start { definition: definition.to_owned(), version: None, key: Some(key.clone()), input, wait_ms }
}

/// Measures one workload with every number of clients; `say` hears of each as it is done.
pub async fn load(
    stage: &Stage,
    load: Load,
    each: Duration,
    figures: &mut Figures,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let letter = load.letter();
    for at_once in CLIENTS {
        drive(stage, load, at_once, each.mul_f64(WARM_UP_SHARE)).await?;
        let cpu = || [&stage.nodes[..], &stage.servers[..], &[std::process::id()]].map(process::cpu_ms);
        let appended = appends(stage).await?;
        let (before, begun) = (cpu(), Instant::now());
        let mut took = drive(stage, load, at_once, each).await?;
        let (seconds, after) = (begun.elapsed().as_secs_f64(), cpu());
        let appended = appends(stage).await?.since(appended);
        took.sort_unstable_by(f64::total_cmp);
        let sagas = took.len() as f64;
        let mut set = |name: &str, figure: f64| figures.set(&format!("{letter}.{at_once}.{name}"), figure);
        set("per_s", (sagas / seconds).round());
        set("p50_us", percentile(&took, 0.50));
        set("p99_us", percentile(&took, 0.99));
        for (index, name) in ["node", "server", "client"].into_iter().enumerate() {
            set(&format!("{name}_cpu_ms_per_1000"), ((after[index] - before[index]) / sagas * 1_000.0).round());
        }
        set("frames_per_saga", appended.frames / sagas);
        set("records_per_frame", appended.records / appended.frames);
        say(&format!(
            "{letter}, {at_once} clients: {:.0} sagas/s, p50 {:.2} ms, p99 {:.2} ms",
            sagas / seconds,
            percentile(&took, 0.50) / 1_000.0,
            percentile(&took, 0.99) / 1_000.0
        ));
    }
    Ok(())
}

/// Runs one saga of workload A from start to end.
pub async fn first_done(client: &Client) -> anyhow::Result<()> {
    one(client, Load::A, &Keys::new().next()?).await
}

/// What the journal took.
#[derive(Clone, Copy)]
struct Appends {
    frames: f64,
    records: f64,
}

impl Appends {
    fn since(self, before: Self) -> Self {
        Self { frames: self.frames - before.frames, records: self.records - before.records }
    }
}

async fn appends(stage: &Stage) -> anyhow::Result<Appends> {
    let client = stage.clients.first().context("no client")?;
    let mut sum = Appends { frames: 0.0, records: 0.0 };
    for answer in client.query(&Query::Owners).await? {
        if let Body::Owners(shards) = answer.body {
            for shard in shards {
                sum.frames += shard.frames as f64;
                sum.records += shard.records as f64;
            }
        }
    }
    Ok(sum)
}

/// Runs a workload for so long, and answers what each saga took, in microseconds.
pub(super) async fn drive(stage: &Stage, load: Load, at_once: usize, length: Duration) -> anyhow::Result<Vec<f64>> {
    let (keys, until) = (Keys::new(), Instant::now() + length);
    let mut clients = tokio::task::JoinSet::new();
    for (client, _) in stage.clients.iter().cycle().zip(0..at_once) {
        let (client, keys) = (client.clone(), keys.clone());
        clients.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let key = keys.next()?;
                let begun = Instant::now();
                one(&client, load, &key).await.with_context(|| format!("saga {key}"))?;
                took.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = clients.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

/// One saga, from sending the start to learning the outcome.
async fn one(client: &Client, load: Load, key: &SagaKey) -> anyhow::Result<()> {
    let status = match load {
        Load::A | Load::B => match client.start(&start(load.definition(), key, Some(Wait::MAX_MS))).await? {
            StartAnswer::Outcome(outcome) => outcome.status,
            StartAnswer::View(view) => view.status,
            StartAnswer::Started(_) => bail!("the start did not wait for the outcome"),
        },
        Load::C => {
            client.start(&start(load.definition(), key, None)).await?;
            // Accepted is enough: a signal that comes before the saga waits for it is kept.
            let signal =
                Signal { key: key.clone(), name: work::SIGNAL.into(), payload: Value::Null, id: Some("s".into()) };
            client.signal(&signal).await?;
            client.wait(key, Duration::from_millis(Wait::MAX_MS)).await?.status
        }
    };
    if status != load.end() {
        bail!("it is {} and not {}", status.word(), load.end().word());
    }
    Ok(())
}

/// The value below which `share` of the sorted values lie: one that occurred.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A rank within the slice.
pub(super) fn percentile(sorted: &[impl Into<f64> + Copy], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |value| (*value).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile(&values, share)), [50.0, 99.0, 100.0]);
        assert_eq!(percentile(&Vec::<f64>::new(), 0.5), 0.0);
    }
}
