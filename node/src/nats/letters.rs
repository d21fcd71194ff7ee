//! How much of a tenant's dead letters is kept: a flood of what cannot be understood must not fill the
//! disk, nor keep a node so busy with writing it down that the server drops its connection.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use actors::permits::{Permit, Permits};
use bytes::Bytes;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

/// How many bytes of a letter are kept when it is not kept whole: its subject, its headers and the
/// beginning of its body.
const HEAD_BYTES: usize = 4 * 1024;
/// Seconds of a tenant's allowance that it may use at once: what goes wrong comes in bursts.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(60).unwrap();
const BURST: Duration = Duration::from_secs(BURST_SECONDS.get() as u64);
/// All tenants together may have so many times what one may have in memory.
const ALL_TENANTS: usize = 4;
/// Tenants that are remembered before those that were quiet are forgotten.
const TENANTS_REMEMBERED: usize = 1_024;

/// What may be kept of one tenant's letters, by each node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LetterLimits {
    /// Letters in a second, over a minute.
    pub per_second: NonZeroU32,
    /// Bytes in a second, over a minute. Beyond it only heads are kept.
    pub bytes_per_second: NonZeroU32,
    /// Bytes that are kept whole in as long a time as letters are kept.
    pub bytes_kept: NonZeroU32,
    /// How long letters are kept.
    pub kept_for: Duration,
    /// The largest letter that is kept whole, in bytes.
    pub whole_bytes: usize,
    /// Letters of one tenant of which only the head is kept, and which a node holds in memory at once until it
    /// is. All tenants together may have four times as many. More are only counted.
    pub heads_at_once: NonZeroUsize,
    /// Letters of one reason in the stream; the oldest go first.
    pub per_reason: i64,
    /// Bytes of all letters in the stream, -1 for no limit; the oldest go first.
    pub stream_bytes: i64,
}

/// What becomes of a letter.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is kept as it came.
    Whole(Bytes),
    /// Its head is kept, its length and the digest of all of it.
    Head { head: Bytes, whole: Bytes, permit: Permit },
    /// It is only counted. `warn_of` is the setting that was exceeded; `None` if this tenant was warned of
    /// within the time of a burst.
    Counted { warn_of: Option<&'static str> },
}

type Keyed<C> = RateLimiter<String, DefaultKeyedStateStore<String>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// So many letters or bytes at once, and again as many over `time`.
fn spread(most: NonZeroU32, time: Duration) -> Quota {
    let each = (time / most.get()).max(Duration::from_nanos(1));
    Quota::with_period(each).map_or_else(|| Quota::per_second(most), |quota| quota.allow_burst(most))
}

/// What each tenant still may.
#[derive(Debug)]
pub(super) struct Letters<C: Clock = DefaultClock> {
    limits: LetterLimits,
    letters: Keyed<C>,
    bytes: Keyed<C>,
    kept: Keyed<C>,
    warnings: Keyed<C>,
    counted: AtomicU64,
    heads: Arc<Permits>,
    digesting: Semaphore,
}

