//! What one decision may cost: one budget for all states and expressions that one fact leads to.
//!
//! The machine has no clock, so whoever offers a fact brings one that runs since the decision began.
//! What is over the budget is not a failure: the record is closed, what is left of it is remembered in
//! the execution, and [`Effect::Continue`](super::Effect::Continue) asks for a turn behind the others.
//! A state fails by its time only when its expressions had (nearly) a whole budget to themselves.

/// The milliseconds since a decision began.
pub type Spent<'a> = &'a dyn Fn() -> u64;

/// How far a decision may go.
#[derive(Clone, Copy)]
pub struct Allowance<'a> {
    pub(super) spent: Spent<'a>,
    pub(super) reach: Reach,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// So many milliseconds of expressions; a decision that needs more is not made.
    Brief { ms: u64 },
    /// The budget of the definition's limits; what needs more is cut.
    Whole,
    /// Only what the fact itself settles: no state is entered.
    Bare,
}

impl<'a> Allowance<'a> {
    /// For a thread that has other things to do: when the expressions take longer than `ms`, nothing is
    /// decided and the fact is given back ([`Offer::Unfinished`](super::Offer::Unfinished)).
    pub const fn brief(spent: Spent<'a>, ms: u64) -> Self {
        Self { spent, reach: Reach::Brief { ms } }
    }

    /// The whole budget, for a thread that may be held up so long.
    pub const fn whole(spent: Spent<'a>) -> Self {
        Self { spent, reach: Reach::Whole }
    }

    /// Only what the fact itself settles, at once: the states that it leads to come with the next turn.
    pub const fn bare(spent: Spent<'a>) -> Self {
        Self { spent, reach: Reach::Bare }
    }
}

impl Allowance<'static> {
    /// The whole budget where no time passes: only states are counted.
    pub const fn untimed() -> Self {
        Self::whole(&|| 0)
    }
}
