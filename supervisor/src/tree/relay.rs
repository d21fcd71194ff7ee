//! The shard's relay: sends what the journal says is to be sent, after it is durable, and knows up
//! to which position everything was sent. What one saga sends goes out one after the other, so that
//! whoever listens sees it in order; different sagas do not wait for each other, and events do not
//! wait for parcels to shards that cannot be reached. After a takeover the rest goes out again under
//! the same ids.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use protocol::{SagaId, SagaKey, ShardId};
use tracing::{Instrument, warn};

use super::engine::{Engine, Limits};
use super::journal::Meters;
use super::saga;
use super::shell::{Behaviour, Fault, Handle, Me};
use crate::journal::frame::Sending;
use crate::machine::Effect;
use crate::ports::{Parcel, Position, Unavailable};

/// First pause before something is sent again.
const AGAIN_MIN: Duration = Duration::from_millis(50);
/// Longest pause before something is sent again.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// What the relay is told.
pub enum Message {
    /// A frame is durable; this is what it says is to be sent, in order.
    Committed {
        /// The frame's position.
        position: Position,
        /// What is to be sent.
        outbox: Vec<Arc<Sending>>,
    },
    /// The first of what this saga sends was sent.
    Sent(SagaId),
    /// Tell this saga when all that it sent so far is gone.
    Await(Arc<SagaId>, Handle<saga::Message>),
}

/// The relay actor of one shard.
pub struct RelayActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Which shard.
    pub shard: ShardId,
    /// Everything up to here was sent.
    pub relayed: Arc<AtomicU64>,
    /// Counters.
    pub meters: Arc<Meters>,
}

/// Where something goes: each has room of its own on its way.
#[derive(Clone, Copy)]
enum Way {
    /// To the event stream.
    Event,
    /// To another saga.
    Parcel,
}

impl Way {
    const ALL: [Self; 2] = [Self::Event, Self::Parcel];

    const fn of(effect: &Effect) -> Self {
        match effect {
            Effect::StartChild { .. } | Effect::CancelChild { .. } | Effect::Ended { .. } => Self::Parcel,
            Effect::Publish(_)
            | Effect::StartActivity(_)
            | Effect::StopActivity(_)
            | Effect::SetTimer { .. }
            | Effect::ClearTimer { .. }
            | Effect::Continue => Self::Event,
        }
    }

    const fn room(self, limits: &Limits) -> usize {
        match self {
            Self::Event => limits.relay_in_flight,
            Self::Parcel => limits.parcels_in_flight,
        }
    }
}

/// What changes.
pub struct State {
    /// What each saga sends, in order.
    lanes: HashMap<SagaId, Lane>,
    /// Sagas whose first may go as soon as there is room on its way.
    ready: [VecDeque<SagaId>; Way::ALL.len()],
    in_flight: [usize; Way::ALL.len()],
    /// Positions with something unsent, and how much.
    open: BTreeMap<Position, usize>,
    last: Position,
    /// Sagas that go on once what they sent is gone: one that sends much does not fill the lanes.
    awaited: HashMap<SagaId, Handle<saga::Message>>,
}

/// What one saga sends. It stands among the ready ones exactly once, unless its first is on its way.
#[derive(Default)]
struct Lane {
    queue: VecDeque<(Position, Arc<Sending>)>,
    flying: bool,
}

impl Lane {
    /// Takes back the start of the child `key`, if it is not on its way yet.
    fn take_back(&mut self, key: &SagaKey) -> Option<Position> {
        let starts = |(_, sending): &(Position, Arc<Sending>)| matches!(&sending.effect, Effect::StartChild { key: born, .. } if born == key);
        let index = self.queue.iter().skip(usize::from(self.flying)).position(starts)?;
        self.queue.remove(index + usize::from(self.flying)).map(|(position, _)| position)
    }
}

impl Behaviour for RelayActor {
    type Message = Message;
    type State = State;

    async fn start(&self, _me: &Me<Message>) -> Result<State, Fault> {
        Ok(State {
            lanes: HashMap::new(),
            ready: Default::default(),
            in_flight: Default::default(),
            open: BTreeMap::new(),
            last: self.relayed.load(Relaxed),
            awaited: HashMap::new(),
        })
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Committed { position, outbox } => {
                state.last = state.last.max(position);
                if !outbox.is_empty() {
                    *state.open.entry(position).or_default() += outbox.len();
                    self.meters.unsent.fetch_add(outbox.len() as u64, Relaxed);
                }
                for sending in outbox {
                    state.take(position, sending, &self.meters);
                }
            }
            Message::Sent(saga) => state.sent(saga, &self.meters),
            Message::Await(saga, handle) if state.lanes.contains_key(&*saga) => {
                state.awaited.insert((*saga).clone(), handle);
            }
            Message::Await(_, handle) => {
                handle.tell(saga::Message::Relayed);
            }
        }
        // Twice, because a saga whose first was taken back may be ready for the other way.
        for way in Way::ALL.into_iter().chain(Way::ALL) {
            while state.in_flight[way as usize] < way.room(&self.engine.limits)
                && let Some((position, sending)) = state.next(way)
            {
                self.send(me, position, sending);
            }
        }
        let done = state.open.first_key_value().map_or(state.last, |(position, _)| position - 1);
        self.relayed.store(done, Relaxed);
        Ok(())
    }
}

