//! Who is connected to a listener, and who gives way when there is no place left.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::descriptors::descriptors;

/// The connections of one listener.
#[derive(Clone, Debug)]
pub struct Crowd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    most: usize,
    per_peer: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came.
    connections: BTreeMap<u64, Connection>,
    peers: HashMap<IpAddr, usize>,
    last: u64,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    answering: usize,
    close: Arc<Notify>,
}

/// One connection's place; free again when every copy of it is dropped.
#[derive(Clone, Debug)]
pub struct Place(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    crowd: Arc<Inner>,
    number: u64,
    close: Arc<Notify>,
}

/// A request is being answered, until this is dropped.
#[derive(Debug)]
pub struct Answering(Arc<Seat>);

impl Crowd {
    /// Places for `most` connections, `per_peer` of them for one address. A proxy in front is one address.
    pub fn new(most: usize, per_peer: usize) -> Self {
        Self { inner: Arc::new(Inner { most, per_peer, state: Mutex::default() }) }
    }

    /// The same, but no more than one in `share` of the files that the process may have open. Half of the
    /// places are for one address where nobody says how many, so that it cannot take them all.
    pub fn within(most: usize, per_peer: Option<usize>, share: usize) -> Self {
        let room = usize::try_from(descriptors()).unwrap_or(usize::MAX) / share.max(1);
        let most = most.min(room.max(1));
        Self::new(most, per_peer.unwrap_or_else(|| (most / 2).max(1)))
    }

    /// A place for a connection from `peer`. If none is free, the quietest connection has to close:
    /// of `peer` where that has all it may, else of the address with the most. `None`: every one that
    /// could close is answering a request.
    pub fn enter(&self, peer: IpAddr) -> Option<Place> {
        let mut state = self.inner.lock();
        if state.peers.get(&peer).is_some_and(|held| *held >= self.inner.per_peer) {
            state.dismiss(peer)?;
        } else if state.connections.len() >= self.inner.most {
            let mut crowded: Vec<(usize, IpAddr)> = state.peers.iter().map(|(peer, held)| (*held, *peer)).collect();
            crowded.sort_unstable_by(|a, b| b.cmp(a));
            crowded.into_iter().find_map(|(_, peer)| state.dismiss(peer))?;
        }
        state.last += 1;
        let (number, close) = (state.last, Arc::new(Notify::new()));
        state.connections.insert(number, Connection { peer, answering: 0, close: close.clone() });
        *state.peers.entry(peer).or_default() += 1;
        drop(state);
        Some(Place(Arc::new(Seat { crowd: self.inner.clone(), number, close })))
    }

    /// How many places there are.
    pub fn most(&self) -> usize {
        self.inner.most
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.inner.lock().connections.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells the quietest connection of `peer` to close, and forgets it.
    fn dismiss(&mut self, peer: IpAddr) -> Option<()> {
        let quiet = |(_, it): &(&u64, &Connection)| it.peer == peer && it.answering == 0;
        let number = *self.connections.iter().find(quiet)?.0;
        self.leave(number);
        Some(())
    }

    fn leave(&mut self, number: u64) {
        let Some(gone) = self.connections.remove(&number) else { return };
        gone.close.notify_one();
        if let Some(held) = self.peers.get_mut(&gone.peer) {
            *held -= 1;
            if *held == 0 {
                self.peers.remove(&gone.peer);
            }
        }
    }
}

impl Place {
    /// Ends when the connection is to close for another one.
    pub async fn unwanted(&self) {
        self.0.close.notified().await;
    }

    /// From now on until the answer is dropped, the connection does not give way.
    pub fn answering(&self) -> Answering {
        self.0.count(|answering| answering + 1);
        Answering(self.0.clone())
    }
}

impl Seat {
    fn count(&self, change: impl FnOnce(usize) -> usize) {
        if let Some(connection) = self.crowd.lock().connections.get_mut(&self.number) {
            connection.answering = change(connection.answering);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.count(|answering| answering.saturating_sub(1));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.lock().leave(self.number);
    }
}
