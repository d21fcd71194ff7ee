//! The connection to NATS: made within a bound, checked once for what Skald needs, and then kept
//! by the client library through every outage.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError};

use crate::server::{OLDEST_SERVER, Version};

/// How long connecting at start may take: longer than a server's restart, short enough that a
/// wrong address is noticed by the person who started the node.
pub const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a request to JetStream may take. Acknowledgements take a millisecond; the election of
/// a new leader takes two to five seconds and should be survived.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two tries to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a freshly started server may say that nobody answers for JetStream.
const JETSTREAM_GRACE: Duration = Duration::from_secs(3);
/// A connection that is silent for two of these is given up and made anew.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How many refused subjects are remembered; a node publishes to few kinds.
const DENIED_MAX: usize = 256;

/// Who a node is to the server.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    None,
    /// A credentials file (JWT and seed).
    Credentials(PathBuf),
    /// A user and a password.
    User {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// The seed of an nkey.
    Nkey(String),
    /// A token.
    Token(String),
}

impl std::fmt::Debug for Auth {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Credentials(path) => write!(f, "Credentials({})", path.display()),
            Self::User { user, .. } => write!(f, "User({user})"),
            Self::Nkey(_) => f.write_str("Nkey"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

/// How the connection is encrypted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    /// Refuse a connection that is not encrypted.
    pub required: bool,
    /// Certificates to trust besides the system's.
    pub authorities: Option<PathBuf>,
    /// The node's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How to reach NATS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectConfig {
    /// Servers of one cluster; the first that answers is used.
    pub urls: Vec<String>,
    /// Who the node is.
    pub auth: Auth,
    /// Encryption.
    pub tls: Tls,
    /// Shown in the server's list of connections.
    pub name: String,
    /// How long to try before giving up.
    pub start_within: Duration,
    /// How long one request to JetStream may take; also how long an append waits for its
    /// acknowledgement before it counts as undecided.
    pub request_within: Duration,
}

impl ConnectConfig {
    /// Reach `urls` as nobody in particular, with the default limits.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            auth: Auth::None,
            tls: Tls::default(),
            name: "skald".into(),
            start_within: START_WITHIN,
            request_within: REQUEST_WITHIN,
        }
    }
}

/// Why there is no usable connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An address, a credentials file or a certificate cannot be read.
    #[error("the NATS settings are not usable: {0}")]
    Settings(String),
    /// The server does not let this node in.
    #[error("NATS at {urls} refuses the node ({auth:?}): check user, password, token, nkey or credentials file")]
    Refused {
        /// Where.
        urls: String,
        /// As whom.
        auth: Auth,
        /// What the client library said.
        #[source]
        source: async_nats::ConnectError,
    },
    /// Nobody answers.
    #[error("no NATS server answers at {urls} within {seconds} s: is it running, and is the address right?")]
    Unreachable {
        /// Where.
        urls: String,
        /// How long was tried.
        seconds: u64,
        /// The last try's end.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server lacks what Skald needs.
    #[error("the NATS server at {urls} is {version}; Skald needs {OLDEST_SERVER} or later: upgrade it")]
    TooOld {
        /// Where.
        urls: String,
        /// What it says it is.
        version: String,
    },
    /// The server keeps nothing.
    #[error(
        "JetStream is not available at {urls} ({why}): switch it on with a `jetstream` block in the server's configuration, and for the account the node uses"
    )]
    NoJetStream {
        /// Where.
        urls: String,
        /// What it said.
        why: String,
    },
}

/// A usable connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    /// The plain connection: requests, subscriptions, services.
    pub client: Client,
    /// The durable half.
    pub jetstream: jetstream::Context,
    /// How long one request to JetStream may take.
    pub request_within: Duration,
    denied: Arc<Denied>,
}

/// Subjects that the server refused to this connection. NATS says so asynchronously and without
/// naming the request, which itself just times out.
#[derive(Debug, Default)]
struct Denied(Mutex<HashMap<String, (Instant, String)>>);

impl Denied {
    fn note(&self, said: &str) {
        let mut quoted = said.split('"');
        let (Some(kind), Some(subject)) = (quoted.next(), quoted.next()) else { return };
        if !kind.to_ascii_lowercase().contains("permissions violation for publish") {
            return;
        }
        let mut denied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if denied.len() < DENIED_MAX || denied.contains_key(subject) {
            denied.insert(subject.to_owned(), (Instant::now(), said.to_owned()));
        }
    }
}

