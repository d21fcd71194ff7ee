//! The event tail: pages of events, read from a node, and a word of the bus when there is more.
//!
//! It does not ask JetStream, which clients may not (see `permissions`). The word of the bus is only
//! a hint: what is told comes from the pages, in order and without gaps, also after the connection
//! broke.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use protocol::command::{EventPage, ReadEvents, name};
use protocol::{Envelope, Time, Value, subjects};

use super::{Client, Error, Repeat};
use crate::nats::names::encode;

/// The stream that holds all events.
pub const EVENT_STREAM: &str = crate::nats::EVENTS;
/// How long a tail without a hint waits before it looks all the same: hints may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// An event is heard a moment before it is kept: pauses before another look, doubling from the first
/// on for as long as an append may take.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(1_024);

/// How many ids are remembered: those of one page.
const TOLD_MAX: usize = 500;

/// Where a tail begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// Only what happens from now on.
    Now,
    /// What happened within this long, and then what happens.
    Ago(Duration),
    /// Everything that is kept.
    Beginning,
}

/// Events of one tenant in order.
pub struct EventTail {
    client: Client,
    hints: async_nats::Subscriber,
    asked: ReadEvents,
    page: VecDeque<Value>,
    /// Ids of what was read last: the bus may speak of it later.
    told: VecDeque<String>,
    left: u64,
    /// How many events were there when the tail began, and are still to come before it is live.
    pub backlog: u64,
}

impl Client {
    /// Follows the tenant's events, or those of one type.
    pub async fn events(&self, since: Since, event_type: Option<&str>) -> Result<EventTail, Error> {
        let tenant = &self.settings.tenant;
        let subject = event_type.map_or_else(|| subjects::events_of(tenant), |it| subjects::event(tenant, &encode(it)));
        let hints = self.nats.subscribe(subject).await;
        let hints = hints.map_err(|error| Error::Connection(error.to_string()))?;
        let event_type = event_type.map(str::to_owned);
        let asked = ReadEvents { event_type, ..ReadEvents::default() };
        let first = match since {
            Since::Now => ReadEvents { limit: Some(0), ..asked.clone() },
            Since::Beginning => asked.clone(),
            Since::Ago(ago) => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                let micros = i64::try_from(since.saturating_sub(ago).as_micros()).unwrap_or(i64::MAX);
                ReadEvents { since: Some(Time::from_micros(micros)), ..asked.clone() }
            }
        };
        let (page, told) = (VecDeque::new(), VecDeque::new());
        let mut tail = EventTail { client: self.clone(), hints, asked, page, told, left: 0, backlog: 0 };
        tail.look(&first).await?;
        tail.backlog = tail.left + tail.page.len() as u64;
        Ok(tail)
    }
}

impl EventTail {
    /// The next event; waits for it. `None` when the tail ended.
    pub async fn next(&mut self) -> Option<Result<Envelope, Error>> {
        let mut pause = FIRST_PAUSE;
        let mut hinted = false;
        loop {
            if let Some(event) = self.page.pop_front() {
                return Some(
                    serde_json::from_value(event)
                        .map_err(|error| Error::Unreadable { what: "event".into(), why: error.to_string() }),
                );
            }
            // One look answers all hints that are there.
            while let Some(Some(hint)) = self.hints.next().now_or_never() {
                hinted |= self.is_news(&hint);
            }
            if let Err(error) = self.look(&self.asked.clone()).await {
                return Some(Err(error));
            }
            if !self.page.is_empty() {
                continue;
            }
            if hinted && pause <= LAST_PAUSE {
                tokio::time::sleep(pause).await;
                pause *= 2;
                continue;
            }
            (pause, hinted) = match tokio::time::timeout(LOOK_EVERY, self.hints.next()).await {
                Ok(Some(hint)) => (FIRST_PAUSE, self.is_news(&hint)),
                // The subscription ends with the connection.
                Ok(None) => return None,
                Err(_) => (FIRST_PAUSE, false),
            };
        }
    }

    /// Whether a hint speaks of an event that was not read yet.
    fn is_news(&self, hint: &async_nats::Message) -> bool {
        let id = hint.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        id.is_none_or(|id| !self.told.iter().any(|told| told == id.as_str()))
    }

    async fn look(&mut self, asked: &ReadEvents) -> Result<(), Error> {
        let page: EventPage = self.client.call(name::EVENT_READ, asked, Repeat::Safe, Duration::ZERO).await?;
        self.asked.after = Some(page.after);
        self.left = page.left;
        let ids = page.events.iter().filter_map(|event| Some(event.get("eventId")?.as_str()?.to_owned()));
        self.told.extend(ids);
        self.told.drain(..self.told.len().saturating_sub(TOLD_MAX));
        self.page.extend(page.events);
        Ok(())
    }
}
