//! When a worker's timer is due: pure. Time is cut into slots of the worker's interval, shifted by a
//! part that its name decides, so that its slots are the same on every node and those of many
//! workers lie apart. Each slot has one tick, somewhat later than its begin, by chance.

use std::time::Duration;

use protocol::Time;

use crate::machine::functions::fraction;
use crate::worker::Rhythm;

/// The shortest interval: below it a loop would be a flood.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// The slots of one worker that has a timer.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    every_us: i64,
    phase_us: i64,
    jitter: Duration,
}

impl Slots {
    /// The slots of `rhythm` for the worker whose name has this digest; `None` without a timer.
    pub fn new(rhythm: &Rhythm, digest: u64) -> Option<Self> {
        let every = rhythm.every?.max(EVERY_MIN);
        let every_us = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
        let phase_us = i64::try_from(digest % every_us.unsigned_abs()).unwrap_or(0);
        // With more than half a slot, a tick could come after the next one.
        Some(Self { every_us, phase_us, jitter: rhythm.jitter.min(every / 2) })
    }

    fn slot(&self, at: Time) -> i64 {
        at.as_micros().saturating_sub(self.phase_us).div_euclid(self.every_us)
    }

    fn jitter(&self, seed: u64) -> Duration {
        self.jitter.mul_f64(fraction(seed))
    }

    /// The tick of the slot after the one in which `now` lies: slots that passed meanwhile are one
    /// late tick, not many.
    pub fn next(&self, now: Time, seed: u64) -> Time {
        let begin = (self.slot(now) + 1).saturating_mul(self.every_us).saturating_add(self.phase_us);
        Time::from_micros(begin).after(self.jitter(seed))
    }

    /// The first tick of a worker that starts, or starts elsewhere: at once when the slot of `now`
    /// has had no run yet, which is told by when the last run `began`; else that of the next slot.
    pub fn first(&self, began: Option<Time>, now: Time, seed: u64) -> Time {
        match began {
            Some(began) if self.slot(began) >= self.slot(now) => self.next(now, seed),
            // The jitter still counts, so that a takeover does not run a thousand at once.
            Some(_) | None => now.after(self.jitter(seed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Time = Time::from_micros(1_767_268_800_000_000);

    fn slots(every_ms: u64, jitter_ms: u64, digest: u64) -> Slots {
        let rhythm =
            Rhythm { jitter: Duration::from_millis(jitter_ms), ..Rhythm::every(Duration::from_millis(every_ms)) };
        Slots::new(&rhythm, digest).unwrap()
    }

    #[test]
    fn a_worker_without_a_timer_has_no_slots() {
        assert!(Slots::new(&Rhythm::on_events(), 7).is_none());
    }

    #[test]
    fn a_start_runs_at_once_only_when_its_slot_had_no_run() {
        let slots = slots(60_000, 0, 0);
        let at = |seconds: i64| Time::from_micros(NOON.as_micros() + seconds * 1_000_000);
        for (began, now, first) in [
            (None, at(10), at(10)),
            (Some(at(5)), at(10), at(60)),
            (Some(at(-5)), at(10), at(10)),
            (Some(at(-600)), at(10), at(10)),
            // A clock that went back does not make it run again and again.
            (Some(at(70)), at(10), at(60)),
        ] {
            assert_eq!(slots.first(began, now, 1), first, "{began:?}");
        }
    }

    proptest! {
        #[test]
        fn each_slot_has_one_tick(every in 10u64..100_000, jitter in 0u64..200_000, digest: u64, seeds in prop::collection::vec(any::<u64>(), 2..40)) {
            let slots = slots(every, jitter, digest);
            let mut now = NOON;
            for seed in seeds {
                let next = slots.next(now, seed);
                prop_assert!(next > now);
                prop_assert_eq!(slots.slot(next), slots.slot(now) + 1, "no slot is missed and none has two");
                now = next;
            }
        }

        #[test]
        fn late_ticks_are_one(every in 10u64..100_000, digest: u64, late in 1u64..1_000, seed: u64) {
            let slots = slots(every, every / 10, digest);
            let due = slots.next(NOON, seed);
            let looked = due.after(Duration::from_millis(every * late));
            let next = slots.next(looked, seed);
            prop_assert!(next > looked && next.since(looked) <= Duration::from_millis(2 * every));
        }

        #[test]
        fn workers_are_spread_over_the_interval(tenant in 0u32..1_000) {
            let every = 30_000u64;
            let mut quarters = [0u32; 4];
            for n in 0..400 {
                let name = format!("health/t{tenant}/env-{n}");
                let digest = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                });
                let due = slots(every, 0, digest).next(NOON, 0);
                quarters[(due.since(NOON).as_millis() as u64 * 4 / (every + 1)) as usize] += 1;
            }
            prop_assert!(quarters.iter().all(|count| *count > 50), "{:?}", quarters);
        }
    }
}
