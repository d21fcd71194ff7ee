//! How far a shard's relay is: which frames have something unsent, which number its next event gets,
//! and behind which place of the event stream a successor has to look. Without IO.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use protocol::Time;

use crate::ports::Position;

/// Up to where everything was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// The frame.
    pub position: Position,
    /// Events of the shard up to that frame.
    pub events: u64,
    /// A sequence of the event stream: whatever comes after that frame stands behind it. 0 where
    /// nobody knows one.
    pub stream: u64,
}

/// [`Sent`], as the relay tells the shard.
#[derive(Debug, Default)]
pub struct Relayed(Mutex<Sent>);

impl Relayed {
    /// Begins with what the takeover found.
    pub const fn new(sent: Sent) -> Self {
        Self(Mutex::new(sent))
    }

    /// What the relay said last.
    pub fn get(&self) -> Sent {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, sent: Sent) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sent;
    }
}

/// A frame of which something is unsent.
struct Open {
    left: usize,
    /// As it was before the frame.
    before: Sent,
    since: Time,
}

/// The account. Frames come in the order of their positions.
pub struct Progress {
    open: BTreeMap<Position, Open>,
    last: Position,
    events: u64,
    stream: u64,
}

impl Progress {
    /// Goes on behind what was sent.
    pub const fn new(sent: Sent) -> Self {
        Self { open: BTreeMap::new(), last: sent.position, events: sent.events, stream: sent.stream }
    }

    /// A frame says that so much is to be sent.
    pub fn opened(&mut self, position: Position, count: usize, now: Time) {
        if count > 0 {
            let before = Sent { position: position.saturating_sub(1), events: self.events, stream: self.stream };
            self.open.insert(position, Open { left: count, before, since: now });
        }
        self.last = self.last.max(position);
    }

    /// The number of the next event.
    pub fn number(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// One thing that the frame at `position` says was sent.
    pub fn closed(&mut self, position: Position) {
        if let Some(open) = self.open.get_mut(&position) {
            open.left -= 1;
            if open.left == 0 {
                self.open.remove(&position);
            }
        }
    }

    /// The event stream holds an event of this shard at `sequence`.
    pub fn holds(&mut self, sequence: u64) {
        self.stream = self.stream.max(sequence);
    }

    /// Up to where everything was sent.
    pub fn sent(&self) -> Sent {
        match self.open.first_key_value() {
            Some((_, open)) => open.before,
            None => Sent { position: self.last, events: self.events, stream: self.stream },
        }
    }

    /// Since when the oldest frame waits of which something is unsent.
    pub fn waits_since(&self) -> Option<Time> {
        self.open.first_key_value().map(|(_, open)| open.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Time = Time::from_micros(43_200_000_000);

    #[test]
    fn a_successor_counts_on_from_the_oldest_frame_that_is_not_sent() {
        let mut progress = Progress::new(Sent { position: 10, events: 4, stream: 90 });
        progress.opened(11, 2, NOON);
        assert_eq!((progress.number(), progress.number()), (5, 6));
        progress.opened(12, 0, NOON);
        progress.opened(13, 1, NOON);
        assert_eq!(progress.number(), 7);
        // The later event is sent first: the successor has to look for it behind what was known then.
        progress.holds(95);
        progress.closed(13);
        assert_eq!(progress.sent(), Sent { position: 10, events: 4, stream: 90 });
        progress.closed(11);
        assert_eq!(progress.waits_since(), Some(NOON));
        progress.holds(97);
        progress.closed(11);
        assert_eq!(progress.sent(), Sent { position: 13, events: 7, stream: 97 });
        let mut successor = Progress::new(progress.sent());
        successor.opened(14, 1, NOON);
        assert_eq!(successor.number(), 8);
    }
}
