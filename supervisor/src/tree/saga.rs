//! One saga: facts come in, the machine decides, the journal makes it durable, and only then does
//! anything happen. Everything decided here is decided by the driver; this actor only carries it.
//!
//! An ordinary decision is made here, on a thread that carries messages, within a brief allowance.
//! `deciding` does what takes longer: it waits for a turn.

mod deciding;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use protocol::view::{Outcome, Status};
use protocol::{Code, Epoch, Problem, SagaId, ShardId, Time, Value, codec};
use ractor::{ActorCell, ActorId};
use tracing::warn;

use super::card::Card;
use super::census::Stored;
use super::engine::Engine;
use super::journal::{self, Ticket};
use super::relay;
use super::reply::{Answer, Reply, moved};
use super::shard;
use super::shell::{self, Behaviour, Fault, Handle, Me};
use super::step::{self, StepActor};
use super::timers;
use super::turns::Turn;
use crate::activity::Heartbeat;
use crate::journal::frame::{Batch, RECORD_OVERHEAD, Sending};
use crate::machine::{
    ActivityCall, AttemptRef, Driver, Effect, Execution, Fact, FactKind, Offer, Remains, StepError, read_token,
};
use crate::ports::Position;
pub use deciding::Decided;
use deciding::Length;

/// A batch takes no more records once it has this part of the largest frame: the one that is decided
/// next may need the rest (`record_bytes` of the machine's limits).
const BATCH_SHARE: usize = 8;

/// What a saga is told.
pub enum Message {
    /// Something came from outside, through the shard.
    Offer(FactKind, Reply),
    /// A step of ours answered.
    StepDone(AttemptRef, Result<Value, StepError>),
    /// A remote worker is alive; the token proves that it was asked.
    Beat(String, Reply),
    /// A remote worker answered; the token proves that it was asked.
    Answer(String, FactKind, Reply),
    /// Our last batch is durable.
    Committed(Position),
    /// Our last batch can never be made durable.
    TooLarge,
    /// Describe yourself, as of what is durable.
    Describe(Reply),
    /// Give a snapshot, as of what is durable, to the shard.
    Snapshot,
    /// Begin with what is still wanted after a recovery.
    Resume,
    /// What we sent is gone: it may go on.
    Relayed,
    /// The turn that was asked for.
    Turn(Turn),
    /// A decision that was made at length, or the panic that it ended in.
    Decided(Result<Box<Decided>, String>),
}

/// What the shard may look at without asking.
#[derive(Debug)]
pub struct Glance {
    /// Journal position of the last durable batch.
    pub position: Arc<AtomicU64>,
    seen: Mutex<Seen>,
}

/// Where a saga stands.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its status.
    pub status: Status,
    /// The state the outermost scope is in.
    pub state: String,
    /// The last change.
    pub changed_at: Time,
    /// Records so far.
    pub records: u64,
}

impl Glance {
    /// Of a saga as it is now.
    pub fn new(execution: &Execution) -> Arc<Self> {
        Arc::new(Self {
            position: Arc::new(AtomicU64::new(execution.position())),
            seen: Mutex::new(Seen::of(execution)),
        })
    }

    /// Where it stands.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its status and last change.
    pub fn stands(&self) -> (Status, Time) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.status, seen.changed_at)
    }

    fn update(&self, execution: &Execution) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::of(execution);
    }
}

impl Seen {
    /// Of an execution.
    pub fn of(execution: &Execution) -> Self {
        Self {
            status: execution.status(),
            state: execution.state(),
            changed_at: execution.changed_at(),
            records: execution.records(),
        }
    }
}

/// The saga actor.
pub struct SagaActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Its shard, and the epoch under which this node has it.
    pub held: (ShardId, Epoch),
    /// Which saga.
    pub saga: Arc<SagaId>,
    /// Where it begins; taken by the first start.
    pub driver: Mutex<Option<Driver>>,
    /// The shard.
    pub owner: Handle<shard::Message>,
    /// The shard's journal.
    pub journal: Handle<journal::Message>,
    /// The shard's timers.
    pub timers: Handle<timers::Message>,
    /// The shard's relay.
    pub relay: Handle<relay::Message>,
    /// Shared with the shard.
    pub glance: Arc<Glance>,
    /// What the saga takes of its tenant's bytes.
    pub stored: Arc<Stored>,
}

