//! The event tail: an ordered consumer, which keeps nothing on the server and starts over by itself
//! where it was when the connection breaks.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures::StreamExt as _;
use protocol::{Envelope, subjects};

use super::{Client, Error};

/// The stream that holds all events.
pub const EVENT_STREAM: &str = "SKALD_EVENTS";

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
    messages: pull::Ordered,
    /// How many events were there when the tail began, and are still to come before it is live.
    pub backlog: u64,
}

impl Client {
    /// Follows the tenant's events, or those of one type.
    pub async fn events(&self, since: Since, event_type: Option<&str>) -> Result<EventTail, Error> {
        let unreadable = |why: String| Error::Unreadable { what: "events".into(), why };
        let deliver_policy = match since {
            Since::Now => DeliverPolicy::New,
            Since::Beginning => DeliverPolicy::All,
            Since::Ago(ago) => DeliverPolicy::ByStartTime { start_time: (std::time::SystemTime::now() - ago).into() },
        };
        let stream = jetstream::new(self.nats.clone()).get_stream(EVENT_STREAM).await.map_err(|error| {
            if error.to_string().contains("not found") {
                Error::NoNode { what: "events".into(), server: self.server() }
            } else {
                unreadable(error.to_string())
            }
        })?;
        let filter_subject = subjects::event(&self.settings.tenant, event_type.unwrap_or(">"));
        let mut consumer = stream
            .create_consumer(pull::OrderedConfig { filter_subject, deliver_policy, ..Default::default() })
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        let backlog = consumer.info().await.map_or(0, |info| info.num_pending);
        let messages = consumer.messages().await.map_err(|error| unreadable(error.to_string()))?;
        Ok(EventTail { messages, backlog })
    }
}

impl EventTail {
    /// The next event; waits for it. `None` when the tail ended.
    pub async fn next(&mut self) -> Option<Result<Envelope, Error>> {
        let message = self.messages.next().await?;
        Some(match message {
            Ok(message) => serde_json::from_slice(&message.payload).map_err(|error| Error::Unreadable {
                what: format!("event on {}", message.subject),
                why: error.to_string(),
            }),
            Err(error) => Err(Error::Connection(error.to_string())),
        })
    }
}
