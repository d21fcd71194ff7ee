//! The shard's relay: sends what the journal says is to be sent, after it is durable, and knows up
//! to which position everything was sent. What one saga sends goes out one after the other, so that
//! whoever listens sees it in order; different sagas do not wait for each other, and events do not
//! wait for parcels to shards that cannot be reached. After a takeover the rest goes out under the
//! same ids, unless the event stream has it already ([`Ledger`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use protocol::{SagaId, SagaKey, ShardId, Time};
use tokio::time::Instant;
use tracing::warn;

use super::engine::{Engine, Limits};
use super::fair::Fair;
use super::journal::Meters;
use super::ledger::Ledger;
use super::progress::{Progress, Relayed};
use super::saga;
use super::say;
use super::shell::{Behaviour, Fault, Handle, Me};
use crate::journal::frame::Sending;
use crate::machine::Effect;
use crate::ports::{Parcel, Place, Position, Unavailable};

/// First pause before something is sent again.
pub(super) const AGAIN_MIN: Duration = Duration::from_millis(50);
/// Longest pause before something is sent again.
pub(super) const AGAIN_MAX: Duration = Duration::from_secs(5);

/// What the relay is told.
pub enum Message {
    /// A frame is durable; this is what it says is to be sent, in order.
    Committed {
        /// The frame's position.
        position: Position,
        /// What is to be sent.
        outbox: Vec<Arc<Sending>>,
    },
    /// What a takeover found that may not be sent: by frame, in order.
    Recovered(Vec<Unsent>),
    /// What every takeover sends, because whoever hears it twice hears it once. Nothing waits for it.
    Repeat(Vec<Arc<Sending>>),
    /// The first of what this saga sends was sent. An event stands in the event stream at the sequence
    /// that is told, if it is there.
    Sent(SagaId, Option<u64>),
    /// Tell this saga when all that it sent so far is gone.
    Await(Arc<SagaId>, Handle<saga::Message>),
}

/// What a frame says is to be sent.
pub struct Unsent {
    /// The frame.
    pub position: Position,
    /// What can be sent, in order.
    pub outbox: Vec<Arc<Sending>>,
    /// Which of the frame's events cannot, because nobody can read their saga any more: they keep
    /// their numbers.
    pub lost: Vec<u64>,
}

impl Unsent {
    /// What a record says, which has `recorded` events: they are counted in the frame's, whether they can
    /// be sent or not.
    pub(super) fn say(&mut self, sendings: Vec<Arc<Sending>>, recorded: u64, events: &mut u64) {
        let said = sendings.iter().filter(|sending| event(sending).is_some()).count() as u64;
        self.lost.extend(*events + said.min(recorded)..*events + recorded);
        *events += recorded;
        self.outbox.extend(sendings);
    }
}

/// Something to be sent.
#[derive(Clone)]
struct Item {
    sending: Arc<Sending>,
    /// The frame that waits for it.
    of: Option<Position>,
    /// An event's number.
    number: u64,
    /// Whether a former owner may have sent it.
    again: bool,
}

/// The relay actor of one shard.
pub struct RelayActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Which shard.
    pub shard: ShardId,
    /// Up to where everything was sent.
    pub relayed: Arc<Relayed>,
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
    ready: [Fair<SagaId>; Way::ALL.len()],
    in_flight: [usize; Way::ALL.len()],
    progress: Progress,
    ledger: Arc<Ledger>,
    /// When this relay began: what the stream holds of a former owner's was in it by then.
    began: Instant,
    /// Sagas that go on once what they sent is gone: one that sends much does not fill the lanes.
    awaited: HashMap<SagaId, Handle<saga::Message>>,
}

/// What one saga sends. It stands among the ready ones exactly once, unless its first is on its way.
#[derive(Default)]
struct Lane {
    queue: VecDeque<Item>,
    flying: bool,
}

impl Lane {
    /// Takes back the start of the child `key`, if it is not on its way yet and no former owner may have
    /// sent it, as the child may be born already. `of` is the frame that cancels it: what one frame starts
    /// and cancels no owner has sent.
    fn take_back(&mut self, key: &SagaKey, of: Option<Position>) -> Option<Item> {
        let starts = |item: &Item| matches!(&item.sending.effect, Effect::StartChild { key: born, .. } if born == key);
        let index = self.queue.iter().skip(usize::from(self.flying)).position(starts)? + usize::from(self.flying);
        let unsent = self.queue.get(index).is_some_and(|start| !start.again || start.of == of);
        if unsent { self.queue.remove(index) } else { None }
    }
}

