//! Every command by everybody: the environment's owner, a guest with a binding and a stranger, about a
//! service of the owner and one of the guest. The table is made of the list of commands, so a new one
//! fails here until somebody says whose it is and what is asked with it.

use super::*;

const ASKERS: [&str; 3] = ["acme", "guest", "evil"];

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn place(service: &str) -> Place {
    Place { service: ServiceId::new(service).unwrap(), ..World::place("dev") }
}

/// What is asked with a command about `service`; a new command has nothing, and fails.
fn asked(command: &str, service: &str, decision: &str) -> Value {
    let of = json!({ "environment": "dev", "service": service });
    let with = |more: Value| {
        let mut of = of.clone();
        of.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of
    };
    let finding = if service == "web" { "aa" } else { "bb" };
    match command {
        name::ENVIRONMENT_CREATE | name::ENVIRONMENT_PROVISION | name::DRIFT_POLICY | name::DRIFT_SET_POLICY => {
            json!({ "environment": "dev" })
        }
        name::ENVIRONMENT_BIND => json!({ "environment": "dev", "tenant": "friend", "maxReplicas": 1 }),
        name::ENVIRONMENT_LIST | name::DECISION_LIST => json!({}),
        name::SERVICE_LIST | name::SCALING_LIST | name::INCIDENT_LIST | name::DRIFT_LIST => {
            json!({ "environment": "dev" })
        }
        name::DECISION_APPROVE => json!({ "decision": decision }),
        name::CONFIGURATION_PUBLISH => with(json!({ "entries": { "COLOUR": "red" } })),
        name::SECRET_PUT => json!({ "environment": "dev", "secret": "db", "value": "other" }),
        name::SECRET_BIND | name::SECRET_UNBIND => with(json!({ "secret": "db" })),
        name::SECRET_ROTATE | name::SECRET_REMOVE => json!({ "environment": "dev", "secret": "db" }),
        name::SECRET_LIST => json!({ "environment": "dev" }),
        name::SCALING_APPLY => {
            let targets = json!([{ "metric": "rps", "perReplica": 50.0 }]);
            with(json!({ "policy": { "minReplicas": 1, "maxReplicas": 2, "targets": targets } }))
        }
        name::SERVICE_SCALE => with(json!({ "replicas": 1 })),
        name::DRIFT_APPROVE | name::DRIFT_ACCEPT => json!({ "environment": "dev", "finding": finding }),
        name::CONFIGURATION_SHOW
        | name::CONFIGURATION_LIST
        | name::DRIFT_REMEDIATE
        | name::INCIDENT_SHOW
        | name::INCIDENT_CLOSE
        | name::SCALING_REMOVE
        | name::SCALING_DECISIONS
        | name::SERVICE_HEALTH
        | name::SERVICE_LOGS
        | name::SERVICE_DRAIN
        | name::SERVICE_PAUSE
        | name::SERVICE_RESTART
        | name::SERVICE_RESUME
        | name::SERVICE_UNHOLD => of,
        other => panic!("{other} is new: say here what is asked with it, and in `ownership::rule` what it touches"),
    }
}

/// Who may, of the owner, the guest and the stranger.
fn may(command: &str, rule: Rule, service: &str) -> [bool; 3] {
    let of_the_guest = service != "web";
    match rule {
        Rule::List => [true; 3],
        // A secret is bound to what its owner has, or may have.
        Rule::Environment if command == name::SECRET_BIND && of_the_guest => [false; 3],
        Rule::Name | Rule::Decision | Rule::Environment => [true, false, false],
        Rule::Use => [true, true, false],
        Rule::Look if of_the_guest => [true, true, false],
        Rule::Service | Rule::Take | Rule::Remove | Rule::Evict | Rule::Finding if of_the_guest => [false, true, false],
        Rule::Look | Rule::Service | Rule::Take | Rule::Remove | Rule::Evict | Rule::Finding => [true, false, false],
    }
}

/// Whether it is for whose something is that it was refused.
fn is_refused(problem: &Problem) -> bool {
    let words = [
        "belongs to another tenant",
        "is not bound to environment",
        "there is no environment dev of this tenant",
        "is taken; environments of all tenants",
        "there is no decision",
        // Of findings that are not the asker's there are none.
        "there is no finding",
        "nothing of dev/web differs",
        "nothing of dev/theirs differs",
    ];
    words.iter().any(|words| problem.message.contains(words))
}

