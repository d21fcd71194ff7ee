use protocol::view::{Outcome as Ended, Status};

use crate::runtime::arbiter::{Command, Outcome, Source, Standing};
use crate::runtime::control::stage::{Ran, Stage};
use crate::runtime::model::DeploymentId;
use crate::runtime::records::incidents;
use crate::runtime::workers::health::Health;

/// One window later, as the timer comes.
async fn next(stage: &Stage, health: &Health) -> Ran {
    stage.pass(30).await;
    stage.run(health).await
}

fn health(stage: &Stage) -> Health {
    Health::new(&stage.ports)
}

/// W074, H05: nothing was unwell, so nothing is written and nothing is said.
#[tokio::test(start_paused = true)]
async fn a_world_that_is_well_is_left_in_peace() {
    let stage = Stage::new().await;
    let health = health(&stage);
    assert!(stage.run(&health).await.silent(), "an environment without services");
    stage.deploy("web", "1", 3).await;
    stage.deploy("api", "1", 2).await;
    for _ in 0..4 {
        let ran = next(&stage, &health).await;
        assert!(ran.silent(), "{ran:?}");
        assert_eq!(stage.machine.probes(), 5, "each replica once in each window");
    }
}

/// W021, D404: three tries, then it is started anew; said once when it changes, and when it is over.
#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_live_is_started_anew() {
    let stage = Stage::new().await;
    let health = health(&stage);
    stage.deploy("web", "1", 2).await;
    assert!(next(&stage, &health).await.silent());
    let sick = vec![stage.machine.replicas("web").remove(1)];
    stage.machine.ill(&sick, true);
    stage.machine.probes();
    let ran = next(&stage, &health).await;
    assert_eq!(stage.machine.probes(), 1 + 3, "the well one once, the other three times");
    assert_eq!(ran.told(), ["HealthCheckCompleted Degraded"], "{ran:?}");
    assert_eq!(stage.machine.restarts(), [(sick[0].clone(), 1)]);
    assert_eq!(ran.said[0].trace_id.as_str(), "trace-1", "W076");
    stage.machine.ill(&sick, false);
    let ran = next(&stage, &health).await;
    assert_eq!(ran.told(), ["HealthCheckCompleted Healthy"], "{ran:?}");
    assert!(stage.machine.restarts().is_empty());
    assert!(next(&stage, &health).await.silent());
}

/// A loop that does the same again and again without effect backs off, and says why.
#[tokio::test(start_paused = true)]
async fn what_does_not_help_is_done_less_and_less_often() {
    let stage = Stage::new().await;
    let health = health(&stage);
    stage.deploy("web", "1", 2).await;
    let sick = vec![stage.machine.replicas("web").remove(0)];
    stage.machine.ill(&sick, true);
    let (mut restarts, mut told) = (Vec::new(), Vec::new());
    for window in 0..40 {
        let ran = next(&stage, &health).await;
        told.extend(ran.told());
        if !stage.machine.restarts().is_empty() {
            restarts.push(window);
        }
    }
    assert!(restarts.len() < 12, "{restarts:?}");
    assert_eq!(restarts[..3], [0, 1, 2]);
    assert_eq!(told, ["HealthCheckCompleted Degraded", "RuntimeAlarmRaised"], "one alarm, and it is not stopped");
    assert!(stage.wishes.all().is_empty(), "there is nothing to go back to, and one replica still serves");
}

/// R098–R100, H07: Degraded for long brings the last good release back, by a saga under one key.
#[tokio::test(start_paused = true)]
async fn sustained_trouble_brings_the_last_good_release_back() {
    let stage = Stage::new().await;
    let health = health(&stage);
    stage.deploy("web", "1", 2).await;
    stage.deploy("web", "2", 2).await;
    stage.machine.ill(&stage.machine.replicas("web"), true);
    let mut told = Vec::new();
    for _ in 0..6 {
        told.extend(next(&stage, &health).await.told());
    }
    told.retain(|told| told != "RuntimeAlarmRaised");
    assert_eq!(told, ["HealthCheckCompleted Degraded", "HealthCheckCompleted Rollback"]);
    let wishes = stage.wishes.all();
    assert_eq!(wishes.len(), 1, "asked again under the same key");
    let wish = &wishes[0];
    assert_eq!(wish.input["kind"], "restore");
    assert_eq!((wish.input["source"].as_str(), wish.input["of"].as_str()), (Some("health"), Some("web-2")));
    // The saga asks the arbiter, carries it out and reports.
    let id = DeploymentId::new(wish.key.as_str()).unwrap();
    let back =
        Command::RollbackDeployment { of: DeploymentId::new("web-2").unwrap(), deployment_id: id, why: "ill".into() };
    let state = stage.ask_as("web", Source::Health, &format!("deploy:{}", wish.key), back).await;
    assert_eq!(next(&stage, &health).await.told(), ["HealthCheckCompleted Restoring"]);
    assert!(next(&stage, &health).await.silent(), "the restore's own gate decides, not a probe");
    stage.record("web", &crate::runtime::control::stage::revision(wish.key.as_str(), "1", 2)).await;
    stage.finish("web", state.sequence, Outcome::Succeeded).await;
    stage.apply("web").await;
    let ran = next(&stage, &health).await;
    assert_eq!(ran.told(), ["HealthCheckCompleted Healthy"], "{ran:?}");
    assert!(next(&stage, &health).await.silent());
}

