//! Conversations as the interface of the key-value store describes them, and the contract on a real
//! server when `VAULT_ADDR` and `VAULT_TOKEN` name one.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::{Label, contract};
use super::*;

const TOKEN: &str = "hvs.a-token-nobody-may-see";

fn name() -> SecretName {
    SecretName::new("prod/db").unwrap()
}

fn token(text: &str) -> RequestKey {
    RequestKey::new(text).unwrap()
}

/// Takes one request: its head and its body.
async fn heard(stream: &mut TcpStream) -> (String, String) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return (head.to_owned(), body.to_owned());
            }
        }
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "a request ended in the middle: {text:?}");
        bytes.extend_from_slice(&buffer[..read]);
    }
}

/// A server that expects exactly the requests of `conversation`, and answers as it says. Each is
/// `> METHOD PATH [BODY]`, followed by `< STATUS [BODY]`.
async fn server(conversation: &'static str) -> (Vault, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let talk = tokio::spawn(async move {
        let mut lines = conversation.lines().map(str::trim).filter(|line| !line.is_empty());
        while let Some(asked) = lines.next() {
            let expected = asked.strip_prefix("> ").unwrap();
            let answered = lines.next().unwrap().strip_prefix("< ").unwrap();
            let (status, answer) = answered.split_once(' ').unwrap_or((answered, ""));
            let (mut stream, _) = listener.accept().await.unwrap();
            let (head, body) = heard(&mut stream).await;
            assert!(head.to_lowercase().contains(&format!("x-vault-token: {}", TOKEN.to_lowercase())));
            let mut first = head.lines().next().unwrap().splitn(3, ' ');
            let (method, path) = (first.next().unwrap(), first.next().unwrap());
            let mut parts = expected.splitn(3, ' ');
            assert_eq!((Some(method), path.strip_prefix("/v1/secret/")), (parts.next(), parts.next()));
            let json = |text: &str| serde_json::from_str::<Value>(text).ok();
            assert_eq!(json(&body), parts.next().and_then(json));
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}", answer.len());
            stream.write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).await.unwrap();
        }
    });
    (Vault::new(Settings::new(address, Secret::new(TOKEN))).unwrap(), talk)
}

#[tokio::test]
async fn the_first_version() {
    let (vault, talk) = server(
        r#"
> GET data/skald/prod/db/book
< 404 {"errors":[]}
> GET metadata/skald/prod/db/value
< 404 {"errors":[]}
> POST metadata/skald/prod/db/value {"max_versions":101}
< 204
> POST data/skald/prod/db/value {"data":{"token":"day-1","value":"aHVudGVyMg=="},"options":{"cas":0}}
< 200 {"data":{"version":1,"created_time":"2026-11-21T10:00:00Z"}}
> POST data/skald/prod/db/book {"data":{"forgotten":0,"labels":{"current":null,"pending":1,"previous":null},"versions":{"1":{"state":"active","token":"day-1"}}},"options":{"cas":0}}
< 200 {"data":{"version":1}}
"#,
    )
    .await;
    assert_eq!(vault.create_version(&name(), &token("day-1"), Secret::new("hunter2")).await.unwrap(), 1);
    talk.await.unwrap();
}

#[tokio::test]
async fn a_creation_that_stopped_half_way_is_found_by_its_token() {
    let (vault, talk) = server(
        r#"
> GET data/skald/prod/db/book
< 404 {"errors":[]}
> GET metadata/skald/prod/db/value
< 200 {"data":{"current_version":1,"versions":{"1":{"created_time":"2026-11-21T10:00:00Z"}}}}
> GET data/skald/prod/db/value?version=1
< 200 {"data":{"data":{"token":"day-1","value":"aHVudGVyMg=="},"metadata":{"version":1}}}
> POST data/skald/prod/db/book {"data":{"forgotten":0,"labels":{"current":null,"pending":1,"previous":null},"versions":{"1":{"state":"active","token":"day-1"}}},"options":{"cas":0}}
< 200 {"data":{"version":1}}
"#,
    )
    .await;
    assert_eq!(vault.create_version(&name(), &token("day-1"), Secret::new("another")).await.unwrap(), 1);
    talk.await.unwrap();
}

