//! A client of a cluster: every command as a typed call, questions to all nodes, the event tail.
//!
//! It repeats a call only when the refusal says that nothing happened and the call is the same when
//! it happens twice. It keeps no state besides its connection.

mod answers;
mod cluster;
mod commands;
mod error;
mod events;
mod runtime;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use async_nats::header::HeaderMap;
use async_nats::{ConnectErrorKind, Event, ServerError};
use protocol::codec::{CONTENT_TYPE, Format};
use protocol::command::Refused;
use protocol::{Principal, Problem, Tenant, Value, subjects};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};

pub use answers::{Deployed, Listed, Rows, RunAnswer, Source, StartAnswer, Workers};
pub use error::Error;
pub use events::{EVENT_STREAM, EventTail, Since};

use crate::nats::denied::Denied;
use crate::nats::{About, Auth, Bus, INBOX, Tls, chain, login};
use crate::{secret, terminal};

/// How long a call waits for its answer unless told otherwise: a takeover takes a few seconds, and
/// a person waits no longer than this without a word.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to accept the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Tries of one call that is safe to repeat, the first included.
const TRIES: u32 = 6;
/// The first pause between tries; it doubles: 100, 200, 400, 800, 1600 ms outlast a takeover.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// After so much silence a call that is safe to repeat is sent again: what was on its way to a node that leaves, or
/// over a connection that is lost, nobody answers. Answers take some milliseconds, and the election of a leader as
/// long as this twice.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// How long the last try may take at least, whatever the ones before took.
const LAST_TRY: Duration = Duration::from_millis(500);

/// How to reach a cluster, and as whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses of NATS servers; a user and a password, or a token, may stand in them before `@`.
    pub servers: Vec<String>,
    /// A credentials file, if the server wants one.
    pub credentials: Option<PathBuf>,
    /// Encryption.
    pub tls: Tls,
    /// Whose data the commands touch.
    pub tenant: Tenant,
    /// Who gives them.
    pub principal: Principal,
    /// How long a call waits for its answer.
    pub timeout: Duration,
    /// Whether answers are for a person at a terminal: what could not be seen in them is named.
    pub readable: bool,
}

/// Names a message: the same in each try, so that what is tried again is done once.
const MESSAGE_ID: &str = "Nats-Msg-Id";

impl Settings {
    /// Settings for one server, as `principal` of `tenant`.
    pub fn new(server: impl Into<String>, tenant: Tenant, principal: Principal) -> Self {
        Self {
            servers: vec![server.into()],
            credentials: None,
            tls: Tls::default(),
            tenant,
            principal,
            timeout: REQUEST_TIMEOUT,
            readable: false,
        }
    }
}

/// Whether a call may be sent again after a refusal that will pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeat {
    /// The same call twice is one call.
    Safe,
    /// The caller decides.
    Never,
}

/// A connection to a cluster. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    nats: async_nats::Client,
    settings: Settings,
    denied: Arc<Denied>,
    inbox: String,
}

