//! The program beside its state, apart from that of others: what the stories of `skald up` share.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// `skald` with these words; what `skald up` leaves for others is in `state` below `dir`.
pub fn skald(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skald_under_test"));
    command.env("SKALD_STATE", dir.join("state")).env("STORY_LEDGER", dir.join("ledger"));
    command.args(words).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Stops it as a person would.
pub async fn stop(mut up: Child, patience: Duration) {
    let pid = Pid::from_raw(i32::try_from(up.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    tokio::time::timeout(patience, up.wait()).await.expect("it stops").unwrap();
}
