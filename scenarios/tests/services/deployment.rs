//! Deployments with real processes and real traffic: a first revision, a canary that passes, one
//! that does not and stays away, and a node that dies on the way (R036-R059, F33, F36, F38, F56).

use std::collections::BTreeMap;

use actors::runtime::decommission::DEFINITION as DECOMMISSION;
use actors::runtime::deployment::DEFINITION as DEPLOYMENT;
use actors::runtime::removal::DEFINITION as REMOVAL;
use node::client::Since;
use protocol::command::{Cancel, Start};
use protocol::runtime::{
    CreateEnvironment, ListServices, OfService, ProvisionEnvironment, ReadLogs, ServiceRow, Standing, SteerService,
};
use protocol::view::{SagaView, Status};
use protocol::{Envelope, SagaKey, Value};
use scenarios::cluster::until;
use scenarios::platform::{DEV, PATIENCE, Platform, canary, none_failed, only_its_share_failed, slow_canary};
use scenarios::service::{Traffic, has_python};
use serde_json::json;

async fn deploy(platform: &Platform, version: &str, artifact: &str, change: impl FnOnce(&mut Value)) -> SagaView {
    let key = platform.begin(&format!("deploy-{version}"), input(version, artifact, change)).await.unwrap();
    platform.end(&key).await.unwrap()
}

/// The types of the events of one saga, in order, up to the first of type `last`.
async fn events(platform: &Platform, key: &str, last: &str) -> Vec<Envelope> {
    let mut tail = platform.client.events(Since::Beginning, None).await.unwrap();
    let mut events: Vec<Envelope> = Vec::new();
    while events.last().is_none_or(|event| event.event_type != last) {
        let next = tokio::time::timeout(PATIENCE, tail.next()).await.expect("the event comes").unwrap().unwrap();
        if next.correlation_id == format!("acme/{key}") && !events.iter().any(|one| one.event_id == next.event_id) {
            events.push(next);
        }
    }
    events
}

fn input(version: &str, artifact: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut input = json!({
        "environment": DEV, "service": "web", "artifact": artifact, "version": version, "replicas": 2,
        "probe": { "path": "/health", "timeoutMs": 8_000 }, "projectId": "shop",
    });
    change(&mut input);
    input
}

fn as_canary(input: &mut Value) {
    input["strategy"] = canary();
}

fn ended(view: &SagaView) -> (Status, &str) {
    (view.status, view.state.as_str())
}

fn types(events: &[Envelope]) -> Vec<&str> {
    events.iter().map(|event| event.event_type.as_str()).filter(|name| !name.starts_with("RuntimeAction")).collect()
}

/// One story after the other on one world, as a service lives.
#[tokio::test(flavor = "multi_thread")]
async fn revisions_come_and_go_under_traffic() {
    if !has_python() {
        println!("skipped: this machine has no python3");
        return;
    }
    let mut platform = Platform::start(1).await.unwrap();
    let url = a_first_revision_is_reachable_once_it_is_well(&platform).await;
    a_canary_takes_over_without_a_failed_request(&platform, &url).await;
    a_broken_canary_is_taken_back_and_stays_away(&platform, &url).await;
    a_stranger_is_refused_on_record(&platform).await;
    nobody_takes_more_than_was_provisioned(&platform).await;
    a_node_that_dies_on_the_way_changes_nothing(&mut platform, &url).await;
    the_last_good_revision_comes_back(&platform, &url).await;
    what_is_completed_is_seen(&platform).await;
    what_is_cancelled_is_no_fault(&platform).await;
    what_is_removed_leaves_nothing(&platform).await;
    an_environment_goes_once_it_is_empty(&platform).await;
    what_failed_is_held_by_what_it_is(&platform).await;
}

async fn row(platform: &Platform, service: &str) -> ServiceRow {
    let services = platform.client.services(&ListServices::default()).await.unwrap();
    services.services.into_iter().find(|row| row.service == service).unwrap()
}

