//! Sets: what is applied runs, once, and nothing else does.

use std::collections::BTreeSet;

use actors::runtime::compute::observed::{ExitHow, ReplicaState};
use actors::runtime::compute::{Reading, Route};

use super::*;

/// What was applied runs, and applying it again changes nothing.
pub async fn applying_twice_is_once(place: &mut impl Place) {
    let set = set(place, "web", "r1", 2);
    let first = run(place, &set).await;
    place.compute().apply(&set).await.unwrap();
    assert_eq!(settled(place, &set).await, first);
    let seen = observe(place).await;
    let web = seen.set("web", "r1").unwrap();
    assert_eq!((web.wanted, web.ready, web.weight, web.removing), (2, 2, 0, false));
    assert_eq!((web.digest.as_str(), web.config_version.as_str()), (set.digest.as_str(), "config-of-r1"));
    assert!(seen.unmanaged.is_empty());
    let ids: BTreeSet<_> = first.iter().map(|replica| &replica.id).collect();
    assert_eq!(ids.len(), 2);
    for replica in &first {
        assert_eq!((replica.incarnation, replica.restarts, replica.last_exit.clone()), (1, 0, None));
        assert!(replica.started_at.is_some() && replica.address.is_some());
    }
}

/// A set grows and shrinks; those that stay are not touched.
pub async fn a_set_grows_and_shrinks(place: &mut impl Place) {
    let mut set = set(place, "web", "r1", 1);
    let one = starts(&run(place, &set).await);
    set.replicas = 3;
    let three = starts(&run(place, &set).await);
    assert!(three.contains(&one[0]), "{three:?} {one:?}");
    set.replicas = 1;
    assert_eq!(starts(&run(place, &set).await), one, "the oldest stays");
    set.replicas = 0;
    assert!(run(place, &set).await.is_empty());
}

/// What a revision is does not change.
pub async fn a_revision_stays_what_it_is(place: &mut impl Place) {
    let set = set(place, "web", "r1", 1);
    let before = run(place, &set).await;
    let failure = place.compute().apply(&with(set.clone(), "COLOUR", "red")).await.unwrap_err();
    assert_eq!((failure.error.as_str(), failure.permanent), ("RevisionChanged", true));
    assert_eq!(settled(place, &set).await, before);
    let many = Set { replicas: 1_000_000, ..set.clone() };
    assert_eq!(place.compute().apply(&many).await.unwrap_err().error, "BadSet");
    let out = Set { command: "../../bin/sh".into(), id: SetId::new(ENVIRONMENT, "web", "r2"), ..set.clone() };
    assert_eq!(place.compute().apply(&out).await.unwrap_err().error, "BadSet");
    let named = Set { id: SetId::new("../etc", "web", "r2"), ..set };
    assert_eq!(place.compute().apply(&named).await.unwrap_err().error, "BadSet");
}

/// A process that was killed is started again, and it is seen how it ended.
pub async fn a_killed_process_is_replaced(place: &mut impl Place) {
    let set = set(place, "web", "r1", 2);
    let before = run(place, &set).await;
    let victim = &before[0];
    place.kill(victim).await;
    let seen = set_when(place, &set.id, "the killed one is back", |seen| {
        let again = seen.replicas.iter().find(|replica| replica.id == victim.id);
        seen.ready == 2 && again.is_some_and(|again| again.incarnation == 2)
    })
    .await;
    let again = seen.replicas.iter().find(|replica| replica.id == victim.id).unwrap();
    assert!(again.pid.is_none() || again.pid != victim.pid);
    assert_eq!((again.restarts, again.failures_in_row), (1, 1));
    assert_eq!(again.last_exit.as_ref().unwrap().how, ExitHow::Signal(9));
    assert!(seen.replicas.contains(&before[1]), "the other one was not touched");
}

