//! What the tree knows about each actor, readable at any time without asking the actor: also one
//! that is stuck can be seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::Time;
use protocol::query::ActorView;

/// Children of one kind listed in a description; the rest is counted. A person reads a screen, not
/// ten thousand lines.
pub const CHILDREN_SHOWN_MAX: usize = 200;

/// Where an actor is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Life {
    /// Its start has not finished.
    Starting,
    /// It handles messages.
    Running,
    /// It failed and is about to be started again.
    Restarting,
    /// It failed too often.
    Parked,
}

impl Life {
    const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Parked => "parked",
        }
    }

    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Starting,
            1 => Self::Running,
            2 => Self::Restarting,
            _ => Self::Parked,
        }
    }
}

/// One actor's card. It outlives the actor's incarnations; its supervisor holds it.
#[derive(Debug)]
pub struct Card {
    name: String,
    kind: &'static str,
    strategy: Option<&'static str>,
    life: AtomicU8,
    sent: AtomicU64,
    taken: AtomicU64,
    handled: AtomicU64,
    busy_nanos: AtomicU64,
    restarts: AtomicU32,
    since_micros: AtomicU64,
    folded: AtomicU64,
    words: Mutex<Words>,
    children: Mutex<BTreeMap<String, Arc<Card>>>,
}

#[derive(Debug, Default)]
struct Words {
    doing: Option<String>,
    last_failure: Option<String>,
    folded: &'static str,
}

impl Card {
    /// A card for an actor that is about to start.
    pub fn new(name: impl Into<String>, kind: &'static str, now: Time) -> Arc<Self> {
        Self::supervising(name, kind, None, now)
    }

    /// A card for a supervisor.
    pub fn supervising(
        name: impl Into<String>,
        kind: &'static str,
        strategy: Option<&'static str>,
        now: Time,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            kind,
            strategy,
            life: AtomicU8::new(Life::Starting as u8),
            sent: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            restarts: AtomicU32::new(0),
            since_micros: AtomicU64::new(now.as_micros().unsigned_abs()),
            folded: AtomicU64::new(0),
            words: Mutex::default(),
            children: Mutex::default(),
        })
    }

    /// Its name among its siblings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Messages that wait; one that is being handled waits no more.
    pub fn mailbox(&self) -> u64 {
        self.sent.load(Relaxed).saturating_sub(self.taken.load(Relaxed))
    }

    pub(super) fn note_sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    pub(super) fn note_taken(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    pub(super) fn note_handled(&self, nanos: u64) {
        self.handled.fetch_add(1, Relaxed);
        self.busy_nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn set_life(&self, life: Life) {
        self.life.store(life as u8, Relaxed);
    }

    /// Notes a failure.
    pub fn note_failure(&self, why: impl Into<String>) {
        self.words().last_failure = Some(why.into());
    }

    /// Notes that a new incarnation starts; what waited in the old mailbox is gone.
    pub fn note_restart(&self, now: Time) {
        self.restarts.fetch_add(1, Relaxed);
        self.sent.store(0, Relaxed);
        self.taken.store(0, Relaxed);
        self.handled.store(0, Relaxed);
        self.since_micros.store(now.as_micros().unsigned_abs(), Relaxed);
        self.set_life(Life::Starting);
    }

    /// Says what the actor does now; shown as it is.
    pub fn doing(&self, what: impl Into<String>) {
        self.words().doing = Some(what.into());
    }

    /// Says how many children of a kind exist without an actor.
    pub fn fold(&self, what: &'static str, count: u64) {
        self.words().folded = what;
        self.folded.store(count, Relaxed);
    }

    /// Puts a child under this card, in place of one of the same name.
    pub fn adopt(&self, child: Arc<Card>) {
        self.children().insert(child.name.clone(), child);
    }

    /// Takes a child away.
    pub fn forget(&self, name: &str) {
        self.children().remove(name);
    }

    /// The child at `path`, names joined by `/` as a saga's own name contains slashes: the longest
    /// matching name is followed first.
    pub fn find(self: &Arc<Self>, path: &str) -> Option<Arc<Card>> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Some(self.clone());
        }
        let children: Vec<_> = self.children().values().cloned().collect();
        children.iter().rev().find_map(|child| {
            let rest = path.strip_prefix(child.name.as_str())?;
            if rest.is_empty() { Some(child.clone()) } else { child.find(rest.strip_prefix('/')?) }
        })
    }

    /// The actor and everything below it.
    pub fn view(&self) -> ActorView {
        let children: Vec<Arc<Card>> = self.children().values().cloned().collect();
        let mut folded = Vec::new();
        let hidden = children.len().saturating_sub(CHILDREN_SHOWN_MAX);
        if hidden > 0 {
            folded.push(format!("{hidden} more"));
        }
        let asleep = self.folded.load(Relaxed);
        let words = self.words();
        if asleep > 0 {
            folded.push(format!("{}: {asleep}", words.folded));
        }
        ActorView {
            name: self.name.clone(),
            kind: self.kind.into(),
            state: Life::of(self.life.load(Relaxed)).word().into(),
            doing: words.doing.clone(),
            mailbox: self.mailbox(),
            handled: self.handled.load(Relaxed),
            busy_us: self.busy_nanos.load(Relaxed) / 1_000,
            restarts: self.restarts.load(Relaxed),
            last_failure: words.last_failure.clone(),
            since: Time::from_micros(self.since_micros.load(Relaxed).cast_signed()),
            strategy: self.strategy.map(Into::into),
            folded,
            children: children.iter().take(CHILDREN_SHOWN_MAX).map(|child| child.view()).collect(),
        }
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Card>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_are_found_by_path_even_with_slashes_in_their_names() {
        let now = Time::from_micros(0);
        let root = Card::new("n1", "node", now);
        let shard = Card::new("shard 3", "shard", now);
        let saga = Card::new("saga acme/install/7", "saga", now);
        saga.adopt(Card::new("step Applying #2", "step", now));
        shard.adopt(saga);
        root.adopt(shard);
        let found = root.find("shard 3/saga acme/install/7/step Applying #2").unwrap();
        assert_eq!(found.name(), "step Applying #2");
        assert!(root.find("shard 3/saga acme").is_none());
    }

    #[test]
    fn long_families_are_folded() {
        let root = Card::new("shard 0", "shard", Time::from_micros(0));
        for n in 0..CHILDREN_SHOWN_MAX + 5 {
            root.adopt(Card::new(format!("saga t/{n}"), "saga", Time::from_micros(0)));
        }
        root.fold("asleep", 100_000);
        let view = root.view();
        assert_eq!(view.children.len(), CHILDREN_SHOWN_MAX);
        assert_eq!(view.folded, ["5 more", "asleep: 100000"]);
    }
}
