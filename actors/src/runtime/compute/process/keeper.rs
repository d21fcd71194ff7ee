//! Keeps one replica for its whole life: gives it a process, watches that, replaces it when it
//! ends, and ends it when it is not wanted any more.
//!
//! It begins with what the disk says each time, so it makes no difference whether it, or all of
//! Skald, was there before.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::super::gateway::Table;
use super::super::observed::{CRASH_LOOP, Exit, ExitHow, ReplicaState};
use super::alive::Alive;
use super::birth::{self, change, marker};
use super::proc;
use super::record::Process;
use super::replica::{Replica, address};
use super::secrets;
use super::shared::Shared;
use super::start::say;
use super::state;

/// A replica that does not accept connections is tried eagerly for this long.
const EAGER_TIME: Duration = Duration::from_secs(10);

/// How often it is seen what a service keeps on the disk: a fast disk takes some gigabytes meanwhile,
/// and looking at many small files takes as long as a second.
const STATE_PAUSE: Duration = Duration::from_secs(5);

/// Why watching a process came to its end.
enum Watched {
    /// It ended by itself.
    Ended,
    /// It is to end.
    ToEnd,
    /// It took more of the disk than it may.
    TooLarge(String),
}

/// Who listens at `port` and is not `user`.
fn stranger(port: u16, user: Option<u32>) -> io::Result<Option<u32>> {
    let Some(user) = user else { return Ok(None) };
    Ok(proc::listeners(port)?.into_iter().find(|found| *found != user))
}

/// The keeper of one replica.
pub struct Keeper {
    /// What all keepers share.
    pub shared: Arc<Shared>,
    /// Whom it keeps.
    pub replica: Arc<Replica>,
    /// Where its requests come from.
    pub table: Arc<Table>,
}

impl Keeper {
    /// Keeps it until it is gone.
    pub async fn keep(&self) -> io::Result<()> {
        loop {
            let Some(alive) = self.process().await? else {
                if self.replica.record().leaving {
                    return self.shared.forget(&self.replica).await;
                }
                self.pause().await;
                continue;
            };
            match self.watch(&alive).await? {
                Watched::Ended => self.bury(&alive).await?,
                Watched::ToEnd => self.end(&alive).await?,
                Watched::TooLarge(why) => {
                    say(
                        &self.shared.store.log(&self.replica.set.id.environment, &self.id()),
                        &format!("it is ended: {why}"),
                    )?;
                    self.bury(&alive).await?;
                }
            }
        }
    }

    fn id(&self) -> String {
        self.replica.record().id
    }

    /// The process that runs, or a new one. `None`: there is none for now.
    async fn process(&self) -> io::Result<Option<Alive>> {
        let record = self.replica.record();
        let identity = match &record.process {
            Process::Started { identity, .. } => Some(identity.clone()),
            Process::Intended => self.blocking(birth::find).await?,
            Process::Absent => None,
        };
        if let Some(identity) = identity {
            if let Some(alive) = Alive::open(identity.clone())? {
                info!(replica = record.id, pid = identity.pid, "taken over");
                return Ok(Some(alive));
            }
            // It ended while nobody watched; what it left behind must not meet its successor.
            self.shared.sweep(&record).await?;
            change(&self.shared, &self.replica, |shared, record| birth::ended(shared, record, ExitHow::Unseen)).await?;
        } else if record.process == Process::Intended {
            self.shared.sweep(&record).await?;
        }
        if self.replica.record().leaving {
            return Ok(None);
        }
        self.replica.set_state(ReplicaState::Starting);
        let secrets = secrets::values(self.shared.settings.secrets.as_ref(), &self.replica.set).await;
        let start = move |shared: &Shared, replica: &Replica| birth::start(shared, replica, secrets);
        let Some(identity) = self.blocking(start).await? else { return Ok(None) };
        info!(replica = record.id, pid = identity.pid, "started");
        Alive::open(identity)
    }

