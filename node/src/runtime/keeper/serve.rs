//! The keeper's side: answers the nodes on which workers run.

use std::sync::Arc;

use actors::runtime::compute::Compute;
use actors::runtime::ports::metrics::Metrics;
use actors::runtime::ports::probes::Prober;
use actors::runtime::ports::provisioning::Provisioner;
use actors::runtime::ports::secrets::SecretVersions;
use async_nats::Message;
use bytes::Bytes;
use futures::StreamExt;
use protocol::subjects;
use supervisor::activity::Failure;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::super::GROUP;
use super::seal::SealKey;
use super::words::{Ask, Told, pack, subject, unpack};
use super::{environments, secrets};
use crate::nats::Bus;

/// Questions that are worked on at once: all probes that the prober has connections for, and as many
/// that wait for one. Beyond that the asker is told to come again.
const AT_ONCE_MAX: usize = 4_096;
/// What the server adds around a message, generously.
const AROUND_BYTES: usize = 1_024;

/// What the keeper has.
#[derive(Clone)]
pub struct Kept {
    /// Its processes.
    pub compute: Arc<dyn Compute>,
    /// Asks its replicas.
    pub prober: Arc<dyn Prober>,
    /// How busy they are.
    pub metrics: Arc<dyn Metrics>,
    /// Its secrets.
    pub secrets: Arc<dyn SecretVersions>,
    /// Makes environments on its machine.
    pub provisioner: Arc<dyn Provisioner>,
}

/// Answers until the connection ends. Dropping it stops all work.
pub async fn serve(bus: Bus, kept: Kept) -> anyhow::Result<()> {
    let mut asked = bus.client.queue_subscribe(subjects::KEEPER, GROUP.to_owned()).await?;
    bus.client.flush().await?;
    let (kept, key) = (Arc::new(kept), Arc::new(SealKey::new()?));
    let turns = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut work = JoinSet::new();
    while let Some(message) = asked.next().await {
        while work.try_join_next().is_some() {}
        let (bus, kept, key) = (bus.clone(), kept.clone(), key.clone());
        let turn = turns.clone().try_acquire_owned();
        work.spawn(async move {
            let Message { reply: Some(reply), payload, .. } = message else { return };
            let told = match (turn, unpack(&payload)) {
                // It is held until the answer is out.
                (Ok(_turn), Ok(ask)) => answered(&kept, &key, ask).await,
                (Err(_), _) => {
                    let why = format!("{AT_ONCE_MAX} questions are worked on; ask again");
                    Told::Failed(Failure::transient("asking the keeper of the processes", why))
                }
                (Ok(_), Err(why)) => {
                    warn!(why, "a question to the keeper cannot be read");
                    Told::Failed(Failure::permanent("reading a question to the keeper", why))
                }
            };
            let room = bus.client.server_info().max_payload.saturating_sub(AROUND_BYTES);
            if let Err(error) = bus.client.publish(reply, fitting(&told, room)).await {
                debug!(%error, "an answer could not be sent; it is asked again");
            }
        });
    }
    anyhow::bail!("the connection to NATS ended")
}

/// An answer that the bus carries.
fn fitting(told: &Told, room: usize) -> Bytes {
    let packed = pack(told);
    match packed.len() {
        small if small <= room => packed.into(),
        bytes => {
            let why = format!("it has {bytes} bytes, and the bus carries {room}; raise max_payload, or split it");
            pack(&Told::Failed(Failure::permanent("answering for the processes", why))).into()
        }
    }
}

async fn answered(kept: &Kept, key: &SealKey, ask: Ask) -> Told {
    carried_out(kept, key, ask).await.unwrap_or_else(Told::Failed)
}

async fn carried_out(kept: &Kept, key: &SealKey, ask: Ask) -> Result<Told, Failure> {
    let compute = &kept.compute;
    Ok(match ask {
        Ask::Apply(set) => compute.apply(&set).await.map(|()| Told::Done)?,
        Ask::Observe { environment } => Told::Observed(compute.observe(&environment).await?),
        Ask::Route { environment, service, routes } => {
            compute.route(&environment, &service, &routes).await.map(|()| Told::Done)?
        }
        Ask::Remove(set) => compute.remove(&set).await.map(|()| Told::Done)?,
        Ask::Logs { environment, replica, reading } => {
            Told::Logs(compute.logs(&environment, &replica, &reading).await?)
        }
        Ask::Restart { environment, replica, incarnation } => {
            compute.restart(&environment, &replica, incarnation).await.map(|()| Told::Done)?
        }
        Ask::Erase { environment, service, tenant } => {
            compute.erase(&environment, &service, &tenant).await.map(|()| Told::Done)?
        }
        Ask::Forget { environment } => compute.forget(&environment).await.map(|()| Told::Done)?,
        Ask::Traffic { environment } => Told::Traffic(compute.traffic(&environment).await?),
        Ask::Probe { at, spec } => Told::from(kept.prober.probe(&at.into(), &spec).await?),
        Ask::Sample { environment, service, figure } => {
            let sample = kept.metrics.sample(&subject(environment, service), &figure.into()).await?;
            Told::Sampled(sample.map(Into::into))
        }
        Ask::Secret(ask) => Told::Secret(secrets::carried_out(&*kept.secrets, key, ask).await?),
        Ask::Environment(ask) => {
            let gone = ask.removed().map(ToString::to_string);
            let told = environments::carried_out(&*kept.provisioner, ask).await?;
            if let Some(environment) = gone {
                compute.forget(&environment).await?;
            }
            Told::Environment(told)
        }
    })
}
