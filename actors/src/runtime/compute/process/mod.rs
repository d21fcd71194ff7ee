//! The embedded adapter: operating-system processes of this machine, behind gateways.
//!
//! - A process belongs to nobody here. It has a keeper that writes its log and holds it in
//!   ([`confine`](super::confine)), and both go on when Skald ends, in whichever way; the next Skald
//!   takes them over ([`birth`]).
//! - It is named by its number together with the moment of its start ([`proc::Identity`]), and
//!   watched through a handle of the kernel ([`alive`]), so that it does not matter whose child it
//!   is, and no other process is ever taken for it.
//! - When a replica ends, its keeper ends all that began below it, whatever it did to hide. Should the
//!   keeper itself be killed, its processes die with it; what is left in its control group, carries the
//!   marker or is in the group ends too ([`proc::kill_family`]): there are no orphans. What carries a
//!   marker of ours and belongs to no replica is reported and left alone: a person decides about that.
//! - No shell sees a command, and no variable of ours reaches a process.
//! - An artifact lies here for as long as a set is made of it; going back further fetches it again.
//!
//! A service manager may end a service's processes with it: under systemd Skald's unit needs
//! `KillMode=process`, or else the workloads end with Skald and are started again by the next one.
//!
//! One adapter at a time has a state directory; several nodes of one machine have several.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use supervisor::activity::Failure;
use supervisor::ports::Clock;
use tokio::sync::oneshot;
use tracing::warn;

use super::artifacts::Artifacts;
use super::confine::users::Users;
use super::confine::{Confinement, Launcher, Space, survey};
use super::gateway::{Gateway, Table};
use super::set::SetId;

mod alive;
mod birth;
mod keeper;
pub mod limits;
mod logs;
pub mod proc;
mod record;
mod replica;
mod secrets;
pub mod settings;
mod shared;
mod shelf;
mod start;
mod state;
pub mod steps;
mod store;
mod verbs;

use limits::Limiter;
use record::Record;
use replica::Replica;
pub use secrets::{Secrets, Values, values};
pub use settings::Settings;
use shared::{Environment, Shared};
use steps::{Steps, Uninterrupted};
use store::Store;

/// The adapter. Dropping it leaves the processes running.
pub struct Processes {
    shared: Arc<Shared>,
    /// Keeps other adapters out.
    lock: Mutex<Option<File>>,
}

impl Processes {
    /// Takes the state directory over, with everything that runs. Refused while another process
    /// has it.
    pub async fn open(settings: Settings, artifacts: Arc<dyn Artifacts>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::open_with(settings, artifacts, clock, Arc::new(Uninterrupted)).await
    }

    /// As [`open`](Self::open); `steps` hears of every step of a start.
    pub async fn open_with(
        mut settings: Settings,
        artifacts: Arc<dyn Artifacts>,
        clock: Arc<dyn Clock>,
        steps: Arc<dyn Steps>,
    ) -> io::Result<Self> {
        let (_, lock) = Store::open(&settings.dir)?;
        // Processes start elsewhere, and must find their artifact from there.
        settings.dir = settings.dir.canonicalize()?;
        let store = Store::at(&settings.dir)?;
        let shelf = shelf::Shelf::open(&settings.dir, artifacts)?;
        let launcher = settings.launcher.clone().map_or_else(Launcher::find, Ok);
        let confinement = surveyed(&settings, &launcher);
        let users = match confinement.users {
            true => {
                let (range, machine) = (settings.users.clone(), &settings.users_dir);
                Some(Users::open(&settings.dir, store.instance(), range, machine)?)
            }
            false => None,
        };
        if !confinement.space.is_own() && users.is_some() {
            let_through(&settings.dir)?;
        }
        let shared = Shared::new(settings, store, shelf, clock, steps, (launcher, confinement, users));
        let this = Self { shared, lock: Mutex::new(Some(lock)) };
        for environment in this.shared.store.environments()? {
            this.take_over(&environment).await?;
        }
        let wanting = this.shared.wanting.lock().await;
        this.shared.clear_shelf().await;
        drop(wanting);
        Ok(this)
    }

