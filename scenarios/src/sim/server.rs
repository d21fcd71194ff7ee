//! The simulated server: what it acknowledged is kept, whatever happens. It numbers as JetStream
//! does: the journal's frames of all shards share one sequence, so do the values of the snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::{Envelope, Epoch, EventId, NodeId, SagaId, ShardId, Time};
use supervisor::journal::{Anchor, Frame, Stream};
use supervisor::ports::{AppendError, Beat, Held, Lease, Parcel, Place, Position, Shelf, Snapshot};

use crate::check::Said;

/// How ids end of events that a server refuses for good, where it refuses any: one in sixteen.
const REFUSED_END: char = '7';

/// The server of one run.
#[derive(Default)]
pub struct Server(Mutex<Inner>);

/// Why the server answers nothing useful.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Trouble {
    /// It works.
    #[default]
    None,
    /// It is away: nothing is done, nothing answered.
    Away,
    /// Its disk is full: writes are refused.
    Full,
    /// Its leader changes: writes are refused for the moment.
    Leaderless,
}

struct Value {
    revision: u64,
    /// `None` is the note that it was removed.
    bytes: Option<Bytes>,
    writer: u64,
}

/// Everything it keeps.
#[derive(Default)]
pub struct Inner {
    /// What is wrong with it.
    pub trouble: Trouble,
    frames: BTreeMap<ShardId, Vec<(Position, Bytes)>>,
    sequence: Position,
    values: BTreeMap<(ShardId, String), Value>,
    /// When the store of snapshots, which was made anew, has a leader: until then whoever asks it waits.
    pub values_led: Option<tokio::time::Instant>,
    revision: u64,
    beats: BTreeMap<NodeId, Beat>,
    leases: BTreeMap<ShardId, Lease>,
    epoch: u64,
    events: Vec<Said>,
    /// Where and when the last message of an id was kept.
    event_ids: HashMap<EventId, (u64, tokio::time::Instant)>,
    /// How long the event stream knows an id again.
    pub window: Duration,
    /// Whether the event stream refuses some events for good, by their ids, and the bus some parcels, by
    /// the child that they are about.
    pub refuses: bool,
    buried: Vec<Said>,
    turned_back: BTreeSet<SagaId>,
    /// Appends that a fence refused.
    pub fenced: u64,
    anchors: BTreeMap<ShardId, Anchor>,
    /// How often each shard's stream was made anew.
    births: BTreeMap<ShardId, i64>,
    /// What was taken away, until somebody brings it back.
    copies: BTreeMap<ShardId, Vec<(Position, Bytes)>>,
}

/// How a journal is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The stream was deleted, and an empty one stands in its place.
    Deleted,
    /// An older copy stands in its place.
    Cut,
}

/// Whether a frame is the first of its owner.
fn is_takeover(bytes: &Bytes) -> bool {
    Frame::read(bytes).is_ok_and(|frame| frame.header.counter == 0)
}

impl Server {
    /// Everything inside.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Appends a frame if the shard's last is at `expected`.
    pub fn append(&mut self, shard: ShardId, frame: Bytes, expected: Position) -> Result<Position, AppendError> {
        match self.trouble {
            Trouble::None => {}
            Trouble::Away | Trouble::Leaderless => return Err(AppendError::Undecided("10164".into())),
            Trouble::Full => return Err(AppendError::Refused("no space left".into())),
        }
        let frames = self.frames.entry(shard).or_default();
        if frames.last().map_or(0, |(position, _)| *position) != expected {
            self.fenced += 1;
            return Err(AppendError::Conflict);
        }
        self.sequence += 1;
        frames.push((self.sequence, frame));
        Ok(self.sequence)
    }

    /// A shard's frames.
    pub fn frames(&self, shard: ShardId) -> &[(Position, Bytes)] {
        self.frames.get(&shard).map_or(&[], Vec::as_slice)
    }

    /// All frames, and an empty list for shards that have none.
    pub fn journal(&self, shards: u16) -> BTreeMap<ShardId, Vec<(Position, Bytes)>> {
        (0..shards).map(ShardId).map(|shard| (shard, self.frames(shard).to_vec())).collect()
    }

