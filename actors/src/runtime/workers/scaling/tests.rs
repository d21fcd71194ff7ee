use std::time::Duration;

use supervisor::worker::Worker as _;

use super::{Remembered, Scaling};
use crate::runtime::arbiter::{Command, Outcome, Source};
use crate::runtime::control::stage::{Ran, Stage};
use crate::runtime::model::scaling::{Metric, Target};
use crate::runtime::model::{PolicyId, ReplicaRange, ScalingPolicy, TargetKind};
use crate::runtime::records::policies::Policies;
use crate::runtime::store;
use crate::runtime::workers::scaling::decide::Rule;

/// Ten requests per second for each replica, one to five of them, and nothing that takes minutes.
fn policy() -> ScalingPolicy {
    let target = Target { metric: Metric::Rps, per_replica: 10.0, activation: 0.0 };
    let range = ReplicaRange { min: 1, max: 5 };
    let mut policy = ScalingPolicy::new(PolicyId::new("p").unwrap(), "web".parse().unwrap(), range, vec![target]);
    policy.down.stabilization = Duration::from_secs(60);
    policy
}

async fn world(policy: &ScalingPolicy) -> (Stage, Scaling) {
    let stage = Stage::new().await;
    stage.deploy("web", "1", 2).await;
    apply(&stage, policy).await;
    let scaling = Scaling::new(&stage.ports);
    (stage, scaling)
}

async fn apply(stage: &Stage, policy: &ScalingPolicy) {
    let policies = Policies::new(stage.ports.store.clone());
    policies.apply(&stage.place("web"), policy, TargetKind::EventDriven).await.unwrap();
}

async fn next(stage: &Stage, scaling: &Scaling) -> Ran {
    stage.pass(61).await;
    stage.run(scaling).await
}

async fn kept(stage: &Stage) -> Remembered {
    let place = stage.place("web");
    store::read(&*stage.ports.store, &place.space(), &place.scaling()).await.unwrap().unwrap().value
}

/// R080–R084, F48, W074: it follows the load both ways, stores why, and says nothing when there is
/// nothing to do.
#[tokio::test(start_paused = true)]
async fn replicas_follow_the_load_and_then_it_is_silent() {
    let (stage, scaling) = world(&policy()).await;
    stage.machine.figure(Metric::Rps, Some((20.0, 0)));
    next(&stage, &scaling).await;
    assert_eq!(stage.service("web").await.docket.state.governed, Some(ReplicaRange { min: 1, max: 5 }), "H02");
    for _ in 0..3 {
        let ran = next(&stage, &scaling).await;
        assert!(ran.silent(), "{ran:?}");
    }
    stage.machine.figure(Metric::Rps, Some((38.0, 0)));
    let ran = next(&stage, &scaling).await;
    assert_eq!(ran.told(), ["ScalingPolicyApplied"], "{ran:?}");
    assert_eq!((stage.machine.wanted("web"), stage.service("web").await.docket.state.replicas), (4, 4));
    let decision = kept(&stage).await.decisions.back().cloned().unwrap();
    assert_eq!((decision.from, decision.to, decision.rule), (2, 4, Rule::Target));
    assert_eq!(decision.inputs.readings[0].value, Some(38.0), "F48: with what it was decided on");
    next(&stage, &scaling).await;
    assert!(next(&stage, &scaling).await.silent());
    stage.machine.figure(Metric::Rps, Some((9.0, 0)));
    for _ in 0..4 {
        next(&stage, &scaling).await;
    }
    assert_eq!(stage.machine.wanted("web"), 1);
    assert!(next(&stage, &scaling).await.silent());
}

/// R089: once per episode.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_met_is_told_once() {
    let (stage, scaling) = world(&policy()).await;
    stage.machine.figure(Metric::Rps, Some((500.0, 0)));
    let mut told = Vec::new();
    for _ in 0..12 {
        told.extend(next(&stage, &scaling).await.told());
    }
    assert_eq!(stage.machine.wanted("web"), 5, "never above max");
    assert_eq!(told, ["ScalingPolicyApplied", "ScalingPolicyViolated"]);
}

