//! Conversations with an API server: recorded between the adapter and a real one, and told again.
//!
//! A conversation is a file of lines, in the order of what happened: a request with its answer
//! (`asks`), a watch (`opens`, `ends`) and what it told (`event`), and what the test did behind the
//! adapter's back (`mark`); the first line says when it was (`at`). Told again, an event comes when all that stands before it has happened; a
//! request that stands nowhere is refused, and remembered as a fault.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use protocol::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    Asks { method: String, path: String, body: Value, status: u16, answer: Value },
    Opens { path: String },
    Event { path: String, event: Value },
    Ends { path: String },
    Mark,
    At { micros: i64 },
}

/// Where the other side of the conversation is.
enum Side {
    Real(Client),
    Told,
}

struct State {
    lines: Vec<Line>,
    /// Of what is told again: which lines have happened.
    done: Vec<bool>,
    /// What came and stands nowhere.
    faults: Vec<String>,
}

/// A server between the adapter and the API server, or in the place of one.
pub struct Conversation {
    /// Where it listens.
    pub address: SocketAddr,
    /// When it was had: containers that just started then must not count as old.
    pub at: Time,
    inner: Arc<Inner>,
    _task: JoinSet<()>,
}

struct Inner {
    side: Side,
    state: Mutex<State>,
    turned: watch::Sender<()>,
    cut: watch::Sender<bool>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Conversation {
    /// Passes everything on to `client`, and writes it down.
    pub async fn with(client: Client, at: Time) -> Self {
        Self::begin(Side::Real(client), vec![Line::At { micros: at.as_micros() }]).await
    }

    /// Tells `text` again.
    pub async fn told(text: &str) -> Self {
        Self::begin(Side::Told, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()).await
    }

    async fn begin(side: Side, lines: Vec<Line>) -> Self {
        // When it was is known from the beginning.
        let done = lines.iter().map(|line| matches!(line, Line::At { .. })).collect();
        let at = lines.iter().find_map(|line| match line {
            Line::At { micros } => Some(Time::from_micros(*micros)),
            Line::Asks { .. } | Line::Opens { .. } | Line::Event { .. } | Line::Ends { .. } | Line::Mark => None,
        });
        let state = Mutex::new(State { lines, done, faults: Vec::new() });
        let inner = Arc::new(Inner { side, state, turned: watch::Sender::new(()), cut: watch::Sender::new(false) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serving, mut task) = (inner.clone(), JoinSet::new());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let inner = serving.clone();
                connections.spawn(async move {
                    let mut cut = inner.cut.subscribe();
                    let answer = service_fn(|request| {
                        let inner = inner.clone();
                        async move { Ok::<_, Infallible>(inner.answer(request).await) }
                    });
                    tokio::select! {
                        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer) => {}
                        _ = cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { address, at: at.expect("a conversation says when it was"), inner, _task: task }
    }

    /// A client for the adapter.
    pub fn client(&self) -> Client {
        let url = format!("http://{}", self.address).parse().unwrap();
        // One that tries again by itself would ask more often than is written.
        let mut config = kube::Config::new(url);
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// Breaks every connection, and each new one, until it is mended.
    pub fn cut(&self, cut: bool) {
        self.inner.cut.send_replace(cut);
    }

    /// Something happens behind the adapter's back.
    pub fn mark(&self) {
        let mut state = self.inner.state.lock().unwrap();
        match &self.inner.side {
            Side::Real(_) => state.lines.push(Line::Mark),
            Side::Told => {
                let next = (0..state.lines.len()).find(|n| !state.done[*n] && matches!(state.lines[*n], Line::Mark));
                state.done[next.expect("the test did as much when it was recorded")] = true;
            }
        }
        drop(state);
        self.inner.turned.send_replace(());
    }

    /// What was written down.
    pub fn text(&self) -> String {
        let state = self.inner.state.lock().unwrap();
        state.lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
    }

    /// What came and stands nowhere.
    pub fn faults(&self) -> Vec<String> {
        self.inner.state.lock().unwrap().faults.clone()
    }
}

impl Inner {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = parts.uri.path_and_query().unwrap().to_string();
        let watches = path.contains("watch=true");
        match (&self.side, watches) {
            (Side::Real(client), _) => {
                let mut request = Request::builder().method(parts.method.clone()).uri(&path);
                for name in ["content-type", "accept"] {
                    if let Some(value) = parts.headers.get(name) {
                        request = request.header(name, value);
                    }
                }
                let asked = json_of(&body);
                let line = match watches {
                    true => Line::Opens { path: path.clone() },
                    false => Line::Asks {
                        method: parts.method.to_string(),
                        path: path.clone(),
                        body: asked,
                        status: 0,
                        answer: Value::Null,
                    },
                };
                let number = self.push(line);
                let answered = client.send(request.body(Body::from(body.to_vec())).unwrap()).await;
                let Ok(response) = answered else { return whole(502, &json!({ "message": "the server is away" })) };
                let status = response.status().as_u16();
                if watches && response.status().is_success() {
                    return stream(self.clone().passed_on(path, response));
                }
                let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let mut state = self.state.lock().unwrap();
                if let Line::Asks { status: to, answer, .. } = &mut state.lines[number] {
                    (*to, *answer) = (status, json_of(&bytes));
                }
                answer(status, Full::new(bytes).boxed_unsync())
            }
            (Side::Told, false) => self.told(parts.method.as_str(), &path, &json_of(&body)),
            (Side::Told, true) => {
                let found = self.find(|line| matches!(line, Line::Opens { path: known } if *known == path));
                match found {
                    Some(_) => stream(self.clone().told_events(path)),
                    None => self.fault(format!("watch {path}")),
                }
            }
        }
    }

    fn push(&self, line: Line) -> usize {
        let mut state = self.state.lock().unwrap();
        state.lines.push(line);
        state.lines.len() - 1
    }

    /// The first such line that has not happened; it has now.
    fn find(&self, is: impl Fn(&Line) -> bool) -> Option<Line> {
        let mut state = self.state.lock().unwrap();
        let n = (0..state.lines.len()).find(|n| !state.done[*n] && is(&state.lines[*n]))?;
        state.done[n] = true;
        let line = state.lines[n].clone();
        drop(state);
        self.turned.send_replace(());
        Some(line)
    }

    fn fault(&self, what: String) -> Answer {
        self.state.lock().unwrap().faults.push(what.clone());
        whole(
            501,
            &json!({ "kind": "Status", "status": "Failure", "code": 501, "message": format!("not in the conversation: {what}") }),
        )
    }

    fn told(&self, method: &str, path: &str, body: &Value) -> Answer {
        let is = |line: &Line| matches!(line, Line::Asks { method: m, path: p, body: b, .. } if m == method && p == path && b == body);
        match self.find(is) {
            Some(Line::Asks { status, answer, .. }) => whole(status, &answer),
            Some(_) | None => self.fault(format!("{method} {path} {body}")),
        }
    }

    /// Events of a real watch, each written down before it is passed on.
    fn passed_on(self: Arc<Self>, path: String, response: Response<Body>) -> BoxStream<'static, Bytes> {
        let frames = BodyStream::new(response.into_body());
        let state = (self, path, Box::pin(frames), Vec::<u8>::new());
        futures::stream::unfold(state, |(inner, path, mut frames, mut rest)| async move {
            loop {
                if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    inner.push(Line::Event { path: path.clone(), event: json_of(&line) });
                    return Some((Bytes::from(line), (inner, path, frames, rest)));
                }
                match frames.next().await {
                    Some(Ok(frame)) => rest.extend_from_slice(&frame.into_data().unwrap_or_default()),
                    Some(Err(_)) | None => {
                        inner.push(Line::Ends { path: path.clone() });
                        return None;
                    }
                }
            }
        })
        .boxed()
    }

    /// Events of a watch that is told again, each in its turn.
    fn told_events(self: Arc<Self>, path: String) -> BoxStream<'static, Bytes> {
        futures::stream::unfold((self, path), |(inner, path)| async move {
            let mut turned = inner.turned.subscribe();
            loop {
                if let Some(line) = inner.next_of(&path) {
                    inner.turned.send_replace(());
                    return match line {
                        Line::Event { event, .. } => Some((Bytes::from(format!("{event}\n")), (inner, path))),
                        Line::Ends { .. } | Line::Asks { .. } | Line::Opens { .. } | Line::Mark | Line::At { .. } => {
                            None
                        }
                    };
                }
                turned.changed().await.ok()?;
            }
        })
        .boxed()
    }

    /// The next line, if all before it have happened and it is one of this watch.
    fn next_of(&self, of: &str) -> Option<Line> {
        let mut state = self.state.lock().unwrap();
        let next = state.done.iter().position(|done| !done)?;
        let ours = matches!(&state.lines[next], Line::Event { path, .. } | Line::Ends { path } if path == of);
        if !ours {
            return None;
        }
        state.done[next] = true;
        Some(state.lines[next].clone())
    }
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

fn whole(status: u16, value: &Value) -> Answer {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    answer(status, Full::new(Bytes::from(text)).boxed_unsync())
}

fn answer(status: u16, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn stream(events: BoxStream<'static, Bytes>) -> Answer {
    let frames = events.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    answer(200, StreamBody::new(frames).boxed_unsync())
}
