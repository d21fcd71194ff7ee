//! The HTTP door on a real node: who may ask, for whom, and what the same command answers over it.
#![cfg(target_os = "linux")]

use std::net::SocketAddr;
use std::time::Duration;

use node::config::Config;
use node::http::token::{Holder, Holders, digest};
use node::node::{Node, Parts};
use node::secret::Secret;
use protocol::{NodeId, Principal, Tenant, Value};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

#[path = "nats/support.rs"]
mod nats_support;

use nats_support::{One, one};

/// Every scope.
fn all() -> Vec<String> {
    node::http::token::scopes().into_iter().collect()
}

struct World {
    node: Option<Node>,
    at: SocketAddr,
    client: reqwest::Client,
    dir: TempDir,
    _server: One,
}

/// An answer: its status, its type and its body.
struct Answer {
    status: StatusCode,
    kind: String,
    place: Option<String>,
    body: Value,
}

impl World {
    async fn open() -> Self {
        let (server, dir) = (one().await, tempfile::tempdir().unwrap());
        let holder = |token: &str, tenant: &str, principal: &str, scopes: Vec<String>| Holder {
            sha256: digest(&Secret::new(token)),
            tenant: Tenant::new(tenant).unwrap(),
            principal: Principal::new(principal).unwrap(),
            scopes: scopes.into_iter().collect(),
            until: None,
        };
        let reads = all().into_iter().filter(|scope| scope.ends_with(".read")).collect();
        let token = vec![
            holder("ann", "acme", "ann", all()),
            holder("bob", "acme", "bob", all()),
            holder("eye", "acme", "eye", reads),
            holder("evil", "evil", "evil", all()),
        ];
        let data = dir.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("http-tokens.toml"), toml::to_string(&Holders { token }).unwrap()).unwrap();
        let mut config = Config { data_dir: data, servers: vec![server.server.url()], ..Config::default() };
        config.node = Some(NodeId::new("n1").unwrap());
        config.debug.enabled = false;
        config.http.bind = Some(([127, 0, 0, 1], 0).into());
        config.runtime.dir = Some(dir.path().join("runtime"));
        config.runtime.workers = Some(false);
        let source = include_str!("../../actors/definitions/runtime_deployment.yaml");
        let definitions = vec![("runtime_deployment.yaml".to_owned(), source.to_owned())];
        let node = Node::start(config, Parts { definitions, ..Parts::default() }).await.unwrap();
        let at = node.http().unwrap();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { node: Some(node), at, client, dir, _server: server }
    }

    async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.named(token, method, path, body, None).await
    }

    async fn named(&self, token: &str, method: Method, path: &str, body: Option<Value>, key: Option<&str>) -> Answer {
        let mut request = self.client.request(method, format!("http://{}/v1/runtime{path}", self.at));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, kind, place) = (response.status(), header("content-type").unwrap_or_default(), header("location"));
        let text = response.text().await.unwrap();
        Answer { status, kind, place, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.ask(token, Method::GET, path, None).await
    }

    async fn well(&self, method: Method, path: &str, body: Value) -> Value {
        // The keeper of the processes may still be on its way up: what waits for it says so.
        for _ in 0..600 {
            let answer = self.ask("ann", method.clone(), path, Some(body.clone())).await;
            match answer.status {
                StatusCode::OK => return answer.body,
                StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(Duration::from_millis(50)).await,
                status => panic!("{path}: {status} {}", answer.body),
            }
        }
        panic!("{path} was unavailable for long");
    }

    async fn end(mut self) {
        self.node.take().unwrap().drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_asks_without_a_token_its_scope_and_a_right_to_the_environment() {
    let world = World::open().await;
    for token in ["", "nobody"] {
        let refused = world.get(token, "/environments").await;
        assert_eq!((refused.status, refused.kind.as_str()), (StatusCode::UNAUTHORIZED, "application/problem+json"));
        assert!(refused.body["mend"].as_str().unwrap().contains("skald http token"), "{}", refused.body);
    }
    world.well(Method::POST, "/environments", json!({ "environment": "dev" })).await;
    assert_eq!(world.get("eye", "/environments").await.body["environments"][0]["environment"], "dev");
    let refused = world.ask("eye", Method::POST, "/environments", Some(json!({ "environment": "x" }))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body["detail"].as_str().unwrap().contains("runtime.environments.write"), "{}", refused.body);
    // A plan changes nothing, and whoever may look may see it.
    let plan = world.ask("eye", Method::POST, "/environments/dev/plan", Some(json!({ "preview": "x" }))).await;
    assert_eq!(plan.status, StatusCode::BAD_REQUEST);
    for (method, path, body) in [
        (Method::GET, "/environments/dev/secrets", None),
        (Method::GET, "/services?environment=dev", None),
        (Method::PUT, "/environments/dev/secrets/db", Some(json!({ "value": "hunter2" }))),
        (Method::POST, "/environments/dev/services/web/deployments", Some(json!({ "artifact": "sha256:ab" }))),
        (Method::GET, "/environments/dev/services/web/health", None),
        (Method::PUT, "/environments/dev/drift-policy", Some(json!({}))),
        (Method::GET, "/environments/nowhere/secrets", None),
    ] {
        let refused = world.ask("evil", method.clone(), path, body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}: {}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains("evil is not bound"), "{}", refused.body);
    }
    assert_eq!(world.get("evil", "/environments").await.body, json!({ "environments": [] }));
    // Another tenant in the body is no field.
    let other = json!({ "environment": "dev2", "tenant": "evil" });
    assert_eq!(world.ask("ann", Method::POST, "/environments", Some(other)).await.status, StatusCode::BAD_REQUEST);
    for (method, path, status) in [
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
        (Method::DELETE, "/environments", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let refused = world.ask("ann", method, path, None).await;
        assert_eq!((refused.status, refused.kind.as_str()), (status, "application/problem+json"));
    }
    // A token that is taken out of the file is nobody's.
    let file = world.dir.path().join("data/http-tokens.toml");
    std::fs::write(&file, "").unwrap();
    assert_eq!(world.get("ann", "/environments").await.status, StatusCode::UNAUTHORIZED);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_over_http_is_the_command() {
    let world = World::open().await;
    world.well(Method::POST, "/environments", json!({ "environment": "dev" })).await;
    let plan = world.well(Method::POST, "/environments/dev/plan", json!({ "replicas": 8 })).await;
    assert_eq!(plan["applied"], false);
    let apply = json!({ "replicas": 8, "preview": plan["preview"] });
    assert_eq!(world.well(Method::POST, "/environments/dev/apply", apply).await["applied"], true);

    let put = json!({ "value": "hunter2" });
    let secret = "/environments/dev/secrets/db";
    for _ in 0..2 {
        let kept = world.named("ann", Method::PUT, secret, Some(put.clone()), Some("put-1")).await;
        assert_eq!((kept.status, kept.body["version"].as_u64()), (StatusCode::OK, Some(1)), "{}", kept.body);
    }
    let bound = world.well(Method::PUT, &format!("{secret}/services/web"), json!({})).await;
    assert_eq!(bound["bound"], json!({ "web": 0 }));
    let unbound = world.ask("ann", Method::DELETE, &format!("{secret}/services/web"), None).await;
    assert_eq!((unbound.status, &unbound.body["bound"]), (StatusCode::OK, &json!({})));
    assert_eq!(world.well(Method::POST, &format!("{secret}/rotate"), json!({})).await["requested"], true);
    let listed = world.get("ann", "/environments/dev/secrets").await.body;
    assert!(listed["secrets"][0]["version"] == 1 && !listed.to_string().contains("hunter2"), "{listed}");

    let web = "/environments/dev/services/web";
    let published = world.well(Method::POST, &format!("{web}/configurations"), json!({ "COLOUR": "blue" })).await;
    assert_eq!(published["version"], 1);
    let shown = world.get("ann", &format!("{web}/configurations/1")).await.body;
    assert_eq!(shown["entries"]["COLOUR"], "blue");

    let policy =
        world.well(Method::PUT, "/environments/dev/drift-policy", json!({ "remedies": { "image": "review" } }));
    assert_eq!(policy.await["remedies"]["image"], "review");
    for (path, field) in [("/drift", "findings"), ("/incidents", "incidents"), ("/scaling-policies", "policies")] {
        assert_eq!(world.get("ann", path).await.body[field], json!([]), "{path}");
    }
    assert_eq!(world.get("ann", &format!("{web}/incident")).await.status, StatusCode::NOT_FOUND);

    let missing = json!({ "artifact": format!("sha256:{}", "ab".repeat(32)) });
    let deploy = || {
        world.named(
            "ann",
            Method::POST,
            "/environments/dev/services/web/deployments",
            Some(missing.clone()),
            Some("d-1"),
        )
    };
    let accepted = deploy().await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.body);
    let place = accepted.place.unwrap();
    assert_eq!(place, "/v1/runtime/deployments/d-1");
    let again = deploy().await;
    assert_eq!((again.status, again.body["created"].as_bool()), (StatusCode::ACCEPTED, Some(false)), "the same key");
    let found = world.get("ann", "/deployments/d-1").await;
    assert_eq!((found.status, found.body["startedBy"].as_str()), (StatusCode::OK, Some("ann")), "{}", found.body);
    assert_eq!(world.get("ann", "/deployments/none").await.status, StatusCode::NOT_FOUND);
    let forged = json!({ "artifact": "sha256:ab", "source": "health" });
    let refused = world.ask("ann", Method::POST, &format!("{web}/deployments"), Some(forged)).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    world.end().await;
}

/// A change of production needs the word of somebody else, once per change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_changes_when_somebody_else_has_decided() {
    let world = World::open().await;
    let create = json!({ "environment": "prod", "stage": "prod" });
    let decide = async |token: &str| {
        let waiting = world.get(token, "/decisions").await.body["decisions"].clone();
        let open = waiting.as_array().unwrap().iter().rfind(|row| row["approvedBy"].is_null()).unwrap().clone();
        let path = format!("/decisions/{}/approve", open["decision"].as_str().unwrap());
        world.ask(token, Method::POST, &path, None).await
    };
    let made = |key: &'static str| world.named("ann", Method::POST, "/environments", Some(create.clone()), Some(key));
    let refused = made("c-1").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (StatusCode::CONFLICT, Some("not_now")));
    assert!(refused.body["mend"].as_str().unwrap().contains("somebody else"), "{}", refused.body);
    assert_eq!(decide("ann").await.status, StatusCode::FORBIDDEN, "one's own change");
    let approved = decide("bob").await;
    assert_eq!((approved.status, approved.body["approvedBy"].as_str()), (StatusCode::OK, Some("bob")));
    assert_eq!(made("c-1").await.status, StatusCode::OK);
    assert_eq!(made("c-1").await.status, StatusCode::OK, "the same request again");
    assert_eq!(made("c-2").await.status, StatusCode::CONFLICT, "another request, another decision");

    // Production needs a right even for its owner, and giving it is a change of production.
    let bind = || {
        world.named(
            "bob",
            Method::PUT,
            "/environments/prod/tenants/acme",
            Some(json!({ "maxReplicas": 5 })),
            Some("b-1"),
        )
    };
    assert_eq!(bind().await.status, StatusCode::CONFLICT);
    assert_eq!(decide("ann").await.status, StatusCode::OK);
    assert_eq!(bind().await.status, StatusCode::OK);
    let put = json!({ "value": "hunter2" });
    let refused = world.ask("ann", Method::PUT, "/environments/prod/secrets/db", Some(put)).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let listed = world.get("ann", "/decisions").await.body;
    let waits = listed["decisions"].as_array().unwrap().iter().any(|row| row["what"] == "secret.put");
    assert!(waits && !listed.to_string().contains("hunter2"), "{listed}");
    assert_eq!(world.get("ann", "/environments/prod/secrets").await.status, StatusCode::OK, "looking changes nothing");
    world.end().await;
}

