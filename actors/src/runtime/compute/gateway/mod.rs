//! The way in: an HTTP/1.1 reverse proxy per environment, with weighted revisions and draining.
//!
//! - **Which service** ([`target`]): the host name when it begins with `SERVICE.ENVIRONMENT`, and
//!   the path stays as it is; else the first part of the path, which is then cut off.
//! - **Which revision** ([`weights`]): by weight, not by chance, among those with a ready replica.
//! - **Which replica** ([`table`]): the ready ones in turn.
//! - **When a replica fails** ([`proxy`]): a request whose connection was refused is given to
//!   another replica of the same revision, whatever its method, because nothing of it was sent. One
//!   whose connection broke before any byte of an answer came goes to another only when its method
//!   is idempotent (RFC 9110, 9.2.2) and nothing of a body was read. All others get 502.
//! - **When one environment has too many** ([`under_way`]): those above its share get 503, and nobody
//!   else notices.
//! - **When none is ready**: the request waits, within bounds, and is seen as demand. So a service
//!   scaled to zero is woken by its first request, and a single replica may be replaced.
//!
//! Deliberately absent: TLS (terminate it in front), upgrades to other protocols, HTTP/2, caching,
//! compression, and any judgement of health beyond "it accepts connections".

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::listener::{self as doors, Crowd};

mod body;
pub mod listener;
mod proxy;
pub mod table;
mod target;
mod under_way;
mod weights;

pub use listener::Gateway;
pub use table::{Call, Calls, Table};
pub use under_way::UnderWay;

/// The bounds of a gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the gateway of an environment listens. One that is not named here takes a free port
    /// on loopback when it is first used, and keeps it.
    pub listen: BTreeMap<String, SocketAddr>,
    /// Who hears of services that are called while none of their replicas is ready.
    pub calls: Option<Calls>,
    /// The longest head of a request or an answer, in bytes: large cookies fit, nothing else needs
    /// as much. At least 8 KiB.
    pub header_bytes: usize,
    /// Lines in such a head.
    pub headers_max: usize,
    /// How long a client may take to send its head, or to begin the next request.
    pub header_time: Duration,
    /// How long a replica may take to begin its answer; then 504. The answer's body may take any
    /// time.
    pub answer_time: Duration,
    /// How long connecting to a replica may take. They are on this machine.
    pub connect_time: Duration,
    /// How long a client may take nothing of an answer.
    pub write_time: Duration,
    /// The connections to all gateways of the node together.
    pub crowd: Crowd,
    /// The requests under way to all gateways of the node together.
    pub under_way: UnderWay,
    /// Requests per service that wait for a ready replica; one more gets 503.
    pub waiting_max: usize,
    /// How long each of them waits; then 503. Long enough to start most workloads.
    pub waiting_time: Duration,
    /// Replicas that one request is tried on.
    pub tries: u32,
    /// How long an unused connection to a replica is kept. Servers close theirs after 5 s and more.
    pub idle_time: Duration,
}

/// Connections at a time to all gateways of a node: what a process of 4,096 descriptors can carry
/// beside everything else, as each takes two. Beyond it, the connection that has asked for nothing for
/// the longest is closed for a new one.
const CONNECTIONS_MAX: usize = 1_024;
/// Which part of the process's descriptors these connections may be: with the one to the replica,
/// each takes two.
const DESCRIPTORS_SHARE: usize = 4;

impl Settings {
    /// What a listener of these settings takes.
    fn bounds(&self) -> doors::Bounds {
        doors::Bounds {
            head_within: self.header_time,
            write_within: self.write_time,
            head_bytes: self.header_bytes,
            headers_max: self.headers_max,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let crowd = Crowd::within(CONNECTIONS_MAX, Some(CONNECTIONS_MAX), DESCRIPTORS_SHARE);
        Self {
            listen: BTreeMap::new(),
            calls: None,
            header_bytes: 64 << 10,
            headers_max: 128,
            header_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(60),
            connect_time: Duration::from_secs(2),
            write_time: Duration::from_secs(30),
            under_way: UnderWay::new(crowd.most()),
            crowd,
            waiting_max: 256,
            waiting_time: Duration::from_secs(30),
            tries: 3,
            idle_time: Duration::from_secs(4),
        }
    }
}
