//! Kill -9 of the node with the most shards while a thousand sagas are under way.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use protocol::query::{Body, Query};
use protocol::view::Status;
use protocol::{SagaKey, ShardId, subjects};
use supervisor::journal::Frame;

use super::drive::{Keys, start};
use super::figures::Figures;
use super::{Stage, work};
use crate::client::Client;

/// How many nodes there are, one of which is killed.
pub const NODES: usize = 3;
/// How many sagas are under way.
const SAGAS: usize = 1_000;
/// Calls on their way at once.
const AT_ONCE: usize = 128;
/// How long they run before the node is killed.
const KILL_AFTER: Duration = Duration::from_millis(1_000);
/// How long the first progress, and then the last end, is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

/// Measures what a kill costs; `kill` kills a node by its name.
pub async fn recovery(
    stage: &Stage,
    kill: &dyn Fn(&str) -> bool,
    figures: &mut Figures,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let client = stage.clients.first().context("no client")?;
    let keys = Keys::new();
    let names = (0..SAGAS).map(|_| keys.next()).collect::<anyhow::Result<Vec<_>>>()?;
    let mut starts = futures::stream::iter(&names)
        .map(|key| async move { client.start(&start(work::NAPS, key, None)).await })
        .buffer_unordered(AT_ONCE);
    while let Some(started) = starts.next().await {
        started?;
    }
    tokio::time::sleep(KILL_AFTER).await;

    let (victim, shards) = most_shards(client).await?;
    let mut frames = client.nats().subscribe(subjects::JOURNAL).await?;
    client.nats().flush().await?;
    anyhow::ensure!(kill(&victim), "node {victim} cannot be killed");
    let killed = Instant::now();
    say(&format!("{SAGAS} under way; killed {victim}, which owned {} of them", shards.len()));
    let first = async {
        while let Some(message) = frames.next().await {
            if shards.contains(message.subject.as_str()) && goes_on(&message.payload, &victim) {
                return Ok(killed.elapsed());
            }
        }
        anyhow::bail!("the connection ended")
    };
    let first =
        tokio::time::timeout(PATIENCE, first).await.context("nobody goes on with the sagas of the killed node")??;
    drop(frames);
    say(&format!("a saga of {victim} goes on after {} ms", first.as_millis()));

    let mut ends = futures::stream::iter(&names).map(|key| end(client, key)).buffer_unordered(AT_ONCE);
    let (mut done, mut lost) = (0, 0);
    while let Some(end) = ends.next().await {
        if end { done += 1 } else { lost += 1 }
    }
    let all = killed.elapsed();
    figures.set("recovery.first_progress_ms", first.as_millis() as f64);
    figures.set("recovery.all_ended_ms", all.as_millis() as f64);
    figures.set("recovery.shards_taken_over", shards.len() as f64);
    figures.set("recovery.ended", f64::from(done));
    figures.set("recovery.lost", f64::from(lost));
    say(&format!("{done} of {SAGAS} ended well {} ms after the kill", all.as_millis()));
    Ok(())
}

/// The node with the most shards, and the journal subjects of those.
async fn most_shards(client: &Client) -> anyhow::Result<(String, HashSet<String>)> {
    let answers = client.query(&Query::Owners).await?;
    let owned = answers.iter().filter_map(|answer| match &answer.body {
        Body::Owners(shards) => Some((answer.node.to_string(), shards)),
        Body::Actor(_) | Body::Sagas(_) | Body::Workers(_) | Body::Health(_) | Body::Nothing => None,
    });
    let (node, shards) = owned.max_by_key(|(_, shards)| shards.len()).context("no node owns a shard")?;
    Ok((node, shards.iter().map(|it| subjects::journal(ShardId(it.shard))).collect()))
}

/// Whether a frame is another owner's and holds more than its takeover.
fn goes_on(frame: &[u8], victim: &str) -> bool {
    Frame::read(frame).is_ok_and(|frame| frame.header.node.as_str() != victim && !frame.records.is_empty())
}

/// Whether a saga ends well. A question that the killed node took with it is asked again.
async fn end(client: &Client, key: &SagaKey) -> bool {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match client.wait(key, Duration::from_secs(5)).await {
            Ok(view) if view.status.is_final() => return view.status == Status::Succeeded,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%key, %error, "asking again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    false
}