impl Behaviour for RelayActor {
    type Message = Message;
    type State = State;

    async fn start(&self, _me: &Me<Message>) -> Result<State, Fault> {
        let sent = self.relayed.get();
        Ok(State {
            lanes: HashMap::new(),
            ready: Default::default(),
            in_flight: Default::default(),
            progress: Progress::new(sent),
            ledger: Arc::new(Ledger::new(self.shard, sent.stream)),
            began: Instant::now(),
            awaited: HashMap::new(),
        })
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Committed { position, outbox } => {
                state.open(Unsent { position, outbox, lost: Vec::new() }, false, self.engine.now(), &self.meters);
            }
            Message::Recovered(frames) => {
                let sendings = frames.iter().flat_map(|frame| &frame.outbox);
                // All of them first: one look finds them all.
                sendings.filter_map(|sending| event(sending)).for_each(|event| state.ledger.expect(event));
                for frame in frames {
                    state.open(frame, true, self.engine.now(), &self.meters);
                }
            }
            Message::Repeat(outbox) => {
                for sending in outbox {
                    state.take(Item { sending, of: None, number: 0, again: true }, &self.meters);
                }
            }
            Message::Sent(saga, sequence) => state.sent(saga, sequence, &self.meters),
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
                && let Some(item) = state.next(way)
            {
                self.send(me, item, state);
            }
        }
        self.relayed.set(state.progress.sent());
        self.meters.wait_since(state.progress.waits_since());
        Ok(())
    }
}

/// `saga` waits until it may send `effect`. What stops a saga or answers it comes before what begins one: a
/// family that is cancelled would otherwise grow as fast as it is stopped.
fn is_ready(ready: &mut [Fair<SagaId>; Way::ALL.len()], saga: SagaId, effect: &Effect) {
    let (way, tenant) = (&mut ready[Way::of(effect) as usize], saga.tenant.clone());
    if matches!(effect, Effect::StartChild { .. }) {
        way.push_behind(&tenant, saga);
    } else {
        way.push(&tenant, saga);
    }
}

impl State {
    /// What a frame says is to be sent.
    fn open(&mut self, frame: Unsent, again: bool, now: Time, meters: &Meters) {
        let Unsent { position, outbox, lost } = frame;
        self.progress.opened(position, outbox.len(), now);
        let mut lost = lost.into_iter().peekable();
        let mut index = 0;
        let mut skip = |progress: &mut Progress, index: &mut u64| {
            while lost.next_if_eq(index).is_some() {
                progress.number();
                *index += 1;
            }
        };
        for sending in outbox {
            let mut number = 0;
            if event(&sending).is_some() {
                skip(&mut self.progress, &mut index);
                number = self.progress.number();
                index += 1;
            }
            self.take(Item { sending, of: Some(position), number, again }, meters);
        }
        skip(&mut self.progress, &mut index);
    }

    /// Something is to be sent. A child that is cancelled before its start is on its way is not born:
    /// neither is sent.
    fn take(&mut self, item: Item, meters: &Meters) {
        meters.unsent.fetch_add(1, Relaxed);
        let known = self.lanes.get_mut(&item.sending.saga);
        if let Effect::CancelChild { key, .. } = &item.sending.effect
            && let Some(start) = known.and_then(|lane| lane.take_back(key, item.of))
        {
            self.done(start.of, meters);
            self.done(item.of, meters);
            return;
        }
        let lane = self.lanes.entry(item.sending.saga.clone()).or_insert_with(|| {
            is_ready(&mut self.ready, item.sending.saga.clone(), &item.sending.effect);
            Lane::default()
        });
        lane.queue.push_back(item);
    }

