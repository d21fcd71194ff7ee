//! One GET over plain HTTP to one address, with a bound on all that comes back.
//!
//! Deliberately absent: names, redirects, proxies, TLS and kept connections. Whoever calls has
//! checked the address, and nothing an answer says leads to another. Time is bounded by the caller.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The largest head of an answer, in bytes: eight times what servers send.
const HEAD_MAX_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path cannot stand in a request.
    #[error("{0:?} is no path")]
    Path(String),
    /// This machine has no room for another connection; it says nothing about the other side.
    #[error("this machine has no room for another connection")]
    NoRoom(#[source] io::Error),
    /// There is no connection.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// It is no HTTP, or ended in the middle.
    #[error("no proper answer: {0}")]
    Answer(#[source] hyper::Error),
    /// The body has more bytes than were asked for, or ended in the middle.
    #[error("no proper body: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Connects. What is lacking here is told from what is lacking there.
pub async fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    TcpStream::connect(address).await.map_err(|error| match error.raw_os_error() {
        // No descriptors (of ours, of all) and no ports left.
        Some(code) if NO_ROOM.map(rustix::io::Errno::raw_os_error).contains(&code) => Error::NoRoom(error),
        Some(_) | None => Error::Connect(error),
    })
}

const NO_ROOM: [rustix::io::Errno; 4] =
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::ADDRNOTAVAIL, rustix::io::Errno::NOBUFS];

/// The status that `path` at `address` answers with. The body is left where it is.
pub async fn status(address: SocketAddr, path: &str) -> Result<StatusCode, Error> {
    exchange(address, path, "*/*", None).await.map(|(status, _)| status)
}

/// The same, with a body of up to `max` bytes.
pub async fn get(address: SocketAddr, path: &str, accept: &str, max: usize) -> Result<(StatusCode, Bytes), Error> {
    exchange(address, path, accept, Some(max)).await
}

async fn exchange(
    address: SocketAddr,
    path: &str,
    accept: &str,
    body: Option<usize>,
) -> Result<(StatusCode, Bytes), Error> {
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, "skald")
        .header(ACCEPT, accept)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Error::Path(path.to_owned()))?;
    let stream = connect(address).await?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Error::Answer)?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(Error::Answer)?;
        let status = answer.status();
        let Some(max) = body else { return Ok((status, Bytes::new())) };
        let body = Limited::new(answer.into_body(), max).collect().await.map_err(Error::Body)?;
        Ok((status, body.to_bytes()))
    };
    let (mut asked, connection) = (pin!(asked), pin!(connection));
    // The connection moves only while it is asked to; it may end before all it brought is read.
    tokio::select! {
        biased;
        answer = &mut asked => return answer,
        _ = connection => {}
    }
    asked.await
}