    async fn watch(&self, alive: &Alive) -> io::Result<Watched> {
        let record = self.replica.record();
        let (id, at) = (record.id.clone(), address(record.port));
        let whose = (record.set.service.as_str(), self.replica.set.tenant.as_str());
        self.table.put(&id, whose, &record.set.revision, at, self.replica.wake.clone());
        let begun = Instant::now();
        let mut looked = begun;
        let mut ready = false;
        let mut robbed = false;
        loop {
            if self.replica.record().to_end() {
                return Ok(Watched::ToEnd);
            }
            let settings = &self.shared.settings;
            let accepts = matches!(timeout(settings.probe_time, TcpStream::connect(at)).await, Ok(Ok(_)));
            // A port is nobody's until somebody listens. Who listens keeps it, so it is asked once.
            let stranger = if accepts && !ready { stranger(at.port(), record.user)? } else { None };
            let accepts = accepts && stranger.is_none();
            if let Some(stranger) = stranger.filter(|_| !std::mem::replace(&mut robbed, true)) {
                let why = format!("user {stranger} listens at port {}, which was given to this replica", at.port());
                warn!(replica = id, why, "not taken for the replica");
                say(&self.shared.store.log(&record.set.environment, &id), &why)?;
            }
            // Also when nothing changed: the gateway may have come to doubt it.
            self.table.set_ready(&id, accepts);
            self.replica.set_state(if accepts { ReplicaState::Ready } else { ReplicaState::Starting });
            if ready != accepts {
                info!(replica = id, ready = accepts, "readiness changed");
                ready = accepts;
                self.shared.turn();
            }
            if looked.elapsed() >= STATE_PAUSE {
                looked = Instant::now();
                if let Some(why) = self.too_large().await {
                    return Ok(Watched::TooLarge(why));
                }
            }
            self.grown_stable(begun).await?;
            let eager = !ready && begun.elapsed() < EAGER_TIME;
            let pause = if eager { settings.probe_pause } else { settings.ready_probe_pause };
            tokio::select! {
                ended = alive.ended() => {
                    ended?;
                    return Ok(Watched::Ended);
                }
                () = self.replica.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// One that runs for long is forgiven its failures.
    async fn grown_stable(&self, begun: Instant) -> io::Result<()> {
        if begun.elapsed() < self.shared.settings.stable_after || self.replica.record().failures_in_row == 0 {
            return Ok(());
        }
        change(&self.shared, &self.replica, |_, record| record.failures_in_row = 0).await
    }

    /// Why the service may not go on writing.
    async fn too_large(&self) -> Option<String> {
        let set = &self.replica.set.id;
        let dir = self.shared.store.state(&set.environment, &self.replica.set.tenant, &set.service);
        let most = self.shared.settings.state_bytes;
        match spawn_blocking(move || state::too_large(&dir, most)).await.map_err(io::Error::other) {
            Ok(Ok(why)) => why,
            // A disk that cannot be read is no reason to touch the workload.
            Ok(Err(error)) | Err(error) => {
                warn!(replica = self.id(), %error, "what it keeps cannot be looked at, will try again");
                None
            }
        }
    }

    /// It ended by itself.
    async fn bury(&self, alive: &Alive) -> io::Result<()> {
        let record = self.replica.record();
        self.table.withdraw(&record.id);
        self.replica.set_state(ReplicaState::Waiting);
        let how = alive.finish(&marker(&self.shared, &record)).await?;
        self.shared.sweep(&record).await?;
        warn!(replica = record.id, pid = alive.identity().pid, ?how, "ended by itself");
        let renew = record.to_end();
        change(&self.shared, &self.replica, move |shared, record| birth::ended(shared, record, how)).await?;
        self.shared.turn();
        if !renew {
            self.pause().await;
        }
        Ok(())
    }

    /// It is to end.
    async fn end(&self, alive: &Alive) -> io::Result<()> {
        let record = self.replica.record();
        self.replica.set_state(ReplicaState::Draining);
        self.shared.turn();
        tokio::select! {
            drained = self.table.drain(&record.id, self.shared.settings.drain_time) => if !drained {
                warn!(replica = record.id, "requests are still under way, and their time is over");
            },
            ended = alive.ended() => ended?,
        }
        self.table.withdraw(&record.id);
        let how = alive.end(&marker(&self.shared, &record), self.shared.settings.stop_time).await?;
        self.shared.sweep(&record).await?;
        info!(replica = record.id, pid = alive.identity().pid, ?how, "ended");
        change(&self.shared, &self.replica, move |shared, record| {
            record.process = Process::Absent;
            record.last_exit = Some(Exit { at: shared.clock.now(), how });
        })
        .await?;
        self.shared.turn();
        Ok(())
    }

    /// Waits until it is to be started again, or to be forgotten.
    async fn pause(&self) {
        let failures = self.replica.record().failures_in_row;
        let waits = if failures >= CRASH_LOOP { ReplicaState::CrashLoop } else { ReplicaState::Waiting };
        self.replica.set_state(waits);
        let pause = self.shared.settings.pause(failures);
        info!(replica = self.id(), failures, ?pause, "will be started again");
        let end = sleep(pause);
        tokio::pin!(end);
        while !self.replica.record().leaving {
            tokio::select! {
                () = &mut end => return,
                () = self.replica.wake.notified() => {}
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Replica) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (shared, replica) = (self.shared.clone(), self.replica.clone());
        spawn_blocking(move || work(&shared, &replica)).await.map_err(io::Error::other)?
    }
}
