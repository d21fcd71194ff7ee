//! The connection to NATS: made within a bound, checked once for what Skald needs, and then kept
//! by the client library through every outage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError};

use protocol::Time;
use supervisor::ports::Clock as _;
use tokio::sync::{Semaphore, watch};

use super::denied::Denied;
use super::ground::Ground;
use super::hello;
use super::login::{self, About, Auth, INBOX, Tls};
use super::mooring::Mooring;
use super::scan;
use crate::node::SystemClock;
use crate::permissions::OBSERVER_INBOX;
use crate::secret;
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

/// How to reach NATS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectConfig {
    /// Servers of one cluster; the first that answers is used.
    pub urls: Vec<String>,
    /// Who the node is.
    pub auth: Auth,
    /// Where answers come; what the credentials file says, or `_INBOX`, when absent.
    pub inbox_prefix: Option<String>,
    /// Encryption.
    pub tls: Tls,
    /// Shown in the server's list of connections.
    pub name: String,
    /// How long to try before giving up.
    pub start_within: Duration,
    /// How long one request to JetStream may take.
    pub request_within: Duration,
}

impl ConnectConfig {
    /// Reach `urls` as nobody in particular, with the default limits.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            auth: Auth::None,
            inbox_prefix: None,
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
    #[error("NATS at {urls} refuses the node ({auth}): check user, password, token, nkey or credentials file")]
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
    /// The server lets this node in and does not let it work.
    #[error(
        "NATS at {urls} does not let this node do its work ({said}): give it the permissions that `skald nats config` writes for nodes, and its credentials"
    )]
    NotAllowed {
        /// Where.
        urls: String,
        /// What the server said.
        said: String,
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
    /// How often the connection was lost, and when last.
    lost: watch::Receiver<(u64, Option<Time>)>,
    inbox: String,
    /// Where the connection leads.
    pub(super) mooring: Arc<Mooring>,
    /// The least that any server of the cluster carried in one message when this connection was made.
    least_payload: usize,
    /// What of the streams is known to all who share the connection.
    pub(crate) ground: Arc<Ground>,
    /// Readings at once.
    pub(super) scans: Arc<Semaphore>,
}

impl Bus {
    /// What every server of the cluster carries in one message, as far as is known: any of them may be
    /// the next that this connection leads to, or that a message goes through.
    pub fn max_payload(&self) -> usize {
        self.least_payload.min(self.client.max_payload())
    }

    /// Ends when the connection that there is now is lost: an answer that was on its way will not
    /// come any more.
    pub(super) async fn lost(&self) {
        let mut lost = self.lost.clone();
        lost.mark_unchanged();
        if lost.changed().await.is_err() {
            // The client is gone, and says so to whoever asks it.
            std::future::pending().await
        }
    }

    /// How often the connection was lost, and when last.
    pub fn losses(&self) -> (u64, Option<Time>) {
        *self.lost.borrow()
    }

    /// What the server said when it refused a message to `subject` after `since`.
    pub(super) fn denied(&self, subject: &str, since: Instant) -> Option<String> {
        self.denied.publish(subject, since)
    }

    /// Whether the answer to a command of `principal` may go to `reply`, which whoever asks has chosen.
    /// Answers go out with our own permissions, so anywhere else they would be words in our name: into
    /// the journal, to a node as its peer, or to somebody who never asked. Imports of other accounts
    /// appear as `_R_`, which the server guards.
    ///
    /// Where this node has an inbox of its own, so has everybody else (`skald nats config` writes both):
    /// only what is below the asker's is answered. On a server without users nobody can be told apart,
    /// and any inbox will do.
    pub fn may_answer(&self, reply: &str, tenant: &str, principal: &str) -> bool {
        may_answer(reply, &self.inbox, &format!("{INBOX}.{tenant}.{principal}"))
    }

    /// The same for questions that only nodes and observers may put.
    pub fn may_answer_peer(&self, reply: &str) -> bool {
        reply_is_below(reply, &self.inbox) || may_answer(reply, &self.inbox, OBSERVER_INBOX)
    }

    /// What a client needs to hear its answers over this connection: the server's refusals, and the inbox.
    pub(crate) fn hearing(&self) -> (Arc<Denied>, String) {
        (self.denied.clone(), self.inbox.clone())
    }

