use std::collections::BTreeMap;

use protocol::{Principal, TraceId, Value};
use supervisor::worker::{Run, Why};

use super::{Carried, SMALL};
use crate::runtime::arbiter::{Command, Doing, Outcome, Standing};
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::control::desk::Desk;
use crate::runtime::control::stage::Stage;
use crate::runtime::model::{ConfigurationRef, Release, Revision};
use crate::runtime::records::configurations;

/// A service of two replicas, whose arbiter has accepted another configuration; and what the set is
/// called that it becomes.
async fn configured() -> (Stage, Desk, ConfigurationRef, String) {
    let stage = Stage::new().await;
    stage.deploy("web", "1", 2).await;
    let (desk, place) = (Desk::new(stage.ports.clone(), Which::ConfigurationSyncWorker), stage.place("web"));
    let entries = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    let to = configurations::publish(&*stage.ports.store, &place, &entries).await.unwrap().at;
    stage.ask("web", "configure", Command::ApplyConfiguration { to: to.clone() }).await;
    let current = stage.service("web").await.current().unwrap();
    let next = Revision { configuration: Some(to.clone()), ..current };
    let set = desk.running(&place, &next).await.unwrap().unwrap().set;
    (stage, desk, to, set)
}

async fn carry(stage: &Stage, desk: &Desk) -> Carried {
    let why = (Why::ByHand(Principal::new("ann").unwrap()), TraceId::new("t").unwrap());
    let around = (stage.ports.clock.clone(), stage.ports.outbox.clone());
    let run = Run::alone(Stage::worker("configuration"), 1, why, Value::Null, around);
    desk.carry(&run, &stage.service("web").await, &SMALL).await.unwrap()
}

/// Another configuration is another set, which takes all traffic once it is well.
#[tokio::test(start_paused = true)]
async fn a_configuration_is_switched_to() {
    let (stage, desk, to, set) = configured().await;
    let Carried::Done { action, outcome } = carry(&stage, &desk).await else { panic!("it is done") };
    assert_eq!((action.doing(), outcome), (Doing::Configuring, Outcome::Succeeded));
    assert_eq!(stage.machine.replicas("web"), [format!("web-{set}-0"), format!("web-{set}-1")], "the old one is gone");
    assert_eq!(stage.machine.routed("web"), [(set, 100)]);
    let state = stage.service("web").await.docket.state;
    assert_eq!(state.current.and_then(|current| current.configuration), Some(to));
    assert_eq!(carry(&stage, &desk).await, Carried::Nothing);
}

/// One that its probes do not like gets no traffic, goes again, and is held.
#[tokio::test(start_paused = true)]
async fn a_bad_configuration_never_takes_the_traffic() {
    let (stage, desk, to, set) = configured().await;
    let (old, before) = (stage.machine.replicas("web"), stage.machine.routed("web"));
    stage.machine.ill(&[format!("web-{set}-0"), format!("web-{set}-1")], true);
    let Carried::Waiting { why, .. } = carry(&stage, &desk).await else { panic!("it waits") };
    assert!(why.starts_with("0 of 2 new replicas are well"), "{why}");
    assert_eq!(stage.machine.routed("web"), before);
    // Another node goes on with it, long after.
    stage.pass(3_600).await;
    let Carried::Done { outcome: Outcome::RolledBack { .. }, .. } = carry(&stage, &desk).await else {
        panic!("it is taken back")
    };
    assert_eq!((stage.machine.replicas("web"), stage.machine.routed("web")), (old, before));
    let state = stage.service("web").await.docket.state;
    let current = state.current.unwrap();
    assert_eq!(state.held[0].what, Release { configuration: Some(to), ..current.release() });
    assert!(state.under_way.is_none() && current.configuration.is_none());
}

/// More replicas are done when they are there; those that do not come are taken back.
#[tokio::test(start_paused = true)]
async fn more_replicas_are_seen_or_taken_back() {
    let stage = Stage::new().await;
    stage.deploy("web", "1", 2).await;
    let desk = Desk::new(stage.ports.clone(), Which::ScalingPolicyWorker);
    stage.machine.room(Some(3));
    stage.ask("web", "scale", Command::Scale { to: 5, observed: 2 }).await;
    let Carried::Waiting { why, .. } = carry(&stage, &desk).await else { panic!("two are missing") };
    assert_eq!(why, "3 of 5 replicas exist");
    stage.pass(3_600).await;
    let Carried::Done { outcome: Outcome::RolledBack { why }, .. } = carry(&stage, &desk).await else {
        panic!("it is taken back")
    };
    assert_eq!((why.as_str(), stage.machine.wanted("web")), ("3 of 5 replicas exist", 2));
    assert_eq!(stage.service("web").await.docket.state.replicas, 2, "what was before is still so");
    stage.machine.room(None);
    stage.ask("web", "scale-again", Command::Scale { to: 5, observed: 2 }).await;
    let Carried::Done { outcome, .. } = carry(&stage, &desk).await else { panic!("all are there") };
    assert_eq!((outcome, stage.service("web").await.docket.state.replicas), (Outcome::Succeeded, 5));
}

/// Found by a reader: drained, resumed and scaled it had replicas, and nobody reached them.
#[tokio::test(start_paused = true)]
async fn a_drained_service_comes_back_with_its_replicas_and_its_traffic() {
    let stage = Stage::new().await;
    stage.deploy("web", "1", 2).await;
    let desk = Desk::new(stage.ports.clone(), Which::ScalingPolicyWorker);
    let routed = stage.machine.routed("web");
    stage.ask("web", "drain", Command::Drain { why: "moved".into() }).await;
    let Carried::Done { outcome, .. } = carry(&stage, &desk).await else { panic!("it is drained") };
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!((stage.machine.replicas("web"), stage.machine.routed("web")), (vec![], vec![]));
    // Replicas that do not come leave it drained, without requests, and it can be resumed again.
    stage.machine.room(Some(1));
    stage.ask("web", "resume-early", Command::Resume).await;
    let Carried::Waiting { .. } = carry(&stage, &desk).await else { panic!("one is missing") };
    stage.pass(3_600).await;
    let Carried::Done { outcome, .. } = carry(&stage, &desk).await else { panic!("it is given up") };
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    assert_eq!((stage.machine.replicas("web"), stage.machine.routed("web")), (vec![], vec![]));
    assert!(matches!(stage.service("web").await.docket.state.standing, Standing::Drained { .. }));
    stage.machine.room(None);
    stage.ask("web", "resume", Command::Resume).await;
    // Whoever says it twice does not have it open before it is.
    stage.ask("web", "resume-twice", Command::Resume).await;
    assert!(matches!(stage.service("web").await.docket.state.standing, Standing::Drained { .. }));
    let Carried::Done { action, outcome } = carry(&stage, &desk).await else { panic!("it is back") };
    assert_eq!((action.doing(), outcome), (Doing::Scaling, Outcome::Succeeded));
    assert_eq!((stage.machine.wanted("web"), stage.machine.routed("web")), (2, routed));
    assert_eq!(stage.service("web").await.docket.state.replicas, 2);
}