/// Fewer replicas, none at all, and what was drained: completed is what is seen.
async fn what_is_completed_is_seen(platform: &Platform) {
    let artifact = platform.release("v1", false);
    let of = async |name: &str, service: &str, replicas: u32| {
        let input = input("v1", &artifact, |input| {
            (input["service"], input["replicas"]) = (json!(service), json!(replicas));
        });
        let key = platform.begin(&format!("deploy-{name}"), input).await.unwrap();
        let view = platform.end(&key).await.unwrap();
        assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
        let row = row(platform, service).await;
        let seen: u32 = row.sets.iter().map(|set| set.ready).sum();
        assert_eq!((seen, row.replicas, row.differs.as_deref()), (replicas, replicas, None), "{row:#?}");
    };
    of("two", "asked", 2).await;
    of("one", "asked", 1).await;
    of("none", "nothing", 0).await;
    let steer = SteerService { environment: DEV.into(), service: "asked".into(), why: None };
    platform.client.drain_service(&steer).await.unwrap();
    until(PATIENCE, "it is drained", || async {
        let row = row(platform, "asked").await;
        row.under_way.is_none() && row.standing == Standing::Drained && row.differs.is_none()
    })
    .await;
    let of_it = OfService { environment: DEV.into(), service: "asked".into() };
    platform.client.resume_service(&of_it).await.unwrap();
    until(PATIENCE, "it is back", || async { row(platform, "asked").await.under_way.is_none() }).await;
    let back = row(platform, "asked").await;
    assert_eq!((back.sets[0].ready, back.sets[0].weight, back.differs.as_deref()), (1, 100, None), "{back:#?}");
    let url = back.endpoint_url.unwrap();
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v1");
    // What is restarted is the same with other processes.
    let before = platform.processes(DEV, "asked");
    let accepted = platform.client.restart_service(&of_it).await.unwrap();
    assert_eq!(accepted.doing.as_deref(), Some("restarting"));
    until(PATIENCE, "it is restarted", || async { row(platform, "asked").await.under_way.is_none() }).await;
    let (anew, after) = (row(platform, "asked").await, platform.processes(DEV, "asked"));
    assert_eq!((anew.differs, anew.gave_up, anew.version), (None, None, Some("v1".into())));
    assert!(after.len() == 1 && after.iter().all(|process| !before.contains(process)), "{before:?} {after:?}");
    // What it wrote is read, and followed.
    let read = ReadLogs {
        environment: DEV.into(),
        service: "asked".into(),
        replica: None,
        lines: None,
        after: BTreeMap::new(),
    };
    let logs = platform.client.logs(&read).await.unwrap();
    assert_eq!(logs.replicas.len(), 1, "{logs:?}");
    // Others need its room.
    assert_eq!(removed(platform, "remove-asked", "asked").await.status, Status::Succeeded);
}

/// Whoever changes his mind has found no fault: nothing is held, and nobody is called.
async fn what_is_cancelled_is_no_fault(platform: &Platform) {
    let of = |version: &str, strategy: Value| {
        input(version, &platform.release(version, false), |input| {
            (input["service"], input["replicas"], input["strategy"]) = (json!("given"), json!(1), strategy);
        })
    };
    platform.deployed("given-v1", of("v1", json!({ "name": "BlueGreen", "scaleDownDelayMs": 100 }))).await.unwrap();
    let waits = json!({ "name": "Canary", "steps": [{ "type": "weight", "percent": 20 }, { "type": "pause" }] });
    let key = platform.begin("given-v2", of("v2", waits)).await.unwrap();
    let waits_for = async |what: &str| {
        until(PATIENCE, what, || async {
            let waits = row(platform, "given").await.under_way.and_then(|under_way| under_way.waits_for);
            waits.is_some_and(|waits| waits.contains(what))
        })
        .await;
    };
    waits_for("a pause").await;
    // D111: a person holds it up where it is, and lets it go on.
    let steer = SteerService { environment: DEV.into(), service: "given".into(), why: None };
    platform.client.pause_service(&steer).await.unwrap();
    waits_for("it is paused").await;
    let of_it = OfService { environment: DEV.into(), service: "given".into() };
    platform.client.resume_service(&of_it).await.unwrap();
    waits_for("a pause").await;
    platform.client.cancel(&Cancel { key: key.clone(), reason: "not today".into() }).await.unwrap();
    assert_eq!(platform.end(&key).await.unwrap().status, Status::Cancelled);
    let row = row(platform, "given").await;
    assert_eq!((row.standing, row.version.as_deref(), row.differs.as_deref()), (Standing::Open, Some("v1"), None));
    assert!(row.held.is_empty() && row.under_way.is_none(), "{row:#?}");
    // Nothing else is known to be good: what runs goes on.
    let input = json!({ "environment": DEV, "service": "given", "kind": "restore" });
    let back = carried_out(platform, "given-back", DEPLOYMENT, input).await;
    let error = back.outcome.as_ref().and_then(|outcome| outcome.error.as_deref());
    assert_eq!((back.status, error), (Status::Failed, Some("NoWayBack")), "{back:#?}");
    let same = self::row(platform, "given").await;
    assert_eq!((same.standing, same.version, same.differs), (Standing::Open, Some("v1".into()), None));
    assert_eq!(removed(platform, "remove-given", "given").await.status, Status::Succeeded);
}