    /// A shard's stream.
    pub fn stream(&self, shard: ShardId) -> Stream {
        let born = Time::from_micros(self.births.get(&shard).copied().unwrap_or(0));
        let last = self.frames(shard).last().map_or(0, |(position, _)| *position);
        Stream { name: format!("J{shard}"), born, first: 1, last, known: last, kept_for: None }
    }

    /// What is kept of a shard's journal beside its lease.
    pub fn anchor(&self, shard: ShardId) -> Option<Anchor> {
        self.anchors.get(&shard).copied()
    }

    /// Keeps it, unless a later owner did. Answers whether it did.
    pub fn keep(&mut self, shard: ShardId, anchor: Anchor) -> bool {
        let is_newest = self.anchors.get(&shard).is_none_or(|kept| kept.epoch <= anchor.epoch);
        if is_newest {
            self.anchors.insert(shard, anchor);
        }
        is_newest
    }

    /// Takes a shard's journal away, or its end with all that is known of outside. Nothing happens to
    /// one that nobody ever looked after. An older copy has the last takeover: without it a former owner
    /// who does not know of that takeover yet would write, which nobody promises to notice.
    pub fn lose(&mut self, shard: ShardId, how: Loss) {
        let (Some(anchor), false) = (self.anchor(shard), self.copies.contains_key(&shard)) else { return };
        let Some(frames) = self.frames.get_mut(&shard) else { return };
        let fence = frames.iter().rev().find(|(_, bytes)| is_takeover(bytes)).map_or(0, |(at, _)| *at);
        if how == Loss::Cut && anchor.position <= fence {
            return;
        }
        self.copies.insert(shard, frames.clone());
        match how {
            Loss::Deleted => {
                frames.clear();
                *self.births.entry(shard).or_default() += 1;
            }
            Loss::Cut => frames.retain(|(position, _)| *position < anchor.position),
        }
    }

    /// The store of snapshots is deleted, and an empty one stands in its place, which has a leader after `long`.
    pub fn lose_snapshots(&mut self, long: Duration) {
        self.values.clear();
        self.values_led = Some(tokio::time::Instant::now() + long);
    }

    /// Brings a shard's journal back, as it was when it was lost.
    pub fn bring_back(&mut self, shard: ShardId) {
        if let Some(copy) = self.copies.remove(&shard) {
            self.frames.insert(shard, copy);
            self.births.remove(&shard);
        }
    }

    /// Writes a value over revision `expected`; `None` removes. A value may follow the note of a
    /// removal only when `writer` wrote that note, or has read the shard up to `known` since. Answers
    /// the new revision, or `None` when another stands there.
    pub fn write(
        &mut self,
        (shard, name): (ShardId, &str),
        bytes: Option<Bytes>,
        expected: u64,
        (writer, known): (u64, u64),
    ) -> Option<u64> {
        let key = (shard, name.to_owned());
        let free = match self.values.get(&key) {
            None => expected == 0,
            Some(Value { bytes: None, .. }) if bytes.is_none() => return Some(0),
            Some(there @ Value { bytes: None, .. }) => {
                expected == 0 && (there.writer == writer || there.revision <= known)
            }
            Some(there) => there.revision == expected,
        };
        if !free {
            return None;
        }
        self.revision += 1;
        self.values.insert(key, Value { revision: self.revision, bytes, writer });
        Some(self.revision)
    }

    /// The value under `name`.
    pub fn value(&self, shard: ShardId, name: &str) -> Option<Snapshot> {
        let there = self.values.get(&(shard, name.to_owned()))?;
        Some(Snapshot { name: name.to_owned(), revision: there.revision, bytes: there.bytes.clone()? })
    }

    /// The first values on a shelf of `shard` written after revision `after`, as an ordered consumer that keeps
    /// the last per key reads them; `None` is the note that one was removed.
    pub fn values_after(
        &self,
        shard: ShardId,
        shelf: Shelf,
        after: u64,
        most: usize,
    ) -> Vec<(String, u64, Option<Bytes>)> {
        let mut found: Vec<_> = self
            .values
            .iter()
            .filter(|((of, name), value)| *of == shard && Shelf::of(name) == shelf && value.revision > after)
            .map(|((_, name), value)| (name.clone(), value.revision, value.bytes.clone()))
            .collect();
        found.sort_by_key(|(_, revision, _)| *revision);
        found.truncate(most);
        found
    }

