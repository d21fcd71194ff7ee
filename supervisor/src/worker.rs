//! What a worker is to the engine: a control loop that looks, thinks and acts, for one environment
//! at a time. It never trusts what woke it about what changed; it looks. What it decides is a pure
//! function of what it saw and of what it remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::{Envelope, Environment, EventId, Principal, Time, TraceId, Value, WorkerId};
use sha2::{Digest, Sha256};

pub use crate::activity::Failure;
use crate::machine::retry;
use crate::ports::{Clock, Outbox};

/// The longest text of a report, in bytes; the rest is cut off. It is a line in a list.
pub const TEXT_MAX_BYTES: usize = 400;
/// Figures in a report; more are left out, the last by name first.
pub const COUNTS_MAX: usize = 16;

/// The longest row of causes, counted in events: deployment, inventory, drift, remediation, deployment,
/// inventory is six. A longer one turns in a circle: whoever it wakes does not act, and says so (H05).
/// What a timer or a person begins is a row of its own.
pub const CAUSES_MAX: u32 = 12;
/// The event by which people are told that they should look.
pub const ALARM: &str = "RuntimeAlarmRaised";

/// One kind of worker. Runs of one environment never overlap on one node; for a moment during a
/// takeover two nodes may both run it. So whatever it does must be safe to do twice, and be guarded
/// by a compare-and-set or by the arbiter of what it changes, never by being alone.
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// Its kind, as in `health`: letters, digits, `-` and `_`.
    fn kind(&self) -> &str;

    /// When it runs, and how often it tries.
    fn rhythm(&self) -> Rhythm;

    /// Types of the events that make it run.
    fn triggers(&self) -> &[&str] {
        &[]
    }

    /// Whether `event`, which is of the environment's tenant and of one of the triggers, is about
    /// `environment`. An event that names none in `payload.environmentId` is about all of them.
    fn concerns(&self, event: &Envelope, environment: &Environment) -> bool {
        names(event, environment)
    }

    /// Looks, thinks and acts, once. A [permanent](Failure::permanent) failure is not tried again
    /// within this run. The same run is tried under the same [key](Run::key).
    async fn run(&self, run: &Run) -> Result<Report, Failure>;
}

/// Whether `event` names `environment`, or none at all.
pub fn names(event: &Envelope, environment: &Environment) -> bool {
    event.payload.get("environmentId").and_then(Value::as_str).is_none_or(|named| named == environment.as_str())
}

/// When a worker runs, and how often it tries.
#[derive(Clone, PartialEq, Debug)]
pub struct Rhythm {
    /// From one run by timer to the next; `None`: it has no timer.
    pub every: Option<Duration>,
    /// Each run by timer comes later than its slot by a random part of this, so that not all
    /// environments are looked at in the same moment; at most half of `every` counts.
    pub jitter: Duration,
    /// What happens to an attempt that failed.
    pub retry: Retry,
    /// How long one attempt may take; then it is aborted, and has failed.
    pub attempt_max: Duration,
}

impl Rhythm {
    /// How long one attempt may take unless the worker says otherwise: longer than any look at a
    /// healthy environment, shorter than a person's patience with one that hangs.
    pub const ATTEMPT_MAX: Duration = Duration::from_secs(120);

    /// A run every so often, with a tenth of that as jitter.
    pub fn every(every: Duration) -> Self {
        Self { every: Some(every), jitter: every / 10, ..Self::on_events() }
    }

    /// Runs by events and by hand only.
    pub fn on_events() -> Self {
        Self { every: None, jitter: Duration::ZERO, retry: Retry::max(5), attempt_max: Self::ATTEMPT_MAX }
    }

