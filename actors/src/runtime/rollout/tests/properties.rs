use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::rolling::bounds;
use super::{Strategy, *};
use crate::runtime::model::analysis::AnalysisSpec;
use crate::runtime::model::strategy::{BlueGreen, Canary, CanaryStep, Portion, Rolling, SCALE_DOWN_DELAY};

/// What happens between two looks.
#[derive(Clone, Debug)]
enum Luck {
    /// So many new replicas become ready.
    Starts(u32),
    /// So many old ones become ready.
    Returns(u32),
    /// So many new replicas break.
    Breaks(u32),
    /// So many old ones break.
    Ails(u32),
    /// Requests to the new set fail so often.
    Fails(u64),
    Blind,
    Word(Word),
    /// Seconds pass.
    Wait(u64),
}

fn luck() -> impl proptest::strategy::Strategy<Value = Luck> {
    prop_oneof![
        6 => (1u32..6).prop_map(Luck::Starts),
        3 => (1u32..6).prop_map(Luck::Returns),
        1 => (1u32..4).prop_map(Luck::Breaks),
        1 => (1u32..4).prop_map(Luck::Ails),
        3 => (0u64..3).prop_map(Luck::Fails),
        1 => (3u64..100).prop_map(Luck::Fails),
        1 => Just(Luck::Blind),
        1 => Just(Luck::Word(Word::Suspend)),
        3 => Just(Luck::Word(Word::Resume)),
        1 => Just(Luck::Word(Word::Abort { why: "stop".into() })),
        4 => (1u64..200).prop_map(Luck::Wait),
    ]
}

fn judge() -> impl proptest::strategy::Strategy<Value = Option<AnalysisSpec>> {
    prop_oneof![Just(None), Just(Some(AnalysisSpec::failures_at_most(2.0, 2)))]
}

fn portion() -> impl proptest::strategy::Strategy<Value = Portion> {
    prop_oneof![(0u32..5).prop_map(Portion::Count), (0u8..=100).prop_map(Portion::Percent)]
}

fn step() -> impl proptest::strategy::Strategy<Value = CanaryStep> {
    prop_oneof![
        4 => (0u8..=100).prop_map(|percent| CanaryStep::Weight { percent }),
        1 => Just(CanaryStep::Pause { duration: None }),
        2 => (1u64..90).prop_map(|s| CanaryStep::Pause { duration: Some(Duration::from_secs(s)) }),
        1 => Just(CanaryStep::Analysis { analysis: AnalysisSpec::failures_at_most(2.0, 2) }),
    ]
}

fn plan() -> impl proptest::strategy::Strategy<Value = Plan> {
    let strategy = prop_oneof![
        (portion(), portion(), judge()).prop_map(|(max_surge, max_unavailable, analysis)| {
            Strategy::RollingHealthGated(Rolling { max_surge, max_unavailable, analysis })
        }),
        (prop::collection::vec(step(), 0..6), judge()).prop_map(|(steps, background)| {
            Strategy::Canary(Canary { steps, background, scale_down_delay: SCALE_DOWN_DELAY })
        }),
        (judge(), judge()).prop_map(|(before, after)| {
            let auto_promote_after = Some(Duration::from_secs(5));
            Strategy::BlueGreen(BlueGreen { before, auto_promote_after, after, scale_down_delay: SCALE_DOWN_DELAY })
        }),
    ];
    (strategy, 0u32..12, any::<bool>(), any::<bool>())
        .prop_map(|(strategy, replicas, stable, skip)| Plan { skip, ..Plan::new(strategy, replicas, stable) })
}

fn happen(world: &mut World, luck: &Luck) {
    let gain = |set: &mut Set, n: u32| {
        set.ready = (set.ready + n).min(set.total);
        set.available = set.ready;
    };
    let lose = |set: &mut Set, n: u32| {
        set.ready = set.ready.saturating_sub(n);
        set.available = set.available.min(set.ready);
    };
    match luck {
        Luck::Starts(n) => gain(&mut world.seen.new, *n),
        Luck::Returns(n) => gain(&mut world.seen.old, *n),
        Luck::Breaks(n) => lose(&mut world.seen.new, *n),
        Luck::Ails(n) => lose(&mut world.seen.old, *n),
        Luck::Fails(n) => world.seen.figures = figures(*n),
        Luck::Blind => world.seen.figures = None,
        Luck::Word(word) => world.seen.word = word.clone(),
        Luck::Wait(seconds) => world.now = world.now.after(Duration::from_secs(*seconds)),
    }
}

