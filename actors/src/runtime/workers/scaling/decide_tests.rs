use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::runtime::model::TargetKind;
use crate::runtime::model::scaling::{Behaviour, Fallback, Limit, Select, Step, Target};

fn policy() -> ScalingPolicy {
    let target = Target { metric: Metric::Rps, per_replica: 100.0, activation: 0.0 };
    let range = ReplicaRange { min: 2, max: 10 };
    ScalingPolicy::new(PolicyId::new("p").unwrap(), ServiceId::new("web").unwrap(), range, vec![target])
}

fn seen(replicas: u32, rps: Option<f64>) -> Seen {
    Seen { replicas, ready: replicas, readings: vec![Reading { metric: Metric::Rps, value: rps }] }
}

fn at(seconds: u64) -> Time {
    Time::from_micros(0).after(Duration::from_secs(seconds))
}

/// A service whose replicas follow at once.
struct Service {
    policy: ScalingPolicy,
    memory: Memory,
    replicas: u32,
    now: u64,
}

impl Service {
    fn new(policy: ScalingPolicy, replicas: u32) -> Self {
        Self { policy, memory: Memory::default(), replicas, now: 0 }
    }

    fn look(&mut self, rps: Option<f64>) -> Scaling {
        let scaling = decide(&self.policy, &self.memory, &seen(self.replicas, rps), at(self.now));
        self.memory = scaling.memory.clone();
        if scaling.act {
            self.replicas = scaling.decision.to;
        }
        scaling
    }

    fn later(&mut self, seconds: u64, rps: f64) -> (u32, Rule) {
        self.now += seconds;
        let scaling = self.look(Some(rps));
        (scaling.decision.to, scaling.decision.rule)
    }

    fn blind(&mut self, seconds: u64) -> (u32, Rule) {
        self.now += seconds;
        let scaling = self.look(None);
        (scaling.decision.to, scaling.decision.rule)
    }
}

/// D301, D302, F46.
#[test]
fn the_formula_and_its_tolerance() {
    for (rps, replicas, to, rule) in [
        (400.0, 4, 4, Rule::Steady),
        (439.0, 4, 4, Rule::Steady),
        // Ten percent above is not more than ten percent above.
        (440.0, 4, 4, Rule::Steady),
        (441.0, 4, 5, Rule::Target),
        (800.0, 4, 8, Rule::Target),
        (2_000.0, 4, 8, Rule::Target),
        (5_000.0, 1, 2, Rule::Bounds),
    ] {
        assert_eq!(Service::new(policy(), replicas).later(0, rps), (to, rule), "{rps} on {replicas}");
    }
}

/// D303, F46: a dip shorter than the window changes nothing.
#[test]
fn replicas_go_only_after_the_window() {
    let mut web = Service::new(policy(), 8);
    assert_eq!(web.later(0, 800.0), (8, Rule::Steady));
    assert_eq!(web.later(60, 300.0), (8, Rule::Stabilizing));
    assert_eq!(web.later(239, 500.0), (8, Rule::Stabilizing));
    assert_eq!(web.later(61, 300.0), (5, Rule::Target), "800 is over five minutes ago, 500 is not");
    let up = Behaviour { stabilization: Duration::from_secs(120), ..crate::runtime::model::scaling::up() };
    let mut calm = Service::new(ScalingPolicy { up, ..policy() }, 4);
    assert_eq!(calm.later(0, 400.0), (4, Rule::Steady));
    assert_eq!(calm.later(60, 800.0), (4, Rule::Stabilizing), "a spike");
    assert_eq!(calm.later(60, 400.0), (4, Rule::Steady));
    assert_eq!(calm.later(60, 800.0), (4, Rule::Stabilizing));
    assert_eq!(calm.later(121, 800.0), (8, Rule::Target));
}