/// `dev` with `web` of acme and `theirs` of a guest, each with all that a service can have; and the name of
/// a decision that waits for somebody else of acme.
async fn furnished() -> (World, String) {
    let world = World::new().await;
    let bind = json!({ "environment": "dev", "tenant": "guest", "maxReplicas": 5 });
    world.ask(name::ENVIRONMENT_BIND, bind).await.unwrap();
    let put = json!({ "environment": "dev", "secret": "db", "value": "hunter2" });
    world.ask(name::SECRET_PUT, put).await.unwrap();
    for (service, owner, digit) in [("web", "acme", "a"), ("theirs", "guest", "b")] {
        let publish = json!({ "environment": "dev", "service": service, "entries": { "COLOUR": "blue" } });
        world.ask_as(owner, name::CONFIGURATION_PUBLISH, publish).await.unwrap();
        let place = place(service);
        for (source, key, command) in [
            (Source::Operator, "d", Command::Deploy { to: revision(), anew: false }),
            (Source::Runner, "f", finished(Outcome::Succeeded)),
        ] {
            let trace = TraceId::new("a".repeat(32)).unwrap();
            let asker = Asker { tenant: tenant(owner), trace, saga: format!("{owner}/{key}") };
            let (key, by) = (RequestKey::new(key).unwrap(), Principal::new("ann").unwrap());
            let request = Request { key, source, by, asked_at: Noon.now(), command };
            world.desk.arbitration.ask(&place, &asker, Stage::Dev, &request).await.unwrap();
        }
        let finding = DriftFinding {
            hash: FindingHash::new(format!("sha256:{}", digit.repeat(64))).unwrap(),
            environment_id: place.environment.clone(),
            service_id: place.service.clone(),
            kind: DriftKind::Image,
            field: String::new(),
            desired: "a".into(),
            observed: "b".into(),
            state: FindingState::Open,
            opened: 1,
            opened_at: Noon.now(),
        };
        let name = place::finding(&place.environment, &finding.hash);
        store::write(&*world.store, &place.space(), &name, &finding, 0).await.unwrap();
    }
    let less = json!({ "environment": "prod", "stage": "dev" });
    let waits = world.ask_by("acme", "bob", name::ENVIRONMENT_CREATE, less).await.unwrap_err();
    let decision = waits.message.rsplit(' ').next().unwrap().to_owned();
    (world, decision)
}

