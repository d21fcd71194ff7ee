//! One worker: it runs when its timer is due, when an event concerns it, or when a person says so;
//! one run at a time. What is to run next its agenda decides; this actor carries it. Its memory is
//! read before the first run and written after each, so that the next node knows whether it is
//! paused and what it did last.
//!
//! Nothing here makes it the only one. The owner of its shard runs it, and during a takeover two
//! nodes can believe themselves to be that owner for a moment. Their memories are told apart by
//! compare-and-set; what they do to the world is guarded by whoever is asked to do it.

mod keeping;
mod running;
mod shown;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::command::RunAccepted;
use protocol::worker::{Paused, RunView, WorkerView};
use protocol::{Code, Envelope, Principal, Problem, Time, WorkerId};
use ractor::ActorCell;
use serde_json::json;
use tracing::warn;

use super::agenda::{Agenda, Asked, Bad, Heard};
use super::limits::Limits;
use super::memory::Memory;
use super::run;
use super::slots::Slots;
use crate::activity::Failure;
use crate::ports::{Kept, PutError, Unavailable, WorkerMemory};
use crate::tree::engine::Engine;
use crate::tree::reply::{Reply, moved};
use crate::tree::shell::{Behaviour, Fault, Handle, Me};
use crate::worker::{Report, Rhythm, Worker};

pub(super) use shown::nothing_yet;

/// The longest the alarm sleeps before the clock is looked at again: it sleeps in time that passed,
/// which knows nothing of a clock that was set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a worker is told.
pub enum Message {
    /// Something happened that may concern it.
    Event(Arc<Envelope>),
    /// Somebody wants a run now.
    RunNow {
        /// Who.
        asked: Asked,
        /// Told the number of the run.
        accepted: Reply,
        /// Told how that run went.
        ended: Option<Reply>,
    },
    /// Somebody wants no runs any more: who and why.
    Pause(Principal, String, Reply),
    /// Somebody wants runs again.
    Resume(Principal, Reply),
    /// Finish what is under way, bounded, and stop.
    Stop,

    /// From the attempt of that run and number: how it ended.
    Attempted(u64, u32, Box<Result<Report, Failure>>),
    /// The pause before that attempt of that run is over.
    Again(u64, u32),
    /// The alarm for the timer rang.
    Ring,
    /// What is remembered was read.
    Read(Result<Option<Kept>, Unavailable>),
    /// What is to be remembered was written, or not.
    Written(Result<u64, PutError>),
    /// Read, or write, what is remembered; the last try did not work.
    KeepAgain,
    /// The time to finish is over.
    StopNow,
}

/// The worker actor.
pub struct WorkerActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Settings.
    pub limits: Arc<Limits>,
    /// What it does.
    pub worker: Arc<dyn Worker>,
    /// Which one it is.
    pub id: WorkerId,
    /// Where what it remembers is kept.
    pub memory: Arc<dyn WorkerMemory>,
    /// What it says of itself.
    pub shown: Arc<Mutex<WorkerView>>,
}

/// What changes.
pub struct State {
    rhythm: Rhythm,
    slots: Option<Slots>,
    /// `None` until it is known what is remembered.
    agenda: Option<Agenda>,
    /// Events that came before that.
    early: Vec<Arc<Envelope>>,
    memory: Memory,
    keeping: keeping::Keeping,
    /// The next run by timer, and the alarm for it.
    due: Option<Time>,
    alarm: Option<(Time, tokio::task::JoinHandle<()>)>,
    under_way: running::UnderWay,
    /// Who hears how the next run went.
    curious: Vec<Reply>,
    history: VecDeque<RunView>,
    stopping: bool,
}

impl Behaviour for WorkerActor {
    type Message = Message;
    type State = State;

    async fn start(&self, me: &Me<Message>) -> Result<State, Fault> {
        let rhythm = self.worker.rhythm();
        let mut state = State {
            slots: Slots::new(&rhythm, self.id.digest()),
            rhythm,
            agenda: None,
            early: Vec::new(),
            memory: Memory::default(),
            keeping: keeping::Keeping::default(),
            due: None,
            alarm: None,
            under_way: running::UnderWay::default(),
            curious: Vec::new(),
            history: VecDeque::new(),
            stopping: false,
        };
        self.read(me, &mut state);
        self.show(me, &state);
        Ok(state)
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Event(event) => self.event(&event, state),
            Message::RunNow { asked, accepted, ended } => self.run_now(asked, accepted, ended, state),
            Message::Pause(by, reason, reply) => self.pause(&by, reason, reply, state),
            Message::Resume(by, reply) => self.resume(&by, reply, state),
            Message::Stop => self.stop(me, state),
            Message::Attempted(number, attempt, answer) => self.attempted(me, (number, attempt), *answer, state),
            Message::Again(number, attempt) => {
                if state.under_way.waits_for(number, attempt) {
                    self.attempt(me, state).await?;
                }
            }
            Message::Ring => {
                state.alarm = None;
                self.ring(state);
            }
            Message::Read(kept) => self.was_read(me, kept, state),
            Message::Written(written) => self.was_written(me, written, state),
            Message::KeepAgain => self.keep_again(me, state),
            Message::StopNow => {
                if let Some(attempt) = state.under_way.attempt() {
                    warn!(worker = %self.id, "a run did not end in time and is aborted");
                    attempt.kill();
                }
                me.stop();
            }
        }
        self.go_on(me, state).await
    }

    async fn child_ended(
        &self,
        me: &Me<Message>,
        child: ActorCell,
        failure: Option<String>,
        state: &mut State,
    ) -> Result<(), Fault> {
        // One that stopped in order has told us its answer; that message may still be behind this
        // event, which comes first.
        let Some(cause) = failure else { return Ok(()) };
        if state.under_way.attempt().is_none_or(|attempt| attempt.id() != child.get_id()) {
            return Ok(());
        }
        self.attempt_is_over(me, state);
        self.went_badly(me, Bad::Died(cause), state);
        self.go_on(me, state).await
    }

    async fn stopped(&self, state: &mut State) {
        if let Some((_, alarm)) = state.alarm.take() {
            alarm.abort();
        }
    }
}

