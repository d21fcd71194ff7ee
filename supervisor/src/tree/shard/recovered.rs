//! Moving into a shard that was taken over: what was recovered becomes slots, actors and timers.

use std::sync::Arc;

use bytes::Bytes;
use protocol::view::Status;
use protocol::{SagaId, codec};
use tracing::error;

use super::life::{asleep_of, ended_of};
use super::{Message, ShardActor, State};
use crate::journal::frame::Sending;
use crate::machine::{Driver, Effect};
use crate::tree::recovery::{Damaged, Recovered};
use crate::tree::saga::{self, Seen};
use crate::tree::shell::{Fault, Me};
use crate::tree::slot::{Broken, Life, Slot, start_digest};
use crate::tree::sweep::{Page, Span};
use crate::tree::{relay, timers};

impl ShardActor {
    pub(super) async fn settle_in(
        &self,
        me: &Me<Message>,
        recovered: Recovered,
        state: &mut State,
    ) -> Result<(), Fault> {
        for (position, outbox) in recovered.outbox {
            state.relay.tell(relay::Message::Committed { position, outbox });
        }
        state.relay.tell(relay::Message::Committed { position: recovered.position, outbox: Vec::new() });
        let remember = |entry: crate::tree::slot::EndedEntry, revision: u64, state: &mut State| {
            let definition = recovered.definitions.get(&entry.definition)?;
            let (saga, start_digest) = (Arc::new(entry.saga.clone()), entry.start_digest);
            let slot = Slot {
                definition: definition.clone(),
                start_digest,
                revision,
                failures: None,
                broken: None,
                life: Life::Ended(ended_of(&mut state.words, entry)),
            };
            state.slots.insert(saga.clone(), slot);
            Some(saga)
        };
        for (name, revision, entries) in recovered.pages {
            let mut sagas = Vec::with_capacity(entries.len());
            let mut span = Span::default();
            for entry in entries {
                if let Some(definition) = recovered.definitions.get(&entry.definition) {
                    span.add(&entry, definition, &self.engine.limits);
                }
                let left_behind = recovered.orphans.get(&entry.saga).copied().unwrap_or(0);
                let Some(saga) = remember(entry, left_behind, state) else { continue };
                if left_behind > 0 {
                    state.sweeper.note_ended(saga.clone());
                }
                sagas.push(saga);
            }
            state.sweeper.know_page(Page::found(name, revision, span, sagas));
        }
        for (entry, revision) in recovered.ended {
            if let Some(saga) = remember(entry, revision, state) {
                state.sweeper.note_ended(saga);
            }
        }
        for (driver, revision, clean) in recovered.live {
            match recovered.lost.get(driver.definition().reference()) {
                Some(why) => self.settle_lost(me, &driver, (revision, clean), why, state),
                None => self.settle_saga(me, driver, revision, clean, state).await?,
            }
        }
        for damaged in recovered.damaged {
            self.settle_damaged(me, damaged, state);
        }
        Ok(())
    }

    /// A child's start may have been on its way; starting it twice is starting it once.
    fn start_children(&self, driver: &Driver, state: &State) {
        let children = driver.resume().into_iter().filter(|effect| matches!(effect, Effect::StartChild { .. }));
        let (position, outbox) = (driver.execution().position(), Sending::of(driver, children));
        state.relay.tell(relay::Message::Committed { position, outbox });
    }

    /// A saga whose definition is lost is folded like any other, and stands still.
    fn settle_lost(
        &self,
        me: &Me<Message>,
        driver: &Driver,
        (revision, clean): (u64, bool),
        why: &str,
        state: &mut State,
    ) {
        let execution = driver.execution();
        let saga = Arc::new(execution.saga().clone());
        self.start_children(driver, state);
        let bytes = (!clean).then(|| Bytes::from(codec::store(execution)));
        let seen = Seen { status: Status::Stuck, ..Seen::of(execution) };
        let life = Life::Asleep(asleep_of(&mut state.words, &seen, execution.position(), bytes));
        let start_digest =
            start_digest(&execution.definition().name, execution.input().unwrap_or(&protocol::Value::Null));
        let broken = Some(Box::new(Broken { why: why.to_owned(), unsaved: false }));
        let definition = driver.definition().clone();
        self.park_broken(me, saga, Slot { definition, start_digest, revision, failures: None, broken, life }, state);
    }

    /// A saga whose snapshot or records cannot be read is known by its name.
    fn settle_damaged(&self, me: &Me<Message>, damaged: Damaged, state: &mut State) {
        let Damaged { saga, why, definition, start_digest, revision, seen, position } = damaged;
        let life = Life::Asleep(asleep_of(&mut state.words, &seen, position, None));
        let broken = Some(Box::new(Broken { why, unsaved: true }));
        let slot = Slot { definition, start_digest, revision, failures: None, broken, life };
        self.park_broken(me, Arc::new(saga), slot, state);
    }

    fn park_broken(&self, me: &Me<Message>, saga: Arc<SagaId>, slot: Slot, state: &mut State) {
        if let Some(broken) = &slot.broken {
            error!(shard = %self.shard, %saga, why = broken.why, "a saga cannot be rebuilt and is parked as stuck");
            me.card().note_failure(format!("saga {saga} is parked as stuck: {}", broken.why));
        }
        state.slots.insert(saga, slot);
        state.asleep += 1;
    }

    pub(super) async fn settle_saga(
        &self,
        me: &Me<Message>,
        driver: Driver,
        revision: u64,
        clean: bool,
        state: &mut State,
    ) -> Result<(), Fault> {
        let execution = driver.execution();
        let saga = Arc::new(execution.saga().clone());
        self.start_children(&driver, state);
        let digest = start_digest(&execution.definition().name, execution.input().unwrap_or(&protocol::Value::Null));
        let definition = driver.definition().clone();
        if execution.is_idle() {
            for (timer, at) in execution.timers() {
                state.timers.tell(timers::Message::Set { saga: saga.clone(), timer, at });
            }
            let seen = Seen::of(execution);
            let bytes = (!clean).then(|| Bytes::from(codec::store(execution)));
            let asleep = asleep_of(&mut state.words, &seen, execution.position(), bytes);
            let life = Life::Asleep(asleep);
            state
                .slots
                .insert(saga, Slot { definition, start_digest: digest, revision, failures: None, broken: None, life });
            state.asleep += 1;
        } else {
            let life = self.wake(me, &saga, driver, state).await?;
            if let Life::Awake { handle, .. } = &life {
                handle.tell(saga::Message::Resume);
            }
            state
                .slots
                .insert(saga, Slot { definition, start_digest: digest, revision, failures: None, broken: None, life });
        }
        Ok(())
    }
}
