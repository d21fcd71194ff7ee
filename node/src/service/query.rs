//! Questions about the runtime, for this node or for all.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use protocol::codec::Format;
use protocol::command::List;
use protocol::query::{Answer, Body, HealthView, Query, ShardView};
use protocol::view::SagaRow;
use protocol::{NodeId, Principal, Problem, Tenant, Time, Value, subjects};
use serde_json::json;
use supervisor::tree::card::Card;
use supervisor::tree::root::Shards;
use supervisor::tree::shard::Message;

use crate::nats::Bus;

/// How long the other nodes may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one shard may take to answer a question; a shard that is stuck must not hide the rest.
const SHARD_PATIENCE: Duration = Duration::from_millis(1_000);
/// Rows of a list unless asked for another number.
const ROWS: usize = 100;

/// What is known about this node from its start.
pub struct About {
    /// The server's name and version.
    pub server: String,
    /// When the server fsyncs, in words; filled in by a check that goes on in the background.
    pub sync: std::sync::Mutex<String>,
    /// Replicas of the journal.
    pub replicas: u32,
    /// When the node started.
    pub since: Time,
}

/// Answers questions.
pub struct QueryService {
    /// This node.
    pub node: NodeId,
    /// Shards of the cluster.
    pub shards: u16,
    /// Where shards are.
    pub places: Arc<Shards>,
    /// The root's card; set when the tree stands.
    pub root: std::sync::OnceLock<Arc<Card>>,
    /// The bus.
    pub bus: Bus,
    /// Facts of this node.
    pub about: About,
}

impl QueryService {
    /// This node's answer.
    pub async fn here(&self, query: &Query) -> Answer {
        let body = match query {
            Query::Tree => self.root.get().map_or(Body::Nothing, |root| Body::Actor(Box::new(root.view()))),
            Query::Actor { path } => {
                let found = self.root.get().and_then(|root| root.find(path));
                found.map_or(Body::Nothing, |card| Body::Actor(Box::new(card.view())))
            }
            Query::Owners => Body::Owners(self.owners().await),
            Query::Sagas { tenant, by, list } => Body::Sagas(self.rows(tenant, by.as_ref(), list).await),
            Query::Health => Body::Health(self.health()),
        };
        Answer { node: self.node.clone(), body }
    }

    /// Every live node's answer; ours without a detour. A node that does not answer in time is
    /// missing.
    pub async fn everywhere(&self, query: &Query) -> Vec<Answer> {
        let body = bytes::Bytes::from(Format::Json.write(query));
        let others = self.places.live().into_iter().filter(|node| *node != self.node).map(|node| {
            let (client, body) = (self.bus.client.clone(), body.clone());
            async move {
                let request = async_nats::Request::new().payload(body).timeout(Some(PATIENCE));
                let message = client.send_request(subjects::node(&node), request).await.ok()?;
                serde_json::from_slice::<Answer>(&message.payload).ok()
            }
        });
        let (here, others) = futures::join!(self.here(query), futures::future::join_all(others));
        let mut all: Vec<Answer> = std::iter::once(here).chain(others.into_iter().flatten()).collect();
        all.sort_by(|a, b| a.node.cmp(&b.node));
        all
    }

    /// The tenant's sagas over all nodes that `by` may view, newest first.
    pub async fn list(&self, tenant: Tenant, by: Principal, list: List) -> Result<Value, Problem> {
        let limit = list.limit.unwrap_or(ROWS);
        let mut rows: Vec<SagaRow> = Vec::new();
        for answer in self.everywhere(&Query::Sagas { tenant, by: Some(by), list }).await {
            if let Body::Sagas(more) = answer.body {
                rows.extend(more);
            }
        }
        rows.sort_by(|a, b| b.changed_at.cmp(&a.changed_at).then_with(|| a.saga.cmp(&b.saga)));
        rows.truncate(limit);
        Ok(json!({ "sagas": rows }))
    }

    async fn rows(&self, tenant: &Tenant, by: Option<&Principal>, list: &List) -> Vec<SagaRow> {
        let asked = self.places.all_local().into_iter().map(|(_, shard)| {
            let (tell, told) = tokio::sync::oneshot::channel();
            shard.tell(Message::List(tenant.clone(), by.cloned(), list.clone(), tell));
            tokio::time::timeout(SHARD_PATIENCE, told)
        });
        futures::future::join_all(asked).await.into_iter().flatten().flatten().flatten().collect()
    }

    async fn owners(&self) -> Vec<ShardView> {
        let asked = self.places.all_local().into_iter().map(|(_, shard)| {
            let (tell, told) = tokio::sync::oneshot::channel();
            shard.tell(Message::View(tell));
            tokio::time::timeout(SHARD_PATIENCE, told)
        });
        futures::future::join_all(asked).await.into_iter().flatten().flatten().collect()
    }

    fn health(&self) -> HealthView {
        let mut troubles = Vec::new();
        let unowned: Vec<u16> =
            (0..self.shards).filter(|shard| self.places.owner(protocol::ShardId(*shard)).is_none()).collect();
        if !unowned.is_empty() {
            troubles.push(format!("shards without an owner: {unowned:?}"));
        }
        let connected = self.bus.client.connection_state() == async_nats::connection::State::Connected;
        if !connected {
            troubles.push("NATS cannot be reached".into());
        }
        let sync = self.about.sync.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if sync.starts_with("every") {
            troubles.push(format!("the server fsyncs {sync}"));
        }
        HealthView {
            ready: connected && unowned.is_empty(),
            version: env!("CARGO_PKG_VERSION").into(),
            server: self.about.server.clone(),
            sync,
            replicas: self.about.replicas,
            members: self.places.live().iter().map(ToString::to_string).collect(),
            shards: self.places.all_local().iter().map(|(shard, _)| shard.0).collect(),
            troubles,
            since: self.about.since,
        }
    }

    /// Listens for questions until the connection ends.
    pub async fn serve(self: Arc<Self>) -> Result<(), async_nats::SubscribeError> {
        let all = self.bus.client.subscribe(subjects::CLUSTER_QUERY).await?;
        let ours = self.bus.client.subscribe(subjects::node(&self.node)).await?;
        let mut questions = futures::stream::select(all, ours);
        while let Some(message) = questions.next().await {
            let Some(reply) = message.reply.filter(|reply| self.bus.may_answer_peer(reply)) else { continue };
            let this = self.clone();
            tokio::spawn(async move {
                let answer = match Format::Json.read::<Query>(&message.payload) {
                    Ok(query) => Format::Json.write(&this.here(&query).await),
                    Err(problem) => Format::Json.write(&protocol::command::Refused { error: problem }),
                };
                // Whoever asked may be gone.
                let _ = this.bus.client.publish(reply, answer.into()).await;
            });
        }
        Ok(())
    }
}