/// F47: what is missing or incomplete never takes a replica away.
#[tokio::test(start_paused = true)]
async fn nothing_goes_blindly() {
    let (stage, scaling) = world(&policy()).await;
    stage.machine.figure(Metric::Rps, Some((1.0, 1)));
    for _ in 0..5 {
        next(&stage, &scaling).await;
    }
    assert_eq!(stage.machine.wanted("web"), 2, "of one replica nothing is in the sum");
    stage.machine.figure(Metric::Rps, None);
    for _ in 0..5 {
        next(&stage, &scaling).await;
    }
    assert_eq!(stage.machine.wanted("web"), 2);
    assert!(next(&stage, &scaling).await.silent());
    stage.machine.figure(Metric::Rps, Some((45.0, 1)));
    next(&stage, &scaling).await;
    assert_eq!(stage.machine.wanted("web"), 5, "an incomplete sum is still a reason to grow");
}

/// A policy may want more than its environment has room for; then it waits for room, and says so.
#[tokio::test(start_paused = true)]
async fn it_grows_no_further_than_there_is_room() {
    let (stage, scaling) = world(&policy()).await;
    stage.room(3).await;
    stage.machine.figure(Metric::Rps, Some((38.0, 0)));
    next(&stage, &scaling).await;
    let ran = next(&stage, &scaling).await;
    assert!(ran.silent(), "{ran:?}");
    assert!(ran.report.unwrap().why.contains("may have 3 replicas"));
    assert_eq!(stage.machine.wanted("web"), 2);
    stage.room(4).await;
    next(&stage, &scaling).await;
    assert_eq!(stage.machine.wanted("web"), 4);
}

/// While something else is under way nothing is decided; afterwards it is as if nobody had looked.
#[tokio::test(start_paused = true)]
async fn a_deployment_comes_first() {
    let (stage, scaling) = world(&policy()).await;
    stage.machine.figure(Metric::Rps, Some((20.0, 0)));
    next(&stage, &scaling).await;
    let before = kept(&stage).await;
    let to = crate::runtime::control::stage::revision("web-2", "2", 2);
    let state = stage.ask("web", "deploy", Command::Deploy { to, anew: false }).await;
    stage.machine.figure(Metric::Rps, Some((45.0, 0)));
    let ran = next(&stage, &scaling).await;
    assert!(ran.silent(), "{ran:?}");
    assert_eq!((kept(&stage).await, stage.machine.wanted("web")), (before, 2));
    stage.finish("web", state.sequence, Outcome::Failed { why: "no".into() }).await;
    assert_eq!(next(&stage, &scaling).await.told(), ["ScalingPolicyApplied"]);
}

/// What a node that died left under way is carried on.
#[tokio::test(start_paused = true)]
async fn what_was_left_under_way_is_carried_on() {
    let (stage, scaling) = world(&policy()).await;
    stage.machine.figure(Metric::Rps, Some((40.0, 0)));
    stage.ask_as("web", Source::Scaling, "govern", Command::Govern { range: Some(policy().range()) }).await;
    stage.ask_as("web", Source::Scaling, "scale/web/4/1", Command::Scale { to: 4, observed: 2 }).await;
    assert_eq!(stage.machine.wanted("web"), 2, "it died here");
    next(&stage, &scaling).await;
    assert_eq!(stage.machine.wanted("web"), 4);
    let state = stage.service("web").await.docket.state;
    assert_eq!((state.replicas, state.under_way), (4, None));
    next(&stage, &scaling).await;
    assert!(next(&stage, &scaling).await.silent());
}

