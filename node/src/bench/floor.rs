//! The floor: what the disk and the server allow. One durable append after another, on the server
//! that the node under test writes to, by a client that does nothing else.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream;

use super::drive::{Load, drive, percentile};
use super::figures::Figures;
use super::{Stage, process};

/// About what a record of workload A takes in the journal, with its frame.
const MESSAGE_BYTES: usize = 600;
/// A stream of the floor's own: the journal's fence and its sequence stay out of this.
const STREAM: &str = "SKALD_BENCH_FLOOR";
const SUBJECT: &str = "skald.bench.floor";

/// A slice of the comparison: short enough that a disk's moods meet both alike.
const SLICE: Duration = Duration::from_millis(500);

/// A stream to append to.
struct Floor {
    nats: async_nats::Client,
    context: jetstream::Context,
}

impl Floor {
    async fn open(stage: &Stage) -> anyhow::Result<Self> {
        let nats = stage.clients.first().context("no client")?.nats().clone();
        let context = jetstream::new(nats.clone());
        let config = jetstream::stream::Config {
            name: STREAM.into(),
            subjects: vec![SUBJECT.into()],
            duplicate_window: Duration::from_secs(1),
            ..Default::default()
        };
        context.create_stream(config).await?;
        Ok(Self { nats, context })
    }

    /// Appends one after another for `length`; answers what each took, in microseconds.
    async fn append(&self, length: Duration) -> anyhow::Result<Vec<f64>> {
        let payload = bytes::Bytes::from(vec![b'x'; MESSAGE_BYTES]);
        let (mut took, begun) = (Vec::new(), Instant::now());
        while begun.elapsed() < length {
            let one = Instant::now();
            let answer = self.nats.request(SUBJECT, payload.clone()).await?;
            took.push(one.elapsed().as_secs_f64() * 1e6);
            let stored = serde_json::from_slice::<serde_json::Value>(&answer.payload)?;
            anyhow::ensure!(stored["seq"].is_u64(), "not stored: {stored}");
        }
        Ok(took)
    }

    async fn close(self) -> anyhow::Result<()> {
        self.context.delete_stream(STREAM).await?;
        Ok(())
    }
}

/// Measures durable appends one after another for `length`.
pub async fn floor(stage: &Stage, length: Duration, figures: &mut Figures, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let floor = Floor::open(stage).await?;
    let (before, begun) = (process::cpu_ms(&stage.servers), Instant::now());
    let mut took = floor.append(length).await?;
    let (seconds, server) = (begun.elapsed().as_secs_f64(), process::cpu_ms(&stage.servers) - before);
    floor.close().await?;
    let rate = took.len() as f64 / seconds;
    took.sort_unstable_by(f64::total_cmp);
    figures.set("floor.append_p50_us", percentile(&took, 0.50));
    figures.set("floor.append_p99_us", percentile(&took, 0.99));
    figures.set("floor.append_per_s", rate.round());
    figures.set("floor.server_cpu_ms_per_1000", (server / took.len() as f64 * 1_000.0).round());
    say(&format!("floor: a durable append takes {:.0} us (p50), {rate:.0}/s", percentile(&took, 0.50)));
    Ok(())
}

/// Compares a saga of five steps with the six appends it needs at least, in turns, for `length` each.
pub async fn compare(stage: &Stage, length: Duration, figures: &mut Figures, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let floor = Floor::open(stage).await?;
    let (mut appends, mut sagas) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < length * 2 {
        appends.extend(floor.append(SLICE).await?);
        sagas.extend(drive(stage, Load::A, 1, SLICE).await?);
    }
    floor.close().await?;
    appends.sort_unstable_by(f64::total_cmp);
    sagas.sort_unstable_by(f64::total_cmp);
    let (append, saga) = (percentile(&appends, 0.50), percentile(&sagas, 0.50));
    figures.set("compared.append_p50_us", append);
    figures.set("compared.saga_p50_us", saga);
    figures.set("compared.ratio", saga / (6.0 * append));
    say(&format!("in turns: an append takes {append:.0} us, a saga of A {:.2} ms (p50)", saga / 1_000.0));
    Ok(())
}
