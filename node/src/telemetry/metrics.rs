//! Figures of one node in OpenMetrics. Names follow its rules: a base unit last, counters without
//! `_total` here because the encoding adds it.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use protocol::query::{ActorView, HealthView, ShardView};
use supervisor::tree::pulse::Pulse;

#[derive(Clone, Hash, PartialEq, Eq, Debug, EncodeLabelSet)]
struct Command {
    command: String,
    code: String,
}

#[derive(Clone, Hash, PartialEq, Eq, Debug, EncodeLabelSet)]
struct Named {
    name: String,
}

#[derive(Clone, Hash, PartialEq, Eq, Debug, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Hash, PartialEq, Eq, Debug, EncodeLabelSet)]
struct Shard {
    shard: String,
}

type CountGauge = Gauge<i64, AtomicI64>;

/// The figures of one node. Cloning is not needed: share it.
pub struct Metrics {
    registry: Mutex<Registry>,
    commands: Family<Command, Counter>,
    command_seconds: Family<Named, Histogram, fn() -> Histogram>,
    append_seconds: Histogram,
    frame_records: Histogram,
    activity_seconds: Family<Named, Histogram, fn() -> Histogram>,
    events: Counter,
    dead_letters: Family<Named, Counter>,
    letters_counted: CountGauge,
    mailbox: Family<Kind, CountGauge>,
    actors: Family<Kind, CountGauge>,
    restarts: Family<Kind, CountGauge>,
    position: Family<Shard, CountGauge>,
    unrelayed: Family<Shard, CountGauge>,
    unsent: Family<Shard, CountGauge>,
    unsent_seconds: Family<Shard, CountGauge>,
    timer_late_seconds: Family<Shard, CountGauge>,
    awake: Family<Shard, CountGauge>,
    asleep: Family<Shard, CountGauge>,
    ready: CountGauge,
    troubles: CountGauge,
    lost: CountGauge,
    stores_lost: Family<Named, Counter>,
    members: CountGauge,
}

