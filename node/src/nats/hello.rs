//! What servers say of themselves before anybody says who they are: the first line of a connection.
//! A client is told by the one server that it is connected to, and messages go through others as well.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

/// How long a server may take to say it. One that speaks TLS first says nothing, and one that is away is
/// asked no further.
const WITHIN: Duration = Duration::from_millis(500);
/// The longest first line.
const LINE_MAX_BYTES: u64 = 64 * 1024;
/// NATS's port.
const PORT: u16 = 4222;

#[derive(Deserialize)]
struct Info {
    max_payload: usize,
}

/// The least that one of the servers carries in one message; `None` when none of them says.
pub(super) async fn least_payload(servers: impl Iterator<Item = impl AsRef<str>>) -> Option<usize> {
    let addresses: BTreeSet<String> = servers.filter_map(|server| address(server.as_ref())).collect();
    let asked = addresses
        .into_iter()
        .map(|address| async move { tokio::time::timeout(WITHIN, max_payload(&address)).await.ok().flatten() });
    futures::future::join_all(asked).await.into_iter().flatten().min()
}

async fn max_payload(address: &str) -> Option<usize> {
    let stream = TcpStream::connect(address).await.ok()?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX_BYTES)).read_line(&mut line).await.ok()?;
    let info: Info = serde_json::from_str(line.strip_prefix("INFO ")?.trim_end()).ok()?;
    Some(info.max_payload)
}

/// Host and port of `nats://user:password@host:port`, of which all but the host may be missing.
fn address(server: &str) -> Option<String> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let rest = rest.split('/').next()?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(before, port)| port.parse::<u16>().is_ok() && (!before.contains(':') || before.ends_with(']')));
    match (host.is_empty(), has_port) {
        (true, _) => None,
        (false, true) => Some(host.to_owned()),
        (false, false) => Some(format!("{host}:{PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_is_read_from_every_form() {
        for (server, host) in [
            ("nats://10.0.0.1:4333", Some("10.0.0.1:4333")),
            ("tls://ann:s3cret@nats.example.org", Some("nats.example.org:4222")),
            ("localhost", Some("localhost:4222")),
            ("nats://[::1]:4223", Some("[::1]:4223")),
            ("nats://[::1]", Some("[::1]:4222")),
            ("", None),
        ] {
            assert_eq!(address(server).as_deref(), host, "{server}");
        }
    }

    #[tokio::test]
    async fn the_least_that_a_server_carries_counts() {
        let mut servers = vec!["127.0.0.1:1".to_owned()];
        for said in ["INFO {\"max_payload\":8388608}\r\n", "INFO {\"max_payload\":1048576}\r\n", "HTTP/1.1 400\r\n"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            servers.push(format!("nats://{}", listener.local_addr().unwrap()));
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(said.as_bytes()).await.unwrap();
            });
        }
        assert_eq!(least_payload(servers.iter()).await, Some(1_048_576));
        assert_eq!(least_payload(std::iter::empty::<&str>()).await, None);
    }
}
