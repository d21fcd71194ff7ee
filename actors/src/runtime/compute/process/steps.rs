//! The steps of a start between which a crash matters.

/// A step that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is on the disk that a process will be started.
    Intended,
    /// The process runs, and only its marker says whose it is.
    Spawned,
    /// It is on the disk which process it is.
    Recorded,
}

/// Hears of each step before the next one begins. The product has [`Uninterrupted`]; a test ends
/// its process at any step.
pub trait Steps: Send + Sync + 'static {
    /// `step` is done.
    fn done(&self, step: Step);
}

/// Lets every step follow the one before.
#[derive(Debug, Clone, Copy)]
pub struct Uninterrupted;

impl Steps for Uninterrupted {
    fn done(&self, _: Step) {}
}
