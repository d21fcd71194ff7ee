//! The shard's timers: one wheel for all its sagas, also for those that sleep. Timers are durable
//! through the records that set them; this is only their alarm.
//!
//! Many can be due at once. The shard is told of so many at a time that it stays ready for other
//! things, and tenants take turns.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use protocol::{SagaId, Tenant, Time};

use super::engine::Engine;
use super::fair::Fair;
use super::journal::Meters;
use super::shard;
use super::shell::{Behaviour, Fault, Handle, Me};

/// The longest the alarm sleeps before the clock is looked at again: it sleeps in time that passed,
/// which knows nothing of a clock that was set, or of a machine that was suspended.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the timers are told.
pub enum Message {
    /// Wake `saga` at `at`.
    Set {
        /// Whose.
        saga: Arc<SagaId>,
        /// Its number within the saga.
        timer: u64,
        /// When.
        at: Time,
    },
    /// Not wanted any more.
    Clear {
        /// Whose.
        saga: Arc<SagaId>,
        /// Its number within the saga.
        timer: u64,
    },
    /// The alarm that was set for the earliest timer rang.
    Ring,
    /// A saga of this tenant has taken in that its timer is due.
    TakenIn(Tenant),
}

/// A due timer that its saga has not taken in yet. Dropped, it makes room for the next.
pub struct UnderWay {
    tenant: Tenant,
    timers: Me<Message>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.timers.tell(Message::TakenIn(self.tenant.clone()));
    }
}

/// The timers actor of one shard.
pub struct TimersActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Who is told what is due.
    pub owner: Handle<shard::Message>,
    /// Counters.
    pub meters: Arc<Meters>,
}

/// What changes.
#[derive(Default)]
pub struct State {
    due: BTreeSet<(Time, Arc<SagaId>, u64)>,
    times: HashMap<(Arc<SagaId>, u64), Time>,
    /// What is due and waits until fewer of its tenant are under way.
    ready: Fair<(Time, Arc<SagaId>, u64)>,
    alarm: Option<(Time, tokio::task::JoinHandle<()>)>,
}

impl Behaviour for TimersActor {
    type Message = Message;
    type State = State;

    async fn start(&self, _me: &Me<Message>) -> Result<State, Fault> {
        Ok(State::default())
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Set { saga, timer, at } => {
                if let Some(before) = state.times.insert((saga.clone(), timer), at) {
                    state.due.remove(&(before, saga.clone(), timer));
                }
                state.due.insert((at, saga, timer));
            }
            Message::Clear { saga, timer } => {
                if let Some(at) = state.times.remove(&(saga.clone(), timer)) {
                    state.due.remove(&(at, saga, timer));
                }
            }
            Message::Ring => state.alarm = None,
            Message::TakenIn(tenant) => state.ready.give_back(&tenant),
        }
        self.fire(state);
        self.feed(me, state);
        self.meters.set_due(state.oldest());
        self.set_alarm(me, state);
        Ok(())
    }

    async fn stopped(&self, state: &mut State) {
        if let Some((_, alarm)) = state.alarm.take() {
            alarm.abort();
        }
    }
}

impl State {
    /// When the oldest timer was due, or the earliest is, of which the shard was not told.
    fn oldest(&self) -> Option<Time> {
        let wanted =
            |(at, saga, timer): &&(Time, Arc<SagaId>, u64)| self.times.get(&(saga.clone(), *timer)) == Some(at);
        let ready = self.ready.queues().filter_map(|mut queue| queue.find(wanted));
        ready.chain(self.due.first()).map(|(at, _, _)| *at).min()
    }
}

impl TimersActor {
    fn fire(&self, state: &mut State) {
        let now = self.engine.now();
        while state.due.first().is_some_and(|(at, _, _)| *at <= now) {
            let Some((at, saga, timer)) = state.due.pop_first() else { break };
            state.ready.push(&saga.tenant.clone(), (at, saga, timer));
        }
    }

    /// Tells the shard of what is ready, one of each tenant after the other, as far as there is room.
    fn feed(&self, me: &Me<Message>, state: &mut State) {
        while let Some((tenant, (at, saga, timer))) = state.ready.take(self.engine.limits.due_in_flight) {
            // Cleared meanwhile, or set to another time.
            if state.times.get(&(saga.clone(), timer)) != Some(&at) {
                state.ready.give_back(&tenant);
                continue;
            }
            state.times.remove(&(saga.clone(), timer));
            let under_way = UnderWay { tenant, timers: me.clone() };
            self.owner.tell(shard::Message::Due { saga, timer, under_way });
        }
    }

    fn set_alarm(&self, me: &Me<Message>, state: &mut State) {
        let first = state.due.first().map(|(at, _, _)| *at);
        if state.alarm.as_ref().map(|(at, _)| *at) == first {
            return;
        }
        if let Some((_, alarm)) = state.alarm.take() {
            alarm.abort();
        }
        if let Some(at) = first {
            // One millisecond of slack is tokio's resolution; never early, because `fire` looks
            // at the clock again.
            let wait = at.since(self.engine.now()).min(LOOK_EVERY);
            let me = me.clone();
            let alarm = tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                me.tell(Message::Ring);
            });
            state.alarm = Some((at, alarm));
        }
    }
}
