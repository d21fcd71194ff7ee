//! Away from a server that is cut off from the others. It goes on answering whoever is connected to it, and nothing
//! that is sent to it gets anywhere; the client library notices only a server that is silent, and servers notice
//! each other's silence late.
//!
//! When beats are not acknowledged any more, the other servers are asked: over short connections it is looked which
//! of them hear what is sent to ours, and which hear each other. Only where most of them are can anything be agreed
//! on, so a connection moves there, and stays where it is when nobody is better off: in an election nothing moves.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, ReconnectToServer, Server, ServerAddr, Subscriber};
use futures::StreamExt as _;
use supervisor::tree::card::Card;
use tracing::{debug, warn};

use super::connect::{Bus, ConnectConfig, plain_options};

/// Beats that were not acknowledged for so long are looked into: they come several times a second and take some
/// milliseconds, on a busy disk some hundred.
const STUCK_AFTER: Duration = Duration::from_millis(700);
/// How often it is looked at the beats.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The pause after a look that led nowhere: an election takes some seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a server may take to let a scout in.
const LET_IN_WITHIN: Duration = Duration::from_millis(500);
/// How often a message is sent, and the pause between: servers tell each other of a new subscription in a
/// millisecond.
const SENT: u32 = 6;
const SENT_EVERY: Duration = Duration::from_millis(50);
/// The most servers that are asked.
const SCOUTS_MAX: usize = 8;

/// What a connection knows of where it is, and where it should go.
#[derive(Debug)]
pub(super) struct Mooring {
    config: ConnectConfig,
    /// When a beat was acknowledged last.
    acknowledged: Mutex<Instant>,
    /// Where the next connection leads.
    bound_for: Mutex<Option<ServerAddr>>,
}

impl Mooring {
    pub(super) fn new(config: ConnectConfig) -> Self {
        Self { config, acknowledged: Mutex::new(Instant::now()), bound_for: Mutex::default() }
    }

    /// A beat was acknowledged.
    pub(super) fn acknowledged(&self) {
        *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Which of `servers` the next connection is to lead to; `None`: whichever.
    pub(super) fn next(&self, servers: &[Server]) -> Option<ReconnectToServer> {
        let bound_for = self.bound_for.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let there = servers.iter().find(|server| is_same(&server.addr, &bound_for))?;
        Some(ReconnectToServer { addr: there.addr.clone(), delay: Some(Duration::ZERO) })
    }

    fn bind_for(&self, addr: ServerAddr) {
        *self.bound_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(addr);
    }
}

fn is_same(one: &ServerAddr, other: &ServerAddr) -> bool {
    one.host() == other.host() && one.port() == other.port()
}

/// Watches the beats of `bus`, and moves it and `others` that are connected to the same server.
pub(crate) async fn keep(bus: Bus, others: Vec<Bus>, card: std::sync::Arc<Card>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if bus.mooring.silent_for() < STUCK_AFTER || bus.client.connection_state() != State::Connected {
            continue;
        }
        let here = bus.client.server_info();
        let Some(there) = elsewhere(&bus).await else {
            tokio::time::sleep(AGAIN_AFTER).await;
            continue;
        };
        card.doing(format!("server {} is cut off from the others; moved to {}", here.server_name, there.host()));
        warn!(server = here.server_name, to = there.host(), "the server is cut off from the others, moving");
        for one in others.iter().chain([&bus]).filter(|one| one.client.server_info().server_id == here.server_id) {
            one.mooring.bind_for(there.clone());
            if let Err(error) = one.client.force_reconnect().await {
                debug!(%error, "a connection could not be moved");
            }
        }
        // Whatever comes of it is seen by the beats.
        bus.mooring.acknowledged();
    }
}

