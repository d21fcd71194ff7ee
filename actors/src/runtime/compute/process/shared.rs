//! What all keepers of a state directory share, and how they are looked after.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use supervisor::ports::Clock;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::super::confine::users::Users;
use super::super::confine::{Confinement, Launcher};
use super::super::gateway::{Gateway, Table};
use super::super::set::{Set, SetId};
use super::keeper::Keeper;
use super::limits::Limiter;
use super::logs;
use super::record::Record;
use super::replica::Replica;
use super::settings::Settings;
use super::shelf::Shelf;
use super::state;
use super::steps::Steps;
use super::store::{Store, Wanted};
use super::{alive, birth, proc};

/// How long what was killed may take to be gone.
const STRAY_PAUSE: Duration = Duration::from_millis(5);

/// What is shared.
pub struct Shared {
    /// The settings.
    pub settings: Settings,
    /// The disk.
    pub store: Store,
    /// The unpacked artifacts.
    pub shelf: Shelf,
    /// The limits.
    pub limiter: Limiter,
    /// How processes are held in.
    pub confinement: Confinement,
    /// Their users, where each environment has its own.
    pub users: Option<Users>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Hears of the steps of a start.
    pub steps: Arc<dyn Steps>,
    /// Held while it changes what is wanted.
    pub wanting: tokio::sync::Mutex<()>,
    launcher: io::Result<Launcher>,
    environments: Mutex<BTreeMap<String, Environment>>,
    tasks: Mutex<JoinSet<()>>,
    turned: watch::Sender<()>,
    closed: AtomicBool,
}

/// One environment, as it is in memory.
pub struct Environment {
    /// Its way in.
    pub gateway: Gateway,
    /// Dropped with the environment, which closes its way in.
    pub _open: oneshot::Sender<()>,
    /// What is wanted.
    pub sets: BTreeMap<SetId, Wanted>,
    /// What runs, by name.
    pub replicas: BTreeMap<String, Arc<Replica>>,
}