#[tokio::test]
async fn labels_that_somebody_moved_meanwhile_stay_where_they_are() {
    let (vault, talk) = server(
        r#"
> GET data/skald/prod/db/book
< 200 {"data":{"data":{"labels":{"current":1,"pending":2},"versions":{"1":{"token":"a","state":"active"},"2":{"token":"b","state":"active"}}},"metadata":{"version":4}}}
> GET metadata/skald/prod/db/value
< 200 {"data":{"current_version":2,"versions":{"1":{"created_time":"2026-11-21T10:00:00Z"},"2":{"created_time":"2026-11-21T11:00:00Z"}}}}
> POST data/skald/prod/db/book {"data":{"forgotten":0,"labels":{"current":2,"pending":null,"previous":1},"versions":{"1":{"state":"active","token":"a"},"2":{"state":"active","token":"b"}}},"options":{"cas":4}}
< 400 {"errors":["check-and-set parameter did not match the current version"]}
> GET data/skald/prod/db/book
< 200 {"data":{"data":{"labels":{"current":1,"pending":null},"versions":{"1":{"token":"a","state":"active"},"2":{"token":"b","state":"destroyed"}}},"metadata":{"version":5}}}
> GET metadata/skald/prod/db/value
< 200 {"data":{"current_version":2,"versions":{"1":{"created_time":"2026-11-21T10:00:00Z"},"2":{"created_time":"2026-11-21T11:00:00Z"}}}}
"#,
    )
    .await;
    let seen = Labels { pending: Some(2), current: Some(1), previous: None };
    let refused = vault.set_labels(&name(), seen, seen.with_current(2)).await.unwrap_err();
    assert_eq!(refused.error, "LabelsChanged");
    talk.await.unwrap();
}

#[tokio::test]
async fn reading_retiring_and_listing() {
    let (vault, talk) = server(
        r#"
> GET data/skald/prod/db/book
< 200 {"data":{"data":{"labels":{"current":1,"previous":2},"versions":{"1":{"token":"a","state":"active"},"2":{"token":"b","state":"active"}}},"metadata":{"version":4}}}
> GET metadata/skald/prod/db/value
< 200 {"data":{"current_version":2,"versions":{"1":{"created_time":"2026-11-21T10:00:00Z"},"2":{"created_time":"2026-11-21T11:00:00Z"}}}}
> GET data/skald/prod/db/value?version=1
< 200 {"data":{"data":{"token":"a","value":"aHVudGVyMg=="},"metadata":{"version":1}}}
> GET data/skald/prod/db/book
< 200 {"data":{"data":{"labels":{"current":1,"previous":2},"versions":{"1":{"token":"a","state":"active"},"2":{"token":"b","state":"active"}}},"metadata":{"version":4}}}
> GET metadata/skald/prod/db/value
< 200 {"data":{"current_version":2,"versions":{"1":{"created_time":"2026-11-21T10:00:00Z"},"2":{"created_time":"2026-11-21T11:00:00Z"}}}}
> POST data/skald/prod/db/book {"data":{"forgotten":0,"labels":{"current":1,"pending":null,"previous":null},"versions":{"1":{"state":"active","token":"a"},"2":{"state":"retired","token":"b"}}},"options":{"cas":4}}
< 200 {"data":{"version":5}}
> POST delete/skald/prod/db/value {"versions":[2]}
< 204
> GET metadata/skald/?list=true
< 200 {"data":{"keys":["prod/"]}}
> GET metadata/skald/prod/?list=true
< 200 {"data":{"keys":["db/"]}}
> GET metadata/skald/prod/db/?list=true
< 200 {"data":{"keys":["book","value"]}}
"#,
    )
    .await;
    let (number, value) = vault.get(&name(), Which::Labelled(Label::Current)).await.unwrap();
    assert_eq!((number, value.reveal()), (1, &b"hunter2"[..]));
    vault.retire(&name(), 2).await.unwrap();
    assert_eq!(vault.list().await.unwrap(), [name()]);
    talk.await.unwrap();
}

#[tokio::test]
async fn no_error_shows_the_token_or_a_value() {
    for (answer, error) in [
        ("< 403 {\"errors\":[\"permission denied\"]}", "VaultForbidden"),
        ("< 503 {\"errors\":[\"Vault is sealed\"]}", "Transient"),
        ("< 500 hvs.a-token-nobody-may-see", "Transient"),
        ("< 200 {\"data\":\"hunter2\"}", "Permanent"),
        ("< 307 see there", "Permanent"),
    ] {
        let talk: &'static str = Box::leak(format!("> GET data/skald/prod/db/book\n{answer}\n").into_boxed_str());
        let (vault, talk) = server(talk).await;
        let failed = vault.get(&name(), Which::Number(1)).await.unwrap_err();
        assert_eq!(failed.error, error, "{failed}");
        assert!(!failed.cause.contains("hvs") && !failed.cause.contains("hunter2"), "{failed}");
        talk.await.unwrap();
        assert!(!format!("{:?}", vault.kv.settings()).contains("hvs"));
    }
}

#[tokio::test]
async fn a_real_server_keeps_the_contract() {
    let (Ok(address), Ok(token)) = (std::env::var("VAULT_ADDR"), std::env::var("VAULT_TOKEN")) else {
        eprintln!("skipped: VAULT_ADDR and VAULT_TOKEN name no server; written conversations were held instead");
        return;
    };
    let chance = hex::encode(tempfile::tempdir().unwrap().path().as_os_str().as_encoded_bytes());
    let prefix = format!("skald-test-{}", &chance[chance.len() - 12..]);
    let vault = Vault::new(Settings { prefix, ..Settings::new(address, Secret::new(token)) }).unwrap();
    contract::hold(&vault, &SecretName::new("prod/orders/database").unwrap()).await;
}
