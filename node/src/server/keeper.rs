//! Holds one child process: starts it, sees its end, and signals it only while it is surely the
//! same process.
//!
//! The child is started by a thread that lives exactly as long as the child does. That matters
//! where `setpriv --pdeathsig` is available (Linux): the child is then told to stop when that
//! thread ends early, that is, when this process is killed. Where it is not, a server survives a
//! `kill -9` of its node; the data directory's lock, which the server inherits as its standard
//! input, then keeps a second server away until the first one is stopped.

use std::io;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::watch;

/// A running child. Dropping it does not stop the child.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pid: Pid,
    /// True once the child is reaped; its pid may be somebody else's from then on.
    reaped: Arc<Mutex<bool>>,
    ended: watch::Receiver<Option<String>>,
}

impl Keeper {
    /// Starts `command` and watches it.
    pub(super) async fn start(mut command: Command) -> io::Result<Self> {
        let (born, birth) = tokio::sync::oneshot::channel();
        let (end, ended) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        let mark = Arc::clone(&reaped);
        std::thread::Builder::new().name("nats-server".into()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(born.send(Err(error))),
            };
            // It holds the lock that the child has now; the child's end must free it.
            drop(command);
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a positive pid");
            let _ = born.send(Ok(pid));
            // Waits without reaping, so that the pid stays the child's until the mark is set.
            while let Err(rustix::io::Errno::INTR) =
                rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            {}
            let mut reaped = lock(&mark);
            let status = child.wait();
            *reaped = true;
            drop(reaped);
            let _ = end.send(Some(describe(status)));
        })?;
        let pid = birth.await.map_err(|_| io::Error::other("the thread that starts the server ended"))??;
        Ok(Self { pid, reaped, ended })
    }

    /// The child's process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How the child ended, if it did.
    pub(super) fn end(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Waits until the child has ended, and says how.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await.map(|end| end.clone());
        end.ok().flatten().unwrap_or_else(|| "it is not watched any more".into())
    }

    /// Signals the child; nothing happens when it has ended.
    pub(super) fn signal(&self, signal: Signal) {
        let reaped = lock(&self.reaped);
        if !*reaped && let Err(error) = rustix::process::kill_process(self.pid, signal) {
            tracing::debug!(pid = self.pid(), %error, "the nats-server could not be signalled");
        }
    }
}

fn lock(mark: &Mutex<bool>) -> MutexGuard<'_, bool> {
    mark.lock().unwrap_or_else(PoisonError::into_inner)
}

fn describe(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| format!("its end could not be seen: {error}"), |status| status.to_string())
}
