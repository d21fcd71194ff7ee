//! A load of sagas of known outcome, and the check of what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use node::client::{Client, Error};
use protocol::command::{Cancel, Signal};
use protocol::view::{History, Status};
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::stage::{saga_key, start};

/// How long a command is repeated before the story gives up: no outage lasts so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a history may be away until it counts as lost: longer than a takeover.
const LOST: Duration = Duration::from_secs(10);
/// The pause before a command is repeated.
const AGAIN: Duration = Duration::from_millis(100);

/// One saga of the load.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its key.
    pub key: String,
    definition: &'static str,
    input: Value,
    after: After,
    /// How it must end.
    pub status: Status,
    /// What the ledger must say, in order.
    pub told: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    Nothing,
    Signal,
    Cancel,
}

/// A saga of one of six kinds, with pauses from `dice`.
pub fn plan(dice: &mut Dice, number: usize) -> Planned {
    let key = format!("load-{number}");
    let mut step = |name: &str| json!({ "step": name, "ms": dice.roll(120), "undo_ms": dice.roll(60) });
    let (one, two, mut three) = (step("One"), step("Two"), step("Three"));
    let (good, bad) = (Status::Succeeded, Status::Failed);
    let kind = dice.roll(6);
    let three_steps = |three: Value| json!({ "one": one, "two": two, "three": three });
    let (definition, input, after, status, told) = match kind {
        0 => ("three", three_steps(three), After::Nothing, good, vec!["run One", "run Two", "run Three"]),
        1 => {
            three["fail"] = json!("permanent");
            let told = vec!["run One", "run Two", "undo Three", "undo Two", "undo One"];
            ("three", three_steps(three), After::Nothing, bad, told)
        }
        2 => {
            (three["fail"], three["late"]) = (json!("permanent"), json!(true));
            let told = vec!["run One", "run Two", "run Three", "undo Three", "undo Two", "undo One"];
            ("three", three_steps(three), After::Nothing, bad, told)
        }
        3 => {
            let input = json!({ "seconds": 1.5, "fail": "permanent" });
            ("resting", input, After::Nothing, bad, vec!["run Before", "undo After", "undo Before"])
        }
        4 => ("signalled", json!({ "ms": 20 }), After::Signal, good, vec!["run Before", "run After"]),
        _ => ("signalled", json!({ "ms": 0 }), After::Cancel, Status::Cancelled, vec!["run Before", "undo Before"]),
    };
    Planned { key, definition, input, after, status, told }
}

impl Planned {
    /// Starts it and does what comes after, each repeated until it is acknowledged. Answers how long
    /// the acknowledgement of the start took.
    pub async fn play(&self, client: &Client) -> Result<Duration, String> {
        let began = Instant::now();
        let command = start(self.definition, &self.key, self.input.clone());
        acknowledged("start", || client.start(&command)).await?;
        let took = began.elapsed();
        let key = saga_key(&self.key);
        match self.after {
            After::Nothing => {}
            After::Signal => {
                let id = Some(format!("{}-go", self.key));
                let signal = Signal { key, name: "go".into(), payload: json!(1), id };
                acknowledged("signal", async || done_before(client.signal(&signal).await)).await?;
            }
            After::Cancel => {
                // Only once it waits, so that what it did is known.
                loop {
                    let view = acknowledged("describe", || client.describe(&key)).await?;
                    if view.waiting.iter().any(|waiting| waiting.kind == "signal") {
                        break;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                let cancel = Cancel { key, reason: "as planned".into() };
                acknowledged("cancel", async || done_before(client.cancel(&cancel).await)).await?;
            }
        }
        Ok(took)
    }

    /// Waits until it has ended and says what is wrong with how.
    pub async fn check_end(&self, client: &Client) -> Vec<String> {
        let key = saga_key(&self.key);
        let end = Instant::now() + PATIENCE;
        let view = loop {
            match client.wait(&key, Duration::from_secs(2)).await {
                Ok(view) if view.status.is_final() => break view,
                Ok(view) if Instant::now() > end => {
                    return vec![format!(
                        "{} has not ended: {:?} in {}, {:?}",
                        self.key, view.status, view.state, view.waiting
                    )];
                }
                Err(error) if Instant::now() > end => return vec![format!("{} cannot be asked: {error}", self.key)],
                Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        if view.status == self.status {
            return Vec::new();
        }
        vec![format!("{} ended {:?} instead of {:?}: {:?}", self.key, view.status, self.status, view.outcome)]
    }
}

/// "Not now" says that an earlier try did it and its answer was lost: the saga has gone on. Whether
/// that is true is seen by how it ends.
fn done_before(answer: Result<Value, Error>) -> Result<Value, Error> {
    match answer {
        Err(Error::Refused(problem)) if problem.code == protocol::Code::NotNow => Ok(Value::Null),
        other => other,
    }
}

/// Repeats a command until it is acknowledged.
async fn acknowledged<T, F: Future<Output = Result<T, Error>>>(
    what: &str,
    mut command: impl FnMut() -> F,
) -> Result<T, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match command().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > end => return Err(format!("{what} never acknowledged: {error}")),
            Err(Error::Refused(problem)) if !passes(problem.code) => return Err(format!("{what} refused: {problem}")),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

const fn passes(code: protocol::Code) -> bool {
    use protocol::Code;
    matches!(code, Code::Busy | Code::Unavailable | Code::Timeout)
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
pub async fn violations(client: &Client, ledger: &Ledger, planned: &[Planned]) -> anyhow::Result<Vec<String>> {
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
    for saga in planned {
        let name = format!("acme/{}", saga.key);
        let told: Vec<_> = done.iter().filter(|effect| effect.saga == name).map(super::ledger::Effect::told).collect();
        if told != saga.told {
            wrong.push(format!("{name} did {told:?} instead of {:?}", saga.told));
        }
        let history = match history(client, saga).await {
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
        for (direction, word) in [("run", "left "), ("undo", "undid ")] {
            for entry in &history.entries {
                for step in entry.settled.iter().filter_map(|line| line.strip_prefix(word)) {
                    let late = attempts.iter().filter(|it| {
                        it.saga == name
                            && it.step == step
                            && it.direction == direction
                            && it.at_us > entry.at.as_micros()
                    });
                    wrong.extend(
                        late.map(|it| format!("{name}: {direction} {step} was tried again after its result: {it:?}")),
                    );
                }
            }
        }
    }
    Ok(wrong)
}