    /// A sign of life.
    pub fn beat(&mut self, node: &NodeId, info: Bytes) {
        self.revision += 1;
        self.beats.insert(node.clone(), Beat { node: node.clone(), number: self.revision, info });
    }

    /// A node leaves.
    pub fn leave(&mut self, node: &NodeId) {
        self.beats.remove(node);
    }

    /// Signs of life.
    pub fn beats(&self) -> Vec<Beat> {
        self.beats.values().cloned().collect()
    }

    /// Leases.
    pub fn leases(&self) -> Vec<Lease> {
        self.leases.values().cloned().collect()
    }

    /// Takes or gives back a lease over epoch `over`.
    pub fn lease(&mut self, shard: ShardId, owner: Option<NodeId>, over: Epoch) -> Option<Epoch> {
        if self.leases.get(&shard).map_or(Epoch(0), |lease| lease.epoch) != over {
            return None;
        }
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        self.leases.insert(shard, Lease { shard, owner, epoch });
        Some(epoch)
    }

    /// Keeps an event unless its id came within the window. Answers its sequence; none where it is
    /// refused for good.
    pub fn publish(&mut self, event: Envelope, place: Option<Place>) -> Option<u64> {
        if self.refuses && event.event_id.as_str().ends_with(REFUSED_END) {
            return None;
        }
        let now = tokio::time::Instant::now();
        let known = self.event_ids.get(&event.event_id).filter(|(_, at)| now - *at < self.window);
        if let Some((sequence, _)) = known {
            return Some(*sequence);
        }
        let sequence = self.events.len() as u64 + 1;
        self.event_ids.insert(event.event_id.clone(), (sequence, now));
        self.events.push(Said { event, place });
        Some(sequence)
    }

    /// Keeps what the event stream refuses.
    pub fn bury(&mut self, event: Envelope, place: Place) {
        // The dead letters know an id again for good: nobody reads them as a sequence.
        if self.buried.iter().all(|said| said.event.event_id != event.event_id) {
            self.buried.push(Said { event, place: Some(place) });
        }
    }

    /// Whether a parcel is too large for the bus, which it is for good: the start of a child, or its end
    /// with all that is to be told of it.
    pub fn turns_back(&mut self, to: &SagaId, parcel: &Parcel) -> bool {
        let (child, large) = match parcel {
            Parcel::Child { .. } => (to.clone(), 7),
            Parcel::ChildEnded { child: Some(child), outcome, .. } if outcome.output.is_some() => {
                (SagaId::new(to.tenant.clone(), child.clone()), 3)
            }
            Parcel::ChildEnded { .. } | Parcel::Cancel { .. } => return false,
        };
        let sum: u64 = child.key.as_str().bytes().map(u64::from).sum();
        let refused = self.refuses && sum % 8 == large;
        if refused {
            self.turned_back.insert(child);
        }
        refused
    }

    /// Children whose parcels were too large.
    pub fn turned_back(&self) -> BTreeSet<SagaId> {
        self.turned_back.clone()
    }

    /// What the event stream holds of a shard behind a sequence.
    pub fn held(&self, shard: ShardId, after: u64) -> Held {
        let behind = self.events.get(usize::try_from(after).unwrap_or(usize::MAX)..).unwrap_or_default();
        let ours = behind.iter().zip(after + 1..).filter(|(said, _)| said.place.is_some_and(|it| it.shard == shard));
        let events = ours.map(|(said, sequence)| (said.event.event_id.clone(), sequence)).collect();
        Held { events, read_to: self.events.len() as u64 }
    }

    /// The event stream.
    pub fn events(&self) -> Vec<Said> {
        self.events.clone()
    }

    /// What the event stream refused.
    pub fn buried(&self) -> Vec<Said> {
        self.buried.clone()
    }
}
