//! What one seed does: how many nodes, shards and sagas, and which faults come when.

use std::time::Duration;

use super::link::{REQUEST_WITHIN, Weather};
use crate::dice::Dice;

/// The longest that a takeover takes when every request is answered: the lease runs out, then the
/// journal is read.
const TAKEOVER: Duration = Duration::from_secs(5);

/// One simulated run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that everything comes from.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// Shards.
    pub shards: u16,
    /// Random definitions.
    pub definitions: usize,
    /// Sagas.
    pub sagas: usize,
    /// How long faults come.
    pub trouble: Duration,
    /// The weather while they do.
    pub weather: Weather,
    /// Whether clocks are set wrong.
    pub skewed: bool,
    /// Whether actors let each other go first by chance (with the feature `simulation`).
    pub shaken: bool,
    /// Signals that each saga gets besides those that it waits for.
    pub noise: u64,
    /// How long the event stream knows an id again: longer than a request can be late.
    pub window: Duration,
    /// Whether the event stream refuses some events for good, and the bus some parcels.
    pub refuses: bool,
    /// Whether names and keys are as long as they may be.
    pub long_names: bool,
    /// Faults that come, in order.
    pub faults: Vec<Fault>,
}

/// A fault: after a pause, something happens for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// How long after the one before.
    pub after: Duration,
    /// What.
    pub kind: Kind,
    /// For how long.
    pub long: Duration,
    /// Which node, where it is about one.
    pub node: usize,
}

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A node dies and begins again.
    Crash,
    /// All nodes die at once and begin again.
    CrashAll,
    /// For a while, nodes die in the very moment in which a frame of theirs became durable.
    CrashOnAppend,
    /// A node stands still and goes on, not knowing.
    Pause,
    /// A node is cut off from everything.
    Cut,
    /// A node leaves in order and begins again.
    Drain,
    /// The server is away.
    Away,
    /// The server's disk is full.
    Full,
    /// The server has no leader.
    Leaderless,
    /// A node's clock jumps.
    ClockJump,
    /// The server is away for longer than it knows ids again, and the nodes die meanwhile.
    Blackout,
    /// A shard's stream is deleted, and an empty one stands in its place until a copy is brought back.
    Deleted,
    /// An older copy of a shard's stream stands in its place, until the last one is brought back.
    OlderCopy,
    /// The snapshots of all shards are deleted, and the pages of ended sagas with them.
    SnapshotsGone,
}

/// Every kind of fault.
pub const KINDS: [Kind; 14] = [
    Kind::Crash,
    Kind::CrashAll,
    Kind::CrashOnAppend,
    Kind::Pause,
    Kind::Cut,
    Kind::Drain,
    Kind::Away,
    Kind::Full,
    Kind::Leaderless,
    Kind::ClockJump,
    Kind::Blackout,
    Kind::Deleted,
    Kind::OlderCopy,
    Kind::SnapshotsGone,
];

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = 1 + dice.roll(3) as usize;
        let skewed = dice.roll(3) == 0;
        let stormy = dice.roll(2) == 0;
        let weather = if stormy {
            Weather {
                lost: dice.roll(40),
                unanswered: dice.roll(40),
                late: dice.roll(20),
                delay: Duration::from_millis(1 + dice.roll(60)),
            }
        } else {
            Weather { delay: Duration::from_micros(200 + dice.roll(5_000)), ..Weather::FAIR }
        };
        // What was asked may arrive twice as late as whoever asked gave up.
        let window = REQUEST_WITHIN * 3 + Duration::from_millis(dice.roll(10_000));
        let faults: Vec<Fault> = (0..dice.roll(10))
            .map(|_| {
                let kind = KINDS[dice.roll(KINDS.len() as u64) as usize];
                let long = Duration::from_millis(50 + dice.roll(5_000));
                Fault {
                    after: Duration::from_millis(dice.roll(2_500)),
                    kind,
                    long: if kind == Kind::Blackout { window + long } else { long },
                    node: dice.roll(nodes as u64) as usize,
                }
            })
            .filter(|fault| skewed || fault.kind != Kind::ClockJump)
            .collect();
        let trouble = faults.iter().map(|fault| fault.after).sum::<Duration>() + Duration::from_secs(5);
        Self {
            seed,
            nodes,
            shards: 1 + u16::try_from(dice.roll(4)).unwrap_or(0),
            definitions: 1 + dice.roll(4) as usize,
            sagas: 2 + dice.roll(14) as usize,
            trouble,
            shaken: dice.roll(3) > 0,
            noise: if dice.roll(3) == 0 { dice.roll(20) } else { 0 },
            weather,
            skewed,
            window,
            refuses: dice.roll(4) == 0,
            long_names: dice.roll(4) == 0,
            faults,
        }
    }

    /// The latest that a timer may fire: all faults one after another, and a takeover after each. As
    /// long as messages are lost nothing is certain to go on; then the last wait for an answer ends.
    pub fn lateness_max(&self) -> Duration {
        let lossy = self.weather.lost + self.weather.unanswered > 0;
        let losses = if lossy { self.trouble + REQUEST_WITHIN } else { Duration::ZERO };
        self.faults.iter().map(|fault| fault.long + TAKEOVER).sum::<Duration>() + losses + TAKEOVER
    }
}
