//! Questions about the runtime, for this node or for all.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use protocol::codec::Format;
use protocol::command::{List, ListWorkers, Refused};
use protocol::query::{Answer, Body, HealthView, Query};
use protocol::{Code, NodeId, Principal, Problem, Tenant, Time, Value, subjects};
use supervisor::ports::Clock as _;
use supervisor::tree::card::Card;
use supervisor::tree::engine::Engine;
use supervisor::tree::pulse::Pulse;
use supervisor::tree::root::Shards;
use supervisor::tree::shard::Message;
use supervisor::tree::workers::Local;
use tokio::sync::oneshot;

use super::gather;
use crate::node::SystemClock;

use crate::nats::{Bus, StreamOutbox};
use crate::telemetry::Troubles;

/// How long the other nodes may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one shard may take to answer a question; a shard that is stuck must not hide the rest.
const SHARD_PATIENCE: Duration = Duration::from_millis(1_000);

/// What is known about this node from its start.
pub struct About {
    /// The server's name and version.
    pub server: String,
    /// When the server fsyncs, in words; filled in by a check that goes on in the background.
    pub sync: std::sync::Mutex<String>,
    /// What the servers say of themselves that is wrong: a disk that was full, say.
    pub server_says: std::sync::Mutex<Vec<String>>,
    /// Replicas of the journal.
    pub replicas: u32,
    /// What of its settings is worth a look.
    pub warnings: Vec<String>,
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
    /// The workers of this node.
    pub workers: Arc<Local>,
    /// The bus.
    pub bus: Bus,
    /// The connections by which commands come.
    pub commands: Vec<Bus>,
    /// Dead letters.
    pub letters: Arc<StreamOutbox>,
    /// The engine, for how its shards move.
    pub engine: Arc<Engine>,
    /// What this node counts on that one message takes.
    pub message_bytes: usize,
    /// What is wrong with the journals of this node's shards.
    pub troubles: Arc<Troubles>,
    /// Facts of this node.
    pub about: About,
}

impl QueryService {
    /// This node's answer.
    pub async fn here(&self, query: &Query) -> Answer {
        let mut missing = Vec::new();
        let body = match query {
            Query::Tree => self.root.get().map_or(Body::Nothing, |root| Body::Actor(Box::new(root.view()))),
            Query::Actor { path } => {
                let found = self.root.get().and_then(|root| root.find(path));
                found.map_or(Body::Nothing, |card| Body::Actor(Box::new(card.view())))
            }
            Query::Owners => Body::Owners(self.ask_shards(Message::View, &mut missing).await),
            Query::Sagas { tenant, by, list } => {
                let ask = |tell| Message::List(tenant.clone(), by.clone(), list.clone(), tell);
                let mut rows = Vec::new();
                for listed in self.ask_shards(ask, &mut missing).await {
                    rows.extend(listed.rows);
                    missing.extend(listed.missing);
                }
                Body::Sagas(rows)
            }
            Query::Workers { tenant, list } => Body::Workers(self.workers.list(tenant, list)),
            Query::Health => Body::Health(Box::new(self.health())),
        };
        Answer { at: Some(SystemClock.now()), missing, ..Answer::new(self.node.clone(), body) }
    }

    /// Every live node's answer; ours without a detour. That of a node that does not answer in time
    /// says so, and nothing else.
    pub async fn everywhere(&self, query: &Query) -> Vec<Answer> {
        let body = bytes::Bytes::from(Format::Json.write(query));
        let others = self.places.live().into_iter().filter(|node| *node != self.node).map(|node| {
            let (client, body) = (self.bus.client.clone(), body.clone());
            async move {
                let request = async_nats::Request::new().payload(body).timeout(Some(PATIENCE));
                let answer = match client.send_request(subjects::node(&node), request).await {
                    Ok(message) => match serde_json::from_slice::<Answer>(&message.payload) {
                        Ok(answer) => return answer,
                        Err(_) => match serde_json::from_slice::<Refused>(&message.payload) {
                            Ok(refused) => refused.error.message,
                            Err(error) => format!("its answer cannot be read: {error}"),
                        },
                    },
                    Err(_) => format!("it did not answer within {PATIENCE:?}"),
                };
                Answer { missing: vec![answer], ..Answer::new(node, Body::Nothing) }
            }
        });
        let (here, others) = futures::join!(self.here(query), futures::future::join_all(others));
        let mut all: Vec<Answer> = std::iter::once(here).chain(others).collect();
        all.sort_by(|a, b| a.node.cmp(&b.node));
        all
    }

    /// The tenant's sagas over all nodes that `by` may view, newest first, and what is missing.
    pub async fn list(&self, tenant: Tenant, by: Principal, list: List) -> Result<Value, Problem> {
        let limit = list.rows()?;
        let answers = self.everywhere(&Query::Sagas { tenant, by: Some(by), list }).await;
        Ok(gather::list(answers, self.unowned(), limit, self.max_payload()))
    }

    /// Shards that nobody answers for just now.
    fn unowned(&self) -> Vec<u16> {
        let answers = |shard: protocol::ShardId| {
            self.places.owner(shard).is_some_and(|owner| owner != self.node || self.places.local(shard).is_some())
        };
        (0..self.shards).filter(|shard| !answers(protocol::ShardId(*shard))).collect()
    }

    /// The tenant's workers over all nodes, by name, and what is missing.
    pub async fn workers(&self, tenant: Tenant, list: ListWorkers) -> Result<Value, Problem> {
        let answers = self.everywhere(&Query::Workers { tenant, list }).await;
        Ok(gather::workers(answers, self.max_payload()))
    }