/// What failed with a configuration fails with it under another number too; with another one it may come.
async fn what_failed_is_held_by_what_it_is(platform: &Platform) {
    let broken = platform.release("v9", true);
    let of = |colour: &str| {
        input("v9", &broken, |input| {
            (input["service"], input["replicas"]) = (json!("held"), json!(1));
            input["configuration"] = json!({ "COLOUR": colour });
            input["probe"] = json!({ "path": "/missing", "timeoutMs": 2_000 });
            input["progressDeadlineMs"] = json!(2_000);
        })
    };
    let mut errors = Vec::new();
    for (number, colour) in ["red", "blue", "red"].into_iter().enumerate() {
        let key = platform.begin(&format!("held-{number}"), of(colour)).await.unwrap();
        let view = platform.end(&key).await.unwrap();
        errors.push(view.outcome.and_then(|outcome| outcome.error).unwrap_or_default());
    }
    assert_eq!(errors[2], "Held", "{errors:?}");
    assert!(errors[..2].iter().all(|error| error != "Held"), "{errors:?}");
    let row = row(platform, "held").await;
    assert_eq!(row.held.len(), 2, "{row:#?}");
    assert_eq!(removed(platform, "remove-held", "held").await.status, Status::Succeeded);
}

async fn removed(platform: &Platform, key: &str, service: &str) -> SagaView {
    carried_out(platform, key, REMOVAL, json!({ "environment": DEV, "service": service })).await
}

async fn carried_out(platform: &Platform, key: &str, definition: &str, input: Value) -> SagaView {
    let key = SagaKey::new(key).unwrap();
    let start = Start { definition: definition.into(), version: None, key: Some(key.clone()), input, wait_ms: None };
    platform.client.start(&start).await.unwrap();
    platform.end(&key).await.unwrap()
}

/// An environment that has services stays as it is; one that has none goes with its name, which is anybody's then.
async fn an_environment_goes_once_it_is_empty(platform: &Platform) {
    let remove = async |key: &str, environment: &str| {
        carried_out(platform, key, DECOMMISSION, json!({ "environment": environment })).await
    };
    let error = |view: &SagaView| view.outcome.as_ref().and_then(|outcome| outcome.error.clone());
    let refused = remove("remove-dev", DEV).await;
    assert_eq!(
        (refused.status, error(&refused).as_deref()),
        (Status::Failed, Some("EnvironmentInUse")),
        "{refused:#?}"
    );
    let environments = async || platform.client.services(&ListServices::default()).await.unwrap().environments;
    let stands = environments().await.into_iter().find(|row| row.environment == DEV).unwrap();
    assert_eq!(stands.status, "provisioned", "it is as it was");
    let create = CreateEnvironment { environment: "brief".into(), stage: None, region: None };
    platform.client.create_environment(&create).await.unwrap();
    let gone = remove("remove-brief-environment", "brief").await;
    assert_eq!(ended(&gone), (Status::Succeeded, "Removed"), "{gone:#?}");
    assert!(environments().await.iter().all(|row| row.environment != "brief"));
    let told = events(platform, "remove-brief-environment", "RuntimeEnvironmentRemoved").await;
    assert_eq!(types(&told), ["RuntimeEnvironmentRemoved"]);
    let again = remove("remove-brief-environment-again", "brief").await;
    assert_eq!((again.status, error(&again).as_deref()), (Status::Failed, Some("TenantRefused")), "{again:#?}");
    platform.client.create_environment(&create).await.unwrap();
}

