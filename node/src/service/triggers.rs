//! Events that make workers run. Every node hears them all, over plain NATS; only the node that runs
//! a worker acts. One that is lost is made good by the worker's next run by timer, so that no
//! consumer has to be kept, and acknowledged, for each worker.

use std::sync::Arc;

use async_nats::Message;
use futures::StreamExt;
use protocol::{Envelope, ShardId, subjects};
use supervisor::ports::Outbox;
use supervisor::tree::shards::Shards;
use supervisor::tree::shell::Fault;
use supervisor::tree::workers::Local;
use tracing::{debug, warn};

use crate::nats::names::encode;

/// Of all nodes, which hear the same, the owner of this shard keeps what cannot be understood.
const KEEPER: ShardId = ShardId(0);

/// Hands events to workers.
pub struct Triggers {
    /// The bus.
    pub client: async_nats::Client,
    /// Who is told.
    pub workers: Arc<Local>,
    /// Which shards this node has.
    pub shards: Arc<Shards>,
    /// Keeps what cannot be understood.
    pub outbox: Arc<dyn Outbox>,
}

impl Triggers {
    /// Listens until the connection ends.
    pub async fn serve(self: Arc<Self>) -> Result<(), Fault> {
        let mut heard = Vec::new();
        for event_type in self.workers.triggers() {
            heard.push(self.client.subscribe(subjects::events_named(&encode(&event_type))).await?);
        }
        if heard.is_empty() {
            return std::future::pending().await;
        }
        let mut heard = futures::stream::select_all(heard);
        while let Some(message) = heard.next().await {
            match understood(&message) {
                Ok(event) => {
                    debug!(event = %event.event_id, name = event.event_type, trace = %event.trace_id, "event heard");
                    self.workers.hear(&Arc::new(event));
                }
                Err(why) => self.bury(&message, &why).await,
            }
        }
        Ok(())
    }

    async fn bury(&self, message: &Message, why: &str) {
        warn!(subject = %message.subject, why, "an event cannot be understood");
        if self.shards.local(KEEPER).is_none() {
            return;
        }
        let tenant = message.subject.split('.').nth(2).unwrap_or("unknown");
        if let Err(error) = self.outbox.bury(tenant, "not-understood", why, message.payload.clone()).await {
            warn!(%error, subject = %message.subject, "a dead letter could not be kept");
        }
    }
}

/// The event, which must be of the tenant and type that its subject says.
fn understood(message: &Message) -> Result<Envelope, String> {
    let event: Envelope = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    let told = subjects::event(&event.tenant_id, &encode(&event.event_type));
    if *told == *message.subject { Ok(event) } else { Err(format!("it says of itself that it belongs on {told}")) }
}