    /// What goes next that way.
    fn next(&mut self, way: Way) -> Option<Item> {
        while let Some(saga) = self.ready[way as usize].pop() {
            let Some(lane) = self.lanes.get_mut(&saga) else { continue };
            let Some(item) = lane.queue.front() else {
                // All it had was taken back.
                self.empty(&saga);
                continue;
            };
            let other = Way::of(&item.sending.effect);
            if other as usize != way as usize {
                is_ready(&mut self.ready, saga, &item.sending.effect);
                continue;
            }
            let next = item.clone();
            lane.flying = true;
            self.in_flight[way as usize] += 1;
            return Some(next);
        }
        None
    }

    /// The first of what `saga` sends was sent: the next one is ready.
    fn sent(&mut self, saga: SagaId, sequence: Option<u64>, meters: &Meters) {
        let Some(lane) = self.lanes.get_mut(&saga) else { return };
        let Some(item) = lane.queue.pop_front() else { return };
        lane.flying = false;
        self.in_flight[Way::of(&item.sending.effect) as usize] -= 1;
        match lane.queue.front() {
            Some(next) => is_ready(&mut self.ready, saga, &next.sending.effect),
            None => self.empty(&saga),
        }
        sequence.into_iter().for_each(|sequence| self.progress.holds(sequence));
        self.done(item.of, meters);
    }

    /// Nothing of `saga` is to be sent any more.
    fn empty(&mut self, saga: &SagaId) {
        self.lanes.remove(saga);
        if let Some(handle) = self.awaited.remove(saga) {
            handle.tell(saga::Message::Relayed);
        }
    }

    /// One thing less is open.
    fn done(&mut self, of: Option<Position>, meters: &Meters) {
        meters.unsent.fetch_sub(1, Relaxed);
        of.into_iter().for_each(|position| self.progress.closed(position));
    }
}

/// The event that is sent, if it is one.
fn event(sending: &Sending) -> Option<&protocol::Envelope> {
    match &sending.effect {
        Effect::Publish(event) => Some(event),
        Effect::StartChild { .. }
        | Effect::CancelChild { .. }
        | Effect::Ended { .. }
        | Effect::StartActivity(_)
        | Effect::StopActivity(_)
        | Effect::SetTimer { .. }
        | Effect::ClearTimer { .. }
        | Effect::Continue => None,
    }
}

impl RelayActor {
    fn send(&self, me: &Me<Message>, item: Item, state: &State) {
        let (engine, shard, me) = (self.engine.clone(), self.shard, me.clone());
        let say = event(&item.sending).map(|_| say::Saying {
            place: Place { shard, position: item.of.unwrap_or_default(), number: item.number },
            ledger: state.ledger.clone(),
            meters: self.meters.clone(),
            unsure: item.again.then_some(state.began),
        });
        tokio::spawn(async move {
            let saga = item.sending.saga.clone();
            let stopping = || me.cell().get_status() >= ractor::ActorStatus::Stopping;
            // Ends with the shard: a relay that is gone is not told, and its peers are asked by
            // the next owner.
            let sequence = match (say, event(&item.sending)) {
                (Some(saying), Some(event)) => {
                    let Some(sequence) = saying.until_settled(&engine, event, stopping).await else { return };
                    sequence
                }
                (Some(_), None) | (None, Some(_) | None) => {
                    let mut again = AGAIN_MIN;
                    while let Err(error) = send(&engine, &item.sending).await {
                        warn!(%shard, position = item.of, %error, "not sent yet, will try again");
                        #[cfg(feature = "simulation")]
                        if crate::simulation::planted(crate::simulation::Bug::Relay) {
                            break;
                        }
                        tokio::time::sleep(again).await;
                        again = (again * 2).min(AGAIN_MAX);
                        if stopping() {
                            return;
                        }
                    }
                    None
                }
            };
            me.tell(Message::Sent(saga, sequence));
        });
    }
}

async fn send(engine: &Engine, sending: &Sending) -> Result<(), Unavailable> {
    let peer = |key: &SagaKey| SagaId::new(sending.saga.tenant.clone(), key.clone());
    match &sending.effect {
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
        // Events are said, and the others are not for the relay.
        Effect::Publish(_)
        | Effect::Ended { parent: None, .. }
        | Effect::StartActivity(_)
        | Effect::StopActivity(_)
        | Effect::SetTimer { .. }
        | Effect::ClearTimer { .. }
        | Effect::Continue => Ok(()),
    }
}
