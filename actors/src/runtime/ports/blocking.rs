//! Work that blocks on the disk, beside the threads that must not.

use supervisor::activity::Failure;

/// Runs `work` on a thread that may block.
pub async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // A panic is a bug; it goes up the tree as one.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Failure::transient(doing, error)),
    }
}
