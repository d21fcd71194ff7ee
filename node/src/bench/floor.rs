//! The floor: what the disk and the server allow. One durable append after another, on the server
//! that the node under test writes to, by a client that does nothing else.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream;

use super::drive::percentile;
use super::figures::Figures;
use super::{Stage, process};

/// About what a record of workload A takes in the journal, with its frame.
const MESSAGE_BYTES: usize = 600;
/// A stream of the floor's own: the journal's fence and its sequence stay out of this.
const STREAM: &str = "SKALD_BENCH_FLOOR";
const SUBJECT: &str = "skald.bench.floor";

/// Measures durable appends one after another for `length`.
pub async fn floor(stage: &Stage, length: Duration, figures: &mut Figures, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let nats = stage.clients.first().context("no client")?.nats().clone();
    let context = jetstream::new(nats.clone());
    let config = jetstream::stream::Config {
        name: STREAM.into(),
        subjects: vec![SUBJECT.into()],
        duplicate_window: Duration::from_secs(1),
        ..Default::default()
    };
    context.create_stream(config).await?;
    let payload = bytes::Bytes::from(vec![b'x'; MESSAGE_BYTES]);
    let mut took = Vec::new();
    let (mut server, begun) = (process::cpu_ms(&stage.servers), Instant::now());
    while begun.elapsed() < length {
        let one = Instant::now();
        let answer = nats.request(SUBJECT, payload.clone()).await?;
        took.push(one.elapsed().as_secs_f64() * 1e6);
        let stored = serde_json::from_slice::<serde_json::Value>(&answer.payload)?;
        anyhow::ensure!(stored["seq"].is_u64(), "not stored: {stored}");
    }
    server = process::cpu_ms(&stage.servers) - server;
    context.delete_stream(STREAM).await?;
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable_by(f64::total_cmp);
    figures.set("floor.append_p50_us", percentile(&took, 0.50));
    figures.set("floor.append_p99_us", percentile(&took, 0.99));
    figures.set("floor.append_per_s", rate.round());
    figures.set("floor.server_cpu_ms_per_1000", (server / took.len() as f64 * 1_000.0).round());
    say(&format!("floor: a durable append takes {:.0} us (p50), {rate:.0}/s", percentile(&took, 0.50)));
    Ok(())
}
