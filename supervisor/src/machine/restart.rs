//! When a child that failed is started again: intensity and backoff, after Erlang/OTP's
//! supervisor, with growing pauses.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use protocol::Time;

/// Which siblings share a failed child's fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// None.
    OneForOne,
    /// Those started after it: they build on it.
    RestForOne,
    /// All.
    OneForAll,
}

impl Strategy {
    /// As shown to a person.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OneForOne => "one for one",
            Self::RestForOne => "rest for one",
            Self::OneForAll => "one for all",
        }
    }

    /// The children, by index in starting order, that are stopped and started again when `failed`
    /// of `count` fails.
    pub const fn affected(self, failed: usize, count: usize) -> Range<usize> {
        match self {
            Self::OneForOne => failed..failed + 1,
            Self::RestForOne => failed..count,
            Self::OneForAll => 0..count,
        }
    }
}

/// Whether a child that ended is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only when it failed.
    Transient,
    /// Never.
    Temporary,
}

impl Restart {
    /// Whether to start it again after it ended, well or badly.
    pub const fn wanted(self, failed: bool) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => failed,
            Self::Temporary => false,
        }
    }
}

/// How many failures within what time are bearable, and how long to pause between.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Intensity {
    /// Most restarts within `within`; one more gives up.
    pub restarts: u32,
    /// The window.
    pub within: Duration,
    /// The first pause; doubled by each failure in the window.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Intensity {
    /// Five in a minute: a bug that strikes at once gives up within about three seconds, a rare one
    /// never.
    fn default() -> Self {
        Self {
            restarts: 5,
            within: Duration::from_secs(60),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        }
    }
}

/// The failures of one child.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    recent: VecDeque<Time>,
}

/// What to do about a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Start it again after this pause.
    Again(Duration),
    /// It fails too often.
    GiveUp,
}

impl Failures {
    /// Notes a failure and says what to do.
    pub fn failed(&mut self, now: Time, intensity: &Intensity) -> Verdict {
        self.recent.retain(|at| now.since(*at) < intensity.within);
        self.recent.push_back(now);
        let count = self.recent.len() as u32;
        if count > intensity.restarts {
            return Verdict::GiveUp;
        }
        let doubled = intensity.pause_min.saturating_mul(1 << (count - 1).min(16));
        Verdict::Again(doubled.min(intensity.pause_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_pick_the_siblings() {
        assert_eq!(Strategy::OneForOne.affected(1, 4), 1..2);
        assert_eq!(Strategy::RestForOne.affected(1, 4), 1..4);
        assert_eq!(Strategy::OneForAll.affected(1, 4), 0..4);
    }

    #[test]
    fn restart_kinds() {
        let table =
            [(Restart::Permanent, true, true), (Restart::Transient, false, true), (Restart::Temporary, false, false)];
        for (kind, after_success, after_failure) in table {
            assert_eq!((kind.wanted(false), kind.wanted(true)), (after_success, after_failure), "{kind:?}");
        }
    }

    #[test]
    fn pauses_grow_and_then_it_gives_up() {
        let (mut failures, intensity) = (Failures::default(), Intensity::default());
        let verdicts: Vec<_> = (0..6).map(|n| failures.failed(Time::from_micros(n * 1_000_000), &intensity)).collect();
        let again = |ms| Verdict::Again(Duration::from_millis(ms));
        assert_eq!(verdicts, [again(50), again(100), again(200), again(400), again(800), Verdict::GiveUp]);
    }

    #[test]
    fn old_failures_are_forgiven() {
        let (mut failures, intensity) = (Failures::default(), Intensity::default());
        for n in 0..100 {
            let verdict = failures.failed(Time::from_micros(n * 61_000_000), &intensity);
            assert_eq!(verdict, Verdict::Again(Duration::from_millis(50)));
        }
    }
}
