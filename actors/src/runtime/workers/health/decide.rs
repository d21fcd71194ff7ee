//! Whether a service is well (W016–W022, D401–D405).
//!
//! Every probe runs once in each window of 30 s, with up to three tries, at a moment that its name
//! gives it: thousands of them spread over the window instead of starting together. A result belongs
//! to its window; the latest window wins, whenever the result arrives (H22).

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::Time;
use serde::{Deserialize, Serialize};

use crate::runtime::model::ids::spread;
use crate::runtime::model::probe::{PAUSE, TRIES, WINDOW};
use crate::runtime::model::{ProbeKind, ProbeSpec};

/// A window, counted from the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window(pub i64);

impl Window {
    /// The window in which `at` lies.
    pub fn of(at: Time) -> Self {
        Self(at.as_micros().div_euclid(micros(WINDOW)))
    }

    /// When it begins.
    pub fn begin(self) -> Time {
        Time::from_micros(self.0.saturating_mul(micros(WINDOW)))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The part of `room` after which what has this name has its turn: always the same.
pub fn offset(name: &[&str], room: Duration) -> Duration {
    Duration::from_micros(spread(name) % micros(room).max(1).unsigned_abs())
}

/// What to do after a try within one window (W021).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Try {
    /// The probe passed.
    Passed,
    /// Try again after so long.
    Again(Duration),
    /// The probe failed in this window.
    Failed,
}

/// After the `tried`-th try, counted from 1.
pub const fn after_try(tried: u32, passed: bool) -> Try {
    match (passed, tried < TRIES) {
        (true, _) => Try::Passed,
        (false, true) => Try::Again(PAUSE),
        (false, false) => Try::Failed,
    }
}

/// What is known of one probe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probed {
    /// The window of its latest result; results of earlier ones are not taken any more.
    pub window: Window,
    /// Windows in a row that failed, up to the threshold.
    pub failed: u32,
    /// Windows in a row that passed, up to the threshold.
    pub passed: u32,
    /// What that comes to; `None`: not known yet.
    pub well: Option<bool>,
}

impl Probed {
    /// Takes a result. `None`: a result of that window or a later one is known already.
    pub fn take(self, probe: &ProbeSpec, window: Window, passed: bool) -> Option<Self> {
        let known = self.well.is_some() || self.failed + self.passed > 0;
        if known && window <= self.window {
            return None;
        }
        // Counted no further than it matters, so that a steady state is never written anew for it.
        let (failed, well_again) = match passed {
            true => (0, (self.passed + 1).min(probe.success_threshold)),
            false => ((self.failed + 1).min(probe.failure_threshold), 0),
        };
        let well = if passed && well_again >= probe.success_threshold {
            Some(true)
        } else if !passed && failed >= probe.failure_threshold {
            Some(false)
        } else {
            self.well
        };
        Some(Self { window, failed, passed: well_again, well })
    }
}

/// What the probes of one replica say together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It has not started yet: nothing else is asked of it (D403).
    Starting,
    /// It takes traffic.
    Ready,
    /// It takes no traffic, and is left running (D404).
    NotReady,
    /// It does not live: it is restarted (D404).
    Dead,
}

/// What the probes of one replica say together, in the order of the specification.
pub fn verdict(probes: &[ProbeSpec], known: &BTreeMap<usize, Probed>) -> Verdict {
    let well = |kind: ProbeKind| {
        let of = probes.iter().enumerate().filter(move |(_, probe)| probe.kind == kind);
        of.map(|(number, _)| known.get(&number).and_then(|probed| probed.well)).collect::<Vec<_>>()
    };
    let startup = well(ProbeKind::Startup);
    if startup.contains(&Some(false)) {
        // It had its time to start and did not.
        return Verdict::Dead;
    }
    if startup.contains(&None) {
        return Verdict::Starting;
    }
    if well(ProbeKind::Liveness).contains(&Some(false)) {
        return Verdict::Dead;
    }
    match well(ProbeKind::Readiness).iter().all(|well| *well == Some(true)) {
        true => Verdict::Ready,
        false => Verdict::NotReady,
    }
}

