//! Bringing a command to the node that owns its shard. While a shard changes hands the command
//! waits here, bounded, instead of failing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use protocol::codec::{self, Format};
use protocol::command::Routed;
use protocol::{Code, NodeId, Principal, Problem, SagaId, ShardId, Value, subjects};
use serde::{Deserialize, Serialize};
use supervisor::ports::{Parcel, Peers, Unavailable};
use supervisor::tree::reply::moved;
use supervisor::tree::root::Shards;
use supervisor::tree::shard::Message;
use supervisor::tree::shell::Handle;

use super::dispatch::{Dispatcher, PARCEL};
use super::fitting::{answer_fits, command_too_large};

/// How often a command is passed on. The node it came to holds it and asks again; one that is asked
/// and does not own the shard says so at once.
const HOPS_MAX: u8 = 1;
/// How long a command waits for a shard that nobody owns: a takeover takes under three seconds.
pub(super) const HOLD: Duration = Duration::from_secs(8);
/// How long one try of passing a command on may take beyond the command's own patience.
const PASS_ON: Duration = Duration::from_secs(10);
/// The pause between two tries.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// Where a saga's shard is.
pub enum Place {
    /// On this node.
    Here(Handle<Message>),
    /// On another, or nowhere just now.
    Elsewhere,
}

/// Knows where shards are and how to reach them.
pub struct Router {
    /// This node.
    pub node: NodeId,
    /// Shards of the cluster.
    pub shards: u16,
    /// Where they are.
    pub places: Arc<Shards>,
    /// The bus.
    pub client: async_nats::Client,
}

/// An answer between nodes.
#[derive(Serialize, Deserialize)]
enum Passed {
    Ok(Value),
    Refused(Problem),
}

impl Router {
    /// Where `saga` lives.
    pub fn place(&self, saga: &SagaId) -> Place {
        self.place_of(saga.shard(self.shards))
    }

    /// Where `shard` is.
    pub fn place_of(&self, shard: ShardId) -> Place {
        match self.places.local(shard) {
            Some(shard) => Place::Here(shard),
            None => Place::Elsewhere,
        }
    }

    /// Passes a command on to the owner of `saga`'s shard and brings its answer back. `patience` is
    /// what the command itself may take there.
    pub async fn forward(&self, saga: &SagaId, routed: Routed, patience: Duration) -> Result<Value, Problem> {
        self.forward_to(saga.shard(self.shards), routed, patience).await
    }

    /// The same for whatever else lives where `shard` does.
    pub async fn forward_to(&self, shard: ShardId, mut routed: Routed, patience: Duration) -> Result<Value, Problem> {
        if routed.hops >= HOPS_MAX {
            return Err(moved());
        }
        routed.hops += 1;
        let until = tokio::time::Instant::now() + HOLD;
        let body = bytes::Bytes::from(codec::store(&routed));
        let mut last = Problem::new(Code::Unavailable, format!("shard {shard} has no owner just now"))
            .mend("are all nodes running? `skald doctor` tells")
            .retry_after_ms(500);
        while tokio::time::Instant::now() < until {
            // It may have come to us while the command waited; our own service then takes it.
            let here = self.places.local(shard).map(|_| self.node.clone());
            if let Some((_, why)) = self.places.stopped().into_iter().find(|(stopped, _)| *stopped == shard) {
                return Err(Problem::new(Code::Unavailable, format!("shard {shard} is stopped: {why}"))
                    .mend("`skald doctor` says what was lost")
                    .retry_after_ms(5_000));
            }
            let Some(owner) = here.or_else(|| self.places.owner(shard).filter(|owner| *owner != self.node)) else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let subject = subjects::node_commands(&owner);
            let request = async_nats::Request::new().payload(body.clone()).timeout(Some(patience + PASS_ON));
            match self.client.send_request(subject, request).await {
                Ok(message) => match codec::load(&message.payload) {
                    Ok(Passed::Ok(answer)) => return Ok(answer),
                    Ok(Passed::Refused(problem)) if problem.code == Code::Unavailable => last = problem,
                    Ok(Passed::Refused(problem)) => return Err(problem),
                    Err(error) => return Err(Problem::new(Code::Internal, format!("a node's answer: {error}"))),
                },
                Err(error) if error.kind() == async_nats::client::RequestErrorKind::MaxPayloadExceeded => {
                    return Err(command_too_large(body.len(), self.client.max_payload()));
                }
                Err(error) => {
                    last = Problem::new(Code::Unavailable, format!("the owner of shard {shard}: {error}"))
                        .retry_after_ms(200);
                    // A time-out leaves open whether it was done; only what is safe to repeat is.
                    if error.kind() != async_nats::client::RequestErrorKind::NoResponders {
                        return Err(last);
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(last)
    }
}

/// Listens to the peers of `node`.
pub async fn serve_peers(
    client: async_nats::Client,
    node: NodeId,
    dispatcher: Arc<Dispatcher>,
) -> Result<(), async_nats::SubscribeError> {
    let mut messages = client.subscribe(subjects::node_commands(&node)).await?;
    while let Some(message) = messages.next().await {
        let Some(reply) = message.reply else { continue };
        let (dispatcher, client) = (dispatcher.clone(), client.clone());
        tokio::spawn(async move {
            let passed = match codec::load::<Routed>(&message.payload) {
                Ok(routed) => match dispatcher.handle(routed).await {
                    Ok(answer) => Passed::Ok(answer),
                    Err(problem) => Passed::Refused(problem),
                },
                Err(error) => Passed::Refused(Problem::new(Code::Internal, format!("a node's command: {error}"))),
            };
            let mut answer = codec::store(&passed);
            if let Err(problem) = answer_fits(answer.len(), client.max_payload()) {
                answer = codec::store(&Passed::Refused(problem));
            }
            // The asker tries again when it hears nothing.
            let _ = client.publish(reply, answer.into()).await;
        });
    }
    Ok(())
}

/// Parcels between sagas, by way of the router.
pub struct NatsPeers {
    /// Set once the dispatcher exists; the two need each other.
    pub dispatcher: std::sync::OnceLock<std::sync::Weak<Dispatcher>>,
    /// For the time of a parcel.
    pub clock: Arc<dyn supervisor::ports::Clock>,
}

#[async_trait]
impl Peers for NatsPeers {
    async fn deliver(&self, to: &SagaId, parcel: &Parcel) -> Result<(), Unavailable> {
        let dispatcher = self.dispatcher.get().and_then(std::sync::Weak::upgrade);
        let dispatcher = dispatcher.ok_or_else(|| Unavailable("the node is starting or stopping".into()))?;
        let principal = Principal::new("skald").map_err(|error| Unavailable(error.to_string()))?;
        let routed = Routed {
            tenant: to.tenant.clone(),
            principal: principal.to_string(),
            command: PARCEL.into(),
            received_at: self.clock.now(),
            trace: None,
            id: uuid::Uuid::now_v7().simple().to_string(),
            causes: 0,
            hops: 0,
            content_type: Format::MessagePack.content_type().into(),
            body: Format::MessagePack.write(&(to, parcel)),
        };
        match dispatcher.handle(routed).await {
            Ok(_) => Ok(()),
            // Only these pass by themselves.
            Err(problem) if matches!(problem.code, Code::Unavailable | Code::Busy | Code::Timeout) => {
                Err(Unavailable(problem.message))
            }
            Err(problem) => match parcel.refused(to, &problem) {
                Some((home, ended)) => self.deliver(&home, &ended).await,
                None => {
                    tracing::info!(%to, code = ?problem.code, why = problem.message, "a parcel was refused for good");
                    Ok(())
                }
            },
        }
    }
}
