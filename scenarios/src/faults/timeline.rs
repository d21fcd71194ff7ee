//! What was done when, in a file beside the logs: the first thing to read after a violation.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use protocol::Time;

use crate::ledger::now_us;

/// The file.
#[derive(Debug)]
pub struct Timeline(Mutex<File>);

impl Timeline {
    /// Opens it.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(Mutex::new(File::options().create(true).append(true).open(path)?)))
    }

    /// Writes a line with the time; answers the time.
    pub fn note(&self, what: &str) -> Time {
        let now = Time::from_micros(now_us());
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A line that cannot be written must not end the run that it tells of.
        let _ = writeln!(file, "{now} {what}");
        now
    }
}
