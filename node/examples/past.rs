//! Measures what ended sagas cost: the takeover of a shard that has none against one that has many,
//! the memory, and a start of a new key and of one that ended, all over a real server.
//!
//! `cargo run --release -p skald --example past [sagas]`; 1,000,000 unless told otherwise.
//!
//! The store is filled with the pages that sweeps would have written. Each page has what is kept of a
//! thousand real sagas, each with a trace and an outcome of its own, so that it packs as pages do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use node::nats::{Bus, ConnectConfig, JetStreamJournal, JournalConfig, KvSnapshots, Replicas, connect};
use node::node::SystemClock;
use node::server::{Finder, Server, ServerConfig};
use protocol::command::List;
use protocol::view::Status;
use protocol::{
    DefinitionRef, Envelope, Epoch, NodeId, Principal, SagaId, ShardId, Tenant, Time, TraceId, Value, codec,
};
use supervisor::activities::Activities;
use supervisor::activity::{Attempt, Failure};
use supervisor::machine::definition::Definition;
use supervisor::machine::{Family, Start};
use supervisor::ports::{
    Definitions, Events, Held, Outbox, PAGE_PREFIX, Parcel, Peers, Place, RemoteActivities, RemoteAnswer, SendError,
    Shelf, Unavailable,
};
use supervisor::tree::card::Card;
use supervisor::tree::engine::{Engine, Limits, Seeds, Unobserved};
use supervisor::tree::pages::{self, Page};
use supervisor::tree::reply::{Answer, Reply};
use supervisor::tree::shard::{Message, ShardActor};
use supervisor::tree::shell::{self, Handle};
use supervisor::tree::slot::EndedEntry;
use supervisor::tree::turns::Turns;

const SHARD: ShardId = ShardId(0);
/// Entries of a full page.
const PER_PAGE: u64 = 1_000;
/// Takeovers and starts of each kind: the median is told.
const TAKEOVERS: usize = 5;
const STARTS: u64 = 300;
/// What the past may cost: milliseconds of a takeover, and megabytes of memory.
const LATER_MS: f64 = 300.0;
const GROWN_MB: f64 = 32.0;
const WAITING: &str = r#"
name: waiting
definition:
  StartAt: Only
  States: { Only: { Type: Task, Resource: "signal:go", End: true } }
"#;

/// What nothing here sends anything to; it knows the one definition.
struct Nobody(Arc<Definition>);

#[async_trait]
impl Outbox for Nobody {
    async fn publish(&self, _: &Envelope) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

#[async_trait]
impl Events for Nobody {
    async fn say(&self, _: &Envelope, place: &Place) -> Result<u64, SendError> {
        Ok(place.number)
    }
    fn window(&self) -> Duration {
        Duration::from_secs(120)
    }
    async fn held(&self, _: ShardId, after: u64, _: Time) -> Result<Held, Unavailable> {
        Ok(Held { events: Default::default(), read_to: after })
    }
    async fn bury(&self, _: &Envelope, _: &Place, _: &str) -> Result<(), SendError> {
        Ok(())
    }
}

#[async_trait]
impl Peers for Nobody {
    async fn deliver(&self, _: &SagaId, _: &Parcel) -> Result<(), Unavailable> {
        Ok(())
    }
}

#[async_trait]
impl RemoteActivities for Nobody {
    async fn call(&self, _: &Tenant, activity: &str, _: &Attempt, _: Value) -> Result<RemoteAnswer, Failure> {
        Err(Failure::transient("asking nobody", activity))
    }
}

#[async_trait]
impl Definitions for Nobody {
    async fn get(&self, which: &DefinitionRef) -> Result<Option<Arc<Definition>>, Unavailable> {
        Ok((self.0.reference() == which).then(|| self.0.clone()))
    }
}

struct Bench {
    bus: Bus,
    definition: Arc<Definition>,
    epoch: u64,
}

struct Owner {
    engine: Arc<Engine>,
    shard: Handle<Message>,
    took: Duration,
}

impl Bench {
    /// A node takes the shard over.
    async fn take_over(&mut self) -> anyhow::Result<Owner> {
        self.epoch += 1;
        let nobody = Arc::new(Nobody(self.definition.clone()));
        let config = JournalConfig { shards: Some(1), ..JournalConfig::default() };
        let limits =
            Limits { ended_per_shard: usize::MAX, sweep_every: Duration::from_millis(200), ..Limits::default() };
        let engine = Arc::new(Engine {
            node: NodeId::new(format!("n{}", self.epoch))?,
            shards: 1,
            turns: Turns::new(limits.decision_threads.unwrap_or(1)),
            limits,
            clock: Arc::new(SystemClock),
            journal: Arc::new(JetStreamJournal::open(&self.bus, &config).await?),
            snapshots: Arc::new(KvSnapshots::open(&self.bus, Replicas::One).await?),
            outbox: nobody.clone(),
            events: nobody.clone(),
            peers: nobody.clone(),
            definitions: nobody.clone(),
            activities: Activities::new(),
            remote: nobody,
            seeds: Seeds::new(self.epoch),
            observer: Arc::new(Unobserved),
            pulses: Arc::default(),
        });
        let card = Card::new("shard 0", "shard", engine.now());
        let actor = ShardActor { engine: engine.clone(), shard: SHARD, epoch: Epoch(self.epoch) };
        let begun = Instant::now();
        let shard = shell::start(actor, card, None).await?;
        Ok(Owner { engine, shard, took: begun.elapsed() })
    }

