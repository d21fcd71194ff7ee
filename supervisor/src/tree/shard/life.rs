//! A saga's life in its shard: told, woken, loaded, put to sleep, ended, restarted after a failure, and
//! parked when it fails too often.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use protocol::view::Outcome;
use protocol::{Code, Problem, SagaId, codec};
use tracing::{error, warn};

use super::{Message, ShardActor, Shown, State, Words};
use crate::journal::frame::Batch;
use crate::machine::restart::Verdict;
use crate::machine::{Driver, Fact, FactKind, Offer};
use crate::ports::Position;
use crate::tree::card::{Card, Life as CardLife};
use crate::tree::census::Stored;
use crate::tree::recovery::{self};
use crate::tree::reply::{Reply, moved};
use crate::tree::saga::{self, Glance, SagaActor, Seen};
use crate::tree::shell::{self, Fault, Handle, Me};
use crate::tree::slot::{Asleep, Ended, Life, Told};
use crate::tree::{journal, load};

impl ShardActor {
    pub(super) async fn tell(
        &self,
        me: &Me<Message>,
        saga: Arc<SagaId>,
        told: Told,
        state: &mut State,
    ) -> Result<(), Fault> {
        let Some(slot) = state.slots.get_mut(&saga) else { return Ok(()) };
        if slot.broken.is_some() {
            self.tell_broken(me, &saga, told, state);
            return Ok(());
        }
        match &mut slot.life {
            Life::Awake { handle, sent, .. } => {
                *sent += 1;
                let message = match told {
                    Told::Fact(fact, reply) => saga::Message::Offer(fact, reply),
                    Told::Answer(token, fact, reply) => saga::Message::Answer(token, fact, reply),
                    Told::Describe(reply) => saga::Message::Describe(reply),
                };
                handle.tell(message);
            }
            Life::Loading { queue, .. } => {
                if queue.len() < self.engine.limits.facts_per_saga || told.is_our_own() {
                    queue.push_back(told);
                } else {
                    told.refuse(Problem::new(Code::Busy, format!("{saga} has too many facts waiting")));
                }
            }
            Life::Asleep(asleep) => {
                let position = asleep.position;
                let bytes = asleep.bytes.take();
                slot.life = Life::Loading { position, queue: VecDeque::from([told]) };
                state.asleep -= 1;
                match bytes.map(|bytes| codec::load(&bytes)) {
                    // The common case, without a detour: it fell asleep a moment ago.
                    Some(Ok(execution)) => {
                        let driver = Driver::restore(slot.definition.clone(), execution);
                        self.loaded(me, saga, Ok(Box::new(driver)), None, state).await?;
                    }
                    Some(Err(_)) | None => self.load(me, &saga, None, std::time::Duration::ZERO, state),
                }
            }
            Life::Ended(ended) => match told {
                Told::Fact(fact, reply) | Told::Answer(_, fact, reply) if is_echo(&fact) => {
                    reply.ok(&serde_json::json!({"ignored": "it ended"}))
                }
                Told::Fact(fact, reply) if matches!(fact, FactKind::Signalled { .. }) => {
                    self.signal_after_the_end(&saga, fact, reply, state);
                }
                told @ (Told::Fact(..) | Told::Answer(..) | Told::Describe(_)) => {
                    let message = format!("{saga} has ended: {}", ended.status.word());
                    told.refuse(Problem::new(Code::NotNow, message).mend("`skald show` tells how"));
                }
            },
        }
        Ok(())
    }

