//! Hooks for the simulator: shaken schedules, and bugs planted on purpose to see that it finds them.
//! Only in builds with the feature `simulation`, and there only on a thread that asked for them.

use std::cell::Cell;

/// A bug to plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A writer that finds another owner's frame goes on behind it.
    Fence,
    /// Every attempt of a step has an idempotency key of its own.
    Key,
    /// What was done first is undone first.
    Order,
    /// What the relay could not send counts as sent.
    Relay,
    /// Events go out before their record is in the journal.
    Early,
    /// A takeover does not resume what was under way.
    Resume,
    /// What may be in the event stream is sent again however long ago that was.
    Resend,
    /// An idempotency key that is too long is cut.
    Cut,
    /// A takeover goes on in whatever journal it finds.
    Identity,
    /// A parent takes whatever has its child's key for its child.
    Adopt,
}

/// Every bug.
pub const BUGS: [Bug; 10] = [
    Bug::Fence,
    Bug::Key,
    Bug::Order,
    Bug::Relay,
    Bug::Early,
    Bug::Resume,
    Bug::Resend,
    Bug::Cut,
    Bug::Identity,
    Bug::Adopt,
];

thread_local! {
    static SHAKER: Cell<Option<u64>> = const { Cell::new(None) };
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, or none.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted on this thread.
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Most turns that an actor gives away before it handles a message.
const TURNS_MAX: u64 = 6;

/// From here on every actor on this thread lets others go first, now and then, before it handles a
/// message: orders of events that are rare in life become common.
pub fn shake_from(seed: Option<u64>) {
    SHAKER.set(seed);
}

/// Lets others go first, when asked to.
pub async fn shake() {
    let Some(seed) = SHAKER.get() else { return };
    // Numerical Recipes' linear congruential generator: any one will do.
    let next = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    SHAKER.set(Some(next));
    let turns = (next >> 33) % (4 * TURNS_MAX);
    for _ in 0..turns.saturating_sub(3 * TURNS_MAX) {
        tokio::task::yield_now().await;
    }
}
