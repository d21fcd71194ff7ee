//! When a loop runs: jittered, one run per key at a time, late ticks merged into one (H19, D201).

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::Time;

use crate::runtime::model::ids::spread;

/// How much of an interval the ticks of different keys are spread over, in parts of a hundred: all
/// of it, so that a thousand keys make an even load instead of a wave.
pub const JITTER_PERCENT: u64 = 100;
/// The first pause after a failed run (H16).
pub const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause (H16: 2 min).
pub const PAUSE_MAX: Duration = Duration::from_secs(120);
/// After so many failed runs in a row people are told (H17).
pub const ALERT_AFTER: u32 = 3;

/// The first tick of `key` after `now`: at the same moment of every interval, which the key gives it.
/// It needs no memory, so a restart neither skips nor doubles a tick.
pub fn next_tick(key: &str, interval: Duration, now: Time) -> Time {
    let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1);
    let room = (interval.unsigned_abs().saturating_mul(JITTER_PERCENT) / 100).max(1);
    let offset = (spread(&[key]) % room) as i64;
    let since = now.as_micros().saturating_sub(offset).rem_euclid(interval);
    Time::from_micros(now.as_micros().saturating_sub(since).saturating_add(interval))
}

/// The pause before the attempt after the `failed`-th, counted from 1: full jitter below 2 s, 4 s, 8 s
/// … 2 min (H16). `seed` makes it another one for each key and attempt, and the same in every replay.
pub fn pause(failed: u32, seed: &str) -> Duration {
    let longest = PAUSE.saturating_mul(2u32.saturating_pow(failed.saturating_sub(1))).min(PAUSE_MAX);
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(spread(&[seed, &failed.to_string()]) % micros)
}

/// What a key is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lane {
    /// It runs, and whether somebody wanted it meanwhile.
    Running { again: bool, failed: u32 },
    /// It failed so often in a row, and may run again from then on.
    Waiting { until: Time, failed: u32 },
}

/// Who runs, by key: never two of one key, and whoever comes meanwhile makes it run once more, however
/// many they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lanes {
    lanes: BTreeMap<String, Lane>,
}

/// What a wish for a run comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Run now.
    Now,
    /// It runs; it will run once more afterwards.
    Merged,
    /// It failed a short while ago; ask again then.
    At(Time),
}

/// What the end of a run comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Whether to run again at once: somebody wanted it meanwhile.
    pub again: bool,
    /// When to try again, after a failure.
    pub retry_at: Option<Time>,
    /// Whether to tell people: so many failed in a row (H17). Once per row.
    pub alert: bool,
}

impl Lanes {
    /// Somebody wants `key` to run.
    pub fn want(&mut self, key: &str, now: Time) -> Start {
        match self.lanes.get_mut(key) {
            Some(Lane::Running { again, .. }) => {
                *again = true;
                Start::Merged
            }
            Some(Lane::Waiting { until, .. }) if *until > now => Start::At(*until),
            Some(Lane::Waiting { failed, .. }) => {
                let failed = *failed;
                self.lanes.insert(key.to_owned(), Lane::Running { again: false, failed });
                Start::Now
            }
            None => {
                self.lanes.insert(key.to_owned(), Lane::Running { again: false, failed: 0 });
                Start::Now
            }
        }
    }

    /// The run of `key` ended. With `again`, the caller starts it at once; it counts as running.
    pub fn ended(&mut self, key: &str, well: bool, now: Time) -> Ended {
        let nothing = Ended { again: false, retry_at: None, alert: false };
        let (again, failed) = match self.lanes.get(key) {
            Some(Lane::Running { again, failed }) => (*again, *failed),
            // An end that nobody began: a late echo.
            Some(Lane::Waiting { .. }) | None => return nothing,
        };
        match well {
            true if again => {
                self.lanes.insert(key.to_owned(), Lane::Running { again: false, failed: 0 });
                Ended { again: true, ..nothing }
            }
            true => {
                self.lanes.remove(key);
                nothing
            }
            false => {
                let failed = failed.saturating_add(1);
                let until = now.after(pause(failed, key));
                self.lanes.insert(key.to_owned(), Lane::Waiting { until, failed });
                Ended { again: false, retry_at: Some(until), alert: failed == ALERT_AFTER }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn ticks_are_spread_and_regular() {
        let now = Time::from_micros(1_700_000_000_000_000);
        let mut quarters = [0; 4];
        for n in 0..4_000 {
            let key = format!("drift/{n}");
            let first = next_tick(&key, MINUTE, now);
            assert!(first > now && first.since(now) <= MINUTE);
            assert_eq!(next_tick(&key, MINUTE, first).since(first), MINUTE);
            // H19: what was missed comes to one tick, and stays in step.
            let late = next_tick(&key, MINUTE, first.after(MINUTE * 7).after(Duration::from_secs(1)));
            assert_eq!(late.since(first), MINUTE * 8);
            quarters[(first.since(now).as_secs() / 15).min(3) as usize] += 1;
        }
        assert!(quarters.iter().all(|count| (800..1200).contains(count)), "{quarters:?}");
    }

    /// H16.
    #[test]
    fn pauses_grow_to_two_minutes() {
        for (failed, longest) in [(1, 2), (2, 4), (5, 32), (7, 120), (40, 120)] {
            let most = (0..2_000).map(|n| pause(failed, &n.to_string())).max().unwrap();
            assert!(most <= Duration::from_secs(longest) && most > Duration::from_secs(longest) * 9 / 10, "{failed}");
        }
        assert_eq!(pause(3, "a"), pause(3, "a"), "the same in a replay");
    }

    /// H17: told once, and the next tick goes on.
    #[test]
    fn failures_in_a_row_are_told() {
        let mut lanes = Lanes::default();
        let mut now = Time::from_micros(0);
        let mut alerts = Vec::new();
        for n in 0..6 {
            assert_eq!(lanes.want("a", now), Start::Now);
            let ended = lanes.ended("a", n == 4, now);
            alerts.push(ended.alert);
            if let Some(at) = ended.retry_at.filter(|at| *at > now) {
                assert_eq!(lanes.want("a", now), Start::At(at));
            }
            now = now.after(PAUSE_MAX);
        }
        assert_eq!(alerts, [false, false, true, false, false, false]);
    }

    proptest! {
        /// H19: never two of one key, and no wish is lost.
        #[test]
        fn one_run_per_key(steps in prop::collection::vec((0u8..3, any::<bool>()), 1..200)) {
            let mut lanes = Lanes::default();
            let mut running = [false; 3];
            let mut wished = [false; 3];
            let now = Time::from_micros(0);
            for (n, want) in steps {
                let (key, at) = (format!("k{n}"), usize::from(n));
                if want {
                    match lanes.want(&key, now) {
                        Start::Now => {
                            prop_assert!(!running[at]);
                            running[at] = true;
                        }
                        Start::Merged => {
                            prop_assert!(running[at]);
                            wished[at] = true;
                        }
                        Start::At(_) => prop_assert!(false, "nothing failed"),
                    }
                } else {
                    let ended = lanes.ended(&key, true, now);
                    prop_assert_eq!(ended.again, running[at] && wished[at]);
                    running[at] = ended.again;
                    wished[at] = false;
                }
            }
        }
    }
}
