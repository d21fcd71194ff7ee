//! The engine's ports over the simulated server: as the adapters over NATS behave, without NATS.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use protocol::{DefinitionRef, Envelope, Epoch, NodeId, SagaId, ShardId, Tenant, Time, Value};
use supervisor::activity::{Attempt, Failure};
use supervisor::journal::anchor::Accepted;
use supervisor::journal::frame::Frame;
use supervisor::journal::{Anchor, Stream};
use supervisor::machine::Definition;
use supervisor::ports::{
    AnnounceError, AppendError, Beat, Clock, Cluster, Definitions, Events, Held, Journal, Lease, Outbox, Parcel, Peers,
    Place, Position, PutError, RemoteActivities, RemoteAnswer, SendError, Shelf, Snapshot, Snapshots, Unavailable,
};

use super::link::{Link, NoAnswer};
use super::node::Bus;
use super::server::{Inner, Server, Trouble};
use super::world::World;

/// Frames or values per request when many are read.
const CHUNK: usize = 8;

/// A node's clock: the true time, and how wrong it is.
pub struct SkewedClock {
    /// The true time.
    pub world: Arc<World>,
    /// Microseconds that this clock is ahead.
    pub ahead: Arc<AtomicI64>,
}

impl Clock for SkewedClock {
    fn now(&self) -> Time {
        Time::from_micros(self.world.now().as_micros() + self.ahead.load(Relaxed))
    }
}

/// Everything that one life of a node asks of the server.
pub struct Ports {
    /// The way there.
    pub link: Arc<Link>,
    /// The server.
    pub server: Arc<Server>,
    /// The world, for the dice.
    pub world: Arc<World>,
    /// Tells this life from all others.
    pub writer: u64,
    /// Up to which revision each shard's values were read.
    pub read: Mutex<HashMap<ShardId, u64>>,
    /// The other nodes.
    pub bus: Arc<Bus>,
    /// Chance in thousandths that the node dies in the moment in which a frame of its became durable.
    pub dies_on_append: Arc<AtomicI64>,
    /// After how many more frames with records the node dies; 0 for never.
    pub dies_after: Arc<AtomicI64>,
}

fn away(_: NoAnswer) -> Unavailable {
    Unavailable("no answer".into())
}

impl Ports {
    async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> R + Send + 'static,
    ) -> Result<R, Unavailable> {
        let server = self.server.clone();
        let answer = self.link.ask(move || {
            let mut inner = server.inner();
            (inner.trouble != Trouble::Away).then(|| work(&mut inner))
        });
        answer.await.map_err(away)?.ok_or_else(|| Unavailable("the server is away".into()))
    }

    /// Asks for values, once their store has a leader.
    async fn ask_values<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> R + Send + 'static,
    ) -> Result<R, Unavailable> {
        let led = self.server.inner().values_led;
        if let Some(led) = led {
            tokio::time::sleep_until(led).await;
        }
        self.ask(work).await
    }

    async fn write(&self, shard: ShardId, name: &str, bytes: Option<Bytes>, expected: u64) -> Result<u64, PutError> {
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).copied().unwrap_or(0);
        let (writer, name) = (self.writer, name.to_owned());
        let full = "no space left";
        let written = self.ask_values(move |inner| {
            (inner.trouble == Trouble::None).then(|| inner.write((shard, &name), bytes, expected, (writer, known)))
        });
        match written.await? {
            None => Err(PutError::Unavailable(Unavailable(full.into()))),
            Some(None) => Err(PutError::Stale),
            Some(Some(revision)) => Ok(revision),
        }
    }
}

