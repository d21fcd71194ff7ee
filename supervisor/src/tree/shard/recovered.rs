//! Moving into a shard that was taken over: what was recovered becomes slots, actors and timers.

use std::sync::Arc;

use bytes::Bytes;
use protocol::codec;

use super::life::{asleep_of, ended_of};
use super::{Message, ShardActor, State};
use crate::journal::frame::Sending;
use crate::machine::{Driver, Effect};
use crate::tree::recovery::Recovered;
use crate::tree::saga::{self, Seen};
use crate::tree::shell::{Fault, Me};
use crate::tree::slot::{Alive, EndedEntry, Life, Slot, start_digest};
use crate::tree::{relay, timers};

impl ShardActor {
    pub(super) async fn settle_in(
        &self,
        me: &Me<Message>,
        recovered: Recovered,
        state: &mut State,
    ) -> Result<(), Fault> {
        state.relay.tell(relay::Message::Recovered(recovered.outbox));
        state.relay.tell(relay::Message::Committed { position: recovered.position, outbox: Vec::new() });
        let remember = |entry: EndedEntry, revision: u64, state: &mut State| {
            let definition = recovered.definitions.get(&entry.definition)?;
            let (saga, start_digest) = (Arc::new(entry.saga.clone()), entry.start_digest);
            let slot = Slot {
                definition: definition.clone(),
                start_digest,
                revision,
                failures: None,
                alive: None,
                broken: None,
                life: Life::Ended(ended_of(&mut state.words, entry)),
            };
            state.slots.insert(saga.clone(), slot);
            Some(saga)
        };
        state.sweeper.pages = recovered.pages;
        // What is in a page keeps its place here only until its snapshot is removed.
        let orphans = recovered.orphans.into_iter();
        let orphans = orphans.map(|(entry, revision)| (EndedEntry { remains: None, ..entry }, revision));
        for (entry, revision) in orphans.chain(recovered.ended) {
            let paged = entry.remains.is_none();
            match remember(entry, revision, state) {
                Some(saga) if paged => state.let_go(&saga),
                Some(saga) => state.sweeper.note_ended(saga),
                None => {}
            }
        }
        for (driver, revision, stored) in recovered.live {
            match recovered.lost.get(driver.definition().reference()) {
                Some(why) => self.settle_lost(me, &driver, (revision, stored), why, state),
                None => self.settle_saga(me, driver, revision, stored, state).await?,
            }
        }
        for damaged in recovered.damaged {
            self.settle_damaged(me, damaged, state);
        }
        Ok(())
    }

    /// A child's start may have been on its way; starting it twice is starting it once.
    pub(super) fn start_children(&self, driver: &Driver, state: &State) {
        let children = driver.resume().into_iter().filter(|effect| matches!(effect, Effect::StartChild { .. }));
        state.relay.tell(relay::Message::Repeat(Sending::of(driver, children)));
    }

    pub(super) async fn settle_saga(
        &self,
        me: &Me<Message>,
        driver: Driver,
        revision: u64,
        stored: Option<usize>,
        state: &mut State,
    ) -> Result<(), Fault> {
        let execution = driver.execution();
        let saga = Arc::new(execution.saga().clone());
        self.start_children(&driver, state);
        let digest = start_digest(&execution.definition().name, execution.input().unwrap_or(&protocol::Value::Null));
        let definition = driver.definition().clone();
        let seat = state.census.seat(&saga, &execution.family());
        let bytes = stored.is_none().then(|| Bytes::from(codec::store(execution)));
        let counted = seat.stored().clone();
        counted.is(stored.unwrap_or_else(|| bytes.as_ref().map_or(0, Bytes::len)));
        let alive = Some(Box::new(Alive { parent: execution.parent().cloned(), seat }));
        if execution.is_idle() {
            for (timer, at) in execution.timers() {
                state.timers.tell(timers::Message::Set { saga: saga.clone(), timer, at });
            }
            let seen = Seen::of(execution);
            let asleep = asleep_of(&mut state.words, &seen, execution.position(), bytes);
            let life = Life::Asleep(asleep);
            let slot = Slot { definition, start_digest: digest, revision, failures: None, alive, broken: None, life };
            state.slots.insert(saga, slot);
            state.asleep += 1;
        } else {
            let life = self.wake(me, &saga, driver, counted, state).await?;
            if let Life::Awake { handle, .. } = &life {
                handle.tell(saga::Message::Resume);
            }
            let slot = Slot { definition, start_digest: digest, revision, failures: None, alive, broken: None, life };
            state.slots.insert(saga, slot);
        }
        Ok(())
    }
}
