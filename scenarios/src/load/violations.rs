//! The check of what became of a load, by what was planned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use node::client::{Client, Error};
use protocol::Time;
use protocol::view::History;

use super::{AGAIN, Planned, TENANT, Told, passes};
use crate::ledger::{Effect, Ledger};
use crate::stage::saga_key;

/// How long a history may be away until it counts as lost: longer than a takeover.
const LOST: Duration = Duration::from_secs(10);
/// Histories asked for at once: a run of half an hour has some hundred thousand.
const AT_ONCE: usize = 16;

/// Whether the clocks of nodes were right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clocks {
    /// All the time: what the journal says can be compared with when something happened.
    True,
    /// Some were stepped on purpose.
    Stepped,
}

/// A saga's history. One that ended is not forgotten, not even for a moment: a "not found" that passes
/// is told as what it is.
async fn history(client: &Client, saga: &Planned) -> Result<History, String> {
    let key = saga_key(&saga.key);
    let (began, mut first) = (Instant::now(), None);
    loop {
        match (client.history(&key).await, first.take()) {
            (Ok(history), None) => return Ok(history),
            (Ok(_), Some(why)) => return Err(format!("its history was away for {:.1?}: {why}", began.elapsed())),
            (Err(error), why) if began.elapsed() > LOST => return Err(format!("{}", why.unwrap_or(error))),
            (Err(Error::Refused(problem)), why) if !passes(problem.code) => {
                first = Some(why.unwrap_or(Error::Refused(problem)));
            }
            (Err(_), why) => first = why,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Compares the ledger with the plan and with the journal's history; one line for each violation.
pub async fn violations(
    client: &Client,
    ledger: &Ledger,
    planned: &[Planned],
    clocks: Clocks,
    still: &[Span],
) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let done = ledger.done()?;
    let attempts = ledger.attempts()?;
    let mut keys: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
    for it in done.iter().chain(&attempts) {
        keys.entry((&it.saga, &it.step, &it.direction)).or_default().insert(&it.key);
    }
    for (which, keys) in keys.iter().filter(|(_, keys)| keys.len() > 1) {
        wrong.push(format!("{which:?} has more than one idempotency key: {keys:?}"));
    }
    let (done, attempts) = (by_saga(&done), by_saga(&attempts));
    let mut asked =
        futures::stream::iter(planned).map(|saga| async move { (saga, history(client, saga).await) }).buffered(AT_ONCE);
    while let Some((saga, history)) = asked.next().await {
        let name = format!("{TENANT}/{}", saga.key);
        let nothing = Vec::new();
        let mut told: Vec<_> = done.get(name.as_str()).unwrap_or(&nothing).iter().copied().map(Effect::told).collect();
        let planned = match &saga.told {
            Told::InOrder(planned) => Some(planned),
            Told::AnyOrder(planned) => {
                told.sort();
                Some(planned)
            }
            Told::Open => None,
        };
        if planned.is_some_and(|planned| told != *planned) {
            wrong.push(format!("{name} did {told:?} instead of {:?}", saga.told));
        }
        let history = match history {
            Ok(history) => history,
            Err(why) => {
                wrong.push(format!("{name}: {why}"));
                continue;
            }
        };
        let numbers: Vec<_> = history.entries.iter().map(|entry| entry.number).collect();
        if !numbers.iter().copied().eq(1..=numbers.len() as u64) {
            wrong.push(format!("{name} has records {numbers:?}"));
        }
        if clocks == Clocks::True {
            wrong.extend(tried_again(&name, &history, attempts.get(name.as_str()).unwrap_or(&nothing), still));
        }
    }
    Ok(wrong)
}

fn by_saga(effects: &[Effect]) -> HashMap<&str, Vec<&Effect>> {
    let mut sagas: HashMap<&str, Vec<&Effect>> = HashMap::new();
    for effect in effects {
        sagas.entry(&effect.saga).or_default().push(effect);
    }
    sagas
}

/// A time in which a node stood still or was cut off: what it was told to begin before, it begins when
/// it goes on, under the same key and before it can know that another node did it meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// When it began.
    pub from: Time,
    /// When the node knew that it does not own its shards any more.
    pub to: Time,
}

impl Span {
    fn holds(&self, at_us: i64) -> bool {
        (self.from.as_micros()..=self.to.as_micros()).contains(&at_us)
    }
}

/// Attempts that began after the journal had the result of their step, on a node that could know.
fn tried_again(name: &str, history: &History, attempts: &[&Effect], still: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (direction, word) in [("run", "left "), ("undo", "undid ")] {
        for entry in &history.entries {
            for step in entry.settled.iter().filter_map(|line| line.strip_prefix(word)) {
                let late = attempts
                    .iter()
                    .filter(|it| it.step == step && it.direction == direction && it.at_us > entry.at.as_micros())
                    .filter(|it| !still.iter().any(|span| span.holds(it.at_us)));
                wrong.extend(
                    late.map(|it| format!("{name}: {direction} {step} was tried again after its result: {it:?}")),
                );
            }
        }
    }
    wrong
}
