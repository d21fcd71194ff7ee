//! Questions about sagas that a page of the store may have: the page is read in a task of its own, and
//! then the message comes again, with what was found. The shard goes on meanwhile.

use std::sync::Arc;

use protocol::{Code, Problem, SagaId, ShardId};

use super::life::ended_of;
use super::{Message, ShardActor, State};
use crate::machine::definition::Definition;
use crate::tree::engine::Engine;
use crate::tree::pages::{self, Found};
use crate::tree::recovery;
use crate::tree::reply::moved;
use crate::tree::shell::Me;
use crate::tree::slot::{EndedEntry, Life, Slot};

/// Pages that a shard reads at once for such questions, half a megabyte each; the rest wait.
pub(super) const LOOKUPS_AT_ONCE: usize = 8;

/// A message that comes again.
pub struct Looked {
    message: Message,
    /// The pages that were read.
    pages: Vec<Arc<str>>,
    found: Result<Option<(EndedEntry, Arc<Definition>)>, NotKnown>,
}

/// Why nobody can say whether a saga ended.
#[derive(Debug, thiserror::Error)]
enum NotKnown {
    /// For now.
    #[error("{0}")]
    Now(#[from] Problem),
    /// The snapshots are gone, and the pages with them.
    #[error("the snapshots are gone")]
    Gone,
}

impl Message {
    /// The saga that it asks for by name.
    const fn about(&self) -> Option<&SagaId> {
        match self {
            Self::Start { saga, .. }
            | Self::Fact { saga, .. }
            | Self::Answer { saga, .. }
            | Self::Wait(saga, ..)
            | Self::Describe(saga, ..)
            | Self::History(saga, ..) => Some(saga),
            // A beat of an attempt that is not under way is answered without looking; the rest is of
            // the shard itself, or from within.
            Self::Beat { .. }
            | Self::List(..)
            | Self::View(_)
            | Self::Drain
            | Self::Due { .. }
            | Self::Sleep { .. }
            | Self::Snapshot { .. }
            | Self::Ended { .. }
            | Self::Discard(_)
            | Self::Loaded { .. }
            | Self::Rebuilt { .. }
            | Self::Parked { .. }
            | Self::LoadAgain(_)
            | Self::Looked(_)
            | Self::Trouble(_)
            | Self::Fenced { .. }
            | Self::Lost(_)
            | Self::Settled
            | Self::Anchor { .. }
            | Self::Sweep
            | Self::Redeployed(_)
            | Self::Swept(_) => None,
        }
    }

    fn refuse(self, problem: Problem) {
        match self {
            Self::Start { accepted: reply, .. }
            | Self::Fact { reply, .. }
            | Self::Answer { reply, .. }
            | Self::Wait(.., reply)
            | Self::Describe(.., reply)
            | Self::History(.., reply) => reply.refuse(problem),
            // Nothing was looked up for these.
            Self::Beat { .. }
            | Self::List(..)
            | Self::View(_)
            | Self::Drain
            | Self::Due { .. }
            | Self::Sleep { .. }
            | Self::Snapshot { .. }
            | Self::Ended { .. }
            | Self::Discard(_)
            | Self::Loaded { .. }
            | Self::Rebuilt { .. }
            | Self::Parked { .. }
            | Self::LoadAgain(_)
            | Self::Looked(_)
            | Self::Trouble(_)
            | Self::Fenced { .. }
            | Self::Lost(_)
            | Self::Settled
            | Self::Anchor { .. }
            | Self::Sweep
            | Self::Redeployed(_)
            | Self::Swept(_) => {}
        }
    }
}

impl ShardActor {
    /// Hands out a message for which memory is enough, with the saga that only it brought along; see
    /// [`State::see_off`]. `None`: it is looked up, and comes again.
    pub(super) fn or_look_up(
        &self,
        me: &Me<Message>,
        message: Message,
        state: &mut State,
    ) -> Option<(Message, Option<Arc<SagaId>>)> {
        let (message, read, found) = match message {
            Message::Looked(looked) => {
                let Looked { message, pages, found } = *looked;
                match found {
                    Ok(found) => (message, pages, found),
                    Err(NotKnown::Now(problem)) => {
                        message.refuse(problem);
                        return None;
                    }
                    Err(NotKnown::Gone) => {
                        message.refuse(moved());
                        me.tell(Message::Lost("the snapshots are gone, and the pages of ended sagas with them".into()));
                        return None;
                    }
                }
            }
            message => (message, Vec::new(), None),
        };
        let Some(saga) = message.about().filter(|saga| !state.draining && !state.slots.contains_key(saga)) else {
            return Some((message, None));
        };
        if let Some((entry, definition)) = found {
            let saga = Arc::new(saga.clone());
            let start_digest = entry.start_digest;
            let life = Life::Ended(ended_of(&mut state.words, entry));
            let slot = Slot { definition, start_digest, revision: 0, failures: None, alive: None, broken: None, life };
            state.slots.insert(saga.clone(), slot);
            return Some((message, Some(saga)));
        }
        // Other pages may have been written while these were read.
        let mut pages = state.sweeper.pages.of(saga);
        pages.retain(|page| !read.contains(page));
        if pages.is_empty() {
            return Some((message, None));
        }
        let (engine, shard, me, saga) = (self.engine.clone(), self.shard, me.clone(), saga.clone());
        let (lookups, (_, mark)) = (state.lookups.clone(), state.sweeper.marked());
        tokio::spawn(async move {
            // Never closed.
            let _turn = lookups.acquire().await;
            let found = look(&engine, shard, (&pages, mark), &saga).await;
            pages.extend(read);
            me.tell(Message::Looked(Box::new(Looked { message, pages, found })));
        });
        None
    }
}

/// What `pages` have of `saga`. A page that is not there is no answer, unless the mark that was written at
/// revision `mark` says that the snapshots still are: an index may outlive its page.
async fn look(
    engine: &Engine,
    shard: ShardId,
    (pages, mark): (&[Arc<str>], u64),
    saga: &SagaId,
) -> Result<Option<(EndedEntry, Arc<Definition>)>, NotKnown> {
    let entry = match pages::find(engine, shard, pages, saga).await? {
        Found { entry: Some(entry), .. } => entry,
        Found { entry: None, whole: true } => return Ok(None),
        Found { entry: None, whole: false } => {
            let there = recovery::is_marked(engine, shard, mark).await.map_err(pages::unreadable)?;
            return if there { Ok(None) } else { Err(NotKnown::Gone) };
        }
    };
    let found = engine.definitions.get(&entry.definition).await.map_err(|error| {
        Problem::new(Code::Unavailable, format!("{}: {error}", entry.definition)).mend("try again").retry_after_ms(500)
    })?;
    // It ended, and needs its definition no more.
    let stand_in = || Arc::new(Definition::stand_in(entry.definition.clone(), engine.definitions.deployers()));
    let definition = found.unwrap_or_else(stand_in);
    Ok(Some((entry, definition)))
}

impl State {
    /// Forgets a saga that was brought along by one message: a page has it.
    pub(super) fn see_off(&mut self, saga: &Arc<SagaId>) {
        if self.slots.get(saga).is_some_and(|slot| matches!(slot.life, Life::Ended(_))) {
            self.slots.remove(saga);
        }
    }
}