/// From a quarter of a millisecond, the floor of one durable append, to about eight seconds.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("skald")),
            commands: Family::default(),
            command_seconds: Family::new_with_constructor(seconds),
            append_seconds: seconds(),
            frame_records: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            activity_seconds: Family::new_with_constructor(seconds),
            events: Counter::<u64, AtomicU64>::default(),
            dead_letters: Family::default(),
            letters_counted: Gauge::default(),
            mailbox: Family::default(),
            actors: Family::default(),
            restarts: Family::default(),
            position: Family::default(),
            unrelayed: Family::default(),
            unsent: Family::default(),
            unsent_seconds: Family::default(),
            timer_late_seconds: Family::default(),
            awake: Family::default(),
            asleep: Family::default(),
            ready: Gauge::default(),
            troubles: Gauge::default(),
            lost: Gauge::default(),
            stores_lost: Family::default(),
            members: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("commands", "Commands answered, by name and code", self.commands.clone());
        registry.register("command_seconds", "Time from a command to its answer", self.command_seconds.clone());
        registry.register("append_seconds", "Time until a frame was durable", self.append_seconds.clone());
        registry.register("frame_records", "Records in one frame", self.frame_records.clone());
        registry.register("activity_seconds", "Time of one attempt of an activity", self.activity_seconds.clone());
        registry.register("events", "Events published", self.events.clone());
        registry.register("dead_letters", "Messages that could not be understood", self.dead_letters.clone());
        let counted = "Dead letters beyond a tenant's limits, which were not kept";
        registry.register("dead_letters_not_kept", counted, self.letters_counted.clone());
        registry.register("mailbox_messages", "Messages waiting, by kind of actor", self.mailbox.clone());
        registry.register("actors", "Actors in memory, by kind", self.actors.clone());
        registry.register("restarts", "Restarts of actors that now live, by kind", self.restarts.clone());
        registry.register("shard_position", "Journal position of the last frame", self.position.clone());
        registry.register("shard_unrelayed_frames", "Frames whose events are not out yet", self.unrelayed.clone());
        registry.register("shard_unsent", "Events and parcels that are not sent yet", self.unsent.clone());
        let about = "How long the oldest frame has waited for what it says to be sent";
        registry.register("shard_unsent_seconds", about, self.unsent_seconds.clone());
        let about = "How late the earliest timer is that was not fired";
        registry.register("shard_timer_late_seconds", about, self.timer_late_seconds.clone());
        registry.register("sagas_awake", "Sagas with an actor", self.awake.clone());
        registry.register("sagas_asleep", "Sagas that sleep", self.asleep.clone());
        registry.register("ready", "1 when the node serves", self.ready.clone());
        registry.register("troubles", "Troubles the node reports about itself", self.troubles.clone());
        registry.register("lost", "What was lost and waits for an operator: shards, streams", self.lost.clone());
        registry.register(
            "stores_lost",
            "Streams that were found gone, altered or made anew",
            self.stores_lost.clone(),
        );
        registry.register("members", "Nodes alive", self.members.clone());
    }

    /// A command was answered; `code` is `ok` or the problem's code.
    pub fn command(&self, name: &str, code: &str, took: Duration) {
        self.commands.get_or_create(&Command { command: name.to_owned(), code: code.to_owned() }).inc();
        self.command_seconds.get_or_create(&Named { name: name.to_owned() }).observe(took.as_secs_f64());
    }

    /// A frame of `records` is durable.
    pub fn appended(&self, records: usize, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
        self.frame_records.observe(records as f64);
    }

    /// One attempt of an activity ended.
    pub fn activity(&self, name: &str, took: Duration) {
        self.activity_seconds.get_or_create(&Named { name: name.to_owned() }).observe(took.as_secs_f64());
    }

    /// An event is in the event stream.
    pub fn published(&self) {
        self.events.inc();
    }

    /// Something was kept as a dead letter.
    pub fn buried(&self, reason: &str) {
        self.dead_letters.get_or_create(&Named { name: reason.to_owned() }).inc();
    }

    /// Takes over how many dead letters were counted and not kept.
    pub fn observe_letters(&self, counted: u64) {
        self.letters_counted.set(counted.cast_signed());
    }

    /// A stream was not what was left.
    pub fn store_lost(&self, stream: &str) {
        self.stores_lost.get_or_create(&Named { name: stream.to_owned() }).inc();
    }

    /// Takes over what the tree says now.
    pub fn observe_tree(&self, root: &ActorView) {
        for family in [&self.mailbox, &self.actors, &self.restarts] {
            family.clear();
        }
        let mut open = vec![root];
        while let Some(actor) = open.pop() {
            let kind = Kind { kind: actor.kind.clone() };
            self.mailbox.get_or_create(&kind).inc_by(actor.mailbox.cast_signed());
            self.actors.get_or_create(&kind).inc();
            self.restarts.get_or_create(&kind).inc_by(i64::from(actor.restarts));
            open.extend(&actor.children);
        }
    }

    /// Takes over what the owned shards say now; figures of shards that left are dropped.
    pub fn observe_shards(&self, shards: &[ShardView]) {
        for family in [&self.position, &self.unrelayed, &self.awake, &self.asleep] {
            family.clear();
        }
        for view in shards {
            let shard = Shard { shard: view.shard.to_string() };
            self.position.get_or_create(&shard).set(view.position.cast_signed());
            let behind = view.position.saturating_sub(view.relayed);
            self.unrelayed.get_or_create(&shard).set(behind.cast_signed());
            self.awake.get_or_create(&shard).set(view.awake.cast_signed());
            self.asleep.get_or_create(&shard).set(view.asleep.cast_signed());
        }
    }

    /// Takes over how the owned shards move.
    pub fn observe_pulses(&self, pulses: &[Pulse]) {
        for family in [&self.unsent, &self.unsent_seconds, &self.timer_late_seconds] {
            family.clear();
        }
        for pulse in pulses {
            let shard = Shard { shard: pulse.shard.to_string() };
            self.unsent.get_or_create(&shard).set(pulse.unsent.cast_signed());
            self.unsent_seconds.get_or_create(&shard).set(pulse.unsent_for.as_secs().cast_signed());
            self.timer_late_seconds.get_or_create(&shard).set(pulse.late_by.as_secs().cast_signed());
        }
    }

    /// Takes over how the node is.
    pub fn observe_health(&self, health: &HealthView) {
        self.ready.set(i64::from(health.ready));
        self.troubles.set(health.troubles.len() as i64);
        self.lost.set(health.lost.len() as i64);
        self.members.set(health.members.len() as i64);
    }

    /// Everything as OpenMetrics text.
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::with_capacity(8 * 1024);
        text::encode(&mut page, &registry).expect("a String takes all that is written");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_open_metrics() {
        let metrics = Metrics::new();
        metrics.command("saga.start", "ok", Duration::from_millis(2));
        metrics.appended(12, Duration::from_micros(400));
        metrics.observe_tree(&crate::debug::sample::tree());
        let page = metrics.encode();
        assert!(page.contains("skald_commands_total{command=\"saga.start\",code=\"ok\"} 1"), "{page}");
        assert!(page.contains("skald_mailbox_messages{kind=\"saga\"} 3"), "{page}");
        assert!(page.ends_with("# EOF\n"));
    }
}