impl State {
    /// The first of what `saga` sends was sent: the next one is ready.
    fn sent(&mut self, saga: SagaId, meters: &Meters) {
        let Some(lane) = self.lanes.get_mut(&saga) else { return };
        let Some((position, sending)) = lane.queue.pop_front() else { return };
        lane.flying = false;
        self.in_flight[Way::of(&sending.effect) as usize] -= 1;
        match lane.queue.front() {
            Some((_, next)) => self.ready[Way::of(&next.effect) as usize].push_back(saga),
            None => self.empty(&saga),
        }
        self.done(position, meters);
    }

    /// Something is to be sent. A child that is cancelled before its start is on its way is not born:
    /// neither is sent.
    fn take(&mut self, position: Position, sending: Arc<Sending>, meters: &Meters) {
        let known = self.lanes.get_mut(&sending.saga);
        if let Effect::CancelChild { key, .. } = &sending.effect
            && let Some(started) = known.and_then(|lane| lane.take_back(key))
        {
            self.done(started, meters);
            self.done(position, meters);
            return;
        }
        let lane = self.lanes.entry(sending.saga.clone()).or_insert_with(|| {
            self.ready[Way::of(&sending.effect) as usize].push_back(sending.saga.clone());
            Lane::default()
        });
        lane.queue.push_back((position, sending));
    }

    /// What goes next that way.
    fn next(&mut self, way: Way) -> Option<(Position, Arc<Sending>)> {
        while let Some(saga) = self.ready[way as usize].pop_front() {
            let Some(lane) = self.lanes.get_mut(&saga) else { continue };
            let Some((position, sending)) = lane.queue.front() else {
                // All it had was taken back.
                self.empty(&saga);
                continue;
            };
            let other = Way::of(&sending.effect);
            if other as usize != way as usize {
                self.ready[other as usize].push_back(saga);
                continue;
            }
            let next = (*position, sending.clone());
            lane.flying = true;
            self.in_flight[way as usize] += 1;
            return Some(next);
        }
        None
    }

    /// Nothing of `saga` is to be sent any more.
    fn empty(&mut self, saga: &SagaId) {
        self.lanes.remove(saga);
        if let Some(handle) = self.awaited.remove(saga) {
            handle.tell(saga::Message::Relayed);
        }
    }

    /// One thing less is open at `position`.
    fn done(&mut self, position: Position, meters: &Meters) {
        meters.unsent.fetch_sub(1, Relaxed);
        if let Some(left) = self.open.get_mut(&position) {
            *left -= 1;
            if *left == 0 {
                self.open.remove(&position);
            }
        }
    }
}

impl RelayActor {
    fn send(&self, me: &Me<Message>, position: Position, sending: Arc<Sending>) {
        let (engine, shard, me) = (self.engine.clone(), self.shard, me.clone());
        tokio::spawn(async move {
            let mut again = AGAIN_MIN;
            // Ends with the shard: a relay that is gone is not told, and its peers are asked by
            // the next owner.
            while let Err(error) = send(&engine, &sending).await {
                warn!(%shard, position, %error, "not sent yet, will try again");
                #[cfg(feature = "simulation")]
                if crate::simulation::planted(crate::simulation::Bug::Relay) {
                    break;
                }
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
                if me.cell().get_status() >= ractor::ActorStatus::Stopping {
                    return;
                }
            }
            me.tell(Message::Sent(sending.saga.clone()));
        });
    }
}

async fn send(engine: &Engine, sending: &Sending) -> Result<(), Unavailable> {
    let peer = |key: &SagaKey| SagaId::new(sending.saga.tenant.clone(), key.clone());
    match &sending.effect {
        Effect::Publish(event) => {
            let span = tracing::debug_span!("event", name = event.event_type, id = %event.event_id);
            engine.observer.joins(&span, &event.trace_id);
            engine.outbox.publish(event).instrument(span).await?;
            engine.observer.published();
            Ok(())
        }
        Effect::StartChild { step, key, definition, pinned, input } => {
            let parcel = Parcel::Child {
                definition: definition.clone(),
                input: input.clone(),
                parent: (sending.saga.key.clone(), *step),
                by: sending.by.clone(),
                trace: sending.trace.clone(),
                causes: sending.causes,
                family: sending.family.below(&sending.saga.key),
                pinned: pinned.clone().map(Box::new),
            };
            engine.peers.deliver(&peer(key), &parcel).await
        }
        Effect::CancelChild { step, key } => {
            let parcel = Parcel::Cancel { by: sending.saga.key.clone(), step: *step };
            engine.peers.deliver(&peer(key), &parcel).await
        }
        Effect::Ended { outcome, parent: Some((key, step)) } => {
            let child = Some(sending.saga.key.clone());
            engine.peers.deliver(&peer(key), &Parcel::ChildEnded { step: *step, child, outcome: outcome.clone() }).await
        }
        // These are not for the relay.
        Effect::Ended { parent: None, .. }
        | Effect::StartActivity(_)
        | Effect::StopActivity(_)
        | Effect::SetTimer { .. }
        | Effect::ClearTimer { .. }
        | Effect::Continue => Ok(()),
    }
}
