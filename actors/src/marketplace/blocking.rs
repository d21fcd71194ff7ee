//! Work that blocks on the disk, beside the engine's threads, saying that it is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use supervisor::activity::{Attempt, Failure, Heartbeat};

/// Lives as long as somebody waits for an attempt. A thread cannot be stopped from outside; it
/// asks here between its steps whether the engine gave the attempt up.
#[derive(Debug, Default)]
pub struct Awaited(Arc<AtomicBool>);

impl Awaited {
    /// Turns true when nobody waits any more.
    pub fn given_up(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work` on a thread that may block. It is given the attempt's heartbeat.
pub async fn blocking<T: Send + 'static>(
    attempt: &Attempt,
    work: impl FnOnce(&Heartbeat) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let heartbeat = attempt.heartbeat.clone();
    let done = tokio::task::spawn_blocking(move || work(&heartbeat)).await;
    match done {
        Ok(result) => result,
        // A panic is a bug; it goes up the tree as one.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Failure::transient("working on the disk", error)),
    }
}