/// A program that ends again and again is started more and more slowly, and that is seen.
pub async fn a_crash_loop_is_seen(place: &mut impl Place) {
    let fails = with(set(place, "web", "r1", 1), "FAILS", "3");
    place.compute().apply(&fails).await.unwrap();
    let seen = set_when(place, &fails.id, "it is a crash loop", |seen| {
        seen.replicas.iter().any(|replica| replica.state == ReplicaState::CrashLoop)
    })
    .await;
    let replica = &seen.replicas[0];
    assert!(replica.restarts >= 3 && replica.failures_in_row >= 3, "{replica:?}");
    assert_eq!(replica.last_exit.as_ref().unwrap().how, ExitHow::Status(3));
    assert_eq!((seen.ready, replica.pid, replica.address), (0, None, None));
    if place.has_logs() {
        let log = place.compute().logs(ENVIRONMENT, &replica.id, &Reading::last(100)).await.unwrap().lines;
        assert!(log.iter().any(|line| line == "to standard error"), "{log:?}");
    }

    let missing = Set { command: "bin/none".into(), id: SetId::new(ENVIRONMENT, "web", "r2"), ..fails.clone() };
    place.compute().apply(&missing).await.unwrap();
    let seen = set_when(place, &missing.id, "it cannot be started", |seen| {
        seen.replicas.iter().any(|replica| replica.last_exit.is_some())
    })
    .await;
    assert_eq!(seen.replicas[0].last_exit.as_ref().unwrap().how, ExitHow::NotStarted);
    if place.has_logs() {
        let log = place.compute().logs(ENVIRONMENT, &seen.replicas[0].id, &Reading::last(100)).await.unwrap().lines;
        assert!(log[0].contains("cannot be started"), "{log:?}");
    }
    // Also what waits to be started again can be removed at once.
    place.compute().remove(&missing.id).await.unwrap();
    place.compute().remove(&fails.id).await.unwrap();
    assert!(observe(place).await.sets.is_empty());
}

/// One replica is replaced when asked to, and once only.
pub async fn one_replica_is_restarted(place: &mut impl Place) {
    let set = set(place, "web", "r1", 2);
    let before = run(place, &set).await;
    let (id, incarnation) = (before[0].id.clone(), before[0].incarnation);
    place.compute().restart(ENVIRONMENT, &id, incarnation).await.unwrap();
    let old = (id.clone(), incarnation);
    let new =
        |seen: &ObservedSet| seen.ready == 2 && seen.replicas.len() == 2 && !starts(&seen.replicas).contains(&old);
    let after = set_when(place, &set.id, "it was replaced", new).await;
    place.compute().restart(ENVIRONMENT, &id, incarnation).await.unwrap();
    assert_eq!(observe(place).await.set("web", "r1"), Some(&after));
    let again = after.replicas.iter().find(|replica| !before.contains(replica)).unwrap();
    assert_eq!((again.restarts, again.failures_in_row), (0, 0), "it did not end by itself");
    assert!(after.replicas.contains(&before[1]));
    let failure = place.compute().restart(ENVIRONMENT, "web-r1-none", 1).await.unwrap_err();
    assert_eq!(failure.error, "UnknownReplica");
}

/// Whoever keeps the place may end and come back: the processes do not notice.
pub async fn processes_outlive_their_keeper(place: &mut impl Place) {
    let set = set(place, "web", "r1", 2);
    let before = run(place, &set).await;
    place.compute().route(ENVIRONMENT, "web", &[Route::new("r1", 100)]).await.unwrap();
    let at = gateway(place).await;
    assert_eq!(get(at, "/web/").await.0, StatusCode::OK);
    place.reborn().await;
    assert_eq!(gateway(place).await, at, "the way in stays");
    assert_eq!(starts(&settled(place, &set).await), starts(&before));
    until("traffic goes on", async || get(at, "/web/").await.0.is_success().then_some(())).await;
    // One that ends now is no child of the new keeper, and is replaced all the same.
    place.kill(&before[0]).await;
    let replaced = |seen: &ObservedSet| seen.ready == 2 && seen.replicas.iter().any(|one| one.incarnation == 2);
    set_when(place, &set.id, "it was replaced", replaced).await;
}

/// A removal that was begun goes on, whoever keeps the place.
pub async fn a_removal_outlives_its_keeper(place: &mut impl Place) {
    let set = with(set(place, "web", "r1", 1), "STUBBORN", "yes");
    run(place, &set).await;
    let begun = tokio::time::timeout(Duration::from_secs(1), place.compute().remove(&set.id)).await;
    assert!(begun.is_err(), "it ignores that it should stop");
    set_when(place, &set.id, "it is on its way out", |seen| seen.removing).await;
    assert_eq!(place.compute().apply(&set).await.unwrap_err().error, "Transient");
    place.reborn().await;
    until("it was removed", async || observe(place).await.sets.is_empty().then_some(())).await;
    place.compute().remove(&set.id).await.unwrap();
}
