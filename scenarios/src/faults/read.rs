//! Everything that a run left behind, read from NATS by nothing of the product's: whole streams from
//! their first message to their last.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use async_nats::jetstream::{self, consumer::pull};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use node::client::{Client, EVENT_STREAM};
use protocol::command::ShowDefinition;
use protocol::envelope::header::{NUMBER, POSITION};
use protocol::{DefinitionRef, Envelope, Epoch, NodeId, ShardId, Time};
use supervisor::journal::frame::{Frame, Header};
use supervisor::machine::Definition;
use supervisor::ports::Place;

use crate::check::{Acknowledged, History, Said};
use crate::ledger::Ledger;

/// The stream of dead letters.
pub const DEAD_STREAM: &str = "SKALD_DEAD";
/// Streams whose names begin so are the journal.
pub(super) const JOURNAL_STREAMS: &str = "SKALD_JOURNAL";

/// What a run left behind.
#[derive(Default)]
pub struct Left {
    /// For the checker.
    pub history: History,
    /// When each frame was stored, by the servers' clocks, in order for each shard.
    pub frames: Vec<Seen>,
    /// Dead letters.
    pub dead: Vec<Letter>,
}

/// One frame of the journal, as somebody sees it who only watches.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of which shard.
    pub shard: ShardId,
    /// When it was stored.
    pub at: Time,
    /// Who wrote it.
    pub node: NodeId,
    /// Under which ownership.
    pub ownership: (Epoch, u64),
    /// Records in it; a takeover has none.
    pub records: usize,
}

/// One dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its subject.
    pub subject: String,
    /// Why, for a person.
    pub why: String,
    /// The whole of what could not be understood.
    pub whole: String,
}

/// One message of a stream.
struct Item {
    subject: String,
    sequence: u64,
    at: Time,
    why: Option<String>,
    place: Option<Place>,
    payload: Bytes,
}

/// Reads all of it.
pub async fn everything(client: &Client, ledger: &Ledger, acknowledged: Vec<Acknowledged>) -> anyhow::Result<Left> {
    let jetstream = jetstream::new(client.nats().clone());
    let mut left = Left::default();
    left.history.acknowledged = acknowledged;
    left.history.ledger = ledger.entries().context("reading the ledger")?;
    left.history.definitions = definitions(client).await.context("reading the definitions")?;
    let names: Vec<String> = jetstream.stream_names().try_collect().await.context("listing the streams")?;
    for name in names.iter().filter(|name| name.starts_with(JOURNAL_STREAMS)) {
        read(&jetstream, name, |item| journal(&mut left, item)).await?;
    }
    read(&jetstream, EVENT_STREAM, |item| {
        let event = serde_json::from_slice::<Envelope>(&item.payload)
            .with_context(|| format!("event {} on {} is not an envelope", item.sequence, item.subject))?;
        left.history.events.push(Said { event, place: item.place });
        Ok(())
    })
    .await?;
    read(&jetstream, DEAD_STREAM, |item| {
        let whole = String::from_utf8_lossy(&item.payload).into_owned();
        if let (Some(place), Ok(event)) = (item.place, serde_json::from_slice::<Envelope>(&item.payload)) {
            left.history.buried.push(Said { event, place: Some(place) });
        }
        left.dead.push(Letter { subject: item.subject, why: item.why.unwrap_or_default(), whole });
        Ok(())
    })
    .await?;
    Ok(left)
}

fn journal(left: &mut Left, item: Item) -> anyhow::Result<()> {
    let number = item.subject.rsplit('.').next().and_then(|text| text.parse().ok());
    let shard = ShardId(number.with_context(|| format!("{} is no journal subject", item.subject))?);
    // A frame that cannot be read is the checker's to tell.
    if let Ok(Frame { header: Header { node, epoch, nonce, counter: _, after: _ }, records }) =
        Frame::read(&item.payload)
    {
        left.frames.push(Seen { shard, at: item.at, node, ownership: (epoch, nonce), records: records.len() });
    }
    left.history.journal.entry(shard).or_default().push((item.sequence, item.payload));
    Ok(())
}

/// Hands every message of a stream to `each`.
async fn read(
    jetstream: &jetstream::Context,
    name: &str,
    mut each: impl FnMut(Item) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut stream = jetstream.get_stream(name).await.with_context(|| format!("looking at stream {name}"))?;
    let state = stream.info().await.with_context(|| format!("asking stream {name}"))?.state.clone();
    if state.messages == 0 {
        return Ok(());
    }
    let consumer = stream.create_consumer(pull::OrderedConfig::default()).await?;
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let message = message.with_context(|| format!("reading stream {name}"))?;
        let info = message.info().map_err(|error| anyhow::anyhow!("a message of {name}: {error}"))?;
        let sequence = info.stream_sequence;
        let at = i64::try_from(info.published.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
        let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
        let why = header(node::nats::WHY);
        let subject = message.subject.to_string();
        let place = header(POSITION).zip(header(NUMBER)).and_then(|(at, number)| Place::read(&at, &number));
        each(Item { subject, sequence, at: Time::from_micros(at), why, place, payload: message.payload.clone() })?;
        if sequence >= state.last_sequence {
            return Ok(());
        }
    }
    anyhow::bail!("stream {name} ended before its last message {}", state.last_sequence)
}

/// Every version of every definition.
async fn definitions(client: &Client) -> anyhow::Result<HashMap<DefinitionRef, Arc<Definition>>> {
    let listed = client.definitions().await?;
    let rows = listed["definitions"].as_array().context("the list of definitions has no rows")?;
    let tenant = &client.settings().tenant;
    let mut known = HashMap::new();
    for row in rows {
        let name = row["name"].as_str().context("a definition has a name")?.to_owned();
        let version = row["version"].as_u64().and_then(|version| u32::try_from(version).ok());
        let source = client.definition(&ShowDefinition { name: name.clone(), version }).await?;
        let (definition, _) = Definition::parse(&source.source, &name)
            .map_err(|faults| anyhow::anyhow!("definition {name} cannot be read: {faults}"))?;
        let own = row["builtIn"].as_bool() == Some(false);
        let definition = definition.owned_by(own.then(|| tenant.clone())).with_version(source.version);
        known.insert(definition.reference().clone(), Arc::new(definition));
    }
    Ok(known)
}
