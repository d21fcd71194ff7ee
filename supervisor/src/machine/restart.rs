//! When a child that failed is started again: intensity and backoff, after Erlang/OTP's
//! supervisor, with growing pauses.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::Time;

/// Which siblings share a failed child's fate, as a description shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// None: a node's shards and services.
    OneForOne,
    /// Those started after it, which build on it: what a shard is made of.
    RestForOne,
}

impl Strategy {
    /// As shown to a person.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OneForOne => "one for one",
            Self::RestForOne => "rest for one",
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
