use super::*;
use crate::runtime::model::{ConfigurationId, ConfigurationRef, DriftKind, ReplicaRange, SecretBindingId};

fn bad() -> Outcome {
    Outcome::RolledBack { why: "5 of 10 requests failed".into() }
}

fn drift(n: u8) -> Command {
    Command::RemediateDrift { to: revision(n), kinds: vec![DriftKind::Image], approved_by: None }
}

fn rollback(of: u8, id: &str) -> Command {
    Command::RollbackDeployment {
        of: revision(of).deployment_id,
        deployment_id: DeploymentId::new(id).unwrap(),
        why: "degraded for 2 minutes".into(),
    }
}

fn configuration(version: u64) -> ConfigurationRef {
    ConfigurationRef { configuration_id: ConfigurationId::new("web").unwrap(), version }
}

/// H01, F36: what was rolled back stays away until desired state moves on.
#[test]
fn a_rolled_back_image_is_held_against_drift_and_sync() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    web.yes(Source::Sync, Command::DesiredState { desired: desired(2) });
    web.yes(Source::Sync, Command::Deploy { to: revision(2), anew: false });
    let acts = web.end(bad());
    assert!(matches!(&acts[..], [Act::SayHeld { hold }] if hold.what == revision(2).release()), "{acts:?}");
    assert_eq!(web.state.current, Some(revision(1)));
    for _ in 0..3 {
        assert!(matches!(web.no(Source::Drift, drift(2)), Refusal::Held(_)));
        assert!(matches!(web.no(Source::Sync, Command::Deploy { to: revision(2), anew: false }), Refusal::Held(_)));
        // The same desired state again is no move.
        assert_eq!(
            web.ask(Source::Sync, Command::DesiredState { desired: desired(2) }),
            Decision::AlreadyDone { sequence: None }
        );
    }
    let refusal = web.no(Source::Operator, Command::Deploy { to: revision(2), anew: false });
    assert_eq!(
        refusal.mend(),
        "deploy another image, configuration or secret, or let this one come again with `skald services unhold`"
    );
    // It moves on, and back: somebody means it.
    let acts = web.yes(Source::Sync, Command::DesiredState { desired: desired(3) });
    assert_eq!(acts, [Act::SayReleased { held: revision(2).release() }]);
    assert!(matches!(web.no(Source::Drift, drift(2)), Refusal::NotDesired { .. }), "decided on an older read");
    web.yes(Source::Sync, Command::DesiredState { desired: desired(2) });
    web.yes(Source::Drift, drift(2));
}

#[test]
fn a_person_clears_a_hold() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    web.yes(Source::Operator, Command::Deploy { to: revision(2), anew: false });
    web.end(bad());
    let held = revision(2).release();
    assert!(matches!(web.no(Source::Sync, Command::ClearHold { held: held.clone() }), Refusal::NotYours { .. }));
    web.yes(Source::Operator, Command::ClearHold { held: held.clone() });
    assert_eq!(web.no(Source::Operator, Command::ClearHold { held }), Refusal::NotHeld);
    web.yes(Source::Operator, Command::Deploy { to: revision(2), anew: false });
}

/// R104, R105, H07: after a sustained Degraded state the last completed deployment comes back, and
/// it is never one that was rolled back.
#[test]
fn a_rollback_leads_past_what_was_rolled_back() {
    let mut web = Story::new(Stage::Prod);
    for n in 1..=3 {
        web.deployed(n);
    }
    let acts = web.yes(Source::Health, rollback(3, "r1"));
    assert!(matches!(&acts[..], [Act::SayHeld { .. }, Act::Start { action: Action::Restoring { to, .. }, .. }]
        if to.image == image(2) && to.deployment_id.as_str() == "r1"));
    web.end(Outcome::Succeeded);
    assert_eq!(web.no(Source::Health, rollback(3, "late")), Refusal::NotRunning, "a late verdict hits nothing else");
    let current = web.state.current.clone().unwrap().deployment_id;
    let again = Command::RollbackDeployment { of: current, deployment_id: revision(9).deployment_id, why: "x".into() };
    web.yes(Source::Health, again);
    web.end(Outcome::Succeeded);
    assert_eq!(web.state.current.as_ref().map(|revision| &revision.image), Some(&image(1)), "not 3, which is held");
}

