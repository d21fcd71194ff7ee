//! Limits of workers. Each names its reason and what happens when it is reached.

use std::time::Duration;

use crate::machine::restart::Intensity;
use crate::worker::CAUSES_MAX;

/// Settings of workers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How often a node looks which environments there are: they come and go by people's hands. It
    /// looks at once when it gains or loses a shard.
    pub look_every: Duration,
    /// How long listing the environments may take; those known before count meanwhile.
    pub list_within: Duration,
    /// Workers on one node, some 10 KB each when idle; more are not started, which is an error in the
    /// log and on the card.
    pub workers_max: usize,
    /// How long a run under way may go on when its worker is stopped (the node drains, the shard moves
    /// away); then it is aborted. Less than a service manager waits before it kills.
    pub stop_grace: Duration,
    /// How often an attempt that panics, or a worker's actor that fails, is started again, and after
    /// which pauses. Beyond it the run has failed and the next one goes on; an actor sits out the
    /// window.
    pub restarts: Intensity,
    /// Events that one run takes with it; one more becomes a dead letter (`worker-full`), and the
    /// run looks all the same.
    pub events_per_run: usize,
    /// Ids of events that a worker remembers, to drop what comes again; the oldest are forgotten
    /// first. The relay repeats what is a few seconds old, after a takeover.
    pub events_seen: usize,
    /// Ids of handled events that are remembered also on the next node: what a takeover repeats.
    pub events_kept: usize,
    /// The longest row of causes, in events; what the last of them wakes does not act, and says so.
    pub causes_max: u32,
    /// People and programs that ask for the same next run; one more is answered "busy".
    pub asks_per_run: usize,
    /// Runs that a worker shows.
    pub history: usize,
    /// Failed runs in a row that are an alert: an error in the log, for a human, and again after as
    /// many more.
    pub alert_after: u32,
    /// What a worker may remember, as stored, in bytes; a report with more fails its run: a worker
    /// observes its world instead of keeping a copy.
    pub remembered_max_bytes: usize,
    /// The pause before a port that did not answer is asked again.
    pub port_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(10),
            list_within: Duration::from_secs(10),
            workers_max: 10_000,
            stop_grace: Duration::from_secs(5),
            restarts: Intensity::default(),
            events_per_run: 64,
            events_seen: 1_024,
            events_kept: 32,
            causes_max: CAUSES_MAX,
            asks_per_run: 32,
            history: 20,
            alert_after: 3,
            remembered_max_bytes: 16 * 1024,
            port_pause: Duration::from_secs(1),
        }
    }
}
