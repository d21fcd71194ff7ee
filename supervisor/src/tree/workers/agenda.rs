//! What one worker is to do next: pure. Ticks, events and people's words come in; runs come out,
//! one at a time. Whatever comes while a run is under way is one run after it (H19).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::{Envelope, EventId, Principal, Time};

use super::limits::Limits;
use crate::activity::Failure;
use crate::machine::restart::{Failures, Verdict};
use crate::worker::{Retry, Why};

/// What the next run is for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wanted {
    /// A timer was due.
    pub timer: bool,
    /// Events, oldest first.
    pub events: Vec<Arc<Envelope>>,
    /// An event came that is not among them; the run looks for itself.
    pub more: bool,
    /// Who asked for it, first to last, each with the trace and id of the command.
    pub asks: Vec<Asked>,
}

/// Somebody's word that a worker is to run now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Who.
    pub by: Principal,
    /// The command's trace, if it has one.
    pub trace: Option<protocol::TraceId>,
    /// The command's id.
    pub id: String,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        !self.timer && !self.more && self.events.is_empty() && self.asks.is_empty()
    }

    /// How many events led to what the run says, one after the other, where a row may have `max`. What a
    /// timer or a person begins is a row of its own. `None`: all it runs for are the last that their rows
    /// may have, and it does nothing.
    pub fn causes(&self, max: u32) -> Option<u32> {
        let longer = |event: &Arc<Envelope>| event.causes.saturating_add(1);
        let within = self.events.iter().map(longer).filter(|causes| *causes < max).max();
        match (self.asks.is_empty(), within) {
            (false, _) => Some(0),
            (true, Some(causes)) => Some(causes),
            (true, None) => (self.timer || self.more).then_some(0),
        }
    }

    /// What a person is told made it run: a person's word before an event, an event before a timer.
    pub fn why(&self) -> Why {
        match (self.asks.first(), self.events.first()) {
            (Some(asked), _) => Why::ByHand(asked.by.clone()),
            (None, Some(event)) => Why::Event(event.clone()),
            (None, None) => Why::Timer,
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A run takes it along.
    Taken,
    /// It was heard before.
    Known,
    /// The next run has as many as it may; it looks all the same, without this one.
    Full,
}

/// How an attempt ended badly.
#[derive(Clone, PartialEq, Debug)]
pub enum Bad {
    /// It said so.
    Failed(Failure),
    /// It panicked, or its actor failed.
    Died(String),
}

impl Bad {
    /// In a sentence.
    pub fn why(&self) -> String {
        match self {
            Self::Failed(failure) => failure.to_string(),
            Self::Died(cause) => format!("the attempt died: {cause}"),
        }
    }
}

/// The run under way.
#[derive(Clone, Debug)]
pub struct Running {
    /// Counted from 1, over all nodes.
    pub number: u64,
    /// What it is for.
    pub wanted: Wanted,
    /// When its first attempt began.
    pub began: Time,
    /// The attempt, counted from 1.
    pub attempt: u32,
}

/// What one worker is to do next.
#[derive(Debug)]
pub struct Agenda {
    limits: Arc<Limits>,
    retry: Retry,
    waiting: Wanted,
    running: Option<Running>,
    paused: bool,
    runs: u64,
    seen: Seen,
    deaths: Failures,
}

impl Agenda {
    /// Nothing to do yet. `runs` is the number of the last run, `seen` what was handled elsewhere.
    pub fn new(limits: Arc<Limits>, retry: Retry, runs: u64, paused: bool, seen: &[EventId]) -> Self {
        let mut known = Seen { max: limits.events_seen, ..Seen::default() };
        for id in seen {
            known.note(id);
        }
        let (waiting, running, deaths) = (Wanted::default(), None, Failures::default());
        Self { limits, retry, waiting, running, paused, runs, seen: known, deaths }
    }

    /// The timer is due.
    pub fn tick(&mut self) {
        self.waiting.timer |= !self.paused;
    }

    /// Something happened. While it is paused, events wait too.
    pub fn event(&mut self, event: &Arc<Envelope>) -> Heard {
        if !self.seen.note(&event.event_id) {
            return Heard::Known;
        }
        if self.waiting.events.len() >= self.limits.events_per_run {
            self.waiting.more = true;
            // Were it known, it could not come again from among the dead letters.
            self.seen.forget(&event.event_id);
            return Heard::Full;
        }
        self.waiting.events.push(event.clone());
        Heard::Taken
    }

    /// Somebody wants a run now. Answers its number; `None`: too many want it.
    pub fn ask(&mut self, asked: Asked) -> Option<u64> {
        if self.waiting.asks.len() >= self.limits.asks_per_run {
            return None;
        }
        self.waiting.asks.push(asked);
        Some(self.runs + 1)
    }

    /// Nothing runs any more but by hand.
    pub fn pause(&mut self) {
        self.paused = true;
        self.waiting.timer = false;
    }

    /// It goes on, with a run at once, because nobody looked meanwhile.
    pub fn resume(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.waiting.timer = true;
        }
    }

    /// The run under way.
    pub const fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// The number of the last run that began.
    pub const fn runs(&self) -> u64 {
        self.runs
    }

    /// Somebody else ran it up to number `runs`.
    pub fn skip_to(&mut self, runs: u64) {
        self.runs = self.runs.max(runs);
    }

    /// Begins a run if one is wanted and none is under way.
    pub fn begin(&mut self, now: Time) -> Option<&Running> {
        if self.running.is_some() {
            return None;
        }
        let wanted = match self.paused {
            true => Wanted { asks: std::mem::take(&mut self.waiting.asks), ..Wanted::default() },
            false => std::mem::take(&mut self.waiting),
        };
        if wanted.is_nothing() {
            return None;
        }
        self.runs += 1;
        Some(self.running.insert(Running { number: self.runs, wanted, began: now, attempt: 1 }))
    }

    /// The attempt under way ended badly. Answers the pause before the next one; `None`: the run
    /// has failed, and is to be ended.
    pub fn failed(&mut self, bad: &Bad, now: Time, seed: u64) -> Option<Duration> {
        let running = self.running.as_mut()?;
        let pause = match bad {
            Bad::Failed(failure) if failure.permanent => None,
            Bad::Failed(_) => self.retry.pause(running.attempt, seed),
            Bad::Died(_) => match self.deaths.failed(now, &self.limits.restarts) {
                Verdict::Again(pause) => (running.attempt < self.retry.attempts).then_some(pause),
                Verdict::GiveUp => None,
            },
        };
        running.attempt += u32::from(pause.is_some());
        pause
    }

    /// The run under way is over. What it took along and did not handle may come again.
    pub fn end(&mut self, handled: bool) -> Option<Running> {
        let running = self.running.take()?;
        if !handled {
            for event in &running.wanted.events {
                self.seen.forget(&event.event_id);
            }
        }
        Some(running)
    }

    /// The newest `max` events that were handled, oldest first.
    pub fn handled(&self, max: usize) -> Vec<EventId> {
        let open: HashSet<&EventId> = self.waiting.events.iter().map(|event| &event.event_id).collect();
        let mut newest: Vec<_> =
            self.seen.order.iter().rev().filter(|id| !open.contains(id)).take(max).cloned().collect();
        newest.reverse();
        newest
    }
}

/// Ids of events, in the order in which they came.
#[derive(Debug, Default)]
struct Seen {
    max: usize,
    ids: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Seen {
    /// Whether `id` is new.
    fn note(&mut self, id: &EventId) -> bool {
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id.clone());
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    fn forget(&mut self, id: &EventId) {
        if self.ids.remove(id) {
            self.order.retain(|other| other != id);
        }
    }
}

#[cfg(test)]
mod tests;