    /// Below which subject answers to this connection come.
    pub(super) fn inbox(&self) -> &str {
        &self.inbox
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
    let urls = secret::shown(&config.urls);
    let denied = Arc::new(Denied::default());
    let (losses, lost) = watch::channel((0, None));
    let mooring = Arc::new(Mooring::new(config.clone()));
    let client = loop {
        let options = options(&config, &denied, &losses, &mooring).await?;
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
    let inbox = config.inbox_prefix.clone().or_else(|| match &config.auth {
        Auth::Credentials(file) => About::read(file).inbox,
        Auth::None | Auth::User { .. } | Auth::Nkey(_) | Auth::Token(_) => None,
    });
    let inbox = inbox.unwrap_or_else(|| INBOX.to_owned());
    let mut jetstream = jetstream::new(client.clone());
    jetstream.set_timeout(config.request_within);
    loop {
        let asked = Instant::now();
        let refused = denied.request("$JS.API.INFO", &inbox, asked);
        let error = tokio::select! {
            answer = jetstream.query_account() => match answer {
                Ok(_) => break,
                Err(error) => error,
            },
            said = refused => return Err(ConnectError::NotAllowed { urls, said }),
        };
        let off = matches!(&error.kind(), jetstream::context::AccountErrorKind::JetStream(error)
            if [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT].contains(&error.error_code()));
        let silent = matches!(error.kind(), jetstream::context::AccountErrorKind::JetStreamUnavailable);
        let waited = begun.elapsed();
        if off || waited >= config.start_within || (silent && waited >= JETSTREAM_GRACE) {
            return Err(ConnectError::NoJetStream { urls, why: chain(&error) });
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let info = client.server_info();
    let others = config.urls.iter().chain(&info.connect_urls);
    let least_payload = hello::least_payload(others).await.map_or(info.max_payload, |it| it.min(info.max_payload));
    let bus = Bus {
        client,
        jetstream,
        request_within: config.request_within,
        denied,
        lost,
        inbox,
        mooring,
        least_payload,
        ground: Arc::default(),
        scans: Arc::new(Semaphore::new(scan::AT_ONCE)),
    };
    tracing::info!(server = %bus.server(), "connected to NATS");
    Ok(bus)
}

/// Who connects, and with which patience.
pub(super) async fn plain_options(config: &ConnectConfig) -> Result<ConnectOptions, ConnectError> {
    let inbox = config.inbox_prefix.as_deref();
    let options = login::options(&config.auth, &config.tls, inbox).await.map_err(ConnectError::Settings)?;
    Ok(options
        .name(&config.name)
        .connection_timeout(config.request_within)
        .request_timeout(Some(config.request_within))
        .ping_interval(PING_EVERY))
}

async fn options(
    config: &ConnectConfig,
    denied: &Arc<Denied>,
    losses: &watch::Sender<(u64, Option<Time>)>,
    mooring: &Arc<Mooring>,
) -> Result<ConnectOptions, ConnectError> {
    let (denied, losses, mooring) = (Arc::clone(denied), losses.clone(), Arc::clone(mooring));
    let options = plain_options(config).await?.event_callback(move |event| {
        let (denied, losses) = (Arc::clone(&denied), losses.clone());
        async move {
            match event {
                Event::Connected => tracing::info!("NATS connection is up"),
                Event::Disconnected => {
                    tracing::warn!("NATS connection is lost, reconnecting");
                    losses.send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(SystemClock.now())));
                }
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
    Ok(options.reconnect_to_server_callback(move |servers, _| {
        let next = mooring.next(&servers);
        async move { next }
    }))
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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

/// See [`Bus::may_answer`]: `own` is the node's inbox, `askers` that of whoever asks.
fn may_answer(reply: &str, own: &str, askers: &str) -> bool {
    if own == INBOX {
        return reply.starts_with(INBOX) || reply.starts_with("_R_.");
    }
    reply_is_below(reply, askers) || reply.starts_with("_R_.")
}

fn reply_is_below(reply: &str, inbox: &str) -> bool {
    reply.strip_prefix(inbox).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_the_askers_own_inbox_only() {
        let (node, anns) = ("_INBOX_skald", "_INBOX.acme.ann");
        for good in ["_INBOX.acme.ann.x.y", "_INBOX.acme.ann.x", "_R_.x"] {
            assert!(may_answer(good, node, anns), "{good}");
        }
        let bad = [
            "_INBOX.acme.bob.x",
            "_INBOX.evil.ann.x",
            "_INBOX.acme.anna.x",
            "_INBOX.acme.ann",
            "_INBOX.acme.ann.",
            "_INBOX.x.y",
            "_INBOX_observer.eye.x",
            "skald.journal.0",
            "skald.cmd.acme.bob.saga.cancel",
            "$KV.skald_cluster.lease.0",
            "$JS.API.STREAM.DELETE.SKALD_EVENTS",
            "_INBOX_skald.x.y",
            "x._INBOX.acme.ann.y",
            "",
        ];
        for bad in bad {
            assert!(!may_answer(bad, node, anns), "{bad}");
        }
        // Without an inbox of its own a node cannot tell anybody apart.
        assert!(may_answer("_INBOX.x", INBOX, anns) && !may_answer("skald.journal.0", INBOX, anns));
    }
}