    /// Fetches a saga's state in a task of its own; `Loaded` brings it.
    pub(super) fn load(
        &self,
        me: &Me<Message>,
        saga: &Arc<SagaId>,
        park: Option<String>,
        pause: std::time::Duration,
        state: &State,
    ) {
        let Some(slot) = state.slots.get(saga) else { return };
        let (engine, shard, saga, me) = (self.engine.clone(), self.shard, saga.clone(), me.clone());
        let (definition, journal) = (slot.definition.clone(), state.journal.clone());
        let known = slot.position();
        let glance = match &slot.life {
            Life::Awake { glance, .. } => Some(glance.position.clone()),
            Life::Loading { .. } | Life::Asleep(_) | Life::Ended(_) => None,
        };
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // What the former actor handed to the journal is durable after the barrier, and the
            // glance knows where.
            let (tell, told) = tokio::sync::oneshot::channel();
            journal.tell(journal::Message::Barrier(tell));
            if told.await.is_err() {
                return;
            }
            let position: Position = glance.map_or(known, |glance| glance.load(Relaxed));
            let driver = load::load(&engine, shard, &saga, definition, position, None).await;
            me.tell(Message::Loaded { saga, driver: driver.map(Box::new), park });
        });
    }

    pub(super) async fn loaded(
        &self,
        me: &Me<Message>,
        saga: Arc<SagaId>,
        driver: Result<Box<Driver>, Problem>,
        park: Option<String>,
        state: &mut State,
    ) -> Result<(), Fault> {
        let queue = match state.slots.get_mut(&saga).map(|slot| &mut slot.life) {
            Some(Life::Loading { queue, .. }) => std::mem::take(queue),
            Some(Life::Awake { .. } | Life::Asleep(_) | Life::Ended(_)) | None => return Ok(()),
        };
        let driver = match driver {
            Ok(driver) => driver,
            Err(problem) => {
                warn!(%saga, %problem, "a saga cannot be loaded, will try again");
                for told in queue {
                    told.refuse(problem.clone());
                }
                let me = me.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    me.tell(Message::LoadAgain(saga));
                });
                return Ok(());
            }
        };
        if driver.execution().records() == 0 {
            // Its actor failed before the start was in the journal: it never was.
            state.slots.remove(&saga);
            for told in queue {
                told.refuse(moved());
            }
            for (_, waiter) in state.waiters.remove(&saga).unwrap_or_default() {
                waiter.refuse(moved());
            }
            return Ok(());
        }
        if driver.execution().is_final() {
            let outcome = driver.execution().outcome().cloned();
            let entry = recovery::ended_entry(driver.execution());
            if let Some(slot) = state.slots.get_mut(&saga) {
                (slot.alive, slot.life) = (None, Life::Ended(ended_of(&mut state.words, entry)));
            }
            state.sweeper.note_ended(saga.clone());
            for waiter in outcome.map(|outcome| tell_waiters(&saga, &outcome, state)).unwrap_or_default() {
                self.describe_stored(&saga, Shown::View, waiter, state);
            }
        } else if let Some(cause) = park {
            if let Some(Life::Loading { queue: waiting, .. }) = state.slots.get_mut(&saga).map(|slot| &mut slot.life) {
                *waiting = queue;
            }
            self.park(me, saga, driver, cause, state);
            return Ok(());
        } else {
            let alive = state.slots.get(&saga).and_then(|slot| slot.alive.as_ref());
            let stored = alive.expect("what has not ended has a seat").seat.stored().clone();
            let life = self.wake(me, &saga, *driver, stored, state).await?;
            if let Life::Awake { handle, .. } = &life {
                handle.tell(saga::Message::Resume);
            }
            if let Some(slot) = state.slots.get_mut(&saga) {
                slot.life = life;
            }
        }
        for told in queue {
            Box::pin(self.tell(me, saga.clone(), told, state)).await?;
        }
        Ok(())
    }

    pub(super) async fn wake(
        &self,
        me: &Me<Message>,
        saga: &Arc<SagaId>,
        driver: Driver,
        stored: Arc<Stored>,
        state: &mut State,
    ) -> Result<Life, Fault> {
        let glance = Glance::new(driver.execution());
        let card = Card::new(format!("saga {saga}"), "saga", self.engine.now());
        me.card().adopt(card.clone());
        let actor = SagaActor {
            engine: self.engine.clone(),
            held: (self.shard, self.epoch),
            saga: saga.clone(),
            driver: std::sync::Mutex::new(Some(driver)),
            owner: me.clone(),
            journal: state.journal.clone(),
            timers: state.timers.clone(),
            relay: state.relay.clone(),
            glance: glance.clone(),
            stored,
        };
        let handle = shell::start(actor, card, Some(me.cell())).await?;
        state.actors.insert(handle.cell().get_id(), saga.clone());
        state.awake += 1;
        Ok(Life::Awake { handle, sent: 0, glance })
    }

    pub(super) fn dismiss(&self, me: &Me<Message>, handle: &Handle<saga::Message>, state: &mut State) {
        state.actors.remove(&handle.cell().get_id());
        state.awake -= 1;
        me.card().forget(handle.card().name());
        handle.stop();
    }

    pub(super) fn put_to_sleep(
        &self,
        me: &Me<Message>,
        saga: &Arc<SagaId>,
        taken: u64,
        bytes: Bytes,
        seen: &Seen,
        state: &mut State,
    ) {
        let Some(slot) = state.slots.get_mut(saga) else { return };
        let Life::Awake { handle, sent, glance } = &slot.life else { return };
        if *sent != taken {
            return; // Something is in its mailbox; it will ask again.
        }
        let handle = handle.clone();
        let asleep = asleep_of(&mut state.words, seen, glance.position.load(Relaxed), Some(bytes));
        slot.life = Life::Asleep(asleep);
        state.asleep += 1;
        self.dismiss(me, &handle, state);
        self.answered_for(me, saga, state);
    }

    /// A sweep asked `saga`, which is gone now: its slot answers, or else the sweep, and a drain
    /// with it, would wait for ever.
    pub(super) fn answered_for(&self, me: &Me<Message>, saga: &Arc<SagaId>, state: &mut State) {
        if state.sweeper.waits_for(saga) {
            self.go_on_sweeping(me, state);
        }
    }

    pub(super) fn ended(
        &self,
        me: &Me<Message>,
        saga: &Arc<SagaId>,
        (outcome, remains): (&Outcome, Bytes),
        taken: u64,
        state: &mut State,
    ) {
        let Some(slot) = state.slots.get_mut(saga) else { return };
        let Life::Awake { handle, sent, glance } = &slot.life else { return };
        let (handle, sent, seen, position) = (handle.clone(), *sent, glance.seen(), glance.position.load(Relaxed));
        slot.alive = None;
        slot.life = Life::Ended(Ended {
            status: outcome.status,
            state: state.words.one(&outcome.state),
            at: seen.changed_at,
            records: seen.records,
            position,
            remains: Some(remains),
        });
        let waited_for = state.sweeper.waits_for(saga);
        state.sweeper.note_ended(saga.clone());
        if waited_for {
            self.go_on_sweeping(me, state);
        }
        // Its actor still has the state; later it is read from the journal.
        let curious = tell_waiters(saga, outcome, state);
        let asked = !curious.is_empty();
        for waiter in curious {
            handle.tell(saga::Message::Describe(self.located(false, waiter)));
        }
        if sent == taken && !asked {
            self.dismiss(me, &handle, state);
        } else {
            // Let it answer what is in its mailbox: the stop comes after that.
            state.actors.remove(&handle.cell().get_id());
            state.awake -= 1;
            me.card().forget(handle.card().name());
            let _ = handle.cell().drain();
        }
    }

    pub(super) fn saga_failed(&self, me: &Me<Message>, saga: &Arc<SagaId>, failure: String, state: &mut State) {
        let Some(slot) = state.slots.get_mut(saga) else { return };
        let Life::Awake { handle, .. } = &slot.life else { return };
        let card = handle.card().clone();
        let failures = slot.failures.get_or_insert_default();
        let verdict = failures.failed(self.engine.now(), &self.engine.limits.saga_restarts);
        error!(%saga, failure, ?verdict, "saga actor failed");
        card.note_failure(failure.clone());
        let (pause, park) = match verdict {
            Verdict::Again(pause) => {
                card.set_life(CardLife::Restarting);
                (pause, None)
            }
            Verdict::GiveUp => {
                card.set_life(CardLife::Parked);
                (std::time::Duration::ZERO, Some(failure))
            }
        };
        state.awake -= 1;
        me.card().forget(card.name());
        self.load(me, saga, park, pause, state);
        let position = state.slots[saga].position();
        if let Some(slot) = state.slots.get_mut(saga) {
            slot.life = Life::Loading { position, queue: VecDeque::new() };
        }
        self.answered_for(me, saga, state);
    }

    /// Parks a saga whose actor fails again and again: the fact is made durable without the actor.
    /// The journal is waited for in a task of its own, which `Parked` ends: a shard that is fenced
    /// meanwhile must hear of it.
    fn park(&self, me: &Me<Message>, saga: Arc<SagaId>, mut driver: Box<Driver>, cause: String, state: &State) {
        let fact = Fact { at: self.engine.now(), seed: self.engine.seeds.next(), kind: FactKind::Parked { cause } };
        let Offer::Recorded(record) = driver.offer(fact) else {
            me.tell(Message::Parked { saga, driver });
            return;
        };
        let batch = Batch { records: vec![codec::store(&record)], outbox: Vec::new() };
        let (tell, told) = tokio::sync::oneshot::channel();
        state.journal.tell(journal::Message::Append(batch, journal::Ticket::Once(tell)));
        let me = me.clone();
        tokio::spawn(async move {
            // Without an answer the journal ended, and the shard with it.
            if let Ok(position) = told.await {
                driver.confirm(position);
                me.tell(Message::Parked { saga, driver });
            }
        });
    }

    pub(super) async fn parked(
        &self,
        me: &Me<Message>,
        saga: Arc<SagaId>,
        driver: &Driver,
        state: &mut State,
    ) -> Result<(), Fault> {
        let Some(slot) = state.slots.get_mut(&saga) else { return Ok(()) };
        let Life::Loading { queue, .. } = &mut slot.life else { return Ok(()) };
        let queue = std::mem::take(queue);
        let execution = driver.execution();
        let bytes = Bytes::from(codec::store(execution));
        let asleep = asleep_of(&mut state.words, &Seen::of(execution), execution.position(), Some(bytes));
        if let Some(alive) = &slot.alive {
            alive.seat.stored().is(asleep.bytes.as_ref().map_or(0, Bytes::len));
        }
        slot.life = Life::Asleep(asleep);
        slot.failures = None;
        state.asleep += 1;
        me.card().note_failure(format!("saga {saga} is parked as stuck"));
        for told in queue {
            Box::pin(self.tell(me, saga.clone(), told, state)).await?;
        }
        Ok(())
    }
}

