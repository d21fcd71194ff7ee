//! Turns for decisions that may take long: so many threads decide at once, apart from those that carry
//! messages, and whoever waits gets its turn behind the others. Tenants take turns, and inside a tenant
//! its sagas, in the order in which they asked: one that used up its budget asks again at the end.
//!
//! A turn is asked for by the saga's actor, which keeps its state meanwhile: it answers questions and is
//! cancelled while it waits. Nothing else stands in this queue.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use protocol::{DefinitionRef, Tenant};

use super::fair::Fair;

/// Definitions remembered as slow; a node runs some tens. When it is full it is emptied: one that is
/// forgotten costs one brief decision more.
const SLOW_MAX: usize = 1_024;

/// The turns of one node.
#[derive(Debug)]
pub struct Turns {
    inner: Mutex<Inner>,
    /// Of them one tenant holds so many at once, so that another one's turn comes before a decision
    /// has ended, where there is more than one.
    per_tenant: usize,
    threads: usize,
    /// Made for the first decision at length; absent where the system gives no more threads.
    thinkers: OnceLock<Option<rayon::ThreadPool>>,
}

#[derive(Debug, Default)]
struct Inner {
    free: usize,
    waiting: Fair<Grant>,
    slow: HashMap<DefinitionRef, Pace>,
    brief: Brief,
}

/// How long the brief decisions of each tenant took in this part of a second.
#[derive(Debug)]
struct Brief {
    since: Instant,
    took: HashMap<Tenant, Duration>,
}

/// Parts of a second in each of which a tenant has its share anew: whoever used it up leaves room at once.
const PARTS: u32 = 10;

impl Brief {
    fn of(&mut self, tenant: &Tenant, now: Instant) -> &mut Duration {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) / PARTS {
            *self = Self { since: now, took: HashMap::new() };
        }
        self.took.entry(tenant.clone()).or_default()
    }
}

impl Default for Brief {
    fn default() -> Self {
        Self { since: Instant::now(), took: HashMap::new() }
    }
}

/// How long the last decision of a definition took.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pace {
    /// A brief decision suffices.
    Brief,
    /// It needs a turn.
    Slow,
    /// It needs a turn, and others wait for it long enough to be felt.
    Long,
}

/// Is called when the turn comes, with the turn.
struct Grant(Box<dyn FnOnce(Turn) + Send>);

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("waiting")
    }
}

/// The right to decide at length. Dropped, it is the next one's.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    tenant: Tenant,
}

impl Turns {
    /// As many turns at once as there are threads for them, at least one.
    pub fn new(threads: usize) -> Arc<Self> {
        let free = threads.max(1);
        let inner = Inner { free, ..Inner::default() };
        let per_tenant = (free - 1).max(1);
        Arc::new(Self { inner: Mutex::new(inner), per_tenant, threads: free, thinkers: OnceLock::new() })
    }

    /// Runs what whoever holds a turn decides, on a thread that leaves the processors to those which carry
    /// messages whenever they want them.
    pub fn think(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) {
        // A panic there would end the process; whoever waits for the work hears that it is gone.
        let work = || drop(catch_unwind(AssertUnwindSafe(work)));
        let turns = self.clone();
        // Waited for on a thread of the runtime's, which by that knows that something is under way.
        tokio::task::spawn_blocking(move || match turns.thinkers.get_or_init(|| thinkers(turns.threads)) {
            Some(thinkers) => thinkers.install(work),
            None => work(),
        });
    }

    /// Waits for a turn of `tenant` and for what `work` makes in it. `None`: it panicked.
    pub async fn at_length<T: Send + 'static>(
        self: &Arc<Self>,
        tenant: &Tenant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (give, given) = tokio::sync::oneshot::channel();
        self.ask(tenant, move |turn| drop(give.send(turn)));
        let turn = given.await.ok()?;
        let (tell, told) = tokio::sync::oneshot::channel();
        self.think(move || {
            let made = work();
            drop(turn);
            drop(tell.send(made));
        });
        told.await.ok()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `grant` when a turn of `tenant` comes, which may be at once.
    pub fn ask(self: &Arc<Self>, tenant: &Tenant, grant: impl FnOnce(Turn) + Send + 'static) {
        let mut inner = self.inner();
        inner.waiting.push(tenant, Grant(Box::new(grant)));
        self.give(inner);
    }