impl Client {
    /// Connects to the first server that answers.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        let server = secret::shown(&settings.servers);
        let file = settings.credentials.as_ref();
        let (auth, servers) = login::from_addresses(&settings.servers);
        let auth = file.map_or(auth, |file| Auth::Credentials(file.clone()));
        let about = file.map(|file| About::read(file)).unwrap_or_default();
        let inbox = match (about.inbox, about.tenant) {
            // Answers come to the inbox of whoever asks, and one user may have several principals.
            (Some(_), Some(tenant)) if tenant == settings.tenant => subjects::inbox(&tenant, &settings.principal),
            (Some(inbox), _) => inbox,
            (None, _) => INBOX.to_owned(),
        };
        let refused = |why| Error::Unauthorized { server: server.clone(), why };
        let options = login::options(&auth, &settings.tls, Some(&inbox)).await.map_err(refused)?;
        let denied = Arc::new(Denied::default());
        let heard = denied.clone();
        let options = options.name("skald client").connection_timeout(CONNECT_TIMEOUT).event_callback(move |event| {
            let heard = heard.clone();
            async move {
                if let Event::ServerError(ServerError::Other(said)) = &event {
                    heard.note(said);
                }
                tracing::debug!(%event, "NATS");
            }
        });
        let nats = options.connect(&servers[..]).await.map_err(|error| {
            let why = chain(&error);
            match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    Error::Unauthorized { server, why }
                }
                _ => Error::Unreachable { server, why },
            }
        })?;
        Ok(Self { nats, settings, denied, inbox })
    }

    /// Speaks over the connection of a node; of `settings`, the addresses name it in errors.
    pub(crate) fn over(bus: &Bus, settings: Settings) -> Self {
        let (denied, inbox) = bus.hearing();
        Self { nats: bus.client.clone(), settings, denied, inbox }
    }

    /// The connection underneath, for what is not a command.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// How this client was connected.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn server(&self) -> String {
        secret::shown(&self.settings.servers)
    }

    /// Gives one command and reads its answer; `extra` is time the command itself spends waiting.
    async fn call<B: Serialize, R: DeserializeOwned>(
        &self,
        command: &str,
        body: &B,
        repeat: Repeat,
        extra: Duration,
    ) -> Result<R, Error> {
        let body = Format::Json.write(body);
        // The same for every try: a start without a key is one start, a signal without an id one signal.
        let id = uuid::Uuid::now_v7().simple().to_string();
        let (begun, mut pause, mut tries_left) = (Instant::now(), FIRST_PAUSE, TRIES);
        loop {
            let left = self.settings.timeout.saturating_sub(begun.elapsed());
            // One that waits by itself is not lost because it is silent.
            let hedged = repeat == Repeat::Safe && extra.is_zero() && left > LOST_AFTER;
            let within = if hedged { LOST_AFTER } else { left.max(LAST_TRY) + extra };
            let error = match self.call_once(command, body.clone(), &id, within).await {
                Ok(answer) => return Ok(answer),
                Err(Error::Timeout { .. }) if hedged => continue,
                Err(error) => error,
            };
            tries_left -= 1;
            match error.passing() {
                Some(at_least_ms) if repeat == Repeat::Safe && tries_left > 0 => {
                    tokio::time::sleep(pause.max(Duration::from_millis(at_least_ms.min(5_000)))).await;
                    pause *= 2;
                }
                _ => return Err(error.waited(begun.elapsed())),
            }
        }
    }

    async fn call_once<R: DeserializeOwned>(
        &self,
        command: &str,
        body: Vec<u8>,
        id: &str,
        within: Duration,
    ) -> Result<R, Error> {
        let subject = subjects::command(&self.settings.tenant, &self.settings.principal, command);
        let message = self.ask(command, subject, (body, Some(id)), within).await?;
        read(command, message.headers.as_ref(), &message.payload, self.settings.readable)
    }

    /// One request and its answer, whatever it is about.
    pub(crate) async fn request(
        &self,
        what: &str,
        subject: String,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<async_nats::Message, Error> {
        self.ask(what, subject, (body, None), timeout).await
    }

    async fn ask(
        &self,
        what: &str,
        subject: String,
        (body, id): (Vec<u8>, Option<&str>),
        timeout: Duration,
    ) -> Result<async_nats::Message, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, Format::Json.content_type());
        if let Some(id) = id {
            headers.insert(MESSAGE_ID, id);
        }
        let request = async_nats::Request::new().headers(headers).payload(body.into()).timeout(Some(timeout));
        let begun = Instant::now();
        let sent = self.allowed(&subject, begun, self.nats.send_request(subject.clone(), request)).await?;
        sent.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Error::NoNode { what: what.to_owned(), server: self.server() },
            RequestErrorKind::TimedOut => {
                Error::Timeout { what: what.to_owned(), waited_ms: timeout.as_millis().try_into().unwrap_or(u64::MAX) }
            }
            RequestErrorKind::MaxPayloadExceeded => Error::Refused(
                Problem::new(protocol::Code::TooLarge, "the body is larger than the server carries")
                    .mend("put large data into object storage and pass its address"),
            ),
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => Error::Connection(error.to_string()),
        })
    }

    /// What `work` leads to, or that the server refuses the subject it speaks on or the inbox it
    /// hears its answer in: of that, the request itself never learns.
    async fn allowed<T>(&self, subject: &str, begun: Instant, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            done = work => Ok(done),
            said = self.denied.request(subject, &self.inbox, begun) => Err(self.not_allowed(said)),
        }
    }

    fn not_allowed(&self, said: String) -> Error {
        Error::NotAllowed {
            said,
            tenant: self.settings.tenant.clone(),
            principal: self.settings.principal.clone(),
            inbox: self.inbox.clone(),
        }
    }
}

/// Reads an answer: a refusal is `{"error": {…}}`, also told by the micro service's error headers.
fn read<R: DeserializeOwned>(what: &str, headers: Option<&HeaderMap>, body: &[u8], readable: bool) -> Result<R, Error> {
    let unreadable = |why: String| Error::Unreadable { what: what.to_owned(), why };
    let answer: Result<Value, _> = serde_json::from_slice(body).map(|mut answer| {
        if readable {
            terminal::readable_value(&mut answer);
        }
        answer
    });
    if let Ok(refused) = answer.as_ref().map_or_else(|_| Err(()), |it| Refused::deserialize(it).map_err(drop)) {
        return Err(Error::Refused(refused.error));
    }
    let header = |name| headers.and_then(|headers| headers.get(name)).map(|value| value.as_str().to_owned());
    if let Some(said) = header("Nats-Service-Error") {
        let code = header("Nats-Service-Error-Code").unwrap_or_default();
        return Err(unreadable(format!("refused with {code}: {said}")));
    }
    let answer = answer.map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_value(answer).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod on_a_server;
#[cfg(test)]
mod tests;