impl Environment {
    /// The replicas of a set.
    pub fn of<'a>(&'a self, id: &'a SetId) -> impl Iterator<Item = &'a Arc<Replica>> {
        self.replicas.values().filter(move |replica| replica.set.id == *id)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Nothing runs yet.
    pub fn new(
        settings: Settings,
        store: Store,
        shelf: Shelf,
        clock: Arc<dyn Clock>,
        steps: Arc<dyn Steps>,
        (launcher, confinement, users): (io::Result<Launcher>, Confinement, Option<Users>),
    ) -> Arc<Self> {
        Arc::new(Self {
            limiter: Limiter::new(settings.cgroup.clone(), store.instance()),
            confinement,
            users,
            launcher,
            settings,
            store,
            shelf,
            clock,
            steps,
            wanting: tokio::sync::Mutex::default(),
            environments: Mutex::default(),
            tasks: Mutex::default(),
            turned: watch::Sender::new(()),
            closed: AtomicBool::new(false),
        })
    }

    /// What starts processes.
    pub fn launcher(&self) -> io::Result<&Launcher> {
        self.launcher.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// The user of the processes of `set`: one for each environment, and another one for each guest in it.
    pub fn user(&self, set: &Set) -> io::Result<Option<u32>> {
        let of = format!("{}/{}", set.id.environment, set.tenant);
        self.users.as_ref().map(|users| users.user(&of)).transpose()
    }

    /// Ends whatever is left of a replica whose keeper has ended, or was killed.
    pub async fn sweep(self: &Arc<Self>, record: &Record) -> io::Result<()> {
        self.limiter.kill(&record.id);
        alive::sweep(birth::marker(self, record), record.identity().cloned()).await?;
        let Some(user) = record.user.filter(|_| !self.confinement.space.is_own()) else { return Ok(()) };
        let this = self.clone();
        let sweeping = tokio::task::spawn_blocking(move || {
            while proc::kill_strays(this.store.instance(), user)? > 0 {
                std::thread::sleep(STRAY_PAUSE);
            }
            Ok(())
        });
        sweeping.await.map_err(io::Error::other)?
    }

    /// The directory in which the processes of `set` may write, made when it is not there. It is the
    /// service's, whichever revision of it runs.
    pub fn state(&self, set: &Set, user: Option<u32>) -> io::Result<PathBuf> {
        let dir = self.store.state(&set.id.environment, &set.tenant, &set.id.service);
        state::make(&dir, user)?;
        if let Some(too_large) = state::too_large(&dir, self.settings.state_bytes)? {
            return Err(io::Error::other(too_large));
        }
        Ok(dir)
    }

    /// The environments, for a moment.
    pub fn environments(&self) -> MutexGuard<'_, BTreeMap<String, Environment>> {
        held(&self.environments)
    }

    /// Refuses when another adapter may have the directory by now.
    pub fn check_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(io::Error::other("the state directory was let go"));
        }
        Ok(())
    }

    /// Something happened that somebody may wait for.
    pub fn turn(&self) {
        self.turned.send_replace(());
    }

    /// Hears of that.
    pub fn turned(&self) -> watch::Receiver<()> {
        self.turned.subscribe()
    }

    /// Runs `task` until all of this is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = held(&self.tasks);
        while tasks.try_join_next().is_some() {}
        if !self.closed.load(Ordering::Acquire) {
            tasks.spawn(task);
        }
    }

    /// Gives `replica` a keeper, and that another chance when it fails: it goes on from the disk.
    pub fn keep(self: &Arc<Self>, replica: Arc<Replica>, table: Arc<Table>) {
        let shared = self.clone();
        self.spawn(async move {
            let mut failures = 0;
            loop {
                let keeper = Keeper { shared: shared.clone(), replica: replica.clone(), table: table.clone() };
                let mut life = JoinSet::new();
                life.spawn(async move { keeper.keep().await });
                let id = replica.record().id;
                match life.join_next().await {
                    Some(Ok(Ok(()))) | None => return,
                    Some(Ok(Err(error))) => warn!(replica = id, %error, "cannot be kept, will try again"),
                    Some(Err(error)) => error!(replica = id, %error, "its keeper failed, will try again"),
                }
                failures += 1;
                tokio::time::sleep(shared.settings.pause(failures)).await;
            }
        });
    }

    /// The replica is gone, and with the last one of a set that is on its way out, the set.
    pub async fn forget(&self, replica: &Replica) -> io::Result<()> {
        let _wanting = self.wanting.lock().await;
        self.check_open()?;
        let record = replica.record();
        self.limiter.forget(&record.id);
        self.store.remove_replica(&record.set.environment, &record.id)?;
        if let Some(environment) = self.environments().get_mut(&record.set.environment) {
            environment.replicas.remove(&record.id);
        }
        self.prune(&record.set.environment);
        if self.settle(&record.set)? {
            self.clear_shelf().await;
        }
        Ok(())
    }

    /// Removes what services of an environment kept, and gives its users back.
    pub fn forget_environment(&self, name: &str) -> io::Result<()> {
        self.environments().remove(name);
        self.store.remove_environment(name)?;
        crate::runtime::durable::remove_dir(&self.store.states(name))?;
        let belongs = |of: &str| of.split_once('/').is_some_and(|(its, _)| its == name);
        self.users.as_ref().map_or(Ok(()), |users| users.release(belongs))
    }

    /// Takes artifacts down that no set is made of. Whoever calls it holds `wanting`.
    pub async fn clear_shelf(&self) {
        let sets = |one: &Environment| one.sets.values().map(|wanted| wanted.set.digest.clone()).collect::<Vec<_>>();
        let used = self.environments().values().flat_map(sets).collect();
        let shelf = self.shelf.clone();
        let cleared = tokio::task::spawn_blocking(move || shelf.clear(&used)).await.map_err(io::Error::other);
        if let Err(error) = cleared.and_then(|cleared| cleared) {
            warn!(%error, "old artifacts cannot be removed, will try again");
        }
    }

    /// Forgets the set `id` when it is on its way out and nothing of it is left. Whether it did.
    pub fn settle(&self, id: &SetId) -> io::Result<bool> {
        let mut settled = false;
        let mut environments = self.environments();
        if let Some(environment) = environments.get_mut(&id.environment)
            && environment.sets.get(id).is_some_and(|wanted| wanted.removing)
            && environment.of(id).next().is_none()
        {
            self.store.remove_set(id)?;
            environment.sets.remove(id);
            environment.gateway.table.forget(&id.service, &id.revision);
            settled = true;
        }
        drop(environments);
        self.turn();
        Ok(settled)
    }

    fn prune(&self, name: &str) {
        let used: Vec<String> = match self.environments().get(name) {
            Some(environment) => environment.replicas.keys().cloned().collect(),
            None => return,
        };
        let kept = self.settings.logs_kept;
        let pruned = logs::prune(&self.store.logs(name), kept, |replica| used.iter().any(|one| one == replica));
        if let Err(error) = pruned {
            warn!(environment = name, %error, "old logs cannot be removed, will try again");
        }
    }

    /// Stops all tasks. The processes go on.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let mut tasks = std::mem::take(&mut *held(&self.tasks));
        tasks.shutdown().await;
        let replicas: Vec<_> =
            self.environments().values().flat_map(|one| one.replicas.values().cloned().collect::<Vec<_>>()).collect();
        // Work on a thread cannot be stopped; what has begun ends, and nothing more begins.
        let waiting = tokio::task::spawn_blocking(move || replicas.iter().for_each(|replica| drop(replica.changing())));
        if let Err(error) = waiting.await {
            error!(%error, "a replica's last change failed");
        }
        self.limiter.tidy();
    }

    /// The same for one who cannot wait.
    pub fn abandon(&self) {
        self.closed.store(true, Ordering::Release);
        held(&self.tasks).abort_all();
    }
}
