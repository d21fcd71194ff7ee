//! A node's way to everything else: delays, losses, partitions, pauses, and death.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;

use super::world::World;
use crate::dice::Dice;

/// How long a node waits for an answer, as the adapters over NATS do.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(5);

const OPEN: u8 = 0;
const PAUSED: u8 = 1;
const DEAD: u8 = 2;

/// How bad the network is, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// Requests lost on their way.
    pub lost: u64,
    /// Answers lost on their way: what was asked was done.
    pub unanswered: u64,
    /// Requests that arrive long after whoever asked gave up.
    pub late: u64,
    /// Most time that one way takes.
    pub delay: Duration,
}

impl Weather {
    /// Nothing is lost.
    pub const FAIR: Self = Self { lost: 0, unanswered: 0, late: 0, delay: Duration::from_millis(2) };
}

/// The link of one life of a node.
pub struct Link {
    dice: std::sync::Mutex<Dice>,
    state: AtomicU8,
    changed: Notify,
    cut_until: std::sync::Mutex<Option<tokio::time::Instant>>,
    weather: std::sync::Mutex<Weather>,
}

/// No answer came in time; what was asked may have been done, or be done later.
#[derive(Debug)]
pub struct NoAnswer;

impl Link {
    /// An open link.
    pub fn new(world: &World, weather: Weather) -> Arc<Self> {
        Arc::new(Self {
            dice: std::sync::Mutex::new(Dice::new(world.roll(u64::MAX))),
            state: AtomicU8::new(OPEN),
            changed: Notify::new(),
            cut_until: std::sync::Mutex::new(None),
            weather: std::sync::Mutex::new(weather),
        })
    }

    /// One of `0..below`. Every link has dice of its own, so that the order in which links are used
    /// in one instant changes nothing.
    pub fn roll(&self, below: u64) -> u64 {
        self.dice.lock().expect("no holder panics").roll(below)
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.dice.lock().expect("no holder panics").chance(per_mille)
    }

    /// Some time up to `most`.
    pub fn pause_up_to(&self, most: Duration) -> Duration {
        self.dice.lock().expect("no holder panics").pause(most)
    }

    /// The node is dead: whatever it still asks is never heard, and nothing reaches it.
    pub fn die(&self) {
        self.state.store(DEAD, Relaxed);
    }

    /// The node stands still: nothing goes out and no answer comes in.
    pub fn pause(&self) {
        let _ = self.state.compare_exchange(OPEN, PAUSED, Relaxed, Relaxed);
    }

    /// It goes on.
    pub fn go_on(&self) {
        let _ = self.state.compare_exchange(PAUSED, OPEN, Relaxed, Relaxed);
        self.changed.notify_waiters();
    }

    /// Cuts the node off for a while.
    pub fn cut(&self, long: Duration) {
        *self.cut_until.lock().expect("no holder panics") = Some(tokio::time::Instant::now() + long);
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock().expect("no holder panics") = weather;
    }

    /// Whether the node lives.
    pub fn lives(&self) -> bool {
        self.state.load(Relaxed) != DEAD
    }

    /// Returns while the node runs; a dead one waits for ever.
    pub async fn runs(&self) {
        loop {
            let changed = self.changed.notified();
            match self.state.load(Relaxed) {
                OPEN => return,
                PAUSED => changed.await,
                _ => std::future::pending().await,
            }
        }
    }

    fn is_cut(&self) -> bool {
        let until = *self.cut_until.lock().expect("no holder panics");
        until.is_some_and(|until| tokio::time::Instant::now() < until)
    }

    /// Sends a request and waits for its answer. `work` is done on the other side, or not, or late.
    pub async fn ask<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        self.runs().await;
        let weather = *self.weather.lock().expect("no holder panics");
        let (there, back) = (self.pause_up_to(weather.delay), self.pause_up_to(weather.delay));
        let lost = self.chance(weather.lost) || self.is_cut();
        let late = self.chance(weather.late).then(|| self.pause_up_to(REQUEST_WITHIN * 2));
        let unanswered = self.chance(weather.unanswered);
        let given_up = tokio::time::Instant::now() + REQUEST_WITHIN;
        if lost {
            tokio::time::sleep_until(given_up).await;
            self.runs().await;
            return Err(NoAnswer);
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let link = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(there + late.unwrap_or_default()).await;
            let answer = work();
            tokio::time::sleep(back).await;
            if !unanswered && !link.is_cut() {
                // Whoever asked may have given up.
                let _ = tell.send(answer);
            }
        });
        let answer = tokio::time::timeout_at(given_up, told).await;
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                tokio::time::sleep_until(given_up).await;
                Err(NoAnswer)
            }
            Err(_) => Err(NoAnswer),
        };
        self.runs().await;
        answer
    }
}
