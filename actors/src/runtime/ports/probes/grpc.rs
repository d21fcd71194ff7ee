//! Asks the gRPC health service (`grpc.health.v1.Health/Check`) over HTTP/2 without TLS.
//!
//! Two messages of one field each do not need a compiler for them: the request is a text with
//! number 1, the answer an enumeration with number 1.

use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, TE, USER_AGENT};
use hyper::http::HeaderValue;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use supervisor::activity::Failure;

use super::Answer;
use super::local::unanswered;
use crate::runtime::ports::http_get::{self, Error};

/// The longest answer, in bytes: it has seven.
const ANSWER_MAX_BYTES: usize = 4 << 10;
/// The largest headers, in bytes.
const HEADERS_MAX_BYTES: u32 = 16 << 10;

/// Asks about `service`; empty: about the server.
pub async fn check(address: SocketAddr, service: &str) -> Result<Answer, Failure> {
    match asked(address, service).await {
        Ok(answer) => Ok(answer),
        Err(error) => unanswered(error),
    }
}

async fn asked(address: SocketAddr, service: &str) -> Result<Answer, Error> {
    let uri = format!("http://{address}/grpc.health.v1.Health/Check");
    let request = Request::post(&uri)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "grpc-skald")
        .body(Full::new(message(service)))
        .map_err(|_| Error::Path(uri))?;
    let stream = http_get::connect(address).await?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(HEADERS_MAX_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Error::Answer)?;
    let asked = async move {
        let answer = sender.send_request(request).await.map_err(Error::Answer)?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Ok(Answer::unwell(format_args!("it answered with {}", head.status.as_u16())));
        }
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await.map_err(Error::Body)?;
        // An answer without a message has the status in its head.
        let status = body.trailers().and_then(status).or_else(|| status(&head.headers));
        Ok(meaning(status, &body.to_bytes()))
    };
    let (mut asked, connection) = (pin!(asked), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut asked => return answer,
        _ = connection => {}
    }
    asked.await
}

fn status(headers: &HeaderMap<HeaderValue>) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What the status and the message say.
fn meaning(status: Option<u32>, body: &[u8]) -> Answer {
    match status {
        Some(0) => match serving(body) {
            Some(1) => Answer::Well,
            Some(0) => Answer::unwell("its health is UNKNOWN"),
            Some(2) => Answer::unwell("its health is NOT_SERVING"),
            Some(3) => Answer::unwell("its health is SERVICE_UNKNOWN"),
            Some(other) => Answer::unwell(format_args!("its health is {other}, which means nothing")),
            None => Answer::unwell("its answer is no health of gRPC"),
        },
        Some(5) => Answer::unwell("it does not know the service (gRPC status 5)"),
        Some(12) => Answer::unwell("it has no health service (gRPC status 12)"),
        Some(other) => Answer::unwell(format_args!("it answered with gRPC status {other}")),
        None => Answer::unwell("its answer has no gRPC status"),
    }
}

/// The request: not compressed, its length, and the service's name as field 1, unless it is empty.
fn message(service: &str) -> Bytes {
    let mut fields = Vec::new();
    if !service.is_empty() {
        fields.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            fields.push(length as u8 | 0x80);
            length >>= 7;
        }
        fields.push(length as u8);
        fields.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(fields.len() as u32).to_be_bytes());
    framed.extend(fields);
    framed.into()
}

/// Field 1 of the one message in `body`; an absent field is 0.
fn serving(body: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = body.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || rest.len() != length as usize {
        return None;
    }
    let mut found = 0;
    while !rest.is_empty() {
        let key = number(&mut rest)?;
        match key & 7 {
            0 if key >> 3 == 1 => found = number(&mut rest)?,
            0 => drop(number(&mut rest)?),
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(found)
}

/// A number of protobuf: seven bits per byte, the lowest first.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_those_of_the_health_service() {
        assert_eq!(message("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(message("foo").as_ref(), [0, 0, 0, 0, 5, 0x0a, 3, b'f', b'o', b'o']);
        assert_eq!(&message(&"x".repeat(300))[4..8], [47, 0x0a, 0xac, 2], "303 bytes, of which 300 are the name");
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving(&[0, 0, 0, 0, 0]), Some(0));
        // Fields that a later release may add.
        assert_eq!(serving(&[0, 0, 0, 0, 9, 0x12, 1, b'x', 0x1d, 1, 2, 3, 4, 8]), None);
        assert_eq!(serving(&[0, 0, 0, 0, 10, 0x12, 1, b'x', 0x1d, 1, 2, 3, 4, 8, 1]), Some(1));
        for bad in
            [&[][..], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 3, 8, 1], &[0, 0, 0, 0, 1, 8], &[0, 0, 0, 0, 1, 0xff]]
        {
            assert_eq!(serving(bad), None, "{bad:?}");
        }
    }
}
