//! The replicas behind a gateway: each gets requests while Kubernetes calls it ready and its port
//! accepts connections from here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actors::runtime::compute::gateway::Table;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How often a replica that does not accept connections is tried, and how long each try may take:
/// pods are a network away.
const TRY_PAUSE: Duration = Duration::from_millis(100);
const TRY_TIME: Duration = Duration::from_secs(1);

/// A replica as it should be behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its service.
    pub service: String,
    /// Its revision.
    pub revision: String,
    /// Where it answers.
    pub address: SocketAddr,
    /// Which start of it.
    pub incarnation: u64,
}

struct Backend {
    wanted: Wanted,
    door: Arc<Door>,
    task: AbortHandle,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a replica may get requests. The table is told under its lock, so that a closed door stays
/// closed, whoever tries the replica at that moment.
struct Door {
    open: Mutex<bool>,
    changed: Notify,
}

/// The replicas of one environment.
pub struct Backends {
    table: Arc<Table>,
    all: Mutex<BTreeMap<String, Backend>>,
}

impl Backends {
    /// None yet.
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, all: Mutex::default() }
    }

    /// From now on exactly these are there; those that are `open` get requests.
    pub fn set(&self, wanted: BTreeMap<String, (Wanted, bool)>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |id: &String, backend: &mut Backend| wanted.get(id).is_none_or(|(now, _)| *now != backend.wanted);
        for (id, backend) in all.extract_if(.., gone) {
            backend.door.set(&self.table, &id, false);
            drop(backend);
            self.table.withdraw(&id);
        }
        for (id, (wanted, open)) in wanted {
            let backend = all.entry(id.clone()).or_insert_with(|| self.begin(&id, wanted));
            backend.door.set(&self.table, &id, open);
        }
    }

    /// Closes the door of a replica, and waits until it has no request under way.
    pub async fn drain(&self, id: &str, bound: Duration) -> bool {
        if let Some(backend) = self.all.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            backend.door.set(&self.table, id, false);
        }
        self.table.drain(id, bound).await
    }

    fn begin(&self, id: &str, wanted: Wanted) -> Backend {
        let door = Arc::new(Door { open: Mutex::new(false), changed: Notify::new() });
        let doubted = Arc::new(Notify::new());
        // A Deployment does not say whose it is: its requests count by their environment.
        self.table.put(id, (&wanted.service, ""), &wanted.revision, wanted.address, doubted.clone());
        let task = tokio::spawn(try_on(self.table.clone(), id.to_owned(), wanted.address, door.clone(), doubted));
        Backend { wanted, door, task: task.abort_handle() }
    }
}

impl Door {
    fn set(&self, table: &Table, id: &str, open: bool) {
        let mut now = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *now && !open {
            table.set_ready(id, false);
        }
        if *now != open {
            *now = open;
            self.changed.notify_one();
        }
    }

    fn pass(&self, table: &Table, id: &str) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open {
            table.set_ready(id, true);
        }
    }

    fn is_open(&self) -> bool {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries the replica whenever its door opens or a request could not reach it.
async fn try_on(table: Arc<Table>, id: String, address: SocketAddr, door: Arc<Door>, doubted: Arc<Notify>) {
    loop {
        while !door.is_open() {
            door.changed.notified().await;
        }
        while door.is_open() && !matches!(timeout(TRY_TIME, TcpStream::connect(address)).await, Ok(Ok(_))) {
            tokio::time::sleep(TRY_PAUSE).await;
        }
        door.pass(&table, &id);
        tokio::select! {
            () = doubted.notified() => {}
            () = door.changed.notified() => {}
        }
    }
}
