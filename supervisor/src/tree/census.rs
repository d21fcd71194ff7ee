//! How many sagas live in a shard: of each tenant, and below each root; and how many bytes the journal
//! keeps for those of each tenant. A seat is taken when a saga is let in and given back when its slot
//! drops it, so that the count cannot differ from what is there.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::{Code, Problem, SagaId, SagaKey, Tenant, Time};

use super::engine::Limits;
use crate::machine::Family;

/// The place of one living saga among those that count.
#[derive(Debug)]
pub struct Seat {
    tenant: Arc<Tally>,
    root: Option<Arc<()>>,
    stored: Arc<Stored>,
}

/// What is counted of one tenant; its living sagas are those who hold it.
#[derive(Default, Debug)]
struct Tally {
    bytes: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    day: Mutex<Day>,
}

/// What was written by when, an hour apart, over the last day: the oldest first.
#[derive(Default, Debug)]
struct Day(VecDeque<(i64, u64)>);

const HOUR_MICROS: i64 = 3_600 * 1_000_000;
const HOURS: i64 = 24;

impl Day {
    /// What was written in the last day, of `written` in all.
    fn until(&mut self, now: Time, written: u64) -> u64 {
        let hour = now.as_micros() / HOUR_MICROS;
        if self.0.back().is_none_or(|(last, _)| *last < hour) {
            self.0.push_back((hour, written));
        }
        while self.0.len() > 1 && self.0.front().is_some_and(|(first, _)| first + HOURS <= hour) {
            self.0.pop_front();
        }
        written.saturating_sub(self.0.front().map_or(0, |(_, before)| *before))
    }
}

/// What a takeover has to read for one living saga: its state as it was last stored, and its records
/// since. Shared with the saga's actor, which writes both.
#[derive(Debug)]
pub struct Stored {
    own: AtomicU64,
    all: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Stored {
    /// A batch of so many bytes became durable.
    pub fn wrote(&self, bytes: usize) {
        self.own.fetch_add(bytes as u64, Relaxed);
        self.all.fetch_add(bytes as u64, Relaxed);
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// Its state has so many bytes, and stands for all records before.
    pub fn is(&self, bytes: usize) {
        self.all.fetch_add(bytes as u64, Relaxed);
        self.all.fetch_sub(self.own.swap(bytes as u64, Relaxed), Relaxed);
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.is(0);
    }
}

impl Seat {
    /// The bytes that are counted for it.
    pub const fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }
}

/// The living sagas of one shard.
#[derive(Default, Debug)]
pub struct Census {
    tenants: Counts<Tenant, Tally>,
    roots: Counts<(Tenant, SagaKey), ()>,
}

impl Census {
    /// The seat of a saga that is there already.
    pub fn seat(&mut self, saga: &SagaId, family: &Family) -> Seat {
        let root = family.root.as_ref().map(|root| self.roots.of((saga.tenant.clone(), root.clone())));
        let tenant = self.tenants.of(saga.tenant.clone());
        let stored =
            Arc::new(Stored { own: AtomicU64::new(0), all: tenant.bytes.clone(), written: tenant.written.clone() });
        Seat { tenant, root, stored }
    }

    /// A seat for one more, unless there are as many as there may be. A shard knows its own alone, and
    /// sagas are spread evenly, so each of `shards` has its part of a limit, rounded up.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn take(
        &mut self,
        (saga, family): (&SagaId, &Family),
        (limits, shards): (&Limits, u16),
        now: Time,
    ) -> Result<Seat, Problem> {
        let part = |limit: usize| limit.div_ceil(usize::from(shards.max(1)));
        let seat = self.seat(saga, family);
        // Two more hold it: the map, and the seat just taken.
        let full = |taken: usize, limit: usize| taken - 2 >= part(limit);
        if let (Some(taken), Some(root)) = (&seat.root, &family.root)
            && full(Arc::strong_count(taken), limits.descendants)
        {
            let message = format!(
                "{root} has as many sagas below it as there may be: {} (limits.descendants)",
                limits.descendants
            );
            return Err(Problem::new(Code::Quota, message).mend("let fewer run at once"));
        }
        if full(Arc::strong_count(&seat.tenant), limits.sagas_per_tenant) {
            let message = format!(
                "{} has as many living sagas as it may: {} (limits.sagas_per_tenant)",
                saga.tenant, limits.sagas_per_tenant
            );
            return Err(Problem::new(Code::Quota, message).mend("wait until some have ended, or cancel some"));
        }
        let bytes = limits.journal_bytes_per_tenant;
        if seat.tenant.bytes.load(Relaxed) >= bytes.div_ceil(u64::from(shards.max(1))) {
            let message = format!(
                "the journal has as many bytes for the living sagas of {} as it may: {bytes} \
                 (limits.journal_bytes_per_tenant)",
                saga.tenant
            );
            let mend = "wait until some have ended, or cancel some; put large data into object storage";
            return Err(Problem::new(Code::Quota, message).mend(mend));
        }
        let bytes = limits.journal_bytes_per_day;
        let mut day = seat.tenant.day.lock().unwrap_or_else(PoisonError::into_inner);
        if day.until(now, seat.tenant.written.load(Relaxed)) >= bytes.div_ceil(u64::from(shards.max(1))) {
            let message = format!(
                "{} has written as many bytes to the journal in a day as it may: {bytes} (limits.journal_bytes_per_day)",
                saga.tenant
            );
            let mend = "wait an hour; put large data into object storage";
            return Err(Problem::new(Code::Quota, message).mend(mend));
        }
        drop(day);
        Ok(seat)
    }
}

