//! What was measured, for a person and for a program.

use std::fmt;

use serde::Serialize;

/// The figures of one measurement.
#[derive(Serialize)]
pub struct Figures {
    /// Services.
    pub services: u32,
    /// Replicas of all of them.
    pub replicas: u32,
    /// How long it was measured.
    pub seconds: f64,
    /// Runs of all workers.
    pub runs: u64,
    /// Probes that were asked.
    pub probes: u64,
    /// Probes that should have been: every one in every window.
    pub probes_wanted: u64,
    /// Probes that could not be asked.
    pub unasked: u64,
    /// Runs that changed something.
    pub changed: u64,
    /// The longest run, in milliseconds; one of health lasts most of its window on purpose.
    pub longest_run_ms: u64,
    /// Runs that began late because the one before had not ended.
    pub late: u64,
    /// Probes at the same time.
    pub most_at_once: u64,
    /// Probes that began in one second.
    pub busiest_second: u64,
    /// Of one core, without whoever answers the probes.
    pub core_percent: f64,
    /// Writes to the store.
    pub writes: u64,
    /// Events that were said.
    pub events: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} services, {} replicas, {:.0} s, {} runs",
            self.services, self.replicas, self.seconds, self.runs
        )?;
        writeln!(
            f,
            "probes            {} of {} ({} could not be asked), at most {} at once, {} in the busiest second",
            self.probes, self.probes_wanted, self.unasked, self.most_at_once, self.busiest_second
        )?;
        writeln!(f, "longest run       {} ms, {} began late", self.longest_run_ms, self.late)?;
        writeln!(f, "cost              {:.2} % of a core", self.core_percent)?;
        write!(
            f,
            "changed nothing   {} writes, {} events, {} runs that changed something",
            self.writes, self.events, self.changed
        )
    }
}
