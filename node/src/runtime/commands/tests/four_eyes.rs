//! What makes production less of one takes somebody else's word at every door.

use super::*;

fn decision(problem: &Problem) -> String {
    assert_eq!(problem.code, Code::NotNow, "{problem:?}");
    problem.message.rsplit(' ').next().unwrap().to_owned()
}

async fn stage(world: &World) -> String {
    let listed = world.ask(name::ENVIRONMENT_LIST, json!({})).await.unwrap();
    let rows = listed["environments"].as_array().unwrap();
    let prod = rows.iter().find(|row| row["environment"] == "prod").unwrap();
    prod["stage"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn production_becomes_something_else_only_by_somebody_elses_word() {
    let world = World::new().await;
    // To say nothing of its stage says nothing of its stage.
    world.ask(name::ENVIRONMENT_CREATE, json!({ "environment": "prod" })).await.unwrap();
    world.ask(name::ENVIRONMENT_CREATE, json!({ "environment": "prod", "stage": "prod" })).await.unwrap();
    assert_eq!(stage(&world).await, "prod");
    let less = json!({ "environment": "prod", "stage": "dev" });
    let waits = decision(&world.ask(name::ENVIRONMENT_CREATE, less.clone()).await.unwrap_err());
    assert_eq!(stage(&world).await, "prod");
    let approve = json!({ "decision": waits });
    for (tenant, principal) in [("acme", "ann"), ("evil", "bob")] {
        assert!(world.ask_by(tenant, principal, name::DECISION_APPROVE, approve.clone()).await.is_err());
    }
    // The environment changes meanwhile: what was asked for is not what would be done.
    world.ask(name::ENVIRONMENT_CREATE, json!({ "environment": "prod", "region": "north" })).await.unwrap();
    let late = world.ask_by("acme", "bob", name::DECISION_APPROVE, approve).await.unwrap_err();
    assert!(late.message.contains("has changed since"), "{late:?}");
    let waits = decision(&world.ask(name::ENVIRONMENT_CREATE, less.clone()).await.unwrap_err());
    world.ask_by("acme", "bob", name::DECISION_APPROVE, json!({ "decision": waits })).await.unwrap();
    assert_eq!(world.ask(name::ENVIRONMENT_CREATE, less).await.unwrap()["stage"], "dev");
    assert_eq!(stage(&world).await, "dev");
}

/// A stricter policy is nobody else's business.
#[tokio::test]
async fn a_drift_policy_of_production_lets_more_only_by_somebody_elses_word() {
    let world = World::new().await;
    let set = |allow: bool, image: &str| {
        let body = json!({ "environment": "prod", "allowEmpty": allow, "remedies": { "image": image } });
        world.ask(name::DRIFT_SET_POLICY, body)
    };
    set(false, "review").await.unwrap();
    decision(&set(true, "review").await.unwrap_err());
    let waits = decision(&set(false, "afterApproval").await.unwrap_err());
    world.ask_by("acme", "bob", name::DECISION_APPROVE, json!({ "decision": waits })).await.unwrap();
    assert_eq!(set(false, "afterApproval").await.unwrap()["remedies"]["image"], "afterApproval");
    // In development it is as it was.
    let body = json!({ "environment": "dev", "allowEmpty": true });
    world.ask(name::DRIFT_SET_POLICY, body).await.unwrap();
}

/// A body has no field for who approved, who owns or who asks.
#[tokio::test]
async fn who_approved_owns_or_asks_is_in_no_body() {
    let world = World::new().await;
    world.deployed("prod").await;
    let of = json!({ "environment": "prod", "service": "web" });
    for (command, body) in [
        (name::DRIFT_REMEDIATE, of.clone()),
        (name::SERVICE_RESUME, of.clone()),
        (name::SERVICE_SCALE, json!({ "environment": "prod", "service": "web", "replicas": 1 })),
        (name::CONFIGURATION_PUBLISH, json!({ "environment": "prod", "service": "web", "entries": {} })),
        (name::ENVIRONMENT_CREATE, json!({ "environment": "prod" })),
        (name::ENVIRONMENT_BIND, json!({ "environment": "prod", "tenant": "acme", "maxReplicas": 1 })),
        (name::SECRET_BIND, json!({ "environment": "prod", "secret": "db", "service": "web" })),
        (name::DECISION_APPROVE, json!({ "decision": "ab" })),
        (name::INCIDENT_CLOSE, of),
    ] {
        for field in ["approvedBy", "owner", "requestedBy", "by", "principal"] {
            let mut body = body.clone();
            body[field] = json!("bob");
            let refused = world.ask(command, body).await.unwrap_err();
            assert!(
                refused.code == Code::BadRequest && refused.message.contains(field),
                "{command} {field}: {refused:?}"
            );
        }
    }
}