/// D304.
#[test]
fn it_goes_no_faster_than_its_limits() {
    let fast = ScalingPolicy { cooldown: Duration::ZERO, max_replicas: 100, ..policy() };
    let mut web = Service::new(fast.clone(), 2);
    assert_eq!(web.later(0, 9_000.0).0, 6, "four more is more than double");
    assert_eq!(web.later(5, 9_000.0), (6, Rule::Stabilizing));
    assert_eq!(web.later(10, 9_000.0).0, 12, "double is more than four more");
    let slow = |select| Behaviour {
        stabilization: Duration::ZERO,
        limits: vec![
            Limit { by: Step::Count(1), period: Duration::from_secs(60) },
            Limit { by: Step::Percent(50), period: Duration::from_secs(60) },
        ],
        select,
        ..crate::runtime::model::scaling::down()
    };
    for (select, to) in [(Select::Max, 4), (Select::Min, 7), (Select::Disabled, 8)] {
        let mut web = Service::new(ScalingPolicy { down: slow(select), ..fast.clone() }, 8);
        assert_eq!(web.later(0, 200.0).0, to, "{select:?}");
    }
}

/// R080, R088, F45.
#[test]
fn nothing_changes_twice_within_the_cooldown() {
    let mut web = Service::new(ScalingPolicy { cooldown: Duration::from_secs(120), ..policy() }, 2);
    assert_eq!(web.later(0, 400.0), (4, Rule::Target));
    assert_eq!(web.later(119, 800.0), (4, Rule::Cooldown));
    assert_eq!(web.later(1, 800.0), (8, Rule::Target));
}

/// R087, D306, D307.
#[test]
fn zero_is_for_what_waits_for_events() {
    let sleepy = ScalingPolicy { scale_to_zero: true, ..policy() };
    assert!(sleepy.check(TargetKind::Continuous).unwrap_err().fault.contains("R087"));
    sleepy.check(TargetKind::EventDriven).unwrap();
    let cpu = vec![Target { metric: Metric::Cpu, per_replica: 50.0, activation: 0.0 }];
    assert!(
        ScalingPolicy { targets: cpu, ..sleepy.clone() }.check(TargetKind::EventDriven).is_err(),
        "who would wake it"
    );

    let mut web = Service::new(sleepy, 2);
    assert_eq!(web.later(0, 0.0), (2, Rule::Idle));
    assert_eq!(web.later(299, 0.0), (2, Rule::Idle));
    assert_eq!(web.later(1, 0.0), (0, Rule::ToZero));
    assert_eq!(web.later(60, 0.0), (0, Rule::Steady));
    assert_eq!(web.blind(60), (0, Rule::NoFigures));
    assert_eq!(web.later(1, 1.0), (2, Rule::FromZero), "back on demand, whatever the cooldown");
    assert_eq!(web.later(100, 0.0), (2, Rule::Idle));
    assert_eq!(web.later(250, 10.0).0, 2);
    assert_eq!(web.later(250, 0.0), (2, Rule::Idle), "a request in between starts the time again");
    let mut awake = Service::new(policy(), 2);
    for _ in 0..20 {
        assert_eq!(awake.later(60, 0.0).0, 2, "R085");
    }
}

/// F47, H18, D305, D308.
#[test]
fn missing_figures_never_take_replicas_away() {
    let mut web = Service::new(policy(), 8);
    for _ in 0..100 {
        assert_eq!(web.blind(60), (8, Rule::NoFigures));
    }
    let fallback = Some(Fallback { after: 3, replicas: 5 });
    let mut web = Service::new(ScalingPolicy { fallback, ..policy() }, 2);
    assert_eq!(web.blind(60), (2, Rule::NoFigures));
    assert_eq!(web.blind(60), (2, Rule::NoFigures));
    assert_eq!(web.blind(60), (5, Rule::Fallback));
    let mut many = Service::new(ScalingPolicy { fallback, ..policy() }, 9);
    assert_eq!((many.blind(1), many.blind(1), many.blind(1).0), ((9, Rule::NoFigures), (9, Rule::NoFigures), 9));

    let mut two = policy();
    two.targets.push(Target { metric: Metric::Queue, per_replica: 10.0, activation: 0.0 });
    let mut partly = Service::new(two, 8);
    assert_eq!(partly.later(600, 200.0), (8, Rule::Partial), "one of two is missing");
    assert_eq!(partly.later(600, 950.0), (10, Rule::Target), "up it may go");
}