/// The most traffic that this phase may send to the new set.
fn allowed(plan: &Plan, phase: &Phase) -> u8 {
    match (phase, &plan.strategy) {
        (Phase::Step { index }, Strategy::Canary(canary)) => canary.steps[..=*index]
            .iter()
            .rev()
            .find_map(|step| match step {
                CanaryStep::Weight { percent } => Some(*percent),
                CanaryStep::Pause { .. } | CanaryStep::Analysis { .. } => None,
            })
            .unwrap_or(0),
        (Phase::Preview | Phase::Before | Phase::AwaitSwitch | Phase::Aborting { .. } | Phase::Aborted { .. }, _) => 0,
        (
            Phase::Rolling
            | Phase::Step { .. }
            | Phase::Promoting
            | Phase::Switching
            | Phase::After
            | Phase::Retiring
            | Phase::Done
            | Phase::Stuck { .. },
            _,
        ) => 100,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_promises_hold(plan in plan(), lucks in prop::collection::vec(luck(), 1..80)) {
        let canary_without_steps = matches!(&plan.strategy, Strategy::Canary(canary) if canary.steps.is_empty());
        prop_assume!(!canary_without_steps || plan.skip);
        let mut world = World::new(plan.clone());
        let mut aborted = false;
        for luck in &lucks {
            happen(&mut world, luck);
            let before = world.seen.clone();
            let actions = world.look();
            aborted |= matches!(world.state.phase, Phase::Aborting { .. } | Phase::Aborted { .. });
            for action in &actions {
                if let Action::SetWeight { percent } = action {
                    // F33, R109: never above the step's weight. One look may end a step and begin the next.
                    prop_assert!(*percent <= allowed(&plan, &world.state.phase), "{percent} % in {:?}", world.state.phase);
                    prop_assert!(!aborted || *percent == 0, "traffic after an abort");
                }
            }
            let ready = |seen: &Seen| seen.old.ready + seen.new.ready;
            match &plan.strategy {
                Strategy::RollingHealthGated(rolling) => {
                    let bounds = bounds(rolling, plan.replicas);
                    // D103: our own moves neither take too many away nor let too many in.
                    if plan.stable {
                        prop_assert!(
                            ready(&world.seen) >= ready(&before).min(bounds.fewest),
                            "{:?} -> {:?}", before, world.seen
                        );
                        prop_assert!(
                            world.seen.old.total + world.seen.new.total
                                <= bounds.most.max(before.old.total + before.new.total)
                        );
                    }
                    // What is stuck is left to people.
                    let stuck = matches!(world.state.phase, Phase::Stuck { .. });
                    if aborted && !stuck && plan.stable && before.old.ready > 0 {
                        prop_assert_eq!(world.seen.weight, 0);
                    }
                }
                Strategy::Canary(_) | Strategy::BlueGreen(_) => {
                    // The old set is whole until the new one has been promoted.
                    if !matches!(world.state.phase, Phase::Retiring | Phase::Done) {
                        prop_assert_eq!(world.seen.old.total, before.old.total);
                    }
                    if aborted {
                        prop_assert_eq!(world.seen.weight, 0);
                    }
                }
            }
            // Looking again at the same moment asks for nothing new but what the last moves allow,
            // and it comes to rest.
            let mut rest = World { state: world.state.clone(), seen: world.seen.clone(), now: world.now, starts: true, log: vec![] };
            let moved = (0..100).take_while(|_| !rest.look().is_empty()).count();
            prop_assert!(moved < 100, "it never comes to rest: {:?}", rest.state.phase);
        }
    }

    /// Whatever happened before: when all goes well from now on, it ends.
    #[test]
    fn it_ends(plan in plan(), before in 0u32..16, lucks in prop::collection::vec(luck(), 0..40)) {
        let stable = plan.stable;
        let mut world = World::new(plan);
        // Without another set to go back to, it may be the same set with another number of replicas.
        if !stable && before > 0 {
            world.state.plan.same = true;
            world.seen.applied = true;
            world.seen.new = Set { total: before, ready: before, available: before };
            world.seen.weight = 100;
        }
        for luck in &lucks {
            happen(&mut world, luck);
            world.look();
        }
        world.seen.figures = figures(0);
        for _ in 0..2_000 {
            world.settle();
            if world.state.waits_for().is_some() {
                world.seen.word = Word::Resume;
            }
            world.look();
            world.now = world.now.after(Duration::from_secs(10));
            if world.state.phase.ended() {
                break;
            }
        }
        prop_assert!(world.state.phase.ended(), "{:?}", world.state);
    }
}