    /// What each shard of this node says; one that is stuck does not hide the rest.
    async fn ask_shards<T>(&self, ask: impl Fn(oneshot::Sender<T>) -> Message, missing: &mut Vec<String>) -> Vec<T> {
        let asked = self.places.all_local().into_iter().map(|(number, shard)| {
            let (tell, told) = oneshot::channel();
            shard.tell(ask(tell));
            async move { (number, tokio::time::timeout(SHARD_PATIENCE, told).await) }
        });
        let mut answers = Vec::new();
        for (number, told) in futures::future::join_all(asked).await {
            match told {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(_)) => missing.push(format!("shard {number} stopped meanwhile")),
                Err(_) => missing.push(format!("shard {number} did not answer within {SHARD_PATIENCE:?}")),
            }
        }
        answers
    }

    fn health(&self) -> HealthView {
        let mut troubles = Vec::new();
        let unowned = self.unowned();
        if !unowned.is_empty() {
            troubles.push(format!("shards without an owner: {unowned:?}"));
        }
        let connected = self.bus.client.connection_state() == async_nats::connection::State::Connected;
        if !connected {
            troubles.push("NATS cannot be reached".into());
        }
        let (pulses, carries) = (self.pulses(), self.bus.client.server_info().max_payload);
        troubles.extend(pulses.iter().flat_map(|pulse| pulse.troubles(self.engine.limits.still_after)));
        if connected && carries < self.message_bytes {
            troubles.push(format!(
                "the server carries {carries} bytes in one message, and this node counts on {}: \
                 raise max_payload of every server, or restart the node",
                self.message_bytes
            ));
        }
        let stopped: Vec<_> =
            self.places.stopped().into_iter().map(|(shard, why)| format!("shard {shard} is stopped: {why}")).collect();
        let blind = self.places.trouble().map(|why| format!("this node cannot take its part in the cluster: {why}"));
        let journals = self.troubles.shown();
        let lost: Vec<_> = stopped.into_iter().chain(self.bus.ground.troubles()).collect();
        let stuck = blind.is_some() || !journals.is_empty() || !lost.is_empty();
        troubles.extend(lost.iter().cloned().chain(blind).chain(journals));
        let said = self.about.server_says.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        // One of several servers may be full while the others go on; a journal that stands still says so.
        let stuck = stuck || (!said.is_empty() && self.about.replicas == 1);
        troubles.extend(said);
        let sync = self.about.sync.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if sync.starts_with("every") {
            troubles.push(format!("the server fsyncs {sync}"));
        }
        let mut warnings = self.about.warnings.clone();
        for Pulse { shard, buried, .. } in pulses.iter().filter(|pulse| pulse.buried > 0) {
            warnings.push(format!(
                "{buried} events of shard {shard} were refused for good since it was taken over; they are in the \
                 dead letters event-refused"
            ));
        }
        for Pulse { shard, broken, .. } in pulses.iter().filter(|pulse| pulse.broken > 0) {
            warnings.push(format!(
                "{broken} sagas of shard {shard} cannot be rebuilt and are parked; `skald list --status stuck` names \
                 them, `skald show` says why"
            ));
        }
        if sync.starts_with("unknown") {
            warnings.push(format!("when the server writes through to the disk is {sync}"));
        }
        HealthView {
            ready: connected && unowned.is_empty() && !stuck,
            version: env!("CARGO_PKG_VERSION").into(),
            server: self.about.server.clone(),
            sync,
            replicas: self.about.replicas,
            members: self.places.live().iter().map(ToString::to_string).collect(),
            shards: self.places.all_local().iter().map(|(shard, _)| shard.0).collect(),
            shards_in_all: self.shards,
            troubles,
            lost,
            warnings,
            happened: self.happened(),
            since: self.about.since,
        }
    }

    /// What happened and is over, in sentences.
    fn happened(&self) -> Vec<String> {
        let mut happened = self.bus.ground.past();
        let counted = self.letters.letters_counted();
        if counted > 0 {
            happened.push(format!(
                "{counted} dead letters were only counted: they were beyond events.dead_per_second or \
                 events.dead_heads_at_once"
            ));
        }
        let losses = self.commands.iter().map(Bus::losses);
        let (losses, last) = losses.fold((0, None), |all, one| (all.0 + one.0, all.1.max(one.1)));
        if let Some(last) = last {
            happened.push(format!(
                "connections that bring commands were lost {losses} times, last at {last}: those on their way \
                 were not taken; a server that ends it because too much comes in says so as a slow consumer"
            ));
        }
        happened
    }

    /// How the shards of this node move.
    pub fn pulses(&self) -> Vec<Pulse> {
        self.engine.pulses.all(self.engine.now())
    }

    /// What the bus carries in one message.
    fn max_payload(&self) -> usize {
        self.bus.max_payload()
    }

    /// An answer as it is sent: never larger than the bus carries, which would be silence.
    fn written(&self, answer: Answer) -> Vec<u8> {
        let bytes = Format::Json.write(&gather::fit(answer, self.max_payload()));
        if bytes.len() <= self.max_payload() {
            return bytes;
        }
        let message = format!("its answer has {} bytes, the bus carries {}", bytes.len(), self.max_payload());
        Format::Json.write(&Refused { error: Problem::new(Code::TooLarge, message) })
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
                    Ok(query) => this.written(this.here(&query).await),
                    Err(problem) => Format::Json.write(&Refused { error: problem }),
                };
                // Whoever asked may be gone.
                let _ = this.bus.client.publish(reply, answer.into()).await;
            });
        }
        Ok(())
    }
}
