//! How long this thread was on a processor: on a machine that does something else at the same time,
//! the clock on the wall tells nothing.

use std::time::{Duration, Instant};

/// A moment on both clocks.
pub struct Busy(Option<Duration>, Instant);

impl Busy {
    /// Now.
    pub fn now() -> Self {
        Self(on_processor(), Instant::now())
    }

    /// How long the thread was busy since; the time that passed where the system does not tell.
    pub fn elapsed(&self) -> Duration {
        let passed = self.1.elapsed();
        on_processor().zip(self.0).map_or(passed, |(now, then)| now.saturating_sub(then).min(passed))
    }
}

fn on_processor() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
