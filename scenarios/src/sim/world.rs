//! The world outside: what activities really did, and the one true clock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::{SagaId, Time};

use crate::check::{Acknowledged, Command, Direction, Entry, Phase};
use crate::dice::Dice;

/// When every simulated run begins: 2026-01-01.
pub const BEGINNING: Time = Time::from_micros(1_767_225_600_000_000);

/// The world of one run.
pub struct World {
    began: tokio::time::Instant,
    inner: Mutex<Inner>,
}

/// What happened in it.
pub struct Inner {
    /// Every choice of the run.
    pub dice: Dice,
    /// What activities did.
    pub ledger: Vec<Entry>,
    /// What was accepted.
    pub acknowledged: Vec<Acknowledged>,
    /// What happened, for a person; the newest are told of a run that failed.
    pub story: Vec<String>,
    /// Effects that came after their undo and were refused by the mark it left.
    pub refused_late: u64,
    done: HashMap<String, bool>,
    marks: HashSet<String>,
}

impl World {
    /// A world before anything happened.
    pub fn new(dice: Dice) -> Arc<Self> {
        Arc::new(Self {
            began: tokio::time::Instant::now(),
            inner: Mutex::new(Inner {
                dice,
                ledger: Vec::new(),
                acknowledged: Vec::new(),
                story: Vec::new(),
                refused_late: 0,
                done: HashMap::new(),
                marks: HashSet::new(),
            }),
        })
    }

    /// Everything inside.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The true time.
    pub fn now(&self) -> Time {
        BEGINNING.after(self.began.elapsed())
    }

    /// One of `0..below`.
    pub fn roll(&self, below: u64) -> u64 {
        self.inner().dice.roll(below)
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.inner().dice.chance(per_mille)
    }

    /// Some time up to `most`.
    pub fn pause(&self, most: Duration) -> Duration {
        self.inner().dice.pause(most)
    }

    /// Notes what happened.
    pub fn tell(&self, what: impl std::fmt::Display) {
        let at = self.began.elapsed();
        self.inner().story.push(format!("{:>9.3} s  {what}", at.as_secs_f64()));
    }

    /// Notes an accepted command.
    pub fn accepted(&self, saga: &SagaId, what: Command) {
        self.inner().acknowledged.push(Acknowledged { saga: saga.clone(), what });
    }

    /// Notes that an attempt began.
    pub fn began(&self, mut entry: Entry) {
        entry.at = self.now();
        entry.phase = Phase::Began;
        self.inner().ledger.push(entry);
    }

    /// Does an effect unless it was done before under its key, as a well-made activity does; an undo
    /// leaves a mark by which a run that comes late is refused. Answers whether the effect stands.
    pub fn act(&self, mut entry: Entry) -> bool {
        entry.at = self.now();
        entry.phase = Phase::Acted;
        let mut inner = self.inner();
        match entry.direction {
            Direction::Run if inner.marks.contains(&entry.key) => {
                inner.refused_late += 1;
                return false;
            }
            Direction::Run => {
                if inner.done.insert(entry.key.clone(), true).is_none() {
                    inner.ledger.push(entry);
                }
            }
            Direction::Undo => {
                if inner.marks.insert(entry.key.clone()) {
                    inner.ledger.push(entry);
                }
            }
        }
        true
    }
}