/// R101, R110: a restore that fails is an incident, and nothing happens by itself any more.
#[test]
fn a_restore_that_fails_is_an_incident() {
    let mut web = Story::new(Stage::Prod);
    web.deployed(1);
    web.deployed(2);
    web.yes(Source::Health, rollback(2, "r1"));
    let acts = web.end(Outcome::Failed { why: "no machine is left".into() });
    assert_eq!(acts, [Act::RaiseIncident { why: "no machine is left".into() }]);
    assert!(matches!(web.no(Source::Health, rollback(2, "r2")), Refusal::Incident { .. }));
    // It ends with a deployment that is good, and the next fault is a new one.
    web.yes(Source::Operator, Command::Deploy { to: revision(4), anew: false });
    let acts = web.end(Outcome::Succeeded);
    assert!(matches!(&acts[..], [Act::CloseIncident { why, .. }] if why == "no machine is left"), "{acts:?}");
    assert_eq!(web.state.standing, Standing::Open);
    let acts = web.yes(Source::Health, Command::Strand { why: "it is gone".into() });
    assert_eq!(acts, [Act::RaiseIncident { why: "it is gone".into() }]);
    let acts = web.yes(Source::Operator, Command::Resume);
    assert!(matches!(&acts[..], [Act::CloseIncident { why, .. }] if why == "it is gone"), "{acts:?}");
}

/// H08: there is nothing to go back to.
#[test]
fn a_first_deployment_has_no_way_back() {
    let mut web = Story::new(Stage::Prod);
    web.deployed(1);
    let acts = web.yes(Source::Health, rollback(1, "r1"));
    assert!(matches!(
        &acts[..],
        [Act::RaiseIncident { .. }, Act::SayHeld { .. }, Act::Start { action: Action::Stopping { .. }, .. }]
    ));
    web.end(Outcome::Succeeded);
    assert_eq!(web.state.current, None);
    assert!(matches!(web.state.standing, Standing::Incident { .. }));

    let mut first = Story::new(Stage::Prod);
    first.yes(Source::Operator, Command::Deploy { to: revision(1), anew: false });
    let acts = first.end(bad());
    assert!(matches!(&acts[..], [Act::SayHeld { .. }, Act::RaiseIncident { .. }]));
}

#[test]
fn a_rollback_of_what_comes_stops_it_once() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    web.yes(Source::Operator, Command::Deploy { to: revision(2), anew: false });
    assert!(matches!(web.ask(Source::Health, rollback(1, "r0")), Decision::Busy { .. }), "it means something else");
    let acts = web.yes(Source::Operator, rollback(2, "r1"));
    assert!(matches!(&acts[..], [Act::Abort { .. }]));
    assert!(matches!(web.ask(Source::Health, rollback(2, "r2")), Decision::AlreadyDone { .. }));
    web.end(bad());
    assert_eq!(web.state.current, Some(revision(1)));
}

/// H02, F41: who owns the replicas.
#[test]
fn replicas_belong_to_the_policy_that_governs_them() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    let scale = |to, observed| Command::Scale { to, observed };
    assert_eq!(web.no(Source::Scaling, scale(5, 3)), Refusal::NotGoverned);
    let range = ReplicaRange { min: 2, max: 6 };
    web.yes(Source::Scaling, Command::Govern { range: Some(range) });
    assert_eq!(web.no(Source::Operator, scale(5, 3)), Refusal::Owned(range));
    assert_eq!(web.no(Source::Scaling, scale(7, 3)), Refusal::OutOfRange { asked: 7, range });
    web.yes(Source::Scaling, scale(5, 3));
    web.end(Outcome::Succeeded);
    assert_eq!(web.ask(Source::Scaling, scale(5, 5)), Decision::AlreadyDone { sequence: None }, "W029");
    web.yes(Source::Scaling, scale(5, 4));
    web.end(Outcome::Succeeded);
    let replicas = Command::RemediateDrift { to: revision(1), kinds: vec![DriftKind::Replicas], approved_by: None };
    assert_eq!(web.no(Source::Drift, replicas), Refusal::Owned(range));
    // A deployment brings its image, not its replicas.
    web.deployed(2);
    assert_eq!(web.state.replicas, 5);
    // The same revision with other replicas is nothing to do.
    let same = Revision { replicas: 2, ..revision(2) };
    assert_eq!(
        web.ask(Source::Sync, Command::Deploy { to: same, anew: false }),
        Decision::AlreadyDone { sequence: None }
    );
}

