//! What the event stream is known to hold of a shard's events that may be in it already: those that a
//! former owner may have sent, and those whose acknowledgement did not come. The stream itself drops
//! an id that it has seen, but only for a while, and outages are longer.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use protocol::{Envelope, EventId, ShardId, Time};
use tokio::time::Instant;

use crate::ports::{Events, Unavailable};

/// The account of one relay.
pub struct Ledger {
    shard: ShardId,
    expected: Mutex<Expected>,
    looks: tokio::sync::Mutex<Looks>,
}

/// What is looked for.
#[derive(Default)]
struct Expected {
    ids: HashSet<EventId>,
    /// When the first of them happened.
    since: Option<Time>,
}

struct Looks {
    /// The stream was read up to here.
    read_to: u64,
    /// When the last look began.
    began: Option<Instant>,
    found: HashMap<EventId, u64>,
}

impl Ledger {
    /// Looks behind the sequence `after`.
    pub fn new(shard: ShardId, after: u64) -> Self {
        let looks = Looks { read_to: after, began: None, found: HashMap::new() };
        Self { shard, expected: Mutex::default(), looks: tokio::sync::Mutex::new(looks) }
    }

    /// `event` may be in the stream: from now on it is looked for.
    pub fn expect(&self, event: &Envelope) {
        let mut expected = self.expected();
        expected.ids.insert(event.event_id.clone());
        let at = expected.since.map_or(event.occurred_at, |since| since.min(event.occurred_at));
        expected.since = Some(at);
    }

    /// It is settled.
    pub fn forget(&self, event: &Envelope) {
        self.expected().ids.remove(&event.event_id);
    }

    /// Where the stream holds an expected event, as of a look that began after `after`.
    pub async fn find(&self, events: &dyn Events, id: &EventId, after: Instant) -> Result<Option<u64>, Unavailable> {
        // One look answers everybody who waits here.
        let mut looks = self.looks.lock().await;
        if let Some(sequence) = looks.found.remove(id) {
            return Ok(Some(sequence));
        }
        if looks.began.is_some_and(|began| began > after) {
            return Ok(None);
        }
        let began = Instant::now();
        let since = self.expected().since.unwrap_or_default();
        let held = events.held(self.shard, looks.read_to, since).await?;
        looks.began = Some(began);
        looks.read_to = held.read_to;
        let expected = self.expected();
        looks.found.extend(held.events.into_iter().filter(|(id, _)| expected.ids.contains(id)));
        drop(expected);
        Ok(looks.found.remove(id))
    }

    fn expected(&self) -> std::sync::MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
