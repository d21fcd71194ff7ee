//! Every way of saying who one is: user and password, token, nkey, credentials with a JWT.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use node::client::{Client, Error, Settings};
use node::config::Config;
use node::node::{Node, Parts};
use node::secret::Secret;
use node::server::Server;
use protocol::query::Query;
use protocol::{Principal, Tenant};
use scenarios::cluster::{config, server};
use serde_json::{Value, json};

/// A node joins with `right`, and with `wrong` it is told at once, without the secret.
async fn joins(dir: &Path, server: &Server, right: impl Fn(&mut Config), wrong: impl Fn(&mut Config)) {
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = config(dir, server, 0).unwrap();
        change(&mut config);
        config.check().unwrap();
        config
    };
    let Err(error) = Node::start(with(&wrong), Parts::default()).await else { panic!("a wrong login was taken") };
    let told = format!("{error:#} {error:?}");
    assert!(told.contains("uthor"), "{told}");
    for secret in ["not-the-secret", "SUA"] {
        assert!(!told.contains(secret), "{told}");
    }
    Node::start(with(&right), Parts::default()).await.unwrap().drain().await.unwrap();
}

fn settings(server: String) -> Settings {
    Settings::new(server, Tenant::new("acme").unwrap(), Principal::new("ann").unwrap())
}

/// Nobody but the server answers, so being told that no node does means being let in.
async fn is_let_in(settings: Settings) {
    let client = Client::connect(settings).await.unwrap();
    assert!(matches!(client.query(&Query::Health).await, Err(Error::NoNode { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password_or_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let users = "authorization { users: [ { user: skald, password: \"right:@secret\" } ] }";
    let by_password = server(dir.path(), |config| config.extra = users.into()).await.unwrap();
    let with = |password: &'static str| {
        move |config: &mut Config| {
            (config.nats.user, config.nats.password) = (Some("skald".into()), Some(Secret::from(password)));
        }
    };
    joins(dir.path(), &by_password, with("right:@secret"), with("not-the-secret")).await;
    let at = |login: &str| by_password.url().replace("nats://", &format!("nats://{login}@"));
    is_let_in(settings(at("skald:right:@secret"))).await;
    let error = Client::connect(settings(at("skald:not-the-secret"))).await.unwrap_err();
    let told = format!("{error} {error:?} {:?}", error.mend());
    assert!(matches!(error, Error::Unauthorized { .. }) && !told.contains("not-the-secret"), "{told}");

    let dir = tempfile::tempdir().unwrap();
    let token = "authorization { token: \"right-token\" }";
    let by_token = server(dir.path(), |config| config.extra = token.into()).await.unwrap();
    let with = |token: &'static str| move |config: &mut Config| config.nats.token = Some(Secret::from(token));
    joins(dir.path(), &by_token, with("right-token"), with("not-the-secret")).await;
    is_let_in(settings(by_token.url().replace("nats://", "nats://right-token@"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_in_the_settings_or_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (known, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", known.public_key());
    let server = server(dir.path(), |config| config.extra = users).await.unwrap();
    let with = |pair: &KeyPair| {
        let seed = Secret::new(pair.seed().unwrap());
        move |config: &mut Config| config.nats.nkey_seed = Some(seed.clone())
    };
    joins(dir.path(), &server, with(&known), with(&stranger)).await;
    let file = dir.path().join("known.nk");
    std::fs::write(&file, known.seed().unwrap()).unwrap();
    is_let_in(Settings { credentials: Some(file.clone()), ..settings(server.url()) }).await;
    joins(dir.path(), &server, move |config| config.credentials = Some(file.clone()), with(&stranger)).await;
}

/// A token of the kind that NATS servers read, for `subject`, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &str, name: &str, nats: Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap());
    let id = uuid_of(name);
    let claims = json!({ "jti": id, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name, "sub": subject, "nats": nats });
    let signed = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An id; the servers only want one to be there.
fn uuid_of(name: &str) -> String {
    format!("ID{}", name.to_uppercase())
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_with_a_jwt() {
    let dir = tempfile::tempdir().unwrap();
    let (operator, account, user, stranger) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user(), KeyPair::new_account());
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let operator_token = jwt(&operator, &operator.public_key(), "ops", json!({ "type": "operator", "version": 2 }));
    let account_claims = json!({ "type": "account", "version": 2, "limits": unlimited });
    let account_token = jwt(&operator, &account.public_key(), "skald", account_claims.clone());
    // JetStream wants somebody to look after the server.
    let system = KeyPair::new_account();
    let mut system_claims = account_claims;
    for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
        system_claims["limits"][limit] = json!(0);
    }
    let system_token = jwt(&operator, &system.public_key(), "sys", system_claims);
    let extra = format!(
        "operator: {operator_token}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n {}: {account_token}\n {}: {system_token}\n}}",
        system.public_key(),
        account.public_key(),
        system.public_key()
    );
    let server = server(dir.path(), |config| config.extra = extra).await.unwrap();
    let limits = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let file = |name: &str, by: &KeyPair| {
        let token = jwt(by, &user.public_key(), name, limits.clone());
        let file = dir.path().join(format!("{name}.creds"));
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().unwrap()
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let (good, bad) = (file("good", &account), file("bad", &stranger));
    is_let_in(Settings { credentials: Some(good.clone()), ..settings(server.url()) }).await;
    let with = |file: std::path::PathBuf| move |config: &mut Config| config.credentials = Some(file.clone());
    joins(dir.path(), &server, with(good), with(bad)).await;
}
