//! A load of sagas of known outcome, and the check of what became of them.

mod keep;
mod plan;
mod violations;

use std::time::{Duration, Instant};

use node::client::{Client, Error};
use protocol::command::{Cancel, Signal};
use protocol::view::Status;
use protocol::{SagaId, Tenant};
use serde_json::{Value, json};

use crate::check::{Acknowledged, Command};
use crate::stage::{saga_key, start};

pub use keep::{Keeping, Load};
pub use plan::{plan, plan_any};
pub use violations::{Clocks, Span, violations};

/// Whose sagas they are.
pub const TENANT: &str = "acme";
/// How long a command is repeated before the story gives up: no outage lasts so long.
const PATIENCE: Duration = Duration::from_secs(120);
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
    /// What the ledger must say.
    pub told: Told,
}

/// What the ledger must say of a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// This, in this order.
    InOrder(Vec<&'static str>),
    /// This, in some order: it happens side by side.
    AnyOrder(Vec<&'static str>),
    /// What others did while one failed beside them, nobody can say beforehand: only the checker,
    /// from the journal.
    Open,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    Nothing,
    Signal,
    Cancel,
}

/// What came of playing a saga.
#[derive(Debug)]
pub struct Played {
    /// How long the acknowledgement of the start took.
    pub took: Duration,
    /// Commands that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// What is wrong, in sentences.
    pub wrong: Vec<String>,
}

impl Planned {
    /// Starts it and does what comes after, each repeated until it is acknowledged.
    pub async fn play(&self, client: &Client) -> Played {
        let mut played = Played { took: Duration::ZERO, acknowledged: Vec::new(), wrong: Vec::new() };
        if let Err(why) = self.try_play(client, &mut played).await {
            played.wrong.push(format!("{}: {why}", self.key));
        }
        played
    }

    /// Its full name.
    pub fn saga(&self) -> SagaId {
        SagaId::new(Tenant::new(TENANT).expect("a usable tenant"), saga_key(&self.key))
    }

    async fn try_play(&self, client: &Client, played: &mut Played) -> Result<(), String> {
        let began = Instant::now();
        let command = start(self.definition, &self.key, self.input.clone());
        acknowledged("start", || client.start(&command)).await?;
        played.took = began.elapsed();
        let mut keep = |what| played.acknowledged.push(Acknowledged { saga: self.saga(), what });
        keep(Command::Start);
        let key = saga_key(&self.key);
        match self.after {
            After::Nothing => {}
            After::Signal => {
                let id = format!("{}-go", self.key);
                let signal = Signal { key, name: "go".into(), payload: json!(1), id: Some(id.clone()) };
                if acknowledged("signal", async || done_before(client.signal(&signal).await)).await? {
                    keep(Command::Signal(id));
                }
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
                if acknowledged("cancel", async || done_before(client.cancel(&cancel).await)).await? {
                    keep(Command::Cancel);
                }
            }
        }
        Ok(())
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
/// that is true is seen by how it ends. Answers whether this try was acknowledged.
fn done_before(answer: Result<Value, Error>) -> Result<bool, Error> {
    match answer {
        Err(Error::Refused(problem)) if problem.code == protocol::Code::NotNow => Ok(false),
        other => other.map(|_| true),
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