#[async_trait]
impl Journal for Ports {
    async fn append(
        &self,
        shard: ShardId,
        frame: Bytes,
        expected: Position,
        _id: &str,
    ) -> Result<Position, AppendError> {
        let (server, link, world) = (self.server.clone(), self.link.clone(), self.world.clone());
        let (dies, dies_after) = (self.dies_on_append.clone(), self.dies_after.clone());
        let answer = self.link.ask(move || {
            let says_something = Frame::read(&frame).is_ok_and(|frame| !frame.records.is_empty());
            let answer = server.inner().append(shard, frame, expected);
            if answer.is_ok() && link.lives() {
                let chance = u64::try_from(dies.load(Relaxed)).unwrap_or(0);
                let last = says_something && dies_after.load(Relaxed) > 0 && dies_after.fetch_sub(1, Relaxed) == 1;
                if last || (chance > 0 && world.chance(chance)) {
                    link.die();
                }
            }
            answer
        });
        answer.await.map_err(|NoAnswer| AppendError::Undecided("no answer".into()))?
    }

    async fn last(&self, shard: ShardId) -> Result<Option<(Position, Bytes)>, Unavailable> {
        self.ask(move |inner| inner.frames(shard).last().cloned()).await
    }

    async fn get(&self, shard: ShardId, position: Position) -> Result<Option<Bytes>, Unavailable> {
        self.ask(move |inner| {
            let frames = inner.frames(shard);
            let found = frames.binary_search_by_key(&position, |(at, _)| *at).ok()?;
            Some(frames[found].1.clone())
        })
        .await
    }

    fn read(
        &self,
        shard: ShardId,
        from: Position,
        to: Position,
    ) -> BoxStream<'_, Result<(Position, Bytes), Unavailable>> {
        let chunks = stream::try_unfold(from, move |from| async move {
            let some = self
                .ask(move |inner| {
                    let frames = inner.frames(shard);
                    let first = frames.partition_point(|(at, _)| *at < from);
                    frames[first..].iter().take_while(|(at, _)| *at <= to).take(CHUNK).cloned().collect::<Vec<_>>()
                })
                .await?;
            let next = some.last().map(|(at, _)| at + 1);
            Ok::<_, Unavailable>(next.map(|next| (stream::iter(some.into_iter().map(Ok)), next)))
        });
        chunks.try_flatten().boxed()
    }

    async fn stream(&self, shard: ShardId) -> Result<Option<Stream>, Unavailable> {
        self.ask(move |inner| Some(inner.stream(shard))).await
    }

    async fn anchor(&self, shard: ShardId) -> Result<Option<Anchor>, Unavailable> {
        self.ask(move |inner| inner.anchor(shard)).await
    }

    async fn keep(&self, shard: ShardId, anchor: &Anchor) -> Result<bool, Unavailable> {
        let anchor = *anchor;
        self.ask(move |inner| inner.keep(shard, anchor)).await
    }

    /// Nobody accepts a loss here: what was lost is brought back.
    async fn accepted(&self, _: ShardId) -> Result<Option<Accepted>, Unavailable> {
        Ok(None)
    }

    async fn renew(&self, shard: ShardId, _: Position) -> Result<(), Unavailable> {
        Err(Unavailable(format!("nobody accepted a loss of shard {shard}")))
    }
}

#[async_trait]
impl Snapshots for Ports {
    async fn put(&self, shard: ShardId, name: &str, bytes: Bytes, expected: u64) -> Result<u64, PutError> {
        self.write(shard, name, Some(bytes), expected).await
    }

    async fn remove(&self, shard: ShardId, name: &str, expected: u64) -> Result<(), PutError> {
        self.write(shard, name, None, expected).await.map(drop)
    }

    async fn get(&self, shard: ShardId, name: &str) -> Result<Option<Snapshot>, Unavailable> {
        let name = name.to_owned();
        self.ask_values(move |inner| inner.value(shard, &name)).await
    }