impl Letters {
    pub(super) fn new(limits: LetterLimits) -> Self {
        Self::with_clock(limits, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Letters<C> {
    fn with_clock(limits: LetterLimits, clock: C) -> Self {
        let burst = |per_second: NonZeroU32| spread(per_second.saturating_mul(BURST_SECONDS), BURST);
        Self {
            limits,
            letters: RateLimiter::new(burst(limits.per_second), Default::default(), clock.clone()),
            bytes: RateLimiter::new(burst(limits.bytes_per_second), Default::default(), clock.clone()),
            kept: RateLimiter::new(spread(limits.bytes_kept, limits.kept_for), Default::default(), clock.clone()),
            warnings: RateLimiter::new(spread(NonZeroU32::MIN, BURST), Default::default(), clock),
            counted: AtomicU64::new(0),
            heads: Arc::default(),
            digesting: Semaphore::new(1),
        }
    }

    /// Takes a letter of `tenant` into account.
    pub(super) fn admit(&self, tenant: &str, whole: Bytes) -> Kept {
        if self.letters.len() > TENANTS_REMEMBERED {
            self.letters.retain_recent();
            self.bytes.retain_recent();
            self.kept.retain_recent();
            self.warnings.retain_recent();
        }
        let tenant = tenant.to_owned();
        if self.letters.check_key(&tenant).is_err() {
            return self.count(&tenant, "events.dead_per_second");
        }
        let size = u32::try_from(whole.len().max(1)).ok().and_then(NonZeroU32::new);
        let has_room = |of: &Keyed<C>, size| matches!(of.check_key_n(&tenant, size), Ok(Ok(())));
        if whole.len() <= self.limits.whole_bytes
            && size.is_some_and(|size| has_room(&self.bytes, size) && has_room(&self.kept, size))
        {
            return Kept::Whole(whole);
        }
        let each = self.limits.heads_at_once.get();
        let free = |own, all| if own < each && all < each.saturating_mul(ALL_TENANTS) { Ok(()) } else { Err(()) };
        match self.heads.acquire(&tenant, free) {
            // A copy: a part of the whole would keep all of it in memory.
            Ok(permit) => {
                Kept::Head { head: Bytes::copy_from_slice(&whole[..whole.len().min(HEAD_BYTES)]), whole, permit }
            }
            Err(()) => self.count(&tenant, "events.dead_heads_at_once"),
        }
    }

    fn count(&self, tenant: &String, setting: &'static str) -> Kept {
        self.counted.fetch_add(1, Relaxed);
        Kept::Counted { warn_of: self.warnings.check_key(tenant).is_ok().then_some(setting) }
    }

    /// The digest of a letter, however large, by which it is known again where only its head is kept. One at
    /// a time and not on a thread that carries messages: a flood of large ones must not take the processors.
    pub(super) async fn digest(&self, whole: Bytes) -> String {
        // Nobody closes it.
        let _turn = self.digesting.acquire().await;
        let digest = tokio::task::spawn_blocking(move || hex::encode(Sha256::digest(&whole)));
        // It does not panic; a node that stops has nobody to tell.
        digest.await.unwrap_or_default()
    }

    /// How many letters were not kept since the node began.
    pub(super) fn counted(&self) -> u64 {
        self.counted.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits() -> LetterLimits {
        let number = |n| NonZeroU32::new(n).unwrap();
        LetterLimits {
            per_second: number(1),
            bytes_per_second: number(1_000),
            bytes_kept: number(100_000),
            kept_for: Duration::from_secs(3_600),
            whole_bytes: 20_000,
            heads_at_once: NonZeroUsize::new(100).unwrap(),
            per_reason: 10,
            stream_bytes: 1_000_000,
        }
    }

    fn letters(clock: &FakeRelativeClock) -> Letters<FakeRelativeClock> {
        Letters::with_clock(limits(), clock.clone())
    }

    fn of(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    #[test]
    fn a_large_letter_keeps_its_head_and_its_digest() {
        let letters = letters(&FakeRelativeClock::default());
        assert!(matches!(letters.admit("acme", of(20_000)), Kept::Whole(whole) if whole == of(20_000)));
        let kept = letters.admit("acme", of(20_001));
        assert!(matches!(kept, Kept::Head { head, whole, .. } if head == of(HEAD_BYTES) && whole == of(20_001)));
        assert!(matches!(letters.admit("acme", Bytes::new()), Kept::Whole(_)));
    }

    #[test]
    fn a_flood_of_one_tenant_is_cut_down_and_leaves_the_others_their_own() {
        let clock = FakeRelativeClock::default();
        let letters = letters(&clock);
        let flood: Vec<Kept> = (0..100).map(|_| letters.admit("evil", of(10_000))).collect();
        let count = |wanted: fn(&Kept) -> bool| flood.iter().filter(|kept| wanted(kept)).count();
        // A minute's allowance: 60,000 bytes whole, 60 letters in all.
        assert_eq!(count(|kept| matches!(kept, Kept::Whole(_))), 6);
        assert_eq!(count(|kept| matches!(kept, Kept::Head { .. })), 54);
        assert_eq!((count(|kept| matches!(kept, Kept::Counted { .. })), letters.counted()), (40, 40));
        assert_eq!(count(|kept| matches!(kept, Kept::Counted { warn_of: Some(_) })), 1);
        assert!(matches!(letters.admit("acme", of(10_000)), Kept::Whole(_)));
        let other: Vec<Kept> = (0..100).map(|_| letters.admit("acme", of(1))).collect();
        let warned = other.iter().any(|kept| matches!(kept, Kept::Counted { warn_of: Some(_) }));
        assert!(warned, "a warning of one tenant hides no other");
        clock.advance(Duration::from_secs(10));
        assert!(matches!(letters.admit("evil", of(10_000)), Kept::Whole(_)), "ten seconds later there is room again");
    }

    #[test]
    fn letters_that_wait_for_their_digest_do_not_fill_the_memory() {
        let limits = LetterLimits { whole_bytes: 1, heads_at_once: NonZeroUsize::new(2).unwrap(), ..limits() };
        let letters = Letters::with_clock(limits, FakeRelativeClock::default());
        let large = |tenant: &str| match letters.admit(tenant, of(7_000)) {
            Kept::Head { permit, .. } => Some(permit),
            Kept::Whole(_) | Kept::Counted { .. } => None,
        };
        let (first, second) = (large("evil").unwrap(), large("evil").unwrap());
        assert!(large("evil").is_none() && letters.counted() == 1);
        let others: Vec<_> = ["a", "b", "c"].into_iter().flat_map(|tenant| [large(tenant), large(tenant)]).collect();
        assert!(others.iter().all(Option::is_some) && large("d").is_none(), "eight in all");
        drop(first);
        assert!(large("d").is_some(), "whoever has none finds the place");
        drop((second, others));
    }

    #[test]
    fn a_steady_stream_of_letters_fills_no_more_than_a_tenant_may_have() {
        let clock = FakeRelativeClock::default();
        let letters = letters(&clock);
        let mut whole = 0;
        for _ in 0..3_600 / 10 {
            clock.advance(Duration::from_secs(10));
            whole += u32::from(matches!(letters.admit("evil", of(5_000)), Kept::Whole(_)));
        }
        // 500 bytes in a second are fewer than its thousand; in the hour for which letters are kept they
        // would be 1.8 million.
        assert!((20..=40).contains(&whole), "at once 20, and as many again over the hour: {whole}");
        assert!(matches!(letters.admit("acme", of(5_000)), Kept::Whole(_)));
    }
}