/// A person's scale and drain are carried out too, and without a policy nothing else happens.
#[tokio::test(start_paused = true)]
async fn what_people_ask_for_is_carried_out() {
    let stage = Stage::new().await;
    stage.deploy("web", "1", 2).await;
    let scaling = Scaling::new(&stage.ports);
    assert!(stage.run(&scaling).await.silent());
    stage.ask("web", "s", Command::Scale { to: 3, observed: 2 }).await;
    stage.run(&scaling).await;
    assert_eq!((stage.machine.wanted("web"), stage.service("web").await.docket.state.replicas), (3, 3));
    stage.ask("web", "d", Command::Drain { why: "it moves".into() }).await;
    stage.run(&scaling).await;
    assert_eq!(stage.machine.wanted("web"), 0);
    assert_eq!(stage.service("web").await.docket.state.under_way, None);
    assert!(stage.run(&scaling).await.silent());
}

/// R087, D306, D307: to sleep when there is nothing to do for long, and back when somebody waits.
#[tokio::test(start_paused = true)]
async fn it_sleeps_and_wakes() {
    let sleeps = ScalingPolicy { scale_to_zero: true, zero_after: Duration::from_secs(120), ..policy() };
    let (stage, scaling) = world(&sleeps).await;
    stage.machine.figure(Metric::Rps, Some((0.0, 0)));
    for _ in 0..8 {
        next(&stage, &scaling).await;
    }
    assert_eq!(stage.machine.wanted("web"), 0);
    stage.machine.figure(Metric::Rps, None);
    assert!(next(&stage, &scaling).await.silent(), "it sleeps");
    stage.machine.waiting(3);
    let ran = next(&stage, &scaling).await;
    assert_eq!((ran.told(), stage.machine.wanted("web")), (vec!["ScalingPolicyApplied".to_owned()], 1), "{ran:?}");
}

/// D310: it says what it would do, and owns nothing. A policy that is taken away gives the replicas
/// back.
#[tokio::test(start_paused = true)]
async fn a_dry_run_only_says_and_a_policy_can_go() {
    let dry = ScalingPolicy { dry_run: true, ..policy() };
    let (stage, scaling) = world(&dry).await;
    stage.machine.figure(Metric::Rps, Some((45.0, 0)));
    let ran = next(&stage, &scaling).await;
    assert!(ran.told().is_empty());
    let state = stage.service("web").await.docket.state;
    assert_eq!((stage.machine.wanted("web"), state.governed), (2, None));
    assert_eq!(kept(&stage).await.decisions.back().map(|it| (it.to, it.dry_run)), Some((5, true)));
    apply(&stage, &policy()).await;
    next(&stage, &scaling).await;
    assert_eq!(stage.machine.wanted("web"), 5);
    Policies::new(stage.ports.store.clone()).remove(&stage.place("web")).await.unwrap();
    next(&stage, &scaling).await;
    assert_eq!(stage.service("web").await.docket.state.governed, None);
    assert!(next(&stage, &scaling).await.silent());
}

/// A scale by hand is carried out at once, and what is no business of this worker does not wake it.
#[tokio::test(start_paused = true)]
async fn only_what_it_carries_out_wakes_it() {
    let stage = Stage::new().await;
    stage.deploy("web", "1", 2).await;
    let scaling = Scaling::new(&stage.ports);
    let environment = protocol::Environment::new("dev").unwrap();
    stage.ask("web", "by-hand", Command::Scale { to: 3, observed: 2 }).await;
    let started = stage.heard().pop().unwrap();
    assert_eq!(started.event_type, crate::runtime::workers::scaling::STARTED);
    assert!(
        scaling.triggers().contains(&crate::runtime::workers::scaling::STARTED)
            && scaling.concerns(&started, &environment)
    );
    for (at, is) in [("/action/type", "deploying"), ("/by", "ScalingPolicyWorker")] {
        let mut other = started.clone();
        *other.payload.pointer_mut(at).unwrap() = is.into();
        assert!(!scaling.concerns(&other, &environment), "{at} {is}");
    }
    next(&stage, &scaling).await;
    assert_eq!(stage.machine.wanted("web"), 3);
}