/// What changes.
pub struct State {
    driver: Driver,
    /// Decided on what is not durable yet: who is to be told what once it is.
    pending: Vec<(Reply, Answer)>,
    /// In the journal's hands.
    appending: bool,
    /// Bytes of it.
    batch_bytes: usize,
    /// Came while the journal was busy with us.
    queue: VecDeque<(FactKind, Reply)>,
    length: Length,
    /// Questions about durable state that wait for the journal.
    questions: Vec<Question>,
    steps: BTreeMap<AttemptRef, Step>,
    step_of: HashMap<ActorId, AttemptRef>,
    /// Facts taken from the shard: it lets us sleep only if it sent no more than these.
    taken: u64,
    snapshot_at: u64,
    told_end: bool,
    told_parked: bool,
}

enum Question {
    Describe(Reply),
    Snapshot,
}

struct Step {
    handle: Handle<step::Message>,
    heartbeat: Heartbeat,
}

impl Behaviour for SagaActor {
    type Message = Message;
    type State = State;

    async fn start(&self, _me: &Me<Message>) -> Result<State, Fault> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let driver = driver.ok_or("a saga actor is started once; the shard makes a new one from the journal")?;
        let snapshot_at = driver.execution().records();
        Ok(State {
            driver,
            pending: Vec::new(),
            appending: false,
            batch_bytes: 0,
            queue: VecDeque::new(),
            length: Length::default(),
            questions: Vec::new(),
            steps: BTreeMap::new(),
            step_of: HashMap::new(),
            taken: 0,
            snapshot_at,
            told_end: false,
            told_parked: false,
        })
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Offer(fact, reply) => {
                state.taken += 1;
                self.take(me, fact, reply, state);
            }
            Message::StepDone(attempt, answer) => {
                self.forget_step(me, attempt, state);
                let fact = match answer {
                    Ok(output) => FactKind::StepSucceeded { attempt, output },
                    Err(error) => FactKind::StepFailed { attempt, error },
                };
                self.take(me, fact, Reply::nobody(), state);
            }
            Message::Answer(token, fact, reply) => {
                state.taken += 1;
                if state.driver.execution().gave(&token) {
                    self.take(me, fact, reply, state);
                } else {
                    reply.refuse(forged());
                }
            }
            Message::Beat(token, reply) if !state.driver.execution().gave(&token) => reply.refuse(forged()),
            Message::Beat(token, reply) => {
                match read_token(&token).and_then(|(_, attempt)| state.steps.get(&attempt)) {
                    Some(step) => {
                        step.heartbeat.beat();
                        reply.ok(&serde_json::json!({}));
                    }
                    None => reply.refuse(
                        Problem::new(Code::NotNow, "the attempt is not under way any more").mend("stop the work"),
                    ),
                }
            }
            Message::Committed(position) => self.committed(me, position, state).await?,
            Message::TooLarge => return Err("a decision is larger than a frame of the journal may be".into()),
            Message::Describe(reply) => {
                state.taken += 1;
                state.questions.push(Question::Describe(reply));
            }
            Message::Snapshot => state.questions.push(Question::Snapshot),
            Message::Relayed => self.may_go_on(me, state),
            Message::Turn(turn) => self.turn_came(me, turn, state)?,
            Message::Decided(decided) => self.decided(me, decided, state)?,
            #[cfg(feature = "simulation")]
            Message::Resume if crate::simulation::planted(crate::simulation::Bug::Resume) => {}
            Message::Resume => {
                for effect in state.driver.resume() {
                    self.begin(me, effect, state).await?;
                }
                self.tell_end(me, state);
            }
        }
        self.answer_questions(me, state);
        self.rest(me, state);
        Ok(())
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
        let Some(attempt) = state.step_of.get(&child.get_id()).copied() else { return Ok(()) };
        self.forget_step(me, attempt, state);
        warn!(saga = %self.saga, step = attempt.step, attempt = attempt.attempt, cause, "attempt died");
        let error = StepError { error: "States.TaskFailed".into(), cause, permanent: false };
        self.take(me, FactKind::StepFailed { attempt, error }, Reply::nobody(), state);
        Ok(())
    }
}

impl SagaActor {
    fn take(&self, me: &Me<Message>, fact: FactKind, reply: Reply, state: &mut State) {
        // Our own facts are bounded by what is under way, and nobody would send them again.
        if state.queue.len() >= self.engine.limits.facts_per_saga && !reply.is_nobodys() {
            return reply.refuse(
                Problem::new(Code::Busy, format!("{} has too many facts waiting", self.saga)).retry_after_ms(200),
            );
        }
        state.put_in_line(fact, reply);
        self.decide(me, state);
    }

