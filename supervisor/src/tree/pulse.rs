//! Whether a shard moves: what waits, and since when. It is looked at without asking the shard, which
//! may be the very thing that stands still.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use dashmap::DashMap;
use protocol::{ShardId, Time};

use super::journal::Meters;

/// The shards of one node.
#[derive(Default)]
pub struct Pulses(DashMap<ShardId, Arc<Meters>>);

/// One shard, as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pulse {
    /// Which.
    pub shard: ShardId,
    /// Events and parcels that are not sent yet.
    pub unsent: u64,
    /// How long the oldest frame has waited for one of them.
    pub unsent_for: Duration,
    /// How late the earliest timer is that was not fired.
    pub late_by: Duration,
    /// How long ago the shard last handled a message of its clock, which sends one every `anchor_every`.
    pub silent_for: Duration,
    /// What was refused for good and buried since the takeover.
    pub buried: u64,
    /// Sagas that cannot be rebuilt and are parked as stuck.
    pub broken: u64,
}

impl Pulses {
    pub(super) fn begin(&self, shard: ShardId, meters: Arc<Meters>) {
        self.0.insert(shard, meters);
    }

    /// The shard's life that counted with `meters` is over; the next one may have begun.
    pub(super) fn end(&self, shard: ShardId, meters: &Arc<Meters>) {
        self.0.remove_if(&shard, |_, own| Arc::ptr_eq(own, meters));
    }

    /// Every shard of this node, in order.
    pub fn all(&self, now: Time) -> Vec<Pulse> {
        let pulse = |shard: ShardId, meters: &Meters| Pulse {
            shard,
            unsent: meters.unsent.load(Relaxed),
            unsent_for: since(meters.waits_since.load(Relaxed), now),
            late_by: since(meters.due.load(Relaxed), now),
            silent_for: since(meters.heard.load(Relaxed), now),
            buried: meters.buried.load(Relaxed),
            broken: meters.broken.load(Relaxed),
        };
        let mut all: Vec<Pulse> = self.0.iter().map(|entry| pulse(*entry.key(), entry.value())).collect();
        all.sort_by_key(|pulse| pulse.shard);
        all
    }
}

impl Pulse {
    /// What stands still for longer than `after`, in sentences.
    pub fn troubles(&self, after: Duration) -> Vec<String> {
        let Self { shard, unsent, unsent_for, late_by, silent_for, buried: _, broken: _ } = *self;
        let mut troubles = Vec::new();
        if silent_for > after {
            troubles
                .push(format!("shard {shard} stands still: it has handled no message for {} s", silent_for.as_secs()));
        }
        if unsent_for > after {
            troubles.push(format!(
                "the relay of shard {shard} stands still: {unsent} events and parcels are unsent, the oldest for {} s",
                unsent_for.as_secs()
            ));
        }
        if late_by > after {
            troubles.push(format!("the timers of shard {shard} stand still: one is late by {} s", late_by.as_secs()));
        }
        troubles
    }
}

/// What [`Meters`] keep for "nothing".
pub(super) const NEVER: i64 = i64::MAX;

fn since(micros: i64, now: Time) -> Duration {
    now.since(Time::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_stands_still_is_named() {
        let (pulses, meters) = (Pulses::default(), Arc::new(Meters::default()));
        let noon = Time::from_micros(43_200_000_000);
        let (late, after) = (noon.after(Duration::from_secs(40)), Duration::from_secs(30));
        pulses.begin(ShardId(3), meters.clone());
        let troubles = |pulses: &Pulses, now| pulses.all(now)[0].troubles(after);
        assert!(troubles(&pulses, late).is_empty(), "nothing waits");
        meters.wait_since(Some(noon));
        meters.set_due(Some(late.after(after)));
        assert!(troubles(&pulses, noon.after(after)).is_empty(), "it has not waited for long");
        assert!(troubles(&pulses, late)[0].starts_with("the relay of shard 3 stands still"));
        meters.wait_since(None);
        meters.set_due(Some(noon));
        assert!(troubles(&pulses, late)[0].starts_with("the timers of shard 3 stand still"));
        meters.set_due(None);
        meters.hear(noon);
        assert!(troubles(&pulses, noon.after(after)).is_empty(), "it has not been silent for long");
        assert!(troubles(&pulses, late)[0].starts_with("shard 3 stands still"));
        pulses.end(ShardId(3), &Arc::default());
        assert_eq!(pulses.all(late).len(), 1, "that was another life of the shard");
        pulses.end(ShardId(3), &meters);
        assert!(pulses.all(late).is_empty());
    }
}
