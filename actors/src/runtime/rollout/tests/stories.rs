use super::*;
use crate::runtime::model::analysis::AnalysisSpec;
use crate::runtime::model::strategy::{BlueGreen, Canary, CanaryStep, Portion, Rolling, SCALE_DOWN_DELAY};

fn canary(steps: Vec<CanaryStep>, background: Option<AnalysisSpec>) -> Plan {
    let canary = Canary { steps, background, scale_down_delay: SCALE_DOWN_DELAY };
    Plan::new(Strategy::Canary(canary), 10, true)
}

fn blue_green(before: bool, after: bool, auto: Option<u64>) -> Plan {
    let judge = |on: bool| on.then(|| AnalysisSpec::failures_at_most(5.0, 2));
    let both = BlueGreen {
        before: judge(before),
        auto_promote_after: auto.map(Duration::from_secs),
        after: judge(after),
        scale_down_delay: SCALE_DOWN_DELAY,
    };
    Plan::new(Strategy::BlueGreen(both), 4, true)
}

const WEIGHT_10: CanaryStep = CanaryStep::Weight { percent: 10 };
const WEIGHT_50: CanaryStep = CanaryStep::Weight { percent: 50 };
const ASK: CanaryStep = CanaryStep::Pause { duration: None };

/// R106, D103.
#[test]
fn a_rolling_update_goes_replica_by_replica() {
    let rolling = Rolling { max_surge: Portion::Count(1), max_unavailable: Portion::Count(1), analysis: None };
    let mut world = World::new(Plan::new(Strategy::RollingHealthGated(rolling), 3, true));
    world.run(600);
    assert_eq!(world.state.phase, Phase::Done);
    assert_eq!(
        world.taken(),
        "New 1, Old 2, New 2, Old 1, weight 33, New 3, Old 0, weight 66, weight 100, promote",
        "3 + 1 at most, 3 - 1 ready at least"
    );
}

/// Found by a reader: fewer replicas of what runs were completed while all of them still ran.
#[test]
fn fewer_replicas_of_the_same_are_seen_before_it_is_done() {
    let rolling = Strategy::RollingHealthGated(Rolling::default());
    for strategy in [rolling, canary(vec![WEIGHT_10], None).strategy, blue_green(false, false, None).strategy] {
        for wanted in [0, 1, 5] {
            let plan = Plan { skip: true, ..Plan::new(strategy.clone(), wanted, false) };
            let mut world = World::new(plan);
            (world.seen.applied, world.seen.weight) = (true, 100);
            world.seen.new = Set { total: 3, ready: 3, available: 3 };
            world.run(600);
            assert_eq!((&world.state.phase, world.seen.new.total), (&Phase::Done, wanted), "{strategy:?}");
        }
        // Compute knows it before anybody is sent there, and be it without replicas.
        let mut first = World::new(Plan { skip: true, ..Plan::new(strategy, 0, false) });
        first.run(600);
        assert_eq!((&first.state.phase, first.seen.applied), (&Phase::Done, true));
    }
}

/// Found by a reader: more replicas that did not come took the requests from those that served.
#[test]
fn the_same_set_that_does_not_become_whole_keeps_its_requests() {
    let rolling = Strategy::RollingHealthGated(Rolling::default());
    let plan = Plan { same: true, skip: true, ..Plan::new(rolling, 5, false) };
    let mut world = World::new(plan);
    (world.seen.applied, world.seen.weight, world.starts) = (true, 100, false);
    world.seen.new = Set { total: 3, ready: 3, available: 3 };
    world.run(1_200);
    assert_eq!(world.state.phase, Phase::Aborted { why: "nothing moved for 600 s".into() });
    assert_eq!((world.seen.weight, world.seen.new.ready), (100, 3), "{}", world.taken());
}