/// Whether a probe is asked now: startup until it passed, the others only after it (D403), and none
/// before its delay.
pub fn asked(
    probes: &[ProbeSpec],
    known: &BTreeMap<usize, Probed>,
    number: usize,
    started_at: Time,
    now: Time,
) -> bool {
    let Some(probe) = probes.get(number) else { return false };
    let passed = |number: usize| known.get(&number).and_then(|probed| probed.well) == Some(true);
    let started = probes.iter().enumerate().all(|(number, probe)| probe.kind != ProbeKind::Startup || passed(number));
    let turn = match probe.kind {
        ProbeKind::Startup => !passed(number),
        ProbeKind::Liveness | ProbeKind::Readiness => started,
    };
    turn && now.since(started_at) >= probe.initial_delay
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::model::Probe;

    fn probe(kind: ProbeKind) -> ProbeSpec {
        ProbeSpec::new(kind, Probe::Tcp { port: 80 })
    }

    /// F50, W017: ten thousand probes, each at the same moment of every window, and no second is crowded.
    #[test]
    fn ten_thousand_probes_spread_over_the_window() {
        let room = Duration::from_secs(25);
        let mut seconds = [0u32; 25];
        for n in 0..10_000 {
            let name = format!("service-{n}");
            let at = offset(&[&name, "0"], room);
            assert_eq!(offset(&[&name, "0"], room), at, "the same moment of every window");
            seconds[at.as_secs() as usize] += 1;
        }
        assert!(seconds.iter().all(|count| (300..500).contains(count)), "{seconds:?}");
    }

    /// W021, F49: three tries, then the window has failed.
    #[test]
    fn three_tries() {
        assert_eq!(after_try(1, false), Try::Again(PAUSE));
        assert_eq!(after_try(2, false), Try::Again(PAUSE));
        assert_eq!(after_try(3, false), Try::Failed);
        assert_eq!(after_try(3, true), Try::Passed);
    }

    /// W022, H22: by window, never by arrival.
    #[test]
    fn the_latest_window_wins() {
        let probe = probe(ProbeKind::Readiness);
        let at_9 = Probed::default().take(&probe, Window(9), true).unwrap();
        assert_eq!(at_9.take(&probe, Window(8), false), None, "it arrived late");
        assert_eq!(at_9.take(&probe, Window(9), false), None, "the same window again");
        assert_eq!(at_9.take(&probe, Window(10), false).unwrap().well, Some(false));
        assert!(Probed::default().take(&probe, Window(-3), true).is_some(), "the first is always taken");
    }

    #[test]
    fn thresholds_count_windows_in_a_row() {
        let probe = ProbeSpec { failure_threshold: 3, success_threshold: 2, ..probe(ProbeKind::Readiness) };
        let mut known = Probed::default();
        let mut said = Vec::new();
        for (window, passed) in
            [true, true, false, false, true, false, false, false, true, true].into_iter().enumerate()
        {
            known = known.take(&probe, Window(window as i64), passed).unwrap();
            said.push(known.well);
        }
        let (no, yes) = (Some(false), Some(true));
        assert_eq!(said, [None, yes, yes, yes, yes, yes, yes, no, no, yes]);
    }

    /// D403, D404, F49.
    #[test]
    fn startup_holds_back_the_others() {
        let probes = [probe(ProbeKind::Startup), probe(ProbeKind::Liveness), probe(ProbeKind::Readiness)];
        let known = |all: [Option<bool>; 3]| {
            let probed = |well| Probed { well, ..Probed::default() };
            all.into_iter().map(probed).enumerate().collect::<BTreeMap<_, _>>()
        };
        let (no, yes) = (Some(false), Some(true));
        for (story, all, says, asks) in [
            ("it starts", [None, None, None], Verdict::Starting, [true, false, false]),
            ("an old liveness does not count yet", [None, no, no], Verdict::Starting, [true, false, false]),
            ("it never started", [no, None, None], Verdict::Dead, [true, false, false]),
            ("it started", [yes, None, None], Verdict::NotReady, [false, true, true]),
            ("ready", [yes, yes, yes], Verdict::Ready, [false, true, true]),
            ("no traffic, no restart", [yes, yes, no], Verdict::NotReady, [false, true, true]),
            ("restart", [yes, no, yes], Verdict::Dead, [false, true, true]),
        ] {
            let known = known(all);
            assert_eq!(verdict(&probes, &known), says, "{story}");
            let asked = [0, 1, 2].map(|number| asked(&probes, &known, number, Time::default(), Time::default()));
            assert_eq!(asked, asks, "{story}");
        }
        let late = [ProbeSpec { initial_delay: WINDOW, ..probe(ProbeKind::Liveness) }];
        let none = BTreeMap::new();
        assert!(!crate::runtime::workers::health::decide::asked(
            &late,
            &none,
            0,
            Time::default(),
            Time::default().after(WINDOW / 2)
        ));
        assert!(super::asked(&late, &none, 0, Time::default(), Time::default().after(WINDOW)));
        assert_eq!(verdict(&[], &none), Verdict::Ready, "who has no probes is taken at its word");
    }

    proptest! {
        /// W022 under any order of arrival: what counts is the order of the windows.
        #[test]
        fn what_arrives_late_never_counts(results in prop::collection::vec((0i64..20, any::<bool>()), 1..40)) {
            let probe = probe(ProbeKind::Readiness);
            let mut known = Probed::default();
            for (window, passed) in &results {
                known = known.take(&probe, Window(*window), *passed).unwrap_or(known);
            }
            let last = results.iter().map(|(window, _)| *window).max().unwrap();
            let first_of_last = results.iter().find(|(window, _)| *window == last).unwrap().1;
            prop_assert_eq!((known.window, known.well), (Window(last), Some(first_of_last)));
        }
    }
}