    /// Stops keeping, and lets the state directory go. The processes go on.
    pub async fn close(&self) {
        self.shared.close().await;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn take_over(&self, name: &str) -> io::Result<()> {
        let store = &self.shared.store;
        self.environment(name).await?;
        let mut ids = Vec::new();
        for wanted in store.sets(name)? {
            ids.push(wanted.set.id.clone());
            if let Some(environment) = self.shared.environments().get_mut(name) {
                environment.sets.insert(wanted.set.id.clone(), wanted);
            }
        }
        for (service, routes) in store.routes(name)? {
            self.table(name)?.route(&service, &routes);
        }
        for record in store.replicas(name)? {
            self.adopt(record).await?;
        }
        for id in &ids {
            self.reconcile(id).map_err(io::Error::other)?;
            self.shared.settle(id)?;
        }
        Ok(())
    }

    async fn adopt(&self, record: Record) -> io::Result<()> {
        let set = {
            let environments = self.shared.environments();
            environments.get(&record.set.environment).and_then(|one| one.sets.get(&record.set).cloned())
        };
        match set {
            Some(wanted) => self.keep(Replica::new(Arc::new(wanted.set), record)),
            None => {
                warn!(replica = record.id, set = %record.set, "belongs to no set and is ended");
                self.shared.sweep(&record).await?;
                self.shared.store.remove_replica(&record.set.environment, &record.id)
            }
        }
    }

    fn keep(&self, replica: Arc<Replica>) -> io::Result<()> {
        let record = replica.record();
        let table = self.table(&record.set.environment)?;
        if let Some(environment) = self.shared.environments().get_mut(&record.set.environment) {
            environment.replicas.insert(record.id, replica.clone());
        }
        self.shared.keep(replica, table);
        Ok(())
    }

    fn table(&self, name: &str) -> io::Result<Arc<Table>> {
        let environments = self.shared.environments();
        let environment = environments.get(name).ok_or_else(|| io::Error::other(format!("{name} was not opened")))?;
        Ok(environment.gateway.table.clone())
    }

    /// Makes sure that the environment is there, and its gateway listens.
    async fn environment(&self, name: &str) -> io::Result<()> {
        if self.shared.environments().contains_key(name) {
            return Ok(());
        }
        let (store, settings) = (&self.shared.store, Arc::new(self.shared.settings.gateway.clone()));
        let settled = settings.listen.get(name).copied().or(store.listens(name)?);
        let (address, listener) = match settled {
            Some(address) if address.port() != 0 => (address, None),
            Some(_) | None => {
                let any = settled.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
                let (address, listener) = Gateway::bind(any).await?;
                (address, Some(listener))
            }
        };
        if store.listens(name)? != Some(address) {
            store.put_listens(name, address)?;
        }
        let table = Table::new(name, settings.calls.clone(), self.shared.clock.clone());
        let gateway = Gateway { address, table };
        let (open, closed) = oneshot::channel();
        let serves = gateway.clone().serve(name.to_owned(), settings, listener);
        self.shared.spawn(async move {
            tokio::select! {
                () = serves => {}
                _ = closed => {}
            }
        });
        let environment = Environment { gateway, _open: open, sets: BTreeMap::new(), replicas: BTreeMap::new() };
        self.shared.environments().insert(name.to_owned(), environment);
        Ok(())
    }

    /// Makes replicas where the set `id` has too few, and lets the youngest go where it has too
    /// many. Replicas that are on their way out count as gone.
    fn reconcile(&self, id: &SetId) -> Result<(), Failure> {
        let (wanted, mut staying) = {
            let environments = self.shared.environments();
            let Some(environment) = environments.get(&id.environment) else { return Ok(()) };
            let Some(wanted) = environment.sets.get(id).cloned() else { return Ok(()) };
            let staying = environment.of(id).filter(|replica| !replica.record().leaving).cloned();
            (wanted, staying.collect::<Vec<_>>())
        };
        let count = if wanted.removing { 0 } else { wanted.set.replicas as usize };
        let set = Arc::new(wanted.set);
        for _ in staying.len()..count {
            let record = Record::new(&set, self.shared.clock.now());
            self.shared.store.put_replica(&record).map_err(disk)?;
            self.keep(Replica::new(set.clone(), record)).map_err(disk)?;
        }
        staying.sort_by_key(|replica| (replica.record().created, replica.record().id));
        for replica in staying.iter().skip(count) {
            let changing = replica.changing();
            let record = Record { leaving: true, ..replica.record() };
            self.shared.store.put_replica(&record).map_err(disk)?;
            replica.recorded(record);
            drop(changing);
            replica.wake.notify_one();
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

/// How processes are held on this machine with `settings`, and what could not be had: a sentence each.
pub fn confinement(settings: &Settings) -> Confinement {
    let launcher = settings.launcher.clone().map_or_else(Launcher::find, Ok);
    let mut found = surveyed(settings, &launcher);
    let limiter = Limiter::new(settings.cgroup.clone(), "survey");
    found.missing.extend(limiter.missing());
    limiter.forget("survey");
    let operator = &settings.operator;
    if !found.users {
        found.missing.push(format!("services run as the node's own user: only those of tenant {operator} may run"));
    }
    found
}

fn surveyed(settings: &Settings, launcher: &io::Result<Launcher>) -> Confinement {
    let found = match launcher {
        Ok(launcher) => survey::survey(launcher, *settings.users.start(), settings.namespaces),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    };
    found.unwrap_or_else(|error| Confinement {
        users: false,
        space: Space::Shared,
        filter: false,
        missing: vec![format!("no service can be started: {error}")],
    })
}

/// Lets the users of services pass to what is theirs, without showing them what is there.
fn let_through(dir: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            let passed = path.ends_with("artifacts") || path.ends_with("state");
            mode(&path, if passed { 0o711 } else { 0o700 })?;
        }
    }
    mode(dir, 0o711)
}

/// A failure of the disk: it is full or broken, and whoever mends it need not ask again.
fn disk(error: io::Error) -> Failure {
    Failure::transient("keeping the state of the processes", error)
}