impl WorkerActor {
    /// After every message: begins what is to begin, keeps what is to be kept, shows where it stands.
    async fn go_on(&self, me: &Me<Message>, state: &mut State) -> Result<(), Fault> {
        if !state.stopping && state.agenda.as_mut().is_some_and(|agenda| agenda.begin(self.engine.now()).is_some()) {
            state.under_way.begin(self, state.agenda.as_ref().and_then(Agenda::running), &mut state.curious);
            self.attempt(me, state).await?;
        }
        self.write(me, state);
        if state.stopping && state.under_way.attempt().is_none() && state.keeping.is_done() {
            me.stop();
        }
        self.set_alarm(me, state);
        self.show(me, state);
        Ok(())
    }

    fn event(&self, event: &Arc<Envelope>, state: &mut State) {
        if state.stopping || !self.worker.concerns(event, &self.id.environment) {
            return;
        }
        let heard = match &mut state.agenda {
            Some(agenda) => agenda.event(event),
            None if state.early.len() < self.limits.events_per_run => {
                state.early.push(event.clone());
                Heard::Taken
            }
            None => Heard::Full,
        };
        match heard {
            Heard::Taken | Heard::Known => {}
            Heard::Full => {
                let why = format!("{} has {} events waiting", self.id, self.limits.events_per_run);
                self.bury("worker-full", why, vec![event.clone()]);
            }
        }
    }

    fn run_now(&self, asked: Asked, accepted: Reply, ended: Option<Reply>, state: &mut State) {
        let Some(agenda) = state.agenda.as_mut().filter(|_| !state.stopping) else { return accepted.refuse(moved()) };
        match agenda.ask(asked) {
            Some(run) => {
                accepted.ok(&RunAccepted { worker: self.id.to_string(), run });
                state.curious.extend(ended);
            }
            None => accepted.refuse(
                Problem::new(Code::Busy, format!("too many already wait for the next run of {}", self.id))
                    .mend("that run is for you too; look at it with `skald workers`")
                    .retry_after_ms(1_000),
            ),
        }
    }

    fn pause(&self, by: &Principal, reason: String, reply: Reply, state: &mut State) {
        let Some(agenda) = state.agenda.as_mut().filter(|_| !state.stopping) else { return reply.refuse(moved()) };
        agenda.pause();
        state.due = None;
        if state.memory.paused.is_none() {
            state.memory.paused = Some(Paused { by: by.to_string(), at: self.engine.now(), reason });
        }
        state.keeping.word(reply, json!({ "worker": self.id.to_string(), "paused": true }));
    }

    fn resume(&self, by: &Principal, reply: Reply, state: &mut State) {
        let Some(agenda) = state.agenda.as_mut().filter(|_| !state.stopping) else { return reply.refuse(moved()) };
        agenda.resume();
        if state.memory.paused.take().is_some() {
            tracing::info!(worker = %self.id, %by, "worker resumed");
            state.due = state.slots.map(|slots| slots.next(self.engine.now(), self.engine.seeds.next()));
        }
        state.keeping.word(reply, json!({ "worker": self.id.to_string(), "paused": false }));
    }

    fn stop(&self, me: &Me<Message>, state: &mut State) {
        state.stopping = true;
        state.due = None;
        // Whoever waits asks again, and comes to the next owner.
        state.curious.clear();
        tell_later(me, self.limits.stop_grace, Message::StopNow);
    }

    /// The timer may be due: it sleeps in steps.
    fn ring(&self, state: &mut State) {
        let now = self.engine.now();
        let (Some(agenda), Some(slots)) = (&mut state.agenda, &state.slots) else { return };
        if state.due.is_some_and(|due| due <= now) {
            agenda.tick();
            state.due = Some(slots.next(now, self.engine.seeds.next()));
        }
    }

    fn set_alarm(&self, me: &Me<Message>, state: &mut State) {
        if state.alarm.as_ref().map(|(at, _)| *at) == state.due {
            return;
        }
        if let Some((_, alarm)) = state.alarm.take() {
            alarm.abort();
        }
        if let Some(due) = state.due {
            let alarm = tell_later(me, due.since(self.engine.now()).min(LOOK_EVERY), Message::Ring);
            state.alarm = Some((due, alarm));
        }
    }
}

fn tell_later(me: &Handle<Message>, pause: Duration, message: Message) -> tokio::task::JoinHandle<()> {
    let me = me.clone();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        me.tell(message);
    })
}
