//! The shard's relay: sends what the journal says is to be sent, after it is durable, and knows up
//! to which position everything was sent. What one saga sends goes out one after the other, so that
//! whoever listens sees it in order; different sagas do not wait for each other. After a takeover
//! the rest goes out again under the same ids.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use protocol::{SagaId, SagaKey, ShardId};
use tracing::{Instrument, warn};

use super::engine::Engine;
use super::shell::{Behaviour, Fault, Me};
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
    /// What this saga was sending for the frame at this position was sent.
    Sent(Position, SagaId),
}

/// The relay actor of one shard.
pub struct RelayActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Which shard.
    pub shard: ShardId,
    /// Everything up to here was sent.
    pub relayed: Arc<AtomicU64>,
}

/// What changes.
pub struct State {
    waiting: VecDeque<(Position, Arc<Sending>)>,
    /// Sagas with something under way, and what each sends after it.
    lanes: HashMap<SagaId, VecDeque<(Position, Arc<Sending>)>>,
    /// Positions with something unsent, and how much.
    open: BTreeMap<Position, usize>,
    last: Position,
}

impl Behaviour for RelayActor {
    type Message = Message;
    type State = State;

    async fn start(&self, _me: &Me<Message>) -> Result<State, Fault> {
        Ok(State {
            waiting: VecDeque::new(),
            lanes: HashMap::new(),
            open: BTreeMap::new(),
            last: self.relayed.load(Relaxed),
        })
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Committed { position, outbox } => {
                state.last = state.last.max(position);
                if !outbox.is_empty() {
                    *state.open.entry(position).or_default() += outbox.len();
                    state.waiting.extend(outbox.into_iter().map(|sending| (position, sending)));
                }
            }
            Message::Sent(position, saga) => {
                match state.lanes.get_mut(&saga).and_then(VecDeque::pop_front) {
                    Some((position, sending)) => self.send(me, position, sending),
                    None => drop(state.lanes.remove(&saga)),
                }
                if let Some(left) = state.open.get_mut(&position) {
                    *left -= 1;
                    if *left == 0 {
                        state.open.remove(&position);
                    }
                }
            }
        }
        while state.lanes.len() < self.engine.limits.relay_in_flight {
            let Some((position, sending)) = state.waiting.pop_front() else { break };
            match state.lanes.get_mut(&sending.saga) {
                Some(lane) => lane.push_back((position, sending)),
                None => {
                    state.lanes.insert(sending.saga.clone(), VecDeque::new());
                    self.send(me, position, sending);
                }
            }
        }
        let done = state.open.first_key_value().map_or(state.last, |(position, _)| position - 1);
        self.relayed.store(done, Relaxed);
        Ok(())
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
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
                if me.cell().get_status() >= ractor::ActorStatus::Stopping {
                    return;
                }
            }
            me.tell(Message::Sent(position, sending.saga.clone()));
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
        Effect::StartChild { step, key, definition, input } => {
            let parcel = Parcel::Child {
                definition: definition.clone(),
                input: input.clone(),
                parent: (sending.saga.key.clone(), *step),
                by: sending.by.clone(),
                trace: sending.trace.clone(),
            };
            engine.peers.deliver(&peer(key), &parcel).await
        }
        Effect::CancelChild { key } => {
            engine.peers.deliver(&peer(key), &Parcel::Cancel { by: sending.saga.key.to_string() }).await
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
        | Effect::ClearTimer { .. } => Ok(()),
    }
}