#[tokio::test]
async fn every_command_asks_whose_it_is_before_it_reads_or_writes() {
    let mut seen = 0;
    for command in name::ALL {
        let Some(rule) = actors::runtime::records::ownership::rule(command) else { continue };
        for service in ["web", "theirs"] {
            let (world, decision) = furnished().await;
            // The stranger first, and whoever has most rights last.
            for (asker, may) in ASKERS.iter().zip(may(command, rule, service)).rev() {
                let before = world.store.writes();
                let body = asked(command, service, &decision);
                let answer = world.ask_as(asker, command, body).await;
                let case = format!("{command} of {service} by {asker}: {answer:?}");
                assert_eq!(answer.as_ref().err().is_none_or(|problem| !is_refused(problem)), may, "{case}");
                seen += 1;
                if may && rule != Rule::List {
                    continue;
                }
                assert_eq!(world.store.writes(), before, "wrote: {case}");
                let text = format!("{answer:?}");
                let all = ["hunter2", "blue", "sha256", "guest"];
                assert!(*asker != "evil" || all.iter().all(|secret| !text.contains(secret)), "{case}");
                assert!(*asker != "guest" || !text.contains("\"web\""), "{case}");
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

/// One rule says what may be called how, whatever verb comes first, and at the door where a change would
/// wait for a decision about it.
#[tokio::test]
async fn a_name_that_cannot_be_one_is_refused_before_anything_is_written() {
    let (world, decision) = furnished().await;
    let mut bodies = vec![
        (name::ENVIRONMENT_CREATE, json!({ "environment": "DEV", "stage": "prod" })),
        (name::SECRET_PUT, json!({ "environment": "dev", "secret": "DB", "value": "other" })),
    ];
    for command in name::ALL.iter().copied() {
        match actors::runtime::records::ownership::rule(command) {
            Some(Rule::Look | Rule::Service | Rule::Take | Rule::Remove | Rule::Evict) => {
                bodies.push((command, asked(command, "MSVC", &decision)));
            }
            Some(Rule::Environment) if command == name::SECRET_BIND => {
                bodies.push((command, asked(command, "MSVC", &decision)));
            }
            Some(Rule::Name | Rule::List | Rule::Decision | Rule::Environment | Rule::Use | Rule::Finding) | None => {}
        }
    }
    assert!(bodies.len() > 15, "{bodies:?}");
    let before = world.store.writes();
    let by = Principal::new("ann").unwrap();
    for (command, body) in bodies {
        let refused = world.ask(command, body.clone()).await.unwrap_err();
        assert!(
            refused.code == Code::BadRequest && refused.message.contains("cannot be its name"),
            "{command}: {refused:?}"
        );
        let at_the_door = world.desk.admit(&routed(command), &by, &body).await.err();
        // A secret is looked for by its own name there.
        if command != name::SECRET_BIND {
            assert_eq!(at_the_door.map(|refused| refused.code), Some(Code::BadRequest), "{command}");
        }
        assert_eq!(world.store.writes(), before, "{command}");
    }
    let deploys = json!({ "input": { "environment": "dev", "service": "MSVC" } });
    let refused = world.desk.admit(&routed(name::SAGA_START), &by, &deploys).await.unwrap_err();
    assert_eq!(refused.code, Code::BadRequest, "{refused:?}");
}

/// What is taken away last gives the name back, and somebody else may have it.
#[tokio::test]
async fn a_name_is_free_once_nothing_is_bound_to_it() {
    let (world, _) = furnished().await;
    let secret = |service: &str| json!({ "environment": "dev", "secret": "db", "service": service });
    let publish = |service: &str| json!({ "environment": "dev", "service": service, "entries": { "COLOUR": "red" } });
    world.ask(name::SECRET_BIND, secret("api")).await.unwrap();
    assert!(is_refused(&world.ask_as("guest", name::CONFIGURATION_PUBLISH, publish("api")).await.unwrap_err()));
    world.ask(name::SECRET_UNBIND, secret("api")).await.unwrap();
    world.ask_as("guest", name::CONFIGURATION_PUBLISH, publish("api")).await.unwrap();
    assert!(is_refused(&world.ask(name::SECRET_BIND, secret("api")).await.unwrap_err()));
    // What still has something keeps its owner: a configuration, and what runs.
    world.ask(name::SECRET_BIND, secret("web")).await.unwrap();
    world.ask(name::SECRET_UNBIND, secret("web")).await.unwrap();
    assert!(is_refused(&world.ask_as("guest", name::CONFIGURATION_PUBLISH, publish("web")).await.unwrap_err()));
    // Nor does a refusal take a name.
    let faulty = json!({ "environment": "dev", "service": "new", "entries": { "": "red" } });
    world.ask_as("guest", name::CONFIGURATION_PUBLISH, faulty).await.unwrap_err();
    world.ask(name::CONFIGURATION_PUBLISH, publish("new")).await.unwrap();
}

fn routed(command: &str) -> Routed {
    Routed {
        tenant: tenant("acme"),
        principal: "ann".into(),
        command: command.into(),
        received_at: Noon.now(),
        trace: None,
        id: "one".into(),
        causes: 0,
        hops: 0,
        content_type: "application/json".into(),
        body: Vec::new(),
    }
}

/// A refused `resume` once promoted the canary of another, because it wrote first.
#[tokio::test]
async fn who_is_refused_lets_no_rollout_go_on() {
    let world = World::new().await;
    let bind = json!({ "environment": "dev", "tenant": "guest", "maxReplicas": 5 });
    world.ask(name::ENVIRONMENT_BIND, bind).await.unwrap();
    world.arbiter("dev", Source::Operator, "d", Command::Deploy { to: revision(), anew: false }).await;
    let place = World::place("dev");
    let record: Record = serde_json::from_value(json!({
        "deployment": {
            "deploymentId": "d1", "serviceId": "web", "kind": "deploy", "from": null, "to": revision(),
            "state": "RollingOut", "by": "ann", "at": Noon.now(), "why": null,
        },
        "tenant": "acme", "saga": "acme/d1", "comes": { "revision": revision(), "workload": {}, "set": "" },
    }))
    .unwrap();
    let name = place.deployment(&revision().deployment_id);
    store::write(&*world.store, &place.space(), &name, &record, 0).await.unwrap();
    let resumes = async || {
        let record = store::read::<Record>(&*world.store, &place.space(), &name).await.unwrap();
        record.unwrap().value.resumes
    };
    for asker in ["guest", "evil"] {
        assert!(is_refused(&world.ask_as(asker, name::SERVICE_RESUME, of("dev")).await.unwrap_err()));
    }
    assert_eq!(resumes().await, 0);
    world.ask(name::SERVICE_RESUME, of("dev")).await.unwrap();
    assert_eq!(resumes().await, 1);
}

/// Whoever is first has the name, with what is written under it; the other is told what to do.
#[tokio::test]
async fn a_name_is_whose_who_wrote_first_under_it() {
    let world = World::new().await;
    let bind = json!({ "environment": "dev", "tenant": "guest", "maxReplicas": 5 });
    world.ask(name::ENVIRONMENT_BIND, bind).await.unwrap();
    let publish = |service: &str, value: &str| json!({ "environment": "dev", "service": service, "entries": { "COLOUR": value } });
    world.ask(name::CONFIGURATION_PUBLISH, publish("web", "blue")).await.unwrap();
    for command in [name::CONFIGURATION_SHOW, name::CONFIGURATION_LIST] {
        let refused = world.ask_as("guest", command, of("dev")).await.unwrap_err();
        assert!(refused.message.contains("ask acme") && !refused.message.contains("blue"), "{refused:?}");
    }
    // A secret that is bound to a name takes it, too.
    let put = json!({ "environment": "dev", "secret": "db", "value": "hunter2" });
    world.ask(name::SECRET_PUT, put).await.unwrap();
    let bind = |service: &str| json!({ "environment": "dev", "secret": "db", "service": service });
    world.ask(name::SECRET_BIND, bind("api")).await.unwrap();
    assert!(world.ask_as("guest", name::CONFIGURATION_PUBLISH, publish("api", "red")).await.is_err());
    // And the guest's own is the guest's, though the environment is not.
    world.ask_as("guest", name::CONFIGURATION_PUBLISH, publish("mine", "red")).await.unwrap();
    let refused = world.ask(name::SECRET_BIND, bind("mine")).await.unwrap_err();
    assert!(is_refused(&refused) && !refused.message.contains("guest"), "{refused:?}");
    assert!(world.ask(name::CONFIGURATION_PUBLISH, publish("mine", "blue")).await.is_err());
    let of = json!({ "environment": "dev", "service": "mine" });
    assert_eq!(world.ask_as("guest", name::CONFIGURATION_SHOW, of.clone()).await.unwrap()["entries"]["COLOUR"], "red");
    // Who is bound no more has nothing to say, and keeps the name.
    let unbind = json!({ "environment": "dev", "tenant": "guest", "maxReplicas": 0 });
    world.ask(name::ENVIRONMENT_BIND, unbind).await.unwrap();
    assert!(world.ask_as("guest", name::CONFIGURATION_SHOW, of.clone()).await.is_err());
    assert!(world.ask(name::CONFIGURATION_SHOW, of).await.is_err());
}

/// What a guest that is bound no more left running, the environment's owner ends.
#[tokio::test]
async fn the_owner_of_an_environment_drains_what_nobody_may_use() {
    let (world, _) = furnished().await;
    let of = json!({ "environment": "dev", "service": "theirs" });
    assert!(is_refused(&world.ask(name::SERVICE_DRAIN, of.clone()).await.unwrap_err()), "the guest may use it");
    let unbind = json!({ "environment": "dev", "tenant": "guest", "maxReplicas": 0 });
    world.ask(name::ENVIRONMENT_BIND, unbind).await.unwrap();
    assert!(is_refused(&world.ask(name::SERVICE_PAUSE, of.clone()).await.unwrap_err()));
    assert!(is_refused(
        &world.ask_as("guest", name::SERVICE_SCALE, asked(name::SERVICE_SCALE, "theirs", "")).await.unwrap_err()
    ));
    world.ask(name::SERVICE_DRAIN, of).await.unwrap();
    let services = world.ask(name::SERVICE_LIST, json!({ "environment": "dev" })).await.unwrap();
    let theirs = services["services"].as_array().unwrap().iter().find(|row| row["service"] == "theirs").unwrap();
    assert_eq!(theirs["underWay"]["doing"], "draining");
}