    /// The same with another bound for its attempts.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

/// How an attempt that failed is tried again: after `base`, twice that, and so on up to `cap`, each
/// time a random part of it ("full jitter", H16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Attempts in all, the first included; at least one.
    pub attempts: u32,
    /// The longest first pause.
    pub base: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Retry {
    /// "max n": `attempts` in all, 2 s, doubling, at most 2 min.
    pub const fn max(attempts: u32) -> Self {
        Self { attempts, base: Duration::from_secs(2), cap: Duration::from_secs(120) }
    }

    /// The pause after attempt number `attempt` failed; `None` when it was the last.
    pub fn pause(&self, attempt: u32, seed: u64) -> Option<Duration> {
        let mut retrier = retry::undo_policy();
        (retrier.interval, retrier.cap) = (self.base.as_secs_f64(), Some(self.cap.as_secs_f64()));
        (attempt < self.attempts).then(|| retry::pause(&retrier, attempt, seed))
    }
}

/// What made a worker run.
#[derive(Clone, PartialEq, Debug)]
pub enum Why {
    /// Its time came.
    Timer,
    /// Something happened: the first of [`Run::events`].
    Event(Arc<Envelope>),
    /// A person, or a program, asked for it.
    ByHand(Principal),
}

/// One attempt of one run: everything a worker may need to know.
#[derive(Clone)]
pub struct Run {
    /// Which worker; its `tenant` and `environment` say where.
    pub worker: WorkerId,
    /// The run, counted from 1 over all nodes.
    pub number: u64,
    /// What made it run first.
    pub why: Why,
    /// The events it runs for, oldest first; also when a timer or a person came first. Those that
    /// came while another run was under way come together. When the run fails for good they become
    /// dead letters.
    pub events: Vec<Arc<Envelope>>,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// The idempotency key: the same for every attempt of this run; for a run by an event also
    /// the same when the event comes again.
    pub key: String,
    /// The trace: that of the event, of the command, or a fresh one.
    pub trace: TraceId,
    /// The correlation: that of the event, or the run itself.
    pub correlation: String,
    /// The id of what caused it.
    pub cause: String,
    /// How many events led to what it says, one after the other; 0 for a run by timer or by hand.
    pub causes: u32,
    /// What the last report asked to remember; `null` at first. It survives a move to another node
    /// but may be older than the last run: that node may have died before it was kept.
    pub remembered: Value,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: Arc<dyn Outbox>,
}

impl Run {
    /// The first attempt of run `number`, because of `why` and without events: for running a worker
    /// without the tree, as tests and measurements do.
    pub fn alone(
        worker: WorkerId,
        number: u64,
        (why, trace): (Why, TraceId),
        remembered: Value,
        (clock, outbox): (Arc<dyn Clock>, Arc<dyn Outbox>),
    ) -> Self {
        let key = format!("{worker}#{number}@{}", clock.now().as_micros());
        Self {
            worker,
            number,
            why,
            events: Vec::new(),
            attempt: 1,
            correlation: key.clone(),
            cause: key.clone(),
            causes: 0,
            key,
            trace,
            remembered,
            clock,
            outbox,
        }
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Publishes an event of this run's trace, correlation and cause; returns once the event stream
    /// holds it. `about` names what of the run it is about, as an id: type, `about` and the run's key
    /// make the event's id, so that another attempt publishes the same event and not one more.
    pub async fn publish(&self, event_type: &str, about: &str, payload: Value) -> Result<(), Failure> {
        let event = self.event(event_type, about, payload);
        self.outbox.publish(&event).await.map_err(|error| Failure::transient("publishing an event", error))
    }

    fn event(&self, event_type: &str, about: &str, payload: Value) -> Envelope {
        let mut hash = Sha256::new();
        for part in [self.key.as_str(), event_type, about] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let id = format!("wrk-{}", hex::encode(&hash.finalize()[..16]));
        Envelope {
            event_id: EventId::new(id).expect("hexadecimal digits are an event id"),
            event_type: event_type.to_owned(),
            tenant_id: self.worker.tenant.clone(),
            project_id: None,
            module_id: None,
            trace_id: self.trace.clone(),
            correlation_id: self.correlation.clone(),
            causation_id: self.cause.clone(),
            causes: self.causes,
            sequence: 0,
            occurred_at: self.now(),
            payload,
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} of {}, attempt {}, {:?}", self.number, self.worker, self.attempt, self.why)
    }
}

/// What a run came to, for a person: short texts and figures.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// What it saw: `12 services, 1 unhealthy`.
    pub saw: String,
    /// What it did: `restarted checkout`, `nothing`.
    pub did: String,
    /// Why it did that, or nothing: `3 failed probes in a row`.
    pub why: String,
    /// Figures.
    pub counts: BTreeMap<String, u64>,
    /// Whether anything was changed. A second run against an unchanged world says no.
    pub changed: bool,
    /// What the next run is given as [`Run::remembered`]; `None` keeps what is remembered.
    pub remember: Option<Value>,
}

impl Report {
    /// It did nothing, because of `why`.
    pub fn unchanged(saw: impl Into<String>, why: impl Into<String>) -> Self {
        Self { saw: saw.into(), did: "nothing".into(), why: why.into(), ..Self::default() }
    }

    /// It did something, because of `why`.
    pub fn changed(saw: impl Into<String>, did: impl Into<String>, why: impl Into<String>) -> Self {
        Self { saw: saw.into(), did: did.into(), why: why.into(), changed: true, ..Self::default() }
    }

    /// Adds a figure.
    #[must_use]
    pub fn count(mut self, name: impl Into<String>, count: u64) -> Self {
        self.counts.insert(name.into(), count);
        self
    }

    /// Adds what the next run is to be given.
    #[must_use]
    pub fn remember(mut self, what: Value) -> Self {
        self.remember = Some(what);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_n_is_n_attempts_in_all_with_full_jitter_below_a_doubling_pause() {
        let retry = Retry::max(5);
        for (attempt, longest) in [(1, 2), (2, 4), (3, 8), (4, 16)] {
            let pauses: Vec<_> = (0..500).map(|seed| retry.pause(attempt, seed).unwrap()).collect();
            assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(longest)), "after attempt {attempt}");
            assert!(pauses.iter().any(|pause| *pause > Duration::from_secs(longest) * 9 / 10), "full jitter");
        }
        assert_eq!(retry.pause(5, 1), None);
        assert_eq!(Retry::max(1).pause(1, 1), None);
        assert!(Retry::max(100).pause(90, u64::MAX).unwrap() <= Duration::from_secs(120));
    }
}
