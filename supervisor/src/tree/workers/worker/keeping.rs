//! Reading and writing what is remembered of a worker: one at a time, the newest wins, and a person's
//! word is answered once it is kept.

use protocol::{Code, Problem, Value};
use tracing::{error, info, warn};

use super::super::agenda::Agenda;
use super::super::memory::Memory;
use super::{Message, State, WorkerActor, tell_later};
use crate::ports::{Kept, PutError, Unavailable};
use crate::tree::reply::Reply;
use crate::tree::shell::Me;

/// What is on its way to the memory, or from it.
#[derive(Default)]
pub struct Keeping {
    /// Of what was last read or written.
    revision: u64,
    /// A read or a write is under way, or waits for its next try.
    busy: bool,
    /// Something changed since the last write began.
    changed: bool,
    /// A person's word is not kept yet: it counts more than what another node wrote.
    word: bool,
    /// Who is told once what changed is kept.
    owed: Vec<(Reply, Value)>,
    /// Who is told once the write under way is done.
    asked: Vec<(Reply, Value)>,
    /// What went wrong last.
    pub(super) trouble: Option<String>,
}

impl Keeping {
    /// A person's word changed what is to be remembered.
    pub(super) fn word(&mut self, reply: Reply, answer: Value) {
        (self.changed, self.word) = (true, true);
        self.owed.push((reply, answer));
    }

    /// A run changed what is to be remembered.
    pub(super) const fn change(&mut self) {
        self.changed = true;
    }

    /// Whether everything is kept.
    pub(super) const fn is_done(&self) -> bool {
        !self.busy && !self.changed
    }

    fn refuse(&mut self, why: &str) {
        let problem = Problem::new(Code::Unavailable, format!("what the worker is to remember cannot be kept: {why}"));
        for (reply, _) in self.asked.drain(..).chain(self.owed.drain(..)) {
            reply.refuse(problem.clone());
        }
    }
}

impl WorkerActor {
    pub(super) fn read(&self, me: &Me<Message>, state: &mut State) {
        state.keeping.busy = true;
        let (memory, id, me) = (self.memory.clone(), self.id.clone(), me.clone());
        tokio::spawn(async move {
            let kept = memory.get(&id).await;
            me.tell(Message::Read(kept));
        });
    }

    pub(super) fn write(&self, me: &Me<Message>, state: &mut State) {
        if state.agenda.is_none() || state.keeping.busy || !state.keeping.changed {
            return;
        }
        (state.keeping.busy, state.keeping.changed) = (true, false);
        state.keeping.asked = std::mem::take(&mut state.keeping.owed);
        let (memory, id, me) = (self.memory.clone(), self.id.clone(), me.clone());
        let (bytes, expected) = (state.memory.store(), state.keeping.revision);
        tokio::spawn(async move {
            let written = memory.put(&id, bytes, expected).await;
            me.tell(Message::Written(written));
        });
    }

    /// What is remembered is here: at the start, or because another node wrote it since. Until it
    /// could be read the worker does not run: somebody may have paused it.
    pub(super) fn was_read(&self, me: &Me<Message>, kept: Result<Option<Kept>, Unavailable>, state: &mut State) {
        let read = kept.map_err(|error| error.to_string()).and_then(|kept| match kept {
            // Somebody removed it: nothing is remembered, and this is still what is written over.
            Some(kept) if kept.bytes.is_empty() => Ok((kept.revision, Memory::default())),
            Some(kept) => Memory::load(&kept.bytes).map(|memory| (kept.revision, memory)).map_err(|e| e.to_string()),
            None => Ok((0, Memory::default())),
        });
        let (revision, theirs) = match read {
            Ok(read) => read,
            Err(why) => return self.trouble(me, format!("what is remembered cannot be read: {why}"), state),
        };
        (state.keeping.busy, state.keeping.revision, state.keeping.trouble) = (false, revision, None);
        let was_paused = state.memory.paused.is_some();
        state.memory = std::mem::take(&mut state.memory).after(theirs, state.keeping.word);
        let (now, paused) = (self.engine.now(), state.memory.paused.is_some());
        let Some(agenda) = &mut state.agenda else {
            let (retry, runs) = (state.rhythm.retry, state.memory.runs);
            let mut agenda = Agenda::new(self.limits.clone(), retry, runs, paused, &state.memory.handled);
            for event in state.early.drain(..) {
                agenda.event(&event);
            }
            state.agenda = Some(agenda);
            let first = |slots: super::Slots| slots.first(state.memory.began(), now, self.engine.seeds.next());
            state.due = state.slots.filter(|_| !paused).map(first);
            return;
        };
        info!(worker = %self.id, "another node ran this worker too");
        agenda.skip_to(state.memory.runs);
        match (was_paused, paused) {
            (false, true) => {
                agenda.pause();
                state.due = None;
            }
            (true, false) => {
                agenda.resume();
                state.due = state.slots.map(|slots| slots.next(now, self.engine.seeds.next()));
            }
            (true, true) | (false, false) => {}
        }
        // What was to be written still is, on top of theirs.
        state.keeping.changed = true;
    }

    pub(super) fn was_written(&self, me: &Me<Message>, written: Result<u64, PutError>, state: &mut State) {
        match written {
            Ok(revision) => {
                let keeping = &mut state.keeping;
                (keeping.busy, keeping.revision, keeping.trouble) = (false, revision, None);
                // A word that came meanwhile is still to be kept.
                keeping.word = !keeping.owed.is_empty();
                for (reply, answer) in keeping.asked.drain(..) {
                    reply.send(Ok(answer));
                }
            }
            Err(PutError::Stale) => {
                // Another node wrote it: its word first, then ours.
                let asked = std::mem::take(&mut state.keeping.asked);
                state.keeping.owed.splice(0..0, asked);
                self.read(me, state);
            }
            Err(PutError::Refused(why)) => {
                error!(worker = %self.id, why, "what a worker is to remember is refused");
                state.keeping.busy = false;
                state.keeping.refuse(&why);
                state.keeping.trouble = Some(format!("what it is to remember is refused: {why}"));
            }
            Err(PutError::Unavailable(error)) => {
                state.keeping.changed = true;
                let asked = std::mem::take(&mut state.keeping.asked);
                state.keeping.owed.splice(0..0, asked);
                self.trouble(me, format!("what it is to remember cannot be kept: {error}"), state);
            }
        }
    }

    pub(super) fn keep_again(&self, me: &Me<Message>, state: &mut State) {
        match state.agenda {
            Some(_) if state.keeping.changed => state.keeping.busy = false,
            Some(_) | None => self.read(me, state),
        }
    }

    fn trouble(&self, me: &Me<Message>, why: String, state: &mut State) {
        if state.keeping.trouble.is_none() {
            warn!(worker = %self.id, why, "will try again");
        }
        me.card().note_failure(why.clone());
        state.keeping.trouble = Some(why);
        tell_later(me, self.limits.port_pause, Message::KeepAgain);
    }
}
