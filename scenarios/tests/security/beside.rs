//! What the other tenant notices of an attack: Ann goes on asking at a steady rate while it runs, and how
//! long she waits is printed and bounded. `cargo attack` runs these stories with an optimised build and
//! the true bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use node::client::Client;
use protocol::command::List;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// What the other tenant may wait at most, for 99 of 100 commands. Stories of an unoptimised build run
/// six at a time on two processors, so there it is what tells a node that answers from one that is blocked.
pub const P99_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3_000 } else { 100 });
/// Every command is given so often, whether or not the one before is answered: a node that stands still
/// for a second is seen by all who ask in that second, not by one.
const EVERY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 50 });
/// Fewer commands tell nothing of the slowest in a hundred.
const ROUNDS_MIN: usize = 50;
/// The saga that Ann looks at.
const SHOWN: &str = "shown";

/// One attack at a time: what is noticed of one is not another one's doing. Held until its story ends.
pub async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

type Ask = Arc<dyn Fn(usize) -> BoxFuture<'static, ()> + Send + Sync>;

/// Whoever is not attacked, and should not notice.
pub struct Bystander {
    attack: &'static str,
    asks: Vec<(&'static str, Ask)>,
}

impl Bystander {
    /// Starts sagas that end at once, lists them, and looks at one.
    pub async fn of(attack: &'static str, client: &Client) -> Self {
        client.start(&start("telling", SHOWN, json!({ "title": 0 }))).await.unwrap();
        client.wait(&saga_key(SHOWN), PATIENCE).await.unwrap();
        // Each saga has a key of its own, also where several attacks follow each other.
        let name = attack.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let (starts, lists, shows) = (client.clone(), client.clone(), client.clone());
        Self { attack, asks: Vec::new() }
            .and("start", move |number| {
                let (client, key) = (starts.clone(), format!("{name}-{number}"));
                async move {
                    client.start(&start("telling", &key, json!({ "title": number }))).await.unwrap();
                }
            })
            .and("list", move |_| {
                let client = lists.clone();
                async move {
                    client.list(&List::default()).await.unwrap();
                }
            })
            .and("show", move |_| {
                let client = shows.clone();
                async move {
                    client.describe(&saga_key(SHOWN)).await.unwrap();
                }
            })
    }

    /// Asks for something else as well.
    pub fn and<F: Future<Output = ()> + Send + 'static>(
        mut self,
        what: &'static str,
        ask: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Self {
        self.asks.push((what, Arc::new(move |number| Box::pin(ask(number)))));
        self
    }

    /// Asks until `attack` ends, and some times more if it was short. Prints one line for each command.
    ///
    /// # Panics
    /// When 99 of 100 are not answered within [`P99_MAX`], or one is refused.
    pub async fn notices<T>(self, attacked: impl Future<Output = T>) -> T {
        let Self { attack, asks } = self;
        let mut attacked = std::pin::pin!(attacked);
        let (mut came, mut under_way, mut rounds) = (None, JoinSet::new(), 0);
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while came.is_none() || rounds < ROUNDS_MIN {
            tokio::select! {
                done = &mut attacked, if came.is_none() => came = Some(done),
                _ = tick.tick() => {
                    for (what, ask) in &asks {
                        let (what, asked, answered) = (*what, Instant::now(), ask(rounds));
                        under_way.spawn(async move { answered.await; (what, asked.elapsed()) });
                    }
                    rounds += 1;
                }
            }
        }
        let took = under_way.join_all().await;
        let lines: Vec<Line> = asks.iter().map(|(what, _)| Line::of(attack, what, &took)).collect();
        println!();
        lines.iter().for_each(|line| println!("{line}"));
        assert!(lines.iter().all(|line| line.p99 < P99_MAX), "{attack}: more than {P99_MAX:?}, see above");
        came.expect("it ended")
    }
}

/// A line of the table.
struct Line {
    attack: &'static str,
    what: &'static str,
    count: usize,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Line {
    fn of(attack: &'static str, what: &'static str, took: &[(&'static str, Duration)]) -> Self {
        let mut took: Vec<_> = took.iter().filter(|(of, _)| *of == what).map(|(_, took)| *took).collect();
        took.sort_unstable();
        let (count, at) = (took.len(), |part: usize| took[took.len() * part / 100]);
        Self { attack, what, count, p50: at(50), p99: at(99), max: took[took.len() - 1] }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |it: Duration| it.as_secs_f64() * 1_000.0;
        let Self { attack, what, count, .. } = self;
        let (p50, p99, max) = (ms(self.p50), ms(self.p99), ms(self.max));
        let verdict = if self.p99 < Duration::from_millis(100) { "under 100 ms" } else { "OVER 100 ms" };
        write!(f, "| {attack:<34} | {what:<7} | {count:>5} | p50 {p50:>7.1} ms | p99 {p99:>7.1} ms | ")?;
        write!(f, "max {max:>7.1} ms | {verdict} |")
    }
}
