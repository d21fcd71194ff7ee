//! What every adapter of [`Prober`] must do, with real workloads on this machine.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::runtime::model::{Probe, ProbeKind};

pub fn spec(probe: Probe) -> ProbeSpec {
    ProbeSpec { timeout: Duration::from_secs(5), ..ProbeSpec::new(ProbeKind::Readiness, probe) }
}

/// The same, with a time-out that is meant to be met.
pub fn short(probe: Probe) -> ProbeSpec {
    ProbeSpec { timeout: Duration::from_millis(100), ..spec(probe) }
}

pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A workload that takes one request per connection and answers with `answer`, and then nothing.
/// Counts the requests.
pub async fn says(answer: impl Into<Vec<u8>>) -> (u16, Arc<AtomicUsize>) {
    let (listener, address) = listener().await;
    let (answer, requests): (Arc<Vec<u8>>, _) = (Arc::new(answer.into()), Arc::new(AtomicUsize::new(0)));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, counted) = (answer.clone(), counted.clone());
            tokio::spawn(async move { one(stream, &answer, &counted).await });
        }
    });
    (address.port(), requests)
}

async fn one(mut stream: TcpStream, answer: &[u8], counted: &AtomicUsize) {
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    counted.fetch_add(1, Ordering::SeqCst);
    stream.write_all(answer).await.ok();
    // It stays open: whoever wants more waits for ever.
    let _ended = stream.read(&mut buffer).await;
}

fn http(port: u16) -> Probe {
    Probe::Http { port, path: "/ready?deep=1".into() }
}

fn status(code: &str) -> String {
    format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n")
}

async fn said(prober: &dyn Prober, spec: ProbeSpec) -> String {
    match prober.probe(&Place::at(Ipv4Addr::LOCALHOST), &spec).await {
        Ok(Outcome { answer: Answer::Well, took }) => {
            assert!(took <= spec.timeout);
            "well".into()
        }
        Ok(Outcome { answer: Answer::Unwell { why }, .. }) => why,
        Err(failure) => failure.error,
    }
}

/// Holds `prober`, which may probe this machine and run commands, to the port's promises.
pub async fn hold(prober: &dyn Prober) {
    // HTTP: the status decides.
    for (code, expected) in [
        ("200", "well"),
        ("204", "well"),
        ("399", "well"),
        ("400", "it answered with 400"),
        ("404", "it answered with 404"),
        ("503", "it answered with 503"),
    ] {
        let (port, _) = says(status(code)).await;
        assert_eq!(said(prober, spec(http(port))).await, expected, "{code}");
    }
    // A redirect is well, and where it leads to is not asked: not by us, and not on our behalf.
    let (elsewhere, asked) = says(status("200")).await;
    for to in [format!("http://127.0.0.1:{elsewhere}/"), "http://169.254.169.254/latest".into()] {
        let (port, requests) = says(format!("HTTP/1.1 302 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(said(prober, spec(http(port))).await, "well");
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // A body without an end costs nothing: the status is enough.
    let (port, _) = says("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n").await;
    assert_eq!(said(prober, spec(http(port))).await, "well");
    // A head without an end is cut off.
    let (port, _) = says(format!("HTTP/1.1 200 X\r\nx: {}", "y".repeat(1 << 20))).await;
    assert!(said(prober, spec(http(port))).await.starts_with("no proper answer"));
    let (port, _) = says("secret: hunter2\r\n\r\n").await;
    let why = said(prober, spec(http(port))).await;
    assert!(why.starts_with("no proper answer") && !why.contains("hunter2"), "{why}");
    // Silence.
    let (port, _) = says("").await;
    assert_eq!(said(prober, short(http(port))).await, "no answer within 100 ms");

    // TCP: a connection is enough. Nobody there is unwell, in any protocol.
    let (open, address) = listener().await;
    assert_eq!(said(prober, spec(Probe::Tcp { port: address.port() })).await, "well");
    drop(open);
    // A port that is taken, and where nobody listens.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = closed.local_addr().unwrap().port();
    for probe in [Probe::Tcp { port }, http(port), Probe::Grpc { port, service: String::new() }] {
        let why = said(prober, spec(probe)).await;
        assert!(why.starts_with("no connection"), "{why}");
    }

    // gRPC: SERVING is well.
    grpc(prober, health_service().await).await;
    let (plain, _) = says(status("200")).await;
    let why = said(prober, spec(Probe::Grpc { port: plain, service: String::new() })).await;
    assert!(why.starts_with("no proper answer") || why.starts_with("no answer within"), "{why}");

    // Commands.
    let command = |words: &[&str]| Probe::Command { command: words.iter().map(|word| (*word).to_owned()).collect() };
    assert_eq!(said(prober, spec(command(&["true"]))).await, "well");
    assert_eq!(said(prober, spec(command(&["sh", "-c", "exit 3"]))).await, "the command ended with exit status: 3");
    assert_eq!(said(prober, short(command(&["sleep", "600"]))).await, "no answer within 100 ms");
    assert_eq!(said(prober, spec(command(&["/no/such/program"]))).await, "BadProbe");
    // Output of any size is thrown away, and what we know is not handed on.
    assert_eq!(said(prober, spec(command(&["sh", "-c", "head -c 9000000 /dev/zero"]))).await, "well");
    assert_eq!(said(prober, spec(command(&["sh", "-c", "test -z \"$HOME$CARGO_MANIFEST_DIR\""]))).await, "well");

    // What makes no sense is not asked.
    assert_eq!(said(prober, spec(Probe::Tcp { port: 0 })).await, "BadProbe");
    assert_eq!(said(prober, spec(Probe::Http { port: 80, path: "/a b".into() })).await, "BadProbe");
    let metadata = Place::at(Ipv4Addr::new(169, 254, 169, 254));
    for probe in [http(80), Probe::Tcp { port: 80 }, Probe::Grpc { port: 80, service: String::new() }] {
        assert_eq!(prober.probe(&metadata, &spec(probe)).await.unwrap_err().error, "ForbiddenAddress");
    }

    // A port may really be another one.
    let (port, _) = says(status("200")).await;
    let mut place = Place::at(Ipv4Addr::LOCALHOST);
    place.ports.insert(1, port);
    assert_eq!(prober.probe(&place, &spec(http(1))).await.unwrap().answer, Answer::Well);
}

/// Asks the health service at `port`, whose server and `orders` serve while `bills` does not.
pub async fn grpc(prober: &dyn Prober, port: u16) {
    for (service, expected) in [
        ("", "well"),
        ("orders", "well"),
        ("bills", "its health is NOT_SERVING"),
        ("nobody", "it does not know the service (gRPC status 5)"),
    ] {
        let probe = Probe::Grpc { port, service: service.into() };
        assert_eq!(said(prober, spec(probe)).await, expected, "{service:?}");
    }
}

/// A server with the health service of gRPC: the server and `orders` serve, `bills` does not.
async fn health_service() -> u16 {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(health)));
        }
    });
    address.port()
}

async fn health(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let (status, message): (u32, &[u8]) = match asked.get(7..) {
        None | Some(b"orders") => (0, &[0, 0, 0, 0, 2, 8, 1]),
        Some(b"bills") => (0, &[0, 0, 0, 0, 2, 8, 2]),
        Some(_) => (5, &[]),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    let body = Full::new(Bytes::copy_from_slice(message)).with_trailers(async { Some(Ok(trailers)) });
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