/// R073–R075: nothing is corrected in production, and nothing unclear anywhere, without a yes.
#[test]
fn production_is_not_corrected_without_a_yes() {
    let mut web = Story::new(Stage::Prod);
    web.deployed(1);
    assert_eq!(web.no(Source::Drift, drift(1)), Refusal::NotApproved);
    let approved = Some(Principal::new("bert").unwrap());
    web.yes(
        Source::Drift,
        Command::RemediateDrift { to: revision(1), kinds: vec![DriftKind::Image], approved_by: approved },
    );
    let mut dev = Story::new(Stage::Dev);
    for kind in [DriftKind::Unmanaged, DriftKind::Missing, DriftKind::Held] {
        let unclear = Command::RemediateDrift { to: revision(1), kinds: vec![kind], approved_by: None };
        assert_eq!(dev.no(Source::Drift, unclear), Refusal::NotApproved);
    }
}

/// W042, W049, H05: what is so already is not done again; what is older is refused.
#[test]
fn configuration_and_secrets_go_forward_only() {
    let mut web = Story::new(Stage::Dev);
    let secret = SecretBindingId::new("db").unwrap();
    let mut first = revision(1);
    first.configuration = Some(configuration(3));
    first.secrets.insert(secret.clone(), 1);
    web.yes(Source::Operator, Command::Deploy { to: first, anew: false });
    web.end(Outcome::Succeeded);
    let apply = |version| Command::ApplyConfiguration { to: configuration(version) };
    assert_eq!(web.ask(Source::Configuration, apply(3)), Decision::AlreadyDone { sequence: None });
    assert_eq!(web.no(Source::Configuration, apply(2)), Refusal::Older { running: 3, asked: 2 });
    web.yes(Source::Configuration, apply(4));
    web.end(bad());
    assert!(matches!(web.no(Source::Configuration, apply(4)), Refusal::Held(_)), "a configuration is held as well");
    let refresh = |version| Command::RefreshSecret { secret_binding_id: secret.clone(), version };
    web.yes(Source::Secrets, refresh(2));
    web.end(Outcome::Succeeded);
    assert_eq!(web.ask(Source::Secrets, refresh(2)), Decision::AlreadyDone { sequence: None });
    // A way back uses the secrets of today: those of then may be retired.
    let mut second = web.state.current.clone().unwrap();
    (second.deployment_id, second.image) = (revision(2).deployment_id, image(2));
    web.yes(Source::Operator, Command::Deploy { to: second, anew: false });
    web.end(Outcome::Succeeded);
    assert_eq!(web.state.way_back().unwrap().secrets[&secret], 2);
}

/// A configuration that alone was bad does not hold the image that runs well.
#[test]
fn what_is_held_is_what_changed() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    let bad = Revision { configuration: Some(configuration(1)), ..revision(1) };
    web.yes(Source::Operator, Command::Deploy { to: bad.clone(), anew: false });
    web.end(super::stories::bad());
    let held: Vec<_> = web.state.held.iter().map(|hold| hold.what.clone()).collect();
    assert_eq!(held, [bad.release()]);
    assert!(matches!(web.no(Source::Operator, Command::Deploy { to: bad.clone(), anew: false }), Refusal::Held(_)));
    // The mended configuration goes in with the same image, and the same configuration with another image.
    let mended = Revision { configuration: Some(configuration(2)), ..bad.clone() };
    web.yes(Source::Operator, Command::Deploy { to: mended, anew: false });
    web.end(Outcome::Succeeded);
    let other = Revision { configuration: bad.configuration, ..revision(2) };
    web.yes(Source::Operator, Command::Deploy { to: other, anew: false });
    web.end(Outcome::Succeeded);
}

#[test]
fn a_pause_stops_what_happens_by_itself_and_a_drain_everything() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    web.yes(Source::Operator, Command::Pause { why: "a look at the heap".into() });
    assert!(matches!(web.no(Source::Drift, drift(2)), Refusal::Paused { .. }));
    web.deployed(2);
    web.yes(Source::Operator, Command::Drain { why: "moved".into() });
    web.end(Outcome::Succeeded);
    assert!(matches!(
        web.no(Source::Operator, Command::Deploy { to: revision(3), anew: false }),
        Refusal::Drained { .. }
    ));
    // Resumed, it has again what it had: that is an action of its own, and no note.
    let acts = web.yes(Source::Operator, Command::Resume);
    assert!(matches!(&acts[..], [Act::Start { action: Action::Scaling { from: 0, to: 3 }, .. }]), "{acts:?}");
    web.end(Outcome::Succeeded);
    assert_eq!((web.state.replicas, &web.state.standing), (3, &Standing::Open));
    web.deployed(3);
    web.yes(Source::Operator, Command::Drain { why: "moved".into() });
    let early = web.ask(Source::Operator, Command::Resume);
    assert!(matches!(early, Decision::Busy { doing: Doing::Draining, .. }), "{early:?}");
}

