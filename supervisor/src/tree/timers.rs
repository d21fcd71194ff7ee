//! The shard's timers: one wheel for all its sagas, also for those that sleep. Timers are durable
//! through the records that set them; this is only their alarm.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use protocol::{SagaId, Time};

use super::engine::Engine;
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
        }
        self.fire(state);
        self.meters.set_due(state.due.first().map(|(at, _, _)| *at));
        self.set_alarm(me, state);
        Ok(())
    }

    async fn stopped(&self, state: &mut State) {
        if let Some((_, alarm)) = state.alarm.take() {
            alarm.abort();
        }
    }
}

impl TimersActor {
    fn fire(&self, state: &mut State) {
        let now = self.engine.now();
        while state.due.first().is_some_and(|(at, _, _)| *at <= now) {
            let Some((_, saga, timer)) = state.due.pop_first() else { break };
            state.times.remove(&(saga.clone(), timer));
            self.owner.tell(shard::Message::Due { saga, timer });
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