impl Bus {
    /// What the server said when it refused a message to `subject` after `since`.
    pub(super) fn denied(&self, subject: &str, since: Instant) -> Option<String> {
        let denied = self.denied.0.lock().unwrap_or_else(PoisonError::into_inner);
        denied.get(subject).filter(|(at, _)| *at >= since).map(|(_, said)| said.clone())
    }

    /// Which server this is connected to, and its version, for people.
    pub fn server(&self) -> String {
        let info = self.client.server_info();
        format!("{} {} at {}:{}", info.server_name, info.version, info.host, info.port)
    }
}

/// Connects, and checks that the server has what Skald needs.
pub async fn connect(config: ConnectConfig) -> Result<Bus, ConnectError> {
    let begun = Instant::now();
    let urls = config.urls.join(", ");
    let denied = Arc::new(Denied::default());
    let client = loop {
        let options = options(&config, &denied).await?;
        match options.connect(config.urls.as_slice()).await {
            Ok(client) => break client,
            Err(source) => match source.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    return Err(ConnectError::Refused { urls, auth: config.auth, source });
                }
                ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => {
                    return Err(ConnectError::Settings(format!("{urls}: {}", chain(&source))));
                }
                ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => {
                    if begun.elapsed() >= config.start_within {
                        let seconds = config.start_within.as_secs();
                        return Err(ConnectError::Unreachable { urls, seconds, source });
                    }
                    tracing::debug!(%urls, error = %source, "NATS does not answer yet");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            },
        }
    };
    let version = client.server_info().version;
    if version.parse::<Version>().is_ok_and(|version| version < OLDEST_SERVER) {
        return Err(ConnectError::TooOld { urls, version });
    }
    let mut jetstream = jetstream::new(client.clone());
    jetstream.set_timeout(config.request_within);
    while let Err(error) = jetstream.query_account().await {
        let off = matches!(&error.kind(), jetstream::context::AccountErrorKind::JetStream(error)
            if [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT].contains(&error.error_code()));
        let silent = matches!(error.kind(), jetstream::context::AccountErrorKind::JetStreamUnavailable);
        let waited = begun.elapsed();
        if off || waited >= config.start_within || (silent && waited >= JETSTREAM_GRACE) {
            return Err(ConnectError::NoJetStream { urls, why: chain(&error) });
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let bus = Bus { client, jetstream, request_within: config.request_within, denied };
    tracing::info!(server = %bus.server(), "connected to NATS");
    Ok(bus)
}

async fn options(config: &ConnectConfig, denied: &Arc<Denied>) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new();
    options = match &config.auth {
        Auth::None => options,
        Auth::Credentials(path) => options
            .credentials_file(path)
            .await
            .map_err(|error| ConnectError::Settings(format!("credentials file {}: {error}", path.display())))?,
        Auth::User { user, password } => options.user_and_password(user.clone(), password.clone()),
        Auth::Nkey(seed) => options.nkey(seed.clone()),
        Auth::Token(token) => options.token(token.clone()),
    };
    options = options.require_tls(config.tls.required);
    if let Some(path) = &config.tls.authorities {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &config.tls.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let denied = Arc::clone(denied);
    options = options.event_callback(move |event| {
        let denied = Arc::clone(&denied);
        async move {
            match event {
                Event::Connected => tracing::info!("NATS connection is up"),
                Event::Disconnected => tracing::warn!("NATS connection is lost, reconnecting"),
                Event::ServerError(ServerError::Other(said)) => {
                    denied.note(&said);
                    tracing::warn!(said, "NATS server reports an error");
                }
                other @ (Event::LameDuckMode
                | Event::Draining
                | Event::Closed
                | Event::SlowConsumer(_)
                | Event::ServerError(_)
                | Event::ClientError(_)) => tracing::warn!("NATS: {other}"),
            }
        }
    });
    Ok(options
        .name(&config.name)
        .connection_timeout(config.request_within)
        .request_timeout(Some(config.request_within))
        .ping_interval(PING_EVERY))
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_subject_is_remembered() {
        let denied = Denied::default();
        denied.note("Permissions Violation for Publish to \"skald.journal.3\"");
        denied.note("Maximum Connections Exceeded");
        assert!(denied.0.lock().unwrap().contains_key("skald.journal.3"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let auth = Auth::User { user: "ann".into(), password: "hunter2".into() };
        assert_eq!(format!("{auth:?}"), "User(ann)");
    }
}
