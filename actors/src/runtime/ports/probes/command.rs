//! Asks a program.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use supervisor::activity::Failure;
use tokio::process::Command;

use super::Answer;
use super::local::bad;

/// What the program finds as `PATH`. Of our own environment it sees nothing: secrets may be there.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Ends the program and what it started: when nobody waits any more, and also when the program
/// ended and left something behind.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Gone already: that is what is wanted.
            kill_process_group(leader, Signal::KILL).ok();
        }
    }
}

/// Runs `command` in `dir`; no shell sees it, and nothing of what it prints is kept.
pub async fn run(command: &[String], dir: Option<&Path>) -> Result<Answer, Failure> {
    let Some((program, arguments)) = command.split_first() else { return Err(bad("there is no command")) };
    let mut child = Command::new(program);
    child.args(arguments).env_clear().env("PATH", PATH).kill_on_drop(true).process_group(0);
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(dir) = dir {
        child.current_dir(dir);
    }
    let mut child = match child.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(bad(format!("{program}: {error}"))),
        Err(error) => return Err(Failure::transient("starting the command of a probe", error)),
    };
    let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    match child.wait().await {
        Ok(status) if status.success() => Ok(Answer::Well),
        Ok(status) => Ok(Answer::unwell(format_args!("the command ended with {status}"))),
        Err(error) => Err(Failure::transient("waiting for the command of a probe", error)),
    }
}
