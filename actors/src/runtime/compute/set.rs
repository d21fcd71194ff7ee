//! What is wanted: one revision of one service in one environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

use crate::runtime::model::configuration::check_variable;
use crate::runtime::model::ids::label;
use crate::runtime::model::service::REPLICAS_MAX;

/// Arguments and variables together, in bytes. Linux itself takes about 2 MiB.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// Extra ports per replica.
const PORTS_MAX: usize = 16;

/// The name of the one file of an artifact that is a plain executable.
pub const PROGRAM: &str = "program";

/// Names a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetId {
    /// The environment, as in `prod`.
    pub environment: String,
    /// The service, as in `orders`.
    pub service: String,
    /// The revision. What it stands for never changes.
    pub revision: String,
}

impl SetId {
    /// Names a set.
    pub fn new(environment: impl Into<String>, service: impl Into<String>, revision: impl Into<String>) -> Self {
        Self { environment: environment.into(), service: service.into(), revision: revision.into() }
    }

    /// Whether all its names can be part of a host name and of a path.
    pub fn check(&self) -> Result<(), Failure> {
        check_name("environment", &self.environment)?;
        check_name("service", &self.service)?;
        check_name("revision", &self.revision)
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.environment, self.service, self.revision)
    }
}

/// Variables for a process. Their values may be secrets: they are never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variables(pub BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a revision is configured with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Its version, for comparing; empty when there is no configuration.
    #[serde(default)]
    pub version: String,
    /// What the processes find in their environment.
    #[serde(default)]
    pub variables: Variables,
}

/// A secret that processes find in a variable: which one, never its value. The value is read when a
/// process is started, and is on no disk and in no log of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Where it is kept.
    pub name: String,
    /// Which version.
    pub version: u64,
}

/// The most a replica may take, as far as the place it runs in can hold it to that; what it cannot
/// is said in [`ObservedReplica::unlimited`](super::observed::ObservedReplica::unlimited).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Memory in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Thousandths of one processor.
    #[serde(default)]
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    #[serde(default)]
    pub processes: Option<u32>,
    /// Open files of one process.
    #[serde(default)]
    pub open_files: Option<u64>,
}

/// One revision of one service in one environment, and how many of it should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Set {
    /// Which.
    #[serde(flatten)]
    pub id: SetId,
    /// Whose service it is. Empty in what earlier releases wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// The artifact: SHA-256 in lower-case hexadecimal digits.
    pub digest: String,
    /// The program: a path in the artifact ([`PROGRAM`] where that is a plain executable), or absolute
    /// where the place has programs of its own and lets them be named. No shell sees it.
    pub command: String,
    /// Its arguments, each passed as it is.
    #[serde(default)]
    pub args: Vec<String>,
    /// What it is configured with.
    #[serde(default)]
    pub configuration: Configuration,
    /// Variables that hold secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// Ports besides the one for HTTP, which is always given as `PORT`: `admin` is given as
    /// `PORT_ADMIN`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// The most one replica may take.
    #[serde(default)]
    pub limits: Limits,
    /// How many.
    pub replicas: u32,
}

impl Set {
    /// Whether both stand for the same revision, however many of it.
    pub fn same_revision(&self, other: &Self) -> bool {
        // One that an earlier release wrote down is nobody else's.
        let tenant = if self.tenant.is_empty() { other.tenant.clone() } else { self.tenant.clone() };
        Self { replicas: 0, tenant, ..self.clone() } == Self { replicas: 0, ..other.clone() }
    }

    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), Failure> {
        self.id.check()?;
        check_digest(&self.digest)?;
        if self.replicas > REPLICAS_MAX {
            return bad(format!("{} replicas; at most {REPLICAS_MAX} are possible", self.replicas));
        }
        let command = Path::new(&self.command);
        let leads_out = command.components().any(|part| part == Component::ParentDir);
        if self.command.is_empty() || leads_out {
            return bad(format!("the command {:?} is no path in the artifact", self.command));
        }
        let variables = &self.configuration.variables.0;
        let words = self.args.iter().chain([&self.command]);
        if words.clone().any(|word| word.contains('\0')) {
            return bad("a zero byte can stand in no argument".into());
        }
        let texts = words.chain(variables.keys()).chain(variables.values());
        if texts.map(String::len).sum::<usize>() > TEXT_BYTES_MAX {
            return bad(format!("arguments and variables are longer than {TEXT_BYTES_MAX} bytes"));
        }
        if let Some(name) = self.secrets.keys().find(|name| variables.contains_key(*name)) {
            return bad(format!("the variable {name:?} is a secret and a configuration; call one something else"));
        }
        let secret = String::new();
        for (name, value) in variables.iter().chain(self.secrets.keys().map(|name| (name, &secret))) {
            check_variable(name, value).or_else(|fault| bad(fault.to_string()))?;
        }
        if self.ports.len() > PORTS_MAX {
            return bad(format!("{} extra ports; at most {PORTS_MAX} are possible", self.ports.len()));
        }
        self.ports.iter().try_for_each(|name| check_name("port", name))
    }
}

fn bad<T>(why: String) -> Result<T, Failure> {
    Err(Failure::named("BadSet", why))
}

/// Whether `name` can be a label of a host name: that is what services and environments become.
pub fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    label(what, name).or_else(|fault| bad(fault.to_string()))
}

/// Whether `digest` is a SHA-256 in the one way we write it.
pub fn check_digest(digest: &str) -> Result<(), Failure> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digest.len() != 64 || !digest.bytes().all(hex) {
        return bad(format!("the digest {digest:?} should be a SHA-256 in 64 lower-case hexadecimal digits"));
    }
    Ok(())
}