/// One approval is one effect: what was approved and made is not made again, whatever was done meanwhile,
/// and production stays production until somebody else agrees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_for_one_change_of_what_was_there() {
    let world = World::open().await;
    let operator = node::client::Settings::new(
        world._server.server.url(),
        Tenant::new("acme").unwrap(),
        Principal::new("operator").unwrap(),
    );
    let operator = node::client::Client::connect(operator).await.unwrap();
    let create = json!({ "environment": "prod", "stage": "prod" });
    operator.create_environment(&serde_json::from_value(create).unwrap()).await.unwrap();
    let bind = async |replicas: u32, key: &'static str| {
        let body = json!({ "maxReplicas": replicas });
        world.named("ann", Method::PUT, "/environments/prod/tenants/acme", Some(body), Some(key)).await
    };
    let refused = bind(5, "b-1").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (StatusCode::CONFLICT, Some("not_now")));
    let approve = async |token: &str| {
        let waiting = world.get(token, "/decisions").await.body["decisions"].clone();
        let open = waiting.as_array().unwrap().iter().rfind(|row| row["approvedBy"].is_null()).unwrap().clone();
        let path = format!("/decisions/{}/approve", open["decision"].as_str().unwrap());
        world.ask(token, Method::POST, &path, None).await.status
    };
    assert_eq!(approve("ann").await, StatusCode::FORBIDDEN);
    assert_eq!(approve("bob").await, StatusCode::OK);
    assert_eq!(bind(50, "b-1").await.status, StatusCode::CONFLICT, "another number was approved");
    let first = bind(5, "b-1").await;
    assert_eq!((first.status, &first.body["maxReplicas"]), (StatusCode::OK, &json!(5)));
    // A repetition is answered and does nothing.
    let again = bind(5, "b-1").await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &first.body));
    // An operator takes it away, and no repetition puts it back.
    let away = json!({ "environment": "prod", "tenant": "acme", "maxReplicas": 0 });
    operator.bind_environment(&serde_json::from_value(away).unwrap()).await.unwrap();
    let late = bind(5, "b-1").await;
    assert_eq!((late.status, late.body["code"].as_str()), (StatusCode::CONFLICT, Some("conflict")), "{}", late.body);
    let secrets = world.get("ann", "/environments/prod/secrets").await;
    assert_eq!(secrets.status, StatusCode::FORBIDDEN, "there is no binding: {}", secrets.body);
    // Another key is another request, and takes another word.
    assert_eq!(bind(5, "b-2").await.body["code"], "not_now");
    // What was approved on one state is not done on another.
    assert_eq!(approve("bob").await, StatusCode::OK);
    let other = json!({ "environment": "prod", "tenant": "acme", "maxReplicas": 1 });
    operator.bind_environment(&serde_json::from_value(other).unwrap()).await.unwrap();
    let outdated = bind(5, "b-2").await;
    assert!(outdated.body["detail"].as_str().unwrap().contains("has changed since"), "{}", outdated.body);

    // Production is not made development by a field, nor by leaving one out.
    for stage in [json!({ "environment": "prod", "stage": "dev" }), json!({ "environment": "prod" })] {
        let refused = world.ask("ann", Method::POST, "/environments", Some(stage)).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (StatusCode::CONFLICT, Some("not_now")));
    }
    let listed = world.get("ann", "/environments").await.body;
    assert_eq!(listed["environments"][0]["stage"], "prod", "{listed}");
    world.end().await;
}