    /// Offers what waits, and hands the records to the journal as one batch. What would make the
    /// batch too large for a frame waits for the next.
    fn decide(&self, me: &Me<Message>, state: &mut State) {
        if !state.appending && !state.length.is_deciding() {
            self.decide_with(me, Batch::default(), state);
        }
    }

    fn decide_with(&self, me: &Me<Message>, mut batch: Batch, state: &mut State) {
        let enough = self.engine.limits.writer.batch_max_bytes / BATCH_SHARE;
        let mut bytes = batch.bytes();
        while bytes < enough
            && let Some((kind, reply)) = state.next_in_line()
        {
            let fact = Fact { at: self.engine.now(), seed: self.engine.seeds.next(), kind };
            match self.offer_briefly(fact, state) {
                Offer::Unfinished(fact) => {
                    self.wait_in_line(me, fact.kind, reply, state);
                    break;
                }
                offer => bytes += settle(offer, reply, &mut batch, state),
            }
        }
        if batch.records.is_empty() {
            self.answer_unwritten(state);
        } else {
            state.batch_bytes = batch.bytes();
            batch.outbox = Sending::of(&state.driver, state.driver.outbox().cloned());
            #[cfg(feature = "simulation")]
            self.publish_early(&batch);
            state.appending = true;
            state.length.sends = !batch.outbox.is_empty();
            let ticket = Ticket::Saga(me.clone(), self.glance.position.clone());
            self.journal.tell(journal::Message::Append(batch, ticket));
        }
    }

    /// Answers facts that leave no record, if the shard is still this node's: a new owner may know
    /// what they are about.
    fn answer_unwritten(&self, state: &mut State) {
        let answers: Vec<_> = state.pending.drain(..).filter(|(reply, _)| !reply.is_nobodys()).collect();
        if answers.is_empty() {
            return;
        }
        let (engine, (shard, epoch)) = (self.engine.clone(), self.held);
        tokio::spawn(async move {
            let current = engine.is_current(shard, epoch).await;
            for (reply, answer) in answers {
                reply.send(if current { answer } else { Err(moved()) });
            }
        });
    }

    #[cfg(feature = "simulation")]
    fn publish_early(&self, batch: &Batch) {
        for sending in batch.outbox.iter().filter(|_| crate::simulation::planted(crate::simulation::Bug::Early)) {
            let (engine, sending) = (self.engine.clone(), sending.clone());
            tokio::spawn(async move {
                if let Effect::Publish(event) = &sending.effect {
                    // The relay will send it again.
                    let _ = engine.outbox.publish(event).await;
                }
            });
        }
    }

    async fn committed(&self, me: &Me<Message>, position: Position, state: &mut State) -> Result<(), Fault> {
        state.appending = false;
        self.stored.wrote(state.batch_bytes);
        let effects = state.driver.confirm(position);
        self.tell_of_parking(me, state);
        self.glance.update(state.driver.execution());
        for (reply, answer) in state.pending.drain(..) {
            reply.send(answer);
        }
        for effect in effects {
            self.begin(me, effect, state).await?;
        }
        self.answer_questions(me, state);
        self.tell_end(me, state);
        if state.driver.execution().records() >= state.snapshot_at + self.engine.limits.snapshot_every_records {
            self.give_snapshot(me, state);
        }
        self.decide(me, state);
        self.ask_for_turn(me, state);
        Ok(())
    }

    async fn begin(&self, me: &Me<Message>, effect: Effect, state: &mut State) -> Result<(), Fault> {
        match effect {
            Effect::StartActivity(call) => self.start_step(me, call, state).await?,
            Effect::StopActivity(attempt) => {
                if let Some(step) = self.forget_step(me, attempt, state) {
                    step.handle.kill();
                }
            }
            Effect::SetTimer { timer, at } => {
                self.timers.tell(timers::Message::Set { saga: self.saga.clone(), timer, at });
            }
            Effect::ClearTimer { timer } => {
                self.timers.tell(timers::Message::Clear { saga: self.saga.clone(), timer });
            }
            Effect::Continue => self.go_on(me, state),
            // The relay sends these: it got them with the batch.
            Effect::Publish(_) | Effect::StartChild { .. } | Effect::CancelChild { .. } | Effect::Ended { .. } => {}
        }
        Ok(())
    }