    fn all(&self, shard: ShardId, shelf: Shelf) -> BoxStream<'_, Result<Snapshot, Unavailable>> {
        let gather = async move {
            let (mut found, mut seen) = (BTreeMap::new(), 0);
            loop {
                let some = self.ask_values(move |inner| inner.values_after(shard, shelf, seen, CHUNK)).await?;
                let Some((_, last, _)) = some.last() else { break };
                seen = *last;
                for (name, revision, bytes) in some {
                    match bytes {
                        Some(bytes) => drop(found.insert(name.clone(), Snapshot { name, revision, bytes })),
                        None => drop(found.remove(&name)),
                    }
                }
            }
            if shelf == Shelf::States {
                self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, seen);
            }
            Ok(stream::iter(found.into_values().map(Ok)))
        };
        stream::once(gather).try_flatten().boxed()
    }
}

#[async_trait]
impl Cluster for Ports {
    async fn announce(&self, node: &NodeId, info: Bytes) -> Result<(), AnnounceError> {
        let node = node.clone();
        Ok(self.ask(move |inner| inner.beat(&node, info)).await?)
    }

    async fn leave(&self, node: &NodeId) -> Result<(), Unavailable> {
        let node = node.clone();
        self.ask(move |inner| inner.leave(&node)).await
    }

    async fn beats(&self) -> Result<Vec<Beat>, Unavailable> {
        self.ask(|inner| inner.beats()).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Unavailable> {
        self.ask(|inner| inner.leases()).await
    }

    async fn claim(&self, shard: ShardId, node: &NodeId, over: Epoch) -> Result<Option<Epoch>, Unavailable> {
        let node = node.clone();
        self.ask(move |inner| inner.lease(shard, Some(node), over)).await
    }

    async fn release(&self, shard: ShardId, held: Epoch) -> Result<(), Unavailable> {
        self.ask(move |inner| inner.lease(shard, None, held)).await.map(drop)
    }
}

#[async_trait]
impl Outbox for Ports {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        let event = event.clone();
        let full = || Unavailable("no space left".into());
        let said = self.ask(move |inner| {
            (inner.trouble == Trouble::None).then(|| {
                inner.publish(event, None);
            })
        });
        said.await?.ok_or_else(full)
    }

    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        self.ask(|_| ()).await
    }
}

#[async_trait]
impl Events for Ports {
    async fn say(&self, event: &Envelope, place: &Place) -> Result<u64, SendError> {
        let (event, place) = (event.clone(), *place);
        let said =
            self.ask(move |inner| (inner.trouble == Trouble::None).then(|| inner.publish(event, Some(place)))).await?;
        let said = said.ok_or_else(|| Unavailable("no space left".into()))?;
        said.ok_or_else(|| SendError::Refused("the simulated server does not like its id".into()))
    }

    fn window(&self) -> Duration {
        self.server.inner().window
    }

    async fn held(&self, shard: ShardId, after: u64, _since: Time) -> Result<Held, Unavailable> {
        self.ask(move |inner| inner.held(shard, after)).await
    }

    async fn bury(&self, event: &Envelope, place: &Place, _why: &str) -> Result<(), SendError> {
        let (event, place) = (event.clone(), *place);
        let buried = self.ask(move |inner| (inner.trouble == Trouble::None).then(|| inner.bury(event, place))).await?;
        Ok(buried.ok_or_else(|| Unavailable("no space left".into()))?)
    }
}

#[async_trait]
impl RemoteActivities for Ports {
    async fn call(&self, _: &Tenant, activity: &str, _: &Attempt, _: Value) -> Result<RemoteAnswer, Failure> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err(Failure::transient("asking the bus", format!("nobody serves {activity}")))
    }
}

#[async_trait]
impl Peers for Ports {
    async fn deliver(&self, to: &SagaId, parcel: &Parcel) -> Result<(), Unavailable> {
        self.bus.deliver(&self.link, to, parcel).await
    }
}

/// Definitions, all known from the beginning.
#[derive(Default)]
pub struct Library {
    /// By version.
    pub by_reference: HashMap<DefinitionRef, Arc<Definition>>,
}

#[async_trait]
impl Definitions for Library {
    async fn get(&self, which: &DefinitionRef) -> Result<Option<Arc<Definition>>, Unavailable> {
        Ok(self.by_reference.get(which).cloned())
    }
}