/// R109: nothing but the first batch takes traffic before it has been judged.
#[test]
fn a_rolling_update_waits_for_its_judge() {
    let analysis = Some(AnalysisSpec::failures_at_most(5.0, 2));
    let rolling = Rolling { max_surge: Portion::Count(2), max_unavailable: Portion::Count(0), analysis };
    let plan = Plan::new(Strategy::RollingHealthGated(rolling), 10, true);
    let mut world = World::new(plan.clone());
    world.seen.figures = figures(0);
    world.run(60);
    assert_eq!((world.seen.new.total, world.seen.old.total, world.seen.weight), (2, 8, 20));
    world.run(600);
    assert_eq!((&world.state.phase, world.seen.new.total, world.seen.weight), (&Phase::Done, 10, 100));
    let mut bad = World::new(plan);
    bad.seen.figures = figures(50);
    bad.run(600);
    assert_eq!(bad.state.phase, Phase::Aborted { why: "the analysis failed".into() });
    assert_eq!((bad.seen.new.total, bad.seen.old.total, bad.seen.weight), (0, 10, 0));
}

/// R107, D101.
#[test]
fn a_canary_goes_step_by_step() {
    let analysis = CanaryStep::Analysis { analysis: AnalysisSpec::failures_at_most(5.0, 3) };
    let pause = CanaryStep::Pause { duration: Some(Duration::from_secs(60)) };
    let mut world = World::new(canary(vec![WEIGHT_10, pause, analysis, WEIGHT_50, ASK], None));
    world.seen.figures = figures(1);
    world.run(60);
    assert_eq!(world.taken(), "New 1, weight 10");
    world.run(3600);
    assert_eq!(world.taken(), "New 5, weight 50");
    assert_eq!(world.state.waits_for(), Some("a pause: `skald services resume` goes on, `skald rollback` goes back"));
    world.say(Word::Resume);
    world.run(600);
    assert_eq!(world.taken(), "New 10, weight 100, promote, Old 0");
    assert_eq!(world.state.phase, Phase::Done);
}

/// F33: a breach of `failureLimit` returns all traffic to the stable set; the new one goes 30 s later.
#[test]
fn a_canary_that_fails_goes_back() {
    let mut world = World::new(canary(vec![WEIGHT_10, WEIGHT_50, ASK], Some(AnalysisSpec::failures_at_most(5.0, 60))));
    world.seen.figures = figures(0);
    world.run(180);
    assert_eq!(world.taken(), "New 1, weight 10, New 5, weight 50");
    world.seen.figures = figures(6);
    world.run(40);
    assert_eq!(world.taken(), "weight 0");
    world.run(600);
    assert_eq!(world.taken(), "New 0");
    assert_eq!(
        world.state.phase,
        Phase::Aborted { why: "the background analysis failed at step 3 of 3 with 50 % of the traffic".into() }
    );
    assert_eq!(world.seen.old.ready, 10, "the old set was whole all the time");
}

#[test]
fn an_analysis_that_cannot_tell_asks_a_person() {
    let analysis = CanaryStep::Analysis { analysis: AnalysisSpec::failures_at_most(5.0, 3) };
    let mut world = World::new(canary(vec![WEIGHT_10, analysis], None));
    world.seen.figures = Some(Figures { requests: 1, ..Figures::default() });
    world.run(24 * 3600);
    assert_eq!(
        world.state.waits_for(),
        Some("an analysis could not tell: `skald services resume` goes on, `skald rollback` goes back")
    );
    assert_eq!(world.taken(), "New 1, weight 10");
    world.say(Word::Resume);
    world.run(600);
    assert_eq!(world.state.phase, Phase::Done);
}

/// F35: without progress it goes back; pauses and suspensions do not count.
#[test]
fn what_does_not_move_goes_back_and_what_waits_does_not() {
    let mut stuck = World::new(canary(vec![WEIGHT_10], None));
    stuck.starts = false;
    stuck.run(610);
    assert_eq!(stuck.state.phase, Phase::Step { index: 0 });
    stuck.run(60);
    assert_eq!(stuck.state.phase, Phase::Aborted { why: "nothing moved for 600 s".into() }, "it had no traffic yet");

    let mut paused = World::new(canary(vec![WEIGHT_10, ASK, WEIGHT_50], None));
    paused.run(7 * 24 * 3600);
    assert_eq!(paused.state.phase, Phase::Step { index: 1 });

    let mut suspended = World::new(canary(vec![WEIGHT_10], None));
    suspended.starts = false;
    suspended.run(500);
    suspended.say(Word::Suspend);
    suspended.run(24 * 3600);
    suspended.say(Word::Resume);
    suspended.starts = true;
    suspended.settle();
    suspended.run(600);
    assert_eq!(suspended.state.phase, Phase::Done, "D111: the day did not count");
}