    /// The median of several takeovers, in milliseconds, and the last owner.
    async fn takeovers(&mut self) -> anyhow::Result<(f64, Owner)> {
        let mut times = Vec::new();
        loop {
            let owner = self.take_over().await?;
            times.push(owner.took);
            if times.len() == TAKEOVERS {
                return Ok((median(times), owner));
            }
            owner.shard.kill();
        }
    }
}

impl Owner {
    async fn ask(&self, message: impl FnOnce(Reply) -> Message) -> Answer {
        let (reply, told) = Reply::channel();
        self.shard.tell(message(reply));
        told.await.unwrap_or_else(|_| panic!("the shard ended"))
    }

    /// Starts a saga and lets it end, with an outcome like no other.
    async fn end_one(&self, definition: &Arc<Definition>, key: &str) -> anyhow::Result<()> {
        self.start(definition, key, Value::from(1)).await.map_err(anyhow::Error::msg)?;
        let go = supervisor::machine::FactKind::Signalled {
            name: "go".into(),
            payload: serde_json::json!({ "order": uuid::Uuid::new_v4(), "shippedTo": uuid::Uuid::new_v4().as_u128() >> 64 }),
            by: "ada".into(),
            id: uuid::Uuid::new_v4().to_string(),
        };
        let by = (Principal::new("ada")?, supervisor::tree::shard::Right::Signal);
        let ended = self.ask(|reply| Message::Fact { saga: saga(key), fact: go, by, reply }).await;
        ended.map(|_| ()).map_err(anyhow::Error::msg)
    }

    async fn start(&self, definition: &Arc<Definition>, key: &str, input: Value) -> Answer {
        let start = Box::new(Start {
            definition: definition.reference().clone(),
            input,
            by: Principal::new("ada").expect("a name"),
            trace: TraceId::new(uuid::Uuid::new_v4().simple().to_string()).expect("a trace"),
            cause: "bench".into(),
            causes: 0,
            parent: None,
            family: Family::default(),
            secret: None,
        });
        let saga = saga(key);
        let definition = definition.clone();
        self.ask(|accepted| Message::Start { saga, start, definition, accepted, outcome: None }).await
    }

    /// The median time of a start of each of these keys, in milliseconds.
    async fn starts(
        &self,
        definition: &Arc<Definition>,
        keys: impl Iterator<Item = String>,
        created: bool,
    ) -> anyhow::Result<f64> {
        let mut times = Vec::new();
        for key in keys {
            let begun = Instant::now();
            let told = self.start(definition, &key, Value::from(1)).await;
            times.push(begun.elapsed());
            let told = told.map_err(|problem| anyhow::anyhow!("{key}: {problem}"))?;
            anyhow::ensure!(told["created"] == created, "{key}: {told}");
        }
        Ok(median(times))
    }

    async fn list(&self, status: Option<Status>) -> anyhow::Result<(f64, usize)> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let list = List { status, ..List::default() };
        let begun = Instant::now();
        self.shard.tell(Message::List(Tenant::new("acme")?, None, list, tell));
        let listed = told.await?;
        Ok((millis(begun.elapsed()), listed.rows.len()))
    }
}

fn saga(key: &str) -> SagaId {
    format!("acme/{key}").parse().expect("letters and digits are a key")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    millis(times[times.len() / 2])
}

/// Memory of this process, in megabytes.
fn memory() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1_024.0)
}

