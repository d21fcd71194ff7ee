//! Encrypted connections: who is trusted, and who must show a certificate.

use std::path::{Path, PathBuf};

use node::client::{Client, Error, Settings};
use node::nats::Tls;
use node::node::{Node, Parts};
use node::server::Server;
use protocol::view::Status;
use protocol::{Principal, Tenant};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use scenarios::activities;
use scenarios::cluster::{config, server};
use scenarios::definitions;
use scenarios::ledger::Ledger;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;

/// An authority of our own, with its files in a directory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    name: &'static str,
}

impl Authority {
    pub fn new(dir: &Path, name: &'static str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir: dir.to_owned(), name }
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// Files with a certificate for `who`, which answers at 127.0.0.1 or asks, and its key.
    pub fn certify(&self, who: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(rcgen::DnType::CommonName, who);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.dir.join(format!("{who}-of-{}.{end}", self.name));
        std::fs::write(file("pem"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("pem"), file("key"))
    }
}

async fn tls_server(dir: &Path, ours: &Authority, verify: bool) -> Server {
    let (certificate, key) = ours.certify("server");
    let verify = if verify { format!("ca_file: {:?}\n verify: true", ours.file()) } else { String::new() };
    let extra = format!("tls {{\n cert_file: {certificate:?}\n key_file: {key:?}\n {verify}\n}}");
    server(dir, |config| config.extra = extra).await.unwrap()
}

async fn node(dir: &Path, server: &Server, tls: &Tls) -> anyhow::Result<Node> {
    let mut config = config(dir, server, 0)?;
    config.nats.tls_required = tls.required;
    config.nats.tls_authorities.clone_from(&tls.authorities);
    (config.nats.tls_certificate, config.nats.tls_key) = tls.identity.clone().unzip();
    config.nats.start_within_ms = 2_000;
    let sources = definitions::ALL.iter().enumerate();
    let ledger = Ledger::open(&dir.join("ledger"))?;
    let definitions = sources.map(|(at, source)| (format!("{at}.yaml"), (*source).to_owned())).collect();
    Node::start(config, Parts { activities: activities::all(&ledger), definitions, ..Parts::default() }).await
}

async fn client(server: &Server, tls: Tls) -> Result<Client, Error> {
    let settings = Settings::new(server.url(), Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
    Client::connect(Settings { tls, ..settings }).await
}

async fn runs(client: &Client, key: &str) {
    client.start(&start("telling", key, json!({ "title": 1 }))).await.unwrap();
    assert_eq!(client.wait(&saga_key(key), PATIENCE).await.unwrap().status, Status::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let server = tls_server(dir.path(), &ours, false).await;
    let by = |authority: &Authority| Tls { required: true, authorities: Some(authority.file()), identity: None };
    let started = node(dir.path(), &server, &by(&ours)).await.unwrap();
    let ann = client(&server, by(&ours)).await.unwrap();
    runs(&ann, "encrypted").await;
    assert!(ann.nats().server_info().tls_required);

    for wrong in [by(&theirs), Tls::default()] {
        let error = client(&server, wrong.clone()).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        let Err(error) = node(&dir.path().join("other"), &server, &wrong).await else {
            panic!("a stranger was trusted")
        };
        assert!(format!("{error:#}").contains("certificate"), "{error:#}");
    }
    let lost = Tls { authorities: Some(dir.path().join("no-such.pem")), ..by(&ours) };
    assert!(client(&server, lost).await.is_err());
    started.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_want_a_certificate_of_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let server = tls_server(dir.path(), &ours, true).await;
    let with = |identity| Tls { required: true, authorities: Some(ours.file()), identity };
    let started = node(dir.path(), &server, &with(Some(ours.certify("node")))).await.unwrap();
    let ann = client(&server, with(Some(ours.certify("ann")))).await.unwrap();
    runs(&ann, "known").await;
    for identity in [None, Some(theirs.certify("eve"))] {
        assert!(client(&server, with(identity.clone())).await.is_err(), "{identity:?}");
        assert!(node(&dir.path().join("other"), &server, &with(identity)).await.is_err());
    }
    started.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_must_be_encrypted_is_not_made_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), |_| {}).await.unwrap();
    let must = Tls { required: true, ..Tls::default() };
    assert!(client(&server, must.clone()).await.is_err());
    assert!(node(dir.path(), &server, &must).await.is_err());
}