/// Found by chance: a suspension between an abort and the return of the old replicas left the traffic
/// where it was.
#[test]
fn the_way_back_is_not_suspended() {
    let rolling = Rolling { max_surge: Portion::Count(1), max_unavailable: Portion::Count(2), analysis: None };
    let mut world = World::new(Plan::new(Strategy::RollingHealthGated(rolling), 2, true));
    world.run(10);
    world.say(Word::Abort { why: "stop it".into() });
    world.say(Word::Suspend);
    world.run(60);
    assert_eq!((&world.state.phase, world.seen.weight), (&Phase::Aborted { why: "stop it".into() }, 0));
}

/// H06, H08: the way back can fail too, and there may be none.
#[test]
fn a_way_back_that_does_not_move_is_stuck() {
    let rolling = Rolling { max_surge: Portion::Count(1), max_unavailable: Portion::Count(1), analysis: None };
    let mut world = World::new(Plan::new(Strategy::RollingHealthGated(rolling), 3, true));
    world.run(20);
    world.say(Word::Abort { why: "stop it".into() });
    for _ in 0..100 {
        // The old replicas do not start any more.
        world.look();
        world.now = world.now.after(Duration::from_secs(10));
    }
    let Phase::Stuck { why } = &world.state.phase else { panic!("{:?}", world.state.phase) };
    assert_eq!(why, "stop it; on the way back nothing moved for 600 s");

    let mut first = World::new(Plan { stable: false, ..canary(vec![WEIGHT_10], None) });
    first.run(10);
    first.say(Word::Abort { why: "stop it".into() });
    first.run(60);
    assert_eq!((first.seen.weight, first.seen.new.total), (0, 0));
    assert_eq!(first.state.phase, Phase::Aborted { why: "stop it".into() });
}

/// D109: going back to one of the last revisions skips steps and analysis.
#[test]
fn a_rollback_within_the_window_skips_the_steps() {
    let mut world = World::new(Plan { skip: true, ..canary(vec![WEIGHT_10, ASK], None) });
    world.run(600);
    assert_eq!(world.taken(), "New 10, weight 100, promote, Old 0");
}

/// R108, D102, F34.
#[test]
fn blue_green_switches_once_and_keeps_the_old_set_for_a_while() {
    let mut world = World::new(blue_green(true, true, Some(60)));
    world.seen.figures = figures(0);
    world.run(150);
    assert_eq!(world.taken(), "New 4");
    world.run(60);
    assert_eq!((world.taken().as_str(), world.seen.old.total), ("weight 100", 4));
    world.run(600);
    assert_eq!((world.taken().as_str(), &world.state.phase), ("promote, Old 0", &Phase::Done));
    assert!(world.now.since(world.state.since) <= Duration::from_secs(10));
}

#[test]
fn blue_green_switches_back_when_the_new_set_fails_under_traffic() {
    let mut world = World::new(blue_green(true, true, None));
    world.seen.figures = figures(0);
    world.run(600);
    assert_eq!((world.taken().as_str(), &world.state.phase), ("New 4", &Phase::AwaitSwitch), "a person switches");
    world.say(Word::Resume);
    world.seen.figures = figures(50);
    world.run(600);
    assert_eq!(world.taken(), "weight 100, weight 0, New 0");
    assert_eq!(world.state.phase, Phase::Aborted { why: "the analysis after the switch failed".into() });
    let mut early = World::new(blue_green(true, true, Some(0)));
    early.seen.figures = figures(50);
    early.run(600);
    assert_eq!(early.taken(), "New 4, New 0", "a bad preview never gets traffic");
}

#[test]
fn a_rollout_is_read_back() {
    let mut world = World::new(canary(vec![WEIGHT_10, ASK], Some(AnalysisSpec::failures_at_most(5.0, 3))));
    world.run(60);
    let packed = protocol::codec::store(&world.state);
    assert_eq!(protocol::codec::load::<RolloutState>(&packed).unwrap(), world.state);
    let text = serde_json::to_string(&world.state).unwrap();
    assert_eq!(serde_json::from_str::<RolloutState>(&text).unwrap(), world.state, "{text}");
}