/// One count for each of many; as many as there are others that hold it.
#[derive(Debug)]
struct Counts<K, V> {
    all: HashMap<K, Arc<V>>,
    /// When there are more than this, those that nobody holds are forgotten.
    tidy_at: usize,
}

/// Counts that are kept without looking whether somebody holds them.
const TIDY_MIN: usize = 1_024;

impl<K, V> Default for Counts<K, V> {
    fn default() -> Self {
        Self { all: HashMap::new(), tidy_at: TIDY_MIN }
    }
}

impl<K: Hash + Eq, V: Default> Counts<K, V> {
    fn of(&mut self, key: K) -> Arc<V> {
        if self.all.len() >= self.tidy_at {
            self.all.retain(|_, held| Arc::strong_count(held) > 1);
            self.tidy_at = TIDY_MIN.max(2 * self.all.len());
        }
        self.all.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saga(text: &str) -> SagaId {
        text.parse().unwrap()
    }

    #[test]
    fn each_shard_has_its_part_and_a_seat_comes_back_when_it_is_dropped() {
        let limits = Limits { sagas_per_tenant: 7, descendants: 4, ..Limits::default() };
        let (mut census, alone) = (Census::default(), Family::default());
        let family = alone.below(&saga("acme/a").key);
        let mut seats: Vec<Seat> = (0..2)
            .map(|_| census.take((&saga("acme/a~1"), &family), (&limits, 2), Time::from_micros(0)).unwrap())
            .collect();
        let refused = census.take((&saga("acme/a~1"), &family), (&limits, 2), Time::from_micros(0)).unwrap_err();
        assert!(refused.code == Code::Quota && refused.message.contains("limits.descendants"), "{refused}");
        seats.extend(
            (0..2).map(|_| census.take((&saga("acme/b"), &alone), (&limits, 2), Time::from_micros(0)).unwrap()),
        );
        let refused = census.take((&saga("acme/c"), &alone), (&limits, 2), Time::from_micros(0)).unwrap_err();
        assert!(refused.message.contains("limits.sagas_per_tenant"), "{refused}");
        assert!(census.take((&saga("other/c"), &alone), (&limits, 2), Time::from_micros(0)).is_ok());
        seats.remove(0);
        assert!(census.take((&saga("acme/a~1"), &family), (&limits, 2), Time::from_micros(0)).is_ok());
    }

    #[test]
    fn bytes_are_those_of_the_living_sagas_of_one_tenant() {
        let limits = Limits { journal_bytes_per_tenant: 2_000, ..Limits::default() };
        let (mut census, alone) = (Census::default(), Family::default());
        let mut take = |name: &str| census.take((&saga(name), &alone), (&limits, 2), Time::from_micros(0));
        let (first, second) = (take("acme/a").unwrap(), take("acme/b").unwrap());
        let writer = first.stored().clone();
        writer.wrote(900);
        writer.wrote(90);
        second.stored().wrote(9);
        let third = take("acme/c").unwrap();
        third.stored().wrote(1);
        let refused = take("acme/d").unwrap_err();
        assert!(refused.code == Code::Quota && refused.message.contains("journal_bytes_per_tenant"), "{refused}");
        assert!(take("other/d").is_ok(), "another tenant has its own");
        // A state stands for the records before it; a record after it is counted beside it.
        writer.is(989);
        assert!(take("acme/d").is_ok());
        writer.wrote(1);
        assert!(take("acme/d").is_err());
        drop((first, writer));
        assert!(take("acme/d").is_ok(), "it has ended");
    }

    #[test]
    fn what_ended_sagas_wrote_counts_for_a_day() {
        let limits = Limits { journal_bytes_per_day: 2_000, ..Limits::default() };
        let (mut census, alone) = (Census::default(), Family::default());
        let mut take = |name: &str, hour: i64| {
            census.take((&saga(name), &alone), (&limits, 2), Time::from_micros(hour * HOUR_MICROS))
        };
        for (hour, bytes) in [(1, 600), (2, 399)] {
            take("acme/a", hour).unwrap().stored().wrote(bytes);
        }
        take("acme/b", 3).unwrap().stored().wrote(1);
        let refused = take("acme/c", 24).unwrap_err();
        assert!(refused.code == Code::Quota && refused.message.contains("limits.journal_bytes_per_day"), "{refused}");
        assert!(take("other/c", 24).is_ok(), "another tenant has its own");
        assert!(take("acme/c", 25).is_ok(), "the first hour is a day ago");
        take("acme/d", 25).unwrap().stored().wrote(600);
        assert!(take("acme/e", 25).is_err());
        assert!(take("acme/e", 60).is_ok());
    }

    #[test]
    fn counts_that_nobody_holds_are_forgotten() {
        let mut census = Census::default();
        for number in 0..10 * TIDY_MIN {
            let root = saga(&format!("acme/{number}"));
            drop(census.seat(&root, &Family::default().below(&root.key)));
        }
        assert!(census.roots.all.len() <= TIDY_MIN);
    }
}