impl Told {
    /// Whether nobody outside sent it, or would send it again.
    fn is_our_own(&self) -> bool {
        match self {
            Self::Fact(_, reply) => reply.is_nobodys(),
            Self::Answer(..) | Self::Describe(_) => false,
        }
    }

    pub(super) fn refuse(self, problem: Problem) {
        match self {
            Self::Fact(_, reply) | Self::Answer(_, _, reply) | Self::Describe(reply) => reply.refuse(problem),
        }
    }
}

/// Facts that may come late without anybody being at fault.
pub(super) fn is_echo(fact: &FactKind) -> bool {
    match fact {
        FactKind::StepSucceeded { .. }
        | FactKind::StepFailed { .. }
        | FactKind::TimerFired { .. }
        | FactKind::ChildEnded { .. }
        | FactKind::Continued
        | FactKind::Parked { .. } => true,
        FactKind::Started(_)
        | FactKind::Signalled { .. }
        | FactKind::TaskDecided { .. }
        | FactKind::CancelRequested { .. }
        | FactKind::Operator(_) => false,
    }
}

pub(super) fn asleep_of(words: &mut Words, seen: &Seen, position: Position, bytes: Option<Bytes>) -> Asleep {
    Asleep {
        status: seen.status,
        state: words.one(&seen.state),
        changed_at: seen.changed_at,
        records: seen.records,
        position,
        bytes,
    }
}

pub(super) fn ended_of(words: &mut Words, entry: crate::tree::slot::EndedEntry) -> Ended {
    Ended {
        status: entry.status,
        state: words.one(&entry.state),
        at: entry.at,
        records: entry.records,
        position: entry.position,
        remains: entry.remains.map(|remains| Bytes::from(remains.into_vec())),
    }
}

/// Tells the outcome to those who wait for it, and answers those who want to see more.
pub(super) fn tell_waiters(saga: &Arc<SagaId>, outcome: &Outcome, state: &mut State) -> Vec<Reply> {
    let mut curious = Vec::new();
    for (shown, waiter) in state.waiters.remove(saga).unwrap_or_default() {
        match shown {
            Shown::Outcome => waiter.ok(outcome),
            Shown::View => curious.push(waiter),
        }
    }
    curious
}