/// H15: a repetition is never taken for something new, however late.
#[test]
fn what_is_forgotten_is_refused() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    web.now += 1;
    let early = web.request("early", Source::Operator, Command::Deploy { to: revision(2), anew: false });
    web.give(&early);
    web.end(Outcome::Succeeded);
    assert!(matches!(web.give(&early), Decision::AlreadyDone { sequence: Some(_) }));
    for n in 0..ANSWERED_MAX {
        let command = if n % 2 == 0 { Command::Pause { why: String::new() } } else { Command::Resume };
        web.yes(Source::Operator, command);
    }
    web.deployed(3);
    assert!(matches!(web.give(&early), Decision::Refused(Refusal::TooOld { .. })));
    web.now -= 600;
    let ahead = web.request("ahead", Source::Operator, Command::Resume);
    web.now -= 600;
    let now = at(-web.now);
    assert_eq!(
        decide(&web.state, &Request { asked_at: at(10_000), ..ahead }, now),
        Decision::Refused(Refusal::TooYoung)
    );
}

/// H06: nothing is given up by itself, but somebody is told, and a person may give it up.
#[test]
fn what_never_ends_is_seen_and_given_up() {
    let mut web = Story::new(Stage::Dev);
    web.deployed(1);
    web.yes(Source::Configuration, Command::ApplyConfiguration { to: configuration(1) });
    assert!(web.state.overdue(at(web.now + 1800)).is_none());
    assert!(web.state.overdue(at(web.now + 1801)).is_some());
    let sequence = web.state.sequence;
    let acts = web.yes(Source::Operator, Command::Abandon { sequence, why: "its machine burnt".into() });
    assert!(matches!(&acts[..], [Act::Abort { .. }, Act::RaiseIncident { .. }]));
    let late = Command::Finished { sequence, outcome: Outcome::Succeeded };
    assert!(matches!(web.ask(Source::Runner, late), Decision::AlreadyDone { .. }), "a late end ends nothing else");
}

#[test]
fn the_state_is_read_back() {
    let mut web = Story::new(Stage::Prod);
    web.deployed(1);
    web.yes(Source::Operator, Command::Deploy { to: revision(2), anew: false });
    let text = serde_json::to_string(&web.state).unwrap();
    assert!(text.contains("\"underWay\"") && text.contains("\"deploymentId\""), "{text}");
    assert_eq!(serde_json::from_str::<ServiceState>(&text).unwrap(), web.state);
    let packed = protocol::codec::store(&web.state);
    assert_eq!(protocol::codec::load::<ServiceState>(&packed).unwrap(), web.state);
}

/// What has taken over and is not as asked is no success: it is what runs, and somebody must look.
#[test]
fn a_configuration_that_took_over_and_is_not_as_asked_is_an_incident_of_what_runs() {
    let differs = || Outcome::Differs { why: "1 of 3 replicas exist".into() };
    let secret = SecretBindingId::new("db").unwrap();
    let mut web = Story::new(Stage::Dev);
    let to = Revision { secrets: [(secret.clone(), 1)].into(), ..revision(1) };
    web.yes(Source::Operator, Command::Deploy { to, anew: false });
    web.end(Outcome::Succeeded);
    web.yes(Source::Configuration, Command::ApplyConfiguration { to: configuration(1) });
    assert!(matches!(&web.end(differs())[..], [Act::RaiseIncident { .. }]));
    assert_eq!(web.state.current.as_ref().unwrap().configuration, Some(configuration(1)));
    assert_eq!(web.state.completed.len(), 1, "it is no way back");
    web.yes(Source::Operator, Command::Resume);
    web.yes(Source::Secrets, Command::RefreshSecret { secret_binding_id: secret.clone(), version: 2 });
    assert!(matches!(&web.end(differs())[..], [Act::RaiseIncident { .. }]));
    assert_eq!(web.state.current.as_ref().unwrap().secrets[&secret], 2);
}
