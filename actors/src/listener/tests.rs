use std::net::{IpAddr, Ipv4Addr};

use http_body_util::Full;
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Shorter than anybody's patience here.
const SHORT: Duration = Duration::from_millis(300);
/// Longer than any story here.
const LONG: Duration = Duration::from_secs(60);
const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn bounds(head_within: Duration) -> Bounds {
    Bounds { head_within, write_within: SHORT, head_bytes: 8 << 10, headers_max: 32 }
}

struct Door {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// A door with so many places whose answer is `bytes` long; that of `/slow` never comes.
async fn door(places: usize, head_within: Duration, bytes: usize) -> Door {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let answer = move |request: Request<Incoming>, _: SocketAddr| async move {
        if request.uri().path() == "/slow" {
            std::future::pending::<()>().await;
        }
        Response::new(Full::new(Bytes::from(vec![b'x'; bytes])))
    };
    let served = tokio::spawn(serve(listener, Crowd::new(places, places), bounds(head_within), answer, async move {
        drop(stopped.await)
    }));
    Door { at, stop, served }
}

async fn connect(door: &Door) -> TcpStream {
    TcpStream::connect(door.at).await.unwrap()
}

/// Whether the other side closes within a generous bound.
async fn closes(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.is_ok()
}

async fn answers(stream: &mut TcpStream) -> bool {
    stream.write_all(WHOLE).await.unwrap();
    let mut head = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut head)).await;
    matches!(read, Ok(Ok(_))) && &head == b"HTTP/1.1 200"
}

#[tokio::test]
async fn a_head_that_never_ends_costs_its_connection() {
    let door = door(8, SHORT, 2).await;
    let mut half = connect(&door).await;
    half.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let silent = connect(&door).await;
    let mut kept = connect(&door).await;
    assert!(answers(&mut kept).await);
    assert!(closes(half).await, "half a head");
    assert!(closes(silent).await, "no head at all");
    assert!(closes(kept).await, "no second request");
}

#[tokio::test]
async fn connections_without_a_request_give_way_to_new_ones() {
    let door = door(4, LONG, 2).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut half = connect(&door).await;
        half.write_all(b"GET /").await.unwrap();
        idle.push(half);
    }
    let mut honest = connect(&door).await;
    assert!(answers(&mut honest).await);
    assert!(closes(idle.remove(0)).await, "the oldest was closed for a newer one");
}

#[tokio::test]
async fn a_request_that_is_being_answered_is_not_closed_for_another() {
    let door = door(2, LONG, 2).await;
    let mut working = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&door).await;
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        working.push(stream);
    }
    // Closed for want of a place, now or as soon as both requests are seen.
    let refused = async { while !closes(connect(&door).await).await {} };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("a third connection is closed at once");
    let mut byte = [0; 1];
    for stream in &mut working {
        let read = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await;
        assert!(read.is_err(), "it still waits for its answer");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_takes_frees_its_place() {
    let door = door(1, SHORT, 64 << 20).await;
    let mut lazy = connect(&door).await;
    lazy.write_all(WHOLE).await.unwrap();
    // It takes nothing of 64 MiB, so the only place comes free when the write is given up.
    let served = async {
        loop {
            let mut next = connect(&door).await;
            if next.write_all(WHOLE).await.is_ok() && next.read_exact(&mut [0; 12]).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), served).await.expect("somebody else is served");
    drop(lazy);
}

#[tokio::test]
async fn stopping_finishes_and_closes() {
    let door = door(8, SHORT, 2).await;
    let mut kept = connect(&door).await;
    assert!(answers(&mut kept).await);
    door.stop.send(()).unwrap();
    door.served.await.unwrap();
    assert!(closes(kept).await);
    assert!(TcpStream::connect(door.at).await.is_err());
}

#[test]
fn the_address_with_the_most_gives_way() {
    let (many, few) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
    let crowd = Crowd::new(4, 3);
    let alone = crowd.enter(few).unwrap();
    let first = crowd.enter(many).unwrap();
    let busy = first.answering();
    let second = crowd.enter(many).unwrap();
    let _third = crowd.enter(many).unwrap();
    // All places are taken: the oldest of `many` that answers nothing goes, not the lone one.
    let _fourth = crowd.enter(few).unwrap();
    let told = |place: &crowd::Place| {
        use futures::FutureExt as _;
        place.unwanted().now_or_never().is_some()
    };
    assert!(told(&second) && !told(&first) && !told(&alone));
    assert_eq!(crowd.len(), 4);
    drop(busy);
    let all_answer: Vec<_> = [&first, &alone].iter().map(|place| place.answering()).collect();
    assert_eq!(all_answer.len(), 2);
}
