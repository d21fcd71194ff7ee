//! What a launcher is told, and what it answers.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The largest telling, in bytes: arguments and variables of a set with all its secrets, several times.
const SPEC_MAX_BYTES: u64 = 64 << 20;

/// Whose mounts and processes a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Space {
    /// Its own; made with the rights of the superuser.
    Own,
    /// Its own; made in a user namespace, by a user without rights.
    OwnAsUser,
    /// The machine's.
    Shared,
}

impl Space {
    /// Whether it has mounts and processes of its own.
    pub fn is_own(self) -> bool {
        match self {
            Self::Own | Self::OwnAsUser => true,
            Self::Shared => false,
        }
    }
}

/// The most that one process may have, as the kernel counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ceilings {
    /// Bytes of its data.
    pub data: Option<u64>,
    /// Open files.
    pub files: Option<u64>,
    /// Bytes of one file that it writes.
    pub file_bytes: Option<u64>,
    /// Processes and threads of its user.
    pub processes: Option<u64>,
}

/// A program, and how it is held.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Everything is done but the start: to see whether it can be.
    pub trial: bool,
    /// What it sees.
    pub space: Space,
    /// The user and group it runs as. `None`: as the node's.
    pub user: Option<u32>,
    /// Whether system calls are filtered.
    pub filter: bool,
    /// The directory of its control group.
    pub group: Option<PathBuf>,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// All its variables.
    pub variables: BTreeMap<String, Vec<u8>>,
    /// Where it starts; it may read there.
    pub dir: PathBuf,
    /// Where it may write, on the disk.
    pub state: Option<PathBuf>,
    /// What else it may read, where it is there.
    pub visible: Vec<PathBuf>,
    /// Bytes of its `/tmp`, in memory.
    pub tmp_bytes: u64,
    /// What the kernel holds each process to.
    pub ceilings: Ceilings,
    /// The log.
    pub log: PathBuf,
    /// Where its output goes and how much of it is kept.
    pub output: super::output::Bounds,
}

/// What the threshold tells the keeper, and the keeper the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// The program runs.
    Started,
    /// It cannot be started.
    Failed(String),
    /// It ended with a status.
    Status(i32),
    /// It ended by a signal.
    Signal(i32),
}

/// Says `what`, with its length before it.
pub fn say(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(what)?;
    to.write_all(&(bytes.len() as u64).to_be_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Hears what was said. `None`: nothing more comes.
pub fn hear<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 8];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u64::from_be_bytes(length);
    if length > SPEC_MAX_BYTES {
        return Err(io::Error::other(format!("{length} bytes are more than {SPEC_MAX_BYTES}")));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}
