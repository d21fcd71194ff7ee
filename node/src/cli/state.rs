//! What a running `skald up` leaves for other commands, so that they find it without being told.

use std::io;
use std::path::PathBuf;

use protocol::{NodeId, Time};
use serde::{Deserialize, Serialize};

/// A cluster on this machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// The process that started it and will stop it.
    pub(super) pid: u32,
    /// Addresses of its NATS servers.
    pub(super) servers: Vec<String>,
    /// Where its data is.
    pub(super) data: PathBuf,
    /// Where its catalogue is.
    pub(super) catalog: PathBuf,
    /// Its nodes.
    pub(super) nodes: Vec<NodeState>,
    /// When it was started.
    pub(super) started_at: Time,
}

/// One node of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeState {
    /// Its name.
    pub(super) node: NodeId,
    /// Its process.
    pub(super) pid: u32,
    /// Its debug endpoint, `http://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) debug: Option<String>,
}

/// `$SKALD_STATE`, or a file below the user's state directory.
pub(super) fn file() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SKALD_STATE").unwrap_or_else(|| {
        set("XDG_STATE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/state")))
            .unwrap_or_else(std::env::temp_dir)
            .join("skald/up.json")
    })
}

/// The cluster that runs on this machine, if its `skald up` is alive.
pub(super) fn running() -> Option<State> {
    let state: State = serde_json::from_slice(&std::fs::read(file()).ok()?).ok()?;
    is_alive(state.pid).then_some(state)
}

/// Leaves `state` for others. Written beside and renamed, so that nobody reads half of it.
pub(super) fn leave(state: &State) -> io::Result<()> {
    let file = file();
    let dir = file.parent().ok_or_else(|| io::Error::other("the state file has no directory"))?;
    std::fs::create_dir_all(dir)?;
    let beside = file.with_extension(format!("{}.tmp", state.pid));
    std::fs::write(&beside, serde_json::to_vec_pretty(state)?)?;
    std::fs::rename(beside, file)
}

/// Takes the state away, if it still is that of `pid`.
pub(super) fn forget(pid: u32) {
    let ours = std::fs::read(file()).ok().and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
    if ours.is_some_and(|state| state.pid == pid) {
        let _ = std::fs::remove_file(file());
    }
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| match rustix::process::test_kill_process(pid) {
        Ok(()) => true,
        Err(error) => error == rustix::io::Errno::PERM,
    })
}