    /// Gives what is free to those who wait longest and hold less than their share.
    fn give(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        let mut granted = Vec::new();
        while inner.free > 0
            && let Some((tenant, grant)) = inner.waiting.take(self.per_tenant)
        {
            inner.free -= 1;
            granted.push((grant, Turn { turns: self.clone(), tenant }));
        }
        drop(inner);
        for (grant, turn) in granted {
            (grant.0)(turn);
        }
    }

    /// What the next decision of this definition is likely to need.
    pub fn pace(&self, definition: &DefinitionRef) -> Pace {
        let inner = self.inner();
        if inner.slow.is_empty() {
            return Pace::Brief;
        }
        inner.slow.get(definition).copied().unwrap_or(Pace::Brief)
    }

    /// Whether the brief decisions of `tenant` took as much of this part of a second as they may, of
    /// `share` in a whole one.
    pub fn is_spent(&self, tenant: &Tenant, share: Duration) -> bool {
        *self.inner().brief.of(tenant, Instant::now()) >= share / PARTS
    }

    /// Notes how long a brief decision of `tenant` took.
    pub fn spent(&self, tenant: &Tenant, took: Duration) {
        *self.inner().brief.of(tenant, Instant::now()) += took;
    }

    /// Notes how long a decision of this definition took.
    pub fn note(&self, definition: &DefinitionRef, pace: Pace) {
        let mut inner = self.inner();
        if pace == Pace::Brief {
            inner.slow.remove(definition);
            return;
        }
        if inner.slow.len() >= SLOW_MAX {
            inner.slow.clear();
        }
        inner.slow.insert(definition.clone(), pace);
    }

    /// How many wait for a turn.
    pub fn waiting(&self) -> usize {
        self.inner().waiting.len()
    }
}

fn thinkers(threads: usize) -> Option<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| step_back());
    pool.thread_name(|number| format!("decides-{number}")).build().ok()
}

/// How much this thread steps back: of a processor that another thread wants it gets a tenth.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// This thread alone, which is so on Linux; elsewhere the word is for the whole process.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.turns.inner();
        inner.free += 1;
        inner.waiting.give_back(&self.tenant);
        self.turns.give(inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_and_so_do_their_sagas() {
        let turns = Turns::new(1);
        let (said, tenants) = (Arc::new(Mutex::new(Vec::new())), ["hog", "calm"]);
        let ask = |tenant: &str, name: String| {
            let said = said.clone();
            turns.ask(&Tenant::new(tenant).unwrap(), move |turn| said.lock().unwrap().push((name, turn)));
        };
        (0..3).for_each(|n| ask(tenants[0], format!("hog {n}")));
        (0..2).for_each(|n| ask(tenants[1], format!("calm {n}")));
        let mut order = Vec::new();
        // A turn is held until it is dropped, and then the next one gets it.
        while let Some((name, turn)) = { said.lock().unwrap().pop() } {
            order.push(name);
            drop(turn);
        }
        assert_eq!(order, ["hog 0", "hog 1", "calm 0", "hog 2", "calm 1"]);
        assert_eq!(turns.waiting(), 0);
    }

    #[test]
    fn brief_decisions_of_a_tenant_have_their_share_of_each_part_of_a_second() {
        let (mut brief, hog) = (Brief::default(), Tenant::new("hog").unwrap());
        let (at, part) = (brief.since, Duration::from_secs(1) / PARTS);
        *brief.of(&hog, at) += Duration::from_millis(49);
        *brief.of(&hog, at + part / 2) += Duration::from_millis(2);
        assert_eq!(*brief.of(&hog, at + part / 2), Duration::from_millis(51));
        assert_eq!(*brief.of(&Tenant::new("calm").unwrap(), at + part / 2), Duration::ZERO);
        assert_eq!(*brief.of(&hog, at + part), Duration::ZERO, "a new part, a new share");
    }

    #[test]
    fn one_tenant_leaves_room_for_another() {
        let turns = Turns::new(2);
        let held = Arc::new(Mutex::new(Vec::new()));
        for tenant in ["hog", "hog", "calm"] {
            let held = held.clone();
            turns.ask(&Tenant::new(tenant).unwrap(), move |turn| held.lock().unwrap().push(turn));
        }
        let who: Vec<String> = held.lock().unwrap().iter().map(|turn| turn.tenant.to_string()).collect();
        assert_eq!((who, turns.waiting()), (vec!["hog".to_owned(), "calm".to_owned()], 1));
        let given = held.lock().unwrap().remove(0);
        drop(given);
        assert_eq!(turns.waiting(), 0);
        let rest = std::mem::take(&mut *held.lock().unwrap());
        drop(rest);
    }
}