/// A service goes with its processes and its name, which is anybody's then; another of that name begins anew.
async fn what_is_removed_leaves_nothing(platform: &Platform) {
    let mut of = input("v1", &platform.release("v1", false), |input| input["service"] = json!("brief"));
    of["configuration"] = json!({ "COLOUR": "red" });
    let url = platform.deployed("brief-v1", of.clone()).await.unwrap();
    assert_eq!(platform.processes(DEV, "brief").len(), 2);
    assert!(platform.state(DEV, "brief").exists(), "it may keep something");
    let view = removed(platform, "remove-brief", "brief").await;
    assert_eq!(ended(&view), (Status::Succeeded, "Removed"), "{view:#?}");
    assert!(platform.processes(DEV, "brief").is_empty() && !platform.state(DEV, "brief").exists());
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().status(), 404);
    assert!(platform.service(DEV, "brief").await.is_none());
    let told = events(platform, "remove-brief", "RuntimeServiceRemoved").await;
    assert_eq!(types(&told), ["RuntimeServiceRemoved"]);
    // What is not there cannot be removed, and says so.
    let again = removed(platform, "remove-brief-again", "brief").await;
    let error = again.outcome.as_ref().and_then(|outcome| outcome.error.as_deref());
    assert_eq!((again.status, error), (Status::Failed, Some("UnknownService")), "{again:#?}");
    of["configuration"] = Value::Null;
    platform.deployed("brief-v1-anew", of).await.unwrap();
    let back = row(platform, "brief").await;
    assert!(back.held.is_empty() && back.differs.is_none(), "{back:#?}");
    assert_eq!(platform.processes(DEV, "brief").len(), 2);
    assert_eq!(removed(platform, "remove-brief-at-last", "brief").await.status, Status::Succeeded);
}

async fn a_first_revision_is_reachable_once_it_is_well(platform: &Platform) -> String {
    let view = deploy(platform, "v1", &platform.release("v1", false), |_| {}).await;
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    let output = view.outcome.unwrap().output.unwrap();
    let url = output["endpointUrl"].as_str().unwrap().to_owned();
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v1");
    let events = events(platform, "deploy-v1", "RuntimeDeploymentCompleted").await;
    let expected = [
        "RuntimeDeploymentRequested",
        "RuntimeEnvironmentProvisioned",
        "RuntimeConfigurationBound",
        "RuntimeWorkloadsStarted",
        "HealthCheckCompleted",
        "RuntimeTrafficShifted",
        "RuntimeInventoryUpdated",
        "RuntimeDeploymentCompleted",
    ];
    assert_eq!(types(&events), expected);
    let told = events.iter().filter(|event| !event.event_type.starts_with("RuntimeAction"));
    assert!(told.clone().all(|event| event.project_id.as_deref() == Some("shop") && event.trace_id == view.trace_id));
    let services = platform.client.services(&ListServices::default()).await.unwrap();
    let web = &services.services[0];
    assert_eq!((web.version.as_deref(), web.sets[0].ready, web.sets[0].weight), (Some("v1"), 2, 100), "{services:#?}");
    assert_eq!(web.endpoint_url.as_deref(), Some(url.as_str()));
    url
}

async fn a_canary_takes_over_without_a_failed_request(platform: &Platform, url: &str) {
    let traffic = Traffic::begin(url);
    let view = deploy(platform, "v2", &platform.release("v2", false), as_canary).await;
    let seen = traffic.end().await;
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    none_failed(&seen, "while v2 came");
    let of = |version: &str| seen.iter().filter(|one| one.as_deref() == Ok(version)).count();
    assert!(of("v1") > 0 && of("v2") > 0, "both were asked");
    assert_eq!(seen.last().unwrap().as_deref(), Ok("v2"));
}