#[test]
fn replicas_that_are_not_ready_are_counted_carefully() {
    let cpu = vec![Target { metric: Metric::Cpu, per_replica: 50.0, activation: 0.0 }];
    let policy = ScalingPolicy { targets: cpu, ..policy() };
    let look = |replicas, ready, value| {
        let readings = vec![Reading { metric: Metric::Cpu, value: Some(value) }];
        decide(&policy, &Memory::default(), &Seen { replicas, ready, readings }, at(0)).decision.to
    };
    assert_eq!(look(4, 4, 75.0), 6);
    assert_eq!(look(6, 4, 75.0), 6, "the two that start will take their part");
    assert_eq!(look(6, 2, 75.0), 6, "more was asked for, never fewer");
    assert_eq!(look(4, 0, 0.0), 4);
}

/// R089, H18.
#[test]
fn what_cannot_be_had_for_long_is_told_once() {
    let mut web = Service::new(policy(), 10);
    let tells: Vec<bool> = (0..20)
        .map(|_| {
            web.now += 60;
            web.look(Some(5_000.0)).violated
        })
        .collect();
    assert_eq!(tells.iter().position(|tell| *tell), Some(5), "after 300 s");
    assert_eq!(tells.iter().filter(|tell| **tell).count(), 1);
    web.later(60, 900.0);
    let again = (0..20)
        .filter(|_| {
            web.now += 60;
            web.look(Some(5_000.0)).violated
        })
        .count();
    assert_eq!(again, 1, "another episode");
}

/// F48.
#[test]
fn a_dry_run_says_what_it_would_do() {
    let mut web = Service::new(ScalingPolicy { dry_run: true, ..policy() }, 2);
    let scaling = web.look(Some(400.0));
    assert!(!scaling.act && scaling.store);
    let ScalingDecision { from, to, rule, reason, inputs, .. } = scaling.decision;
    assert_eq!((from, to, rule, inputs.replicas), (2, 4, Rule::Target, 2));
    assert_eq!(reason, "rps is 400, 100 per replica is wanted: 4");
}

/// H20: 3 → 5 → 3 → 5 are three changes with three keys.
#[test]
fn the_same_count_twice_has_two_keys() {
    let mut web = Service::new(ScalingPolicy { cooldown: Duration::ZERO, ..policy() }, 3);
    let mut keys = std::collections::BTreeSet::new();
    for rps in [500.0, 300.0, 500.0] {
        web.now += 3_600;
        // The first look after the window begins a new recommendation; the next one may act.
        let mut scaling = web.look(Some(rps));
        if !scaling.act {
            web.now += 301;
            scaling = web.look(Some(rps));
        }
        assert!(scaling.act);
        keys.insert(scaling.decision.key().unwrap());
    }
    assert_eq!(keys.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// F44, F45, F47, W074, W075 under any figures.
    #[test]
    fn the_promises_hold(
        start in 0u32..14,
        zero in any::<bool>(),
        looks in prop::collection::vec((1u64..200, prop::option::weighted(0.8, 0.0f64..3_000.0)), 1..100),
    ) {
        let policy = ScalingPolicy { scale_to_zero: zero, ..policy() };
        let mut web = Service::new(policy.clone(), start);
        let mut changed: Option<u64> = None;
        for (wait, rps) in looks {
            web.now += wait;
            let before = web.replicas;
            let scaling = web.look(rps);
            let to = scaling.decision.to;
            let holds = policy.range().holds(to) || to == before;
            prop_assert!(holds, "{to} outside of {:?}", policy.range());
            if rps.is_none() {
                prop_assert!(to >= before, "down blindly");
            }
            if to == 0 && before > 0 {
                prop_assert!(zero);
            }
            if scaling.act {
                let free = matches!(scaling.decision.rule, Rule::Bounds | Rule::FromZero);
                if let Some(last) = changed {
                    prop_assert!(free || web.now - last >= 60, "twice within the cooldown");
                }
                changed = Some(web.now);
            }
            // A second run over the same figures, when it changed nothing, writes and says nothing.
            if !scaling.act {
                let again = decide(&policy, &web.memory, &seen(web.replicas, rps), at(web.now));
                prop_assert!(!again.store && !again.act && !again.violated);
                prop_assert_eq!(&again.memory, &web.memory);
            }
        }
    }
}
