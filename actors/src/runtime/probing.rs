//! Asking a replica whether it is well (R002: one contract for all workloads).

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::model::Fault;
use super::model::fault;
use super::model::probe::{TEXT_MAX_BYTES, TIMEOUT, TIMEOUT_MAX};

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
        match tokio::time::timeout(within, get(address, &probe.path)).await {
            Ok(Ok(200..=399)) => Ok(()),
            Ok(Ok(status)) => Err(format!("GET {} answered {status}", probe.path)),
            Ok(Err(why)) => Err(format!("GET {}: {why}", probe.path)),
            Err(_) => Err(format!("GET {} took longer than {} ms", probe.path, probe.timeout_ms)),
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<u16, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, "skald-probe")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    tokio::select! {
        answer = sender.send_request(request) => {
            answer.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
        }
        // It only moves bytes; when it ends first, there is no answer.
        ended = connection => Err(ended.err().map_or_else(|| "it closed the connection".into(), |error| error.to_string())),
    }
}
