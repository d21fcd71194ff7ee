//! The state directory: what was wanted and what was started, so that another Skald goes on.
//!
//! ```text
//! lock, instance
//! artifacts/DIGEST/…
//! environments/ENVIRONMENT/gateway.json
//!                          routes/SERVICE.json
//!                          sets/SERVICE@REVISION.json
//!                          replicas/REPLICA.json
//!                          logs/REPLICA.log
//! state/ENVIRONMENT/…       what the services of an environment write
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::set::{Set, SetId};
use super::super::traffic::Route;
use super::record::Record;
use crate::runtime::durable;

/// A set as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// The set.
    pub set: Set,
    /// Whether it is on its way out.
    #[serde(default)]
    pub removing: bool,
}

/// Where an environment is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listens {
    address: SocketAddr,
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    instance: String,
}

impl Store {
    /// The state in `root`, made when it is not there, and the lock that keeps others out for as
    /// long as it is held. Configuration may hold secrets, so only the owner may look in.
    pub fn open(root: &Path) -> io::Result<(Self, File)> {
        let lock = Self::lock(root)?;
        Ok((Self::at(root)?, lock))
    }

    fn lock(root: &Path) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        durable::lock_now(&root.join("lock"))
    }

    /// The state in `root`, for who holds its lock.
    pub fn at(root: &Path) -> io::Result<Self> {
        let named = root.join("instance");
        let instance = match fs::read_to_string(&named) {
            Ok(instance) => instance,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let instance = uuid::Uuid::new_v4().to_string();
                durable::write(&named, instance.as_bytes())?;
                instance
            }
            Err(error) => return Err(error),
        };
        fs::create_dir_all(root.join("environments"))?;
        Ok(Self { root: root.to_owned(), instance })
    }

    /// Names this directory in the markers of its processes.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The environments that were ever used.
    pub fn environments(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.root.join("environments"))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// The sets of an environment.
    pub fn sets(&self, environment: &str) -> io::Result<Vec<Wanted>> {
        read_all(&self.dir(environment, "sets")).map(|all| all.into_iter().map(|(_, wanted)| wanted).collect())
    }

    /// Keeps a set.
    pub fn put_set(&self, wanted: &Wanted) -> io::Result<()> {
        write(&self.set(&wanted.set.id), wanted)
    }

    /// Forgets a set.
    pub fn remove_set(&self, id: &SetId) -> io::Result<()> {
        durable::remove(&self.set(id))
    }

    /// The replicas of an environment.
    pub fn replicas(&self, environment: &str) -> io::Result<Vec<Record>> {
        read_all(&self.dir(environment, "replicas")).map(|all| all.into_iter().map(|(_, record)| record).collect())
    }

    /// Keeps a replica.
    pub fn put_replica(&self, record: &Record) -> io::Result<()> {
        write(&self.replica(&record.set.environment, &record.id), record)
    }

    /// Forgets a replica; its log stays for now.
    pub fn remove_replica(&self, environment: &str, id: &str) -> io::Result<()> {
        durable::remove(&self.replica(environment, id))
    }

    /// The routes of an environment, by service.
    pub fn routes(&self, environment: &str) -> io::Result<Vec<(String, Vec<Route>)>> {
        read_all(&self.dir(environment, "routes"))
    }

    /// Keeps the routes of a service.
    pub fn put_routes(&self, environment: &str, service: &str, routes: &[Route]) -> io::Result<()> {
        write(&self.dir(environment, "routes").join(format!("{service}.json")), &routes)
    }

    /// Where the gateway of an environment listens, once that was settled.
    pub fn listens(&self, environment: &str) -> io::Result<Option<SocketAddr>> {
        let path = self.environment(environment).join("gateway.json");
        Ok(if path.exists() { Some(read::<Listens>(&path)?.address) } else { None })
    }

    /// Settles where it listens.
    pub fn put_listens(&self, environment: &str, address: SocketAddr) -> io::Result<()> {
        write(&self.environment(environment).join("gateway.json"), &Listens { address })
    }

    /// Where the logs of an environment are.
    pub fn logs(&self, environment: &str) -> PathBuf {
        self.dir(environment, "logs")
    }

    /// The log of a replica.
    pub fn log(&self, environment: &str, replica: &str) -> PathBuf {
        self.logs(environment).join(format!("{replica}.log"))
    }

    /// Where all services of an environment keep what they write.
    pub fn states(&self, environment: &str) -> PathBuf {
        self.root.join("state").join(environment)
    }

    /// Where the processes of a service may write.
    pub fn state(&self, environment: &str, tenant: &str, service: &str) -> PathBuf {
        // A tenant's name is no path, and empty in sets of releases that did not know it.
        self.states(environment).join(format!("of-{tenant}")).join(service)
    }

    /// Removes what a service wrote, its logs and its routes.
    pub fn erase(&self, environment: &str, tenant: &str, service: &str) -> io::Result<()> {
        durable::remove_dir(&self.state(environment, tenant, service))?;
        durable::remove(&self.dir(environment, "routes").join(format!("{service}.json")))?;
        for log in files(&self.logs(environment))? {
            if log.file_name().is_some_and(|name| service_of(&name.to_string_lossy()) == Some(service)) {
                durable::remove(&log)?;
            }
        }
        Ok(())
    }

    /// Removes all that is kept of an environment in which nothing runs.
    pub fn remove_environment(&self, environment: &str) -> io::Result<()> {
        crate::runtime::durable::remove_dir(&self.environment(environment))
    }

    fn environment(&self, environment: &str) -> PathBuf {
        self.root.join("environments").join(environment)
    }

    fn dir(&self, environment: &str, part: &str) -> PathBuf {
        self.environment(environment).join(part)
    }

    fn set(&self, id: &SetId) -> PathBuf {
        self.dir(&id.environment, "sets").join(format!("{}@{}.json", id.service, id.revision))
    }

    fn replica(&self, environment: &str, id: &str) -> PathBuf {
        self.dir(environment, "replicas").join(format!("{id}.json"))
    }
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    durable::write(path, &serde_json::to_vec_pretty(value)?)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| io::Error::other(format!("{} cannot be read: {error}", path.display())))
}

/// Whose log a file is: `SERVICE-REVISION-CHANCE.log` and what follows, where only a service has hyphens.
fn service_of(file: &str) -> Option<&str> {
    let replica = file.split('.').next()?;
    let (rest, _) = replica.rsplit_once('-')?;
    Some(rest.rsplit_once('-')?.0)
}

/// What is in a directory; one that is not there has nothing in it.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All files of a directory, with their names without `.json`. A write that a crash cut short has
/// another ending and is passed over.
fn read_all<T: DeserializeOwned>(dir: &Path) -> io::Result<Vec<(String, T)>> {
    let mut all = Vec::new();
    for path in files(dir)? {
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) {
            all.push((name.to_owned(), read(&path)?));
        }
    }
    Ok(all)
}