/// Writes pages as sweeps would have.
async fn fill(owner: &Owner, definition: &Definition, like: &[EndedEntry], sagas: u64) -> anyhow::Result<f64> {
    let snapshots = &owner.engine.snapshots;
    let write = |number: u64| async move {
        let of_page = (number * PER_PAGE..(number * PER_PAGE + PER_PAGE).min(sagas)).zip(like).map(|(n, like)| {
            EndedEntry { saga: saga(&format!("past-{n}")), at: like.at.after(Duration::from_millis(n)), ..like.clone() }
        });
        let entries: Vec<EndedEntry> = of_page.collect();
        let name = format!("{PAGE_PREFIX}{:020}.0.{number}", like[0].position);
        let page = Page::of(name.into(), entries.iter().map(|entry| (entry, Some(definition))));
        snapshots.put(SHARD, &page.index_name(), page.index().into(), 0).await?;
        let packed = codec::store_packed(&entries);
        let bytes = packed.len();
        snapshots.put(SHARD, &page.name, packed.into(), 0).await?;
        Ok::<_, supervisor::ports::PutError>(bytes)
    };
    let mut writes = futures::stream::iter(0..sagas.div_ceil(PER_PAGE)).map(write).buffer_unordered(8);
    let mut bytes = 0;
    while let Some(written) = writes.next().await {
        bytes += written?;
    }
    Ok(bytes as f64 / sagas as f64)
}

/// What sweeps wrote of the sagas that ended.
async fn swept(owner: &Owner) -> anyhow::Result<Vec<EndedEntry>> {
    for _ in 0..100 {
        let mut all = Vec::new();
        let mut indexes = owner.engine.snapshots.all(SHARD, Shelf::Indexes);
        while let Some(found) = indexes.next().await.transpose()? {
            let page = Page::load(&found.name, found.revision, &found.bytes)?;
            let entries = pages::entries(&owner.engine, SHARD, &page.name).await.map_err(anyhow::Error::msg)?;
            all.extend(entries.unwrap_or_default());
        }
        if all.len() as u64 >= PER_PAGE {
            return Ok(all);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("not all that ended was in a page within ten seconds")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sagas: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |it| it.parse())?;
    let program = Finder::new(None).find(|line| eprintln!("{line}")).await?.path;
    let dir = tempfile::tempdir()?;
    let server = Server::start(&program, ServerConfig::new(dir.path())).await?;
    let bus = connect(ConnectConfig::new(vec![server.url()])).await?;
    let (definition, _) = Definition::parse(WAITING, "waiting.yaml").map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let definition = Arc::new(definition);
    let mut bench = Bench { bus, definition: definition.clone(), epoch: 0 };

    let (empty, owner) = bench.takeovers().await?;
    let fresh = owner.starts(&definition, (0..STARTS).map(|n| format!("before-{n}")), true).await?;
    for n in 0..PER_PAGE {
        owner.end_one(&definition, &format!("one-{n}")).await?;
    }
    let like = swept(&owner).await?;

    let begun = Instant::now();
    let each = fill(&owner, &definition, &like, sagas).await?;
    eprintln!("{sagas} ended sagas written in {:?}", begun.elapsed());
    owner.shard.kill();
    let before = memory()?;
    let (full, owner) = bench.takeovers().await?;
    let after = memory()?;
    let new = owner.starts(&definition, (0..STARTS).map(|n| format!("after-{n}")), true).await?;
    let step = (sagas / STARTS).max(1);
    let again = owner.starts(&definition, (0..STARTS).map(|n| format!("past-{}", n * step % sagas)), false).await?;
    let other = owner.start(&definition, "past-0", Value::from(2)).await;
    anyhow::ensure!(other.is_err(), "another input is a conflict: {other:?}");
    let (live, live_rows) = owner.list(Some(Status::Waiting)).await?;
    let (all, all_rows) = owner.list(Some(Status::Succeeded)).await?;
    println!("| | none ended | {sagas} ended |\n|---|---|---|");
    println!("| takeover, ms (median of {TAKEOVERS}) | {empty:.1} | {full:.1} |");
    println!("| start of a new key, ms (p50) | {fresh:.2} | {new:.2} |");
    println!("| start of an ended key, ms (p50) | | {again:.2} |");
    println!("| bytes of a page for each saga | | {each:.0} |");
    println!("| memory of the process, MB | {before:.0} | {after:.0} |");
    println!("| list of {live_rows} waiting, ms | | {live:.1} |");
    println!("| list of {all_rows} ended, ms | | {all:.1} |");
    anyhow::ensure!(full - empty < LATER_MS, "the takeover takes {:.0} ms longer than with no past", full - empty);
    anyhow::ensure!(after - before < GROWN_MB, "the past takes {:.0} MB of memory", after - before);
    Ok(())
}
