//! Who may do what, and to whose sagas.

use node::client::{Client, Error, Settings};
use node::node::{Node, Parts};
use protocol::command::{ActivityAnswer, Cancel, List, Signal};
use protocol::{Code, Principal, Tenant};
use scenarios::cluster::{config, server};
use scenarios::stage::{saga_key, start};
use serde_json::json;

use super::{STAGE, dead};

#[test]
fn another_tenant_sees_nothing_of_a_saga() {
    STAGE.play(async |stage| {
        stage.begin("human", "secret", json!({})).await;
        let other = stage.cluster.client_as("evil", "eve").await.unwrap();
        let key = saga_key("secret");
        let signal = Signal { key: key.clone(), name: "go".into(), payload: json!(1), id: Some("s".into()) };
        let refusals = [
            other.describe(&key).await.unwrap_err(),
            other.history(&key).await.unwrap_err(),
            other.cancel(&Cancel { key: key.clone(), reason: String::new() }).await.unwrap_err(),
            other.signal(&signal).await.unwrap_err(),
        ];
        for error in refusals {
            assert_eq!(error.code(), Some(Code::NotFound), "{error}");
            assert!(error.to_string().contains("evil/secret"), "only its own tenant is spoken of: {error}");
        }
        assert!(other.list(&List::default()).await.unwrap().is_empty());
        // The same key in another tenant is another saga.
        other.start(&start("telling", "secret", json!({ "title": "mine" }))).await.unwrap();
        other.wait(&key, scenarios::stage::PATIENCE).await.unwrap();
        assert!(!stage.client.describe(&key).await.unwrap().status.is_final());
    });
}

#[test]
fn a_token_of_another_tenant_is_forbidden_and_kept_for_the_audit() {
    STAGE.play(async |stage| {
        let other = stage.cluster.client_as("evil", "eve").await.unwrap();
        let answer = |token: &str| ActivityAnswer { token: token.into(), output: json!(1), error: None, cause: None };
        let error = other.activity_complete(&answer("1:1:acme/audited")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Forbidden), "{error}");
        let letter = dead(&stage, "skald.dead.evil.forbidden", "acme/audited").await;
        let text = String::from_utf8_lossy(&letter.payload).into_owned();
        assert!(text.starts_with("skald.cmd.evil.eve.activity.complete\r\n"), "{text}");
        for bad in ["", "x", "1:x:acme/audited", "1:1:acme"] {
            let error = other.activity_complete(&answer(bad)).await.unwrap_err();
            assert_eq!(error.code(), Some(Code::BadRequest), "{bad:?}: {error}");
        }
        let unknown = other.activity_heartbeat(&answer("1:1:evil/never-was")).await.unwrap_err();
        assert_eq!(unknown.code(), Some(Code::NotNow), "{unknown}");
    });
}

#[test]
fn a_definition_says_who_may() {
    STAGE.play(async |stage| {
        let bob = stage.cluster.client_as("acme", "bob").await.unwrap();
        let eve = stage.cluster.client_as("acme", "eve").await.unwrap();
        let error = eve.start(&start("guarded", "guarded", json!({}))).await.unwrap_err();
        assert_eq!((error.code(), error.to_string()), (Some(Code::Forbidden), "eve may not start guarded".into()));
        stage.begin("guarded", "guarded", json!({})).await;
        let key = saga_key("guarded");
        assert_eq!(eve.describe(&key).await.unwrap_err().code(), Some(Code::Forbidden));
        assert_eq!(eve.history(&key).await.unwrap_err().code(), Some(Code::Forbidden));
        bob.describe(&key).await.unwrap();
        let cancel = Cancel { key: key.clone(), reason: String::new() };
        assert_eq!(bob.cancel(&cancel).await.unwrap_err().code(), Some(Code::Forbidden));
        let signal = Signal { key, name: "go".into(), payload: json!("bob"), id: Some("s".into()) };
        assert_eq!(stage.client.signal(&signal).await.unwrap_err().code(), Some(Code::Forbidden));
        let rows = eve.list(&List::default()).await.unwrap();
        assert!(rows.iter().all(|row| row.saga != "acme/guarded"), "a list shows only what may be viewed: {rows:?}");
        bob.signal(&signal).await.unwrap();
        assert_eq!(stage.end("guarded").await.outcome.unwrap().output, Some(json!("bob")));
        // Whoever was refused is known.
        dead(&stage, "skald.dead.acme.forbidden", "\"definition\":\"guarded\"").await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_said_to_be_wrong_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let users = "authorization { users: [ { user: skald, password: right } ] }";
    let server = server(dir.path(), |config| config.extra = users.into()).await.unwrap();
    let settings = Settings::new(server.url(), Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
    let error = Client::connect(settings).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(error.mend().unwrap().contains("--creds"));

    let with = |password: &str| {
        let mut config = config(dir.path(), &server, 0).unwrap();
        (config.nats.user, config.nats.password) = (Some("skald".into()), Some(password.into()));
        config
    };
    let began = std::time::Instant::now();
    let Err(error) = Node::start(with("wrong"), Parts::default()).await else { panic!("a wrong password was taken") };
    let told = format!("{error:#}");
    assert!(told.contains("uthor"), "{told}");
    assert!(!told.contains("wrong"), "no secret is shown: {told}");
    assert!(began.elapsed().as_secs() < 10, "no use in trying again: {:?}", began.elapsed());
    Node::start(with("right"), Parts::default()).await.unwrap().drain().await.unwrap();
}
