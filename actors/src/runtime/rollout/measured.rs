//! When it was measured, for whoever counts what came since.

use protocol::Time;

use super::RolloutState;

impl RolloutState {
    /// When the analyses under way are due next: this changes with every measurement, and what is
    /// counted from then on belongs to the next one.
    pub fn measured_at(&self) -> [Option<Time>; 2] {
        [&self.run, &self.background].map(|run| run.as_ref().map(|run| run.next_at))
    }
}
