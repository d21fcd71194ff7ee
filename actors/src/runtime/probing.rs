//! Asking a replica whether it is well (R002: one contract for all workloads).

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::model::Fault;
use super::model::fault;
use super::model::probe::{TEXT_MAX_BYTES, TIMEOUT, TIMEOUT_MAX};
use super::ports::http_get;

/// How a service's replicas are asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthProbe {
    /// The path that is asked with GET; any status from 200 to 399 is well.
    pub path: String,
    /// How long one try may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

fn timeout_ms() -> u64 {
    u64::try_from(TIMEOUT.as_millis()).unwrap_or(1_000)
}

impl HealthProbe {
    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        fault::text("probe.path", &self.path, TEXT_MAX_BYTES)?;
        if !self.path.starts_with('/') || !self.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::new("probe.path", format!("{:?} is not a path", self.path), "begin it with /"));
        }
        fault::between("probe.timeoutMs", u128::from(self.timeout_ms), 1, TIMEOUT_MAX.as_millis())
    }
}

/// Asks replicas.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// Asks once. `Err` says what was wrong, for a person. Changes nothing.
    async fn ask(&self, address: SocketAddr, probe: &HealthProbe) -> Result<(), String>;
}

/// Asks with HTTP/1.1.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpProber;

#[async_trait]
impl Prober for HttpProber {
    async fn ask(&self, address: SocketAddr, probe: &HealthProbe) -> Result<(), String> {
        let within = Duration::from_millis(probe.timeout_ms);
        match tokio::time::timeout(within, http_get::status(address, &probe.path)).await {
            Ok(Ok(status)) if (200..=399).contains(&status.as_u16()) => Ok(()),
            Ok(Ok(status)) => Err(format!("GET {} answered {status}", probe.path)),
            Ok(Err(why)) => Err(format!("GET {}: {why}", probe.path)),
            Err(_) => Err(format!("GET {} took longer than {} ms", probe.path, probe.timeout_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What one says who answers so, and closes at once.
    async fn asked(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = [0; 1_024];
            assert!(stream.read(&mut read).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let probe = HealthProbe { path: "/health".into(), timeout_ms: 8_000 };
        tokio::join!(HttpProber.ask(address, &probe), answering).0
    }

    #[tokio::test]
    async fn an_answer_counts_whose_connection_ends_with_it() {
        // The end may be seen before the answer is.
        for _ in 0..100 {
            assert_eq!(asked("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await, Ok(()));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let ill = asked("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await.unwrap_err();
        assert_eq!(ill, "GET /health answered 500 Internal Server Error");
        let mute = asked("").await.unwrap_err();
        assert!(mute.starts_with("GET /health: no proper answer: "), "{mute}");
    }
}