/// R101, R110: a restore that fails before the arbiter heard of it is an incident, once.
#[tokio::test(start_paused = true)]
async fn a_restore_that_fails_is_an_incident() {
    let stage = Stage::new().await;
    let health = health(&stage);
    stage.deploy("web", "1", 1).await;
    stage.deploy("web", "2", 1).await;
    stage.machine.ill(&stage.machine.replicas("web"), true);
    for _ in 0..6 {
        next(&stage, &health).await;
    }
    let wish = stage.wishes.all().remove(0);
    let failed = |error: &str| Ended {
        status: Status::Failed,
        state: "Failed".into(),
        output: None,
        error: Some(error.into()),
        cause: Some("the record is gone".into()),
    };
    stage.wishes.end(&wish.key, failed("Busy"));
    next(&stage, &health).await;
    let wishes = stage.wishes.all();
    assert_eq!(wishes.len(), 2, "something else was under way: it is tried again");
    let again = wishes.iter().find(|other| other.key != wish.key).unwrap();
    stage.wishes.end(&again.key, failed("RecordMissing"));
    let ran = next(&stage, &health).await;
    assert_eq!(ran.told(), ["HealthCheckCompleted Incident", "RuntimeIncidentRaised"], "{ran:?}");
    // R111: all that it takes to ask the same again, in the event and in what is kept.
    let raised = ran.said.iter().find(|event| event.event_type == "RuntimeIncidentRaised").unwrap();
    let kept = incidents::last(&*stage.ports.store, &stage.place("web")).await.unwrap().unwrap();
    let envelope = kept.envelope.clone().unwrap();
    assert_eq!(envelope.payload["input"], again.input, "the input of the saga that failed");
    assert_eq!(
        (envelope.payload["definition"].as_str(), &envelope.trace_id),
        (Some("runtime_deployment"), &again.trace)
    );
    assert_eq!((&kept.trace, kept.saga), (&again.trace, format!("acme/{}", again.key)));
    assert_eq!(raised.payload["envelope"], serde_json::to_value(&envelope).unwrap());
    assert_eq!(raised.trace_id, again.trace);
    let standing = stage.service("web").await.docket.state.standing;
    assert!(matches!(standing, Standing::Incident { .. }), "it is listed as one: {standing:?}");
    for _ in 0..5 {
        assert!(next(&stage, &health).await.told().is_empty(), "one incident");
    }
    assert_eq!(stage.wishes.all().len(), 2);
    stage.deploy("web", "3", 1).await;
    let ran = next(&stage, &health).await;
    assert_eq!(ran.told(), ["HealthCheckCompleted Healthy"], "a person deployed: {ran:?}");
}

/// Trouble of ours says nothing about a workload.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_is_not_unwell() {
    let stage = Stage::new().await;
    let health = health(&stage);
    stage.deploy("web", "1", 2).await;
    stage.machine.away(true);
    let ran = next(&stage, &health).await;
    assert!(ran.report.is_err_and(|failure| !failure.permanent) && ran.said.is_empty());
    stage.machine.away(false);
    assert!(next(&stage, &health).await.silent());
}

/// What was scaled down while its probes were asked does not count as failed.
#[tokio::test(start_paused = true)]
async fn what_changed_meanwhile_is_not_judged_by_what_was() {
    let stage = Stage::new().await;
    let health = health(&stage);
    stage.deploy("web", "1", 5).await;
    stage.pass(28).await;
    let shrink = async {
        // The run is spread over two seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let sequence = stage.ask("web", "scale", Command::Scale { to: 1, observed: 5 }).await.sequence;
        stage.finish("web", sequence, Outcome::Succeeded).await;
        stage.apply("web").await;
    };
    let (ran, ()) = tokio::join!(stage.run(&health), shrink);
    assert!(ran.told().is_empty(), "{ran:?}");
    assert!(stage.machine.restarts().is_empty());
    assert!(next(&stage, &health).await.silent());
}

/// A paused service is left alone, and still watched.
#[tokio::test(start_paused = true)]
async fn a_paused_service_is_only_looked_at() {
    let stage = Stage::new().await;
    let health = health(&stage);
    stage.deploy("web", "1", 1).await;
    stage.ask("web", "pause", Command::Pause { why: "a person looks".into() }).await;
    stage.machine.ill(&stage.machine.replicas("web"), true);
    let ran = next(&stage, &health).await;
    assert_eq!(ran.told(), ["HealthCheckCompleted Degraded"]);
    for _ in 0..6 {
        next(&stage, &health).await;
    }
    assert!(stage.machine.restarts().is_empty() && stage.wishes.all().is_empty());
}