/// A guest's own right to an environment is none to what others have in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_refused_what_is_anothers_before_anything_is_asked_of_it() {
    let world = World::open().await;
    world.well(Method::POST, "/environments", json!({ "environment": "dev" })).await;
    world.well(Method::PUT, "/environments/dev/tenants/evil", json!({ "maxReplicas": 5 })).await;
    let web = "/environments/dev/services/web";
    world.well(Method::POST, &format!("{web}/configurations"), json!({ "COLOUR": "blue" })).await;
    let artifact = json!({ "artifact": format!("sha256:{}", "ab".repeat(32)) });
    for (method, path, body) in [
        (Method::GET, "/configurations".to_owned(), None),
        (Method::GET, "/configurations/1".to_owned(), None),
        (Method::POST, "/configurations".to_owned(), Some(json!({ "COLOUR": "red" }))),
        (Method::POST, "/deployments".to_owned(), Some(artifact)),
        (Method::POST, "/rollbacks".to_owned(), Some(json!({}))),
        (Method::POST, "/drain".to_owned(), None),
        (Method::POST, "/pause".to_owned(), None),
        (Method::POST, "/resume".to_owned(), None),
        (Method::POST, "/unhold".to_owned(), None),
        (Method::PUT, "/replicas".to_owned(), Some(json!({ "replicas": 1 }))),
        (Method::PUT, "/scaling-policy".to_owned(), Some(json!({}))),
        (Method::DELETE, "/incident".to_owned(), None),
        (Method::GET, "/health".to_owned(), None),
    ] {
        let refused = world.ask("evil", method.clone(), &format!("{web}{path}"), body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}: {}", refused.body);
        let text = refused.body.to_string();
        assert!(text.contains("belongs to another tenant") && !text.contains("blue"), "{text}");
    }
    world.end().await;
}
