//! The one road a fact takes: offered, made durable, confirmed. Recovery folds the same changes.

use std::sync::Arc;

use protocol::{Problem, SagaId};

use super::allowance::Allowance;
use super::decide::{Verdict, decide};
use super::definition::Definition;
use super::effect::Effect;
use super::execution::Execution;
use super::fact::Fact;
use super::fold::{Folding, fold};
use super::record::Record;
use super::wanted::{is_outbox, said, wanted};

/// Runs one saga: the actor's and the simulator's.
///
/// The state is folded ahead when a fact is offered, so that the next fact can be decided while
/// the record is on its way; what is to be done about it is kept back until the record is durable.
/// If it never becomes durable, the driver is thrown away and built again from the journal.
#[derive(Clone, Debug)]
pub struct Driver {
    definition: Arc<Definition>,
    pub(super) execution: Execution,
    /// What is to be done once the records offered so far are durable.
    pub(super) held: Vec<Effect>,
    /// About how many bytes the state has, stored; `WEIGHT_UNKNOWN` until it is first measured.
    weight: usize,
}

/// What a saga that has done nothing has, with its start.
const EMPTY_BYTES: usize = 1_024;
/// Larger than any limit, so that the first decision measures; far from overflow.
const WEIGHT_UNKNOWN: usize = usize::MAX / 2;

/// What became of an offered fact.
#[derive(Clone, PartialEq, Debug)]
pub enum Offer {
    /// It settled something: append this record, then confirm.
    Recorded(Record),
    /// A late echo: it has no effect and needs no record.
    Ignored(&'static str),
    /// Whoever sent it is told why it has no effect.
    Refused(Problem),
    /// A brief allowance does not suffice. Nothing is changed; here is the fact back.
    Unfinished(Fact),
}

/// Why a record cannot be replayed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// The record is another saga's.
    #[error("the record belongs to saga {record}, not to {driver}")]
    Saga {
        /// Whose record it is.
        record: SagaId,
        /// Whose it should be.
        driver: SagaId,
    },
    /// Records are missing before this one.
    #[error("record {found} does not follow record {last}")]
    Gap {
        /// The last record folded.
        last: u64,
        /// The one that came.
        found: u64,
    },
}

impl Driver {
    /// A saga before its first fact.
    pub fn new(saga: SagaId, definition: Arc<Definition>) -> Self {
        let execution = Execution::new(saga, definition.reference().clone());
        Self { definition, execution, held: Vec::new(), weight: EMPTY_BYTES }
    }

    /// A saga as its snapshot has it.
    pub fn restore(definition: Arc<Definition>, execution: Execution) -> Self {
        Self { definition, execution, held: Vec::new(), weight: WEIGHT_UNKNOWN }
    }

    /// [`Driver::offer_within`] a whole budget, where no time passes.
    pub fn offer(&mut self, fact: Fact) -> Offer {
        self.offer_within(fact, Allowance::untimed())
    }

    /// Decides and folds ahead. Several facts may be offered before one [`Driver::confirm`]; their
    /// records go into one batch, in order.
    pub fn offer_within(&mut self, mut fact: Fact, allowance: Allowance<'_>) -> Offer {
        fact.kind.keep_texts();
        let number = self.execution.records + 1;
        let (x, held, weight) = (&mut self.execution, &mut self.held, &mut self.weight);
        match decide(x, &self.definition, &fact, number, held, weight, allowance) {
            Verdict::Settled(changes) => {
                self.execution.recorded(number, &fact, &changes);
                let (saga, previous) = (self.execution.saga.clone(), self.execution.position);
                Offer::Recorded(Record { saga, number, previous, fact, changes })
            }
            Verdict::Ignored(why) => Offer::Ignored(why),
            Verdict::Refused(problem) => Offer::Refused(problem),
            Verdict::Unfinished => Offer::Unfinished(fact),
        }
    }

    /// The records offered so far are durable, in the frame at `position`. Answers what is to be
    /// done about them, in order.
    pub fn confirm(&mut self, position: u64) -> Vec<Effect> {
        self.execution.position = position;
        std::mem::take(&mut self.held)
    }

    /// Folds a record from the frame at `position`. Answers what leaves the shard because of it
    /// (events, children, the end), for the relay to repeat; everything else is in
    /// [`Driver::resume`], and so are the children started by a record that the snapshot holds.
    ///
    /// # Errors
    /// When the record is another saga's or does not follow the last one.
    pub fn replay(&mut self, record: &Record, position: u64) -> Result<Vec<Effect>, ReplayError> {
        let x = &mut self.execution;
        if record.saga != x.saga {
            return Err(ReplayError::Saga { record: record.saga.clone(), driver: x.saga.clone() });
        }
        let burial = record.is_burial() && x.outcome.is_none();
        if record.number <= x.records && !burial {
            return Ok(said(x, record, || x.outcome.clone()));
        }
        if record.number != x.records + 1 && !burial {
            return Err(ReplayError::Gap { last: x.records, found: record.number });
        }
        let mut effects = Vec::new();
        let mut folding = Folding::new(&record.fact, record.number);
        for change in &record.changes {
            fold(x, &mut folding, change, &mut effects);
        }
        x.recorded(record.number, &record.fact, &record.changes);
        x.position = position;
        self.weight = WEIGHT_UNKNOWN;
        effects.retain(is_outbox);
        Ok(effects)
    }

    /// After recovery: everything that is still wanted. Attempts under way keep their number and
    /// key, timers their number and time.
    pub fn resume(&self) -> Vec<Effect> {
        wanted(&self.execution)
    }

    /// What is to leave the shard once the records offered so far are durable: events, children,
    /// the end.
    pub fn outbox(&self) -> impl Iterator<Item = &Effect> {
        self.held.iter().filter(|effect| is_outbox(effect))
    }

    /// The saga as it stands.
    pub fn execution(&self) -> &Execution {
        &self.execution
    }

    /// What it runs.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }
}