async fn a_broken_canary_is_taken_back_and_stays_away(platform: &Platform, url: &str) {
    let broken = platform.release("v3", true);
    let traffic = Traffic::begin(url);
    let view = deploy(platform, "v3", &broken, as_canary).await;
    let seen = traffic.end().await;
    assert_eq!(ended(&view), (Status::Failed, "RolledBack"), "{view:#?}");
    only_its_share_failed(&seen);
    assert_eq!(seen.last().unwrap().as_deref(), Ok("v2"), "all traffic went back");
    let events = events(platform, "deploy-v3", "RuntimeDeploymentRolledBack").await;
    let told = types(&events);
    assert!(told.contains(&"RuntimeReleaseHeld") && told.contains(&"HealthCheckCompleted"), "{told:?}");
    let gate = events.iter().find(|event| event.event_type == "HealthCheckCompleted").unwrap();
    assert_eq!(gate.payload["status"], "Unhealthy", "{gate:?}");
    // F36: whoever reads desired state does not bring it again.
    let view = deploy(platform, "v3-again", &broken, |input| input["source"] = json!("sync")).await;
    assert_eq!(ended(&view), (Status::Failed, "Failed"), "{view:#?}");
    let outcome = view.outcome.unwrap();
    assert_eq!(outcome.error.as_deref(), Some("Held"), "{outcome:?}");
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v2");
}

async fn a_stranger_is_refused_on_record(platform: &Platform) {
    let stranger = platform.cluster.client_as("other", "eve").await.unwrap();
    let key = SagaKey::new("intrusion").unwrap();
    let input = input("v9", &platform.release("v9", false), |_| {});
    let definition = "runtime_deployment".into();
    let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
    stranger.start(&start).await.unwrap();
    let view = stranger.wait(&key, PATIENCE).await.unwrap();
    assert_eq!(ended(&view), (Status::Failed, "Failed"), "{view:#?}");
    assert_eq!(view.outcome.unwrap().error.as_deref(), Some("TenantRefused"));
    let mut tail = stranger.events(Since::Beginning, Some("RuntimeAccessRefused")).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, tail.next()).await.expect("it is audited").unwrap().unwrap();
    assert_eq!((told.tenant_id.as_str(), &told.payload["environmentId"]), ("other", &json!("dev")));
    assert!(stranger.services(&ListServices::default()).await.unwrap().services.is_empty());
}

/// B.3: an environment has room for so many replicas, once somebody said how many.
async fn nobody_takes_more_than_was_provisioned(platform: &Platform) {
    let mut four = ProvisionEnvironment { environment: DEV.into(), replicas: Some(4), ..Default::default() };
    four.preview = Some(platform.client.provision_environment(&four).await.unwrap().preview);
    assert!(platform.client.provision_environment(&four).await.unwrap().applied);
    let many = |input: &mut Value| input["replicas"] = json!(5);
    let view = deploy(platform, "v8", &platform.release("v8", false), many).await;
    assert_eq!(ended(&view), (Status::Failed, "Failed"), "{view:#?}");
    let outcome = view.outcome.unwrap();
    assert_eq!(outcome.error.as_deref(), Some("QuotaExceeded"), "{outcome:?}");
}

async fn a_node_that_dies_on_the_way_changes_nothing(platform: &mut Platform, url: &str) {
    let good = platform.release("v4", false);
    let slowly = |input: &mut Value| input["strategy"] = slow_canary();
    let key = platform.begin("deploy-v4", input("v4", &good, slowly)).await.unwrap();
    let (client, gating) = (platform.client.clone(), key.clone());
    until(PATIENCE, "it is gated", || async { client.describe(&gating).await.unwrap().state == "HealthGating" }).await;
    platform.restart_keeper().await.unwrap();
    let view = platform.end(&key).await.unwrap();
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v4");
    let services = platform.client.services(&ListServices::default()).await.unwrap();
    let sets: Vec<u32> = services.services[0].sets.iter().map(|set| set.weight).collect();
    assert_eq!(sets, [100], "{services:#?}");
}

async fn the_last_good_revision_comes_back(platform: &Platform, url: &str) {
    let back = json!({ "environment": DEV, "service": "web", "kind": "restore", "why": "it is slow" });
    let key = platform.begin("rollback", back).await.unwrap();
    let view = platform.end(&key).await.unwrap();
    assert_eq!(ended(&view), (Status::Succeeded, "Completed"), "{view:#?}");
    assert_eq!(reqwest::get(format!("{url}/")).await.unwrap().text().await.unwrap(), "v2");
}