    async fn start_step(&self, me: &Me<Message>, call: Box<ActivityCall>, state: &mut State) -> Result<(), Fault> {
        let attempt = call.attempt;
        let (name, kind) = (step_name(&call), if call.undo { "undo" } else { "step" });
        let card = Card::new(name, kind, self.engine.now());
        me.card().adopt(card.clone());
        let heartbeat = Heartbeat::default();
        let execution = state.driver.execution();
        let (Some(by), Some(trace)) = (execution.started_by(), execution.trace()) else {
            return Err("an activity before the start".into());
        };
        let actor = StepActor {
            engine: self.engine.clone(),
            saga: self.saga.clone(),
            by: by.clone(),
            trace: trace.clone(),
            token: execution.token(attempt),
            call,
            heartbeat: heartbeat.clone(),
            owner: me.clone(),
        };
        let handle = shell::start(actor, card, Some(me.cell())).await?;
        state.step_of.insert(handle.cell().get_id(), attempt);
        state.steps.insert(attempt, Step { handle, heartbeat });
        Ok(())
    }

    fn forget_step(&self, me: &Me<Message>, attempt: AttemptRef, state: &mut State) -> Option<Step> {
        let step = state.steps.remove(&attempt)?;
        state.step_of.remove(&step.handle.cell().get_id());
        me.card().forget(step.handle.card().name());
        Some(step)
    }

    fn answer_questions(&self, me: &Me<Message>, state: &mut State) {
        if state.appending {
            return;
        }
        for question in std::mem::take(&mut state.questions) {
            match question {
                Question::Describe(reply) => reply.ok(&state.driver.execution().view()),
                Question::Snapshot => self.give_snapshot(me, state),
            }
        }
    }

    fn give_snapshot(&self, me: &Me<Message>, state: &mut State) {
        if state.appending {
            return state.questions.push(Question::Snapshot);
        }
        let execution = state.driver.execution();
        let bytes = Bytes::from(codec::store(execution));
        state.snapshot_at = execution.records();
        self.stored.is(bytes.len());
        self.owner.tell(shard::Message::Snapshot {
            saga: self.saga.clone(),
            actor: me.id(),
            bytes,
            records: execution.records(),
        });
    }

    fn tell_end(&self, me: &Me<Message>, state: &mut State) {
        if state.told_end || state.appending {
            return;
        }
        let execution = state.driver.execution();
        let Some(outcome) = execution.outcome() else { return };
        state.told_end = true;
        let outcome: Box<Outcome> = Box::new(outcome.clone());
        self.owner.tell(shard::Message::Ended {
            saga: self.saga.clone(),
            actor: me.id(),
            outcome,
            remains: codec::store(&Remains::of(state.driver.execution())).into(),
            taken: state.taken,
        });
    }

    /// Asks to be put to sleep when nothing is under way and nothing is due soon.
    fn rest(&self, me: &Me<Message>, state: &mut State) {
        let execution = state.driver.execution();
        let busy = state.appending
            || state.length.is_busy()
            || !state.queue.is_empty()
            || !state.steps.is_empty()
            || state.told_end;
        if busy || execution.records() == 0 || !execution.is_idle() {
            return;
        }
        let horizon = self.engine.now().after(self.engine.limits.sleep_horizon);
        if execution.next_timer().is_some_and(|due| due < horizon) {
            return;
        }
        let bytes = Bytes::from(codec::store(execution));
        self.stored.is(bytes.len());
        self.owner.tell(shard::Message::Sleep {
            saga: self.saga.clone(),
            actor: me.id(),
            taken: state.taken,
            bytes,
            seen: Seen::of(execution),
        });
    }
}

/// Takes in what a fact came to. Answers the bytes of its record.
fn settle(offer: Offer, reply: Reply, batch: &mut Batch, state: &mut State) -> usize {
    match offer {
        Offer::Recorded(record) => {
            let record = codec::store(&record);
            let bytes = record.len() + RECORD_OVERHEAD;
            batch.records.push(record);
            state.pending.push((reply, Ok(serde_json::json!({}))));
            return bytes;
        }
        // What is ignored or refused because of a fact in this very batch is so only once
        // that fact is durable.
        Offer::Ignored(why) => state.pending.push((reply, Ok(serde_json::json!({ "ignored": why })))),
        Offer::Refused(problem) => state.pending.push((reply, Err(problem))),
        Offer::Unfinished(fact) => unreachable!("{:?} had the whole budget", fact.kind),
    }
    0
}

fn forged() -> Problem {
    Problem::new(Code::Forbidden, "the token was not given out for this attempt")
        .mend("send back the `Skald-Token` header of the request as it came")
}

fn step_name(call: &ActivityCall) -> String {
    let kind = if call.undo { "undo" } else { "step" };
    format!("{kind} {} #{}", call.state, call.attempt.attempt)
}