/// Where most servers are, when ours is not with them.
async fn elsewhere(bus: &Bus) -> Option<ServerAddr> {
    let here = bus.client.server_info().server_id;
    let pool = bus.client.server_pool().await.ok().filter(|pool| pool.len() > 1)?;
    let asked = pool.into_iter().take(SCOUTS_MAX).map(|server| Scout::send(&bus.mooring.config, server.addr));
    let mut scouts: Vec<Scout> = Vec::new();
    for scout in futures::future::join_all(asked).await.into_iter().flatten() {
        if scout.id != here && scouts.iter().all(|known| known.id != scout.id) {
            scouts.push(scout);
        }
    }
    if scouts.is_empty() {
        return None;
    }
    let subject = format!("{}.scout.{}", bus.inbox(), uuid::Uuid::new_v4().simple());
    for scout in &mut scouts {
        scout.listen(&subject).await;
    }
    for _ in 0..SENT {
        let clients = [&bus.client].into_iter().chain(scouts.iter().map(|scout| &scout.client));
        for (number, client) in clients.enumerate() {
            let word = client.publish(subject.clone(), number.to_string().into());
            let _ = tokio::time::timeout(SENT_EVERY, word).await;
        }
        tokio::time::sleep(SENT_EVERY).await;
    }
    let heard: Vec<_> = scouts.iter_mut().map(Scout::heard).collect();
    let there = decide(&heard)?;
    Some(scouts.swap_remove(there).addr)
}

/// A short connection to one server.
struct Scout {
    addr: ServerAddr,
    id: String,
    client: Client,
    listening: Option<Subscriber>,
}

impl Scout {
    async fn send(config: &ConnectConfig, addr: ServerAddr) -> Option<Self> {
        let config = ConnectConfig { name: format!("{} looks around", config.name), ..config.clone() };
        let options = plain_options(&config).await.ok()?.event_callback(|_| async {});
        // It is to be at this server or nowhere.
        let options = options.ignore_discovered_servers().max_reconnects(1);
        let client = tokio::time::timeout(LET_IN_WITHIN, options.connect(addr.clone())).await.ok()?.ok()?;
        let id = client.server_info().server_id;
        Some(Self { addr, id, client, listening: None })
    }

    async fn listen(&mut self, subject: &str) {
        self.listening = self.client.subscribe(subject.to_owned()).await.ok();
        let _ = tokio::time::timeout(LET_IN_WITHIN, self.client.flush()).await;
    }

    /// Whose messages came, by their numbers.
    fn heard(&mut self) -> BTreeSet<usize> {
        let mut heard = BTreeSet::new();
        let Some(listening) = &mut self.listening else { return heard };
        while let Some(Some(message)) = futures::FutureExt::now_or_never(listening.next()) {
            heard.extend(std::str::from_utf8(&message.payload).ok().and_then(|number| number.parse::<usize>().ok()));
        }
        heard
    }
}

/// Which scout's server is with most of all servers, when ours is not. `heard[n]` says whose messages came to scout
/// `n`: ours is 0, and that of scout `n` is `n + 1`.
fn decide(heard: &[BTreeSet<usize>]) -> Option<usize> {
    let servers = heard.len() + 1;
    let most = servers / 2 + 1;
    let with = |sender: usize| {
        let others = heard.iter().enumerate().filter(|(number, _)| number + 1 != sender);
        1 + others.filter(|(_, heard)| heard.contains(&sender)).count()
    };
    if with(0) >= most {
        return None;
    }
    let best = (1..=heard.len()).filter(|sender| with(*sender) >= most).max_by_key(|sender| with(*sender))?;
    Some(best - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_only_to_where_most_are() {
        for (heard, to, story) in [
            (&[&[0, 1, 2][..], &[0, 1, 2]][..], None, "all is well"),
            (&[&[1, 2], &[1, 2]], Some(1), "ours is cut off"),
            (&[&[0, 1], &[2]], None, "one other is cut off"),
            (&[&[1], &[2]], None, "everybody is"),
            (&[&[1]], None, "of two nobody is more than the other"),
            (&[], None, "there is no other"),
            (&[&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]], Some(3), "one of five"),
            (&[&[0, 1], &[2, 3, 4], &[2, 3, 4], &[2, 3, 4]], Some(3), "two of five"),
            (&[&[0, 1, 2], &[0, 1, 2], &[3, 4], &[3, 4]], None, "with most of five"),
        ] {
            let heard: Vec<BTreeSet<usize>> = heard.iter().map(|one| one.iter().copied().collect()).collect();
            assert_eq!(decide(&heard), to, "{story}");
        }
    }
}
